"""The options of campaigns."""

from __future__ import annotations

import pytest

from experiments.campaign import parse_arguments


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--seconds", "0"], "--seconds and --players are above 0"),
        (["--players", "0"], "--seconds and --players are above 0"),
        (["--late", "-1"], "--late is not negative"),
        (["--slices", "0"], "at least one slice"),
        (["--revocations", "1", "--slices", "2"], "at least one revocation in each"),
        (["--rate", "0"], "--rate is above 0"),
        (["--pause", "-1"], "--pause is not negative"),
        (["--loss", "2"], "probabilities are 0 to 1"),
        (["--crash-every", "-1"], "--crash-every is not negative"),
        (["--seconds", "9", "--longest", "8"], "--longest not below --seconds"),
        (["--delay", "-1"], "a delay is not negative"),
    ],
)
def test_options_that_make_no_sense(options: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(options)
    assert ended.value.code == 2
    assert text in capsys.readouterr().err


def test_faults_are_described_as_links_understand_them() -> None:
    assert parse_arguments(["--loss", "0.1"]).faults == "loss=0.1,copies=0.03,late=0.1,delay=0.02"
