"""Who is primary (P4Runtime specification, section 5): a pure state machine over connected streams."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from p4switch.server.errors import Code, P4RuntimeError

Stream = Hashable


@dataclass
class Notice:
    """An answer to send on a stream: ``is_primary`` tells OK from ALREADY_EXISTS; ``election_id`` is the primary's."""

    stream: Stream
    is_primary: bool
    election_id: int


@dataclass
class Arbitration:
    """The connected controllers of one device, by election id (128 bits). The highest connected one is primary."""

    ids: dict[Stream, int] = field(default_factory=dict)

    @property
    def primary(self) -> Stream | None:
        """The primary's stream."""
        return max(self.ids, key=lambda s: self.ids[s], default=None)

    @property
    def primary_id(self) -> int | None:
        """The primary's election id."""
        return max(self.ids.values(), default=None)

    def update(self, stream: Stream, election_id: int) -> list[Notice]:
        """A controller (re)announces itself. INVALID_ARGUMENT when another stream has this id."""
        if any(s != stream and i == election_id for s, i in self.ids.items()):
            raise P4RuntimeError(Code.INVALID_ARGUMENT, f"Election id {election_id} already exists")
        before = self.primary_id, self.primary
        self.ids[stream] = election_id
        if (self.primary_id, self.primary) != before:
            return self._everyone()
        return [self._notice(stream)]

    def leave(self, stream: Stream) -> list[Notice]:
        """A stream has ended; the next controller is promoted."""
        was_primary = self.primary == stream
        if self.ids.pop(stream, None) is None or not was_primary:
            return []
        return self._everyone()

    def check_write(self, election_id: int) -> None:
        """PERMISSION_DENIED unless this is the primary's id."""
        if self.primary_id is None or election_id != self.primary_id:
            raise P4RuntimeError(Code.PERMISSION_DENIED, "Not primary")

    def _notice(self, stream: Stream) -> Notice:
        assert self.primary_id is not None
        return Notice(stream, stream == self.primary, self.primary_id)

    def _everyone(self) -> list[Notice]:
        return [self._notice(stream) for stream in self.ids]
