"""The local OS of a compute element: creates and ends processes, and passes failure notices on to them.

It is on the control path only: processes read and write through sockets of their own. It speaks JSON lines on a Unix
socket: ``{"create": name, "sigbus": bool}`` is answered with pid, element and interface (or ``error``); notices follow. The
process lives as long as the connection, and has crashed unless it said ``{"close": true}`` before;
``{"contacts": [{"host": h, "port": p}]}`` names whom to tell of failures as well.

A local OS that dies takes no process with it. The one that is started after it finds in its records (``hosts.records``) which
processes there were: those that live on are its own now, and it hears of their end; the ends of the others are reported.
``{"rejoin": pid}`` connects a process to it again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import select
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from hosts.errors import Busy, RemoteMemoryError, RequestTimeout
from hosts.link import frame
from hosts.notices import FAILURES, Contact, Contacts, Notice, Peer
from hosts.records import ProcessRecord, Records, start_of
from hosts.requester import Requester, RetryPolicy, Wire
from protocol import wire
from protocol.crash import CrashAt
from protocol.rack import Element
from protocol.wire import Header, NotifyCode, Op

log = logging.getLogger(__name__)
MAX_LINE = 65536
REMEMBERED = 4096  # notices
REPORTS = 8  # ends of processes that are reported at once: when a thousand end together, those that begin still have their turn


class LocalOs:
    """One a compute element."""

    def __init__(
        self,
        element: Element,
        interface: str,
        link: Wire,
        run_dir: Path,
        policy: RetryPolicy | None = None,
        crash: CrashAt | None = None,
    ):
        self.element = element
        self.interface = interface
        self.registration_reply: Callable[[Header, bytes], None] = lambda header, payload: None
        self._processes: dict[int, _Client] = {}
        self.contacts = Contacts()
        self._crash = crash or CrashAt()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._reporting = threading.BoundedSemaphore(REPORTS)
        self._settled = threading.Event()  # nothing is left of the local OS before this one that is not known
        self._seen: dict[int, bool] = {}  # request ids of notices, the oldest first: whether the process has been told
        run_dir.mkdir(parents=True, exist_ok=True)
        self._records = Records(run_dir / "processes")
        self._ended = self._load()
        self.path = run_dir / "local-os.sock"
        self.path.unlink(missing_ok=True)
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(self.path))
        self._server.listen(64)
        self._accepting = threading.Thread(target=self._accept, name="accept", daemon=True)
        # Last: it may receive a notice at once, for a process that must be known by then.
        self.requester = Requester(link, element.id, wire.LOCAL_OS_PID, policy, self._on_other)

    def start(self) -> None:
        """Serve processes, those of an earlier local OS among them."""
        living = list(self._processes.values())
        threading.Thread(target=self._watch, args=(living,), name="watch", daemon=True).start()
        threading.Thread(target=self._settle, args=(self._ended,), name="settle", daemon=True).start()
        self._accepting.start()

    def _load(self) -> list[ProcessRecord]:
        """Take over the processes of an earlier local OS that live; those that have ended."""
        ended = []
        for record in self._records.load():
            self.contacts.register(record.pid, record.contacts)
            try:
                peer = Peer(record.unix_pid)
            except OSError:
                ended.append(record)
                continue
            if record.is_alive:
                self._processes[record.pid] = _Client(record, peer)
            else:
                peer.close()
                ended.append(record)
        return ended

    def close(self) -> None:
        """End all processes and stop."""
        self._closing.set()
        self._server.close()
        self.path.unlink(missing_ok=True)
        with self._lock:
            clients = list(self._processes.values())
        for client in clients:
            if client.connection is not None:
                with contextlib.suppress(OSError):
                    client.connection.shutdown(socket.SHUT_RDWR)
        self.contacts.close()
        self.requester.close()

    # --------------------------------------------------------------------------------------------------- taking over

    def _settle(self, ended: list[ProcessRecord]) -> None:
        """Report who has ended since, and compare with what the controller knows."""
        for record in ended:
            self._report(record)
        known = self._listed()
        if known is None:
            return
        with self._lock:
            gone = [self._processes.pop(pid) for pid in set(self._processes) - known]
        for client in gone:  # the controller has ended it
            log.warning("process %d is not known any more", client.record.pid)
            self._records.remove(client.record.pid)
            client.hang_up()
        for pid in known - set(self._processes):  # created just before the end, and nobody was told
            self._report(ProcessRecord(pid, 0, 0, closed=True))
        self._settled.set()

    def _listed(self) -> set[int] | None:
        """The processes that the controller knows here; None when this ends before it has answered."""
        known: set[int] = set()
        first = 0
        while not self._closing.is_set():
            try:
                _, payload = self.requester.request(Header(Op.PROCESS_LIST, va=first))
            except RequestTimeout:
                continue
            except RemoteMemoryError as error:
                log.warning("the controller does not say which processes it knows: %s", error)
                return set(self._processes)
            pids = [pid for (pid,) in wire.LISTED.iter_unpack(payload[: len(payload) // 2 * 2]) if pid]
            known.update(pids)
            if len(pids) < wire.MOST_LISTED:
                return known
            first = pids[-1] + 1
        return None

    def _watch(self, clients: list[_Client]) -> None:
        """See the ends of processes that were taken over. One that has joined again may say more about its end itself."""
        poll = select.poll()
        watched = {}
        for client in clients:
            descriptor = os.dup(client.peer.descriptor)
            watched[descriptor] = client
            poll.register(descriptor, select.POLLIN)
        while watched and not self._closing.is_set():
            for descriptor, _ in poll.poll(500):
                poll.unregister(descriptor)
                os.close(descriptor)
                client = watched.pop(descriptor)
                if client.connection is None:
                    self._exit(client, False)
        for descriptor in watched:
            os.close(descriptor)

    # -------------------------------------------------------------------------------------------------------- processes

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        client, closed = None, False
        try:
            reader = connection.makefile("rb")
            client = self._welcome(connection, reader.readline(MAX_LINE))
            if client is not None:
                closed = self._listen(client, reader)
        except OSError:
            pass
        finally:
            if client is not None:
                self._exit(client, closed)
            connection.close()

    def _welcome(self, connection: socket.socket, line: bytes) -> _Client | None:
        """A process is created, or joins again."""
        try:
            request = json.loads(line)
            pid = int(request.get("rejoin", 0))
            name = b"" if pid else str(request["create"]).encode()[: wire.NAME_BYTES]
        except (ValueError, KeyError, TypeError, AttributeError):
            _say(connection, {"error": 'expected {"create": name}'})
            return None
        peer = Peer.behind(connection)
        try:
            if pid:
                client = self._rejoin(connection, peer, pid)
            else:
                client = self._create(connection, peer, name, bool(request.get("sigbus")))
        except _Refused as refused:
            peer.close()
            _say(connection, {"error": str(refused)})
            return None
        self._crash.step()
        _say(connection, {"pid": client.record.pid, "element": self.element.id, "interface": self.interface})
        self._crash.step()
        return client

    def _create(self, connection: socket.socket, peer: Peer, name: bytes, sigbus: bool) -> _Client:
        self._crash.step()
        if not self._settled.wait(self.requester.policy.budget):
            raise _Refused("the controller has not answered yet")
        payload = wire.PROCESS_CREATE_ARGS.pack(name)
        try:
            reply, _ = self.requester.request(Header(Op.PROCESS_CREATE, length=len(payload)), payload)
        except RemoteMemoryError as error:
            raise _Refused(str(error)) from None
        self._crash.step()
        text = name.decode(errors="replace")
        record = ProcessRecord(reply.va, peer.unix_pid, start_of(peer.unix_pid), text, sigbus)
        self._records.write(record)
        client = _Client(record, peer, connection)
        with self._lock:
            self._processes[record.pid] = client
        log.info("process %d (%s) created", record.pid, text)
        return client

    def _rejoin(self, connection: socket.socket, peer: Peer, pid: int) -> _Client:
        with self._lock:
            client = self._processes.get(pid)
            if client is None or client.connection is not None or client.record.unix_pid != peer.unix_pid:
                raise _Refused(f"no process {pid} of yours waits to join again")
            client.connection = connection
        peer.close()
        log.info("process %d has joined again", pid)
        return client

    def _listen(self, client: _Client, reader: BinaryIO) -> bool:
        """What a process says until it closes its end, or dies; whether it said that it closes."""
        pid = client.record.pid
        while line := reader.readline(MAX_LINE):
            try:
                message = json.loads(line)
                if message.get("close"):
                    return True
                contacts = tuple(Contact(str(c["host"]), int(c["port"])) for c in message["contacts"])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                log.warning("process %d says what is not understood: %r (%s)", pid, line[:80], error)
                continue
            client.record = dataclasses.replace(client.record, contacts=contacts)
            self._records.write(client.record)
            self.contacts.register(pid, contacts)
        return False

    def _exit(self, client: _Client, closed: bool) -> None:
        pid = client.record.pid
        closed = closed or self._records.is_marked(pid)
        with self._lock:
            if self._processes.get(pid) is not client:
                return
            del self._processes[pid]
        client.peer.close()
        record = dataclasses.replace(client.record, closed=closed)
        self._crash.step()
        if closed:
            self._records.write(record)  # whoever reports it must not take it for a crash
            self._crash.step()
        self._report(record)

    def _report(self, record: ProcessRecord) -> None:
        """Tell the controller, and the contacts of a process that has crashed, of its end."""
        pid = record.pid
        if record.closed:
            self.contacts.register(pid, ())
        else:
            self.contacts.forward(pid, {"event": "process_crashed"})
        payload = wire.PROCESS_EXIT_ARGS.pack(not record.closed)
        while True:
            try:
                with self._reporting:
                    self.requester.request(Header(Op.PROCESS_EXIT, va=pid, length=len(payload)), payload)
                log.info("process %d has %s", pid, "ended" if record.closed else "crashed")
            except (RequestTimeout, Busy) as error:
                # There is no controller for now, or it has too much to do: its memory must not be lost for that.
                log.warning("the end of process %d could not be reported yet: %s", pid, error)
                if self._closing.is_set():
                    return
                continue
            except RemoteMemoryError as error:
                log.warning("the end of process %d could not be reported: %s", pid, error)
            self._crash.step()
            self._records.remove(pid)
            return

    # ---------------------------------------------------------------------------------------------------------- notices

    def _on_other(self, header: Header, payload: bytes) -> None:
        if header.op == Op.NOTIFY:
            self._notify(header, payload)
        else:
            self.registration_reply(header, payload)

    def _notify(self, header: Header, payload: bytes) -> None:
        """Pass a notice of the controller on, once, and acknowledge it.

        One for a process that has not joined again yet is not acknowledged: the controller repeats it.
        """
        self._crash.step()
        with self._lock:
            client = self._processes.get(header.pid)
        waits = client is not None and client.connection is None
        if not waits:
            reply = header._replace(op=header.op | wire.REPLY, dst=wire.CONTROLLER_ELEMENT, length=0, flags=0)
            self.requester.link.send(frame(self.element.id, reply))
        if len(payload) < wire.NOTIFY_ARGS.size or self._seen.get(header.request_id):
            return
        first = header.request_id not in self._seen
        self._seen[header.request_id] = not waits
        if len(self._seen) > REMEMBERED:
            self._seen.pop(next(iter(self._seen)))
        code, _, about, group, va, pages = wire.NOTIFY_ARGS.unpack_from(payload)
        try:
            notice = Notice(NotifyCode(code), about, va, pages, group)
        except ValueError:
            log.warning("notice %d for process %d is unknown here", code, header.pid)
            return
        if client is not None:
            client.tell(notice)
        if first:
            log.info("for process %d: %s", header.pid, notice)
            if client is not None and client.record.sigbus and notice.code in FAILURES:
                with contextlib.suppress(OSError):  # it has just ended
                    client.peer.bus_error(notice.va)
            if notice.code in FAILURES:
                self.contacts.forward(header.pid, notice.to_json())


class _Refused(Exception):
    """A process cannot be created or joined; the message says why."""


@dataclass
class _Client:
    """A process of this element. It has no connection from the death of one local OS until it joins the next."""

    record: ProcessRecord
    peer: Peer
    connection: socket.socket | None = None

    def tell(self, notice: Notice) -> None:
        """A line on its connection."""
        # A process that does not read (stopped, say) loses notices rather than hold up those of all others.
        if self.connection is not None:
            with contextlib.suppress(OSError):
                self.connection.send(json.dumps(notice.to_json()).encode() + b"\n", socket.MSG_DONTWAIT)

    def hang_up(self) -> None:
        """End its connection."""
        self.peer.close()
        if self.connection is not None:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)


def _say(connection: socket.socket, message: dict[str, Any]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")
