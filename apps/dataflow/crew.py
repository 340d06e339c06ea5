"""Workers as whoever directs them sees them: processes elsewhere that take commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Caller(Protocol):
    """A worker's process, elsewhere."""

    name: str
    pid: int

    def start(self, do: str, **arguments: Any) -> None:
        """Give a command."""

    def finish(self) -> dict[str, Any]:
        """Wait for its answer."""

    def call(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Both."""


def connect(workers: Sequence[Caller], addresses: Sequence[str]) -> None:
    """Every worker to every other."""
    places = {
        worker.name: (address, worker.call("address")["port"], worker.pid)
        for worker, address in zip(workers, addresses, strict=True)
    }
    for worker in workers:
        worker.call("connect", peers={name: place for name, place in places.items() if name != worker.name})
