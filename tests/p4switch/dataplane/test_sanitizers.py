"""A short random stress of the runtime under the address, undefined behaviour and thread sanitizers (see stress.py).

``python -m p4switch.dataplane.build --sanitize`` makes the same build by hand.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from p4switch.dataplane.build import Sanitizer, build_runtime, sanitizer_preload

STRESS = Path(__file__).parent / "stress.py"
ROOT = STRESS.parents[3]
LINKS = "for n in 0 1; do ip link add sw$n type veth peer name eh$n; ip link set sw$n up; ip link set eh$n up; done; "


def run(sanitizer: Sanitizer, arguments: list[str], prefix: list[str]) -> None:
    build_runtime(sanitizer)
    environment = {
        **os.environ,
        "P4SWITCH_SANITIZE": sanitizer,
        "PYTHONPATH": str(ROOT),
        "PRELOAD": sanitizer_preload(sanitizer),
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter's own leaks
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    # setarch -R: the thread sanitizer of gcc 12 cannot cope with the address randomisation of some kernels.
    command = ["setarch", "-R", "env", *prefix, "sh", "-c", 'LD_PRELOAD="$PRELOAD" exec "$@"', "sh"]
    done = subprocess.run(
        [*command, sys.executable, str(STRESS), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}\n{done.stderr[-6000:]}"
    assert done.stdout.strip().endswith("done")
    assert "Sanitizer" not in done.stderr


def test_memory_and_undefined_behaviour() -> None:
    seed = random.randrange(1 << 30)
    run("address", ["single", str(seed), "4000"], [])


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
def test_data_races() -> None:
    seed = random.randrange(1 << 30)
    run("thread", ["threads", str(seed), "4"], ["unshare", "-n", "sh", "-c", LINKS + 'exec "$@"', "sh"])
