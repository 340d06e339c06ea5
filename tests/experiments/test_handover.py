"""The experiment of the store in parts, without a rack: its workers in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from experiments.framework.measure import Meter
from experiments.framework.model import Row
from experiments.handover import WAYS, Cast, _handed_over, judge
from experiments.handover_worker import ClientWorker, InstanceWorker
from tests.apps.rack import FakeProcess, Here, Rack

HOME = "127.0.0.1"


@pytest.fixture
def cast() -> Iterator[Cast]:
    rack = Rack(4000)
    old, new = (Here(InstanceWorker(FakeProcess(rack, pid), HOME), pid) for pid in (1, 2))
    client = Here(ClientWorker(), 0)
    old.call("connect", address=HOME, pid=2, **new.call("address"))
    client.call("connect", address=HOME, port=old.call("address")["clients"])
    yield Cast(old, new, client, Meter({"interconnect": [], "rack": []}))  # type: ignore[arg-type]


def test_both_ways_hand_everything_over(cast: Cast) -> None:
    rows = [_handed_over(cast, way, 256, 0, 5) for way in WAYS]
    assert [row.problem for row in rows] == ["", ""]
    assert all(row.values["operations"] > 10 for row in rows)
    trips = {row.case["way"]: row.counts["interconnect"].round_trips for row in rows}
    assert trips["grant"] == 1 < trips["transparent"]
    assert {f.claim: f.held for f in judge(rows)}["nothing lost"]


def test_a_lost_item_is_a_problem(cast: Cast) -> None:
    cast.old.call("create", name="p", size=256 << 10, filled=50_000, seed=1)
    cast.old.call("hand_over", name="p", way="grant")
    cast.new.worker.instance.part(b"p").delete(b"item/%010d" % 7)
    problem = cast.new.call("check", name="p", filled=50_000, seed=1)["problem"]
    assert problem == "1 items of part p are missing or wrong"
    row = Row({"way": "grant", "KiB": 256}, {}, {}, 0, problem)
    assert [f.held for f in judge([row]) if f.essential] == [False]
