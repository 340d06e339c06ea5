"""A controller's shell over a switch in memory, and elements that live when they are told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from fakes import FakeSwitch, make_shell

from controller.core import events
from controller.core.step import initial
from controller.shell import Shell
from protocol import wire
from protocol.wire import Header, Op, Status
from topologies.racks import small_rack

RACK = small_rack(compute=2, dram=2, nvm=0, memory_mib=1)


class Rack:
    """A shell, its switch, and elements that answer page-table changes when told to."""

    def __init__(self, path: Path):
        self.path = path
        self.switch = FakeSwitch()
        self.shells: list[Shell] = []
        self.boot()

    def boot(self) -> Shell:
        """Start a controller over what the last one stored."""
        self.shell = make_shell(self.path, initial(RACK), self.switch)
        self.shells.append(self.shell)
        self.shell.start()
        self.beat()
        return self.shell

    def kill(self) -> None:
        """The controller ends; the switch and the elements stay."""
        self.shell.stop()

    def frame(self, element: int, header: Header, payload: bytes = b"") -> None:
        """A frame of an element reaches the controller."""
        self.shell.on_packet(element, bytes(14) + header.pack() + payload)

    def beat(self) -> None:
        for element in RACK.elements:
            self.frame(element.id, Header(Op.HEARTBEAT, va=1))

    def requests(self, op: Op) -> list[tuple[int, Header]]:
        """The frames of this kind that the controller has sent: (port, header)."""
        sent = [(port, Header.unpack(frame, 14)) for port, frame in list(self.switch.frames)]
        return [(port, header) for port, header in sent if header.op == op]

    def acknowledge(self) -> None:
        """Every element answers all page-table changes it was sent."""
        for op in (Op.PT_SET, Op.PT_CLEAR, Op.BARRIER):
            for port, header in self.requests(op):
                element = next(e.id for e in RACK.elements if e.port == port)
                self.frame(element, header._replace(op=op | wire.REPLY, status=Status.OK))

    def until(self, condition: Callable[[], bool], acknowledge: bool = True) -> None:
        """Let the elements work until the condition holds."""
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, self.shell.log.since(0)[-5:]
            self.beat()
            if acknowledge:
                self.acknowledge()
            time.sleep(0.005)

    @contextmanager
    def running(self) -> Iterator[None]:
        """The elements live and answer, in a thread of their own."""
        stop = threading.Event()

        def live() -> None:
            while not stop.wait(0.005):
                self.beat()
                self.acknowledge()

        thread = threading.Thread(target=live, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def process(self) -> int:
        """A process on the first element."""
        header = Header(Op.PROCESS_CREATE, request_id=time.time_ns())
        before = set(self.shell.state.processes)
        self.frame(1, header, b"p".ljust(32, b"\0"))
        self.until(lambda: set(self.shell.state.processes) > before)
        pid = max(self.shell.state.processes)
        # The state is there before what follows from it is done; people are told last.
        told = ("process_created", pid)
        self.until(lambda: any((e["event"], e.get("pid")) == told for e in self.shell.log.since(0)))
        return pid

    def ask(self, make: Callable[[int], events.ApiRequest]) -> Future[dict]:
        """An API request in a thread of its own."""
        future: Future[dict] = Future()

        def run() -> None:
            try:
                future.set_result(self.shell.request(make, 5))
            except Exception as error:
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return future
