"""A small rack as tables, and how to put a rack's tables into the switch."""

from __future__ import annotations

from protocol import wire
from tests.p4src.harness import RackSwitch
from tests.p4src.model import COMPUTE, MEMORY, Rack

PAGE = 4096
C1, C2, M1, M2 = 1, 2, 101, 102
PORTS = {C1: 1, C2: 2, M1: 4, M2: 5}
BASE = 5 << 48  # process 5's addresses


def build(rack: Rack, switch: RackSwitch) -> None:
    """Install the model's tables in the switch."""
    for port, (element, kind, fenced) in rack.ports.items():
        switch.install("element", {"port": port}, "fence" if fenced else "attach", element=element, kind=kind)
    for element, pid in rack.bindings:
        switch.install("binding", {"element": element, "pid": pid}, "bind")
    for (va, length), place in rack.translations.items():
        if place is None:
            switch.install("translation", {"va": (va, length)}, "unmapped")
        else:
            switch.install("translation", {"va": (va, length)}, "map_page", element=place[0], offset=place[1])
    for (pid, va, length), grant in rack.protections.items():
        match = {"pid": pid, "va": (va, length)}
        if grant is None:
            switch.install("protection", match, "deny")
        else:
            switch.install("protection", match, "allow", permissions=grant[0], generation=grant[1])
    for element, port in rack.alive.items():
        switch.install("liveness", {"element": element}, "alive", port=port)
    for element, port in rack.routes.items():
        switch.install("reply_route", {"element": element}, "route", port=port)


def standard_rack() -> Rack:
    """Two compute and two memory elements; process 5 on c1 has 16 pages on m1 (one revoked, one moved to m2), 6 on c2 one."""
    return Rack(
        ports={1: (C1, COMPUTE, False), 2: (C2, COMPUTE, False), 4: (M1, MEMORY, False), 5: (M2, MEMORY, False)},
        bindings={(C1, 0), (C2, 0), (C1, 5), (C2, 6)},
        translations={
            (BASE, 48): (M1, (0x10000 - BASE) % (1 << 64)),
            (BASE + 3 * PAGE, 52): (M2, (0x7000 - BASE - 3 * PAGE) % (1 << 64)),
            (6 << 48, 52): (M2, -(6 << 48) % (1 << 64)),
            (7 << 48, 52): (103, 0),
        },
        protections={
            (5, BASE, 48): (3, 7),
            (5, BASE + 2 * PAGE, 52): None,
            (5, BASE + 3 * PAGE, 52): (1, 9),
            (6, 6 << 48, 52): (3, 8),
            (5, 7 << 48, 52): (3, 10),
            (5, 8 << 48, 52): (3, 11),
        },
        alive={M1: 4, M2: 5},
        routes={C1: 1, C2: 2},
    )


def hostile_rack() -> Rack:
    """The standard rack with a fenced compute and a fenced memory element, on ports 3 and 6."""
    rack = standard_rack()
    rack.ports |= {3: (3, COMPUTE, True), 6: (104, MEMORY, True)}
    rack.bindings |= {(3, 0), (3, 5)}
    rack.routes[3] = 3
    rack.translations[BASE + 5 * PAGE, 52] = None  # freed
    return rack


def frame(header: wire.Header, payload: bytes = b"", source: int = C1) -> bytes:
    """A frame as an element sends it."""
    return wire.element_mac(0) + wire.element_mac(source) + b"\x88\xb5" + header.pack() + payload
