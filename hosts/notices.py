"""What a local OS tells of memory gained, lost or failed, and how it reaches a process, its signal handler and its contacts."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import queue
import signal
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import Any

from protocol.wire import NotifyCode

log = logging.getLogger(__name__)

# An access to memory of these notices fails, or comes too late.
FAILURES = frozenset(
    {
        NotifyCode.ELEMENT_FAILED,
        NotifyCode.REVOKED,
        NotifyCode.FENCED,
        NotifyCode.STOLEN,
        NotifyCode.MEMORY_LOST,
        NotifyCode.PAGE_FAILED,
    }
)


@dataclass(frozen=True)
class Notice:
    """``pages`` pages from ``va`` on are concerned. ``about`` is the element that failed, recovered or was fenced; for GRANTED,
    STOLEN and TAKEOVER the other process. ``group`` is that of a TAKEOVER, whose pages need not be contiguous."""

    code: NotifyCode
    about: int
    va: int
    pages: int
    group: int = 0

    def __str__(self) -> str:
        of_process = (NotifyCode.GRANTED, NotifyCode.STOLEN, NotifyCode.TAKEOVER)
        other = "process" if self.code in of_process else "element"
        return f"{self.code.name}: {other} {self.about}, {self.pages} pages from {self.va:#x}"

    def to_json(self) -> dict[str, Any]:
        """As it travels between local OS, processes and contacts."""
        told = {"code": int(self.code), "about": self.about, "va": self.va, "pages": self.pages}
        return told | {"group": self.group}

    @classmethod
    def from_json(cls, line: bytes) -> Notice:
        """The inverse. Raises ValueError."""
        try:
            message = json.loads(line)
            numbers = (int(message["about"]), int(message["va"]), int(message["pages"]), int(message.get("group", 0)))
            return cls(NotifyCode(message["code"]), *numbers)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no notice: {line!r} ({error})") from None


class Peer:
    """A Unix process, held by a descriptor so that no later process can be taken for it."""

    _SYS_PIDFD_SEND_SIGNAL = 424
    _SI_QUEUE = -1
    _SIGINFO = struct.Struct("=iiixxxxiIQ")  # signo, errno, code, pid, uid, value (x86-64 and arm64 Linux)

    def __init__(self, unix_pid: int):
        """Raises OSError when the process is gone already."""
        self.unix_pid = unix_pid
        self.descriptor = os.pidfd_open(unix_pid)

    @classmethod
    def behind(cls, connection: socket.socket) -> Peer:
        """The other end of a Unix socket. Raises OSError when it is gone already."""
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return cls(struct.unpack("3i", credentials)[0])

    def close(self) -> None:
        """Let go of the process."""
        os.close(self.descriptor)

    def bus_error(self, address: int) -> None:
        """Send SIGBUS. Its handler finds the remote address in ``si_value``, and ``SI_QUEUE`` in ``si_code``, which no bad
        address of the process's own has. Raises OSError."""
        info = self._SIGINFO.pack(signal.SIGBUS, 0, self._SI_QUEUE, os.getpid(), os.getuid(), address).ljust(128, b"\0")
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syscall(self._SYS_PIDFD_SEND_SIGNAL, self.descriptor, signal.SIGBUS, info, 0):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


@dataclass(frozen=True)
class Contact:
    """Where an emergency contact listens: TCP, one JSON line a connection."""

    host: str
    port: int


class Contacts:
    """The forwarding table of a local OS: for each process whom to tell as well, also when the process itself is dead."""

    ATTEMPTS = 5
    PAUSE = 0.2  # seconds, doubled
    TIMEOUT = 1.0

    def __init__(self) -> None:
        self._table: dict[int, tuple[Contact, ...]] = {}
        self._queue: queue.Queue[tuple[Contact, bytes] | None] = queue.Queue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="contacts", daemon=True)
        self._thread.start()

    def register(self, pid: int, contacts: tuple[Contact, ...]) -> None:
        """Replace the contacts of a process; none removes it from the table."""
        if contacts:
            self._table[pid] = contacts
        else:
            self._table.pop(pid, None)

    def of(self, pid: int) -> tuple[Contact, ...]:
        """The contacts of a process."""
        return self._table.get(pid, ())

    def forward(self, pid: int, message: dict[str, Any]) -> None:
        """Tell the contacts of a process, soon."""
        line = json.dumps({"pid": pid, **message}).encode() + b"\n"
        for contact in self.of(pid):
            self._queue.put((contact, line))

    def close(self) -> None:
        """Stop; what is queued is tried once more."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(self.TIMEOUT + 1)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            self._tell(*item)

    def _tell(self, contact: Contact, line: bytes) -> None:
        pause = self.PAUSE
        for attempt in range(self.ATTEMPTS):
            try:
                with socket.create_connection((contact.host, contact.port), self.TIMEOUT) as connection:
                    connection.sendall(line)
                return
            except OSError as error:
                log.warning("contact %s cannot be told (attempt %d): %s", contact, attempt + 1, error)
            if self._closing.wait(pause):
                return
            pause *= 2


class ContactListener:
    """Receives what local OSes forward, at a contact. ``received`` are (pid, notice, seconds since 1970)."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0):
        self._server = socket.create_server((host, port))
        self.host, self.port = self._server.getsockname()[:2]
        self.received: queue.Queue[tuple[int, dict[str, Any], float]] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="contact listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(1)

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(1)
                try:
                    message = json.loads(connection.makefile("rb").readline(4096))
                    self.received.put((int(message.pop("pid")), message, time.time()))
                except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                    log.warning("a message that is no notice: %s", error)
