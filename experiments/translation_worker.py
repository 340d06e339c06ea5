"""A process that caches translations: its latencies, what its cache did, and accesses by translations that are out of date.

``replay`` is what a process would do that was not told, or does not care: it sends requests by the translations that it is
given, past its cache, and counts the answers. Their ids have the topmost bit, which finds them in captures.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from typing import Any

from experiments import worker
from hosts.link import Link, bpf_for_process, frame
from hosts.process import Process
from hosts.translations import Translation, Translations, marked
from protocol import wire
from protocol.wire import PAGE_SIZE, Flag, Header, Op, Status

MARK = 1 << 63  # in the ids of replayed requests
BATCH = 16  # requests in flight
PATIENCE = 0.5  # seconds without an answer until it is given up
KINDS = ((Op.WRITE, wire.WORD.pack(0xBAD)), (Op.READ, b""), (Op.FETCH_ADD, wire.WORD.pack(1)))


class TranslationWorker(worker.Worker):
    """The commands, beside those of every worker."""

    def __init__(self, process: Process, interface: str):
        super().__init__(process)
        self._interface = interface
        self._next_id = MARK | time.time_ns()

    def do_alloc_cached(self, size: int) -> dict[str, Any]:
        """Allocate memory whose translations the switch does not keep."""
        region = self.process.alloc(size, cached=True)
        return {"va": region.va, "size": region.size}

    def do_places(self, va: int, pages: int) -> dict[str, Any]:
        """Where pages are, by the cache: [va, element, pa, generation] each; those that it does not know are left out."""
        assert self.process.translations is not None
        found = []
        for address in range(va, va + pages * PAGE_SIZE, PAGE_SIZE):
            known = self.process.translations.find(address)
            if known is not None:
                found.append((address, known.element, known.pa + address - known.va, known.generation))
        return {"places": found}

    def do_replay(self, places: list[tuple[int, int, int, int]], count: int, seed: int = 0) -> dict[str, Any]:
        """``count`` requests by these translations; the answers by operation, status and who gave them."""
        rng = random.Random(seed)
        answers: Counter[str] = Counter()
        link = Link(self._interface, bpf_for_process(self.process.pid))
        try:
            for start in range(0, count, BATCH):
                waiting = set()
                for _ in range(min(BATCH, count - start)):
                    va, element, pa, generation = rng.choice(places)
                    op, payload = rng.choice(KINDS)
                    header = Header(op, pid=self.process.pid, va=va, length=8, request_id=self._next_id)
                    header = marked(header, Translation(va, PAGE_SIZE, element, pa, generation))
                    link.send(frame(self.process.element, header, payload))
                    waiting.add(self._next_id)
                    self._next_id += 1
                while waiting:
                    data = link.receive(PATIENCE)
                    if data is None:
                        break
                    reply = Header.unpack(data, 14)
                    if reply.request_id in waiting:
                        waiting.remove(reply.request_id)
                        by = "switch" if reply.flags & Flag.BY_SWITCH else "element"
                        answers[f"{Status(reply.status).name} {by}"] += 1
        finally:
            link.close()
        carried_out = sum(n for what, n in answers.items() if what.startswith("OK"))
        return {"sent": count, "answered": answers.total(), "carried_out": carried_out, "answers": dict(answers)}

    def do_burst(self, va: int, pages: int, count: int, seed: int) -> dict[str, Any]:
        """``count`` single reads and as many writes of 64 bytes at random pages: microseconds each, what the cache did."""
        rng = random.Random(seed)
        before = self.process.statistics()
        samples: dict[str, list[float]] = {"read": [], "write": []}
        for _ in range(count):
            address = va + rng.randrange(pages) * PAGE_SIZE + 64
            for kind in ("write", "read"):
                start = time.perf_counter()
                if kind == "write":
                    self.process.write(address, bytes(64))
                else:
                    self.process.read(address, 64)
                samples[kind].append((time.perf_counter() - start) * 1e6)
        after = self.process.statistics()
        return {"samples": samples, "did": {k: v - before.get(k, 0) for k, v in after.items()}}


def main() -> int:
    """Serve commands."""
    parser = worker.options(__doc__)
    parser.add_argument("--interface", required=True, help="of the compute element, on the Rack MMU")
    parser.add_argument("--no-cache", action="store_true", help="leave translating to the switch")
    arguments = parser.parse_args()
    cache = None if arguments.no_cache else Translations()
    with Process.create(arguments.run_dir, arguments.name, translations=cache) as process:
        worker.serve(TranslationWorker(process, arguments.interface), process.pid)
    return 0


if __name__ == "__main__":
    sys.exit(main())
