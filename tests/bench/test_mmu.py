"""The benchmark of memory operations: what it computes without a rack."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from bench.mmu import __main__ as mmu
from bench.mmu import plots
from bench.mmu.capture import Capture, Counts, Seen, turnarounds
from bench.mmu.parts import grant, tables
from bench.mmu.setting import KIB, MIB, size_text
from bench.mmu.simulated import SimulatedController
from bench.mmu.traces import TRACES, Allocate, Free
from bench.report import Figure
from protocol.wire import CONTROLLER_ELEMENT, REPLY, Header, Op
from topologies.racks import small_rack

PAGE = 4096


def test_rules_of_the_core() -> None:
    controller = SimulatedController(2, 1 << 18)
    pid = controller.create()
    va = controller.alloc(pid, 64 * MIB)
    assert controller.rules() == {"translation": 1, "protection": 1}
    controller.revoke(va + 5 * PAGE)
    assert controller.rules() == {"translation": 1, "protection": 2}, "the deny"
    controller.free(va + 9 * PAGE, 1)
    assert controller.rules() == {"translation": 2, "protection": 3}, "the deny, and the page that is no longer mapped"
    controller.free(va)
    assert not controller.rules()
    with pytest.raises(MemoryError):
        controller.alloc(pid, 4 << 30)
    with pytest.raises(RuntimeError, match="there is no process"):
        controller.alloc(pid + 1, PAGE)


@pytest.mark.parametrize("name", TRACES)
def test_traces_are_the_seeds_and_free_what_is_there(name: str) -> None:
    events = list(TRACES[name](3, 400))
    assert events == list(TRACES[name](3, 400))
    assert events != list(TRACES[name](4, 400))
    live: set[int] = set()
    for event in events:
        if isinstance(event, Allocate):
            assert event.name not in live
            assert event.size > 0
            live.add(event.name)
        else:
            live.remove(event.name)
    assert live
    assert any(isinstance(event, Free) for event in events)


def test_pages_that_ranges_touch() -> None:
    ranges = [(0x1000, 2 * PAGE), (2 * MIB - PAGE, 2 * PAGE)]
    assert tables.pages_of(ranges, 12) == {1, 2, 511, 512}
    assert tables.pages_of(ranges, 21) == {0, 1}
    assert tables.pages_of(ranges, 30) == {0}


def test_page_tables_of_a_trace_cover_what_is_allocated() -> None:
    found = tables.measure("mixed", 5, 60)
    assert found["entries of 4 KiB pages"] * PAGE == found["GiB"] * (1 << 30)
    assert found["entries of 2 MiB pages"] >= found["GiB"] * 512
    assert found["mapped by 1 GiB"] >= found["mapped by 2 MiB"] >= found["GiB"]
    assert found["rules"] >= 1


def transfers(**milliseconds: float) -> dict[int, list[float]]:
    sizes = {"small": 4 * KIB, "middle": 64 * KIB, "large": 64 * MIB}
    return {sizes[name]: [value] * 3 for name, value in milliseconds.items()}


def test_the_crossover_is_where_grants_stay_faster() -> None:
    copied = transfers(small=1, middle=3, large=500)
    assert grant.crossover(transfers(small=2, middle=2, large=9), copied) == 64 * KIB
    assert grant.crossover(transfers(small=0.5, middle=4, large=9), copied) == 64 * MIB
    assert grant.crossover(transfers(small=2, middle=4, large=900), copied) is None
    figures = grant.times(transfers(small=2, middle=2, large=9), copied)
    verdicts = {(f.what, f.subject): f.verdict for f in figures if f.verdict}
    assert verdicts == {
        ("grant", "4 KiB"): "met",
        ("grant", "64 MiB"): "met",
        ("a grant is faster", "from this size on"): "met",
    }
    slow = grant.times(transfers(small=6, middle=6, large=90), copied)
    assert [f.verdict for f in slow if f.goal].count("missed") == 3


def test_frames_and_round_trips_are_held_against_those_of_the_copy() -> None:
    granted = {PAGE: {"interconnect": Counts(6, 380, 1), "IP network": Counts(0, 0, 0)}}
    copied = {PAGE: {"interconnect": Counts(4, 8408, 2), "IP network": Counts(15, 5103, 1)}}
    found = {f.what: f for f in grant.frames(granted, copied)}
    assert found["round trips of data, copy"].value == 3
    assert found["round trips of data, grant"].verdict == "met"
    assert found["bytes on the interconnect, grant"].ratio == pytest.approx(380 / 8408)
    assert found["frames on the IP network, grant"].value == 0
    worse = {PAGE: {"interconnect": Counts(12, 760, 2), "IP network": Counts(0, 0, 0)}}
    assert "missed" in {f.verdict for f in grant.frames(worse, copied)}


def test_answers_on_the_ip_network() -> None:
    def said(*sizes: int) -> list[Seen]:  # negative: by the other one
        return [Seen(0.0, "IP network", "tor-eth1", 60, 0, 1 if n >= 0 else 2, abs(n)) for n in sizes]

    assert turnarounds(said()) == 0
    assert turnarounds(said(1000, 1000, 1000)) == 0, "nobody has answered"
    assert turnarounds(said(1000, 1000, -1)) == 1
    assert turnarounds(said(1000, 0, -0, -1, -1, 1000, -1)) == 2, "acknowledgements without data are no answers"


def test_what_tcpdump_wrote_down_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read of a page, a page-table change and its acknowledgement, a segment of TCP, a sign of life, and a stranger's frame."""
    names: dict[str, int] = {}
    monkeypatch.setattr("socket.if_nametoindex", lambda name: names.setdefault(name, len(names) + 1))
    rack = small_rack(compute=2, dram=2, nvm=0, memory_mib=1)
    capture = Capture(rack, tmp_path / "x.pcap")
    compute, memory = rack.compute[0], rack.memory[0]
    near, far = names[f"mmu-eth{compute.port}"], names[f"mmu-eth{memory.port}"]
    tor = names[f"tor-eth{compute.tor_port}"]
    arrives, leaves = 0, 4
    read, answer = (Header(op, src=src, length=PAGE).pack() for op, src in ((Op.READ, 0), (Op.READ | REPLY, memory.id)))
    stamped = Header(Op.READ, src=compute.id, length=PAGE).pack()
    change = Header(Op.PT_SET, src=CONTROLLER_ELEMENT).pack()
    done = Header(Op.PT_SET | REPLY, src=memory.id).pack()
    segment = bytes([0x45, 0, 0, 140, *bytes(5), 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]) + bytes(12) + b"\x50" + bytes(107)
    told = [
        (1.0, near, arrives, 0x88B5, read, 0),
        (1.1, far, leaves, 0x88B5, stamped, 0),
        (1.2, far, arrives, 0x88B5, answer, PAGE),
        (1.3, near, leaves, 0x88B5, answer, PAGE),
        (2.0, far, leaves, 0x88B5, change, 0),
        (2.1, far, arrives, 0x88B5, done, 0),
        (2.2, tor, arrives, 0x0800, segment, 0),
        (2.3, tor, leaves, 0x0800, segment, 0),
        (2.4, near, arrives, 0x88B5, Header(Op.HEARTBEAT).pack(), 0),
        (2.5, 99, arrives, 0x88B5, read, 0),
    ]
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 128, 276)
    for at, interface, kind, protocol, frame, more in told:
        frame = struct.pack(">HHIHBB8s", protocol, 0, interface, 1, kind, 6, bytes(8)) + frame
        data += struct.pack("<IIII", int(at), round(at % 1 * 1e6), len(frame), len(frame) + more) + frame
    capture.path.write_bytes(data + b"cut off")
    capture.load()
    header = 14 + 40
    assert capture.between(0.5, 1.5) == {
        "interconnect": Counts(2, 2 * header + PAGE, 1),
        "IP network": Counts(0, 0, 0),
    }
    assert capture.between(1.5, 3) == {"interconnect": Counts(2, 2 * header, 1), "IP network": Counts(1, 14 + 140, 0)}
    assert [f.payload for f in capture.frames if f.network == "IP network"] == [100]


def test_drawings(tmp_path: Path) -> None:
    figures = grant.times(transfers(small=2, middle=2, large=9), transfers(small=1, middle=3, large=500))
    figures += [Figure("changes", "revoke", size_text(s), "ms", [1.0, 2.0]) for s in (4 * KIB, MIB)]
    drawn = plots.save(figures, tmp_path)
    assert [path.name for path in drawn] == ["changes.png", "grant.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_the_part_without_a_rack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mmu.main(["--quick", "--only", "tables", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "all.json").read_text())
    rules = [f for f in report["figures"] if f["what"] == "V2P rules"]
    assert {f["subject"] for f in rules} == set(TRACES)
    assert all(f["ratio"] > 0 for f in rules)
    assert (tmp_path / "tables.png").exists()
    assert "V2P rules" in capsys.readouterr().out
    lines = (tmp_path / "summary.md").read_text().splitlines()
    header = next(line for line in lines if line.startswith("| of |"))
    (server,) = (line for line in lines if line.startswith("| server, 300 events |"))
    assert len(header.split("|")) == len(server.split("|"))
    cell = server.split("|")[header.split("|").index(" V2P rules ")]
    assert "of 2 MiB pages" in cell
    assert "of 1 GiB pages" in cell


@pytest.mark.parametrize("wrong", [["--only", "nothing"], ["--repetitions", "0"], ["--only", ","]])
def test_options_that_make_no_sense(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        mmu.main(wrong)
    assert ended.value.code == 2
