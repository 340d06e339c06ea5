"""Run with the address and undefined behaviour sanitizers preloaded: programs, their .stf scripts, and random packets.

``python sanitized_run.py ROUNDS PROG.p4...``; the sanitizers end the process with an error at the first finding.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from p4switch import native
from p4switch.compiler.driver import compile_source
from p4switch.dataplane.binding import Switch
from p4switch.stf import run_script

CPU_PORT = 64


def main() -> None:
    rounds, rng = int(sys.argv[1]), random.Random(20)
    for path in map(Path, sys.argv[2:]):
        program = compile_source(path).program
        with Switch(cpu_port=CPU_PORT, seed=1) as switch:
            switch.load(native.build(program, sanitize="address"))
            script = path.with_suffix(".stf")
            failures = run_script(switch, script.read_text()) if script.exists() else []
            if failures:
                sys.exit(f"{path}: {failures[0]}")
            for _ in range(rounds):
                # Short packets are cut somewhere in their headers; small bytes take the branches that programs test for.
                size = rng.choice((rng.randint(0, 80), rng.randint(0, 12), rng.randint(0, 1500)))
                top = rng.choice((255, 255, 4))
                switch.process(rng.choice((0, 1, CPU_PORT)), bytes(rng.randint(0, top) for _ in range(size)))
                while switch.event(0) is not None:
                    pass
        print(path.stem)


if __name__ == "__main__":
    main()
