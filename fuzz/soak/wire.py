"""The share of the soak that goes over real interfaces: a switch process on veth pairs, and controllers that come and go.

``python -m fuzz.soak.wire FRAMES`` in a network namespace of its own (run.py makes one). Frames are sent into one end, while a
controller connects, becomes primary, writes and reads tables, sets up sessions and groups, receives digests, and hangs up
without a word, over and over. Prints one JSON object: figures, and samples of the switch's memory.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import grpc
from finsy.proto import p4r, p4r_grpc

from fuzz.soak.growth import Sample, of_process

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "fuzz" / "programs" / "passes.p4"
ADDRESS = "127.0.0.1:19559"
READY_SECONDS = 120.0  # a build from nothing on a busy machine is among it
SAMPLES = 48
ENTRIES = 100
RPC_SECONDS = 30.0
Kind = Any  # p4r.Update.INSERT, MODIFY or DELETE
# passes.p4: what shall happen (a bit each), the port or session, the multicast group, passes that are left
ORDERS = [
    (0x00, 1, 0, 0),
    (0x02, 1, 0, 0),
    (0x80, 3, 0, 0),
    (0x10, 1, 0, 3),
    (0x20, 1, 0, 3),
    (0x08, 1, 3, 0),
    (0x00, 64, 0, 0),
]


def links() -> None:
    """Two veth pairs, sw0-eh0 and sw1-eh1, in this network namespace."""
    commands = ["ip link set lo up", "sysctl -qw net.ipv6.conf.all.disable_ipv6=1"]
    for n in (0, 1):
        commands += [f"ip link add sw{n} type veth peer name eh{n}", f"ip link set sw{n} up", f"ip link set eh{n} up"]
    for command in commands:
        subprocess.run(command.split(), check=True)


class SwitchProcess:
    """``p4switch run`` on passes.p4 with both interfaces; more options and environment as given."""

    def __init__(self, *options: str, interfaces: bool = True, address: str = ADDRESS, **environment: str):
        command = ["setpriv", "--pdeathsig", "KILL", sys.executable]
        command += ["-m", "p4switch", "run", "--p4", str(PROGRAM), "--grpc-addr", address]
        command += ["--log-level", "error", *options]
        if interfaces:
            command += ["-i", "0@sw0", "-i", "1@sw1", "--cpu-port", "64"]
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            start_new_session=True,
        )

    def wait_ready(self) -> float:
        """Seconds from the start. Raises RuntimeError when it does not serve in time."""
        assert self.process.stdout is not None
        watchdog = threading.Timer(READY_SECONDS, self.process.kill)
        watchdog.start()
        line = self.process.stdout.readline()
        watchdog.cancel()
        if not line.startswith("READY"):
            self.end(signal.SIGKILL)
            raise RuntimeError(f"the switch said {line!r} instead of being ready within {READY_SECONDS:.0f} s")
        return time.monotonic() - self.started

    def end(self, number: int) -> int:
        """Send a signal and wait; returns the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


class Controller:
    """A primary on a connection of its own. gRPC errors come through."""

    def __init__(self, election: int = 1):
        self.election = election
        self.channel = grpc.insecure_channel(ADDRESS)
        self.stub = p4r_grpc.P4RuntimeStub(self.channel)
        self.hung_up = threading.Event()
        first = p4r.StreamMessageRequest()
        first.arbitration.election_id.low = election
        self.stream = self.stub.StreamChannel(itertools.chain([first], iter(self._wait, None)))
        status = next(self.stream).arbitration.status.code
        if status != 0:
            raise RuntimeError(f"election id {election} does not become primary: status {status}")
        request = p4r.GetForwardingPipelineConfigRequest()
        info = self.stub.GetForwardingPipelineConfig(request, timeout=RPC_SECONDS).config.p4info
        self.table = info.tables[0].preamble.id
        self.action = next(a.preamble.id for a in info.actions if a.preamble.alias == "follow")
        self.digest = info.digests[0].preamble.id

    def _wait(self) -> None:
        self.hung_up.wait()

    def entries(self, kind: Kind) -> list[p4r.Update]:
        """Updates of 100 entries of the table."""
        updates = []
        for number in range(ENTRIES):
            made = p4r.Update(type=kind)
            entry = made.entity.table_entry
            entry.table_id = self.table
            entry.match.add(field_id=1).lpm.CopyFrom(p4r.FieldMatch.LPM(value=bytes([128 + number]), prefix_len=8))
            entry.match.add(field_id=2).exact.value = b"\x05"
            if kind != p4r.Update.DELETE:
                entry.action.action.action_id = self.action
                entry.action.action.params.add(param_id=1, value=b"\x02")
            updates.append(made)
        return updates

    def write(self, updates: list[p4r.Update]) -> None:
        """Write some updates."""
        request = p4r.WriteRequest(updates=updates)
        request.election_id.low = self.election
        self.stub.Write(request, timeout=RPC_SECONDS)

    def read(self) -> int:
        """Read all table entries; returns their number."""
        wanted = p4r.Entity(table_entry=p4r.TableEntry())
        answers = self.stub.Read(p4r.ReadRequest(entities=[wanted]), timeout=RPC_SECONDS)
        return sum(len(answer.entities) for answer in answers)

    def replication(self, kind: Kind) -> list[p4r.Update]:
        """Updates of the digest, a clone session and a multicast group."""
        made = [p4r.Update(type=kind) for _ in range(3)]
        made[0].entity.digest_entry.digest_id = self.digest
        made[0].entity.digest_entry.config.max_list_size = 20
        session = made[1].entity.packet_replication_engine_entry.clone_session_entry
        session.session_id = 3
        session.replicas.add(egress_port=1, instance=1)
        group = made[2].entity.packet_replication_engine_entry.multicast_group_entry
        group.multicast_group_id = 3
        for port in (0, 1):
            group.replicas.add(egress_port=port, instance=port)
        return made

    def hang_up(self) -> None:
        """End the connection without a word."""
        self.channel.close()
        self.hung_up.set()


@dataclasses.dataclass
class Traffic:
    """Sends frames into eh0 until it is stopped."""

    sent: int = 0
    stop: threading.Event = dataclasses.field(default_factory=threading.Event)

    def run(self) -> None:
        """In a thread of its own."""
        rng = random.Random(1)
        frames = [
            bytes(order) + bytes(4) + rng.randbytes(rng.randrange(52, 1400)) for order in ORDERS for _ in range(9)
        ]
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
            out.bind(("eh0", 0))
            while not self.stop.is_set():
                for frame in frames:
                    out.send(frame)
                self.sent += len(frames)
                time.sleep(0.002)


def controllers(traffic: Traffic, frames: int, process: int) -> dict[str, Any]:
    """Controllers come and go until enough frames have passed; figures and samples."""
    samples: list[Sample] = []
    sessions = messages = 0
    while traffic.sent < frames:
        controller = Controller(election=sessions + 1)
        controller.write(controller.replication(p4r.Update.INSERT))
        for _ in range(3):
            for kind in (p4r.Update.INSERT, p4r.Update.MODIFY, p4r.Update.DELETE):
                controller.write(controller.entries(kind))
            controller.read()
            next(controller.stream)  # a digest or packet-in: frames pass all the time
            messages += 1
        controller.write(controller.replication(p4r.Update.DELETE))
        controller.hang_up()
        sessions += 1
        progress = traffic.sent / frames
        if not samples or progress - samples[-1].progress > 1 / SAMPLES:
            samples.append(of_process(process, progress))
    return {"samples": [dataclasses.astuple(s) for s in samples], "sessions": sessions, "messages": messages}


def received(interface: str) -> int:
    """Frames that have arrived on an interface."""
    command = ["ip", "-s", "-j", "link", "show", interface]
    shown = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return int(shown[0]["stats64"]["rx"]["packets"])


def main() -> None:
    """Run; prints JSON."""
    links()
    frames, traffic = int(sys.argv[1]), Traffic()
    with tempfile.TemporaryDirectory() as scratch:
        switch = SwitchProcess(TMPDIR=scratch, MALLOC_ARENA_MAX="1")  # arenas of threads grow for long
        sender = threading.Thread(target=traffic.run)
        try:
            switch.wait_ready()
            sender.start()
            seen = controllers(traffic, frames, switch.process.pid)
            traffic.stop.set()
            sender.join()
            seen |= {"sent": traffic.sent, "received": sum(received(f"eh{n}") for n in (0, 1))}
            seen["status"] = switch.end(signal.SIGTERM)
        finally:
            traffic.stop.set()
            if switch.process.poll() is None:
                switch.end(signal.SIGKILL)
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
