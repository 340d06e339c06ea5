"""Reads 64 bytes at a time, for one process or for many in turn, from the port of their element: round trips without the cost of
a thousand Python processes. Driven like ``experiments.worker``."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

from experiments import worker
from hosts.link import Link, frame
from hosts.process import SOCKET_NAME, Process
from protocol.wire import Flag, Header, Op, Status

SIZE = 64
PATIENCE = 1.0  # seconds; without load nothing is lost


class Pinger:
    """The commands. The many are processes by their connections to the local OS alone."""

    def __init__(self, process: Process, interface: str, run_dir: str):
        self.process = process
        self._link = Link(interface)
        self._path = str(Path(run_dir) / SOCKET_NAME)
        self._others: list[socket.socket] = []
        self._ids = itertools.count(time.time_ns() | 1 << 62)

    def do_alloc(self, size: int) -> dict[str, Any]:
        """Memory for this process."""
        return {"va": self.process.alloc(size).va}

    def do_create(self, count: int) -> dict[str, Any]:
        """More processes on this element; their pids."""
        pids: list[int] = []
        for number in range(count):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._others.append(connection)
            connection.connect(self._path)
            connection.sendall(json.dumps({"create": f"many{number}"}).encode() + b"\n")
            answer = json.loads(connection.makefile("rb", buffering=0).readline())
            if "pid" not in answer:
                return {"pids": pids, "error": f"process {number} of {count} was not created: {answer.get('error')}"}
            pids.append(answer["pid"])
        return {"pids": pids, "error": ""}

    def do_end(self) -> dict[str, Any]:
        """End them."""
        for connection in self._others:
            with contextlib.suppress(OSError):
                connection.sendall(b'{"close": true}\n')
            connection.close()
        self._others.clear()
        return {}

    def do_ping(self, targets: list[tuple[int, int]], rounds: int) -> dict[str, Any]:
        """Round trips in microseconds: (pid, va) in turn, one request at a time."""
        samples: list[float] = []
        link = self._link
        element = self.process.element
        for pid, va in itertools.islice(itertools.cycle(targets), rounds):
            request_id = next(self._ids)
            data = frame(element, Header(Op.READ, pid=pid, va=va, length=SIZE, request_id=request_id))
            start = time.perf_counter()
            link.send(data)
            while True:
                answer = link.receive(PATIENCE)
                if answer is None:
                    return {"samples": samples, "error": f"no answer for process {pid}"}
                reply = Header.unpack(answer, 14)
                if reply.request_id == request_id:
                    break
            samples.append((time.perf_counter() - start) * 1e6)
            if reply.status != Status.OK:
                by = "switch" if reply.flags & Flag.BY_SWITCH else "element"
                return {"samples": samples, "error": f"process {pid}: {Status(reply.status).name} by the {by}"}
        return {"samples": samples, "error": ""}


def main() -> int:
    """Serve commands."""
    parser = worker.options(__doc__)
    parser.add_argument("--interface", required=True)
    arguments = parser.parse_args()
    with Process.create(arguments.run_dir, arguments.name) as process:
        worker.serve(Pinger(process, arguments.interface, arguments.run_dir), process.pid)
    return 0


if __name__ == "__main__":
    sys.exit(main())
