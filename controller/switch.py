"""What the controller needs of a switch. ``controller.p4rt.SwitchClient`` is one; tests have others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from controller.core.entries import Entry, Write


class SwitchError(RuntimeError):
    """The switch cannot be reached or refused something; the message says what."""


class Deposed(SwitchError):
    """Another controller has taken charge of the switch: this one must not compete with it."""


class Switch(Protocol):
    """A switch that runs the Rack MMU's program. Every method but ``packet_out`` and ``close`` may raise SwitchError."""

    address: str

    @property
    def is_connected(self) -> bool:
        """Whether the connection is up and this controller is in charge."""

    def connect(self, timeout: float = 30.0) -> None:
        """Connect, or connect again, and take charge."""

    def close(self) -> None:
        """End the connection."""

    def has_pipeline(self) -> bool:
        """Whether the switch runs the program already."""

    def push_pipeline(self) -> None:
        """Install the program; the tables are empty then."""

    def subscribe_digest(self, name: str) -> None:
        """Have digests of this name sent."""

    def read_entries(self) -> list[Entry]:
        """All entries of the controller's tables."""

    def write(self, writes: Iterable[Write]) -> None:
        """Change the tables, in this order."""

    def packet_out(self, port: int, frame: bytes) -> None:
        """Send a frame out of a port; it is lost when there is no connection."""

    def read_counter(self, name: str, cells: Iterable[int] | None = None) -> dict[int, tuple[int, int]]:
        """Cells of a counter, all or these, that are not zero: (packets, bytes)."""

    def read_direct_counter(self, table: str) -> list[tuple[Entry, int, int]]:
        """Entries of a table with packets and bytes."""
