"""A process that counts in remote memory, over a link with faults, while the memory changes hands.

Each step is a FETCH_ADD of 1, or a CAS from what was last seen there to one more. A call that was refused or not answered may
have taken effect or not; it is never made again, and the next one waits for the memory to come back.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from experiments import worker
from hosts.agent import faults_argument
from hosts.process import Process, RemoteMemoryError, RetryPolicy
from hosts.translations import Translations
from protocol.wire import PAGE_SIZE

GRANT_PATIENCE = 0.3  # seconds: a notice may have come before the refusal that made it waited for
POLICY = RetryPolicy(first=0.01, longest=0.05, budget=1.0)


class CountingWorker(worker.Worker):
    """The commands, beside those of every worker."""

    def __init__(self, process: Process):
        super().__init__(process)
        self._counting: threading.Thread | None = None
        self._stop = threading.Event()
        self._counted: dict[str, list[int]] = {}
        self._unknown = {"add": 0, "cas": 0}
        self._refused: dict[str, int] = {}
        self._granted = threading.Event()
        process.on_grant(lambda notice: self._granted.set())

    def do_count(self, va: int) -> dict[str, Any]:
        """Count in the first word of a page by FETCH_ADD, and in the second by CAS, in the background until ``stop``."""
        self._stop.clear()
        self._counted, self._unknown, self._refused = {"add": [], "cas": []}, {"add": 0, "cas": 0}, {}
        self._counting = threading.Thread(target=self._count, args=(va,), daemon=True)
        self._counting.start()
        return {}

    def _count(self, va: int) -> None:
        while not self._stop.is_set():
            for kind in ("add", "cas"):
                try:
                    if kind == "add":
                        self._counted[kind].append(self.process.fetch_add(va, 1))
                        continue
                    seen = int.from_bytes(self.process.read(va + 8, 8), "big")
                    if self.process.cas(va + 8, seen, seen + 1) == seen:
                        self._counted[kind].append(seen)
                except RemoteMemoryError as error:
                    self._unknown[kind] += 1
                    name = type(error).__name__
                    self._refused[name] = self._refused.get(name, 0) + 1
                    self._granted.wait(GRANT_PATIENCE)
                    self._granted.clear()

    def do_progress(self) -> dict[str, Any]:
        """Steps so far that were confirmed and that have an unknown outcome, by kind, and whether any was refused."""
        counted = {kind: len(olds) for kind, olds in self._counted.items()}
        return {"counted": counted, "unknown": dict(self._unknown), "refused": bool(self._refused)}

    def do_stop(self) -> dict[str, Any]:
        """Stop counting: what each confirmed step found there before, and how many had an unknown outcome."""
        assert self._counting is not None
        self._stop.set()
        self._counting.join()
        return {"counted": self._counted, "unknown": self._unknown, "refused": self._refused}

    def do_words(self, va: int) -> dict[str, Any]:
        """The two words."""
        assert va % PAGE_SIZE == 0
        data = self.process.read(va, 16)
        return {"add": int.from_bytes(data[:8], "big"), "cas": int.from_bytes(data[8:], "big")}


def main() -> int:
    """Serve commands."""
    parser = worker.options(__doc__)
    parser.add_argument("--faults", type=faults_argument, help="as of the agents")
    parser.add_argument("--cache", action="store_true", help="cache translations")
    arguments = parser.parse_args()
    cache = Translations() if arguments.cache else None
    with Process.create(
        arguments.run_dir, arguments.name, POLICY, faults=arguments.faults, translations=cache
    ) as process:
        worker.serve(CountingWorker(process), process.pid)
    return 0


if __name__ == "__main__":
    sys.exit(main())
