"""The switch as a process: entries at the start, restarts, sudden deaths."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from finsy.proto import p4r, p4r_grpc
from google.protobuf import text_format

from p4switch.compiler import entries as entries_of
from p4switch.compiler import p4info
from p4switch.compiler.driver import compile_source
from tests.p4switch.server.conftest import DEVICE, HERE, Client, Program, connected
from tests.p4switch.server.entries import INSERT, action, entry, exact, lpm, update

SOURCE = HERE / "entities.p4"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def switch(directory: Path, port: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    """``python -m p4switch run`` until it serves."""
    ready = directory / "ready"
    command = [sys.executable, "-m", "p4switch", "run", "--grpc-addr", f"127.0.0.1:{port}", "--ready-file", str(ready)]
    with (directory / "log").open("a") as log:
        process = subprocess.Popen(
            [*command, "--device-id", str(DEVICE), *options], stdout=log, stderr=log, text=True, cwd=HERE.parents[2]
        )
    try:
        deadline = time.monotonic() + 30
        while not ready.exists():
            assert process.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(60)
        ready.unlink(missing_ok=True)


def entries_file(program: Program, file: Path, *more: p4r.Update) -> Path:
    """What the program comes with, and more."""
    compiled = compile_source(SOURCE).program
    request = entries_of.build(compiled, p4info.build(compiled))
    request.updates.extend(more)
    file.write_text(entries_of.to_text(request))
    return file


def test_entries_out(tmp_path: Path, program: Program) -> None:
    """``compile --entries-out`` lists const and initial entries, which a server that runs the program gives back."""
    out = tmp_path / "entries.txtpb"
    command = [sys.executable, "-m", "p4switch", "compile", str(SOURCE), "--entries-out", str(out)]
    subprocess.run(command, check=True, cwd=HERE.parents[2], timeout=400)
    request = text_format.Parse(out.read_text(), p4r.WriteRequest())
    listed = [(u.type, u.entity.table_entry.table_id, u.entity.table_entry.is_const) for u in request.updates]
    const, initial = program.id("tables", "const_table"), program.id("tables", "initial_table")
    assert listed == [(INSERT, const, True)] * 2 + [(INSERT, initial, True), (INSERT, initial, False)]
    assert request.updates[0].entity.table_entry.action.action.params[0].value == b"\0\1"


def test_run_with_entries(tmp_path: Path, program: Program) -> None:
    """The file may repeat what the program has; what it adds is there when the switch serves."""
    route = entry(program, "lpm_table", lpm(1, b"\x0a\0\0\0", 8), action=action(program, "forward", b"\3"))
    changed = entry(program, "initial_table", exact(1, b"\2"), action=action(program, "forward", b"\6"))
    file = entries_file(
        program, tmp_path / "entries.txtpb", update(INSERT, table_entry=route), update(INSERT, table_entry=changed)
    )
    port = free_port()
    options = ("--p4", str(SOURCE), "--entries", str(file))
    with switch(tmp_path, port, *options), connected(f"127.0.0.1:{port}", program) as client:
        held = client.read(p4r.Entity(table_entry=entry(program, "lpm_table")))
        assert held == [p4r.Entity(table_entry=route)]
        held = client.read(p4r.Entity(table_entry=changed))
        assert held == [p4r.Entity(table_entry=changed)]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("updates { type: NOTHING }", "no P4Runtime WriteRequest: 1:17"),
        ("updates { type: INSERT entity { table_entry { table_id: 5 } } }", "update 0: no table with id 0x5"),
    ],
)
def test_wrong_entries_files(tmp_path: Path, content: str, text: str) -> None:
    file = tmp_path / "entries.txtpb"
    file.write_text(content)
    command = [sys.executable, "-m", "p4switch", "run", "--p4", str(SOURCE), "--grpc-addr", "127.0.0.1:0"]
    done = subprocess.run(
        [*command, "--entries", str(file)],
        capture_output=True,
        text=True,
        timeout=400,
        cwd=HERE.parents[2],
        check=False,
    )
    assert done.returncode == 1
    assert f"{file}" in done.stderr.splitlines()[-1]
    assert text in done.stderr.splitlines()[-1]


def links(*names: str) -> list[dict[str, Any]]:
    """What the kernel says about interfaces, without what counts."""
    found = []
    for name in names:
        text = subprocess.run(
            ["ip", "-d", "-j", "link", "show", name], check=True, capture_output=True, text=True, timeout=10
        ).stdout
        found += json.loads(text)
    return found


@pytest.fixture
def pair() -> Iterator[tuple[str, str]]:
    """A veth pair."""
    names = (f"kill{os.getpid()}a", f"kill{os.getpid()}b")
    subprocess.run(["ip", "link", "add", names[0], "type", "veth", "peer", "name", names[1]], check=True, timeout=400)
    try:
        for name in names:
            subprocess.run(["ip", "link", "set", name, "up"], check=True, timeout=400)
        time.sleep(0.1)  # until both have a carrier
        yield names
    finally:
        subprocess.run(["ip", "link", "del", names[0]], check=True, timeout=400)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="interfaces need root")
def test_killed_and_started_again_at_once(tmp_path: Path, program: Program, pair: tuple[str, str]) -> None:
    """A switch that is killed leaves nothing behind: the next takes the same port and interface at once."""
    before = links(*pair)
    port = free_port()
    for _ in range(3):
        with (
            switch(tmp_path, port, "--no-p4", "-i", f"1@{pair[0]}") as process,
            connected(f"127.0.0.1:{port}", program) as client,
        ):
            client.take_over()
            held = entry(program, "exact_table", exact(1, b"\1"), action=action(program, "metered", b"\1"))
            client.write(update(INSERT, table_entry=held))
            os.kill(process.pid, signal.SIGKILL)
            process.wait(60)
    assert links(*pair) == before
    with switch(tmp_path, port, "--no-p4", "-i", f"1@{pair[0]}") as process:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            p4r_grpc.P4RuntimeStub(channel).Capabilities(p4r.CapabilitiesRequest(), timeout=400)
        process.terminate()
        assert process.wait(60) == 0
    assert links(*pair) == before


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """Two switches cannot share a port: the second says so."""
    port = free_port()
    with switch(tmp_path, port, "--no-p4"):
        command = [sys.executable, "-m", "p4switch", "run", "--no-p4", "--grpc-addr", f"127.0.0.1:{port}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, cwd=HERE.parents[2], check=False)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr.splitlines()[-1]


def test_a_client_outlives_a_restart(tmp_path: Path, program: Program) -> None:
    """The next switch on the port serves a channel that was open before."""
    port = free_port()
    with switch(tmp_path, port, "--no-p4") as process, connected(f"127.0.0.1:{port}", program) as client:
        client.take_over()
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)
        assert isinstance(client.streams[0].next(), grpc.RpcError)
        with switch(tmp_path, port, "--no-p4"):
            again = Client(client.stub, program)
            deadline = time.monotonic() + 60
            while True:
                answer = again.stream().arbitrate(1)
                if not isinstance(answer, grpc.RpcError):
                    break
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert answer.arbitration.status.code == 0
            for stream in again.streams:
                stream.close()


def test_ended_under_load(tmp_path: Path, program: Program) -> None:
    """A switch that is told to end while clients write, read and send packets ends well, and soon."""
    for _ in range(3):
        port = free_port()
        options = ("--p4", str(SOURCE), "--cpu-port", "64")
        with switch(tmp_path, port, *options) as process, connected(f"127.0.0.1:{port}", program) as client:
            stream = client.stream()
            stream.arbitrate(1)
            keys = [lpm(1, bytes([1 + n // 256, n % 256, 0, 0]), 16) for n in range(500)]
            route = action(program, "forward", b"\3")
            inserts = [update(INSERT, table_entry=entry(program, "lpm_table", key, action=route)) for key in keys]
            message = p4r.PacketOut(payload=bytes(200))
            message.metadata.add(metadata_id=1, value=b"\5")
            ended = threading.Event()

            def load(atomicity: int, client: Client = client, ended: threading.Event = ended) -> None:
                while not ended.is_set():
                    try:
                        client.try_write_all(*inserts, atomicity=atomicity)  # noqa: B023
                        client.read(p4r.Entity(table_entry=p4r.TableEntry()))
                    except grpc.RpcError:
                        return

            threads = [threading.Thread(target=load, args=(n % 2,)) for n in range(4)]
            for thread in threads:
                thread.start()
            for _ in range(300):
                stream.send(packet=message)
            time.sleep(0.3)
            process.terminate()
            try:
                assert process.wait(60) == 0, (tmp_path / "log").read_text()[-2000:]
            finally:
                ended.set()
                for thread in threads:
                    thread.join()
