"""A process on a compute element, driven by an experiment: reads JSON commands, one a line, and answers each with one line.

Run inside the element's network namespace by :class:`experiments.workers.Worker`. Everything it does to remote memory goes
through the public process API, as any application's would.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hosts.process import Process, Region, RemoteMemoryError, RetryPolicy
from protocol import capability, wire
from protocol.wire import PAGE_SIZE, Perm

CHUNK = 256 * 1024  # bytes of file moved by one call of the process API


class Worker:
    """The commands; each method named ``do_X`` serves ``{"do": "X", ...}``."""

    def __init__(self, process: Process):
        self.process = process
        self.notices: list[dict[str, Any]] = []
        self._background: threading.Thread | None = None
        self._outcome: dict[str, Any] = {}
        self._stop = threading.Event()
        self.takeovers: list[dict[str, Any]] = []
        process.on_takeover(lambda told: self.takeovers.append({"at": time.time(), **dataclasses.asdict(told)}))
        process.on_failure(lambda notice: self.notices.append({"at": time.time(), "notice": str(notice)}))

    def do_alloc(self, size: int, group: int = 0) -> dict[str, Any]:
        """Allocate ``size`` bytes."""
        region = self.process.alloc(size, group=group)
        return {"va": region.va, "size": region.size}

    def do_try_alloc(self, size: int) -> dict[str, Any]:
        """Allocate, or the typed error that it met."""
        return self._timed(lambda: self.process.alloc(size))

    def do_load(self, va: int, path: str, limit: int | None = None) -> dict[str, Any]:
        """Copy a file into remote memory; its SHA-256 is of the bytes read from the file."""
        digest, offset, started = hashlib.sha256(), 0, time.perf_counter()
        with Path(path).open("rb") as file:
            while chunk := file.read(CHUNK if limit is None else min(CHUNK, limit - offset)):
                self.process.write(va + offset, chunk)
                digest.update(chunk)
                offset += len(chunk)
        return {"bytes": offset, "sha256": digest.hexdigest(), "seconds": time.perf_counter() - started}

    def do_hash(self, va: int, size: int) -> dict[str, Any]:
        """Read remote memory back and hash it."""
        digest, started = hashlib.sha256(), time.perf_counter()
        for offset in range(0, size, CHUNK):
            digest.update(self.process.read(va + offset, min(CHUNK, size - offset)))
        return {"bytes": size, "sha256": digest.hexdigest(), "seconds": time.perf_counter() - started}

    def do_mixed(self, va: int, size: int, operations: int, seed: int) -> dict[str, Any]:
        """Random reads, writes, CAS and FETCH_ADD, each checked against a local copy of what the memory must hold."""
        rng, model = random.Random(seed), bytearray(size)
        self.process.write(va, bytes(size))
        for i in range(operations):
            kind = rng.choice(("write", "read", "cas", "add"))
            if kind in ("cas", "add"):
                offset = rng.randrange(size // 8) * 8
                old = int.from_bytes(model[offset : offset + 8], "big")
                if kind == "add":
                    addend = rng.getrandbits(64)
                    seen, new = self.process.fetch_add(va + offset, addend), (old + addend) % (1 << 64)
                else:
                    new = rng.getrandbits(64)
                    expected = old if rng.random() < 0.5 else old ^ 1
                    seen = self.process.cas(va + offset, expected, new)
                    new = new if expected == old else old
                if seen != old:
                    return {"ok": False, "at": i, "error": f"{kind} at +{offset} saw {seen:#x}, expected {old:#x}"}
                model[offset : offset + 8] = new.to_bytes(8, "big")
                continue
            length = rng.choice((1, 64, 1000, 4096, 9000))
            offset = rng.randrange(size - length)
            if kind == "write":
                data = rng.randbytes(length)
                self.process.write(va + offset, data)
                model[offset : offset + length] = data
            elif self.process.read(va + offset, length) != model[offset : offset + length]:
                return {"ok": False, "at": i, "error": f"read of {length} bytes at +{offset} differs from the model"}
        return {"ok": True, "operations": operations, "sha256": hashlib.sha256(model).hexdigest()}

    def do_latency(self, va: int, rounds: int) -> dict[str, Any]:
        """Round-trip times in microseconds of single-request reads and writes of 64 B and 4 KiB, one at a time."""
        samples: dict[str, list[float]] = {}
        data = {64: bytes(64), wire.PAGE_SIZE: bytes(wire.PAGE_SIZE)}
        for size in data:
            reads = samples[f"read {size}"] = []
            writes = samples[f"write {size}"] = []
            for _ in range(rounds):
                start = time.perf_counter()
                self.process.write(va, data[size])
                middle = time.perf_counter()
                self.process.read(va, size)
                writes.append((middle - start) * 1e6)
                reads.append((time.perf_counter() - middle) * 1e6)
        return {"samples": samples}

    def do_access(self, va: int, write: bool = False, size: int = 64) -> dict[str, Any]:
        """One access: OK, or the typed error that it met."""
        return self._timed(lambda: self.process.write(va, bytes(size)) if write else self.process.read(va, size))

    def do_write_until_refused(self, va: int, limit: float) -> dict[str, Any]:
        """Start writing a page without pause, in the background, until it is refused or ``limit`` seconds have passed. It has
        been written, or refused, when this returns."""
        self._stop.clear()
        self._outcome = {}
        begun = threading.Event()

        def write() -> None:
            done, last, ends = 0, time.time(), time.monotonic() + limit
            try:
                while not self._stop.is_set() and time.monotonic() < ends:
                    self.process.write(va, done.to_bytes(64, "big"))
                    done, last = done + 1, time.time()
                    begun.set()
                self._outcome = {"refused": False, "writes": done, "last_ok": last}
            except RemoteMemoryError as error:
                self._outcome = {"refused": True, "writes": done, "last_ok": last, "at": time.time(), **describe(error)}
            finally:
                begun.set()

        self._background = threading.Thread(target=write, daemon=True)
        self._background.start()
        begun.wait()
        return {}

    def do_join(self) -> dict[str, Any]:
        """Wait for the background writer to end by itself."""
        assert self._background is not None
        self._background.join()
        return self._outcome

    def do_notices(self) -> dict[str, Any]:
        """The failure notices that arrived so far."""
        return {"notices": self.notices}

    def do_free(self, va: int, size: int | None = None) -> dict[str, Any]:
        """Free memory (without a size: the whole allocation)."""
        return self._timed(lambda: self.process.free(va, size))

    def do_grant(self, va: int, pages: int, to: int) -> dict[str, Any]:
        """Give pages to another process."""
        return self._timed(lambda: self.process.grant(Region(va, pages * PAGE_SIZE), to))

    def do_steal(self, va: int, pages: int, source: int, group: int, secret: str) -> dict[str, Any]:
        """Take pages of another process by the secret of their group (hex)."""
        token = capability.mint(bytes.fromhex(secret), group, self.process.pid, int(time.time()) + 60)
        return self._timed(lambda: self.process.steal(Region(va, pages * PAGE_SIZE), source, token, group))

    def do_watch(self, group: int, secret: str, source: int = 0) -> dict[str, Any]:
        """Stand by for another process (0: all of the group), by the secret of their group (hex)."""
        token = capability.mint(bytes.fromhex(secret), group, self.process.pid, int(time.time()) + 60)
        return {"watch": self.process.watch(group, token, source)}

    def do_takeovers(self) -> dict[str, Any]:
        """Of whom this process has been told that it is cut off, and what may be stolen."""
        return {"takeovers": self.takeovers}

    def do_protect(self, va: int, pages: int, permissions: int) -> dict[str, Any]:
        """Change what this process may do with pages of its own."""
        return self._timed(lambda: self.process.protect(Region(va, pages * PAGE_SIZE), Perm(permissions)))

    def do_migrate(self, va: int, pages: int, target: int = 0) -> dict[str, Any]:
        """Move pages of this process to another memory element."""
        return self._timed(lambda: self.process.migrate(Region(va, pages * PAGE_SIZE), target))

    def do_change(self, what: str, va: int, size: int, **arguments: Any) -> dict[str, Any]:
        """A change of a range of memory by its name in the process API, or the typed error that it met. A ``secret`` becomes a
        token of the group."""
        if "secret" in arguments:
            secret, expires = bytes.fromhex(arguments.pop("secret")), int(time.time()) + arguments.pop("life", 60)
            arguments["capability_"] = capability.mint(secret, arguments["group"], self.process.pid, expires)
        change = getattr(self.process, what)
        return self._timed(lambda: change(Region(va, size), **arguments))

    def do_fence(self, element: str, token: str, fenced: bool) -> dict[str, Any]:
        """Fence an element off, or let it in again."""
        change = self.process.fence if fenced else self.process.unfence
        return self._timed(lambda: change(element, token))

    def do_stat(self, va: int) -> dict[str, Any]:
        """What is at an address."""
        return dataclasses.asdict(self.process.stat(va))

    def do_statistics(self) -> dict[str, Any]:
        """Operations and bytes so far, as the process API counts them."""
        return self.process.statistics()

    @staticmethod
    def _timed(access: Callable[[], object]) -> dict[str, Any]:
        start = time.perf_counter()
        try:
            access()
        except RemoteMemoryError as error:
            return {"refused": True, "ms": (time.perf_counter() - start) * 1e3, **describe(error)}
        return {"refused": False, "ms": (time.perf_counter() - start) * 1e3}


def describe(error: RemoteMemoryError) -> dict[str, Any]:
    """An error as data."""
    return {"error": type(error).__name__, "by": error.by, "text": str(error)}


def options(description: str | None) -> argparse.ArgumentParser:
    """The options of every program that :class:`experiments.workers.Worker` runs."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--run-dir", required=True, help="the run directory of this compute element's local OS")
    parser.add_argument("--name", required=True, help="name of the process")
    return parser


def serve(worker: object, pid: int) -> None:
    """Say which process this is, then serve commands from standard input until it ends."""
    print(json.dumps({"pid": pid}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = getattr(worker, "do_" + command.pop("do"))(**command)
        except RemoteMemoryError as error:
            answer = {"failed": describe(error)}
        print(json.dumps(answer), flush=True)


def main() -> int:
    """Serve commands."""
    parser = options(__doc__)
    parser.add_argument("--budget", type=float, default=5.0, help="seconds that a request is repeated for (default 5)")
    arguments = parser.parse_args()
    policy = RetryPolicy(budget=arguments.budget)
    with Process.create(arguments.run_dir, arguments.name, policy) as process:
        serve(Worker(process), process.pid)
    return 0


if __name__ == "__main__":
    sys.exit(main())
