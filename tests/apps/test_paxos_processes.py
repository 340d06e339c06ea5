"""Replicas as processes that keep their state in local memory, over the loopback interface; the command line; the client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.kv.commands import Status
from apps.paxos import frames
from apps.paxos.client import Client, ServiceError, Unknown
from apps.paxos.control import ControlError, ask
from experiments import kv_history

ROOT = Path(__file__).resolve().parents[2]


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Cluster:
    """Replicas by identity, all ordinary."""

    def __init__(self, out: Path):
        self.out = out
        ports = free_ports(12)
        self.serve = {n: f"127.0.0.1:{ports[n - 1]}" for n in range(1, 7)}
        self.control = {n: f"127.0.0.1:{ports[n + 5]}" for n in range(1, 7)}
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def servers(self, *ids: int) -> str:
        return ",".join(self.serve[n] for n in ids)

    def start(self, number: int, *options: str) -> None:
        members = ",".join(f"{n}={self.serve[n]}" for n in (1, 2, 3))
        command = ["replica", "--id", str(number), "--ordinary", "--state-mib", "2", "--members", members, *options]
        command += ["--listen", self.serve[number], "--control", self.control[number], "--election-ms", "1000"]
        command += ["--ready-file", str(self.out / f"{number}.ready")]
        with (self.out / f"{number}.log").open("wb") as log:
            whole = [sys.executable, "-m", "apps.paxos", *command]
            self.processes[number] = subprocess.Popen(whole, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)

    def wait_ready(self) -> None:
        self.wait(lambda: all((self.out / f"{n}.ready").exists() for n in self.processes), "all to be ready")

    def wait(self, condition: Any, what: str, seconds: float = 120) -> None:
        ends = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < ends, f"waited in vain for {what}: {self.logs()}"
            time.sleep(0.05)

    def logs(self) -> str:
        return "\n".join(f"{n}: ..." + (self.out / f"{n}.log").read_text()[-800:] for n in self.processes)

    def status(self, number: int) -> dict[str, Any]:
        return asyncio.run(ask(self.control[number], {"do": "status"}))

    def leader(self, *ids: int) -> int | None:
        alive = [n for n in ids if self.processes[n].poll() is None]
        return next((n for n in alive if self.status(n)["role"] == "leader"), None)

    def replace(self, old: int, new: int, current: list[int]) -> bool:
        """Ask the leader to, if there is one; again after a while, because a leader that loses its office forgets it."""
        add = f"{new}={self.serve[new]}"
        with contextlib.suppress(ControlError, OSError):  # another one leads by now, or it has happened
            asyncio.run(
                ask(self.control[self.leader(*current) or current[0]], {"do": "replace", "remove": old, "add": add})
            )
        ends = time.monotonic() + 3
        while time.monotonic() < ends and self.processes[old].poll() is None:
            time.sleep(0.05)
        return self.processes[old].poll() is not None

    def run(self, *command: str, status: int | None = 0) -> str:
        whole = [sys.executable, "-m", "apps.paxos", *command]
        done = subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
        assert status is None or done.returncode == status, (done, self.logs())
        return done.stdout + done.stderr

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            assert process.wait(60) in (0, 3, -signal.SIGKILL)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.stop()


def test_all_replicas_are_replaced_while_clients_work(cluster: Cluster) -> None:
    """Those who join know the founders only; in the end no founder is left."""
    cluster.start(1, "--lead")
    for number in (2, 3):
        cluster.start(number)
    for number in (4, 5, 6):
        cluster.start(number, "--join")
    cluster.wait_ready()
    cluster.wait(lambda: cluster.leader(1, 2, 3) == 1, "a leader")
    servers = cluster.servers(1, 2, 3, 4, 5, 6)
    assert cluster.run("put", "--servers", servers, "k", "v") == ""
    history = cluster.out / "history.jsonl"
    options = ["--seconds", "7", "--clients", "3", "--keys", "6", "--history", str(history)]
    load = subprocess.Popen(
        [sys.executable, "-m", "apps.paxos", "load", "--servers", servers, *options], cwd=ROOT, stdout=subprocess.PIPE
    )
    current = [1, 2, 3]
    for old, new in ((1, 4), (2, 5), (3, 6)):
        cluster.wait(lambda old=old, new=new, ids=current: cluster.replace(old, new, ids), f"{old} to be replaced")
        cluster.wait(lambda old=old: cluster.processes[old].poll() == 3, f"{old} to end")
        current = [new if n == old else n for n in current]
        cluster.wait(lambda ids=current: any(cluster.status(n).get("full") for n in ids), f"{new} to catch up")
    assert load.wait(300) == 0
    operations = kv_history.load(history)
    assert len(operations) > 100
    assert kv_history.check(operations) == []
    assert cluster.run("get", "--servers", cluster.servers(4, 5, 6), "k") == "v\n"
    assert cluster.status(4)["members"] == [4, 5, 6]


def test_a_leader_dies_and_a_spare_takes_its_place(cluster: Cluster) -> None:
    spare = f"4={cluster.serve[4]}"
    cluster.start(1, "--lead", "--preload-mib", "1")
    for number in (2, 3):
        cluster.start(number, "--preload-mib", "1", "--spare", spare, "--replace-ms", "800")
    cluster.start(4, "--join")
    cluster.wait_ready()
    cluster.wait(lambda: cluster.leader(1, 2, 3) == 1, "a leader")
    servers = cluster.servers(1, 2, 3)
    assert cluster.run("cas", "--servers", servers, "k", "1", "2", status=1) == ""
    cluster.run("put", "--servers", servers, "k", "1")
    cluster.run("cas", "--servers", servers, "k", "1", "2")
    os.kill(cluster.processes[1].pid, signal.SIGKILL)
    assert cluster.run("get", "--servers", servers, "k") == "2\n"
    cluster.wait(lambda: any(cluster.status(n).get("full") for n in (2, 3)), "the spare to catch up")
    found = cluster.status(4)
    assert found["members"] == [2, 3, 4]
    assert found["counts"]["state bytes received"] > 1 << 20
    assert found["items"] == cluster.status(2)["items"] > 1000
    cluster.run("delete", "--servers", cluster.servers(4), "k")
    cluster.run("delete", "--servers", cluster.servers(2, 3), "k", status=1)
    assert "no key 'k'" in cluster.run("get", "--servers", cluster.servers(2, 3), "k", status=1)
    told = json.loads(cluster.run("status", cluster.control[2]))
    assert any("replaces replica 1 by 4" in text for n in (2, 3) for _, text in cluster.status(n)["events"])
    assert told["id"] == 2


def test_requests_that_cannot_be_carried_out(cluster: Cluster) -> None:
    cluster.start(1)
    cluster.wait_ready()  # alone: it never leads
    for request, text in (
        ({"do": "dance"}, "expected status"),
        ({"do": "replace", "remove": 1, "add": "x"}, "expected"),
        ({"do": "replace", "remove": 1, "add": "9=h:1"}, "not the leader"),
        ({"do": "take_over", "replica": 1}, "only a standby"),
        ({"announce": {"replica": 1}}, "expected replica, pid, va and size"),
    ):
        with pytest.raises(ControlError, match=text):
            asyncio.run(ask(cluster.control[1], request))
    out = cluster.run("get", "--servers", cluster.serve[1], "--timeout", "0.5", "k", status=1)
    assert "no answer to OPEN" in out
    asyncio.run(ask(cluster.control[1], {"do": "stop"}))
    assert cluster.processes[1].wait(60) == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--id", "9", "--ordinary"], "not among --members"),
        (["--id", "1"], "exactly one of --run-dir"),
        (["--id", "1", "--ordinary", "--run-dir", "/tmp"], "exactly one of --run-dir"),
        (["--id", "1", "--ordinary", "--election-ms", "100"], "at least twice"),
        (["--id", "1", "--ordinary", "--state-mib", "0"], "at least 1"),
        (["--id", "x", "--ordinary"], "--id: 'x' is no number"),
        (["--id", "1", "--secret-file", "nowhere"], "--secret-file: [Errno 2] No such file"),
        (["--id", "1", "--standby", "here"], "--standby: 'here' is no address"),
    ],
)
def test_options_that_make_no_sense(cluster: Cluster, options: list[str], text: str) -> None:
    addresses = ["--listen", cluster.serve[1], "--control", cluster.control[1], "--members", f"1={cluster.serve[1]}"]
    assert text in cluster.run("replica", *options, *addresses, status=2)


# -------------------------------------------------------------------------------------------------------------------- client


async def _with_server(handler: Any, use: Any) -> Any:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with Client([f"{host}:{port}"], attempt=0.2, budget=1.0, seed=1) as client:
        try:
            return await use(client)
        finally:
            server.close()


def test_the_client_repeats_on_a_new_connection_with_the_same_number() -> None:
    from apps.kv.commands import Answer, decode_command, encode

    seen = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await frames.read(reader)
            while True:
                command = decode_command(await frames.read(reader))
                seen.append((command.session, command.number, command.kind.name))
                if len(seen) == 2:
                    writer.close()  # in the middle of the first operation
                    return
                status = Status.NOT_LEADER if len(seen) == 3 else Status.FULL if len(seen) == 5 else Status.DONE
                writer.write(frames.pack(encode(Answer(99, 99, Status.DONE))))  # not for it
                writer.write(frames.pack(encode(Answer(command.session, command.number, status, opened=5))))
        except (EOFError, OSError):
            return

    async def use(client: Client) -> None:
        await client.put(b"k", b"v")
        with pytest.raises(ServiceError, match="FULL"):
            await client.put(b"k", b"v")
        assert client.reconnects == 2

    asyncio.run(_with_server(handler, use))
    assert [s[2] for s in seen] == ["OPEN", "PUT", "PUT", "PUT", "PUT"]
    assert seen[1] == seen[2] == seen[3] == (5, 1, "PUT")
    assert seen[4] == (5, 2, "PUT")


def test_the_client_says_when_nobody_knows_the_outcome() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def use(client: Client) -> None:
        with pytest.raises(Unknown, match="no answer to OPEN in 1 s"):
            await client.get(b"k")

    asyncio.run(_with_server(handler, use))
    with pytest.raises(ValueError, match="no servers"):
        Client([])
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        Client(["somewhere"])


def test_a_frame_that_is_too_long_is_refused() -> None:
    async def read() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data((frames.MAX_FRAME + 1).to_bytes(4, "big"))
        with pytest.raises(frames.FrameError, match="at most"):
            await frames.read(reader)

    asyncio.run(read())
