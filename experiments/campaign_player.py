"""A process of a campaign: threads that do random operations on shared words of its memory, and record every one.

Driven like ``experiments.worker``. It goes on with pages that are being taken from it until it is told so by a refusal.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

from experiments import worker
from experiments.campaign_check import LOST, WITHDRAWN
from hosts.errors import ElementFailed, Fenced, RemoteMemoryError, RequestTimeout
from hosts.faults import Faults
from hosts.process import Process, Region, RetryPolicy
from protocol import capability
from protocol.wire import PAGE_SIZE, WORD

POLICY = RetryPolicy(first=0.02, longest=0.2, budget=8.0)
WORDS = 4  # used of each page
PROBE = 0.02  # seconds between looks whether the element is let in again
SETTLE = 10.0  # seconds in which frames that are still under way arrive, at most
LEAST = 20  # accesses of a measurement of latency, on the slowest machine


class Player:
    """The commands, and the threads that play."""

    def __init__(self, process: Process, seed: int):
        self.process = process
        self._seed = seed
        self._pages: list[int] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._records: list[tuple[Any, ...]] = []
        self._outcomes: set[str] = set()  # of operations so far: names of exceptions, or empty

    def do_alloc(self, pages: int, group: int = 0) -> dict[str, Any]:
        """Allocate, and play there."""
        try:
            region = self.process.alloc(pages * PAGE_SIZE, group=group)
        except RemoteMemoryError as error:
            return {"error": type(error).__name__, "text": str(error)}
        self.do_adopt(region.va, pages)
        return {"va": region.va, "error": ""}

    def do_adopt(self, va: int, pages: int) -> dict[str, Any]:
        """Play on pages."""
        with self._lock:
            self._pages += range(va, va + pages * PAGE_SIZE, PAGE_SIZE)
        return {}

    def do_free(self, va: int, pages: int) -> dict[str, Any]:
        """Free pages, when that was asked for and acknowledged."""
        return self._reassign(lambda: self.process.free(va, pages * PAGE_SIZE))

    def do_grant(self, va: int, pages: int, to: int) -> dict[str, Any]:
        """Grant pages."""
        return self._reassign(lambda: self.process.grant(Region(va, pages * PAGE_SIZE), to))

    def do_steal(self, va: int, pages: int, source: int, group: int, secret: str) -> dict[str, Any]:
        """Take pages of another process by the secret of their group (hex)."""
        token = capability.mint(bytes.fromhex(secret), group, self.process.pid, int(time.time()) + 60)
        region = Region(va, pages * PAGE_SIZE)
        return self._reassign(lambda: self.process.steal(region, source, token, group))

    @staticmethod
    def _reassign(call: Any) -> dict[str, Any]:
        asked = time.monotonic()
        try:
            call()
        except RemoteMemoryError as error:
            return {"asked": asked, "error": type(error).__name__, "text": str(error)}
        return {"asked": asked, "acknowledged": time.monotonic(), "error": ""}

    def do_play(self, threads: int) -> dict[str, Any]:
        """Begin."""
        for number in range(threads):
            thread = threading.Thread(target=self._play, args=(number, random.Random(f"{self._seed} {number}")))
            self._threads.append(thread)
            thread.start()
        return {}

    def do_progress(self) -> dict[str, Any]:
        """What has been done so far."""
        outcomes = sorted(self._outcomes.copy())
        return {"records": len(self._records), "outcomes": outcomes, **self.process.statistics()}

    def do_stop(self, path: str) -> dict[str, Any]:
        """End, and write the records to a file."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        Path(path).write_text(json.dumps(self._records))
        return {"records": len(self._records), **self.process.statistics()}

    def do_latency(self, va: int, seconds: float, pause: float) -> dict[str, Any]:
        """64 bytes written and read again, time after time with a pause (s) in between; what accesses took (us), and whether
        all were answered."""
        traffic = self.process.requester.traffic
        before = (traffic.requests, traffic.retries, traffic.strangers)
        samples: list[float] = []
        failures: list[str] = []
        ends = time.monotonic() + seconds
        for count in itertools.count():
            if count >= LEAST and time.monotonic() >= ends:
                break
            data = WORD.pack(len(samples)) * 8
            start = time.perf_counter()
            try:
                self.process.write(va, data)
                middle = time.perf_counter()
                wrong = self.process.read(va, len(data)) != data
            except RemoteMemoryError as error:
                failures.append(str(error))
                continue
            samples += ((middle - start) * 1e6, (time.perf_counter() - middle) * 1e6)
            if wrong:
                failures.append(f"read at {va:#x} differs from what was written")
            if pause:
                time.sleep(pause)
        settled = time.monotonic() + SETTLE
        # Each retry brings a second answer, unless a frame was lost.
        while traffic.retries - before[1] > traffic.strangers - before[2] and time.monotonic() < settled:
            time.sleep(PROBE)
        requests, retries, strangers = (
            after - b for after, b in zip((traffic.requests, traffic.retries, traffic.strangers), before, strict=True)
        )
        lost = retries - strangers
        return {"samples": samples, "failures": failures, "requests": requests, "retries": retries, "lost": lost}

    # ------------------------------------------------------------------------------------------------------- playing

    def _play(self, number: int, rng: random.Random) -> None:
        mine = f"{self.process.pid}.{number}"
        seen: dict[int, int] = {}  # the last value that this thread knows of a word
        count = 0
        while not self._stop.is_set():
            with self._lock:
                page = rng.choice(self._pages) if self._pages else None
            if page is None:
                self._stop.wait(0.005)
                continue
            word = page + 8 * rng.randrange(WORDS)
            kind = rng.choice(("read", "write", "cas", "fetch_add"))
            # Values that nobody else writes: who reads one knows whose it is.
            count += 1
            fresh = self.process.pid << 48 | number << 40 | count
            arguments: tuple[int, ...] = {
                "read": (),
                "write": (fresh,),
                "cas": (seen.get(word, 0), fresh),
                "fetch_add": (1 << 32,),
            }[kind]
            called = time.monotonic()
            error: RemoteMemoryError | None = None
            result: int | None = None
            try:
                result = self._carry_out(kind, word, arguments)
            except RemoteMemoryError as raised:
                error = raised
            name = "" if error is None else type(error).__name__
            self._records.append((mine, kind, word, arguments, result, called, time.monotonic(), name))
            self._outcomes.add(name)
            if result is not None:
                seen[word] = result
            if kind == "write" and error is None:
                seen[word] = fresh
            if error is not None:
                self._learn(error, page)

    def _carry_out(self, kind: str, word: int, arguments: tuple[int, ...]) -> int | None:
        match kind:
            case "read":
                return int.from_bytes(self.process.read(word, 8), "big")
            case "write":
                self.process.write(word, WORD.pack(*arguments))
                return None
            case "cas":
                return self.process.cas(word, *arguments)
        return self.process.fetch_add(word, *arguments)

    def _learn(self, error: RemoteMemoryError, page: int) -> None:
        """Pages that are gone are left alone; a fenced process waits."""
        if type(error).__name__ in (*WITHDRAWN, LOST):
            with self._lock:
                if page in self._pages:
                    self._pages.remove(page)
        elif isinstance(error, ElementFailed):
            self._stop.wait(PROBE)
        elif isinstance(error, Fenced):
            while not self._stop.wait(PROBE):
                try:
                    self.process.read(page, 8)
                except Fenced:
                    continue
                except RequestTimeout:
                    continue
                except RemoteMemoryError:
                    return
                return


def main() -> int:
    """Serve commands."""
    parser = worker.options(__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    parser.add_argument("--faults", type=Faults.parse, help="of the process's link, as NAME=VALUE,...")
    arguments = parser.parse_args()
    with Process.create(arguments.run_dir, arguments.name, POLICY, faults=arguments.faults) as process:
        worker.serve(Player(process, arguments.seed), process.pid)
    return 0


if __name__ == "__main__":
    sys.exit(main())
