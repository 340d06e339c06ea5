"""The local OS of a compute element: creates and ends processes, and passes failure notices on to them.

It is on the control path only: processes read and write through sockets of their own. It speaks JSON lines on a Unix
socket: ``{"create": name, "sigbus": bool}`` is answered with pid, element and interface (or ``error``); notices follow. The
process lives as long as the connection, and has crashed unless it said ``{"close": true}`` before;
``{"contacts": [{"host": h, "port": p}]}`` names whom to tell of failures as well.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hosts.errors import RemoteMemoryError, RequestTimeout
from hosts.link import frame
from hosts.notices import FAILURES, Contact, Contacts, Notice, Peer
from hosts.requester import Requester, RetryPolicy, Wire
from protocol import wire
from protocol.rack import Element
from protocol.wire import Header, NotifyCode, Op

log = logging.getLogger(__name__)
NAME_BYTES = 32
MAX_LINE = 65536


class LocalOs:
    """One a compute element."""

    def __init__(self, element: Element, interface: str, link: Wire, run_dir: Path, policy: RetryPolicy | None = None):
        self.element = element
        self.interface = interface
        self.requester = Requester(link, element.id, wire.LOCAL_OS_PID, policy, self._on_other)
        self.registration_reply: Callable[[Header, bytes], None] = lambda header, payload: None
        self._processes: dict[int, _Client] = {}
        self.contacts = Contacts()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._seen: dict[int, None] = {}  # request ids of notices delivered, the oldest first
        run_dir.mkdir(parents=True, exist_ok=True)
        self.path = run_dir / "local-os.sock"
        self.path.unlink(missing_ok=True)
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(self.path))
        self._server.listen(64)
        self._accepting = threading.Thread(target=self._accept, name="accept", daemon=True)

    def start(self) -> None:
        """Serve processes."""
        self._accepting.start()

    def close(self) -> None:
        """End all processes and stop."""
        self._closing.set()
        self._server.close()
        self.path.unlink(missing_ok=True)
        with self._lock:
            clients = list(self._processes.values())
        for client in clients:
            with contextlib.suppress(OSError):
                client.connection.shutdown(socket.SHUT_RDWR)
        self.contacts.close()
        self.requester.close()

    # -------------------------------------------------------------------------------------------------------- processes

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        pid, closed = None, False
        try:
            reader = connection.makefile("rb")
            pid = self._create(connection, reader.readline(MAX_LINE))
            if pid is not None:
                closed = self._listen(pid, reader)
        except OSError:
            pass
        finally:
            if pid is not None:
                self._exit(pid, closed)
            connection.close()

    def _create(self, connection: socket.socket, line: bytes) -> int | None:
        try:
            request = json.loads(line)
            name = str(request["create"]).encode()[:NAME_BYTES]
            peer = Peer(connection) if request.get("sigbus") else None
        except (ValueError, KeyError, TypeError, AttributeError):
            connection.sendall(b'{"error": "expected {\\"create\\": name}"}\n')
            return None
        payload = wire.PROCESS_CREATE_ARGS.pack(name)
        try:
            reply, _ = self.requester.request(Header(Op.PROCESS_CREATE, length=len(payload)), payload)
        except RemoteMemoryError as error:
            connection.sendall(json.dumps({"error": str(error)}).encode() + b"\n")
            return None
        pid = reply.va
        with self._lock:
            self._processes[pid] = _Client(connection, peer)
        answer = {"pid": pid, "element": self.element.id, "interface": self.interface}
        connection.sendall(json.dumps(answer).encode() + b"\n")
        log.info("process %d (%s) created", pid, name.decode(errors="replace"))
        return pid

    def _listen(self, pid: int, reader: BinaryIO) -> bool:
        """What a process says until it closes its end, or dies; whether it said that it closes."""
        while line := reader.readline(MAX_LINE):
            try:
                message = json.loads(line)
                if message.get("close"):
                    return True
                contacts = tuple(Contact(str(c["host"]), int(c["port"])) for c in message["contacts"])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                log.warning("process %d says what is not understood: %r (%s)", pid, line[:80], error)
                continue
            self.contacts.register(pid, contacts)
        return False

    def _exit(self, pid: int, closed: bool) -> None:
        with self._lock:
            client = self._processes.pop(pid, None)
        if client is not None and client.peer is not None:
            client.peer.close()
        if closed:
            self.contacts.register(pid, ())
        else:
            self.contacts.forward(pid, {"event": "process_crashed"})
        payload = wire.PROCESS_EXIT_ARGS.pack(not closed)
        while True:
            try:
                self.requester.request(Header(Op.PROCESS_EXIT, va=pid, length=len(payload)), payload)
                log.info("process %d has %s", pid, "ended" if closed else "crashed")
                return
            except RequestTimeout as error:  # no controller for now: its memory must not be lost for that
                log.warning("the end of process %d could not be reported yet: %s", pid, error)
                if self._closing.is_set():
                    return
            except RemoteMemoryError as error:
                log.warning("the end of process %d could not be reported: %s", pid, error)
                return

    # ---------------------------------------------------------------------------------------------------------- notices

    def _on_other(self, header: Header, payload: bytes) -> None:
        if header.op == Op.NOTIFY:
            self._notify(header, payload)
        else:
            self.registration_reply(header, payload)

    def _notify(self, header: Header, payload: bytes) -> None:
        """Acknowledge a notice of the controller and pass it on, once."""
        reply = header._replace(op=header.op | wire.REPLY, dst=wire.CONTROLLER_ELEMENT, length=0, flags=0)
        self.requester.link.send(frame(self.element.id, reply))
        if header.request_id in self._seen or len(payload) < wire.NOTIFY_ARGS.size:
            return
        self._seen[header.request_id] = None
        if len(self._seen) > 4096:
            self._seen.pop(next(iter(self._seen)))
        code, _, about, group, va, pages = wire.NOTIFY_ARGS.unpack_from(payload)
        try:
            notice = Notice(NotifyCode(code), about, va, pages, group)
        except ValueError:
            log.warning("notice %d for process %d is unknown here", code, header.pid)
            return
        log.info("for process %d: %s", header.pid, notice)
        with self._lock:
            client = self._processes.get(header.pid)
        if client is not None:
            client.tell(notice)
        if notice.code in FAILURES:
            self.contacts.forward(header.pid, notice.to_json())


@dataclass(frozen=True)
class _Client:
    """A process of this element: its connection, and itself if it wants SIGBUS."""

    connection: socket.socket
    peer: Peer | None

    def tell(self, notice: Notice) -> None:
        """A line on its connection and, for failures, the signal behind it."""
        # A process that does not read (stopped, say) loses notices rather than hold up those of all others.
        with contextlib.suppress(OSError):
            self.connection.send(json.dumps(notice.to_json()).encode() + b"\n", socket.MSG_DONTWAIT)
        if self.peer is not None and notice.code in FAILURES:
            with contextlib.suppress(OSError):  # it has just ended
                self.peer.bus_error(notice.va)
