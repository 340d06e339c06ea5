"""The durable store: the core's records in SQLite (write-ahead log). A plan's changes are one transaction."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from immutables import Map

from controller.core import layout, monitor
from controller.core.state import KINDS, Counters, State

SCHEMA_VERSION = 4


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
            self._db.execute("PRAGMA journal_mode = WAL")
            self._to_disk = True  # what ``PRAGMA synchronous`` says
            self._db.execute("PRAGMA synchronous = FULL")
            # Without row ids a record is in one tree instead of two: fewer pages to write, and to wait for.
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
            )
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS records (kind TEXT, key TEXT, value BLOB NOT NULL, PRIMARY KEY (kind, key))"
                " WITHOUT ROWID"
            )
            version = self._meta("schema")
        except sqlite3.Error as error:
            os.close(self._lock)
            raise StoreError(f"{path}: {error}") from None
        if version is None:
            self._set_meta("schema", str(SCHEMA_VERSION))
        elif version != str(SCHEMA_VERSION):
            self.close()
            raise StoreError(f"{path} has schema {version}, this controller {SCHEMA_VERSION}")

    def close(self) -> None:
        """Close the file."""
        self._db.close()
        os.close(self._lock)

    def _meta(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def _set_meta(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def save(self, changes: Iterable[tuple[str, Any, Any]], counters: Counters, to_disk: bool = True) -> None:
        """Make the changes durable: (map, key, record or None). All survive the end of this process, however it ends; those
        ``to_disk``, and all before them, survive the machine's, too."""
        if to_disk != self._to_disk:
            self._db.execute(f"PRAGMA synchronous = {'FULL' if to_disk else 'NORMAL'}")
            self._to_disk = to_disk
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for kind, key, record in changes:
                name = msgspec.json.encode(key).decode()
                if record is None:
                    self._db.execute("DELETE FROM records WHERE kind = ? AND key = ?", (kind, name))
                else:
                    value = msgspec.json.encode(record)
                    self._db.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (kind, name, value))
            self._set_meta("counters", msgspec.json.encode(counters).decode())
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    def forget(self, kind: str) -> None:
        """Remove all records of a map."""
        self._db.execute("DELETE FROM records WHERE kind = ?", (kind,))

    def load(self, state: State) -> State:
        """The stored state, over ``state`` (a new rack's); raises StoreError when it does not fit the rack."""
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
