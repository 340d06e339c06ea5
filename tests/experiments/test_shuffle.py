"""What the shuffle experiment concludes from its rows."""

from __future__ import annotations

from experiments import shuffle
from experiments.framework.model import Finding, Row


def rows(parcel: float, size: float, copied: float, granted: float) -> list[Row]:
    """A case with its three ways: seconds of shuffle and job, MiB as many times ten."""
    times = {"transparent": copied, "direct": 1.0, "grant": granted}
    data = (shuffle.IN_SHUFFLE, shuffle.UNTIL_READ, shuffle.IN_JOB)
    return [
        Row(
            {"job": "sort", "MiB": size, "workers": 4, "way": way},
            {"shuffle, s": took, "job, s": took, shuffle.PARCEL: parcel, **dict.fromkeys(data, 10 * took)},
        )
        for way, took in times.items()
    ]


def judged(given: list[Row]) -> dict[str, Finding]:
    found = {finding.claim: finding for finding in shuffle.judge(given)}
    assert set(found) == {claim.name for claim in shuffle.EXPERIMENT.claims}
    return found


def test_the_crossover_is_behind_the_largest_parcel_with_which_a_grant_is_slower() -> None:
    given = [*rows(400, 6, 8, 1), *rows(25, 1, 2, 1), *rows(100, 4, 4, 1), *rows(50, 2, 1, 2)]
    found = judged(given)["faster from the crossover on"]
    assert found.held
    assert found.text.startswith("parcels of 100 KiB and more")
    assert "sort of 1 MiB" not in found.text, "faster by chance"
    assert judged(given)["faster at any size"].held is False
    assert "sort of 2 MiB" in judged(given)["faster at any size"].text


def test_without_a_crossover_nothing_is_faster() -> None:
    found = judged([*rows(25, 1, 2, 1), *rows(50, 2, 1, 2)])
    assert found["faster from the crossover on"].held is False
    assert "50 KiB" in found["faster from the crossover on"].text


def test_three_times_less_is_asked_of_every_case() -> None:
    assert judged([*rows(25, 1, 4, 1), *rows(50, 2, 3, 1)])["less data in the shuffle"].held
    short = judged([*rows(25, 1, 4, 1), *rows(50, 2, 2.9, 1)])["less data in the shuffle"]
    assert short.held is False
    assert short.text.endswith("to sort of 1 MiB on 4 (parcels of 25 KiB): 4")
