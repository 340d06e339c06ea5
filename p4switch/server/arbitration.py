"""Who is primary (P4Runtime specification, "Client Arbitration and Controller Replication"): a pure state machine.

Each role elects a primary of its own. By default the highest *connected* election id is primary, as in simple_switch_grpc: when
the primary leaves, the next is promoted, and a client that starts afresh with a low id can work. With ``monotonic`` it is, as the
specification has it, the highest id *ever* seen: after the primary has left there is none until somebody announces that id or a
higher one.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from google.protobuf import any_pb2

from p4switch.server.errors import Code, P4RuntimeError, denied, exhausted, invalid, not_found
from p4switch.server.roles import RoleConfig

Stream = Hashable
DEFAULT_ROLE = ""
STREAMS_PER_ROLE = 100
ROLES = 1000


@dataclass(frozen=True)
class Notice:
    """An answer to send on a stream. ``election_id`` is the primary's, or the highest seen; None: there was never a primary."""

    stream: Stream
    code: Code  # OK for the primary, ALREADY_EXISTS for a backup, NOT_FOUND when there is no primary
    election_id: int | None
    role: Role


@dataclass(eq=False)
class Role:
    """The connected controllers of a role, by election id (128 bits; None never becomes primary)."""

    name: str
    number: int = 0  # the deprecated numeric id, for clients that give no name
    config: RoleConfig = field(default_factory=RoleConfig)
    config_message: any_pb2.Any | None = None  # as the primary sent it
    ids: dict[Stream, int | None] = field(default_factory=dict)
    highest: int | None = None
    monotonic: bool = False

    @property
    def primary(self) -> Stream | None:
        """The primary's stream."""
        best = max(((i, s) for s, i in self.ids.items() if i is not None), key=lambda x: x[0], default=None)
        if best is None or (self.monotonic and self.highest is not None and best[0] < self.highest):
            return None
        return best[1]

    @property
    def primary_id(self) -> int | None:
        """The primary's election id."""
        primary = self.primary
        return None if primary is None else self.ids[primary]

    def notice(self, stream: Stream) -> Notice:
        """Where a stream stands."""
        primary = self.primary
        if primary is None:
            return Notice(stream, Code.NOT_FOUND, self.highest if self.monotonic else None, self)
        return Notice(stream, Code.OK if stream == primary else Code.ALREADY_EXISTS, self.primary_id, self)

    def notices(self) -> list[Notice]:
        """For all; the primary hears it last."""
        primary = self.primary
        return [self.notice(s) for s in sorted(self.ids, key=lambda s: s == primary)]


class Arbitration:
    """All roles of one device."""

    def __init__(self, monotonic: bool = False):
        self.monotonic = monotonic
        self.roles: dict[str, Role] = {DEFAULT_ROLE: Role(DEFAULT_ROLE, monotonic=monotonic)}
        self._streams: dict[Stream, Role] = {}

    @staticmethod
    def key(name: str, number: int = 0) -> str:
        """What identifies a role: its name, or the deprecated number where that is all there is."""
        return name or (f"#{number}" if number else DEFAULT_ROLE)

    def role_of(self, stream: Stream) -> Role | None:
        """The role a stream has announced itself for."""
        return self._streams.get(stream)

    def update(
        self,
        stream: Stream,
        election_id: int | None,
        name: str = "",
        number: int = 0,
        config: RoleConfig | None = None,
        config_message: any_pb2.Any | None = None,
    ) -> list[Notice]:
        """A controller (re)announces itself. Raises P4RuntimeError, which ends its stream."""
        key = self.key(name, number)
        known = self._streams.get(stream)
        if known is not None and known is not self.roles.get(key):
            old = self.key(known.name, known.number) or "the default role"
            raise P4RuntimeError(
                Code.FAILED_PRECONDITION, f"this stream is for role {old}: open another one for role {key!r}"
            )
        role = self.roles.get(key) or Role(name, number, monotonic=self.monotonic)
        if key == DEFAULT_ROLE and config is not None:
            raise invalid("the default role has full access: it takes no role config")
        if election_id is not None and any(s != stream and i == election_id for s, i in role.ids.items()):
            raise invalid(f"Election id {election_id} already exists")
        if known is None and len(role.ids) >= STREAMS_PER_ROLE:
            raise exhausted(f"role {key!r} has {STREAMS_PER_ROLE} streams already")
        if config is not None:
            self._check_exclusive(role, config)
        if key not in self.roles:
            self._make_room()
        before = role.primary
        self.roles[key] = self._streams[stream] = role
        role.ids[stream] = election_id
        if election_id is not None:
            role.highest = election_id if role.highest is None else max(role.highest, election_id)
        primary = role.primary
        if primary == stream and key != DEFAULT_ROLE:
            role.config, role.config_message = config or RoleConfig(), config_message
        if primary == stream or before != primary:
            return role.notices()
        return [role.notice(stream)]

    def _make_room(self) -> None:
        """For a new role; one that nobody is connected for is forgotten when there are very many."""
        if len(self.roles) < ROLES:
            return
        idle = next((key for key, role in self.roles.items() if key != DEFAULT_ROLE and not role.ids), None)
        if idle is None:
            raise exhausted(f"there are {ROLES} roles already")
        del self.roles[idle]

    def _check_exclusive(self, role: Role, config: RoleConfig) -> None:
        for other in self.roles.values():
            if other is role or not other.ids:
                continue
            taken = (config.named & other.config.exclusive) | (config.exclusive & other.config.named)
            if taken:
                what = ", ".join(sorted(f"{t:#x}" if isinstance(t, int) else t for t in taken))
                raise invalid(f"role config: {what} belongs to role {self.key(other.name, other.number)!r} already")

    def leave(self, stream: Stream) -> list[Notice]:
        """A stream has ended. The others of its role hear of it when it was the primary."""
        role = self._streams.pop(stream, None)
        if role is None:
            return []
        was_primary = role.primary == stream
        del role.ids[stream]
        return role.notices() if was_primary else []

    def check_write(self, name: str, number: int, election_id: int | None) -> Role:
        """The role of a request that changes something: NOT_FOUND or PERMISSION_DENIED unless it comes from its primary."""
        role = self.role(name, number)
        if role.primary_id is None or election_id != role.primary_id:
            raise denied("Not primary")
        return role

    def role(self, name: str, number: int = 0) -> Role:
        """A role that somebody has announced, or the default role. NOT_FOUND for others."""
        key = self.key(name, number)
        role = self.roles.get(key)
        if role is None:
            raise not_found(f"no controller has announced role {key!r}")
        return role
