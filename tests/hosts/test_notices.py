"""Notices: to callbacks by kind, as SIGBUS to real Unix processes, and to emergency contacts, also of a process that has died."""

from __future__ import annotations

import json
import queue
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hosts.local_os import LocalOs
from hosts.notices import Contact, ContactListener, Notice
from hosts.process import LocalOsError, Process
from protocol import wire
from protocol.rack import Element
from protocol.wire import Header, NotifyCode, Op, Status
from tests.hosts.test_life_cycle import QUICK, ScriptedWire, reply_to, wait_for

VA = 77 << 48 | 0x5000
ELEMENT = Element(name="c1", id=1, kind="compute", port=1)
# A process that knows nothing of this project but the local OS's socket and POSIX signals.
PROGRAM = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static volatile sig_atomic_t seen;
static volatile uint64_t address;
static volatile int code;

static void on_bus_error(int number, siginfo_t *info, void *context) {
    (void)context;
    address = (uint64_t)info->si_value.sival_ptr;
    code = info->si_code;
    seen = number;
}

int main(int argc, char **argv) {
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &action, NULL);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    strncpy(at.sun_path, argv[argc - 1], sizeof at.sun_path - 1);
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(s, (struct sockaddr *)&at, sizeof at) != 0) return 1;
    dprintf(s, "{\"create\": \"legacy\", \"sigbus\": true}\n");
    char answer[256];
    if (read(s, answer, sizeof answer) <= 0) return 1;
    puts("created");
    fflush(stdout);
    while (!seen) pause();
    printf("%d %d %llx\n", (int)seen, code == SI_QUEUE, (unsigned long long)address);
    return 0;
}
"""


class Rack:
    """A local OS whose controller is a script: it answers control requests, and can send notices."""

    def __init__(self, directory: Path):
        self.exits: list[tuple[int, bytes]] = []
        self.busy_until = 0.0  # the controller has too much to do for ends of processes
        self.wire = ScriptedWire(self._answer)
        self.local_os = LocalOs(ELEMENT, "lo", self.wire, directory, QUICK)
        self.local_os.start()
        self._notices = 0

    def _answer(self, header: Header, payload: bytes) -> list[bytes]:
        if header.op == Op.PROCESS_EXIT:
            if time.monotonic() < self.busy_until:
                return [reply_to(header, status=Status.BUSY)]
            self.exits.append((header.va, payload))
        return [] if header.op & wire.REPLY else [reply_to(header, va=77)]

    def notify(self, code: int, about: int = 101, va: int = VA, pages: int = 2, pid: int = 77) -> None:
        self._notices += 1
        payload = wire.NOTIFY_ARGS.pack(code, 0, about, 0, va, pages)
        header = Header(Op.NOTIFY, pid=pid, dst=1, length=len(payload), request_id=self._notices)
        self.wire.replies.put(bytes(14) + header.pack() + payload)


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[Rack]:
    made = Rack(tmp_path / "os")
    yield made
    made.local_os.close()


@pytest.fixture
def process(rack: Rack) -> Iterator[Process]:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(rack.local_os.path))
    connection.sendall(b'{"create": "kv"}\n')
    connection.recv(200)
    with Process(77, 1, ScriptedWire(lambda header, _: []), connection, QUICK) as made:
        yield made


def test_callbacks_by_kind(rack: Rack, process: Process) -> None:
    failures: queue.Queue[Notice] = queue.Queue()
    grants: queue.Queue[Notice] = queue.Queue()
    process.on_failure(failures.put)
    process.on_grant(grants.put)
    rack.notify(99)  # from a newer controller: acknowledged, and logged
    rack.notify(NotifyCode.GRANTED, about=5)
    rack.notify(NotifyCode.STOLEN, about=6)
    assert str(grants.get(timeout=30)) == f"GRANTED: process 5, 2 pages from {VA:#x}"
    assert failures.get(timeout=30) == Notice(NotifyCode.STOLEN, 6, VA, 2)
    assert grants.empty() and failures.empty()


def test_sigbus_to_a_unix_process_that_registered(rack: Rack, tmp_path: Path) -> None:
    source, program = tmp_path / "legacy.c", tmp_path / "legacy"
    source.write_text(PROGRAM)
    subprocess.run(["gcc", "-o", str(program), str(source)], check=True, timeout=60)
    legacy = subprocess.Popen([str(program), str(rack.local_os.path)], stdout=subprocess.PIPE, text=True)
    try:
        assert legacy.stdout is not None
        assert legacy.stdout.readline() == "created\n"
        rack.notify(NotifyCode.GRANTED)  # no failure: no signal
        rack.notify(NotifyCode.ELEMENT_FAILED)
        output, _ = legacy.communicate(timeout=30)
        assert output.split() == [str(int(signal.SIGBUS)), "1", f"{VA:x}"]
        assert legacy.returncode == 0
    finally:
        if legacy.poll() is None:
            legacy.kill()


def test_a_process_that_did_not_register_gets_no_signal(rack: Rack, tmp_path: Path) -> None:
    script = (
        "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n"
        "s.sendall(b'{\"create\": \"x\"}\\n')\nf = s.makefile()\nf.readline()\nprint('created', flush=True)\nprint(f.readline())"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(rack.local_os.path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "created\n"
    rack.notify(NotifyCode.ELEMENT_FAILED)
    output, _ = child.communicate(timeout=30)
    assert json.loads(output)["va"] == VA
    assert child.returncode == 0


def test_contacts_hear_of_failures_also_when_the_process_is_dead(rack: Rack) -> None:
    contact = ContactListener()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(rack.local_os.path))
    connection.sendall(b'{"create": "kv"}\n')
    connection.recv(200)
    connection.sendall(b'no json\n{"contacts": 5}\n')  # nonsense costs nothing
    there = {"host": contact.host, "port": contact.port}
    connection.sendall(json.dumps({"contacts": [there]}).encode() + b"\n")
    wait_for(lambda: rack.local_os.contacts.of(77))
    rack.notify(NotifyCode.ELEMENT_FAILED)
    assert contact.received.get(timeout=30)[:2] == (77, {"code": 1, "about": 101, "va": VA, "pages": 2, "group": 0})
    connection.close()  # it dies
    assert contact.received.get(timeout=30)[:2] == (77, {"event": "process_crashed"})
    wait_for(lambda: rack.exits == [(77, wire.PROCESS_EXIT_ARGS.pack(1))])
    rack.notify(NotifyCode.STOLEN, about=6)
    assert contact.received.get(timeout=30)[1]["code"] == NotifyCode.STOLEN
    contact.close()


def test_an_end_is_reported_however_long_the_controller_is_busy(rack: Rack, process: Process) -> None:
    """Otherwise nobody would ever free its memory."""
    rack.busy_until = time.monotonic() + 2.5 * QUICK.budget
    process.close()
    wait_for(lambda: rack.exits == [(77, wire.PROCESS_EXIT_ARGS.pack(0))])


def test_a_process_that_closes_is_no_emergency(rack: Rack, process: Process) -> None:
    contact = ContactListener()
    process.set_contacts([Contact(contact.host, contact.port)])
    wait_for(lambda: rack.local_os.contacts.of(77))
    process.close()
    wait_for(lambda: rack.exits == [(77, wire.PROCESS_EXIT_ARGS.pack(0))])
    assert rack.local_os.contacts.of(77) == ()
    assert contact.received.empty()
    contact.close()


def test_contacts_need_a_local_os() -> None:
    with Process(5, 1, ScriptedWire(lambda header, _: []), None, QUICK) as process, pytest.raises(LocalOsError):
        process.set_contacts([])
