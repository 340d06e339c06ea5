"""A register in rack memory, served over TCP at a service address: the smallest service that can be taken over."""

from __future__ import annotations

import socketserver
import threading
import time
from typing import Any

from experiments import worker
from hosts.process import Process, Region, RemoteMemoryError
from protocol import capability
from protocol.wire import PAGE_SIZE


class Register:
    """The commands of a :class:`experiments.workers.Worker`."""

    def __init__(self, process: Process):
        self.process = process
        self.va = 0

    def do_serve(self, address: str, port: int, group: int, secret: str) -> dict[str, Any]:
        del secret
        self.va = self.process.alloc(PAGE_SIZE, group=group).va
        self._listen(port)
        self.process.take_address(address, group)
        return {"va": self.va}

    def do_take_over(self, address: str, port: int, va: int, source: int, group: int, secret: str) -> dict[str, Any]:
        token = capability.mint(bytes.fromhex(secret), group, self.process.pid, int(time.time()) + 60)
        self.process.steal(Region(va, PAGE_SIZE), source, token, group)
        self.va = va
        self._listen(port)
        self.process.take_address(address, group, token)
        return {"va": va}

    def do_write(self, value: int) -> dict[str, Any]:
        try:
            self.process.write(self.va, value.to_bytes(8, "big"))
        except RemoteMemoryError as error:
            return worker.describe(error)
        return {}

    def _listen(self, port: int) -> None:
        register = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for line in self.rfile:
                    what, _, value = line.decode().strip().partition(" ")
                    if what == "set":
                        register.process.write(register.va, int(value).to_bytes(8, "big"))
                        self.wfile.write(b"ok\n")
                    else:
                        self.wfile.write(b"%d\n" % int.from_bytes(register.process.read(register.va, 8), "big"))

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        threading.Thread(target=Server(("0.0.0.0", port), Handler).serve_forever, daemon=True).start()


if __name__ == "__main__":
    arguments = worker.options(__doc__).parse_args()
    with Process.create(run_dir=arguments.run_dir, name=arguments.name) as process:
        worker.serve(Register(process), process.pid)
