"""How an element is told to stop, and how often it gives a sign of life."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from hosts.agent import Registration
from protocol import wire
from protocol.rack import Element
from protocol.wire import Header, Op

ROOT = Path(__file__).resolve().parents[2]


def test_many_signals_at_any_moment_stop_it() -> None:
    """The handler runs between any two instructions of the main thread, also while that waits or looks."""
    code = """
import sys
from hosts.agent import StopSignal
stop = StopSignal()
print("ready", flush=True)
stop.wait()
print(stop.is_set, flush=True)
"""
    for _ in range(5):
        child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        for _ in range(20):
            child.send_signal(signal.SIGTERM)
        assert child.wait(60) in (0, -signal.SIGTERM)  # the last ones may meet an interpreter that is on its way out


def test_the_interval_of_heartbeats_follows_the_controller_at_once() -> None:
    sent: list[tuple[float, Header, bytes]] = []

    class Link:
        def send(self, frame: bytes) -> None:
            sent.append((time.monotonic(), Header.unpack(frame, 14), frame[wire.FRAME_OVERHEAD :]))

    registration = Registration(Link(), Element(name="c1", id=1, kind="compute", port=1))  # type: ignore[arg-type]
    welcome = Header(Op.HELLO | wire.REPLY)
    registration.on_reply(welcome, wire.HELLO_REPLY.pack(1, 60000, 0))
    registration.start()
    try:
        for interval in (60000, 10, 60000):
            registration.on_reply(welcome, wire.HELLO_REPLY.pack(1, interval, 0))
            deadline = time.monotonic() + 30
            while not sent or wire.HEARTBEAT_ARGS.unpack_from(sent[-1][2])[0] != interval:
                assert time.monotonic() < deadline, f"it does not beat every {interval} ms"
                time.sleep(0.005)
            assert sent[-1][1].op == Op.HEARTBEAT
    finally:
        registration.stop()
