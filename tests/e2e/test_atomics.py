"""CAS and FETCH_ADD take effect at most once on a live rack: frames are lost, copied and late; pages change hands and place."""

from __future__ import annotations

import time

import pytest

from experiments.workers import Worker
from topologies.launch import RackLauncher

PAGE = 4096
FAULTS = "loss=0.05,copies=0.3,late=0.2,delay=0.02"
SECONDS = 6.0


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
        changes, ends = 0, time.monotonic() + SECONDS
        while time.monotonic() < ends:
            owner = (second, first)[changes % 2]
            rack.post("/v1/grant", {"va": va, "to": owner.pid})
            changes += 1
            for _ in range(2):  # under its owner
                time.sleep(0.1)
                rack.post("/v1/migrate", {"va": va, "pages": 1})
            time.sleep(0.1)
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
