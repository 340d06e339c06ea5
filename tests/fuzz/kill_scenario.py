"""Kills a switch with SIGKILL in the middle of everything, looks for what is left, and starts it again; run by test_kill.py.

``python kill_scenario.py DIRECTORY SEED`` in a network namespace of its own. First the switch is killed while it compiles its
program for the first time, then several times while frames pass, a client writes tables, another one reads them, and captures
and a trace are written. Last all files of the cache are damaged, and two switches start with it at once. Prints one JSON object
with what it saw; raises AssertionError where something is left.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from finsy.proto import p4r, p4r_grpc

from p4switch import cache

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "fuzz" / "programs" / "passes.p4"
ADDRESS, OTHER_ADDRESS = "127.0.0.1:19559", "127.0.0.1:19560"
READY_SECONDS = 60.0  # a build from nothing on a busy machine is among it
ROUNDS = 3
ENHANCED_PACKET = 6  # block type
FRAME = bytes([0, 1, 0, 0]) + bytes(60)  # passes.p4: the second byte is the port it leaves on


def links() -> None:
    commands = ["ip link set lo up", "sysctl -qw net.ipv6.conf.all.disable_ipv6=1"]
    for n in (0, 1):
        commands += [f"ip link add sw{n} type veth peer name eh{n}", f"ip link set sw{n} up", f"ip link set eh{n} up"]
    for command in commands:
        subprocess.run(command.split(), check=True)


class Switch:
    """A running switch."""

    def __init__(self, place: Path, *, alone: bool = True):
        command = [sys.executable, "-m", "p4switch", "run", "--p4", str(PROGRAM), "--log-level", "error"]
        if alone:
            command += ["-i", "0@sw0", "-i", "1@sw1", "--grpc-addr", ADDRESS, "--cpu-port", "64"]
            command += [
                "--pcap",
                str(place / "pcap"),
                "--trace",
                str(place / "trace"),
                "--ready-file",
                str(place / "ready"),
            ]
        else:
            command += ["--grpc-addr", OTHER_ADDRESS]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "P4SWITCH_CACHE": str(place / "cache")}
        environment["TMPDIR"] = str(place / "tmp")
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )

    def wait_ready(self) -> float:
        """Seconds from the start."""
        assert self.process.stdout is not None
        watchdog = threading.Timer(READY_SECONDS, self.process.kill)
        watchdog.start()
        line = self.process.stdout.readline()
        watchdog.cancel()
        assert line.startswith("READY"), f"the switch said {line!r}"
        return time.monotonic() - self.started

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        status = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


def session_members(leader: int) -> list[str]:
    """Processes of a session, by their command."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue  # it has just ended
        name, _, rest = text.rpartition(")")
        if int(rest.split()[3]) == leader and rest.split()[0] != "Z":
            found.append(name)
    return found


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


class Clients:
    """A primary that writes, a reader, and a sender of frames, each in a thread, until the switch is gone."""

    def __init__(self) -> None:
        self.writes = self.reads = self.frames = 0
        self.stop = threading.Event()
        self.endings: list[str] = []
        self.channel = grpc.insecure_channel(ADDRESS)
        self.stub = p4r_grpc.P4RuntimeStub(self.channel)
        first = p4r.StreamMessageRequest(arbitration=p4r.MasterArbitrationUpdate(election_id={"low": 1}))  # type: ignore[arg-type]
        self.stream = self.stub.StreamChannel(itertools.chain([first], iter(self.stop.wait, True)))
        assert next(self.stream).arbitration.status.code == 0
        info = self.stub.GetForwardingPipelineConfig(p4r.GetForwardingPipelineConfigRequest()).config.p4info
        self.table = info.tables[0]
        self.action = next(a for a in info.actions if a.preamble.alias == "follow")
        works = (self.write, self.read, self.listen, self.send)
        self.threads = [threading.Thread(target=self.guarded, args=(w,), daemon=True) for w in works]
        for thread in self.threads:
            thread.start()

    def guarded(self, work: Callable[[], None]) -> None:
        try:
            while not self.stop.is_set():
                work()
        except grpc.RpcError as error:
            self.endings.append(error.code().name)

    def update(self, kind: int, number: int) -> p4r.Update:
        made = p4r.Update(type=kind)
        entry = made.entity.table_entry
        entry.table_id = self.table.preamble.id
        entry.match.add(field_id=1).lpm.CopyFrom(p4r.FieldMatch.LPM(value=bytes([128 + number]), prefix_len=8))
        entry.match.add(field_id=2).exact.value = b"\x05"
        entry.action.action.action_id = self.action.preamble.id
        entry.action.action.params.add(param_id=1, value=b"\x02")
        return made

    def write(self) -> None:
        for kind in (p4r.Update.INSERT, p4r.Update.DELETE):
            request = p4r.WriteRequest(election_id={"low": 1}, updates=[self.update(kind, n) for n in range(100)])  # type: ignore[arg-type]
            self.stub.Write(request)
            self.writes += 1

    def read(self) -> None:
        wanted = p4r.Entity(table_entry=p4r.TableEntry())
        list(self.stub.Read(p4r.ReadRequest(entities=[wanted])))
        self.reads += 1

    def listen(self) -> None:
        next(self.stream)

    def send(self) -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
            out.bind(("eh0", 0))
            while not self.stop.is_set():
                out.send(FRAME + random.randbytes(random.randrange(1400)))
                self.frames += 1
                if self.frames % 16 == 0:
                    time.sleep(0.001)

    def close(self) -> None:
        self.stop.set()
        self.channel.close()
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive(), "a client hangs after the switch was killed"


def records(path: Path) -> tuple[int, bool]:
    """The number of frames in whole blocks of a pcapng file, and whether it ends with a whole block.

    SIGKILL may end a write of many pages after any of them; nothing else may cut a block.
    """
    data, at, count = path.read_bytes(), 0, 0
    assert not data or data.startswith(b"\x0a\x0d\x0d\x0a"), f"{path}: no pcapng"
    while at + 12 <= len(data):
        kind, length = struct.unpack_from("=II", data, at)
        assert 12 <= length <= 10_000, f"{path}: a block of {length} bytes"
        if at + length > len(data):
            break
        assert struct.unpack_from("=I", data, at + length - 4)[0] == length, f"{path}: a block with two lengths"
        at, count = at + length, count + (kind == ENHANCED_PACKET)
    assert at == len(data) or len(data) % os.sysconf("SC_PAGE_SIZE") == 0, f"{path} ends within a block and a page"
    return count, at == len(data)


def check_left_behind(place: Path, switch: Switch) -> None:
    wait_until(lambda: not session_members(switch.process.pid), "processes of a killed switch go on")
    shown = json.loads(subprocess.run(["ip", "-d", "-j", "link"], capture_output=True, check=True).stdout)
    names = {link["ifname"]: link for link in shown}
    assert set(names) == {"lo", "sw0", "eh0", "sw1", "eh1"}, names
    assert not any(link["promiscuity"] for link in shown), "an interface is still promiscuous"
    assert not list((place / "tmp").iterdir()), "temporary files are left"
    assert {p.name for p in place.iterdir()} <= {"cache", "tmp", "pcap", "trace", "ready"}
    sockets = subprocess.run(["ss", "-H", "-l", "-n"], capture_output=True, text=True, check=True).stdout
    assert ADDRESS not in sockets, "its port is still open"
    check_cache(place / "cache")


def check_cache(place: Path) -> None:
    """Every file is whole, or one that was being made."""
    os.environ["P4SWITCH_CACHE"] = str(place)
    for path in place.iterdir():
        assert path.name.startswith(".build-") or cache.find(path.name), f"{path.name} is in the cache and not whole"


def damage(place: Path, rng: random.Random) -> None:
    """Cut files off, or change a byte of them."""
    for path in place.iterdir():
        if path.is_file():
            data = bytearray(path.read_bytes())
            at = rng.randrange(len(data))
            data[at] ^= 0xFF
            path.write_bytes(data[:at] if rng.random() < 0.5 else data)


def passes(switch: Switch) -> bool:
    """A frame goes through."""
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as far,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as near,
    ):
        far.bind(("eh1", 3))
        far.settimeout(5)
        near.bind(("eh0", 0))
        near.send(FRAME + b"works")
        while not far.recv(2000).endswith(b"works"):
            pass
    return True


def main() -> None:
    place, rng = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
    (place / "tmp").mkdir()
    (place / "cache").mkdir(mode=0o700)
    links()
    seen: dict[str, Any] = {"starts": [], "rounds": []}

    switch = Switch(place)
    wait_until(lambda: any((place / "cache").iterdir()), "nothing is compiled", READY_SECONDS)
    time.sleep(rng.uniform(0, 0.5))
    assert switch.end(signal.SIGKILL) == -signal.SIGKILL
    check_left_behind(place, switch)

    for _ in range(ROUNDS):
        switch = Switch(place)
        seen["starts"].append(round(switch.wait_ready(), 2))
        clients = Clients()
        time.sleep(rng.uniform(0.3, 0.8))
        wait_until(lambda c=clients: c.writes > 2 and c.reads > 0 and c.frames > 100, "the clients do nothing")  # type: ignore[misc]
        assert switch.end(signal.SIGKILL) == -signal.SIGKILL
        clients.close()
        check_left_behind(place, switch)
        captures = [records(place / "pcap" / f"port{n}.pcapng") for n in (0, 1)]
        figures = {"writes": clients.writes, "reads": clients.reads, "frames": clients.frames, "captures": captures}
        seen["rounds"].append(figures)

    damage(place / "cache", rng)
    switch, other = Switch(place), Switch(place, alone=False)
    seen["starts"] += [round(s.wait_ready(), 2) for s in (switch, other)]
    seen["works"] = passes(switch)
    seen["status"] = [s.end(signal.SIGTERM) for s in (switch, other)]
    check_cache(place / "cache")
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
