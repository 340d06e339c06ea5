"""The core in a world of its own: a switch that is a dictionary, real memory elements behind channels, a store, a clock.

Frames wait in a channel for each memory element, in order, as on a link; any may be lost. What reaches an element is handled
by the element's own code (``hosts.memory``), so that the world asks for itself what the switch and the elements would let pass.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from controller import frames
from controller.core import entries, events, layout, monitor
from controller.core.entries import Entry, WriteOp
from controller.core.events import Effect, Event
from controller.core.memory import Config
from controller.core.state import TOR, Allocation, AllocationStatus, Message, Notice, Override, State
from controller.core.step import initial, step
from hosts.memory.element import MemoryElement
from hosts.memory.page_table import PageTable
from protocol import wire
from protocol.rack import Rack
from protocol.wire import PAGE_SIZE, Header, Op, Perm, Status


class Crash(Exception):
    """The controller dies here."""


@dataclass(frozen=True)
class Sent:
    """A write that the switch let pass. ``source`` is the compute element of its process."""

    number: int  # its request id, and what it writes
    pid: int
    source: int
    va: int
    element: int
    generation: int


@dataclass
class World:
    """The rack around a controller."""

    rack: Rack
    config: Config = field(default_factory=Config)
    now: float = 0.0
    crash_after: int | None = None  # effects and single writes to the switch until the controller dies
    more_crashes: list[int] = field(default_factory=list)  # likewise, of the controllers after it
    crashes: int = 0  # so far
    steps: int = 0  # effects and single writes carried out so far
    entries: dict[tuple, Entry] = field(default_factory=dict)
    elements: dict[int, MemoryElement] = field(default_factory=dict)
    incarnations: dict[int, int] = field(default_factory=dict)
    channels: dict[int, deque[bytes | Sent]] = field(default_factory=dict)  # on their way to memory elements
    old_frames: list[tuple[int, bytes]] = field(default_factory=list)  # page-table changes that were sent before
    stored: State | None = None  # allocations without their overrides
    stored_overrides: dict[int, Override | None] = field(default_factory=dict)
    answers: dict[int, events.Answer] = field(default_factory=dict)
    replies: list = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    published: list[events.Publish] = field(default_factory=list)
    writes: list[entries.Write] = field(default_factory=list)
    frames_of: dict[int, bytes] = field(default_factory=dict)  # writes, by their number
    landed: set[int] = field(default_factory=set)  # writes that took effect at an element
    confirmed: list[tuple[Sent, Status]] = field(
        default_factory=list
    )  # replies that the switch passed on to the writer
    words: dict[int, int] = field(default_factory=dict)  # by address of the page: the last write that landed
    on_answer: Callable[[events.Answer], None] | None = None
    on_ready: Callable[[Allocation], None] | None = None
    on_persist: Callable[[Sequence[tuple]], object] = len
    numbers: int = 0

    def __post_init__(self) -> None:
        self.state = initial(self.rack)
        self.stored = self.state
        self.channels[TOR] = deque()
        for element in self.rack.memory:
            self.channels[element.id] = deque()
            self.start_element(element.id)
        for entry in entries.all_entries(self.state):
            self.entries[entry.key] = entry
        for element in self.rack.elements:
            self.heartbeat(element.id)
        self.settle(random.Random(0))

    def new_number(self) -> int:
        """A number that was never used: request id, token."""
        self.numbers += 1
        return self.numbers

    # ---------------------------------------------------------------------------------------------------- the shell's part

    def feed(self, event: Event) -> None:
        """An event, and all effects of its plan; a crash loses the rest of them and the state in memory."""
        result = step(self.state, event, self.now, self.config)
        self.state = result.state
        try:
            for effect in result.plan:
                self.towards_crash()
                self.carry_out(effect)
        except Crash:
            self.come_back()

    def towards_crash(self) -> None:
        """A step of the controller is about to be taken; it may be one too many."""
        if self.crash_after is not None:
            if self.crash_after == 0:
                raise Crash
            self.crash_after -= 1
        self.steps += 1

    def come_back(self) -> None:
        """Start the controller again, perhaps to die again."""
        self.crashes += 1
        self.crash_after = self.more_crashes.pop(0) if self.more_crashes else None
        try:
            self.restart()
        except Crash:
            self.come_back()

    def carry_out(self, effect: Effect) -> None:
        match effect:
            case events.Persist(changes=changes, counters=counters):
                assert self.stored is not None
                stored = self.stored
                self.on_persist(changes)
                for kind, key, record in changes:
                    if kind == "overrides":
                        self.stored_overrides = {**self.stored_overrides, key: record}
                        continue
                    old = getattr(stored, kind)
                    if isinstance(record, Allocation) and record.status is AllocationStatus.READY:
                        assert not record.overrides, "they are stored apart"
                        if self.on_ready is not None and old[key].status is AllocationStatus.PREPARING:
                            self.on_ready(record)
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
                self.write_all(writes)
            case events.Send(message=message):
                self.transmit(message)
            case events.SendReply(reply=reply):
                self.replies.append(reply)
            case events.Notify(notice=notice):
                self.notices.append(notice)
            case events.Answer(token=token):
                self.answers[token] = effect
                if self.on_answer is not None:
                    self.on_answer(effect)
            case events.Publish():
                self.published.append(effect)

    def write_all(self, writes: Sequence[entries.Write]) -> None:
        """Updates in their order. What a process may do before and after them, it may do all the time between (S5)."""
        before = self.rights(writes)
        found = []
        for write in writes:
            self.towards_crash()
            self.write(write)
            found.append(self.rights(writes))
        for write, between in zip(writes, found, strict=True):
            for who, now in between.items():
                assert now >= before[who] & found[-1][who], f"S5: {who} is without access after {write}"
                assert now <= before[who] | found[-1][who], f"S1: {who} has access for a moment after {write}"

    def rights(self, writes: Sequence[entries.Write]) -> dict[tuple[int, int], set[Perm]]:
        """What the processes that these writes concern may do at the addresses that they concern: by pid and page."""
        blocks = [dict(w.entry.match) for w in writes if w.entry.table in ("translation", "protection")]
        pids = sorted({block["pid"] for block in blocks if "pid" in block})
        pages = {
            va + n * PAGE_SIZE
            for va, length in (block["va"] for block in blocks)
            for n in range(1 << (wire.VA_BITS - length - wire.PAGE_SHIFT))
        }
        both = (Perm.READ, Perm.WRITE)
        return {(pid, va): {p for p in both if self.stamp(pid, va, p)} for pid in pids for va in pages}

    def write(self, write: entries.Write) -> None:
        """The switch is strict: a write that does not fit what it holds is a fault of the core."""
        self.writes.append(write)
        key = write.entry.key
        assert (key in self.entries) == (write.op is not WriteOp.INSERT), write
        if write.op is WriteOp.DELETE:
            del self.entries[key]
        else:
            self.entries[key] = write.entry

    def stored_state(self) -> State:
        """What is stored, put together."""
        assert self.stored is not None
        overrides = [o for o in self.stored_overrides.values() if o is not None]
        allocations = layout.assembled(self.stored.allocations, overrides)
        return State(**{**self.stored.__dict__, "allocations": allocations})

    def restart(self) -> None:
        """What the shell does at start: load, reconcile, go on."""
        self.state = monitor.complete(self.stored_state())
        self.write_all(entries.difference(self.entries.values(), entries.all_entries(self.state)))
        self.feed(events.Started())

    def lose_store(self) -> None:
        """The controller comes back with a new store; the switch and the elements are as they were."""
        counters = self.state.counters
        self.stored = initial(self.rack, counters.epoch + 1, counters.next_id + 1000)
        self.stored_overrides = {}
        self.restart()

    def transmit(self, message: Message) -> None:
        """Out of the switch, behind all that waits for this element."""
        frame = frames.of_message(message, self.state)
        self.channels[message.element].append(frame)
        self.old_frames = [*self.old_frames[-30:], (message.element, frame)]

    # ------------------------------------------------------------------------------------------------- the rack's part

    def heartbeat(self, element: int) -> None:
        """A sign of life reaches the controller."""
        self.feed(events.Heartbeat(element, self.incarnations.get(element, 1)))

    def start_element(self, number: int) -> None:
        """A memory element starts (again): it remembers nothing, except the contents of an NVM element."""
        element = self.rack.by_id(number)
        incarnation = self.incarnations[number] = self.incarnations.get(number, 0) + 1
        if element.media == "nvm" and number in self.elements:
            memory = self.elements[number].memory
        else:
            memory = memoryview(bytearray(element.pages * PAGE_SIZE))
        self.elements[number] = MemoryElement(number, memory, PageTable(element.pages), incarnation)
        self.elements[number].copying.send = lambda frame: self.between_elements(number, frame)

    def between_elements(self, source: int, frame: bytes) -> None:
        """A "reply" of a memory element to another one, as the switch lets it pass."""
        header = Header.unpack(frame, 14)._replace(src=source)  # stamped by the switch
        target = header.dst
        port = self.rack.by_id(source).port
        attached = self.entries["element", (("port", port),)].action == "attach"
        if attached and ("reply_route", (("element", target),)) in self.entries:
            self.channels[target].append(frame[:14] + header.pack() + frame[wire.FRAME_OVERHEAD :])

    def send_write(self, pid: int, va: int) -> Sent | None:
        """A process writes a word; None when the switch refuses it."""
        stamped = self.stamp(pid, va)
        process = self.state.processes.get(pid)
        if stamped is None or process is None or not self.may_send(process.element, pid):
            return None
        element, pa, generation = stamped
        sent = Sent(self.new_number(), pid, process.element, va, element, generation)
        header = Header(
            Op.WRITE, src=sent.source, dst=element, pid=pid, length=8, generation=generation, va=va, pa=pa
        )._replace(request_id=sent.number)
        self.channels[element].append(sent)
        self.frames_of[sent.number] = _frame(element, sent.source, header, sent.number.to_bytes(8, "big"))
        return sent

    def deliver(self, rng: random.Random, lose: float = 0.0) -> None:
        """One frame reaches its element (or is lost), and its answer the controller or the writer (or is lost)."""
        waiting = [e for e, channel in self.channels.items() if channel]
        if waiting:
            self.deliver_to(rng.choice(waiting), rng, lose)

    def deliver_to(self, element: int, rng: random.Random, lose: float = 0.0) -> None:
        """The next frame of one element."""
        item = self.channels[element].popleft()
        if rng.random() < lose:
            return
        frame = self.frames_of[item.number] if isinstance(item, Sent) else item
        if element == TOR:  # it has no more to do with a barrier than to answer it
            if rng.random() >= lose:
                self.feed(events.Acknowledged(TOR, Header.unpack(frame, 14).request_id, Status.OK))
            return
        reply = self.elements[element].handle(frame)
        if reply is None:
            assert Header.unpack(frame, 14).op in (Op.COPY, Op.COPY | wire.REPLY, Op.RECEIVE)
            return
        header = Header.unpack(reply, 14)
        if isinstance(item, Sent):
            if header.status == Status.OK:
                self.landed.add(item.number)
                self.words[header.va & -PAGE_SIZE] = item.number
            port = self.rack.by_id(element).port
            if self.entries["element", (("port", port),)].action == "attach":
                self.confirmed.append((item, Status(header.status)))
        elif rng.random() >= lose:
            self.feed(events.Acknowledged(element, header.request_id, header.status))

    def settle(self, rng: random.Random) -> None:
        """Repeat and deliver until nothing is under way."""
        for _ in range(4000):
            if not any(self.channels.values()):
                if not self.state.messages:
                    return
                for message in self.state.messages.values():
                    self.transmit(message)
            self.deliver(rng)
        raise AssertionError(f"still under way: {self.state.operations}")

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
        for length in range(52, 30, -1):
            match = ("va", (va >> (64 - length) << (64 - length), length))
            found = self.entries.get((table, (match,) if pid is None else (("pid", pid), match)))
            if found is not None:
                return found
        return None

    def may_send(self, element: int, pid: int) -> bool:
        """Whether the switch takes requests of this process from this compute element."""
        port = self.rack.by_id(element).port
        attached = self.entries["element", (("port", port),)].action == "attach"
        return attached and ("binding", (("element", element), ("pid", pid))) in self.entries

    def passes(self, pid: int, va: int, stamped: tuple[int, int, int] | None, need: Perm = Perm.WRITE) -> bool:
        """Whether a request that the switch forwarded with this stamp would take effect at the element now."""
        if stamped is None:
            return False
        element, pa, generation = stamped
        return self.elements[element].table.check(pid, va, pa, need, generation) is Status.OK

    # ---------------------------------------------------------------------------------------------------------- requests

    def ask(self, make) -> int:
        """An API request; its token."""
        token = self.new_number()
        self.feed(make(token))
        return token

    def create_process(self, element: int, name: bytes = b"p") -> int:
        """A process, by its local OS; its pid."""
        request_id = self.new_number()
        request = events.ControlRequest(element, 0, request_id, Op.PROCESS_CREATE, 0, name.ljust(32, b"\0"))
        self.feed(request)
        if not any(r.request_id == request_id for r in self.replies):
            self.feed(request)  # the controller died over it: the local OS repeats
        return next(r.va for r in self.replies if r.request_id == request_id)

    def page_owners(self) -> dict[tuple[int, int], list[int]]:
        """Physical page to the pids whose writes would pass both enforcements, whoever they are."""
        owners: dict[tuple[int, int], list[int]] = {}
        for allocation in self.state.allocations.values():
            pids = {allocation.pid, *layout.holders(allocation), *self.state.processes}
            for number, pid in itertools.product(range(allocation.pages), sorted(pids)):
                va = allocation.va + number * PAGE_SIZE
                stamped = self.stamp(pid, va)
                if self.passes(pid, va, stamped):
                    assert stamped is not None
                    owners.setdefault(stamped[:2], []).append(pid)
        return owners


def _frame(element: int, source: int, header: Header, payload: bytes) -> bytes:
    addresses = wire.element_mac(element) + wire.element_mac(source)
    return addresses + wire.ETHERTYPE.to_bytes(2, "big") + header.pack() + payload
