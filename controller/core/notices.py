"""Notices: what processes must hear of. They are durable, and repeated until the local OS of the process has taken them."""

from __future__ import annotations

from controller.core.draft import Draft
from controller.core.events import Notify
from controller.core.state import Notice
from protocol.wire import NotifyCode


def notify(
    draft: Draft, pid: int, code: NotifyCode, about: int = 0, va: int = 0, pages: int = 0, group: int = 0
) -> None:
    """Tell a process, if there is one. ``about`` is the element concerned, or another process."""
    process = draft.state.processes.get(pid)
    if process is not None:
        notice = Notice(draft.new_id(), process.element, pid, int(code), about, va, pages, group)
        draft.put("notices", notice.id, notice)
        draft.do(Notify(notice))


def acknowledge(draft: Draft, element: int, number: int) -> None:
    """A local OS has taken a notice; that of another element is none of its business."""
    notice = draft.state.notices.get(number)
    if notice is not None and notice.element == element:
        draft.remove("notices", number)


def forget(draft: Draft, pid: int) -> None:
    """The process has ended."""
    for notice in list(draft.state.notices.values()):
        if notice.pid == pid:
            draft.remove("notices", notice.id)
