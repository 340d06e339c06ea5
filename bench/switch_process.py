"""The measured switch: loads a workload's program, fills its tables, serves two interfaces until it is terminated.

``python -m bench.switch_process WORKLOAD LEFT RIGHT BUSY_POLL_US``; prints ``ready``.
"""

from __future__ import annotations

import signal
import sys

from bench import workload
from p4switch import native
from p4switch.compiler.driver import compile_source
from p4switch.dataplane.binding import Code, Switch

CPU_PORT = 510


def loaded_switch(work: workload.Workload) -> Switch:
    """A switch with the workload's program and entries, without ports."""
    switch = Switch(cpu_port=CPU_PORT)
    layout = switch.load(native.build(compile_source(work.program).program))
    results = switch.apply(workload.updates(layout, work.rows))
    refused = sum(r.code != Code.OK for r in results)
    if refused:
        raise RuntimeError(f"{refused} of {len(results)} entries of {work.name} were refused")
    return switch


def main() -> None:
    """Serve until SIGTERM."""
    name, left, right, busy_poll = sys.argv[1:]
    with loaded_switch(workload.WORKLOADS[name]()) as switch:
        switch.add_port(workload.LEFT_PORT, left)
        switch.add_port(workload.RIGHT_PORT, right)
        switch.busy_poll(int(busy_poll))
        switch.start()
        signals = {signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        print("ready", flush=True)
        signal.sigwait(signals)


if __name__ == "__main__":
    main()
