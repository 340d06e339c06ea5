"""The local OS of a compute element: creates and ends processes, and passes failure notices on to them.

It is on the control path only: processes read and write through sockets of their own. It speaks JSON lines on a Unix
socket: ``{"create": name}`` is answered with pid, element and interface (or ``error``); the process lives as long as the
connection; notices follow.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from hosts.errors import RemoteMemoryError, RequestTimeout
from hosts.link import frame
from hosts.requester import Requester, RetryPolicy, Wire
from protocol import wire
from protocol.rack import Element
from protocol.wire import Header, Op

log = logging.getLogger(__name__)
NAME_BYTES = 32


class LocalOs:
    """One a compute element."""

    def __init__(self, element: Element, interface: str, link: Wire, run_dir: Path, policy: RetryPolicy | None = None):
        self.element = element
        self.interface = interface
        self.requester = Requester(link, element.id, wire.LOCAL_OS_PID, policy, self._on_other)
        self.registration_reply: Callable[[Header, bytes], None] = lambda header, payload: None
        self._processes: dict[int, socket.socket] = {}
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
            connections = list(self._processes.values())
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
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
        pid = None
        try:
            reader = connection.makefile("rb")
            pid = self._create(connection, reader.readline())
            if pid is not None:
                reader.read()  # until the process closes its end, or dies
        except OSError:
            pass
        finally:
            if pid is not None:
                self._exit(pid)
            connection.close()

    def _create(self, connection: socket.socket, line: bytes) -> int | None:
        try:
            request = json.loads(line)
            name = str(request["create"]).encode()[:NAME_BYTES]
        except (ValueError, KeyError, TypeError):
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
            self._processes[pid] = connection
        answer = {"pid": pid, "element": self.element.id, "interface": self.interface}
        connection.sendall(json.dumps(answer).encode() + b"\n")
        log.info("process %d (%s) created", pid, name.decode(errors="replace"))
        return pid

    def _exit(self, pid: int) -> None:
        with self._lock:
            self._processes.pop(pid, None)
        while True:
            try:
                self.requester.request(Header(Op.PROCESS_EXIT, va=pid))
                log.info("process %d has ended", pid)
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
        code, _, element, _, va, pages = wire.NOTIFY_ARGS.unpack_from(payload)
        with self._lock:
            connection = self._processes.get(header.pid)
        log.info("notice %d for process %d: element %d, %d pages from %#x", code, header.pid, element, pages, va)
        if connection is not None:
            message = {"code": code, "element": element, "va": va, "pages": pages}
            # A process that does not read (stopped, say) loses notices rather than hold up those of all others.
            with contextlib.suppress(OSError):
                connection.send(json.dumps(message).encode() + b"\n", socket.MSG_DONTWAIT)
