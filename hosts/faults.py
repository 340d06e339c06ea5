"""A link that loses, duplicates, delays and thereby reorders frames, in both directions: for experiments and tests of what must
hold whatever the network does. ``--faults loss=0.05,copies=0.02,late=0.1,delay=0.02,seed=1`` puts it before an agent's link."""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, fields

from hosts.requester import Wire


class FaultsError(ValueError):
    """A description of faults that makes no sense."""


@dataclass(frozen=True)
class Faults:
    """Probabilities for each frame and direction; a late frame comes up to ``delay`` seconds later, behind younger ones."""

    loss: float = 0.0
    copies: float = 0.0
    late: float = 0.0
    delay: float = 0.02
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> Faults:
        """``name=value,...``. Raises FaultsError."""
        known = {f.name: (int if f.name == "seed" else float) for f in fields(cls)}
        values: dict[str, float] = {}
        for part in text.split(","):
            name, equals, value = part.partition("=")
            if not equals or name not in known:
                raise FaultsError(f"{part!r} is no fault; expected NAME=VALUE with NAME one of {', '.join(known)}")
            try:
                values[name] = known[name](value)
            except ValueError:
                raise FaultsError(f"{part!r}: {value!r} is no number") from None
        faults = cls(**values)  # type: ignore[arg-type]
        if not all(0 <= p <= 1 for p in (faults.loss, faults.copies, faults.late)) or faults.delay < 0:
            raise FaultsError(f"{text!r}: probabilities are 0 to 1, a delay is not negative")
        return faults


class FaultyWire:
    """``inner`` with faults. ``counts`` says what was done to frames."""

    def __init__(self, inner: Wire, faults: Faults):
        self.inner, self.faults = inner, faults
        self.counts: Counter[str] = Counter()
        self._rng = random.Random(faults.seed)
        self._order = itertools.count()
        self._lock = threading.Condition()
        self._outgoing: list[tuple[float, int, bytes]] = []
        self._incoming: list[tuple[float, int, bytes]] = []
        self._closed = False
        self._thread = threading.Thread(target=self._send_late, name="late frames", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close; frames that are late are lost."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        self._thread.join()
        self.inner.close()

    def _fates(self) -> list[float]:
        """When to deliver each copy of a frame, in seconds from now."""
        with self._lock:
            roll, faults = self._rng.random, self.faults
            if roll() < faults.loss:
                self.counts["lost"] += 1
                return []
            fates = [0.0] * (2 if roll() < faults.copies else 1)
            self.counts["copied"] += len(fates) - 1
            for i in range(len(fates)):
                if roll() < faults.late:
                    self.counts["late"] += 1
                    fates[i] = roll() * faults.delay
            return fates

    def send(self, frame: bytes) -> None:
        """Send a frame, perhaps."""
        for pause in self._fates():
            if pause == 0:
                self.inner.send(frame)
            else:
                with self._lock:
                    heapq.heappush(self._outgoing, (time.monotonic() + pause, next(self._order), frame))
                    self._lock.notify_all()

    def _send_late(self) -> None:
        while True:
            with self._lock:
                while not self._closed and not (self._outgoing and self._outgoing[0][0] <= time.monotonic()):
                    self._lock.wait(max(0.0, self._outgoing[0][0] - time.monotonic()) if self._outgoing else None)
                if self._closed:
                    return
                _, _, frame = heapq.heappop(self._outgoing)
            self.inner.send(frame)

    def receive(self, timeout: float | None) -> bytes | None:
        """The next frame that arrives, or None."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            now = time.monotonic()
            if self._incoming and self._incoming[0][0] <= now:
                return heapq.heappop(self._incoming)[2]
            if deadline is not None and now >= deadline:
                return None
            until = [t for t in (deadline, self._incoming[0][0] if self._incoming else None) if t is not None]
            frame = self.inner.receive(max(0.0, min(until) - now) if until else None)
            if frame is None:
                if timeout is None and not self._incoming:
                    return None
                continue
            for pause in self._fates():
                heapq.heappush(self._incoming, (time.monotonic() + pause, next(self._order), frame))
