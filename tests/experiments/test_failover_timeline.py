"""What a failure cost, from moments."""

from __future__ import annotations

import pytest

from experiments.failover_timeline import Event, Gap, first, of_controller, outage, show, stages, usual_gap


def test_the_longest_time_without_an_answer_counts_from_the_failure_on() -> None:
    answers = [1.0, 0.5, 1.5, 2.0, 4.5, 4.6, 5.6]
    assert outage(answers, 2.2, 5.7) == Gap(2.2, 4.5)
    assert outage(answers, 4.0, 5.7) == Gap(4.6, 5.6), "a later gap may be the longest"
    assert outage(answers, 0.0, 5.7).seconds == 2.5
    assert usual_gap(answers, 4.55) == 2.5
    assert usual_gap(answers, 2.2) == 0.5
    assert usual_gap([], 1.0) == 0.0


@pytest.mark.parametrize("answers", [[], [1.0], [1.0, 2.0]])
def test_a_service_that_does_not_come_back(answers: list[float]) -> None:
    with pytest.raises(ValueError, match="no operation was answered"):
        outage(answers, 3.0, 9.0)


def test_silence_at_the_end_counts() -> None:
    assert outage([1.0, 2.0, 2.1], 1.5, 4.0) == Gap(2.1, 4.0)


def test_stages_are_what_was_still_to_wait_for() -> None:
    known = {"detected": 1.5, "elected": 1.2, "unknown": None, "transferred": 4.0}
    assert stages(1.0, known) == {"detected": 0.5, "elected": 0.0, "transferred": 2.5}


def test_events_are_found_and_shown() -> None:
    told = [{"id": 1, "time": 100.0, "event": "fenced", "element": 1}, {"id": 2, "time": 101.0, "event": "stolen"}]
    events = [*of_controller(told, -90.0, "rack 1"), Event(10.5, "replica 2", "elected")]
    assert first(events, 9.0, "fenced") == 10.0
    assert first(events, 10.1, "fenced") is None
    assert first(events, 0.0, "element=", "fenced") == 10.0
    assert show(events, 10.0).splitlines()[1].split() == ["500.0", "ms", "replica", "2:", "elected"]
