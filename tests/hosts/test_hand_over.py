"""The process API of memory that changes hands: what goes over the wire, what comes back, and mappings that change meanwhile."""

from __future__ import annotations

import json

import pytest

from hosts import errors
from hosts.process import Notice, Process, Region, Stat, Takeover
from protocol import capability, wire
from protocol.wire import PAGE_SIZE, AllocFlag, Header, Media, NotifyCode, Op, Perm, Placement, Status
from tests.hosts.test_life_cycle import QUICK, ScriptedWire, reply_to

VA = 5 << 48 | 0x10000
REGION = Region(VA, 3 * PAGE_SIZE)


class Recorder:
    """A far end that answers everything alike, and remembers what it was asked."""

    def __init__(self, payload: bytes = b"", status: Status = Status.OK):
        self.asked: list[tuple[Header, bytes]] = []
        self.payload, self.status = payload, status
        self.process = Process(5, 1, ScriptedWire(self._answer), None, QUICK)

    def _answer(self, header: Header, payload: bytes) -> list[bytes]:
        self.asked.append((header, payload))
        return [reply_to(header, self.payload, status=self.status, flags=wire.Flag.BY_CONTROLLER)]


def test_allocation_flags() -> None:
    there = Recorder(wire.ALLOC_REPLY.pack(VA, PAGE_SIZE, 1, 0))
    there.process.alloc(1, reassignable=False, media=Media.NVM, group=9)
    there.process.alloc(1)
    there.process.close()
    flags = [wire.ALLOC_ARGS.unpack(payload)[2] for _, payload in there.asked]
    assert flags == [AllocFlag.NOT_REASSIGNABLE | AllocFlag.NVM | 9 << wire.GROUP_SHIFT, 0]


def test_wishes_of_where_memory_is_to_be() -> None:
    there = Recorder(wire.ALLOC_REPLY.pack(VA, PAGE_SIZE, 1, 0))
    with there.process as process:
        process.alloc(1, element="m2", strict=True)
        process.alloc(1, near=REGION, placement=Placement.LOCALITY)
        process.alloc(1, near=VA + 5)
        with pytest.raises(ValueError, match="more than 32 bytes"):
            process.alloc(1, element="m" * 33)
    wishes = [wire.ALLOC_HINT.unpack_from(payload, wire.ALLOC_ARGS.size) for _, payload in there.asked]
    assert wishes == [
        (0, Placement.DEFAULT, 1, b"m2".ljust(32, b"\0")),
        (VA, Placement.LOCALITY, 0, bytes(32)),
        (VA + 5, Placement.DEFAULT, 0, bytes(32)),
    ]


def test_standing_by() -> None:
    asked: list[tuple[Header, bytes]] = []
    listed = [(VA, 3), (VA + 8 * PAGE_SIZE, 1), (VA + 16 * PAGE_SIZE, 2)]

    def answer(header: Header, payload: bytes) -> list[bytes]:
        asked.append((header, payload))
        if header.op != Op.RANGES:
            return [reply_to(header, va=77)]
        found = [r for r in listed if r[0] >= header.va][:2]
        more = [r for r in listed if r[0] >= header.va][2:]
        body = wire.RANGES_REPLY.pack(more[0][0] if more else 0, len(found))
        return [reply_to(header, body + b"".join(wire.RANGE.pack(*r) for r in found))]

    token = capability.mint(bytes(16), 9, 5, 1000)
    with Process(5, 1, ScriptedWire(answer), None, QUICK) as process:
        assert process.watch(9, token, source=6) == 77
        regions = tuple(Region(va, pages * PAGE_SIZE) for va, pages in listed)
        assert process.stealable(6, 9) == regions
        told: list[Takeover] = []
        process.on_takeover(told.append)
        process._deliver(json.dumps(Notice(NotifyCode.TAKEOVER, 6, VA, 6, 9).to_json()).encode())
        process._deliver(json.dumps(Notice(NotifyCode.STOLEN, 6, VA, 6).to_json()).encode())
        assert told == [Takeover(6, 9, regions)]
        process.unwatch(77)
    (watch, given), *_, (unwatch, _) = asked
    assert (watch.op, wire.WATCH_ARGS.unpack_from(given)) == (Op.WATCH, (6, 9))
    assert capability.unpack(given[wire.WATCH_ARGS.size :]) == token
    assert (unwatch.op, unwatch.va) == (Op.UNWATCH, 77)


def test_grant_protect_and_steal() -> None:
    there = Recorder()
    token = capability.mint(bytes(16), 9, 5, 1000)
    with there.process as process:
        process.grant(REGION, 7, Perm.READ)
        process.grant_async(REGION, 8).result(5)
        process.protect(REGION, Perm.READ)
        process.steal(REGION, 6, token, group=9)
    (grant, given), (_, later), (protect, changed), (steal, taken) = there.asked
    assert (grant.op, grant.va, wire.GRANT_ARGS.unpack(given)) == (Op.GRANT, VA, (3, 7, 1))
    assert wire.GRANT_ARGS.unpack(later) == (3, 8, 3)
    assert (protect.op, protect.va, wire.PROTECT_ARGS.unpack(changed)) == (Op.PROTECT, VA, (3, 1))
    assert (steal.op, steal.va, wire.STEAL_ARGS.unpack_from(taken)) == (Op.STEAL, VA, (3, 6, 3, 9))
    assert capability.unpack(taken[wire.STEAL_ARGS.size :]) == token


def test_stat() -> None:
    there = Recorder(wire.STAT_REPLY.pack(2, 11, 7, 102, 9, 1, Media.NVM))
    with there.process as process:
        assert process.stat(VA + 5) == Stat(VA, 2 * PAGE_SIZE, 7, Perm.READ, 102, Media.NVM, 9, 11)


def test_checksums_page_by_page() -> None:
    there = Recorder(wire.WORD.pack(0xCBF43926))
    with there.process as process:
        assert process.checksums(VA + 4000, 200) == [0xCBF43926] * 2
    assert [(h.op, h.va, h.length) for h, _ in there.asked] == [
        (Op.CHECKSUM, VA + 4000, 96),
        (Op.CHECKSUM, VA + 4096, 104),
    ]


@pytest.mark.parametrize("size", [0, -PAGE_SIZE, 1, PAGE_SIZE + 1])
def test_only_whole_pages_change_hands(size: int) -> None:
    there = Recorder()
    with there.process as process, pytest.raises(ValueError, match="whole pages"):
        process.grant(Region(VA, size), 7)
    assert there.asked == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (Status.NOT_REASSIGNABLE, errors.NotReassignable),
        (Status.BAD_CAPABILITY, errors.BadCapability),
        (Status.EXPIRED_CAPABILITY, errors.ExpiredCapability),
        (Status.NO_SUCH_PROCESS, errors.NoSuchProcess),
        (Status.MEMORY_LOST, errors.MemoryLost),
        (Status.PERMISSION, errors.PermissionDenied),
    ],
)
def test_refusals(status: Status, kind: type[Exception]) -> None:
    there = Recorder(status=status)
    with there.process as process, pytest.raises(kind):
        process.steal(REGION, 6, (capability.Share(1, bytes(16)),), group=9)


def test_an_access_waits_while_its_mapping_changes() -> None:
    asked: list[Header] = []

    def answer(header: Header, _: bytes) -> list[bytes]:
        asked.append(header)
        if len(asked) < 4:
            return [reply_to(header, status=Status.STALE_GENERATION, flags=wire.Flag.BY_ELEMENT)]
        return [reply_to(header, b"contents")]

    with Process(5, 1, ScriptedWire(answer), None, QUICK) as process:
        assert process.read(VA, 8) == b"contents"
    assert len({h.request_id for h in asked}) == 1


def test_a_mapping_that_stays_stale_is_typed() -> None:
    def answer(header: Header, _: bytes) -> list[bytes]:
        return [reply_to(header, status=Status.STALE_GENERATION, flags=wire.Flag.BY_ELEMENT)]

    with Process(5, 1, ScriptedWire(answer), None, QUICK) as process, pytest.raises(errors.StaleGeneration):
        process.read(VA, 8)
