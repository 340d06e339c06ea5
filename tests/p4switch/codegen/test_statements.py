"""Random programs of statements, calls, tables, headers and loops: the switch against what the specification says they mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p4switch import native
from p4switch.compiler.driver import compile_source
from p4switch.dataplane.binding import Switch
from tests.p4switch.codegen.random_programs import generate, packets

FEATURES = Path(__file__).parent.parent / "features"  # the skeleton is there


def check(seed: int, directory: Path, count: int) -> None:
    """Compare the program of a seed on ``count`` packets."""
    program = generate(seed)
    path = directory / f"{seed}.p4"
    path.write_text(program.text)
    shared_object = native.build(compile_source(path, [FEATURES]).program, optimise=False)
    with Switch(seed=1) as switch:
        switch.load(shared_object)
        for values, packet in packets(seed, count):
            (found,) = switch.process(0, packet)
            expected = program.expected(values)
            if found.data != expected:
                pytest.fail(
                    f"seed {seed} with {values}:\n{found.data.hex()}, expected\n{expected.hex()} by\n{program.text}"
                )


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_programs_do_what_they_mean(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    check(seed, tmp_path_factory.mktemp("random"), count=40)
