"""An instance of the store in parts, or a client that goes on while parts are handed over. Driven like ``experiments.worker``."""

from __future__ import annotations

import random
import sys
import threading
import time
from typing import Any

from apps.dataflow.exchange import Inbox, Outbox, Way
from apps.dataflow.memory import Counted
from apps.kv.bulk import items
from apps.shards.client import Client
from apps.shards.instance import Instance, Peer
from experiments import worker
from hosts.process import Process


class InstanceWorker:
    """The commands of an instance."""

    def __init__(self, process: Process, address: str):
        self.memory = Counted(process)  # what moves parts; the rest is not counted
        self.inbox = Inbox(self.memory, address)
        self.instance = Instance(process, address, self.inbox)
        self._peer: Peer | None = None

    def do_address(self) -> dict[str, Any]:
        """Where it receives parts, and where clients ask."""
        return {"inbox": self.inbox.port, "clients": self.instance.address[1]}

    def do_connect(self, address: str, inbox: int, clients: int, pid: int) -> dict[str, Any]:
        """Name the other instance."""
        self._peer = Peer((address, clients), Outbox(self.memory, address, inbox, pid))
        return {}

    def do_create(self, name: str, size: int, filled: int, seed: int) -> dict[str, Any]:
        """A part with items; how many."""
        return {"items": self.instance.create(name.encode(), size, filled, seed).count}

    def do_reserve(self, size: int) -> dict[str, Any]:
        """Memory for a part that will be copied here."""
        self.inbox.arena.reserve(size)
        return {}

    def do_hand_over(self, name: str, way: Way) -> dict[str, Any]:
        """Give a part to the other; milliseconds for which its clients had to wait, round trips waited for here."""
        assert self._peer is not None
        before, network = self.memory.round_trips, self._peer.outbox.round_trips
        waited = self.instance.hand_over(name.encode(), self._peer, way)
        return {
            "ms": waited * 1e3,
            "interconnect": self.memory.round_trips - before,
            "network": self._peer.outbox.round_trips - network,
        }

    def do_round_trips(self) -> dict[str, Any]:
        """That it has waited for so far on the interconnect."""
        return {"interconnect": self.memory.round_trips}

    def do_check(self, name: str, filled: int, seed: int) -> dict[str, Any]:
        """Whether a part that has arrived holds its items, with what a client changed since beside them; its memory is freed."""
        part = self.instance.part(name.encode())
        if part is None:
            return {"problem": f"part {name} is not here"}
        found = dict(part.items())
        missing = sum(found.get(key) != value for key, value in items(filled, seed))
        self.memory.free(part.region.va, part.region.size)
        return {
            "problem": f"{missing} items of part {name} are missing or wrong" if missing else "",
            "items": len(found),
        }


class ClientWorker:
    """The commands of a client. It has no remote memory."""

    def __init__(self) -> None:
        self._client: Client | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._samples: list[tuple[float, float]] = []
        self._problem = ""

    def do_connect(self, address: str, port: int) -> dict[str, Any]:
        """Where to ask first."""
        self._client = Client((address, port))
        return {}

    def do_load(self, name: str, filled: int, seed: int) -> dict[str, Any]:
        """Read items that are there and write others, without pause, in the background."""
        self._stop.clear()
        self._samples, self._problem = [], ""
        self._thread = threading.Thread(target=self._work, args=(name.encode(), filled, seed), daemon=True)
        self._thread.start()
        return {}

    def _work(self, name: bytes, filled: int, seed: int) -> None:
        assert self._client is not None
        rng = random.Random(seed)
        known = dict(list(items(filled, seed))[:200])
        mine: dict[bytes, bytes] = {}
        try:
            while not self._stop.is_set():
                key, expected = rng.choice([*known.items(), *mine.items()])
                began = time.perf_counter()
                if rng.random() < 0.8:
                    if self._client.get(name + b":" + key) != expected:
                        raise ValueError(f"{key!r} has another value than was put")
                else:
                    key = b"mine/%d" % rng.randrange(20)
                    mine[key] = rng.randbytes(100)
                    self._client.put(name + b":" + key, mine[key])
                self._samples.append((began, time.perf_counter() - began))
        except Exception as error:
            # The experiment must hear of it; this thread has nobody above it.
            self._problem = f"{type(error).__name__}: {error}"

    def do_stop(self) -> dict[str, Any]:
        """Operations so far: how many, the median and the longest in milliseconds."""
        assert self._thread is not None
        self._stop.set()
        self._thread.join()
        took = sorted(t for _, t in self._samples) or [0.0]
        return {
            "operations": len(self._samples),
            "median": took[len(took) // 2] * 1e3,
            "longest": took[-1] * 1e3,
            "problem": self._problem,
        }


def main() -> int:
    """Serve commands."""
    parser = worker.options(__doc__)
    parser.add_argument("--address", help="of this element on the rack's IP network; without it: a client")
    arguments = parser.parse_args()
    if arguments.address is None:
        worker.serve(ClientWorker(), 0)
        return 0
    with Process.create(arguments.run_dir, arguments.name) as process:
        worker.serve(InstanceWorker(process, arguments.address), process.pid)
    return 0


if __name__ == "__main__":
    sys.exit(main())
