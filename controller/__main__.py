"""``python -m controller run``: the controller of a rack."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import logging
import signal
import sys
import threading
import time
from ipaddress import IPv4Address
from pathlib import Path

import uvicorn
from immutables import Map

from controller import redirect, tor
from controller.api import create_app
from controller.core import monitor
from controller.core.memory import Config
from controller.core.placement import POLICIES
from controller.core.state import Thresholds
from controller.core.step import initial
from controller.p4rt import SwitchClient
from controller.shell import Shell
from controller.store import Store, StoreError
from controller.switch import SwitchError
from controller.tokens import Role, TokenError, Tokens
from protocol import crash
from protocol import rack as racks

log = logging.getLogger("controller")


def address(text: str) -> tuple[str, int]:
    """HOST:PORT."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, found {text!r}")
    return host, int(port)


def parse_arguments() -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(prog="python -m controller", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("token", help="make a token for the API in a file of tokens, and print it")
    new.add_argument("--tokens", type=Path, required=True, help="the file; no controller may be running with it")
    new.add_argument("--name", default="operator", help="whose it is, for people (default: operator)")
    new.add_argument("--role", choices=("operator", "observer"), default="operator")
    run = commands.add_parser("run", help="run the controller")
    run.add_argument("--rack", type=Path, required=True, help="the rack description (JSON)")
    run.add_argument("--p4info", type=Path, required=True, help="P4Info of the switch program (text)")
    run.add_argument("--pipeline", type=Path, required=True, help="the target's device config of the program")
    run.add_argument("--switch", default="127.0.0.1:9559", metavar="HOST:PORT", help="P4Runtime address")
    run.add_argument("--db", type=Path, required=True, help="the durable store (SQLite)")
    run.add_argument("--api", type=address, default=("127.0.0.1", 8090), metavar="HOST:PORT", help="HTTP API address")
    run.add_argument("--tokens", type=Path, help="who may use the API (default: tokens.json beside the store)")
    run.add_argument("--tor", type=address, metavar="HOST:PORT", help="OpenFlow address for the top-of-rack switch")
    run.add_argument(
        "--tor-uplink", type=int, default=0, metavar="PORT", help="its port to other racks, if there are any"
    )
    run.add_argument("--tor-dpid", type=int, default=2, metavar="N", help="its datapath id (default 2)")
    run.add_argument("--placement", choices=sorted(POLICIES), default="best-fit", help="placement policy")
    run.add_argument("--largest-block", type=int, default=1 << 18, metavar="PAGES", help="pages of a segment at most")
    times = run.add_argument_group("rack monitor", "one that is given takes the place of all that was set at run time")
    times.add_argument("--heartbeat-interval", type=float, metavar="MS", help="of elements (default 100)")
    times.add_argument("--suspect-timeout", type=float, metavar="MS", help="silence that is reported (default: half)")
    times.add_argument("--heartbeat-timeout", type=float, metavar="MS", help="silence that means failure (default 600)")
    crash.add_argument(run)
    run.add_argument("--crash-pid", type=int, default=0, metavar="PID", help="for tests: kill that process instead")
    run.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    return parser.parse_args()


def make_token(arguments: argparse.Namespace) -> int:
    """``python -m controller token``."""
    try:
        print(Tokens(arguments.tokens).create(arguments.name, Role(arguments.role))[1])
    except (TokenError, OSError) as error:
        print(f"controller: {error}", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    """Entry point; returns the exit status."""
    arguments = parse_arguments()
    if arguments.command == "token":
        return make_token(arguments)
    logging.basicConfig(
        level=arguments.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    if arguments.largest_block < 1 or arguments.largest_block & (arguments.largest_block - 1):
        print(f"controller: --largest-block {arguments.largest_block} is not a power of two", file=sys.stderr)
        return 1
    given = {"interval": arguments.heartbeat_interval, "fail": arguments.heartbeat_timeout}
    given |= {"suspect": arguments.suspect_timeout}
    chosen = {name: value / 1000 for name, value in given.items() if value is not None}
    defaults = Thresholds()
    fail = chosen.setdefault("fail", defaults.fail)
    chosen.setdefault("suspect", max(2 * chosen.get("interval", defaults.interval), fail / 2))
    thresholds = Thresholds(**chosen)
    config = Config(placement=arguments.placement, largest_block=arguments.largest_block, thresholds=thresholds)
    shell: Shell | None = None
    try:
        monitor.check_thresholds(thresholds)
        tokens = Tokens(arguments.tokens or arguments.db.with_name("tokens.json"))
        if not any(token.role is Role.OPERATOR for token in tokens.all()):
            log.warning(
                "no operator can use the API: make a token with `python -m controller token --tokens %s`", tokens.path
            )
        rack = racks.load(arguments.rack)
        store = Store(arguments.db)
        switch = SwitchClient(
            arguments.switch,
            rack.device_id,
            arguments.p4info,
            arguments.pipeline,
            lambda element, frame: shell.on_packet(element, frame) if shell else None,
            lambda members: shell.on_digest(members) if shell else None,
        )
        now = time.time_ns()
        config = dataclasses.replace(config, table_size=switch.table_size("translation", "protection"))
        state = store.load(initial(rack, now // 10**9, now))
        if any(value is not None for value in given.values()):  # what was set at run time before gives way to options
            state = dataclasses.replace(state, settings=Map())
            store.forget("settings")
        shell = Shell(state, store, config, switch)
        shell.is_operators = tokens.is_operators
        shell.crash = crash.CrashAt(arguments.crash_at, arguments.crash_pid)
        if arguments.tor:
            ports = {e.id: e.tor_port for e in rack.compute if e.tor_port}
            shell.tor = tor.ElementFences(arguments.tor_dpid, ports, tor.fences)
            wired = {e.id: redirect.Holder(e.tor_port, e.tor_mac) for e in rack.compute if e.tor_port}
            if arguments.tor_uplink:
                tor.redirects.set_uplink(arguments.tor_dpid, arguments.tor_uplink)
            shell.on_addresses = lambda holders: tor.redirects.set(
                {arguments.tor_dpid: {IPv4Address(a): wired[e] for a, e in holders.items() if e in wired}}
            )
        shell.start()
    except (racks.RackError, StoreError, SwitchError, OSError, ValueError) as error:
        print(f"controller: {error}", file=sys.stderr)
        return 1
    if arguments.tor:
        threading.Thread(target=tor.serve, args=arguments.tor, name="os-ken", daemon=True).start()
    host, port = arguments.api
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(shell, tokens), host=host, port=port, log_level="warning", timeout_graceful_shutdown=1
        )
    )
    running = shell

    def end() -> None:
        server.should_exit = True

    running.on_end = end
    gc.collect()
    gc.freeze()  # what there is now stays: collections that look through it again would hold up whoever waits for a change
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.run()
    except KeyboardInterrupt:
        pass
    finally:
        running.stop()
    if running.failed is not None:
        print(f"controller: {running.failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
