"""The options of ``python -m p4switch run`` for the queues between ingress and egress."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from p4switch.dataplane.binding import DROP_PORT
from p4switch.dataplane.queues import PRIORITIES, Queues

_MAX_DEPTH = 65_536
_MAX_RATE = 1_000_000_000


@dataclass(frozen=True)
class Setting:
    """A number for a queue; ``port`` and ``priority`` None mean all."""

    value: int
    port: int | None = None
    priority: int | None = None


def _setting(unit: str, maximum: int, with_priority: bool) -> Callable[[str], Setting]:
    """A reader of ``[PORT[:PRIORITY]=]NUMBER``."""
    form = f"[PORT{'[:PRIORITY]' if with_priority else ''}=]{unit}"

    def read(text: str) -> Setting:
        where, equals, number = text.rpartition("=")
        port, colon, priority = where.partition(":")
        valid = number.isdecimal() and int(number) <= maximum and (not equals or port.isdecimal())
        if not valid or (colon and not (with_priority and priority.isdecimal())):
            raise argparse.ArgumentTypeError(f"expected {form} with {unit} up to {maximum}, found {text!r}")
        if equals and int(port) >= DROP_PORT:
            raise argparse.ArgumentTypeError(f"expected a port below {DROP_PORT}, found {text!r}")
        if colon and int(priority) >= PRIORITIES:
            raise argparse.ArgumentTypeError(f"expected a priority below {PRIORITIES}, found {text!r}")
        return Setting(int(number), int(port) if equals else None, int(priority) if colon else None)

    return read


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options; without any of them packets go straight from ingress to egress."""
    group = parser.add_argument_group(
        "queues", "between ingress and egress; what is said of one counts before what is said of all"
    )
    group.add_argument(
        "--priority-queues",
        type=int,
        default=1,
        choices=range(1, PRIORITIES + 1),
        metavar="N",
        help="queues of a port, chosen by standard_metadata.priority, the highest first (default 1)",
    )
    for option, unit, maximum, with_priority, what in (
        ("--queue-depth", "PACKETS", _MAX_DEPTH, True, "packets a queue holds (default 64)"),
        ("--queue-rate", "PPS", _MAX_RATE, True, "packets a second of each queue, 0 for unlimited (the default)"),
        ("--port-rate", "PPS", _MAX_RATE, False, "packets a second of a port, shared by its queues"),
    ):
        group.add_argument(
            option,
            type=_setting(unit, maximum, with_priority),
            action="append",
            default=[],
            metavar=f"[PORT{'[:PRIO]' if with_priority else ''}=]{unit}",
            help=what,
        )


def configure(queues: Queues, arguments: argparse.Namespace) -> None:
    """Apply the options, those for all ports first."""

    def ordered(settings: Sequence[Setting]) -> list[Setting]:
        return sorted(settings, key=lambda s: (s.port is not None, s.priority is not None))

    queues.set_priorities(arguments.priority_queues)
    for s in ordered(arguments.queue_depth):
        queues.set_depth(s.value, s.port, s.priority)
    for s in ordered(arguments.queue_rate):
        queues.set_rate(s.value, s.port, s.priority)
    for s in ordered(arguments.port_rate):
        queues.set_port_rate(s.value, s.port)
