"""Pages move between memory elements of a live rack while their owner goes on."""

from __future__ import annotations

import threading
import time
from typing import Any

from tests.e2e.workers import Worker
from topologies.launch import RackLauncher

MIB = 1 << 20
PAGE = 4096


def elements_of(rack: RackLauncher, va: int) -> set[str]:
    found = [a for p in rack.get("/v1/processes")["processes"] for a in p["allocations"] if a["va"] == va]
    return set(found[0]["elements"])


def test_pages_move_while_their_owner_works(rack: RackLauncher, worker: Worker) -> None:
    """Every read of the owner is checked against what it wrote; atomic operations take effect once."""
    va = worker.call("alloc", size=MIB)["va"]
    others = [e.name for e in rack.rack.memory if e.media == "dram"]
    outcome: dict[str, Any] = {}
    works = threading.Thread(
        target=lambda: outcome.update(worker.call("mixed", va=va, size=MIB, operations=1500, seed=7))
    )
    works.start()
    moved, pauses = 0, []
    while works.is_alive():
        for target in others:
            start = time.monotonic()
            moved += rack.post("/v1/migrate", {"va": va, "pages": MIB // PAGE, "target": target})["pages"]
            pauses.append(time.monotonic() - start)
    works.join()
    assert outcome["ok"], outcome
    assert moved >= MIB // PAGE, "it moved at least once"
    assert elements_of(rack, va) == {others[-1]}
    assert worker.call("hash", va=va, size=MIB)["sha256"] == outcome["sha256"]
    assert rack.get("/v1/map")["agrees"]
    print(f"{moved} pages moved in {len(pauses)} migrations of {MIB // PAGE}, {max(pauses):.2f} s at most")


def test_a_process_moves_its_memory_and_an_element_is_drained(rack: RackLauncher, worker: Worker) -> None:
    va = worker.call("alloc", size=MIB)["va"]
    before = worker.call("load", va=va, path="/usr/bin/python3", limit=MIB)["sha256"]
    target = next(e for e in rack.rack.memory if e.media == "dram" and {e.name} != elements_of(rack, va))
    assert worker.call("migrate", va=va, pages=MIB // PAGE, target=target.id)["refused"] is False
    assert elements_of(rack, va) == {target.name}
    assert worker.call("migrate", va=va, pages=1, target=1)["error"] == "NotFound"
    drained = rack.post("/v1/drain", {"element": target.name})
    assert drained == {"element": target.name, "pages": MIB // PAGE, "left": 0}
    assert target.name not in elements_of(rack, va)
    assert worker.call("hash", va=va, size=MIB)["sha256"] == before
    assert rack.get("/v1/map")["agrees"]
