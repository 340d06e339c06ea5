"""Kills a switch with SIGKILL in the middle of everything, looks for what is left, and starts it again; run by test_kill.py.

``python kill_scenario.py DIRECTORY SEED`` in a network namespace of its own. First the switch is killed while it compiles its
program for the first time, then several times while frames pass, a client writes tables, another one reads them, and captures
and a trace are written. Last all files of the cache are damaged, and two switches start with it at once. Prints one JSON object
with what it saw; raises AssertionError where something is left.
"""

from __future__ import annotations

import contextlib
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
from finsy.proto import p4r

from fuzz.soak.wire import ADDRESS, READY_SECONDS, Controller, SwitchProcess, Traffic, links
from p4switch import cache

OTHER_ADDRESS = "127.0.0.1:19560"
ROUNDS = 3
ENHANCED_PACKET = 6  # block type
FRAME = bytes([0, 1, 0, 0]) + bytes(60)  # passes.p4: the second byte is the port it leaves on


def start(place: Path) -> SwitchProcess:
    """A switch with everything on."""
    return SwitchProcess(
        *("--pcap", str(place / "pcap"), "--trace", str(place / "trace"), "--ready-file", str(place / "ready")),
        P4SWITCH_CACHE=str(place / "cache"),
        TMPDIR=str(place / "tmp"),
    )


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


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


class Clients:
    """A primary that writes, a reader, a listener and a sender of frames, each in a thread, until the switch is gone."""

    def __init__(self) -> None:
        self.writes = self.reads = 0
        self.stop = threading.Event()
        self.controller = Controller()
        self.traffic = Traffic(stop=self.stop)
        works = (self.write, self.read, self.listen, self.traffic.run)
        self.threads = [threading.Thread(target=self.guarded, args=(w,), daemon=True) for w in works]
        for thread in self.threads:
            thread.start()

    def guarded(self, work: Callable[[], None]) -> None:
        with contextlib.suppress(grpc.RpcError, StopIteration):
            while not self.stop.is_set():
                work()

    def write(self) -> None:
        for kind in (p4r.Update.INSERT, p4r.Update.DELETE):
            self.controller.write(self.controller.entries(kind))
            self.writes += 1

    def read(self) -> None:
        self.controller.read()
        self.reads += 1

    def listen(self) -> None:
        next(self.controller.stream)

    def busy(self) -> bool:
        return self.writes > 2 and self.reads > 0 and self.traffic.sent > 100

    def close(self) -> None:
        self.stop.set()
        self.controller.hang_up()
        for thread in self.threads:
            thread.join(60)
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


def check_left_behind(place: Path, switch: SwitchProcess) -> None:
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


def passes() -> bool:
    """A frame goes through."""
    raw = (socket.AF_PACKET, socket.SOCK_RAW)
    with socket.socket(*raw, socket.htons(3)) as far, socket.socket(*raw) as near:
        far.bind(("eh1", 3))
        far.settimeout(60)
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

    switch = start(place)
    wait_until(lambda: any((place / "cache").iterdir()), "nothing is compiled", READY_SECONDS)
    time.sleep(rng.uniform(0, 0.5))
    assert switch.end(signal.SIGKILL) == -signal.SIGKILL
    check_left_behind(place, switch)

    for _ in range(ROUNDS):
        switch = start(place)
        seen["starts"].append(round(switch.wait_ready(), 2))
        clients = Clients()
        time.sleep(rng.uniform(0.3, 0.8))
        wait_until(clients.busy, "the clients do nothing")
        assert switch.end(signal.SIGKILL) == -signal.SIGKILL
        clients.close()
        check_left_behind(place, switch)
        captures = [records(place / "pcap" / f"port{n}.pcapng") for n in (0, 1)]
        figures = {
            "writes": clients.writes,
            "reads": clients.reads,
            "frames": clients.traffic.sent,
            "captures": captures,
        }
        seen["rounds"].append(figures)

    damage(place / "cache", rng)
    cache_only = {"P4SWITCH_CACHE": str(place / "cache")}
    switch, other = start(place), SwitchProcess(interfaces=False, address=OTHER_ADDRESS, **cache_only)
    seen["starts"] += [round(s.wait_ready(), 2) for s in (switch, other)]
    seen["works"] = passes()
    seen["status"] = [s.end(signal.SIGTERM) for s in (switch, other)]
    check_cache(place / "cache")
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
