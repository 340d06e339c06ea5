"""The command line of ``rackctl``: commands, options, and what kinds of values they take."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from controller.tokens import Role
from protocol.capability import SECRET_BYTES, CapabilityError, Share

DEFAULT_API = "http://127.0.0.1:8090"
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def number(text: str) -> int:
    """A decimal or 0x number."""
    try:
        return int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, found {text!r}") from None


def size(text: str) -> int:
    """Bytes: a number, optionally with K, M, G or T (powers of 1024)."""
    found = re.fullmatch(r"(0x[0-9a-f]+|[0-9]+)([kmgt]?)(i?b)?", text.lower())
    if not found:
        raise argparse.ArgumentTypeError(f"expected a size such as 4096, 64K or 16MiB, found {text!r}")
    return number(found[1]) * _UNITS[found[2]]


def of(text: str) -> tuple[int, int]:
    """K/N."""
    found = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"expected K/N such as 2/3, found {text!r}")
    return int(found[1]), int(found[2])


def secret(text: str) -> bytes:
    """A group's secret in hex."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != SECRET_BYTES:
        raise argparse.ArgumentTypeError(f"expected {SECRET_BYTES} bytes in hex")
    return found


def share(text: str) -> Share:
    """A share of a group's secret."""
    try:
        return Share.parse(text)
    except CapabilityError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


_HELP = {
    "fence": "Fence an element off.",
    "unfence": "Let a fenced element in again.",
    "poison": "Mark pages as bad.",
    "unpoison": "Heal bad pages.",
}


def parser(commands: Mapping[str, Callable[..., object]]) -> argparse.ArgumentParser:
    """Options of these commands, which are described by their docstrings."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="JSON instead of tables")
    result = argparse.ArgumentParser(prog="rackctl", description="The command line of a Rack MMU controller.")
    result.add_argument(
        "--api", default=os.environ.get("RACKMMU_API", DEFAULT_API), help=f"URL (default $RACKMMU_API or {DEFAULT_API})"
    )
    result.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="a token (default $RACKCTL_TOKEN, or that of the rack running here)",
    )
    parsers = result.add_subparsers(dest="command", required=True, metavar="COMMAND")
    subs = {}
    for name, function in commands.items():
        text = _HELP.get(name, function.__doc__)
        subs[name] = parsers.add_parser(name, help=text, description=text, parents=[common])
    subs["alloc"].add_argument("pid", type=number)
    subs["alloc"].add_argument("size", type=size, help="bytes, or with K, M, G")
    subs["alloc"].add_argument("--permissions", choices=("r", "w", "rw"), default="rw")
    subs["alloc"].add_argument("--media", choices=("any", "dram", "nvm"), default="any")
    subs["alloc"].add_argument("--group", type=number, default=0, help="whose members may steal it")
    subs["alloc"].add_argument("--not-reassignable", action="store_true", help="nobody may steal it")
    subs["alloc"].add_argument("--cached", action="store_true", help="the switch keeps no translations of it")
    where = subs["alloc"].add_mutually_exclusive_group()
    where.add_argument("--element", default="", help="the memory element where it is to be if there is room")
    where.add_argument("--near", type=number, default=0, metavar="VA", help="in the same element as this address")
    subs["alloc"].add_argument("--strict", action="store_true", help="there or nowhere")
    subs["alloc"].add_argument("--placement", default="", metavar="POLICY", help="default: the controller's")
    subs["free"].add_argument("va", type=number)
    subs["free"].add_argument("size", type=size, nargs="?", help="default: the whole allocation")
    subs["migrate"].add_argument("va", type=number)
    subs["migrate"].add_argument("pages", type=number, nargs="?", default=1)
    subs["migrate"].add_argument(
        "--target", metavar="ELEMENT", default="", help="the element that gets them (default: any)"
    )
    subs["drain"].add_argument("element")
    subs["revoke"].add_argument("va", type=number)
    subs["revoke"].add_argument("pages", type=number, nargs="?", default=1)
    subs["grant"].add_argument("va", type=number)
    subs["grant"].add_argument("pid", type=number, help="who gets them")
    subs["grant"].add_argument("pages", type=number, nargs="?", default=1)
    subs["grant"].add_argument("--permissions", choices=("r", "w", "rw"), default="rw")
    subs["group-create"].add_argument("name")
    subs["group-create"].add_argument(
        "--shares", type=of, default=(0, 0), metavar="K/N", help="any K of N shares open it; default: tokens only"
    )
    subs["steal"].add_argument("va", type=number)
    subs["steal"].add_argument("source", type=number, help="pid that loses them")
    subs["steal"].add_argument("pid", type=number, help="pid that gets them")
    subs["steal"].add_argument("pages", type=number, nargs="?", default=1)
    subs["steal"].add_argument("--group", type=number, required=True)
    by = subs["steal"].add_mutually_exclusive_group(required=True)
    by.add_argument("--secret", type=secret, metavar="HEX", help="the group's secret")
    by.add_argument("--share", type=share, action="append", metavar="INDEX-HEX", help="one of the shares; repeat it")
    subs["steal"].add_argument("--permissions", choices=("r", "w", "rw"), default="rw")
    subs["protect"].add_argument("va", type=number)
    subs["protect"].add_argument("permissions", choices=("r", "w", "rw"))
    subs["protect"].add_argument("pages", type=number, nargs="?", default=1)
    subs["stat"].add_argument("va", type=number)
    for name in ("free", "grant", "migrate", "protect", "revoke", "steal"):
        subs[name].add_argument(
            "--no-wait", action="store_true", help="return at once; `rackctl request` tells the rest"
        )
    subs["request"].add_argument("number")
    for name in ("fence", "unfence"):
        subs[name].add_argument("element", help="its name")
    subs["redirect"].add_argument("address", help="a service address, such as 10.0.255.16")
    subs["redirect"].add_argument("pid", type=number, help="who gets it")
    for name in ("poison", "unpoison"):
        subs[name].add_argument("at", type=number, help="an address; with --element: a physical address")
        subs[name].add_argument("pages", type=number, nargs="?", default=1)
        subs[name].add_argument("--element", help="name of a memory element")
    subs["release"].add_argument("address", help="a service address")
    subs["monitor"].add_argument("--heartbeat", type=float, metavar="MS", help="period of heartbeats")
    subs["monitor"].add_argument("--suspect", type=float, metavar="MS", help="silence that is reported")
    subs["monitor"].add_argument("--fail", type=float, metavar="MS", help="silence that is taken for death")
    subs["watch"].add_argument("pid", type=number, help="who is told")
    subs["watch"].add_argument("group", type=number)
    subs["watch"].add_argument("source", type=number, nargs="?", default=0, help="default: all of the group")
    subs["token-create"].add_argument("name", help="whose it is")
    subs["token-create"].add_argument("--role", choices=sorted(role.value for role in Role), required=True)
    subs["token-create"].add_argument("--pid", type=number, action="append", default=[], help="acts for it; repeat it")
    subs["token-create"].add_argument("--seconds", type=float, help="how long it lives (default: for ever)")
    subs["token-revoke"].add_argument("id")
    subs["unwatch"].add_argument("watch", type=number)
    subs["events"].add_argument("--follow", action="store_true", help="go on with what happens next")
    subs["events"].add_argument("--since", type=number, default=0, metavar="ID", help="only events after this one")
    return result
