"""A local OS is killed and started again: its processes live on, their ends are reported once, and nothing is left behind.

The local OS is a process of its own, so that it can be killed at every step; the controller is a script at the other end of
its link.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hosts.notices import ContactListener, Notice
from hosts.process import LocalOsError, Process
from hosts.records import ProcessRecord, Records, start_of
from protocol import wire
from protocol.wire import Header, NotifyCode, Op, Status
from tests.hosts.test_life_cycle import wait_for

PROGRAM = """
import socket, sys, threading
from pathlib import Path
from hosts.local_os import LocalOs
from hosts.requester import RetryPolicy
from protocol.crash import CrashAt
from protocol.rack import Element

class Wire:
    def __init__(self, end): self.end = end
    def send(self, frame): self.end.send(frame)
    def receive(self, timeout):
        self.end.settimeout(timeout)
        try: return self.end.recv(9000) or None
        except TimeoutError: return None
    def close(self): self.end.close()

end = socket.socket(fileno=int(sys.argv[1]))
element = Element(name="c1", id=1, kind="compute", port=1)
policy = RetryPolicy(first=0.05, longest=0.1, budget=2)
made = LocalOs(element, "lo", Wire(end), Path(sys.argv[2]), policy, CrashAt(int(sys.argv[3])))
made.start()
threading.Event().wait()
"""


class Controller:
    """Knows processes; forgets those that end. A repetition of a request takes effect once."""

    def __init__(self) -> None:
        self.processes: set[int] = set()
        self.exits: list[tuple[int, bool]] = []  # pid, crashed
        self.taken: set[int] = set()  # notices that were acknowledged
        self.next_pid = 70
        self._known: dict[int, bytes] = {}
        self.end: socket.socket | None = None

    def serve(self, end: socket.socket) -> None:
        self.end = end
        while True:
            try:
                frame = end.recv(9000)
            except OSError:
                return
            if not frame:
                return
            header = Header.unpack(frame, 14)
            if header.op & wire.REPLY:
                self.taken.add(header.request_id)
                continue
            if header.request_id not in self._known or header.op == Op.PROCESS_LIST:
                self._known[header.request_id] = self._answer(header, frame[wire.FRAME_OVERHEAD :])
            try:
                end.send(bytes(14) + self._known[header.request_id])
            except OSError:
                return

    def _answer(self, header: Header, payload: bytes) -> bytes:
        reply = header._replace(op=header.op | wire.REPLY)
        match header.op:
            case Op.PROCESS_CREATE:
                self.next_pid += 1
                self.processes.add(self.next_pid)
                return reply._replace(va=self.next_pid).pack()
            case Op.PROCESS_EXIT:
                if header.va not in self.processes:
                    return reply._replace(status=Status.NOT_FOUND).pack()
                self.processes.remove(header.va)
                self.exits.append((header.va, payload[:1] == b"\1"))
                return reply.pack()
            case Op.PROCESS_LIST:
                pids = sorted(p for p in self.processes if p >= header.va)
                return reply.pack() + b"".join(map(wire.LISTED.pack, pids))
        raise AssertionError(header)

    def notify(self, number: int, pid: int) -> None:
        """Until it is acknowledged, whichever local OS is there."""
        payload = wire.NOTIFY_ARGS.pack(NotifyCode.REVOKED, 0, 101, 0, pid << 48, 1)
        frame = bytes(14) + Header(Op.NOTIFY, pid=pid, dst=1, length=len(payload), request_id=number).pack() + payload
        while number not in self.taken:
            assert self.end is not None
            with contextlib.suppress(OSError):
                self.end.send(frame)
            time.sleep(0.02)


class Machine:
    """A compute element: its local OS is started again when it dies."""

    def __init__(self, directory: Path):
        self.run_dir = directory
        self.controller = Controller()
        self.child: subprocess.Popen[bytes] | None = None

    def start(self, crash_at: int = 0) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        threading.Thread(target=self.controller.serve, args=(ours,), daemon=True).start()
        command = [sys.executable, "-c", PROGRAM, str(theirs.fileno()), str(self.run_dir), str(crash_at)]
        self.run_dir.mkdir(exist_ok=True)
        (self.run_dir / "local-os.sock").unlink(missing_ok=True)
        self.child = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        wait_for(self.listens)

    def listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.run_dir / "local-os.sock")) == 0

    def kill(self) -> None:
        assert self.child is not None
        self.child.kill()
        self.child.wait()

    def restart(self) -> None:
        self.kill()
        self.start()

    def left_behind(self) -> list[str]:
        return [p.name for p in (self.run_dir / "processes").iterdir()]

    def client(self, name: str = "client") -> subprocess.Popen[str]:
        """A Unix process with one process; says its pid, ends when its input does."""
        script = (
            "import json, socket, sys\n"
            "s = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n"
            's.sendall(b\'{"create": "x"}\\n\')\nprint(json.loads(s.makefile("rb").readline())["pid"], flush=True)\n'
            "sys.stdin.read()\n"
        )
        command = [sys.executable, "-c", script, str(self.run_dir / "local-os.sock")]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "os")
    made.start()
    yield made
    made.kill()


def test_a_process_lives_on_and_joins_again(machine: Machine) -> None:
    with Process.create(machine.run_dir, "kv") as process:
        heard: list[Notice] = []
        process.on_failure(heard.append)
        for number in (1, 2, 3):
            machine.restart()
            machine.controller.notify(number, process.pid)
            wait_for(lambda number=number: len(heard) == number)
        assert machine.controller.processes == {process.pid}
    wait_for(lambda: machine.controller.exits == [(process.pid, False)])
    wait_for(lambda: not machine.left_behind())


def test_a_process_that_is_closed_while_it_joins_again_ends(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    joined, closed, join = threading.Event(), threading.Event(), Process._join

    def slowly(self: Process) -> socket.socket | None:
        connection = join(self)
        if threading.current_thread() is self._listener:
            joined.set()
            assert closed.wait(30)
        return connection

    with Process.create(machine.run_dir, "kv") as process:
        monkeypatch.setattr(Process, "_join", slowly)
        machine.restart()
        assert joined.wait(30)
    closed.set()
    wait_for(lambda: machine.controller.exits == [(process.pid, False)])
    wait_for(lambda: not machine.left_behind())


def test_a_process_that_died_meanwhile_is_reported(machine: Machine) -> None:
    contact = ContactListener()
    child = machine.client()
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    with Process.create(machine.run_dir, "other") as other:
        machine.kill()
        child.kill()
        child.wait()
        machine.start()
        wait_for(lambda: machine.controller.exits == [(pid, True)])
        assert machine.controller.processes == {other.pid}
    wait_for(lambda: not machine.left_behind())
    contact.close()


def test_contacts_are_told_of_a_death_that_no_local_os_saw(machine: Machine) -> None:
    contact = ContactListener()
    script = (
        "import json, socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n"
        's.sendall(b\'{"create": "x"}\\n\')\ns.makefile("rb").readline()\n'
        's.sendall(json.dumps({"contacts": [{"host": "127.0.0.1", "port": int(sys.argv[2])}]}).encode() + b"\\n")\n'
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(machine.run_dir / "local-os.sock"), str(contact.port)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE)
    records = Records(machine.run_dir / "processes")
    wait_for(lambda: any(r.contacts for r in records.load()))
    machine.kill()
    child.kill()
    child.wait()
    machine.start()
    assert contact.received.get(timeout=30)[:2] == (71, {"event": "process_crashed"})
    contact.close()


def test_a_process_that_does_not_join_again_is_watched(machine: Machine) -> None:
    """It knows nothing of local OSes that are restarted."""
    child = machine.client()
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    machine.restart()
    time.sleep(0.3)
    assert machine.controller.exits == []
    assert child.stdin is not None
    child.stdin.close()
    child.wait()
    wait_for(lambda: machine.controller.exits == [(pid, True)])


def test_a_process_that_closes_while_nobody_is_there_did_not_crash(machine: Machine) -> None:
    process = Process.create(machine.run_dir, "kv")
    machine.kill()
    process.close()
    machine.start()
    wait_for(lambda: machine.controller.exits == [(process.pid, False)])
    wait_for(lambda: not machine.left_behind())


def test_a_process_of_another_program_cannot_be_joined(machine: Machine) -> None:
    child = machine.client()
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    machine.restart()
    with socket.socket(socket.AF_UNIX) as thief:
        thief.connect(str(machine.run_dir / "local-os.sock"))
        thief.sendall(json.dumps({"rejoin": pid}).encode() + b"\n")
        assert "of yours" in json.loads(thief.makefile("rb").readline())["error"]
    child.communicate("")


def test_the_controller_has_ended_a_process(machine: Machine) -> None:
    with Process.create(machine.run_dir, "kv") as process:
        machine.kill()
        machine.controller.processes.clear()
        machine.start()
        wait_for(lambda: not machine.left_behind())
        assert process._listener is not None
        process._listener.join(60)
        assert not process._listener.is_alive(), "it need not look for a local OS any more"
    assert machine.controller.exits == []


def life(machine: Machine, tell: Callable[[int], None]) -> None:
    """What happens to a process, from its creation to its end, whatever becomes of the local OS."""
    while True:
        try:
            process = Process.create(machine.run_dir, "kv")
        except LocalOsError:
            time.sleep(0.01)
            continue
        break
    tell(process.pid)
    process.close()


def test_killed_at_every_step(tmp_path: Path) -> None:
    """Creation, a notice, the end: after the restart every process has ended once, as what it was, and no record is left."""
    for step in range(1, 20):
        machine = Machine(tmp_path / str(step))
        machine.start(step)
        known: list[int] = []

        def tell(pid: int, machine: Machine = machine, known: list[int] = known) -> None:
            known.append(pid)
            machine.controller.notify(pid, pid)

        living = threading.Thread(target=life, args=(machine, tell), daemon=True)
        living.start()
        assert machine.child is not None
        deadline = time.monotonic() + 30
        while machine.child.poll() is None and living.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)
        wait_for(lambda machine=machine, living=living: machine.child.poll() is not None or not living.is_alive())
        time.sleep(0.1)  # the last steps come after its end
        died = machine.child.poll() == -signal.SIGKILL
        machine.kill()
        machine.start()
        living.join(60)
        assert not living.is_alive()
        (pid,) = known
        wait_for(lambda machine=machine, pid=pid: (pid, False) in machine.controller.exits)
        # A process that was created, and whose maker was never told, has ended, too; this test lives on as its Unix process.
        others = machine.controller.processes | {p for p, _ in machine.controller.exits} - {pid}
        assert len(others) <= 1
        assert not [p for p, crashed in machine.controller.exits if crashed]
        assert [p for p, _ in machine.controller.exits].count(pid) == 1
        machine.kill()
        if not died:
            assert step > 6, "there are fewer steps than that"
            return
    raise AssertionError("it is still being killed")


def test_records_name_a_unix_process_for_good(tmp_path: Path) -> None:
    records = Records(tmp_path)
    me = os.getpid()
    records.write(ProcessRecord(5, me, start_of(me)))
    records.write(ProcessRecord(6, me, start_of(me) - 1))  # another one that had this number before
    records.write(ProcessRecord(7, 1 << 30, 17))
    (tmp_path / "8").write_text("{")
    (tmp_path / "9.new").write_text("{}")
    assert [(r.pid, r.is_alive) for r in records.load()] == [(5, True), (6, False), (7, False)]
