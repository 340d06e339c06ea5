"""The shell with a switch in memory: what is durable, what is answered, and what happens when the switch misbehaves."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rig import RACK, Rack

from controller import inbox
from controller.core import entries, events
from controller.core.memory import Config
from controller.shell import RequestRefused
from controller.switch import Deposed
from protocol import wire
from protocol.wire import FRAME_OVERHEAD, PAGE_SIZE, Header, Op, Status


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[Rack]:
    made = Rack(tmp_path)
    made.until(lambda: all(e.liveness == "alive" for e in made.shell.state.elements.values()))
    yield made
    made.kill()
    assert made.shell.failed is None


def test_an_operation_of_a_dead_controller_answers_nobody_else(rack: Rack) -> None:
    """An allocation is under way when the controller dies; the next one's first request is another."""
    pid = rack.process()
    rack.ask(lambda token: events.AllocRequest(token, pid, PAGE_SIZE, 3))
    rack.until(lambda: len(rack.shell.state.operations) == 1, acknowledge=False)
    rack.kill()
    rack.boot()
    other = rack.ask(lambda token: events.AllocRequest(token, pid, 5 * PAGE_SIZE, 3))
    rack.until(lambda: other.done())
    assert other.result()["size"] == 5 * PAGE_SIZE, "somebody else's answer"
    assert rack.shell.failed is None
    assert len(rack.shell.state.allocations) == 2


def test_frame_sizes_are_checked(rack: Rack) -> None:
    for size in range(FRAME_OVERHEAD + 40):
        for op in Op:
            header = Header(op, pid=1).pack()
            rack.shell.on_packet(1, (bytes(14) + header + bytes(40))[:size])
    rack.until(lambda: rack.shell._inbox.__len__() == 0)
    assert rack.shell.failed is None


def test_the_switch_dies_and_comes_back_empty(rack: Rack) -> None:
    pid = rack.process()
    made = rack.ask(lambda token: events.AllocRequest(token, pid, 3 * PAGE_SIZE, 3))
    rack.until(made.done)
    before = dict(rack.switch.entries)
    rack.switch.die()
    rack.until(lambda: bool(rack.shell.describe()["switch"]["error"]))
    with pytest.raises(RequestRefused, match="there is no switch") as refused:
        rack.shell.request(lambda token: events.RevokeRequest(token, made.result()["va"], 1))
    assert refused.value.code == "switch"
    time.sleep(1.5 * Config().thresholds.fail)  # no heartbeat comes through meanwhile
    rack.switch.reachable = True
    rack.until(lambda: rack.switch.entries == before)
    rack.until(lambda: rack.shell.describe()["switch"]["error"] is None)
    later = time.monotonic() + 0.2
    rack.until(lambda: time.monotonic() > later)
    assert not [e for e in rack.shell.log.since(0) if e["event"] == "element_failed"]
    revoked = rack.ask(lambda token: events.RevokeRequest(token, made.result()["va"], 1))
    rack.until(revoked.done)
    assert revoked.result()["owner"] == pid
    assert rack.switch.connections == 2


def test_nobody_is_told_what_the_switch_does_not_hold_yet(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    write = rack.switch.write

    def watched(writes: Any) -> None:
        write(writes)
        shown.append(rack.shell.state.elements[1].fenced)

    monkeypatch.setattr(rack.switch, "write", watched)
    rack.ask(lambda token: events.FenceRequest(token, 1, True))
    rack.until(lambda: rack.shell.state.elements[1].fenced)
    assert shown[0] is False, "it is told to others when the switch has been told"


def test_nothing_is_acknowledged_while_the_switch_is_away(rack: Rack) -> None:
    """The switch dies between the request and the write that withdraws the rights."""
    pid = rack.process()
    made = rack.ask(lambda token: events.AllocRequest(token, pid, PAGE_SIZE, 3))
    rack.until(made.done)
    rack.switch.refuse_writes = 3
    revoked = rack.ask(lambda token: events.RevokeRequest(token, made.result()["va"], 1))
    rack.until(lambda: rack.switch.refuse_writes == 1, acknowledge=False)
    assert not rack.requests(Op.PT_CLEAR)[len(RACK.memory) :], "told the element before the switch"
    rack.until(revoked.done)
    assert {e.key: e for e in entries.all_entries(rack.shell.state)} == rack.switch.entries


def test_another_controller_takes_over(rack: Rack) -> None:
    ended = threading.Event()
    rack.shell.on_end = ended.set
    rack.switch.deposed = True
    rack.switch.is_connected = False
    assert ended.wait(60)
    assert isinstance(rack.shell.failed, Deposed)
    assert not rack.shell.describe()["ready"]
    rack.shell.failed = None  # as it should be, here


def test_a_flood_of_one_element_delays_nobody_else(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = rack.process()
    release, real = threading.Event(), rack.shell.store.save

    def slow(*arguments: Any) -> None:
        release.wait(120)
        real(*arguments)

    monkeypatch.setattr(rack.shell.store, "save", slow)
    rack.frame(1, Header(Op.PROCESS_CREATE, request_id=1), bytes(32))  # the core is busy with this one
    rack.until(lambda: len(rack.shell._inbox) == 0, acknowledge=False)
    for number in range(2, 3 * inbox.SHARE):
        rack.frame(1, Header(Op.FREE, pid=pid, request_id=number), bytes(16))
    assert len(rack.shell._inbox) == inbox.SHARE
    busy = [header for _, header in rack.requests(Op.FREE | wire.REPLY)]
    assert busy
    assert {h.status for h in busy} == {Status.BUSY}
    rack.frame(2, Header(Op.PROCESS_CREATE, request_id=7), bytes(32))
    assert len(rack.shell._inbox) == inbox.SHARE + 1, "another element has a share of its own"
    release.set()
    rack.until(lambda: any(p.element == 2 for p in rack.shell.state.processes.values()))
    assert rack.shell.statistics.events_refused >= inbox.SHARE


def test_silence_is_noticed_under_a_flood(rack: Rack) -> None:
    """Time goes on while events wait, and signs of life overtake them."""
    stop = threading.Event()

    def flood() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            if not rack.shell.submit(events.ControlRequest(1, 0, number, Op.FREE, 0, bytes(16)), 1):
                time.sleep(0.001)

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 120
        while rack.shell.state.elements[101].liveness == "alive":
            assert time.monotonic() < deadline
            for element in RACK.elements:
                if element.id != 101:
                    rack.frame(element.id, Header(Op.HEARTBEAT, va=1))
            time.sleep(0.02)
    finally:
        stop.set()
        thread.join()
    assert [e.id for e in rack.shell.state.elements.values() if e.liveness == "failed"] == [101]


def test_a_notice_is_repeated_until_its_own_element_has_taken_it(rack: Rack) -> None:
    pid = rack.process()
    made = rack.ask(lambda token: events.AllocRequest(token, pid, PAGE_SIZE, 3))
    rack.until(made.done)
    revoked = rack.ask(lambda token: events.RevokeRequest(token, made.result()["va"], 1))
    rack.until(revoked.done)
    rack.until(lambda: len(rack.requests(Op.NOTIFY)) >= 3)
    _, notice = rack.requests(Op.NOTIFY)[0]
    rack.frame(2, notice._replace(op=Op.NOTIFY | wire.REPLY))  # another element's word is worth nothing
    rack.kill()
    rack.switch.frames.clear()
    rack.boot()
    rack.until(lambda: len(rack.requests(Op.NOTIFY)) >= 2)
    assert {h.request_id for _, h in rack.requests(Op.NOTIFY)} == {notice.request_id}
    rack.frame(1, notice._replace(op=Op.NOTIFY | wire.REPLY))
    rack.until(lambda: not rack.shell.state.notices)


def test_a_conclusion_that_the_machine_forgot_is_drawn_again(
    rack: Rack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power fails behind a grant's reply: the store is as it was on the disk. Acknowledgements come again, and all is well."""
    saved: list[str] = []
    last_on_disk = tmp_path / "on-disk.db"
    store = rack.shell.store
    save, start_sync = store.save, store.start_sync

    def saving(changes: Any, counters: Any) -> None:
        save(changes, counters)
        saved.append("saved")

    def syncing() -> Any:
        saved.append("to disk")
        last_on_disk.unlink(missing_ok=True)
        store._db.execute("VACUUM INTO ?", (str(last_on_disk),))
        return start_sync()

    monkeypatch.setattr(store, "save", saving)
    monkeypatch.setattr(store, "start_sync", syncing)
    source, recipient = rack.process(), rack.process()
    made = rack.ask(lambda token: events.AllocRequest(token, source, 4 * PAGE_SIZE, 3))
    rack.until(made.done)
    va = made.result()["va"]
    saved.clear()
    granted = rack.ask(lambda token: events.GrantRequest(token, va + PAGE_SIZE, 1, recipient, 3))
    rack.until(lambda: granted.done() and not rack.shell.state.operations)
    assert granted.result()["owner"] == recipient
    assert saved[:2] == ["saved", "to disk"], "what others are told of is on the disk"
    assert set(saved[2:]) == {"saved"}, "and what follows from it costs no wait for the disk"
    wanted = dict(rack.switch.entries)
    rack.kill()
    for old in tmp_path.glob("controller.db*"):
        old.unlink()
    last_on_disk.rename(tmp_path / "controller.db")
    rack.boot()
    assert rack.shell.state.operations, "it is under way again"
    rack.until(lambda: not rack.shell.state.operations)
    rack.until(lambda: rack.switch.entries == wanted)
    allocation = next(iter(rack.shell.state.allocations.values()))
    assert [(o.va, o.pid, o.kind) for o in allocation.overrides] == [(va + PAGE_SIZE, recipient, "owned")]


def test_a_switch_that_is_ahead_of_the_disk_is_taken_back(
    rack: Rack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power fails when a grant's withdrawal is in the switch and its intent not on the disk: it was never asked for."""
    store = rack.shell.store
    source, recipient = rack.process(), rack.process()
    made = rack.ask(lambda token: events.AllocRequest(token, source, 4 * PAGE_SIZE, 3))
    rack.until(made.done)
    va = made.result()["va"]
    rack.until(lambda: not rack.shell.state.operations)
    last_on_disk = tmp_path / "on-disk.db"
    store._db.execute("VACUUM INTO ?", (str(last_on_disk),))
    before, told = dict(rack.switch.entries), len(rack.requests(Op.PT_SET))

    def failing() -> Any:
        raise OSError("no power")

    monkeypatch.setattr(store, "sync", failing)
    rack.ask(lambda token: events.GrantRequest(token, va, 1, recipient, 3))
    rack.until(lambda: rack.shell.failed is not None)
    assert rack.switch.entries != before, "the switch was changed meanwhile"
    assert len(rack.requests(Op.PT_SET)) == told, "and nobody was told"
    rack.kill()
    for old in tmp_path.glob("controller.db*"):
        old.unlink()
    last_on_disk.rename(tmp_path / "controller.db")
    rack.boot()
    assert rack.switch.entries == before
    assert not rack.shell.state.operations


def test_events_that_wait_share_a_change_of_the_switch(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, behind one commit and before anybody is told."""
    pid = rack.process()
    made = rack.ask(lambda token: events.AllocRequest(token, pid, 8 * PAGE_SIZE, 3))
    rack.until(made.done)
    va = made.result()["va"]
    done: list[tuple[str, int]] = []
    shell, write, save = rack.shell, rack.switch.write, rack.shell.store.save

    def writing(writes: Any) -> None:
        writes = list(writes)
        done.append(("write", len({w.entry.match for w in writes})))
        write(writes)

    monkeypatch.setattr(rack.switch, "write", writing)
    monkeypatch.setattr(shell.store, "save", lambda *a: (done.append(("save", 0)), save(*a)))
    monkeypatch.setattr(rack.switch, "packet_out", lambda port, frame: done.append(("told", frame[15])))
    batch = [(events.RevokeRequest(1000 + n, va + 2 * n * PAGE_SIZE, 1), time.monotonic()) for n in range(4)]
    with shell._inbox._changed:  # so that the core's thread finds nothing of its own meanwhile
        shell._steps(batch)
    assert done[:2] == [("save", 0), ("write", 4)]
    assert done[2:] == [("told", int(Op.PT_CLEAR))] * 4
    monkeypatch.undo()
    rack.until(lambda: not shell.state.operations)


def test_whoever_gives_up_waiting_is_forgotten_and_what_was_asked_goes_on(rack: Rack) -> None:
    pid = rack.process()

    def made(token: int) -> events.ApiRequest:
        return events.AllocRequest(token, pid, PAGE_SIZE, 3)

    with pytest.raises(TimeoutError):
        asyncio.run(rack.shell.ask(made, 0.05))  # nobody acknowledges
    assert not rack.shell._waiting
    rack.until(lambda: not rack.shell.state.operations)
    assert len(rack.shell.state.allocations) == 1
    with rack.running():
        assert asyncio.run(rack.shell.ask(made))["size"] == PAGE_SIZE
        with pytest.raises(RequestRefused, match="no process"):
            asyncio.run(rack.shell.ask(lambda token: events.AllocRequest(token, 999, PAGE_SIZE, 3)))
