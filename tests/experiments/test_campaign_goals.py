"""A campaign ends when it has done what it is for, and says what it has not."""

from __future__ import annotations

import pytest

from experiments.campaign_check import persist
from experiments.campaign_goals import Goals, in_short

CRASHES = ("controller", "NVM element")
AFTER = dict.fromkeys(("revoked", "fenced", "freed", "granted", "stolen", "lost long ago"), 10)
CHANGES = ("allocations", "revoked", "freed", "freed by the API", "migrated", "granted", "stolen", "fences")
INTRUDER = ("granted by the intruder", "stolen from the intruder")
ACTIONS = dict.fromkeys((*CHANGES, *INTRUDER, *(f"crashes of a {what}" for what in CRASHES)), 1)
LATE = {"answered": 60, "accepted": 0} | {
    f"{kind} {answer}": 5
    for kind in ("WRITE", "CAS", "FETCH_ADD")
    for answer in ("PERMISSION switch", "UNMAPPED switch", "FENCED switch", "STALE_GENERATION element")
}


def test_all_has_come_about() -> None:
    assert Goals(60, CRASHES).to_do(LATE, AFTER, ACTIONS) == []
    assert Goals(60, CRASHES).to_see(500, 1, {"", "PermissionDenied", "Fenced", "Unmapped"}) == []


def test_nothing_has() -> None:
    assert len(Goals(60, CRASHES).to_do({}, {}, {})) == 1 + 12 + len(ACTIONS) + len(AFTER)
    assert len(Goals(60, CRASHES).to_see(0, 0, set())) == 5


@pytest.mark.parametrize("name", [*AFTER, *ACTIONS, *(k for k in LATE if k not in ("accepted", "answered"))])
def test_one_thing_has_not(name: str) -> None:
    without = [{k: n for k, n in counts.items() if k != name} for counts in (LATE, AFTER, ACTIONS)]
    missing = Goals(60, CRASHES).to_do(*without)
    assert missing
    assert all(name.removeprefix("crashes of a ") in text for text in missing)


def test_what_cannot_come_about_is_not_waited_for() -> None:
    alone = {k: n for k, n in ACTIONS.items() if k not in ("granted", "stolen") and "crashes" not in k}
    assert Goals(60, several_players=False).to_do(LATE, AFTER, alone) == []
    assert Goals(60, retries=False).to_see(500, 0, {"", "PermissionDenied", "Fenced"}) == []


def test_few_late_writes_and_operations() -> None:
    assert Goals(100).to_do(LATE, AFTER, ACTIONS) == ["40 of 100 late writes"]
    assert Goals(0).to_see(499, 1, {"", "PermissionDenied", "Fenced"}) == ["1 of 500 operations"]


def test_in_short() -> None:
    assert in_short(["a", "b"]) == "a; b"
    assert in_short(["a", "b", "c"], at_most=2) == "a; b; and 1 more"


def test_attempts_until_enough_are_answered() -> None:
    asked = []

    def attempt(missing: int) -> dict[str, int]:
        asked.append(missing)
        return {"answered": 4}

    persist(attempt, 10, "attempts")
    assert asked == [10, 6, 2]


def test_nothing_is_ever_answered() -> None:
    with pytest.raises(TimeoutError, match=r"10 of 10 attempts were not answered in 0 s"):
        persist(lambda missing: {"answered": 0}, 10, "attempts", longest=0.01)
