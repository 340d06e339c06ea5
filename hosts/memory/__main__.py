"""``python -m hosts.memory``: the agent of a memory element."""

from __future__ import annotations

import argparse
import logging
import mmap
import os
import signal
import sys
import time
from pathlib import Path

from hosts import agent
from hosts.link import Link, LinkError
from hosts.memory.durable import Durable, DurableError
from hosts.memory.element import MemoryElement
from hosts.memory.page_table import PageTable, TrustingTable
from hosts.requester import Wire
from protocol import wire
from protocol.crash import CrashAt
from protocol.rack import RackError

log = logging.getLogger("hosts.memory")
_IDLE = 0.5  # seconds between looks at the stop signal
_TIDY = 10.0  # seconds between looks for what may be forgotten


def open_memory(pages: int, nvm_file: Path | None) -> mmap.mmap:
    """The pages: anonymous for DRAM, a file (which keeps its contents) for NVM. Raises OSError."""
    size = pages * wire.PAGE_SIZE
    if nvm_file is None:
        return mmap.mmap(-1, size)
    descriptor = os.open(nvm_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, size)
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)


def serve(link: Wire, element: MemoryElement, stop: agent.StopSignal) -> None:
    """Answer frames until told to stop."""
    receive, send, handle = link.receive, link.send, element.handle
    tidied = time.monotonic()
    while not stop.is_set:
        if time.monotonic() - tidied >= _TIDY:
            tidied = time.monotonic()
            element.tidy(tidied)
        frame = receive(_IDLE)
        if frame is not None:
            reply = handle(frame)
            if reply is not None:
                send(reply)


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m hosts.memory", description=__doc__)
    agent.add_arguments(parser)
    parser.add_argument(
        "--nvm-file", type=Path, help="keep the contents in this file, and beside it (.state) what was done (NVM)"
    )
    parser.add_argument(
        "--trust-switch", action="store_true", help="for tests: refuse nothing, to see what the switch refuses alone"
    )
    parser.add_argument(
        "--crash-from-signal", action="store_true", help="for tests: count the steps of --crash-at from SIGUSR1 on"
    )
    arguments = parser.parse_args()
    agent.set_up_logging(arguments)
    try:
        description = agent.element_of(arguments, "memory")
        memory = open_memory(description.pages, arguments.nvm_file)
        state = arguments.nvm_file and arguments.nvm_file.with_suffix(".state")
        durable = Durable(state, description.pages) if state else None
        link = agent.with_faults(Link(arguments.interface), arguments)
    except (RackError, LinkError, DurableError, OSError) as error:
        print(f"hosts.memory: {error}", file=sys.stderr)
        return 1
    stop = agent.StopSignal()
    registration = agent.Registration(link, description, arguments.ready_file)
    table = (TrustingTable if arguments.trust_switch else PageTable)(description.pages)
    element = MemoryElement(description.id, memoryview(memory), table, registration.incarnation, durable)
    element.on_reply = registration.on_reply
    element.copying.send = link.send
    if arguments.crash_from_signal:
        signal.signal(signal.SIGUSR1, lambda _number, _frame: setattr(element, "crash", CrashAt(arguments.crash_at)))
    else:
        element.crash = CrashAt(arguments.crash_at)
    registration.start()
    try:
        serve(link, element, stop)
    finally:
        registration.stop()
        link.close()
        if arguments.nvm_file:
            memory.flush()
        for what, count in sorted(element.counts.items()):
            log.info("%s: %d", what, count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
