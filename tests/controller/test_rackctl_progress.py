"""The line that ``rackctl`` shows on a terminal while it waits."""

from __future__ import annotations

import io
import threading
import time
from typing import Any

import pytest

from controller.rackctl_client import CliError
from controller.rackctl_progress import far, shown
from protocol.wire import PAGE_SIZE

VA = 1 << 48


class Screen(io.StringIO):
    """A stream that is a terminal, or not."""

    def __init__(self, terminal: bool):
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def operation(kind: str, va: int = VA, pages: int = 16, moved: int = 0, waiting: int = 0) -> dict[str, Any]:
    return {"kind": kind, "va": va, "pages": pages, "moved": moved, "waiting": waiting}


@pytest.mark.parametrize(
    ("under_way", "text"),
    [
        ([], ""),
        ([operation("migrate", moved=4, waiting=1)], "4 of 16 pages moved"),
        ([operation("revoke", waiting=2)], "revoke: 2 acknowledgements to come"),
        ([operation("free", waiting=1)], "free: 1 acknowledgement to come"),
        ([operation("grant")], ""),
        ([operation("revoke", va=VA + 16 * PAGE_SIZE, waiting=2)], ""),
        ([operation("migrate", va=VA - 16 * PAGE_SIZE)], ""),
        ([operation("migrate", va=VA - 15 * PAGE_SIZE)], "0 of 16 pages moved"),
        ([operation("fence", va=VA, waiting=3)], ""),
    ],
)
def test_how_far(under_way: list[dict[str, Any]], text: str) -> None:
    assert far(under_way, VA, 16) == text


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)


def wait_for(screen: Screen, text: str) -> None:
    deadline = time.monotonic() + 30
    while text not in screen.getvalue():
        assert time.monotonic() < deadline, f"{text!r} is not in {screen.getvalue()!r}"
        time.sleep(0.01)


def test_it_is_shown_on_a_terminal_and_removed() -> None:
    screen = Screen(terminal=True)
    with shown(lambda: "2 of 4 pages moved", screen, first=0.0, every=0.01):
        wait_for(screen, "2 of 4 pages moved (")
    assert "\x1b[2K" in screen.getvalue().rpartition("moved")[2]  # the line is empty again


def test_who_may_not_see_what_is_under_way_sees_the_time() -> None:
    screen, times = Screen(terminal=True), []

    def ask() -> str:
        times.append(1)
        raise CliError("refused (forbidden)")

    with shown(ask, screen, first=0.0, every=0.01):
        wait_for(screen, "under way (1 s)")
    assert len(times) == 1


def test_nothing_is_asked_without_a_terminal_nor_of_what_is_over_soon() -> None:
    def ask() -> str:
        raise AssertionError

    for screen, first in ((Screen(terminal=False), 0.0), (Screen(terminal=True), 3600.0)):
        with shown(ask, screen, first=first):
            pass
        assert screen.getvalue() == ""


def test_a_refusal_ends_the_line() -> None:
    screen = Screen(terminal=True)
    with pytest.raises(CliError), shown(lambda: "", screen, first=0.0):
        raise CliError("refused")
    assert "progress" not in {thread.name for thread in threading.enumerate()}
