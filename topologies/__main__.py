"""``python -m topologies up|down|clean``: keep a rack running, end it, or remove what a crashed one left."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from protocol import rack as racks
from protocol.rack import RackError
from topologies import processes, targets
from topologies.processes import StartError
from topologies.racks import small_rack
from topologies.state import NoRack, RackRunning, RunDirectory, remove_leftovers


def add_rack_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that describe the rack and its target."""
    parser.add_argument(
        "--target",
        choices=targets.TARGETS,
        default=os.environ.get("TARGET", "p4switch"),
        help="what the Rack MMU runs on (default: $TARGET or p4switch)",
    )
    parser.add_argument("--rack", type=Path, help="a rack description (JSON) instead of the counts below")
    parser.add_argument("--compute", type=int, default=3, help="compute elements (default 3)")
    parser.add_argument("--dram", type=int, default=2, help="DRAM elements (default 2)")
    parser.add_argument("--nvm", type=int, default=1, help="NVM elements (default 1)")
    parser.add_argument("--memory-mib", type=int, default=16, help="MiB of each memory element (default 16)")
    parser.add_argument("--pcap", action="store_true", help="write a pcap of every switch port")


def rack_of(arguments: argparse.Namespace) -> racks.Rack:
    """The rack that the options describe; raises RackError or OSError."""
    if arguments.rack:
        return racks.load(arguments.rack)
    return small_rack(arguments.compute, arguments.dram, arguments.nvm, arguments.memory_mib)


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m topologies", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="boot a rack and return when it is ready; it runs until `down`")
    add_rack_arguments(up)
    up.add_argument("--out", type=Path, default=Path("out/rack"), help="directory for logs, pcaps and the store")
    up.add_argument("--keep-store", action="store_true", help="go on with the store of the last rack")
    up.add_argument("--foreground", action="store_true", help="stay in the foreground until interrupted")
    commands.add_parser("down", help="end the running rack")
    commands.add_parser("clean", help="end the running rack, or remove what a crashed one left")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("a rack needs root (network namespaces, raw sockets): use sudo", file=sys.stderr)
        return 1
    try:
        if arguments.command == "up":
            return _foreground(arguments) if arguments.foreground else background("topologies", "rack", arguments.out)
        return down("rack") if arguments.command == "down" else clean("rack")
    except (NoRack, RackRunning, RackError, StartError, targets.TargetError, OSError) as error:
        print(f"{arguments.command}: {error}", file=sys.stderr)
        return 1


def _foreground(arguments: argparse.Namespace) -> int:
    from topologies.launch import LaunchOptions, RackLauncher  # Mininet is slow to import: not for `down`

    options = LaunchOptions(
        target=arguments.target,
        out=arguments.out,
        pcap=arguments.pcap,
        fresh=not arguments.keep_store,
        progress=lambda text: print(text, flush=True),
    )
    with until_interrupted(), RackLauncher(rack_of(arguments), options) as rack:
        print(f"the rack is up: API {rack.api}, P4Runtime {rack.grpc}, logs in {rack.out}/logs", flush=True)
        while True:
            signal.pause()
    print("the rack is down", flush=True)
    return 0


@contextlib.contextmanager
def until_interrupted() -> Iterator[None]:
    """SIGTERM and SIGINT end the body, once; it cleans up undisturbed."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    with contextlib.suppress(KeyboardInterrupt):
        yield


def _interrupt(_signal: int, _frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def background(module: str, name: str, out: Path) -> int:
    """Start this command line with ``--foreground`` detached, show what it says, and return when what it boots is ready."""
    log = out / "launcher.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", module, *sys.argv[1:], "--foreground"]
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    run = RunDirectory(name)
    with log.open() as reader:
        while True:
            print(reader.read(), end="", flush=True)
            if child.poll() is not None:
                print(reader.read(), end="", flush=True)
                return child.returncode or 1
            try:
                state = run.load()
                if state.ready and state.launcher.pid == child.pid:
                    print(reader.read(), end="", flush=True)
                    print("use `make cli`, `make shell`, and `make down` to end it")
                    return 0
            except NoRack:
                pass
            time.sleep(0.05)


def down(name: str) -> int:
    """End what runs under this name, in order; remove what it left if it has crashed."""
    state = RunDirectory(name).load()
    if not processes.is_alive(state.launcher):
        print("the launcher has crashed; removing what it left")
        return clean(name)
    os.kill(state.launcher.pid, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while processes.is_alive(state.launcher):
        if time.monotonic() > deadline:
            raise StartError(f"the launcher ({state.launcher.pid}) did not end within 30 s: use `make clean`")
        time.sleep(0.05)
    print(f"{name}: down")
    return 0


def clean(name: str) -> int:
    """End what runs or ran under this name, in whatever state it is, with all its parts."""
    run = RunDirectory(name)
    try:
        state = run.load()
    except NoRack:
        run.release()
        return 0
    processes.end([state.launcher], grace=20)
    for part in state.parts:
        clean(part)
    for thing in remove_leftovers(state):
        print(f"removed {thing}")
    run.release()
    return 0


if __name__ == "__main__":
    sys.exit(main())
