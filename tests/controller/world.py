"""A simulated rack under the core: a switch that holds entries, elements with real page tables, messages that may be lost.

The oracle for the safety rules: it knows nothing of the core's records, only what the switch and the elements would let pass.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from controller.core import entries, events
from controller.core.entries import Entry, WriteOp
from controller.core.events import Effect, Event
from controller.core.memory import Config
from controller.core.state import Message, State
from controller.core.step import initial, step
from hosts.memory.page_table import PageTable
from protocol.rack import Rack
from protocol.wire import PAGE_SIZE, Op, Perm, Status


class Crash(Exception):
    """The controller dies here."""


@dataclass
class World:
    """The rack around a controller."""

    rack: Rack
    config: Config = field(default_factory=Config)
    now: float = 0.0
    crash_after: int | None = None  # effects until the controller dies
    entries: dict[tuple, Entry] = field(default_factory=dict)
    tables: dict[int, PageTable] = field(default_factory=dict)
    dead: set[int] = field(default_factory=set)
    queue: list[Message] = field(default_factory=list)  # in flight to elements
    stored: State | None = None
    answers: dict[int, events.Answer] = field(default_factory=dict)
    replies: list = field(default_factory=list)
    notices: list[events.Notify] = field(default_factory=list)
    published: list[events.Publish] = field(default_factory=list)
    writes: list[entries.Write] = field(default_factory=list)
    tokens: int = 0

    def __post_init__(self) -> None:
        self.state = initial(self.rack)
        self.stored = self.state
        self.tables = {e.id: PageTable(e.pages) for e in self.rack.memory}
        for entry in entries.all_entries(self.state):
            self.entries[entry.key] = entry
        for element in self.rack.elements:
            self.feed(events.Heartbeat(element.id, 1))

    # ---------------------------------------------------------------------------------------------------- the shell's part

    def feed(self, event: Event) -> None:
        """An event, and all effects of its plan; a crash loses the rest of them and the state in memory."""
        result = step(self.state, event, self.now, self.config)
        self.state = result.state
        try:
            for effect in result.plan:
                if self.crash_after is not None:
                    if self.crash_after == 0:
                        raise Crash
                    self.crash_after -= 1
                self.carry_out(effect)
        except Crash:
            self.crash_after = None
            self.restart()

    def carry_out(self, effect: Effect) -> None:
        match effect:
            case events.Persist(changes=changes, counters=counters):
                assert self.stored is not None
                stored = self.stored
                for kind, key, record in changes:
                    old = getattr(stored, kind)
                    new = (
                        old.delete(key)
                        if record is None and key in old
                        else old
                        if record is None
                        else old.set(key, record)
                    )
                    stored = State(**{**stored.__dict__, kind: new})
                self.stored = State(**{**stored.__dict__, "counters": counters})
            case events.WriteSwitch(writes=writes):
                for write in writes:
                    self.write(write)
            case events.Send(message=message):
                self.queue.append(message)
            case events.SendReply(reply=reply):
                self.replies.append(reply)
            case events.Notify():
                self.notices.append(effect)
            case events.Answer(token=token):
                self.answers[token] = effect
            case events.Publish():
                self.published.append(effect)

    def write(self, write: entries.Write) -> None:
        """The switch is strict: a write that does not fit what it holds is a fault of the core."""
        self.writes.append(write)
        key = write.entry.key
        assert (key in self.entries) == (write.op is not WriteOp.INSERT), write
        if write.op is WriteOp.DELETE:
            del self.entries[key]
        else:
            self.entries[key] = write.entry

    def restart(self) -> None:
        """What the shell does at start: load, reconcile, go on."""
        from immutables import Map

        from controller.core import monitor

        assert self.stored is not None
        self.state = State(
            **{**self.stored.__dict__, "free": Map(monitor.physical_free(self.stored)), "last_seen": Map()}
        )
        for write in entries.difference(self.entries.values(), entries.all_entries(self.state)):
            self.write(write)
        self.feed(events.Started())

    # ------------------------------------------------------------------------------------------------- the rack's part

    def deliver(self, rng: random.Random, lose: float = 0.0) -> None:
        """One message reaches its element (or is lost), and its acknowledgement the controller (or is lost)."""
        if not self.queue:
            return
        message = self.queue.pop(rng.randrange(len(self.queue)))
        if rng.random() < lose or message.element in self.dead:
            return
        status = self.apply(message)
        if rng.random() >= lose:
            self.feed(events.Acknowledged(message.element, message.id, int(status)))

    def apply(self, message: Message) -> Status:
        """As hosts.memory.element does."""
        table = self.tables[message.element]
        assert table.in_range(message.pa, message.pages)
        age = table.age(message.pa, message.pages, message.generation)
        if age <= 0:
            return Status.OK if age == 0 else Status.STALE_GENERATION
        if message.op == Op.PT_SET:
            table.set(message.pa, message.pages, message.va, message.pid, message.permissions, message.generation)
        else:
            table.clear(message.pa, message.pages, message.generation)
        return Status.OK

    def settle(self, rng: random.Random) -> None:
        """Repeat and deliver until nothing is under way."""
        for _ in range(2000):
            if not self.state.messages:
                break
            if not self.queue:
                self.queue = [m for m in self.state.messages.values() if m.element not in self.dead]
                if not self.queue:
                    break
            self.deliver(rng)

    # ----------------------------------------------------------------------------------------------------------- accesses

    def stamp(self, pid: int, va: int, need: Perm = Perm.WRITE) -> tuple[int, int, int] | None:
        """What the switch writes into a request that it forwards: (element, pa, generation); None when it refuses."""
        translation = self._longest("translation", va, None)
        protection = self._longest("protection", va, pid)
        if (
            translation is None
            or translation.action != "map_page"
            or protection is None
            or protection.action != "allow"
        ):
            return None
        params, rights = dict(translation.params), dict(protection.params)
        if rights["permissions"] & need != need:
            return None
        liveness = self.entries.get(("liveness", (("element", params["element"]),)))
        if liveness is None or liveness.action != "alive":
            return None
        return params["element"], (va + params["offset"]) % (1 << 64), rights["generation"]

    def _longest(self, table: str, va: int, pid: int | None) -> Entry | None:
        best: tuple[int, Entry] | None = None
        for entry in self.entries.values():
            if entry.table != table:
                continue
            match = dict(entry.match)
            value, length = match["va"]
            if pid is not None and match["pid"] != pid:
                continue
            mask = ((1 << length) - 1) << (64 - length)
            if va & mask == value and (best is None or length > best[0]):
                best = (length, entry)
        return None if best is None else best[1]

    def passes(self, pid: int, va: int, stamped: tuple[int, int, int] | None) -> bool:
        """Whether a request that the switch forwarded with this stamp takes effect at the element now."""
        if stamped is None:
            return False
        element, pa, generation = stamped
        return element not in self.dead and self.tables[element].check(pid, va, pa, Perm.WRITE, generation) is Status.OK

    # ---------------------------------------------------------------------------------------------------------- requests

    def ask(self, make) -> int:
        """An API request; its token."""
        self.tokens += 1
        self.feed(make(self.tokens))
        return self.tokens

    def create_process(self, element: int, name: bytes = b"p") -> int:
        """A process, by its local OS; its pid."""
        self.tokens += 1
        request_id = 1_000_000 + self.tokens
        request = events.ControlRequest(element, 0, request_id, Op.PROCESS_CREATE, 0, name.ljust(32, b"\0"))
        self.feed(request)
        if not any(r.request_id == request_id for r in self.replies):
            self.feed(request)  # the controller died over it: the local OS repeats
        return next(r.va for r in self.replies if r.request_id == request_id)

    def page_owners(self) -> dict[tuple[int, int], list[int]]:
        """Physical page to the pids whose writes would pass both enforcements."""
        owners: dict[tuple[int, int], list[int]] = {}
        for allocation in self.state.allocations.values():
            for number in range(allocation.pages):
                va = allocation.va + number * PAGE_SIZE
                stamped = self.stamp(allocation.pid, va)
                if self.passes(allocation.pid, va, stamped):
                    assert stamped is not None
                    owners.setdefault(stamped[:2], []).append(allocation.pid)
        return owners
