"""Random and mutated frames: every one is decided as the model says, and counted."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.wire import Flag, Header
from tests.p4src.harness import RackSwitch
from tests.p4src.model import COMPUTE, CPU_PORT, MEMORY, Rack, decide
from tests.p4src.world import BASE, C1, M1, M2, PAGE, build, hostile_rack

FRAMES = 100_000
ALL_VERDICTS = {0, 1, 2, 3, *(16 + status for status in (1, 2, 3, 4, 6, 7)), *range(32, 41)}


def random_frame(rng: random.Random) -> tuple[int, bytes]:
    """A port and a frame: well formed, then now and then broken in some way."""
    port = rng.choice((1, 1, 1, 1, 2, 2, 3, 4, 5, 6, 9, CPU_PORT))
    op = rng.choice((1, 1, 2, 2, 3, 4, 0x20, 0x2F, 0x23, 0x81, 0x82, 0xC0, 0xC2, rng.randrange(256)))
    va = rng.choice((BASE, BASE, BASE, 6 << 48, 7 << 48, 8 << 48, rng.getrandbits(64))) + rng.randrange(20) * PAGE
    length = rng.choice((8, 8, 64, 4096, 0, 4097, rng.randrange(65536)))
    header = Header(
        op,
        flags=rng.randrange(256),
        status=rng.randrange(256),
        src=rng.randrange(65536),
        dst=rng.choice((0, C1, 2, M1, M2, rng.randrange(65536))),
        pid=rng.choice((5, 5, 5, 6, 0, rng.randrange(65536))),
        length=length,
        generation=rng.getrandbits(32),
        va=(va + rng.choice((0, 0, 8, rng.randrange(4096)))) % (1 << 64),
        pa=rng.getrandbits(64),
        request_id=rng.getrandbits(64),
        version=1 if rng.random() < 0.97 else rng.randrange(256),
    )
    if rng.random() < 0.3:
        header = with_translation(rng, header)
    payload = rng.randbytes(rng.choice((0, 0, 8, 16, min(length, 5000), rng.randrange(64))))
    data = rng.randbytes(12) + (b"\x88\xb5" if rng.random() < 0.97 else rng.randbytes(2)) + header.pack() + payload
    damage = rng.random()
    if damage < 0.05:
        data = data[: rng.randrange(len(data) + 1)]
    elif damage < 0.08:
        data = rng.randbytes(rng.randrange(200))
    elif damage < 0.1:
        data += bytes(9000 - len(data)) if len(data) < 9000 else b""
    elif damage < 0.2:
        at = rng.randrange(len(data))
        data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    if port == CPU_PORT:
        # Ports that exist or not, but never 510 (it would come back) or 511 (drop).
        data = (rng.randrange(510) << 7 | rng.randrange(128)).to_bytes(2, "big") + data
        data = data[: rng.randrange(3)] if rng.random() < 0.1 else data
    return port, data


def with_translation(rng: random.Random, header: Header) -> Header:
    """The request with a cached translation: the right one of one of the pages of hostile_rack, wrong in some way, or made up."""
    element, pa, generation = rng.choice(
        (
            (M1, (header.va - BASE + 0x10000) % (1 << 64), 7),
            (M2, 0x7000 + header.va % PAGE, 9),
            (M1, 0x3000 + header.va % PAGE, 11),
            (rng.choice((0, C1, M2, 104, 999)), rng.getrandbits(64), rng.getrandbits(32)),
        )
    )
    wrong = rng.random()
    if wrong < 0.1:
        generation += 1
    elif wrong < 0.2:
        pa ^= PAGE
    elif wrong < 0.3:
        element ^= 3
    return header._replace(flags=header.flags | Flag.CACHED, dst=element, pa=pa, generation=generation)


def test_a_hundred_thousand_hostile_frames() -> None:
    rng = random.Random(20)
    rack, switch = hostile_rack(), RackSwitch()
    build(rack, switch)
    expected: Counter[int] = Counter()
    for _ in range(FRAMES):
        port, frame = random_frame(rng)
        decision = decide(rack, port, frame)
        expected[decision.verdict] += 1
        out = [(o.port, o.frame) for o in switch.inject(port, frame)]
        wanted = [] if decision.port is None else [(decision.port, decision.frame)]
        assert out == wanted, f"port {port}: {frame.hex()}"
    assert switch.verdicts() == dict(expected)
    assert sum(expected.values()) == FRAMES
    assert set(expected) == ALL_VERDICTS, "the fuzzer does not reach every verdict"
    switch.close()


prefixes = st.integers(0, 64)
addresses = st.integers(0, 63).map(lambda n: BASE + n * 1024)


@st.composite
def racks(draw: st.DrawFn) -> Rack:
    """Arbitrary tables over a small world, so that entries and frames meet."""

    def prefix(va: int, length: int) -> int:
        return va & ((1 << length) - 1) << (64 - length)

    rack = Rack()
    for port, element, kind in ((1, 1, COMPUTE), (2, 2, COMPUTE), (4, M1, MEMORY), (5, M2, MEMORY)):
        if draw(st.booleans()) or port == 1:
            rack.ports[port] = (element, kind, draw(st.booleans()) and port != 1)
    rack.bindings = draw(st.sets(st.tuples(st.sampled_from((1, 2)), st.integers(0, 3)), max_size=6)) | {(1, 1)}
    for va, length in draw(st.lists(st.tuples(addresses, st.integers(40, 64)), max_size=6)):
        place = draw(st.none() | st.tuples(st.sampled_from((M1, M2)), st.integers(0, 1 << 20)))
        rack.translations[prefix(va, length), length] = place
    for pid, va, length in draw(st.lists(st.tuples(st.integers(0, 2), addresses, st.integers(40, 64)), max_size=6)):
        grant = draw(st.none() | st.tuples(st.integers(0, 3), st.integers(0, 99)))
        rack.protections[pid, prefix(va, length), length] = grant
    rack.alive = {e: p for e, p in ((M1, 4), (M2, 5)) if draw(st.booleans())}
    rack.routes = {e: e for e in (1, 2) if draw(st.booleans())}
    return rack


@st.composite
def requests(draw: st.DrawFn, rack: Rack) -> tuple[int, Header]:
    """A port and a request to a rack; with no translation, one of the rack's (of this address or another), or one made up."""
    port, op = draw(st.sampled_from((1, 2, 4))), draw(st.sampled_from((1, 2, 3, 4, 0x81)))
    header = Header(op, pid=draw(st.integers(0, 2)), va=draw(addresses), length=8, dst=1)
    places = [p for p in rack.translations.values() if p is not None]
    grants = [g for g in rack.protections.values() if g is not None]
    how = draw(st.sampled_from(("none", "known", "made up")))
    if how == "none":
        return port, header
    element, offset = (
        draw(st.sampled_from(places)) if places and how == "known" else (draw(st.sampled_from((1, M1))), 7)
    )
    generation = draw(st.sampled_from(grants))[1] if grants and how == "known" else draw(st.integers(0, 99))
    pa = (header.va + offset) % (1 << 64)
    return port, header._replace(flags=Flag.CACHED, dst=element, pa=pa, generation=generation)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_arbitrary_tables(data: st.DataObject) -> None:
    rack = data.draw(racks())
    switch = RackSwitch()
    try:
        build(rack, switch)
        for port, header in data.draw(st.lists(requests(rack), min_size=1, max_size=12)):
            frame = bytes(12) + b"\x88\xb5" + header.pack() + bytes(16)
            decision = decide(rack, port, frame)
            wanted = [] if decision.port is None else [(decision.port, decision.frame)]
            assert [(o.port, o.frame) for o in switch.inject(port, frame)] == wanted
    finally:
        switch.close()
