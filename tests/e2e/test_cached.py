"""Cached translations on a live rack: memory is granted, revoked, remapped and migrated from under a process, which goes on by
what it had cached. What the switch's ports captured shows that none of its stale accesses was carried out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from scapy.utils import PcapNgReader

from experiments.workers import Worker
from protocol import wire
from protocol.wire import Flag, Header, Status
from tests.e2e.conftest import OPTIONS, PATIENT
from topologies.launch import LaunchOptions, RackLauncher
from topologies.racks import small_rack

PAGE = 4096
PAGES = 16
MARK = 1 << 63
MODULE = "experiments.translation_worker"


def caching(rack: RackLauncher, element: str, name: str) -> Worker:
    return Worker(rack, element, name, MODULE, ("--interface", f"{element}-rack"))


def test_no_stale_access_is_carried_out(tmp_path: Path) -> None:
    options = LaunchOptions(out=tmp_path, controller_options=(*OPTIONS, *PATIENT), pcap=True)
    with RackLauncher(small_rack(), options) as rack:
        for kept in ("switch and process", "process alone"):
            memory_changes_under_its_owner(rack, kept)
    the_captures_show_it(rack)


def memory_changes_under_its_owner(rack: RackLauncher, kept: str) -> None:
    owner, taker = caching(rack, "c1", f"owner, {kept}"), caching(rack, "c2", f"taker, {kept}")
    try:
        alloc = "alloc" if kept == "switch and process" else "alloc_cached"
        va = owner.call(alloc, size=PAGES * PAGE)["va"]
        owner.call("burst", va=va, pages=PAGES, count=8 * PAGES, seed=1)
        rules = [
            e for e in rack.get("/v1/map")["entries"] if e["table"] == "translation" and e["va"] >> 48 == owner.pid
        ]
        assert bool(rules) == (alloc == "alloc")
        places = owner.call("places", va=va, pages=PAGES)["places"]
        assert len(places) == PAGES
        assert owner.call("replay", places=places, count=64)["carried_out"] == 64, "they are good still"

        # Granted, and not by the owner: it is told, and goes on with what it had cached.
        assert rack.post("/v1/grant", {"va": va, "pages": 4, "to": taker.pid})["owner"] == taker.pid
        expected = taker.call("hash", va=va, size=4 * PAGE)["sha256"]
        answer = owner.call("replay", places=places[:4], count=400)
        assert answer["answered"] == 400 and answer["carried_out"] == 0, answer
        assert set(answer["answers"]) <= {"PERMISSION switch", "STALE_GENERATION switch"}, answer
        assert taker.call("hash", va=va, size=4 * PAGE)["sha256"] == expected
        assert owner.call("access", va=va, write=True)["error"] == "PermissionDenied"
        assert taker.call("access", va=va, write=True)["refused"] is False

        # Revoked.
        rack.post("/v1/revoke", {"va": va + 4 * PAGE, "pages": 4})
        answer = owner.call("replay", places=places[4:8], count=400)
        assert answer["answered"] == 400 and answer["carried_out"] == 0, answer

        # The same owner, another generation: it finds the new one within its call.
        rack.post("/v1/protect", {"va": va + 8 * PAGE, "pages": 4, "permissions": 1})
        rack.post("/v1/protect", {"va": va + 8 * PAGE, "pages": 4, "permissions": 3})
        answer = owner.call("replay", places=places[8:12], count=400)
        assert answer["answers"] == {"STALE_GENERATION switch": 400}
        did = owner.call("burst", va=va + 8 * PAGE, pages=8, count=32, seed=2)["did"]
        assert did["refusals"] == 0 and did["translation hits"] >= 40, did

        # Migrated, to wherever there is room: nobody needs to tell its owner.
        moved = rack.post("/v1/migrate", {"va": va + 12 * PAGE, "pages": 4})
        assert moved["va"] == va + 12 * PAGE, moved
        answer = owner.call("replay", places=places[12:], count=400)
        assert answer["answered"] == 400 and answer["carried_out"] == 0, answer
        did = owner.call("burst", va=va + 12 * PAGE, pages=4, count=32, seed=3)["did"]
        assert did["refusals"] == 0 and did["translation hits"] >= 40, did

        # Forged: right generations, other pages' places.
        stat = [owner.call("stat", va=va + n * PAGE) for n in range(8, 12)]
        forged = [
            [va + n * PAGE, places[0][1], places[0][2], s["generation"]]
            for n, s in zip(range(8, 12), stat, strict=True)
        ]
        answer = owner.call("replay", places=forged, count=200)
        assert answer["answered"] == 200 and answer["carried_out"] == 0, answer
        assert owner.call("hash", va=va + 8 * PAGE, size=4 * PAGE)["bytes"] == 4 * PAGE
    finally:
        owner.close()
        taker.close()


def captured(rack: RackLauncher, port: int) -> Iterator[Header]:
    with PcapNgReader(str(rack.out / "pcap" / f"port{port}.pcapng")) as frames:
        for packet in frames:
            data = bytes(packet)
            if data[12:14] == b"\x88\xb5" and len(data) >= wire.FRAME_OVERHEAD:
                yield Header.unpack(data, 14)


def the_captures_show_it(rack: RackLauncher) -> None:
    """After the rack has worked: every replayed request has its answer on the process's port; on the memory elements' ports those
    that were good are carried out, and no other."""
    (c1,) = (e for e in rack.rack.compute if e.name == "c1")
    asked: dict[int, Header] = {}
    answered: dict[int, Status] = {}
    for header in captured(rack, c1.port):
        if header.request_id & MARK and header.op & wire.REPLY:
            answered[header.request_id] = Status(header.status)
        elif header.request_id & MARK:
            assert header.flags & Flag.CACHED
            asked[header.request_id] = header
    assert asked.keys() == answered.keys()
    carried_out: dict[int, Header] = {}
    refused_there: dict[int, Header] = {}
    for element in rack.rack.memory:
        for header in captured(rack, element.port):
            if header.request_id & MARK and header.op & wire.REPLY:
                (carried_out if header.status == Status.OK else refused_there)[header.request_id] = header
    assert len(carried_out) == 2 * 64, "those from before the changes"
    assert {i for i, s in answered.items() if s is Status.OK} == carried_out.keys()
    newest = {header.va: header.generation for header in carried_out.values()}
    stale = [header for i, header in asked.items() if i not in carried_out]
    assert len(stale) == 2 * 1800
    assert sum(h.generation <= newest[h.va & -PAGE] for h in stale if h.va & -PAGE in newest) >= 2 * 1000
    assert refused_there, "forged places of memory that the switch does not translate are refused by the element"
