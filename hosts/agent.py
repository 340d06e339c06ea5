"""What memory and compute elements have in common: options, registration with the controller, heartbeats, life cycle."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import threading
import time
from pathlib import Path

from hosts.faults import Faults, FaultsError, FaultyWire
from hosts.link import Link, frame
from hosts.requester import Wire
from protocol import crash, wire
from protocol import rack as racks
from protocol.rack import Element

HELLO_RETRY = 0.2  # seconds
log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of every element."""
    parser.add_argument("--interface", required=True, help="the interface on the Rack MMU")
    parser.add_argument("--rack", type=Path, required=True, help="the rack description (JSON)")
    parser.add_argument("--name", required=True, help="this element's name in the rack description")
    parser.add_argument("--ready-file", type=Path, help="create this file when the controller has answered")
    parser.add_argument(
        "--faults",
        type=faults_argument,
        metavar="NAME=VALUE,...",
        help="lose, copy and delay frames on this link: loss, copies, late (probabilities), delay (seconds), seed",
    )
    crash.add_argument(parser)
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))


def faults_argument(text: str) -> Faults:
    """The value of --faults."""
    try:
        return Faults.parse(text)
    except FaultsError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def with_faults(link: Link, arguments: argparse.Namespace) -> Wire:
    """The link, with the faults that were asked for."""
    return link if arguments.faults is None else FaultyWire(link, arguments.faults)


def element_of(arguments: argparse.Namespace, kind: str) -> Element:
    """The element that the options name; raises RackError."""
    element = racks.load(arguments.rack).element(arguments.name)
    if element.kind != kind:
        raise racks.RackError(f"{element.name} is a {element.kind} element, not a {kind} element")
    return element


def set_up_logging(arguments: argparse.Namespace) -> None:
    """Log to standard error."""
    logging.basicConfig(level=arguments.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")


class StopSignal:
    """Set by SIGTERM and SIGINT. The handler takes no lock: it runs in the main thread, which may hold it."""

    def __init__(self) -> None:
        self.is_set = False
        self._readable, writable = os.pipe()
        os.set_blocking(writable, False)
        signal.set_wakeup_fd(writable)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, _number: int, _frame: object) -> None:
        self.is_set = True

    def wait(self) -> None:
        """Return when it is set."""
        while not self.is_set:
            os.read(self._readable, 1)  # the interpreter writes when any signal comes, before it calls the handler


class Registration:
    """Says HELLO until the controller answers, then sends heartbeats, from a thread of its own that load does not delay."""

    def __init__(self, link: Wire, element: Element, ready_file: Path | None = None):
        self.link = link
        self.element = element
        self.incarnation = time.time_ns()
        self.ready_file = ready_file
        self.registered = threading.Event()
        self.interval = 0.1
        self._stop = threading.Event()
        self._wake = threading.Event()  # to stop, or because the interval has changed
        self._thread = threading.Thread(target=self._run, name="registration", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; the controller will miss the heartbeats."""
        self._stop.set()
        self._wake.set()
        self._thread.join()

    def on_reply(self, header: wire.Header, payload: bytes) -> None:
        """A reply of the controller to this element itself."""
        if header.op != wire.Op.HELLO | wire.REPLY or header.status != wire.Status.OK:
            if header.op == wire.Op.HELLO | wire.REPLY:
                log.error("the controller refuses this element: status %d", header.status)
            return
        if len(payload) < wire.HELLO_REPLY.size:
            return
        _, interval, _ = wire.HELLO_REPLY.unpack_from(payload)
        interval = max(interval, 10)
        if interval / 1000 != self.interval:
            self.interval = interval / 1000
            log.info("heartbeats every %d ms", interval)
            self._wake.set()
        if not self.registered.is_set():
            log.info("%s is element %d; heartbeats every %d ms", self.element.name, self.element.id, interval)
            self.registered.set()
            if self.ready_file is not None:
                self.ready_file.write_text("ready\n")

    def _run(self) -> None:
        kind = wire.ElementKind.MEMORY if self.element.kind == "memory" else wire.ElementKind.COMPUTE
        media = {"none": wire.Media.NONE, "dram": wire.Media.DRAM, "nvm": wire.Media.NVM}[self.element.media]
        arguments = wire.HELLO_ARGS.pack(kind, media, 0, 0, self.element.pages, self.incarnation)
        request_id = self.incarnation
        while not self.registered.is_set() and not self._stop.is_set():
            header = wire.Header(wire.Op.HELLO, length=len(arguments), request_id=request_id)
            self.link.send(frame(self.element.id, header, arguments))
            self.registered.wait(HELLO_RETRY)
        sequence = 0
        while not self._stop.is_set():
            sequence += 1
            payload = wire.HEARTBEAT_ARGS.pack(round(self.interval * 1000))
            header = wire.Header(wire.Op.HEARTBEAT, va=self.incarnation, request_id=sequence, length=len(payload))
            self.link.send(frame(self.element.id, header, payload))
            self._wake.wait(self.interval)
            self._wake.clear()
