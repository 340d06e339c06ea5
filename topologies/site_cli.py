"""``python -m topologies.site_cli up|down|clean``: keep several racks running, end them, or remove what crashed ones left."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from protocol.rack import RackError
from topologies import targets
from topologies.__main__ import background, clean, down, until_interrupted
from topologies.processes import StartError
from topologies.site import Site, site
from topologies.state import NoRack, RackRunning

NAME = "site"


def add_site_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that describe the racks."""
    parser.add_argument(
        "--target",
        choices=targets.TARGETS,
        default=os.environ.get("TARGET", "p4switch"),
        help="what Rack MMUs run on (default: $TARGET or p4switch)",
    )
    parser.add_argument("--racks", type=int, default=3, help="racks (default 3)")
    parser.add_argument("--full", type=int, default=1, help="so many of them have a Rack MMU (default 1)")
    parser.add_argument("--compute", type=int, default=3, help="compute elements of a full rack (default 3)")
    parser.add_argument("--dram", type=int, default=2, help="DRAM elements of a full rack (default 2)")
    parser.add_argument("--memory-mib", type=int, default=64, help="MiB of each memory element (default 64)")
    parser.add_argument("--servers", type=int, default=2, help="servers of a rack without Rack MMU (default 2)")
    parser.add_argument("--clients", type=int, default=2, help="client machines at the core switch (default 2)")


def site_of(arguments: argparse.Namespace) -> Site:
    """The racks that the options describe; raises RackError."""
    a = arguments
    return site(a.racks, a.full, a.compute, a.dram, a.memory_mib, a.servers, a.clients)


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m topologies.site_cli", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="boot the racks and return when they are ready; they run until `down`")
    add_site_arguments(up)
    up.add_argument("--out", type=Path, default=Path("out/site"), help="directory for logs and stores")
    up.add_argument("--foreground", action="store_true", help="stay in the foreground until interrupted")
    commands.add_parser("down", help="end the running racks")
    commands.add_parser("clean", help="end the running racks, or remove what crashed ones left")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("racks need root (network namespaces, raw sockets): use sudo", file=sys.stderr)
        return 1
    try:
        if arguments.command == "up":
            if arguments.foreground:
                return _foreground(arguments)
            return background("topologies.site_cli", NAME, arguments.out)
        return down(NAME) if arguments.command == "down" else clean(NAME)
    except (NoRack, RackRunning, RackError, StartError, targets.TargetError, OSError) as error:
        print(f"{arguments.command}: {error}", file=sys.stderr)
        return 1


def _foreground(arguments: argparse.Namespace) -> int:
    from topologies.site_launch import SiteLauncher, SiteOptions  # Mininet is slow to import: not for `down`

    options = SiteOptions(
        target=arguments.target, out=arguments.out, name=NAME, progress=lambda text: print(text, flush=True)
    )
    with until_interrupted(), SiteLauncher(site_of(arguments), options) as launched:
        for number, rack in launched.racks.items():
            print(f"rack {number} is up: API {rack.api}, logs in {rack.out}/logs")
        print(f"the racks are joined: API {launched.api}, logs in {launched.out}/logs", flush=True)
        while True:
            signal.pause()
    print("the racks are down", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
