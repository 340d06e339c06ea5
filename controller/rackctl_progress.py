"""How far a request is, in a line on standard error, if that is a terminal, while ``rackctl`` waits for the answer."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from rich.console import Console

from controller.rackctl_client import Client, CliError, many
from protocol.wire import PAGE_SIZE

FIRST = 1.0  # seconds without an answer before anything is shown
EVERY = 0.5  # seconds between looks
# Of other kinds what stands in the place of an address may be none.
_OF_MEMORY = ("free", "free-part", "revoke", "grant", "steal", "protect", "migrate", "migrate-back", "vacate")


def far(operations: list[dict[str, Any]], va: int, pages: int) -> str:
    """How far what is done to these pages (0: to the allocation at ``va``) is, of what the API says is under way; "" when that is
    none of it."""
    end = va + max(pages, 1) * PAGE_SIZE
    told = []
    for one in operations:
        if one["kind"] not in _OF_MEMORY or not (one["va"] < end and va < one["va"] + max(one["pages"], 1) * PAGE_SIZE):
            continue
        if one["kind"] == "migrate":
            told.append(f"{one['moved']} of {many(one['pages'], 'page')} moved")
        elif one["waiting"]:
            told.append(f"{one['kind']}: {many(one['waiting'], 'acknowledgement')} to come")
    return ", ".join(told)


def of_pages(client: Client, va: int, pages: int) -> Callable[[], str]:
    """Asks how far what is done to pages is. Raises CliError."""
    return lambda: far(client.call("GET", "/v1/operations")["operations"], va, pages)


def of_drain(client: Client, name: str) -> Callable[[], str]:
    """Asks how much a memory element holds still. Raises CliError."""

    def ask() -> str:
        for element in client.call("GET", "/v1/elements")["elements"]:
            if element["name"] == name:
                return f"{many(element['pages'] - element['free_pages'], 'page')} of {name} in use still"
        return ""

    return ask


@contextlib.contextmanager
def shown(
    ask: Callable[[], str], stream: TextIO | None = None, first: float = FIRST, every: float = EVERY
) -> Iterator[None]:
    """While this lasts, show on a terminal what ``ask`` says and for how long it has lasted. Where that is refused (a process may
    not see what is under way), or nobody answers, the time alone."""
    stream = stream or sys.stderr
    if not stream.isatty():
        yield
        return
    over, begun = threading.Event(), time.monotonic()

    def watch() -> None:
        if over.wait(first):
            return
        asking = True
        with Console(file=stream).status("under way") as line:
            while not over.is_set():
                text = ""
                if asking:
                    try:
                        text = ask()
                    except CliError:
                        asking = False
                line.update(f"{text or 'under way'} ({time.monotonic() - begun:.0f} s)")
                over.wait(every)

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(1)  # it may wait for an answer that does not come
