"""What the relaunch experiment concludes from its rows."""

from __future__ import annotations

from experiments import relaunch
from experiments.framework.model import Row


def judged(**seconds: tuple[float, float]) -> dict[str, bool | None]:
    """By way ("timeout", "restart", "steal"): when it was decided, and when the task ended."""
    ways = dict(zip(("timeout", "restart", "steal"), relaunch.WAYS, strict=True))
    rows = [
        Row(
            {"way": ways[name], "timeout of the job, s": 10.0},
            {"from silence to the decision, s": told, "from silence to the end of the task, s": done},
        )
        for name, (told, done) in seconds.items()
    ]
    return {finding.claim: finding.held for finding in relaunch.judge(rows)}


def test_each_claim_is_judged_by_its_own_times() -> None:
    whole = {"monitor tells", "relaunched sooner", "resumed sooner"}
    assert whole == {claim.name for claim in relaunch.EXPERIMENT.claims}
    assert judged(timeout=(10, 12), restart=(0.6, 2), steal=(0.6, 1)) == dict.fromkeys(whole, True)
    slow_theft = judged(timeout=(10, 12), restart=(0.6, 2), steal=(0.6, 3))
    assert slow_theft == {"monitor tells": True, "relaunched sooner": True, "resumed sooner": False}
    late = judged(timeout=(1, 2), restart=(3, 4), steal=(3, 3.5))
    assert late == {"monitor tells": False, "relaunched sooner": False, "resumed sooner": True}


def test_without_a_restart_nothing_is_said_about_it() -> None:
    assert judged(timeout=(10, 12), steal=(0.6, 1)) == {"monitor tells": True, "relaunched sooner": True}
