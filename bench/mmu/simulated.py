"""The controller's own core without its shell: what it would put into the switch, computed. Elements answer at once."""

from __future__ import annotations

from collections import Counter

from controller.core import entries, events
from controller.core.events import Answer, ApiError, ControlRequest, Event, Send
from controller.core.memory import Config
from controller.core.state import State
from controller.core.step import initial, step
from protocol import wire
from protocol.rack import Element, Rack
from protocol.wire import PAGE_SIZE, ElementKind, Media, Op, Status

OWNER = 1  # the compute element


class SimulatedController:
    """A rack with ``elements`` memory elements of ``pages`` pages, and its controller."""

    def __init__(self, elements: int, pages: int, config: Config | None = None):
        self.config = config or Config()
        memory = [
            Element(name=f"m{i}", id=100 + i, kind="memory", port=10 + i, media="dram", pages=pages)
            for i in range(elements)
        ]
        compute = Element(name="c1", id=OWNER, kind="compute", port=1)
        self.state: State = initial(Rack(name="simulated", elements=(compute, *memory)).check())
        self._token = 0
        for e in (compute, *memory):
            kind = ElementKind.COMPUTE if e.kind == "compute" else ElementKind.MEMORY
            media = Media.DRAM if e.kind == "memory" else Media.NONE
            hello = wire.HELLO_ARGS.pack(kind, media, 0, 0, e.pages, 1)
            self._do(ControlRequest(e.id, 0, 1, Op.HELLO, 0, hello))

    def _do(self, event: Event) -> Answer | None:
        """Carry out an event and what follows from it; the answer to a request of the API."""
        todo, answer = [event], None
        while todo:
            done = step(self.state, todo.pop(0), 0.0, self.config)
            self.state = done.state
            for effect in done.plan:
                if isinstance(effect, Send):
                    message = effect.message
                    todo.append(events.Acknowledged(message.element, message.id, int(Status.OK)))
                elif isinstance(effect, Answer):
                    answer = effect
        return answer

    def _ask(self, event: Event) -> dict[str, int]:
        answer = self._do(event)
        assert answer is not None
        if isinstance(answer.error, ApiError):
            if answer.error.code == "out_of_memory":
                raise MemoryError(answer.error.message)
            raise RuntimeError(answer.error.message)
        return answer.result

    def create(self, name: str = "process") -> int:
        """A process; its pid."""
        before = set(self.state.processes)
        self._token += 1
        self._do(ControlRequest(OWNER, 0, 1000 + self._token, Op.PROCESS_CREATE, 0, name.encode().ljust(32, b"\0")))
        return (set(self.state.processes) - before).pop()

    def alloc(self, pid: int, size: int) -> int:
        """The address of new memory. Raises MemoryError."""
        self._token += 1
        return self._ask(events.AllocRequest(self._token, pid, size, 3))["va"]

    def free(self, va: int, pages: int = 0) -> None:
        """Free whole pages (0: all of the allocation)."""
        self._token += 1
        self._ask(events.FreeRequest(self._token, va, pages * PAGE_SIZE))

    def revoke(self, va: int, pages: int = 1) -> None:
        """Take pages from their owner."""
        self._token += 1
        self._ask(events.RevokeRequest(self._token, va, pages))

    def grant(self, va: int, to: int, pages: int = 1) -> None:
        """Give pages to another process."""
        self._token += 1
        self._ask(events.GrantRequest(self._token, va, pages, to, 3))

    def rules(self) -> Counter[str]:
        """Entries by table."""
        return Counter(e.table for e in entries.all_entries(self.state) if e.table in ("translation", "protection"))
