"""Copies memory of one process to another's through the networks, as an application does that cannot grant: the source reads
its memory and sends it over the rack's IP network, the destination writes it to its own. Driven like ``experiments.worker``.
"""

from __future__ import annotations

import socket
import sys
import time
from typing import Any

from experiments import worker
from hosts.errors import RemoteMemoryError
from hosts.process import Process, Region
from protocol.wire import PAGE_SIZE

CHUNK = 64 * 1024  # bytes read, sent and written at a time; sending the next overlaps with writing this one
CONFIRMED = b"\1"


class Copier:
    """The commands."""

    def __init__(self, process: Process, address: str):
        self.process = process
        self._address = address
        self._listener: socket.socket | None = None
        self._granted: list[int] = []
        process.on_grant(lambda notice: self._granted.append(notice.va))

    def do_alloc(self, size: int) -> dict[str, Any]:
        """Memory."""
        return {"va": self.process.alloc(size).va}

    def do_free(self, va: int) -> dict[str, Any]:
        """All of it that begins there."""
        self.process.free(va)
        return {}

    def do_fill(self, va: int, size: int) -> dict[str, Any]:
        """Something in the first and last page, by which it is known again."""
        for at in {va, va + size - PAGE_SIZE}:
            self.process.write(at, at.to_bytes(8, "big"))
        return {}

    def do_holds(self, va: int, size: int, was: int) -> dict[str, Any]:
        """Whether it is what ``fill`` wrote, when it was at ``was``."""
        ends = {0, size - PAGE_SIZE}
        return {"same": all(self.process.read(va + at, 8) == (was + at).to_bytes(8, "big") for at in ends)}

    def do_listen(self) -> dict[str, Any]:
        """Be ready for a connection."""
        self._listener = socket.create_server((self._address, 0))
        return {"port": self._listener.getsockname()[1]}

    def do_receive(self, va: int, size: int) -> dict[str, Any]:
        """Write what comes to memory, then confirm."""
        assert self._listener is not None
        connection, _ = self._listener.accept()
        with connection, connection.makefile("rb", buffering=CHUNK) as stream:
            for offset in range(0, size, CHUNK):
                self.process.write(va + offset, stream.read(min(CHUNK, size - offset)))
            connection.sendall(CONFIRMED)
        self._listener.close()
        return {}

    def do_send(self, va: int, size: int, address: str, port: int) -> dict[str, Any]:
        """Read memory and send it; milliseconds until it was confirmed."""
        with socket.create_connection((address, port), timeout=30) as connection:
            connection.settimeout(120)
            start = time.perf_counter()
            for offset in range(0, size, CHUNK):
                connection.sendall(self.process.read(va + offset, min(CHUNK, size - offset)))
            if connection.recv(1) != CONFIRMED:
                return {"error": "the copy was not confirmed"}
            return {"ms": (time.perf_counter() - start) * 1e3, "error": ""}

    def do_grant(self, va: int, size: int, to: int) -> dict[str, Any]:
        """Grant; milliseconds until the controller acknowledged it."""
        start = time.perf_counter()
        try:
            self.process.grant(Region(va, size), to)
        except RemoteMemoryError as error:
            return {"error": str(error)}
        return {"ms": (time.perf_counter() - start) * 1e3, "error": ""}


def main() -> int:
    """Serve commands."""
    parser = worker.options(__doc__)
    parser.add_argument("--address", required=True, help="of this element on the rack's IP network")
    arguments = parser.parse_args()
    with Process.create(arguments.run_dir, arguments.name) as process:
        worker.serve(Copier(process, arguments.address), process.pid)
    return 0


if __name__ == "__main__":
    sys.exit(main())
