"""The state machine: a table, client sessions, and how far the log has been applied; the same commands give the same pages.

Page 0 says where everything is; then come the pages of the sessions, then the table's. An operation of a session that is applied
again changes nothing and has the result that it had (results of changes are kept; a repeated GET reads again).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

from apps.kv.commands import Answer, Command, Kind, Status, decode_command
from apps.kv.pages import Pages
from apps.kv.table import LARGEST_ITEM, Space, Table
from apps.structures.memory import PAGE, Full, NotFormatted, checksum

_META = struct.Struct(
    "<8sIQQIIIIIQQI"
)  # magic, pages, applied, sessions made, table's space (6), bytes that follow; sum
_MAGIC = b"rmemkv01"
_SESSION = struct.Struct("<QQB15x")  # id, number of the last change, its status
_PER_PAGE = PAGE // _SESSION.size
SESSION_PAGES = 32
MAX_SESSIONS = SESSION_PAGES * _PER_PAGE  # the one opened first makes room for a new one
LEAST_PAGES = 1 + SESSION_PAGES + 8
LARGEST_EXTRA = PAGE - _META.size


class Machine:
    """``extra`` are bytes of the caller that belong to the state (its membership, say)."""

    def __init__(self, pages: Pages, space: Space):
        self.pages = pages
        self.table = Table(pages, space)
        self.applied = 0
        self.opened = 0  # sessions so far
        self.extra = b""

    @classmethod
    def create(cls, pages: Pages) -> Machine:
        """The empty state, in zeroed pages; nothing is durable before :meth:`keep`. Raises ValueError when they are too few."""
        if pages.count < LEAST_PAGES:
            raise ValueError(f"{pages.count} pages; the state needs at least {LEAST_PAGES}")
        return cls(pages, Space.over(1 + SESSION_PAGES, pages.count))

    @classmethod
    def open(cls, pages: Pages) -> Machine:
        """The state as it was kept last. Reads one page. Raises NotFormatted."""
        page = bytes(pages.read(0))
        magic, count, applied, opened, *space, length, found = _META.unpack_from(page)
        extra = page[_META.size : _META.size + length]
        if magic != _MAGIC or count != pages.count or found != checksum(page[: _META.size - 4], extra):
            raise NotFormatted("there is no key-value state here, or it is not whole")
        first, buckets, end, unused, freed, items = space
        machine = cls(pages, Space(first, buckets, end, unused, freed, items))
        machine.applied, machine.opened, machine.extra = applied, opened, extra
        return machine

    def meta(self) -> bytes:
        """Page 0 as of now."""
        if len(self.extra) > LARGEST_EXTRA:
            raise ValueError(f"{len(self.extra)} bytes beside the state; there is room for {LARGEST_EXTRA}")
        s = self.table.space
        head = _META.pack(
            _MAGIC,
            self.pages.count,
            self.applied,
            self.opened,
            s.first,
            s.buckets,
            s.end,
            s.unused,
            s.freed,
            s.items,
            len(self.extra),
            0,
        )[:-4]
        return (head + struct.pack("<I", checksum(head, self.extra)) + self.extra).ljust(PAGE, b"\0")

    def keep(self) -> None:
        """Make the state durable, all of what was applied or nothing."""
        self.pages.change(0)[:] = self.meta()
        self.pages.keep()

    @property
    def used_pages(self) -> int:
        """All pages from here on are as they were in the beginning."""
        return self.table.space.unused

    # ------------------------------------------------------------------------------------------------------------ commands

    def apply(self, slot: int, commands: Sequence[bytes]) -> list[Answer]:
        """Carry out the commands of the next slot. Bytes that are no command are passed over: the same everywhere."""
        if slot != self.applied + 1:
            raise ValueError(f"slot {slot}; {self.applied} was the last one applied")
        answers = []
        for data in commands:
            try:
                answers.append(self._apply(decode_command(data)))
            except msgspec.DecodeError:
                continue
        self.applied = slot
        return answers

    def _apply(self, command: Command) -> Answer:
        if command.kind == Kind.OPEN:
            self.opened += 1
            self._write_session(self.opened, 0, Status.DONE)
            return Answer(command.session, command.number, Status.DONE, opened=self.opened)
        found, last, status = self._session(command.session)
        if not found:
            return _answer(command, Status.EXPIRED)
        if command.kind == Kind.GET:
            value = self.table.get(command.key)
            return _answer(command, Status.ABSENT if value is None else Status.DONE, value)
        if command.number < last:
            return _answer(command, Status.STALE)
        if command.number > last:
            status = self._change(command)
            self._write_session(command.session, command.number, status)
        return _answer(command, status)

    def _change(self, command: Command) -> Status:
        key, value = command.key, command.value
        if len(key) + len(value or b"") > LARGEST_ITEM:
            return Status.TOO_LARGE
        if command.kind == Kind.CAS and self.table.get(key) != command.expected:
            return Status.MISMATCH
        if command.kind == Kind.DELETE or value is None:
            there = self.table.delete(key)
            return Status.DONE if there or command.kind == Kind.CAS else Status.ABSENT
        try:
            self.table.set(key, value)
        except Full:
            return Status.FULL
        return Status.DONE

    def _session(self, session: int) -> tuple[bool, int, Status]:
        place = session % MAX_SESSIONS
        page = self.pages.read(1 + place // _PER_PAGE)
        found, last, status = _SESSION.unpack_from(page, place % _PER_PAGE * _SESSION.size)
        return 0 < session == found, last, Status(status)

    def _write_session(self, session: int, number: int, status: Status) -> None:
        place = session % MAX_SESSIONS
        page = self.pages.change(1 + place // _PER_PAGE)
        _SESSION.pack_into(page, place % _PER_PAGE * _SESSION.size, session, number, status)


def _answer(command: Command, status: Status, value: bytes | None = None) -> Answer:
    return Answer(command.session, command.number, status, value)
