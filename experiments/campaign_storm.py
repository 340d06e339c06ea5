"""The first stage of a campaign: memory changes hands under players while their links fail."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from experiments.campaign_check import LOST as MEMORY_LOST
from experiments.campaign_check import Fence, Loss, Outage, Record, add, judge
from experiments.campaign_goals import Goals, in_short
from experiments.history import Operation
from experiments.workers import Worker
from hosts.faults import Faults
from protocol.wire import PAGE_SIZE
from topologies.launch import RackLauncher

THREADS = 3  # of a player
POOL = 16  # pages of a player, below which it allocates more
ALLOCATED = 16  # pages at a time
PAUSE = 0.02  # seconds between changes
BURST = 4000  # late requests after each loss of the intruder
GIFTS = 3  # grants of the intruder that stay
LOST = 24  # pages that the intruder loses at a time
RESTART = 60.0  # seconds in which a part that was started again is in order, on the slowest machine
LOOK = 0.2  # seconds between looks whether enough has been done
TOLD = 10.0  # seconds between signs of progress
MEMORY_NAMES = {"nvm": "NVM element", "dram": "DRAM element"}
# What a process may be told of a request to the controller while its element is fenced, or a part of the rack is dead.
_EXCUSES = ("Fenced", "RequestTimeout", "ElementFailed", MEMORY_LOST)


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
    late_after: dict[str, int] = field(default_factory=dict)  # answered, by what the process had lost its pages
    restart_seconds: dict[str, list[float]] = field(default_factory=dict)  # from the death until it was in order again
    verdict: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # what has not come about in the longest time that was given
    held: bool = False


GoesOn = Callable[[], bool]


@dataclass
class Owner:
    """A player, and the pages that it should have."""

    worker: Worker
    pages: set[int] = field(default_factory=set)


class Storm:
    """One thread takes memory from players, one is the intruder's, one kills parts of the rack and starts them again."""

    def __init__(
        self,
        rack: RackLauncher,
        intruder: Worker,
        home: str,
        players: int,
        faults: str,
        seed: int,
        crash_every: float,
    ):
        """``crash_every`` so many seconds a part of the rack is killed; 0: none is."""
        self.rack, self.intruder, self.home = rack, intruder, home
        self.rng = random.Random(seed)
        self.report = StormReport()
        self.losses: list[Loss] = []
        self.fences: list[Fence] = []
        self.outages: list[Outage] = []
        group = rack.post("/v1/groups", {"name": f"campaign{seed}"})
        self.group: int = group["id"]
        self.secret: str = group["secret"]
        self._killing = False  # the controller, during the next operation of a player
        self._calm = (
            threading.Lock()
        )  # taken before ``_players``; held while the intruder is at work, and while something is dead
        self._crash_every = crash_every
        self._elements = {m: [e.name for e in rack.rack.memory if e.media == m] for m in ("nvm", "dram")}
        memory = [MEMORY_NAMES[media] for media, names in self._elements.items() if names]
        self._victims = ["controller", *memory, "switch", "local OS"] if crash_every else []
        self._loses_frames = Faults.parse(faults).loss > 0
        self._given: dict[tuple[int, int], int] = {}  # (pid, page): the loss of it by a grant that holds
        self._allocations: dict[int, set[int]] = {}  # address: pages that somebody has still
        self._errors: list[Exception] = []
        self._players = threading.Lock()  # held while players are commanded
        # Whole allocation; whose the pages are, address, pages.
        self._gifts: list[tuple[int, list[tuple[Owner, int, int]]]] = []
        self._first: list[Record] = []  # what the intruder wrote to pages that it then granted
        elements = [e.name for e in rack.rack.compute]
        self.owners = []
        for number in range(players):
            command = ("--seed", str(seed * 1000 + number), "--faults", f"{faults},seed={seed * 1000 + number}")
            element = elements[number % len(elements)]
            worker = Worker(rack, element, f"player{number}", "experiments.campaign_player", command)
            self.owners.append(Owner(worker))

    def run(self, seconds: float, late: int, longest: float, tell: Callable[[str], None]) -> StormReport:
        """The stage: for so many seconds, and until all has come about that it is for, with so many late writes; though not for
        longer than ``longest`` seconds."""
        tell(f"{len(self.owners)} players of {THREADS} threads and an intruder, {seconds:.0f} s and {late} late writes")
        goals = Goals(late, self._victims, len(self.owners) > 1, self._loses_frames)
        started = time.monotonic()
        ended = threading.Event()
        try:
            for owner in self.owners:
                self._allocate(owner)
                owner.worker.call("play", threads=THREADS)

            def goes_on() -> bool:
                return not ended.is_set()

            works = (self._reassign, self._intrude, *((self._crash,) if self._crash_every else ()))
            threads = [threading.Thread(target=self._guard, args=(work, goes_on)) for work in works]
            for thread in threads:
                thread.start()
            told = started
            while not self._errors:
                time.sleep(LOOK)
                now = time.monotonic()
                if now - started >= seconds:
                    self.report.missing = self._missing(goals)
                    if not self.report.missing or now - started >= longest:
                        break
                if now - told >= TOLD:
                    told = now
                    self._tell_progress(tell, now - started)
            ended.set()
            for thread in threads:
                thread.join()
            self._tell_progress(tell, time.monotonic() - started)
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
        verdict = judge(records, self.losses, self.fences, self.outages)
        self.report.verdict = asdict(verdict)
        done = not self.report.missing and not self.report.problems
        self.report.held = verdict.held and done and not self.report.late.get("accepted", 0)
        return self.report

    def _missing(self, goals: Goals) -> list[str]:
        """What has not come about yet."""
        report = self.report
        missing = goals.to_do(dict(report.late), dict(report.late_after), dict(report.actions))
        if missing:  # players are asked when the rest is done
            return missing
        with self._players:
            seen = [owner.worker.call("progress") for owner in self.owners]
        operations, retries = (sum(s[what] for s in seen) for what in ("records", "retries"))
        return goals.to_see(operations, retries, {outcome for s in seen for outcome in s["outcomes"]})

    def _tell_progress(self, tell: Callable[[str], None], now: float) -> None:
        report = self.report
        answered, accepted = (report.late.get(k, 0) for k in ("answered", "accepted"))
        missing = f"; still to come: {in_short(report.missing)}" if report.missing else ""
        changes = sum(report.actions.values())
        tell(f"{now:4.0f} s: {changes} changes, {answered} late writes answered, {accepted} accepted{missing}")

    def _guard(self, work: Callable[[GoesOn], None], goes_on: GoesOn) -> None:
        try:
            work(goes_on)
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

    def _reassign(self, goes_on: GoesOn) -> None:
        commands = [self._free] * 2 + [self._grant] * 4 + [self._steal] * 4
        choices = [*commands, *[self._revoke] * 4, self._free_by_api, *[self._migrate] * 3]
        while goes_on():
            with self._players:
                self._change(choices)
            time.sleep(PAUSE)

    def _change(self, choices: Sequence[Callable[[Owner], None]]) -> None:
        """One change of some player's memory; ``_players`` is held."""
        owner = self.rng.choice(self.owners)
        if len(owner.pages) < POOL:
            self._allocate(owner)
        else:
            self.rng.choice(choices)(owner)

    def _allocate(self, owner: Owner) -> None:
        answer = self._command(owner, "alloc", pages=ALLOCATED, group=self.group)
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
        answer = self._command(owner, "free", va=va, pages=pages)
        if answer["error"]:  # it may have been done all the same: the answer was lost, and the repetition was refused
            self._excuse(f"free by process {owner.worker.pid}", answer)
            self._lose("not known to be freed", owner, va, pages, answer["asked"], float("inf"))
            return  # the allocation is not freed wholly, then
        self._lose("freed", owner, va, pages, answer["asked"], answer["acknowledged"])
        self._gone(va, pages)

    def _grant(self, owner: Owner) -> None:
        self._hand_over(owner, "granted")

    def _steal(self, owner: Owner) -> None:
        self._hand_over(owner, "stolen")

    def _migrate(self, owner: Owner) -> None:
        """Its owner goes on, wherever the pages are."""
        va, pages = self._choose(owner)
        element = self.rng.choice([e.name for e in self.rack.rack.memory])
        if self._post("/v1/migrate", {"va": va, "pages": pages, "target": element}):
            add(self.report.actions, {"migrated": 1})

    def _hand_over(self, owner: Owner, how: str) -> None:
        to = self.rng.choice([o for o in self.owners if o is not owner] or [owner])
        if to is owner:
            return
        va, pages = self._choose(owner)
        if how == "granted":
            answer = self._command(owner, "grant", va=va, pages=pages, to=to.worker.pid)
        else:
            source = {"source": owner.worker.pid, "group": self.group, "secret": self.secret}
            answer = self._command(to, "steal", va=va, pages=pages, **source)
        if answer["error"]:
            self._excuse(f"{how} pages of process {owner.worker.pid}", answer)
            self._lose(f"not known to be {how}", owner, va, pages, answer["asked"], float("inf"))
            return
        granted = range(va, va + pages * PAGE_SIZE, PAGE_SIZE)
        for page in granted:  # what it gave away before comes back
            index = self._given.pop((to.worker.pid, page), None)
            if index is not None:
                old = self.losses[index]
                self.losses[index] = Loss(old.why, old.pid, page, 1, old.asked, old.acknowledged, answer["asked"])
        first = len(self.losses)
        self._lose(how, owner, va, pages, answer["asked"], answer["acknowledged"])
        self._given |= {(owner.worker.pid, page): first + i for i, page in enumerate(granted)}
        to.pages.update(granted)
        to.worker.call("adopt", va=va, pages=pages)

    def _excuse(self, what: str, answer: dict[str, Any]) -> None:
        """An error of a request to the controller: right only while its element is fenced, or something is dead."""
        if answer["error"] not in _EXCUSES:
            self.report.problems.append(f"{what}: {answer['text']}")

    def _command(self, owner: Owner, do: str, **arguments: Any) -> dict[str, Any]:
        """An operation of a player. The controller dies in the middle of it if it is to be killed."""
        if not self._killing:
            return owner.worker.call(do, **arguments)
        owner.worker.start(do, **arguments)
        time.sleep(self.rng.random() * 0.02)
        began = time.monotonic()
        self.rack.kill("controller")
        self.rack.start_controller()
        answer = owner.worker.finish()
        self._killing = False
        self._in_order_again("controller", began)
        return answer

    def _post(self, path: str, body: dict[str, Any]) -> bool:
        try:
            self.rack.post(path, body)
        except urllib.error.HTTPError as error:
            code, text = error.code, error.read().decode()[:200]
            if code not in (410, 503):  # lost, or on an element that is dead
                self.report.problems.append(f"{path} {body}: {code} {text}")
            return False
        return True

    # ------------------------------------------------------------------------------------------------------------ crashes

    def _crash(self, goes_on: GoesOn) -> None:
        """Controller, NVM and DRAM elements, the switch and local OSes in turn; nothing is dead for long."""
        turn = itertools.cycle(self._victims)
        due = time.monotonic() + self._crash_every
        while goes_on():
            time.sleep(PAUSE)
            if time.monotonic() < due:
                continue
            victim = next(turn)
            with self._calm, self._players:
                if victim == "controller":
                    self._crash_controller()
                elif victim == "switch":
                    self._crash_switch()
                elif victim == "local OS":
                    self._crash_local_os(self.rng.choice([e.name for e in self.rack.rack.compute]))
                else:
                    self._crash_element(victim)
            due = time.monotonic() + self._crash_every

    def _crash_controller(self) -> None:
        """During an operation of a player (``_command``)."""
        self._killing = True
        while self._killing:  # a grant needs somebody else to be granted to
            self._change([self._free, self._grant, self._steal])

    def _crash_element(self, what: str) -> None:
        media = next(media for media, called in MEMORY_NAMES.items() if called == what)
        name, emptied = self.rng.choice(self._elements[media]), media == "dram"
        began = time.monotonic()
        self.rack.kill(name)
        time.sleep(self.rng.random() * 0.3)
        self.rack.start_element(name)
        # The controller says so when the switch has been told.
        self.rack.wait_for(self.rack._all_alive, f"{name} to serve again", RESTART)
        self._in_order_again(what, began, emptied)
        if emptied:
            self._forget_lost(began)

    def _crash_switch(self) -> None:
        """It comes back empty; the controller gives it everything anew."""
        before = self.rack.get("/v1/status")["statistics"]["switch_connections"]
        began = time.monotonic()
        self.rack.kill("switch")
        time.sleep(self.rng.random() * 0.3)
        self.rack.start_switch()

        def regained() -> bool:
            status = self.rack.get("/v1/status")
            return status["statistics"]["switch_connections"] > before and status["switch"]["error"] is None

        self.rack.wait_for(regained, "the controller to regain the switch", RESTART)
        if not self.rack.get("/v1/map")["agrees"]:
            self.report.problems.append("the switch that was started again and the controller differ")
        self._in_order_again("switch", began)

    def _crash_local_os(self, name: str) -> None:
        """Its processes go on; it takes them over when it is there again."""
        began = time.monotonic()
        self.rack.kill(name)
        time.sleep(self.rng.random() * 0.3)
        self.rack.start_element(name)
        self.rack.wait_for(self.rack._all_alive, f"{name} to be heard again", RESTART)
        self._in_order_again("local OS", began)

    def _in_order_again(self, what: str, began: float, emptied: bool = False) -> None:
        self.outages.append(Outage(began, time.monotonic(), emptied))
        self.report.restart_seconds.setdefault(what, []).append(time.monotonic() - began)
        add(self.report.actions, {f"crashes of a {what}": 1})

    def _forget_lost(self, began: float) -> None:
        """Pages whose contents are gone are nobody's game any more."""
        lost = {
            o["va"] + n * PAGE_SIZE
            for process in self.rack.get("/v1/processes")["processes"]
            for a in process["allocations"]
            for o in a["overrides"]
            if o["kind"] == "lost"
            for n in range(o["pages"])
        }
        for owner in self.owners:
            for va in sorted(owner.pages & lost):
                self._lose("pages lost by their element", owner, va, 1, began, time.monotonic())
                self._gone(va, 1)

    # ----------------------------------------------------------------------------------------------------------- intruder

    def _intrude(self, goes_on: GoesOn) -> None:
        """Loses pages in every way and goes on writing to them."""
        old: list[Any] = []
        while goes_on():
            with self._calm:
                old = (old + self._lose_in_every_way(old))[-16 * LOST :]
            time.sleep(PAUSE)

    def _lose_in_every_way(self, old: list[Any]) -> list[Any]:
        """One allocation of the intruder, from its beginning to its end; its places."""
        made = self.intruder.call("alloc", pages=2 * LOST, group=self.group)
        va: int = made["va"]
        places: list[Any] = made["places"]
        quarter = LOST // 4
        self._post("/v1/revoke", {"va": va, "pages": LOST})
        self._attempts("revoked", places[:LOST])
        self._fence_attempt([p[0] for p in places[LOST:]], va + LOST * PAGE_SIZE)
        self.intruder.call("free", va=va + LOST * PAGE_SIZE, pages=LOST - 2 * quarter)
        self._attempts("freed", places[LOST : -2 * quarter])
        gifts = []
        for how, given in (("granted", places[-2 * quarter : -quarter]), ("stolen", places[-quarter:])):
            gifts.append(self._give(made, given, how))
            self._attempts(how, given)
        self._attempts("lost long ago", old or places[:LOST])
        self._gifts.append((va, gifts))
        if len(self._gifts) > GIFTS:  # the memory is wanted again
            self._take_back(*self._gifts.pop(0))
        add(self.report.actions, {"losses of the intruder": 1})
        return places

    def _give(self, made: dict[str, Any], given: list[Any], how: str) -> tuple[Owner, int, int]:
        """A player gets these pages, or steals them, and plays there while the intruder writes to them."""
        va = given[0][0]
        for page, _, _, _ in given:
            operation = Operation("intruder", "write", page, (page,), None, made["called"], made["returned"])
            self._first.append(Record(self.intruder.pid, operation, made["returned"]))
        with self._players:
            owner = self.rng.choice(self.owners)
            if how == "granted":
                self.intruder.call("grant", va=va, pages=len(given), to=owner.worker.pid)
            else:
                source = {"source": self.intruder.pid, "group": self.group, "secret": self.secret}
                answer = owner.worker.call("steal", va=va, pages=len(given), **source)
                if answer["error"]:
                    self.report.problems.append(f"steal from the intruder: {answer['text']}")
            owner.worker.call("adopt", va=va, pages=len(given))
        add(self.report.actions, {f"{how} by the intruder" if how == "granted" else "stolen from the intruder": 1})
        return owner, va, len(given)

    def _take_back(self, whole: int, gifts: list[tuple[Owner, int, int]]) -> None:
        asked = time.monotonic()
        if self._post("/v1/free", {"va": whole}):
            with self._players:
                for owner, va, pages in gifts:
                    self._lose("gift freed", owner, va, pages, asked, time.monotonic())

    def _fence_attempt(self, pages: list[int], va: int) -> None:
        """While its element is fenced the intruder writes to memory that is still its own: nothing of it may be changed."""
        pids = frozenset(o.worker.pid for o in self.owners if o.worker.element == self.home)
        asked = time.monotonic()
        if not self._post("/v1/fence", {"element": self.home}):
            return
        acknowledged = time.monotonic()
        self._attempt("fenced", "late", pages=pages, count=BURST)
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

    def _attempts(self, why: str, places: list[Any]) -> None:
        """Through the switch, and past it."""
        self._attempt(why, "late", pages=[p[0] for p in places], count=BURST)
        self._attempt(why, "inject", places=places, count=BURST // 10)

    def _attempt(self, why: str, how: str, **arguments: Any) -> None:
        answer = self.intruder.call(how, **arguments)
        add(self.report.late, answer["answers"] | {k: answer[k] for k in ("sent", "answered", "accepted")})
        add(self.report.late_after, {why: answer["answered"]})
