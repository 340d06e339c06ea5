"""What processes ask for in band as operators do over HTTP: revoking their own pages, and fences; and why they are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import RACK, Rack

from controller.core import events
from controller.core.answers import LONGEST_REASON
from controller.core.state import OverrideKind
from controller.tokens import Role, Tokens
from protocol import wire
from protocol.wire import PAGE_SIZE, Flag, Header, NotifyCode, Op, Perm, Status


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[Rack]:
    made = Rack(tmp_path)
    with made.running():
        made.until(lambda: all(e.liveness == "alive" for e in made.shell.state.elements.values()))
        yield made
    made.kill()


class Asker:
    """A process on c1."""

    def __init__(self, rack: Rack):
        self.rack, self.pid, self.last = rack, rack.process(), 100

    def ask(self, op: Op, va: int = 0, payload: bytes = b"") -> tuple[Status, str]:
        """Status of the answer, and why not."""
        self.last += 1
        header = Header(op, pid=self.pid, va=va, request_id=self.last, length=len(payload))
        self.rack.frame(1, header, payload + bytes(8))  # a link may pad
        found: list[bytes] = []

        def answered() -> bool:
            for _, frame in list(self.rack.switch.frames):
                reply = Header.unpack(frame, 14)
                if (reply.op, reply.pid, reply.request_id) == (op | wire.REPLY, self.pid, self.last):
                    found.append(frame)
            return bool(found)

        self.rack.until(answered, acknowledge=False)
        reply = Header.unpack(found[0], 14)
        assert bool(reply.flags & Flag.BY_CONTROLLER) == (reply.status != Status.OK)
        return Status(reply.status), found[0][54 : 54 + reply.length].decode()

    def alloc(self, pages: int) -> int:
        made = self.rack.shell.request(
            lambda token: events.AllocRequest(token, self.pid, pages * PAGE_SIZE, int(Perm.RW))
        )
        va = made["va"]
        assert isinstance(va, int)
        return va


def fence(name: str, token: str, fenced: int = 1) -> bytes:
    return wire.FENCE_ARGS.pack(fenced, name.encode()) + token.encode()


def test_a_process_gives_up_its_own_pages(rack: Rack) -> None:
    me, other = Asker(rack), Asker(rack)
    va, others = me.alloc(8), other.alloc(2)
    status, why = me.ask(Op.REVOKE, others, wire.REVOKE_ARGS.pack(1))
    assert (status, why) == (Status.PERMISSION, f"the page at {others:#x} belongs to process {other.pid}, not {me.pid}")
    before = rack.shell.state.allocations
    for at, pages in ((va, 0), (va, 9), (va + 8, 1), (va, 1 << 60)):
        status, why = me.ask(Op.REVOKE, at, wire.REVOKE_ARGS.pack(pages))
        assert (status, why.startswith(f"{pages} pages at {at:#x} are not whole pages of")) == (
            Status.BAD_REQUEST,
            True,
        )
    assert rack.shell.state.allocations is before
    assert me.ask(Op.REVOKE, va + PAGE_SIZE, wire.REVOKE_ARGS.pack(2)) == (Status.OK, "")
    revoked = rack.shell.state.allocations[va].overrides
    assert [(o.va, o.kind) for o in revoked] == [(va + n * PAGE_SIZE, OverrideKind.REVOKED) for n in (1, 2)]
    assert not any(n.code == NotifyCode.REVOKED for n in rack.shell.state.notices.values()), "it knows"
    assert me.ask(Op.REVOKE, va, wire.REVOKE_ARGS.pack(2))[0] is Status.NOT_FOUND
    assert me.ask(Op.FREE, va, wire.FREE_ARGS.pack(va, 8 * PAGE_SIZE)) == (Status.OK, "")


def test_who_bears_an_operators_token_fences(rack: Rack, tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    rack.shell.is_operators = tokens.is_operators
    operator = tokens.create("test", Role.OPERATOR)[1]
    observer = tokens.create("looks on", Role.OBSERVER)[1]
    expired = tokens.create("gone", Role.OPERATOR, life=1e-6)[1]
    me = Asker(rack)
    for bad in ("", observer, expired, operator[:-1], operator + "0", "rack.0.0"):
        status, why = me.ask(Op.FENCE, 0, fence("c2", bad))
        assert (status, why) == (Status.PERMISSION, "a good token of an operator is needed to fence an element")
    assert not any(e.fenced for e in rack.shell.state.elements.values())
    assert me.ask(Op.FENCE, 0, fence("c9", operator))[0] is Status.NOT_FOUND
    assert me.ask(Op.FENCE, 0, fence("c2", operator)) == (Status.OK, "")
    assert rack.shell.state.elements[2].fenced
    assert me.ask(Op.FENCE, 0, fence("c2", operator, 0)) == (Status.OK, "")
    assert not rack.shell.state.elements[2].fenced


def test_a_reason_is_short(rack: Rack) -> None:
    me = Asker(rack)
    wish = wire.ALLOC_HINT.pack(0, 0, 0, ("\N{SNOWMAN}" * 10).encode())
    status, why = me.ask(Op.ALLOC, 0, wire.ALLOC_ARGS.pack(4096, 3, 0) + wish)
    assert (status, why.startswith("there is no memory element")) == (Status.NOT_FOUND, True)
    assert len(why.encode()) <= LONGEST_REASON
    assert len(RACK.elements) == 4
