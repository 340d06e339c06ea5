"""What a local OS writes down of its processes, so that the one after it can take them over: a JSON file for each."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hosts.notices import Contact

CLOSED = ".closed"  # a process that closes leaves a file with this ending, should its local OS not live to read it


@dataclass(frozen=True)
class ProcessRecord:
    """A process. ``unix_pid`` and ``started`` (clock ticks after boot, from /proc) name its Unix process for good."""

    pid: int
    unix_pid: int
    started: int
    name: str = ""
    sigbus: bool = False
    contacts: tuple[Contact, ...] = ()
    closed: bool = False  # its end is known and is to be reported

    @property
    def is_alive(self) -> bool:
        """Whether its Unix process is the one that it was."""
        return not self.closed and start_of(self.unix_pid) == self.started


def start_of(unix_pid: int) -> int:
    """When a Unix process was started, in clock ticks after boot; 0 when there is none, or it has ended (a zombie)."""
    try:
        fields = Path(f"/proc/{unix_pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


class Records:
    """The files, in a directory of the local OS's own."""

    def __init__(self, directory: Path):
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def write(self, record: ProcessRecord) -> None:
        """Write or replace, whole or not at all."""
        path = self._directory / str(record.pid)
        if not path.exists():  # a process that had this pid before may have left word too late
            path.with_suffix(CLOSED).unlink(missing_ok=True)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(record)))
        new.replace(path)

    def remove(self, pid: int) -> None:
        """The process has ended, and the controller knows."""
        (self._directory / str(pid)).unlink(missing_ok=True)
        (self._directory / f"{pid}{CLOSED}").unlink(missing_ok=True)

    def is_marked(self, pid: int) -> bool:
        """Whether the process has closed."""
        return (self._directory / f"{pid}{CLOSED}").exists()

    def load(self) -> Iterator[ProcessRecord]:
        """All of them. What cannot be read is left out: the controller is asked, too."""
        for path in sorted(self._directory.glob("[0-9]*")):
            if path.suffix == "":
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    fields: dict[str, Any] = json.loads(path.read_text())
                    contacts = tuple(Contact(c["host"], c["port"]) for c in fields.pop("contacts"))
                    record = ProcessRecord(**fields, contacts=contacts)
                    yield replace(record, closed=record.closed or self.is_marked(record.pid))
