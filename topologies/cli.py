"""What the command lines of a rack and of several share: up, exec, down and clean.

``up`` runs itself again in the background, with ``--foreground``, and returns when that process has said that all is ready.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from protocol.rack import RUN_ROOT, RackError
from topologies import processes, targets
from topologies.processes import StartError
from topologies.state import NoRack, RackRunning, RunDirectory, namespaces, remove_crashed


@dataclass(frozen=True)
class Kind:
    """What is launched: ``what`` is it in words, ``module`` has its command line, ``name`` is that of the run, ``start`` and
    ``end`` are what the user would type. ``boot`` gives a context in which it runs, and says where it is reached."""

    what: str
    module: str
    name: str
    start: str
    end: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    boot: Callable[[argparse.Namespace], AbstractContextManager[str]]


def main(kind: Kind, description: str) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog=f"python -m {kind.module}", description=description)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help=f"boot {kind.what} and return when all is ready; `down` ends it")
    targets.add_target_argument(up)
    kind.add_arguments(up)
    up.add_argument("--out", type=Path, default=Path("out", kind.name), help="directory for logs, captures and stores")
    up.add_argument("--foreground", action="store_true", help="stay in the foreground until interrupted")
    inside = commands.add_parser("exec", help="run a program on an element, server or client, in its network namespace")
    inside.add_argument("host", metavar="NAME", help="of the element, server or client")
    inside.add_argument("program", metavar="PROGRAM", help="what to run")
    inside.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER, help="what to give it")
    commands.add_parser("down", help=f"end {kind.what}")
    commands.add_parser("clean", help=f"end {kind.what} in whatever state, and remove what any crashed launcher left")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print(f"{arguments.command}: needs root (network namespaces, raw sockets): use sudo", file=sys.stderr)
        return 1
    try:
        if arguments.command == "up":
            return _foreground(kind, arguments) if arguments.foreground else _background(kind, arguments.out)
        if arguments.command == "exec":
            return _exec(kind, arguments.host, [arguments.program, *arguments.arguments])
        return _down(kind) if arguments.command == "down" else _clean(kind.name)
    except RackRunning as error:
        print(f"{arguments.command}: {error}: end it with `{kind.end}`", file=sys.stderr)
    except NoRack as error:
        print(f"{arguments.command}: {error}: start it with `{kind.start}`", file=sys.stderr)
    except (RackError, StartError, targets.TargetError, OSError) as error:
        print(f"{arguments.command}: {error}", file=sys.stderr)
    return 1


def _foreground(kind: Kind, arguments: argparse.Namespace) -> int:
    with _until_interrupted(), kind.boot(arguments) as where:
        print(where, flush=True)
        while True:
            signal.pause()
    print(f"{kind.what}: down", flush=True)
    return 0


@contextlib.contextmanager
def _until_interrupted() -> Iterator[None]:
    """SIGTERM and SIGINT end the body, once; it cleans up undisturbed."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    with contextlib.suppress(KeyboardInterrupt):
        yield


def _interrupt(_signal: int, _frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _background(kind: Kind, out: Path) -> int:
    """Start this command line with ``--foreground`` detached, show what it says, and return when what it boots is ready."""
    log = out / "launcher.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", kind.module, *sys.argv[1:], "--foreground"]
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    run = RunDirectory(kind.name)
    with log.open() as reader:
        while True:
            ended = child.poll() is not None
            ready = not ended and _is_ready(run, child.pid)
            print(reader.read(), end="", flush=True)
            if ended:
                return child.returncode or 1
            if ready:
                print(f"use `make cli` and `make shell`; `{kind.end}` ends it")
                return 0
            time.sleep(0.05)


def _is_ready(run: RunDirectory, launcher: int) -> bool:
    with contextlib.suppress(NoRack):
        state = run.load()
        return state.ready and state.launcher.pid == launcher
    return False


def _exec(kind: Kind, host: str, command: list[str]) -> int:
    """Become this program, in the namespace of a host. Raises StartError when there is no such host, OSError."""
    pids = namespaces(RunDirectory(kind.name))
    if host not in pids:
        raise StartError(f"there is no {host!r} in {kind.what}; there are {', '.join(sorted(pids))}")
    os.execvpe("mnexec", ["mnexec", "-a", str(pids[host]), *command], {**os.environ, "PYTHONPATH": str(targets.ROOT)})


def _down(kind: Kind) -> int:
    """End what runs, in order; remove what it left if it has crashed."""
    state = RunDirectory(kind.name).load()
    if not processes.is_alive(state.launcher):
        print("the launcher has crashed; removing what it left")
        return _clean(kind.name)
    os.kill(state.launcher.pid, signal.SIGTERM)
    try:
        processes.wait_for(lambda: not processes.is_alive(state.launcher), "the launcher to end", 30)
    except StartError as error:
        raise StartError(f"{error} (process {state.launcher.pid}): use `python -m topologies clean`") from None
    print(f"{kind.what}: down")
    return 0


def _clean(name: str) -> int:
    """End what runs under this name in whatever state it is, and remove what it and any launcher that crashed have left."""
    run = RunDirectory(name)
    with contextlib.suppress(NoRack):
        processes.end([run.load().launcher], grace=20)
    run.acquire()
    removed = remove_crashed(run)
    run.release()
    for state in sorted(RUN_ROOT.glob("*/state.json")):
        other = RunDirectory(state.parent.name)
        with contextlib.suppress(RackRunning):  # somebody's, and alive
            other.acquire()
            removed += remove_crashed(other)
            other.release()
    for thing in removed:
        print(f"removed {thing}")
    return 0
