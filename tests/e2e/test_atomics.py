"""CAS and FETCH_ADD take effect at most once on a live rack: frames are lost, copied and late; pages change hands and place."""

from __future__ import annotations

import time

import pytest

from experiments.workers import Worker
from topologies.launch import RackLauncher

PAGE = 4096
FAULTS = "loss=0.05,copies=0.3,late=0.2,delay=0.02"
CHANGES = 12  # of the page's owner, at least
STEPS = 4  # of each kind that its owner does before the page changes its place or its owner again
LIMIT = 300.0  # seconds, on the slowest machine


def confirmed(worker: Worker) -> int:
    return min(worker.call("progress")["counted"].values())


def enough(*workers: Worker) -> bool:
    """Whether there is something to judge: many steps, few unknown outcomes, and steps that were refused."""
    progress = [w.call("progress") for w in workers]
    for kind in ("add", "cas"):
        counted, unknown = (sum(p[what][kind] for p in progress) for what in ("counted", "unknown"))
        if counted <= 60 or unknown >= counted / 10:
            return False
    return any(p["refused"] for p in progress)


def counting(rack: RackLauncher, element: str, name: str, cached: bool) -> Worker:
    options = ("--faults", f"{FAULTS},seed={len(name)}", *(("--cache",) if cached else ()))
    return Worker(rack, element, name, "experiments.counting_worker", options)


@pytest.mark.parametrize("cached", [False, True])
def test_no_count_is_lost_or_doubled_while_a_page_goes_to_and_fro(rack: RackLauncher, cached: bool) -> None:
    first, second = counting(rack, "c1", "first", cached), counting(rack, "c2", "another", cached)
    try:
        va = first.call("alloc", size=PAGE)["va"]
        first.call("count", va=va)
        second.call("count", va=va)
        changes, ends = 0, time.monotonic() + LIMIT
        while changes < CHANGES or not enough(first, second):
            assert time.monotonic() < ends, [w.call("progress") for w in (first, second)]
            owner = (second, first)[changes % 2]
            rack.post("/v1/grant", {"va": va, "to": owner.pid})
            changes += 1
            for change_place in (True, True, False):  # under its owner
                goal = confirmed(owner) + STEPS
                rack.wait_for(lambda owner=owner, goal=goal: confirmed(owner) >= goal, "its owner to count", 120)
                if change_place:
                    rack.post("/v1/migrate", {"va": va, "pages": 1})
        results = [w.call("stop") for w in (first, second)]
        words = owner.call("words", va=va)
        for kind in ("add", "cas"):
            olds = [old for r in results for old in r["counted"][kind]]
            unknown = sum(r["unknown"][kind] for r in results)
            assert len(olds) > 50 and changes > 10, (results, changes)
            assert len(set(olds)) == len(olds), "two steps found the same value: an effect was lost"
            assert max(olds) < words[kind]
            # Every value below the last was some step's; those that nobody confirmed had an unknown outcome, one effect at most.
            assert len(olds) <= words[kind] <= len(olds) + unknown, (kind, words, len(olds), unknown)
            assert unknown < len(olds) / 8, "too many outcomes are unknown for this to show anything"
            print(kind, changes, len(olds), unknown, words)
        assert any(r["refused"] for r in results), "the page never changed hands under a step"
    finally:
        first.close()
        second.close()
