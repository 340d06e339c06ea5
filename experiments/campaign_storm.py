"""The first stage of a campaign: memory changes hands under players while their links fail."""

from __future__ import annotations

import json
import random
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from experiments.campaign_check import Fence, Loss, Record, add, judge
from experiments.history import Operation
from experiments.workers import Worker
from protocol.wire import PAGE_SIZE
from topologies.launch import RackLauncher

THREADS = 3  # of a player
POOL = 16  # pages of a player, below which it allocates more
ALLOCATED = 16  # pages at a time
PAUSE = 0.02  # seconds between changes
BURST = 600  # late requests after each loss of the intruder
GIFTS = 3  # grants of the intruder that stay
LOST = 24  # pages that the intruder loses at a time
# What a process may be told of a request to the controller while its element is fenced.
_REFUSED_BY_FENCE = ("Fenced", "RequestTimeout")


@dataclass
class StormReport:
    """What was done, and what was found."""

    seconds: float = 0.0
    operations: int = 0
    words: int = 0
    retries: int = 0
    actions: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    late: dict[str, int] = field(default_factory=dict)
    verdict: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    held: bool = False


@dataclass
class Owner:
    """A player, and the pages that it should have."""

    worker: Worker
    pages: set[int] = field(default_factory=set)


class Storm:
    """One thread takes memory from players, one is the intruder's."""

    def __init__(self, rack: RackLauncher, intruder: Worker, home: str, players: int, faults: str, seed: int):
        self.rack, self.intruder, self.home = rack, intruder, home
        self.rng = random.Random(seed)
        self.report = StormReport()
        self.losses: list[Loss] = []
        self.fences: list[Fence] = []
        self._given: dict[tuple[int, int], int] = {}  # (pid, page): the loss of it by a grant that holds
        self._allocations: dict[int, set[int]] = {}  # address: pages that somebody has still
        self._errors: list[Exception] = []
        self._players = threading.Lock()  # held while players are commanded
        self._gifts: list[tuple[int, Owner, int, int]] = []  # whole allocation, whose the pages are, address, pages
        self._first: list[Record] = []  # what the intruder wrote to pages that it then granted
        elements = [e.name for e in rack.rack.compute]
        self.owners = []
        for number in range(players):
            command = ("--seed", str(seed * 1000 + number), "--faults", f"{faults},seed={seed * 1000 + number}")
            element = elements[number % len(elements)]
            worker = Worker(rack, element, f"player{number}", "experiments.campaign_player", command)
            self.owners.append(Owner(worker))

    def run(self, seconds: float, tell: Callable[[str], None]) -> StormReport:
        """The stage."""
        tell(f"{len(self.owners)} players of {THREADS} threads and an intruder, {seconds:.0f} s")
        started = time.monotonic()
        try:
            for owner in self.owners:
                self._allocate(owner)
                owner.worker.call("play", threads=THREADS)
            ends = started + seconds
            thread = threading.Thread(target=self._guard, args=(self._intrude, ends))
            thread.start()
            self._guard(self._reassign, ends)
            thread.join()
            if self._errors:
                raise self._errors[0]
            records = self._collect() + self._first
        finally:
            for owner in self.owners:
                owner.worker.close()
        self.report.seconds = time.monotonic() - started
        tell(f"judging {len(records)} operations")
        self.report.words = len({r.operation.word for r in records})
        self.report.operations = len(records)
        self.report.outcomes = dict(Counter(r.error for r in records))
        verdict = judge(records, self.losses, self.fences)
        self.report.verdict = asdict(verdict)
        self.report.held = verdict.held and not self.report.problems and not self.report.late.get("accepted", 0)
        return self.report

    def _guard(self, work: Callable[[float], None], ends: float) -> None:
        try:
            work(ends)
        except Exception as error:  # raised again by the main thread
            self._errors.append(error)

    def _collect(self) -> list[Record]:
        records = []
        for number, owner in enumerate(self.owners):
            path = self.rack.out / f"records{number}.json"
            self.report.retries += owner.worker.call("stop", path=str(path))["retries"]
            for process, kind, word, arguments, result, called, ended, error in json.loads(path.read_text()):
                operation = Operation(process, kind, word, tuple(arguments), result, called)
                if not error:
                    operation = Operation(process, kind, word, tuple(arguments), result, called, ended)
                records.append(Record(owner.worker.pid, operation, ended, error))
        return records

    # ------------------------------------------------------------------------------------------------------- reassigning

    def _reassign(self, ends: float) -> None:
        choices = [self._revoke] * 4 + [self._free] * 2 + [self._free_by_api] + [self._grant] * 5
        while time.monotonic() < ends and not self._errors:
            owner = self.rng.choice(self.owners)
            with self._players:
                if len(owner.pages) < POOL:
                    self._allocate(owner)
                else:
                    self.rng.choice(choices)(owner)
            time.sleep(PAUSE)

    def _allocate(self, owner: Owner) -> None:
        answer = owner.worker.call("alloc", pages=ALLOCATED)
        if answer["error"]:
            self._excuse(f"alloc by process {owner.worker.pid}", answer)
            return
        pages = set(range(answer["va"], answer["va"] + ALLOCATED * PAGE_SIZE, PAGE_SIZE))
        owner.pages |= pages
        self._allocations[answer["va"]] = set(pages)
        add(self.report.actions, {"allocations": 1})

    def _choose(self, owner: Owner) -> tuple[int, int]:
        """A run of up to four pages that the owner has, inside one allocation."""
        va = self.rng.choice(sorted(owner.pages))
        allocation = next(a for a in self._allocations if a <= va < a + ALLOCATED * PAGE_SIZE)
        pages, wanted = 1, self.rng.choice((1, 1, 2, 4))
        while pages < wanted:
            following = va + pages * PAGE_SIZE
            if following not in owner.pages or following not in self._allocations[allocation]:
                break
            pages += 1
        return va, pages

    def _lose(self, why: str, owner: Owner, va: int, pages: int, asked: float, acknowledged: float) -> None:
        lost = range(va, va + pages * PAGE_SIZE, PAGE_SIZE)
        owner.pages.difference_update(lost)
        for page in lost:
            self.losses.append(Loss(why, owner.worker.pid, page, 1, asked, acknowledged))
        add(self.report.actions, {why: 1})

    def _gone(self, va: int, pages: int) -> None:
        """Nobody has these pages any more; an allocation of which nobody has anything is freed, so that others get its memory."""
        allocation = next(a for a in self._allocations if a <= va < a + ALLOCATED * PAGE_SIZE)
        left = self._allocations[allocation]
        left.difference_update(range(va, va + pages * PAGE_SIZE, PAGE_SIZE))
        if not left:
            del self._allocations[allocation]
            self._post("/v1/free", {"va": allocation})
            add(self.report.actions, {"freed wholly": 1})

    def _revoke(self, owner: Owner) -> None:
        va, pages = self._choose(owner)
        asked = time.monotonic()
        if self._post("/v1/revoke", {"va": va, "pages": pages}):
            self._lose("revoked", owner, va, pages, asked, time.monotonic())
            self._gone(va, pages)

    def _free_by_api(self, owner: Owner) -> None:
        va, pages = self._choose(owner)
        asked = time.monotonic()
        if self._post("/v1/free", {"va": va, "size": pages * PAGE_SIZE}):
            self._lose("freed by the API", owner, va, pages, asked, time.monotonic())
            self._gone(va, pages)

    def _free(self, owner: Owner) -> None:
        va, pages = self._choose(owner)
        answer = owner.worker.call("free", va=va, pages=pages)
        if answer["error"]:  # it may have been done all the same: the answer was lost, and the repetition was refused
            self._excuse(f"free by process {owner.worker.pid}", answer)
            self._lose("not known to be freed", owner, va, pages, answer["asked"], float("inf"))
            return  # the allocation is not freed wholly, then
        self._lose("freed", owner, va, pages, answer["asked"], answer["acknowledged"])
        self._gone(va, pages)

    def _grant(self, owner: Owner) -> None:
        to = self.rng.choice([o for o in self.owners if o is not owner] or [owner])
        if to is owner:
            return
        va, pages = self._choose(owner)
        answer = owner.worker.call("grant", va=va, pages=pages, to=to.worker.pid)
        if answer["error"]:
            self._excuse(f"grant by process {owner.worker.pid}", answer)
            self._lose("not known to be granted", owner, va, pages, answer["asked"], float("inf"))
            return
        granted = range(va, va + pages * PAGE_SIZE, PAGE_SIZE)
        for page in granted:  # what it gave away before comes back
            index = self._given.pop((to.worker.pid, page), None)
            if index is not None:
                old = self.losses[index]
                self.losses[index] = Loss(old.why, old.pid, page, 1, old.asked, old.acknowledged, answer["asked"])
        first = len(self.losses)
        self._lose("granted", owner, va, pages, answer["asked"], answer["acknowledged"])
        self._given |= {(owner.worker.pid, page): first + i for i, page in enumerate(granted)}
        to.pages.update(granted)
        to.worker.call("adopt", va=va, pages=pages)

    def _excuse(self, what: str, answer: dict[str, Any]) -> None:
        """An error of a request to the controller: right only while its element is fenced."""
        if answer["error"] not in _REFUSED_BY_FENCE:
            self.report.problems.append(f"{what}: {answer['text']}")

    def _post(self, path: str, body: dict[str, Any]) -> bool:
        try:
            self.rack.post(path, body)
        except urllib.error.HTTPError as error:
            self.report.problems.append(f"{path} {body}: {error.code} {error.read().decode()[:200]}")
            return False
        return True

    # ----------------------------------------------------------------------------------------------------------- intruder

    def _intrude(self, ends: float) -> None:
        """Loses pages in every way and goes on writing to them."""
        lost: list[int] = []
        old: list[Any] = []
        while time.monotonic() < ends and not self._errors:
            made = self.intruder.call("alloc", pages=2 * LOST)
            va, places = made["va"], made["places"]
            gone = [p[0] for p in places[:LOST]]
            self._post("/v1/revoke", {"va": va, "pages": LOST})
            self._attempt("late", pages=gone, count=BURST)
            self._attempt("inject", places=places[:LOST], count=BURST // 2)
            self._fence_attempt([p[0] for p in places[LOST:]], va + LOST * PAGE_SIZE)
            self.intruder.call("free", va=va + LOST * PAGE_SIZE, pages=LOST // 2)
            self._give(made, LOST + LOST // 2)
            lost = (lost + [p[0] for p in places])[-16 * LOST :]
            old = (old + places)[-16 * LOST :]
            self._attempt("late", pages=lost, count=BURST)
            self._attempt("inject", places=old, count=BURST // 2)
            add(self.report.actions, {"losses of the intruder": 1})

    def _give(self, made: dict[str, Any], first: int) -> None:
        """Grant the pages from number ``first`` on to a player, who plays there while the intruder writes to them."""
        va, given = made["va"] + first * PAGE_SIZE, made["places"][first:]
        for page, _, _, _ in given:
            operation = Operation("intruder", "write", page, (page,), None, made["called"], made["returned"])
            self._first.append(Record(self.intruder.pid, operation, made["returned"]))
        with self._players:
            owner = self.rng.choice(self.owners)
            self.intruder.call("grant", va=va, pages=len(given), to=owner.worker.pid)
            owner.worker.call("adopt", va=va, pages=len(given))
        self._gifts.append((made["va"], owner, va, len(given)))
        add(self.report.actions, {"granted by the intruder": 1})
        if len(self._gifts) > GIFTS:  # the memory is wanted again
            whole, owner, va, pages = self._gifts.pop(0)
            asked = time.monotonic()
            if self._post("/v1/free", {"va": whole}):
                with self._players:
                    self._lose("gift freed", owner, va, pages, asked, time.monotonic())

    def _fence_attempt(self, pages: list[int], va: int) -> None:
        """While its element is fenced the intruder writes to memory that is still its own: nothing of it may be changed."""
        pids = frozenset(o.worker.pid for o in self.owners if o.worker.element == self.home)
        asked = time.monotonic()
        if not self._post("/v1/fence", {"element": self.home}):
            return
        acknowledged = time.monotonic()
        self._attempt("late", pages=pages, count=BURST)
        time.sleep(PAUSE)
        lifted = time.monotonic()
        self._post("/v1/unfence", {"element": self.home})
        self.fences.append(Fence(pids, asked, acknowledged, lifted, time.monotonic()))
        held = self.intruder.call("shadow", va=va, pages=len(pages))["held"]
        if held != len(pages):
            self.report.problems.append(
                f"{len(pages) - held} of {len(pages)} pages changed while their element was fenced"
            )
        add(self.report.actions, {"fences": 1})

    def _attempt(self, how: str, **arguments: Any) -> None:
        answer = self.intruder.call(how, **arguments)
        add(self.report.late, answer["answers"] | {k: answer[k] for k in ("sent", "answered", "accepted")})
