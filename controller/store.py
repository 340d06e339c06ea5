"""The durable store: the core's records in SQLite (write-ahead log). A plan's changes are one row of a journal, which is folded
into the records now and then: most of what an operation stores is gone when it is done, and whoever waits for it does not wait
for a row each."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from immutables import Map

from controller.core import layout, monitor
from controller.core.state import KINDS, Counters, State

SCHEMA_VERSION = 6
LONGEST_JOURNAL = 256  # commits
FOLDED_AT = 64  # commits: worth it, even if more may come soon


_Row = tuple[
    list[tuple[str, msgspec.Raw, msgspec.Raw]], msgspec.Raw
]  # (map, key, record or null), and the counters then


class StoreError(RuntimeError):
    """The store cannot be used; the message says why."""


def _locked(path: Path) -> int:
    """A descriptor that holds the lock on the store until it is closed; raises StoreError when another controller has it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise StoreError(
            f"{path.with_suffix('')} is in use by another controller (process {owner or 'unknown'})"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


class Store:
    """One SQLite file. Not thread-safe: it belongs to the thread that carries out plans."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = _locked(path.with_name(path.name + ".lock"))
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute(
                "PRAGMA locking_mode = EXCLUSIVE"
            )  # nobody else reads it: no locks to take for each commit
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            # Without row ids a record is in one tree instead of two: fewer pages to write, and to wait for.
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
            )
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS records (kind TEXT, key TEXT, value BLOB NOT NULL, PRIMARY KEY (kind, key))"
                " WITHOUT ROWID"
            )
            self._db.execute("CREATE TABLE IF NOT EXISTS journal (number INTEGER PRIMARY KEY, changes BLOB NOT NULL)")
            self._journalled = self._known = self._db.execute("SELECT count(*) FROM journal").fetchone()[0]
            version = self._meta("schema")
            if version is None:
                self._set_meta("schema", str(SCHEMA_VERSION))
            self._db.execute("PRAGMA synchronous = NORMAL")  # from here on, :meth:`sync` says when
            self._log = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        except sqlite3.Error as error:
            os.close(self._lock)
            raise StoreError(f"{path}: {error}") from None
        self._syncing = ThreadPoolExecutor(1, "sync")
        if version not in (None, str(SCHEMA_VERSION)):
            self.close()
            raise StoreError(f"{path} has schema {version}, this controller {SCHEMA_VERSION}")

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(sqlite3.Error):  # what is not folded now is folded when it is opened
            self.fold()
        self._syncing.shutdown()
        os.close(self._log)
        self._db.close()
        os.close(self._lock)

    def _meta(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def _set_meta(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def save(self, changes: Iterable[tuple[str, Any, Any]], counters: Counters) -> None:
        """Make the changes durable: (map, key, record or None). All survive the end of this process, however it ends."""
        row = msgspec.json.encode(([*changes], counters))
        self._db.execute("INSERT INTO journal (changes) VALUES (?)", (row,))
        self._journalled += 1
        if self._journalled >= LONGEST_JOURNAL:
            self.fold()

    def start_sync(self) -> Future[None]:
        """Bring all that was saved to the disk, in a thread of its own: when it is done, it survives the end of the machine, too.
        What has not been changed by ``fold`` since is in the log that SQLite writes ahead."""
        return self._syncing.submit(self.sync)

    def sync(self) -> None:
        """The same, now."""
        os.fdatasync(self._log)

    def tidy(self) -> None:
        """Called now and then: fold the journal if it has become long, or if nothing has been saved since the last call."""
        if self._journalled >= FOLDED_AT or self._journalled == self._known:
            self.fold()
        self._known = self._journalled

    def fold(self) -> None:
        """Bring the records up to date, and empty the journal. All or nothing."""
        if not self._journalled:
            return
        latest: dict[tuple[str, str], bytes | None] = {}
        counters = b""
        for (row,) in self._db.execute("SELECT changes FROM journal ORDER BY number").fetchall():
            changes, counters_then = msgspec.json.decode(row, type=_Row)
            counters = bytes(counters_then)
            for kind, key, record in changes:
                value = bytes(record)
                latest[kind, bytes(key).decode()] = None if value == b"null" else value
        gone = [name for name, value in latest.items() if value is None]
        there = [(*name, value) for name, value in latest.items() if value is not None]
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany("DELETE FROM records WHERE kind = ? AND key = ?", gone)
            self._db.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", there)
            self._set_meta("counters", counters.decode())
            self._db.execute("DELETE FROM journal")
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._journalled = self._known = 0

    def forget(self, kind: str) -> None:
        """Remove all records of a map."""
        self.fold()
        self._db.execute("DELETE FROM records WHERE kind = ?", (kind,))

    def load(self, state: State) -> State:
        """The stored state, over ``state`` (a new rack's); raises StoreError when it does not fit the rack."""
        self.fold()
        counters = self._meta("counters")
        if counters is None:
            return state
        maps: dict[str, Any] = {}
        for kind, record_type in KINDS.items():
            key_type: Any = tuple[int, int, int] if kind == "replies" else int
            rows = self._db.execute("SELECT key, value FROM records WHERE kind = ?", (kind,))
            maps[kind] = Map(
                (msgspec.json.decode(key, type=key_type), msgspec.json.decode(value, type=record_type))
                for key, value in rows
            )
        for number, element in maps["elements"].items():
            wired = state.elements.get(number)
            if wired is None or (wired.kind, wired.pages, wired.port) != (element.kind, element.pages, element.port):
                raise StoreError(f"{self.path} knows element {element.name} differently from the rack description")
        maps["elements"] = state.elements.update(maps["elements"])
        maps["allocations"] = layout.assembled(maps["allocations"], maps.pop("overrides").values())
        return monitor.complete(State(**maps, counters=msgspec.json.decode(counters, type=Counters)))
