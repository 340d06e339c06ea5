"""Runs a replica or a standby of the replicated key-value service, or is its client."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from apps.kv.bulk import write_image
from apps.paxos import control, frames, load
from apps.paxos.client import Client, ServiceError, Unknown
from apps.paxos.control import ControlError
from apps.paxos.messages import Member, parse_member
from apps.paxos.replica import MIB, STOPPED, Options, Replica
from apps.paxos.voter import Timing
from apps.structures.memory import PAGE, StructureError
from hosts.errors import RemoteMemoryError
from hosts.process import LocalOsError

DEPOSED = 3  # exit status of a replica that cannot go on
T = TypeVar("T")


def _told(parse: Callable[[str], T]) -> Callable[[str], T]:
    """An argparse type whose errors say what is wrong with the value."""

    def checked(text: str) -> T:
        try:
            return parse(text)
        except (OSError, ValueError) as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return checked


@_told
def _address(text: str) -> str:
    frames.parse_address(text)
    return text


@_told
def _members(text: str) -> dict[int, Member]:
    members = {m.id: m for m in map(parse_member, text.split(","))}
    if len(members) != len(text.split(",")):
        raise ValueError(f"{text!r} has an id twice")
    return members


@_told
def _addresses(text: str) -> tuple[str, ...]:
    return tuple(map(_address, text.split(",")))


@_told
def _spares(text: str) -> tuple[Member, ...]:
    return tuple(_members(text).values())


@_told
def _secret(text: str) -> bytes:
    try:
        return bytes.fromhex(Path(text).read_text().strip())
    except ValueError:
        raise ValueError(f"{text}: expected a secret in hexadecimal digits") from None


@_told
def _natural(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is no number from 0 on")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """All options."""
    result = argparse.ArgumentParser(prog="python -m apps.paxos", description=__doc__)
    commands = result.add_subparsers(dest="command", required=True)
    for name, text in (
        ("replica", "run a replica"),
        ("standby", "wait for a replica to die, then take its memory and go on"),
    ):
        _add_replica_options(commands.add_parser(name, help=text, description=text), name)
    for name, text, values in (
        ("get", "print the value of a key", ()),
        ("put", "add or replace a key", ("value",)),
        ("delete", "remove a key", ()),
        ("cas", "replace the value of a key if it is the one expected", ("expected", "value")),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("key")
        for value in values:
            sub.add_argument(value)
        _add_servers(sub)
        sub.add_argument("--timeout", type=float, default=10.0, help="seconds to go on trying (default 10)")
    sub = commands.add_parser("status", help="print what a replica says of itself", description="status of a replica")
    sub.add_argument("address", type=_address, help="its control port")
    sub = commands.add_parser("image", help="make a state for --preload-image", description="a file of a state's pages")
    sub.add_argument("file", type=Path)
    sub.add_argument("--state-mib", type=_natural, required=True, help="MiB for the state, as of the replicas")
    sub.add_argument("--preload-mib", type=_natural, required=True, help="items of this size")
    sub = commands.add_parser("load", help="clients that record what they do", description=load.__doc__)
    _add_servers(sub)
    load.add_options(sub)
    return result


def _add_servers(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--servers", type=_addresses, required=True, help="HOST:PORT[,HOST:PORT...] of the replicas")


def _add_replica_options(sub: argparse.ArgumentParser, name: str) -> None:
    is_replica = name == "replica"
    if is_replica:
        sub.add_argument(
            "--id", type=_natural, required=True, help="identity, from 1; never used again by another replica"
        )
        sub.add_argument("--join", action="store_true", help="get configuration and state from the others")
        sub.add_argument("--ordinary", action="store_true", help="keep the state in local memory only")
        sub.add_argument(
            "--preload-mib", type=_natural, default=0, help="begin with items of this size (all founders alike)"
        )
        sub.add_argument(
            "--preload-image",
            type=Path,
            metavar="FILE",
            help="begin with a state that `image` has made (all founders alike)",
        )
        sub.add_argument(
            "--wait-for", type=Path, metavar="FILE", help="begin when this file is there, with the state loaded"
        )
        sub.add_argument("--lead", action="store_true", help="stand for election at once")
    else:
        sub.add_argument(
            "--on-crash", action="store_true", help="take over when a local OS says that a known replica crashed"
        )
        sub.add_argument(
            "--watch", action="store_true", help="take over when the rack says that one of the group is cut off"
        )
    sub.add_argument("--service-address", default="", metavar="IP", help="an address that moves to this element")
    sub.add_argument("--listen", type=_address, required=True, metavar="HOST:PORT", help="for clients and replicas")
    sub.add_argument(
        "--control", type=_address, required=True, metavar="HOST:PORT", help="for requests in JSON, one a line"
    )
    sub.add_argument("--members", type=_members, required=True, metavar="ID=HOST:PORT,...", help="the founders")
    sub.add_argument("--run-dir", type=Path, help="the run directory of this compute element's local OS")
    sub.add_argument("--group", type=_natural, default=0, help="the group whose members may take each other's memory")
    sub.add_argument(
        "--secret-file", type=_secret, dest="secret", default=b"", help="file with the group's secret in hex"
    )
    sub.add_argument(
        "--state-mib", type=_natural, default=16, help="MiB for the state, the same everywhere (default 16)"
    )
    sub.add_argument("--cache-pages", type=_natural, default=4096, help="pages of state cached locally (default 4096)")
    sub.add_argument(
        "--standby", action="append", type=_address, default=[], help="a standby's control port; may be repeated"
    )
    sub.add_argument(
        "--spare", type=_spares, default=(), metavar="ID=HOST:PORT,...", help="whom a leader puts in for the dead"
    )
    sub.add_argument("--heartbeat-ms", type=_natural, default=100, help="of the leader (default 100)")
    sub.add_argument(
        "--election-ms", type=_natural, default=1000, help="without a leader, to twice that (default 1000)"
    )
    sub.add_argument(
        "--replace-ms", type=_natural, default=0, help="silence until a member is replaced, 0 for never (default)"
    )
    sub.add_argument("--ready-file", type=Path, help="written when it serves")


def _options(arguments: argparse.Namespace, fail: argparse.ArgumentParser) -> Options:
    is_replica = arguments.command == "replica"
    ordinary = is_replica and arguments.ordinary
    if ordinary == (arguments.run_dir is not None):
        fail.error("exactly one of --run-dir (rack memory) and --ordinary is needed")
    if is_replica and not arguments.join and arguments.id not in arguments.members:
        fail.error(
            f"--id {arguments.id} is not among --members {sorted(arguments.members)}: use --join for a later replica"
        )
    if arguments.state_mib < 1 or arguments.heartbeat_ms < 1 or arguments.election_ms < 2 * arguments.heartbeat_ms:
        fail.error("--state-mib and --heartbeat-ms are at least 1, --election-ms is at least twice --heartbeat-ms")
    return Options(
        me=arguments.id if is_replica else 0,
        listen=arguments.listen,
        control=arguments.control,
        members=arguments.members,
        state_mib=arguments.state_mib,
        run_dir=arguments.run_dir,
        group=arguments.group,
        secret=arguments.secret,
        join=is_replica and arguments.join,
        preload_mib=arguments.preload_mib if is_replica else 0,
        preload_image=arguments.preload_image if is_replica else None,
        lead=is_replica and arguments.lead,
        standbys=tuple(arguments.standby),
        spares=arguments.spare,
        timing=Timing(
            heartbeat=arguments.heartbeat_ms / 1000,
            election=arguments.election_ms / 1000,
            replace=arguments.replace_ms / 1000,
            retransmit=2 * arguments.heartbeat_ms / 1000,
        ),
        cache_pages=max(1, arguments.cache_pages),
        on_crash=not is_replica and arguments.on_crash,
        ready_file=arguments.ready_file,
        wait_for=arguments.wait_for if is_replica else None,
        watch=not is_replica and arguments.watch,
        service_address=arguments.service_address,
    )


async def _run_replica(options: Options) -> int:
    replica = Replica(options)
    loop = asyncio.get_running_loop()
    task = loop.create_task(replica.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, replica.stop)
    reason = await task
    if reason == STOPPED:
        return 0
    print(json.dumps({"deposed": reason}), flush=True)
    return DEPOSED


async def _run_client(arguments: argparse.Namespace) -> int:
    key = arguments.key.encode()
    async with Client(arguments.servers, budget=arguments.timeout) as client:
        match arguments.command:
            case "get":
                value = await client.get(key)
                if value is None:
                    print(f"there is no key {arguments.key!r}", file=sys.stderr)
                    return 1
                sys.stdout.buffer.write(value + b"\n")
                return 0
            case "put":
                await client.put(key, arguments.value.encode())
                return 0
            case "delete":
                return 0 if await client.delete(key) else 1
            case _:
                return 0 if await client.cas(key, arguments.expected.encode(), arguments.value.encode()) else 1


def main() -> int:
    """Exit status: 0 when it worked; 1 when it did not, or a key or value was not there; 3 for a replica that cannot go on."""
    options = parser()
    arguments = options.parse_args()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s.%(msecs)03d %(message)s", datefmt="%H:%M:%S"
    )
    try:
        match arguments.command:
            case "replica" | "standby":
                status = asyncio.run(_run_replica(_options(arguments, options)))
                sys.stdout.flush()
                os._exit(
                    status
                )  # threads that wait for lost memory shall not hold it up, nor close what a standby may take
            case "status":
                print(json.dumps(asyncio.run(control.ask(arguments.address, {"do": "status"})), indent=2))
                return 0
            case "image":
                write_image(arguments.file, arguments.state_mib * MIB // PAGE, arguments.preload_mib * MIB)
                return 0
            case "load":
                return asyncio.run(load.run(arguments))
            case _:
                return asyncio.run(_run_client(arguments))
    except (OSError, TimeoutError, LocalOsError, RemoteMemoryError, StructureError) as error:
        print(f"{arguments.command}: {error or type(error).__name__}", file=sys.stderr)
    except (ControlError, ServiceError, Unknown) as error:
        print(f"{arguments.command}: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
