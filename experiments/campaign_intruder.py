"""A former owner that does not give up: writes to pages that were taken from it, as fast as it can, and counts the answers.

Two ways in. ``late`` sends requests from its own port, as a process would that was not told: the switch must refuse them.
``inject`` puts frames on the memory element's port as the switch would have forwarded them before the change, with the place
and generation that were good then: frames that a network held back for long. The element must refuse those alone (S4).
"""

from __future__ import annotations

import random
import socket
import sys
import time
from collections import Counter
from typing import Any

from experiments import worker
from hosts.faults import Faults
from hosts.link import Link, frame
from hosts.process import Process, Region, RetryPolicy
from protocol import wire
from protocol.wire import PAGE_SIZE, Flag, Header, Op, Status

POLICY = RetryPolicy(budget=20.0)  # controllers die here
BATCH = 32  # requests in flight
PATIENCE = (
    0.005  # seconds without an answer until more is sent: some are lost, and late ones are counted when they come
)
LAST = 0.25  # seconds in which the answer to a last request is waited for, time after time
LONGEST = 60.0  # seconds of that, on the slowest machine
MARK = 1 << 63  # in the ids of late requests: the process's own do not have it
_LD_B, _LD_H, _JEQ, _JSET, _RET = 0x30, 0x28, 0x15, 0x45, 0x06
_PID_AT, _ID_AT, _OP_AT = 14 + 8, 14 + 32, 14 + 1
_ID = slice(_ID_AT, _ID_AT + 8)
_ALL = 0xFFFFFFFF
KINDS = ((Op.WRITE, wire.WORD.pack(0xBAD)), (Op.FETCH_ADD, wire.WORD.pack(1)), (Op.CAS, wire.CAS_ARGS.pack(0, 0xBAD)))


def accept(pid: int, late: bool) -> list[tuple[int, int, int, int]]:
    """BPF: replies for this process, either to late requests or to all others."""
    return [
        (_LD_H, 0, 0, _PID_AT),
        (_JEQ, 0, 5, pid),
        (_LD_B, 0, 0, _OP_AT),
        (_JSET, 0, 3, wire.REPLY),
        (_LD_B, 0, 0, _ID_AT),
        (_JSET, 0 if late else 1, 1 if late else 0, 0x80),
        (_RET, 0, 0, _ALL),
        (_RET, 0, 0, 0),
    ]


class Intruder:
    """The commands."""

    def __init__(
        self, process: Process, interface: str, ports: dict[int, socket.socket], seed: int, faults: Faults | None = None
    ):
        self.process = process
        self._faults = faults or Faults()
        self._held: list[tuple[socket.socket, bytes]] = []  # by the network: they come later, behind younger ones
        self._ports = ports  # by memory element: where its frames come out of the switch
        self._link = Link(interface, accept(process.pid, late=True))
        self._rng = random.Random(seed)
        self._next_id = MARK | time.time_ns()
        link = process.requester.link
        assert isinstance(link, Link)
        link.accept(accept(process.pid, late=False))

    def do_alloc(self, pages: int, group: int = 0) -> dict[str, Any]:
        """Allocate, write every page, and note where each is (element, physical address, generation)."""
        called = time.monotonic()
        region = self.process.alloc(pages * PAGE_SIZE, group=group)
        found = []
        for va in range(region.va, region.va + region.size, PAGE_SIZE):
            self.process.write(va, wire.WORD.pack(va))
            reply, _ = self.process.requester.request(Header(Op.READ, va=va, length=8))
            found.append((va, reply.src, reply.pa, reply.generation))
        return {"va": region.va, "places": found, "called": called, "returned": time.monotonic()}

    def do_free(self, va: int, pages: int) -> dict[str, Any]:
        """Free pages."""
        self.process.free(va, pages * PAGE_SIZE)
        return {}

    def do_grant(self, va: int, pages: int, to: int) -> dict[str, Any]:
        """Grant pages."""
        self.process.grant(Region(va, pages * PAGE_SIZE), to)
        return {}

    def do_late(self, pages: list[int], count: int) -> dict[str, Any]:
        """``count`` requests to these pages from the process's own port."""
        frames = [
            bytearray(frame(self.process.element, self._header(op, va), payload))
            for va in pages
            for op, payload in KINDS
        ]
        return self._attempt([(self._link.socket, f) for f in frames], count, finish=True)

    def do_inject(self, places: list[tuple[int, int, int, int]], count: int) -> dict[str, Any]:
        """``count`` frames that the switch might have forwarded when these places were still good."""
        frames = []
        for va, element, pa, generation in places:
            for op, payload in KINDS:
                header = self._header(op, va)._replace(
                    src=self.process.element, dst=element, pa=pa, generation=generation
                )
                frames.append((self._ports[element], bytearray(frame(self.process.element, header, payload, element))))
        return self._attempt(frames, count)

    def do_shadow(self, va: int, pages: int) -> dict[str, Any]:
        """What the pages hold of what this process wrote at the beginning: how many still do."""
        held = sum(
            int.from_bytes(self.process.read(a, 8), "big") == a for a in range(va, va + pages * PAGE_SIZE, PAGE_SIZE)
        )
        return {"held": held}

    def _header(self, op: Op, va: int) -> Header:
        return Header(op, pid=self.process.pid, va=va, length=8)

    def _attempt(
        self, frames: list[tuple[socket.socket, bytearray]], count: int, finish: bool = False
    ) -> dict[str, Any]:
        """Send ``count`` frames in random order, each with an id of its own; answers counted by operation, status and refuser.

        ``finish``: until the switch has dealt with all of them. It is a link without faults, then.
        """
        counts: Counter[tuple[int, int, int]] = Counter()
        sent = 0
        receiver = self._link.socket
        while (sent < count and frames) or self._held:  # at the end nothing is held back: it may be allowed again later
            missing = self._send(self._rng.choices(frames, k=min(BATCH, count - sent)) if sent < count else [])
            sent += missing
            receiver.settimeout(PATIENCE)
            try:
                while missing:
                    reply = receiver.recv(256)
                    counts[reply[15], reply[17], reply[16]] += 1
                    missing -= 1
            except TimeoutError:
                pass
        if finish:
            sent += self._finish(*frames[0], counts)
        named = Counter[str]()
        for (op, status, flags), number in counts.items():
            by = "switch" if flags & Flag.BY_SWITCH else "element" if flags & Flag.BY_ELEMENT else "nobody"
            named[f"{Op(op & ~wire.REPLY).name} {Status(status).name} {by}"] += number
        accepted = sum(number for (_, status, _), number in counts.items() if status == Status.OK)
        return {"sent": sent, "answered": counts.total(), "accepted": accepted, "answers": dict(named)}

    def _finish(self, out: socket.socket, data: bytearray, counts: Counter[tuple[int, int, int]]) -> int:
        """Frames that the switch has not come to yet would be let through when their element is let in again. Those of a port
        stay in order: the answer to one more tells that there are none. How many that took."""
        self._link.socket.settimeout(LAST)
        ends = time.monotonic() + LONGEST
        sent = 0
        while time.monotonic() < ends:
            data[_ID] = self._next_id.to_bytes(8, "big")
            self._next_id += 1
            out.send(data)
            sent += 1
            try:
                while True:
                    reply = self._link.socket.recv(256)
                    counts[reply[15], reply[17], reply[16]] += 1
                    if reply[_ID] == data[_ID]:
                        return sent
            except TimeoutError:
                continue
        raise TimeoutError(f"the last of {sent} late requests in {LONGEST:.0f} s was not answered")

    def _send(self, batch: list[tuple[socket.socket, bytearray]]) -> int:
        """Send frames, each with an id of its own, as a network with faults does: how many went out, copies and late ones too."""
        late, self._held = self._held, []
        roll, faults = self._rng.random, self._faults
        sent = 0
        for out, data in batch:
            data[_ID] = self._next_id.to_bytes(8, "big")
            self._next_id += 1
            if roll() < faults.loss:
                continue
            if roll() < faults.late:
                self._held.append((out, bytes(data)))
                continue
            out.send(data)
            sent += 1
            if roll() < faults.copies:
                out.send(data)
                sent += 1
        for out, held in late:
            out.send(held)
        return sent + len(late)


def main() -> int:
    """Serve commands."""
    parser = worker.options(__doc__)
    parser.add_argument("--interface", required=True, help="of the compute element, on the Rack MMU")
    parser.add_argument(
        "--port", action="append", default=[], metavar="ELEMENT=FD", help="socket on the switch's port of an element"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=Faults.parse, help="of the link that late requests take, as NAME=VALUE,...")
    arguments = parser.parse_args()
    ports = {}
    for port in arguments.port:
        element, _, descriptor = port.partition("=")
        ports[int(element)] = socket.socket(fileno=int(descriptor))
    with Process.create(arguments.run_dir, arguments.name, POLICY) as process:
        made = Intruder(process, arguments.interface, ports, arguments.seed, arguments.faults)
        worker.serve(made, process.pid)
    return 0


if __name__ == "__main__":
    sys.exit(main())
