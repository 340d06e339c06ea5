"""The process API: remote memory for applications.

::

    with Process.create(run_dir="/run/...", name="kv") as process:
        region = process.alloc(64 << 20)
        process.write(region.va + 10, b"hello")
        process.read(region.va + 10, 5)

A process lives on one compute element and reaches memory elements through the Rack MMU switch, with virtual addresses that
are unique in the rack. Reads and writes of any length and alignment are split into requests of one page, sent in address
order and pipelined; when a call returns, all of it has taken effect. When it raises, a prefix has, and what lies behind the
failing page may have.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from hosts.errors import RemoteMemoryError
from hosts.link import Link, bpf_for_process
from hosts.requester import Requester, RetryPolicy, Wire
from protocol import wire
from protocol.wire import Header, NotifyCode, Op, Perm

__all__ = ["FailureNotice", "LocalOsError", "Process", "Region", "RemoteMemoryError", "RetryPolicy"]

SOCKET_NAME = "local-os.sock"
log = logging.getLogger(__name__)


class LocalOsError(RuntimeError):
    """The local OS of the compute element cannot be reached, or refused to create the process."""


@dataclass(frozen=True)
class Region:
    """Allocated memory: ``size`` bytes from ``va`` on."""

    va: int
    size: int


@dataclass(frozen=True)
class FailureNotice:
    """What the local OS tells a process: which memory (``pages`` from ``va``) is concerned, and by which element."""

    code: NotifyCode
    element: int
    va: int
    pages: int

    def __str__(self) -> str:
        return f"{self.code.name}: element {self.element}, {self.pages} pages from {self.va:#x}"


class Process:
    """A process with remote memory. Thread-safe."""

    def __init__(
        self, pid: int, element: int, link: Wire, local_os: socket.socket | None, policy: RetryPolicy | None = None
    ):
        self.pid = pid
        self.element = element
        self.requester = Requester(link, element, pid, policy)
        self._local_os = local_os
        self._callbacks: list[Callable[[FailureNotice], None]] = []
        self._counts: dict[str, int] = defaultdict(int)
        self._listener: threading.Thread | None = None
        if local_os is not None:
            self._listener = threading.Thread(target=self._listen, name=f"notices of process {pid}", daemon=True)
            self._listener.start()

    @classmethod
    def create(cls, run_dir: str | Path, name: str, policy: RetryPolicy | None = None) -> Process:
        """Create a process on the compute element whose local OS has this run directory.

        Raises LocalOsError, or LinkError when the raw socket cannot be opened (it needs root).
        """
        path = Path(run_dir) / SOCKET_NAME
        local_os = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            local_os.connect(str(path))
            local_os.sendall(json.dumps({"create": name}).encode() + b"\n")
            reader = local_os.makefile("rb", buffering=0)
            answer = json.loads(reader.readline() or b"{}")
        except OSError as error:
            local_os.close()
            raise LocalOsError(f"no local OS at {path}: {error.strerror}") from None
        if "pid" not in answer:
            local_os.close()
            raise LocalOsError(f"process {name!r} was not created: {answer.get('error', 'the local OS hung up')}")
        try:
            link = Link(answer["interface"], bpf_for_process(answer["pid"]))
        except OSError:
            local_os.close()
            raise
        return cls(answer["pid"], answer["element"], link, local_os, policy)

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process: its memory is freed."""
        if self._local_os is not None:
            with contextlib.suppress(OSError):  # the local OS may have gone first
                self._local_os.shutdown(socket.SHUT_RDWR)
            self._local_os.close()
            self._local_os = None
        self.requester.close()

    # ---------------------------------------------------------------------------------------------------------- memory

    def alloc(self, size: int, permissions: Perm = Perm.RW) -> Region:
        """Allocate at least ``size`` bytes, rounded up to pages, zeroed, at consecutive addresses. Raises OutOfMemory."""
        arguments = wire.ALLOC_ARGS.pack(size, permissions, 0)
        _, payload = self.requester.request(Header(Op.ALLOC, length=len(arguments)), arguments)
        va, length, _, _ = wire.ALLOC_REPLY.unpack_from(payload)
        return Region(va, length)

    def free(self, region: Region | int, size: int = 0) -> None:
        """Free a region, or ``size`` bytes (whole pages; 0: the whole allocation) at an address. Raises NotFound."""
        va, length = (region.va, region.size) if isinstance(region, Region) else (region, size)
        arguments = wire.FREE_ARGS.pack(va, length)
        self.requester.request(Header(Op.FREE, va=va, length=len(arguments)), arguments)

    def read(self, va: int, length: int) -> bytes:
        """Read ``length`` bytes."""
        batch = [(Header(Op.READ, va=a, length=n), b"") for a, n in pieces(va, length)]
        data = b"".join(payload for _, payload in self.requester.requests(batch))
        self._count("read", len(batch), length)
        return data

    def write(self, va: int, data: bytes | memoryview) -> None:
        """Write bytes."""
        view = memoryview(data).cast("B")
        batch = [(Header(Op.WRITE, va=a, length=n), bytes(view[a - va : a - va + n])) for a, n in pieces(va, len(view))]
        self.requester.requests(batch)
        self._count("write", len(batch), len(view))

    def cas(self, va: int, expected: int, desired: int) -> int:
        """Compare and swap a 64-bit word (at a multiple of 8); the old value. It was swapped if that equals ``expected``."""
        _, payload = self.requester.request(Header(Op.CAS, va=va, length=8), wire.CAS_ARGS.pack(expected, desired))
        self._count("cas", 1, 8)
        return int(wire.WORD.unpack_from(payload)[0])

    def fetch_add(self, va: int, addend: int) -> int:
        """Add to a 64-bit word (modulo 2^64, at a multiple of 8); the old value."""
        payload = wire.WORD.pack(addend % (1 << 64))
        _, reply = self.requester.request(Header(Op.FETCH_ADD, va=va, length=8), payload)
        self._count("fetch_add", 1, 8)
        return int(wire.WORD.unpack_from(reply)[0])

    # --------------------------------------------------------------------------------------------------------- failures

    def on_failure(self, callback: Callable[[FailureNotice], None]) -> None:
        """Call this, in a thread of its own, for every notice of the local OS that concerns this process."""
        self._callbacks.append(callback)

    def _listen(self) -> None:
        assert self._local_os is not None
        try:
            for line in self._local_os.makefile("rb"):
                self._deliver(line)
        except OSError:
            return  # the local OS has gone: the data path works on without it

    def _deliver(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            notice = FailureNotice(NotifyCode(message["code"]), message["element"], message["va"], message["pages"])
        except (ValueError, KeyError) as error:
            log.warning("process %d: notice not understood: %r (%s)", self.pid, line, error)
            return
        for callback in self._callbacks:
            try:
                callback(notice)
            except Exception:  # an application's fault must not cost it, or other callbacks, later notices
                log.exception("process %d: callback for %s raised", self.pid, notice)

    # ------------------------------------------------------------------------------------------------------- statistics

    def _count(self, what: str, operations: int, size: int) -> None:
        self._counts[f"{what} operations"] += operations
        self._counts[f"{what} bytes"] += size

    def statistics(self) -> dict[str, Any]:
        """Operations (requests of one page) and bytes by kind, retries, refusals, timeouts."""
        traffic = self.requester.traffic
        return {
            **self._counts,
            "requests": traffic.requests,
            "retries": traffic.retries,
            "refusals": traffic.refusals,
            "timeouts": traffic.timeouts,
        }


def pieces(va: int, length: int) -> list[tuple[int, int]]:
    """A range of addresses cut at page boundaries: (address, bytes)."""
    result = []
    end = va + length
    while va < end:
        size = min(wire.PAGE_SIZE - va % wire.PAGE_SIZE, end - va)
        result.append((va, size))
        va += size
    return result
