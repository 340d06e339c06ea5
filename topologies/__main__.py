"""``python -m topologies up|down|clean``: keep a rack running, end it, or remove what a crashed one left."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from protocol import rack as racks
from topologies import cli, targets
from topologies.racks import small_rack


def add_rack_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that describe the rack and its target."""
    targets.add_target_argument(parser)
    _add_description(parser)


def _add_description(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rack", type=Path, help="a rack description (JSON) instead of the counts below")
    parser.add_argument("--compute", type=int, default=3, help="compute elements (default 3)")
    parser.add_argument("--dram", type=int, default=2, help="DRAM elements (default 2)")
    parser.add_argument("--nvm", type=int, default=1, help="NVM elements (default 1)")
    parser.add_argument("--memory-mib", type=int, default=16, help="MiB of each memory element (default 16)")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_description(parser)
    parser.add_argument("--pcap", action="store_true", help="write a pcap of every switch port")
    parser.add_argument("--keep-store", action="store_true", help="go on with the store of the last rack")


def rack_of(arguments: argparse.Namespace) -> racks.Rack:
    """The rack that the options describe; raises RackError or OSError."""
    if arguments.rack:
        return racks.load(arguments.rack)
    return small_rack(arguments.compute, arguments.dram, arguments.nvm, arguments.memory_mib)


@contextlib.contextmanager
def _boot(arguments: argparse.Namespace) -> Iterator[str]:
    from topologies.launch import LaunchOptions, RackLauncher  # Mininet is slow to import: not for `down`

    options = LaunchOptions(
        target=arguments.target,
        out=arguments.out,
        name=RACK.name,
        pcap=arguments.pcap,
        fresh=not arguments.keep_store,
        progress=lambda text: print(text, flush=True),
    )
    with RackLauncher(rack_of(arguments), options) as rack:
        yield f"the rack is up: API {rack.api.url}, P4Runtime {rack.grpc}, logs in {rack.run.logs}"


RACK = cli.Kind("the rack", "topologies", "rack", "make up", "make down", _add_arguments, _boot)

if __name__ == "__main__":
    sys.exit(cli.main(RACK, __doc__))
