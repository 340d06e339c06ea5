"""``python -m topologies.site_cli up|down|clean``: keep several racks running, end them, or remove what crashed ones left."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator

from topologies import cli
from topologies.site import Site, site


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--racks", type=int, default=3, help="racks (default 3)")
    parser.add_argument("--full", type=int, default=1, help="so many of them have a Rack MMU (default 1)")
    parser.add_argument("--compute", type=int, default=3, help="compute elements of a full rack (default 3)")
    parser.add_argument("--dram", type=int, default=2, help="DRAM elements of a full rack (default 2)")
    parser.add_argument("--memory-mib", type=int, default=64, help="MiB of each memory element (default 64)")
    parser.add_argument("--servers", type=int, default=2, help="servers of a rack without Rack MMU (default 2)")
    parser.add_argument("--clients", type=int, default=2, help="client machines at the core switch (default 2)")


def _site_of(arguments: argparse.Namespace) -> Site:
    """The racks that the options describe; raises RackError."""
    a = arguments
    return site(a.racks, a.full, a.compute, a.dram, a.memory_mib, a.servers, a.clients)


@contextlib.contextmanager
def _boot(arguments: argparse.Namespace) -> Iterator[str]:
    from topologies.site_launch import SiteLauncher, SiteOptions  # Mininet is slow to import: not for `down`

    options = SiteOptions(
        target=arguments.target, out=arguments.out, name=SITE.name, progress=lambda text: print(text, flush=True)
    )
    with SiteLauncher(_site_of(arguments), options) as launched:
        up = [f"rack {n} is up: API {rack.api.url}, logs in {rack.run.logs}" for n, rack in launched.racks.items()]
        yield "\n".join([*up, f"the racks are joined: API {launched.api.url}, logs in {launched.run.logs}"])


SITE = cli.Kind("racks", "topologies.site_cli", "site", "make racks-up", "make racks-down", _add_arguments, _boot)

if __name__ == "__main__":
    sys.exit(cli.main(SITE, __doc__))
