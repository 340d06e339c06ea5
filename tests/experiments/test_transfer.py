"""What the experiment with single transfers concludes from rows."""

from __future__ import annotations

from experiments.framework.model import Row, Traffic
from experiments.transfer import EXPERIMENT, VERIFY, judge


def moved(way: str, size: int, ms: float, mib: float, trips: float) -> Row:
    values = {"ms": ms, "MiB on the interconnect": mib}
    return Row({"way": way, "KiB": size}, values, {"interconnect": Traffic(trips)})


def verified(how: str, ms: float, mib: float) -> Row:
    return Row({"checksums": how, "KiB": 64}, {"verify ms": ms, "MiB to verify": mib})


MOVED = [
    *(moved("transparent", size, ms, size / 256, 3) for size, ms in ((4, 2.0), (64, 20.0))),
    *(moved("direct", size, 1.0, 0.0, 1) for size in (4, 64)),
    *(moved("grant", size, 5.0, 0.001, 2) for size in (4, 64)),
]


def test_checksums_are_judged_by_bytes_and_by_time() -> None:
    near, by_reading = VERIFY
    found = {f.claim: f.held for f in judge([*MOVED, verified(near, 9.0, 0.1), verified(by_reading, 8.0, 2.0)])}
    assert found["checksums move less"]
    assert not found["checksums are faster"]
    found = {f.claim: f.held for f in judge([*MOVED, verified(near, 4.0, 1.0), verified(by_reading, 8.0, 2.0)])}
    assert not found["checksums move less"]
    assert found["checksums are faster"]
    assert set(found) == {claim.name for claim in EXPERIMENT.claims}


def test_without_verification_nothing_is_said_about_it() -> None:
    found = {f.claim: f for f in judge(MOVED)}
    assert "checksums move less" not in found
    assert found["faster"].text.endswith("from 64 KiB on")
    assert found["one round trip"].held
