"""What replicas say to each other, what they keep, and what is agreed on; encoded with MessagePack.

Ballots are ordered; slots of the log count from 1. A slot holds an entry: a batch of commands (bytes that only the state machine
understands; none is a no-op) or a change of the membership.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from msgspec import Struct


class Ballot(NamedTuple):
    """A right to propose: larger ones win. ``replica`` makes them different."""

    round: int
    replica: int


NO_BALLOT = Ballot(0, 0)
CHOSEN = Ballot(1 << 62, 0)  # above every ballot: of entries that are known to be chosen


class Member(Struct, frozen=True, array_like=True):
    """A replica: an identity that is never used again, and where it can be reached (``host:port``, tried in turn)."""

    id: int
    addresses: tuple[str, ...] = ()


class Configuration(Struct, frozen=True, array_like=True):
    """Who decides the slots from ``since`` on."""

    since: int
    members: tuple[Member, ...]

    @property
    def ids(self) -> frozenset[int]:
        """The members' identities."""
        return frozenset(m.id for m in self.members)

    def has_majority(self, voters: set[int]) -> bool:
        """Whether more than half of the members are among the voters."""
        return 2 * len(self.ids & voters) > len(self.members)


class Membership(Struct, frozen=True, array_like=True):
    """The configuration in force, the one that follows if it is decided already, and who was a member once."""

    current: Configuration
    pending: Configuration | None = None
    retired: tuple[int, ...] = ()

    def of(self, slot: int) -> Configuration:
        """Who decides this slot."""
        return self.pending if self.pending is not None and slot >= self.pending.since else self.current

    @property
    def members(self) -> dict[int, Member]:
        """All that have a say now or soon."""
        both = self.current.members + (self.pending.members if self.pending is not None else ())
        return {m.id: m for m in both}


class Batch(Struct, frozen=True, array_like=True, tag=0):
    """Commands in order."""

    commands: tuple[bytes, ...] = ()


class Reconfigure(Struct, frozen=True, array_like=True, tag=1):
    """Put one replica in the place of another. Without effect when that is not a member (any more) or a change is pending."""

    remove: int
    add: Member


Entry = Batch | Reconfigure
NO_OP = Batch()


# ------------------------------------------------------------------------------------------------------------ durable records


class Promised(Struct, frozen=True, array_like=True, tag=0):
    """No smaller ballot will be accepted."""

    ballot: Ballot


class AcceptedRun(Struct, frozen=True, array_like=True, tag=1):
    """Entries accepted in consecutive slots; with ballot CHOSEN, entries learned to be chosen."""

    ballot: Ballot
    first: int
    entries: tuple[Entry, ...]


class Committed(Struct, frozen=True, array_like=True, tag=2):
    """All slots up to this one are chosen; those from ``first`` on with the entries that were recorded last."""

    slot: int
    first: int


Record = Promised | AcceptedRun | Committed


# ------------------------------------------------------------------------------------------------------------------- messages


class Prepare(Struct, frozen=True, array_like=True, tag=0):
    """Phase 1a, for all slots above ``committed``."""

    ballot: Ballot
    committed: int


class Report(Struct, frozen=True, array_like=True):
    """An entry accepted and not known to be chosen."""

    slot: int
    ballot: Ballot
    entry: Entry


class Promise(Struct, frozen=True, array_like=True, tag=1):
    """Phase 1b: what was accepted above ``committed``, up to which all is chosen."""

    ballot: Ballot
    committed: int
    accepted: tuple[Report, ...]


class Reject(Struct, frozen=True, array_like=True, tag=2):
    """A larger ballot was promised."""

    ballot: Ballot


class Accept(Struct, frozen=True, array_like=True, tag=3):
    """Phase 2a for consecutive slots; the leader knows all up to ``committed`` to be chosen."""

    ballot: Ballot
    first: int
    entries: tuple[Entry, ...]
    committed: int


class Accepted(Struct, frozen=True, array_like=True, tag=4):
    """Phase 2b."""

    ballot: Ballot
    first: int
    count: int


class Heartbeat(Struct, frozen=True, array_like=True, tag=5):
    """The leader lives."""

    ballot: Ballot
    committed: int


class HeartbeatAck(Struct, frozen=True, array_like=True, tag=6):
    """A follower lives and has all up to ``committed``."""

    ballot: Ballot
    committed: int


class Fetch(Struct, frozen=True, array_like=True, tag=7):
    """Asks for chosen entries from slot ``first`` on."""

    first: int


class Learn(Struct, frozen=True, array_like=True, tag=8):
    """Chosen entries; the sender knows all up to ``committed``."""

    first: int
    entries: tuple[Entry, ...]
    committed: int


class Compacted(Struct, frozen=True, array_like=True, tag=9):
    """The entries asked for are not kept any more; the state after slot ``floor`` or a later one can be had."""

    floor: int


class Resign(Struct, frozen=True, array_like=True, tag=10):
    """The sender does not go on. ``lost``: it has lost its memory and is to be replaced."""

    lost: bool


class Excluded(Struct, frozen=True, array_like=True, tag=11):
    """The receiver is no member; as of the configuration that begins at ``since``."""

    since: int


class StateRequest(Struct, frozen=True, array_like=True, tag=12):
    """Asks for a part of the state: the first if ``transfer`` is new. ``position`` counts parts."""

    transfer: int
    position: int


class StatePart(Struct, frozen=True, array_like=True, tag=13):
    """Pages of the state by number. ``last``: with these it is the state after slot ``slot``, whose membership is given. Parts of
    the same ``source`` go together: a replica that was resumed does not know which ones its predecessor sent."""

    transfer: int
    source: int
    position: int
    pages: tuple[tuple[int, bytes], ...]
    last: bool
    slot: int
    membership: Membership | None


Message = (
    Prepare
    | Promise
    | Reject
    | Accept
    | Accepted
    | Heartbeat
    | HeartbeatAck
    | Fetch
    | Learn
    | Compacted
    | Resign
    | Excluded
    | StateRequest
    | StatePart
)

encode = msgspec.msgpack.Encoder().encode
decode_message = msgspec.msgpack.Decoder(Message).decode
decode_records = msgspec.msgpack.Decoder(list[Record]).decode
decode_membership = msgspec.msgpack.Decoder(Membership).decode


def parse_member(text: str) -> Member:
    """``1=10.0.0.1:7400|10.0.0.4:7400``. Raises ValueError."""
    number, equals, rest = text.partition("=")
    addresses = tuple(rest.split("|"))
    try:
        member = Member(int(number), addresses)
        ports = [int(a.rpartition(":")[2]) for a in addresses if a.rpartition(":")[0]]
    except ValueError:
        raise ValueError(f"{text!r} is no member; expected ID=HOST:PORT[|HOST:PORT]") from None
    if not equals or member.id < 1 or len(ports) != len(addresses) or not all(0 < p < 65536 for p in ports):
        raise ValueError(
            f"{text!r} is no member; expected ID=HOST:PORT[|HOST:PORT], an id from 1 and ports up to 65535"
        )
    return member
