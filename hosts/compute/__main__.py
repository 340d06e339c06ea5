"""``python -m hosts.compute``: the local OS of a compute element."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hosts import agent
from hosts.link import Link, LinkError, bpf_for_local_os
from hosts.local_os import LocalOs
from protocol.crash import CrashAt
from protocol.rack import RackError


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m hosts.compute", description=__doc__)
    agent.add_arguments(parser)
    parser.add_argument("--run-dir", type=Path, required=True, help="where processes find the local OS (a Unix socket)")
    arguments = parser.parse_args()
    agent.set_up_logging(arguments)
    try:
        element = agent.element_of(arguments, "compute")
        link = agent.with_faults(Link(arguments.interface, bpf_for_local_os()), arguments)
        crash = CrashAt(arguments.crash_at)
        local_os = LocalOs(element, arguments.interface, link, arguments.run_dir, crash=crash)
    except (RackError, LinkError, OSError) as error:
        print(f"hosts.compute: {error}", file=sys.stderr)
        return 1
    stop = agent.StopSignal()
    registration = agent.Registration(link, element, arguments.ready_file)
    local_os.registration_reply = registration.on_reply
    local_os.start()
    registration.start()
    stop.wait()
    registration.stop()
    local_os.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
