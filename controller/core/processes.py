"""The end of a process: what it had, what waits for it, and who stands by for it."""

from __future__ import annotations

from controller.core import addresses, answers, memory, notices, standby
from controller.core.draft import Draft


def end(draft: Draft, pid: int, crashed: bool) -> None:
    """A process has ended. Its element speaks for it no longer; what its group may steal is kept when it ``crashed``."""
    process = draft.state.processes[pid]
    draft.remove("processes", pid)
    notices.forget(draft, pid)
    answers.forget_speaker(draft, process.element, pid)
    memory.free_of(draft, pid, crashed)
    addresses.release(draft, pid, crashed)
    draft.publish("process_crashed" if crashed else "process_exited", pid=pid, name=process.name)
    standby.ended(draft, pid, crashed)
