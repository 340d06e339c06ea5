"""``make sanitize`` sees what it is for: an overflow in the runtime and a race in a program, both planted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fuzz.sanitize import ROOT, run_group

# Operation 0x20 of the test program looks up in the table that the packet names; nothing checks any more that there is one.
OVERFLOW = """
def test_overflow():
    check = "if (c->arg >= COUNT(tables)) break;"
    assert check in SOURCE
    with Switch(seed=1) as switch:
        switch.load(build_program(SOURCE.replace(check, ""), "testprog"))
        switch.inject(0, bytes([0x20, 200, 0, 0, 0, 0]))
"""
# The program counts in a variable of its own, which two switches share.
RACE = """
def test_race():
    source = SOURCE.replace("static void ingress(", "static int shared;\\nstatic void ingress(", 1)
    at = source.index("{", source.index("static void ingress(")) + 1
    shared_object = build_program(source[:at] + " shared++; " + source[at:], "testprog")
    with Switch(seed=1) as one, Switch(seed=2) as other:
        for switch in (one, other):
            switch.load(shared_object)
        start = threading.Barrier(2)
        def work(switch):
            start.wait()
            for _ in range(2000):
                switch.inject(0, bytes(8))
        threads = [threading.Thread(target=work, args=(s,)) for s in (one, other)]
        [t.start() for t in threads]
        [t.join() for t in threads]
"""
CLEAN = """
def test_clean():
    with Switch(seed=1) as switch:
        switch.load(build_program(SOURCE, "testprog"))
        switch.inject(0, bytes(64))
"""
HEAD = """
import threading
from pathlib import Path
from p4switch.dataplane.binding import Switch
from p4switch.dataplane.build import build_program
SOURCE = Path("tests/p4switch/dataplane/testprog.c").read_text()
"""
CASES = (
    ("address", CLEAN, None),
    ("address", OVERFLOW, "AddressSanitizer"),
    ("thread", CLEAN, None),
    ("thread", RACE, "data race"),
)


@pytest.mark.parametrize(("sanitizer", "body", "finding"), CASES, ids=["clean", "overflow", "clean threads", "race"])
def test_findings(tmp_path: Path, sanitizer: str, body: str, finding: str | None) -> None:
    path = tmp_path / "test_planted.py"
    path.write_text(HEAD + body)
    outcome = run_group("planted", sanitizer, [str(path), f"--rootdir={ROOT}"], timeout=400)  # type: ignore[arg-type]
    if finding is None:
        assert outcome.clean, outcome.output
        assert outcome.tests.startswith("1 passed")
    else:
        assert not outcome.clean, outcome.output
        assert outcome.status != 0
        assert any(finding in text for text in outcome.findings), outcome.output


def test_an_unknown_sanitizer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from p4switch.dataplane.build import chosen_sanitizer

    assert os.environ.get("P4SWITCH_SANITIZE") in (None, "address", "thread")
    monkeypatch.setenv("P4SWITCH_SANITIZE", "adress")
    with pytest.raises(ValueError, match="'adress': valid are address, thread"):
        chosen_sanitizer()
