"""Service addresses at switches: what a switch is told, and what the fabric's controller makes of a description. A recorder
stands for the switch."""

from __future__ import annotations

import threading
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from os_ken.ofproto import ofproto_v1_3, ofproto_v1_3_parser

from controller import fabric, redirect, tor
from controller.fabric import NotDone, Steering
from controller.redirect import HOLDER_PRIORITY, UPLINK_PRIORITY, Holder, Redirects
from protocol.fabric import Fabric, FabricError, Switch
from protocol.rack import service_mac

FIRST, SECOND = IPv4Address("10.0.255.16"), IPv4Address("10.0.255.17")
MAC = "02:54:0a:00:01:01"


class Recorder:
    """A datapath as os-ken gives it."""

    ofproto, ofproto_parser = ofproto_v1_3, ofproto_v1_3_parser

    def __init__(self, number: int):
        self.id = number
        self.sent: list[Any] = []

    def send_msg(self, message: Any) -> None:
        self.sent.append(message)

    def flows(self, priority: int) -> dict[str, list[Any]]:
        """Actions by what is matched, after all that was sent."""
        found: dict[str, list[Any]] = {}
        for message in self.sent:
            if message.priority == priority:
                what = message.match.get("ipv4_dst") or str(message.match.get("eth_dst"))
                if message.command == ofproto_v1_3.OFPFC_DELETE_STRICT:
                    found.pop(what)
                else:
                    found[what] = message.instructions[0].actions
        return found


def at_once(_switch: Any) -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def sends(actions: list[Any]) -> tuple[int, str | None]:
    """Where the actions send a frame: port, and the MAC it gets."""
    macs = [a.value for a in actions if isinstance(a, ofproto_v1_3_parser.OFPActionSetField)]
    return actions[-1].port, macs[0] if macs else None


def test_addresses_come_move_and_go() -> None:
    switch, redirects = Recorder(3), Redirects(at_once)
    redirects.connected(switch)
    assert redirects.set({3: {FIRST: Holder(1, MAC), SECOND: Holder(9, None)}})
    flows = switch.flows(HOLDER_PRIORITY)
    assert {k: sends(v) for k, v in flows.items()} == {str(FIRST): (1, MAC), str(SECOND): (9, None)}
    before = len(switch.sent)
    assert redirects.set({3: {FIRST: Holder(2, MAC), SECOND: Holder(9, None)}})
    assert len(switch.sent) == before + 1, "only what changes is sent"
    assert sends(switch.flows(HOLDER_PRIORITY)[str(FIRST)]) == (2, MAC)
    assert redirects.set({3: {}})
    assert switch.flows(HOLDER_PRIORITY) == {}


def test_a_switch_that_connects_later_is_told_and_is_not_done_before() -> None:
    redirects = Redirects(at_once)
    redirects.set_uplink(3, 100)
    assert not redirects.set({3: {FIRST: Holder(1, MAC)}})
    switch = Recorder(3)
    redirects.connected(switch)
    assert sends(switch.flows(HOLDER_PRIORITY)[str(FIRST)]) == (1, MAC)
    (way,) = switch.flows(UPLINK_PRIORITY).values()
    assert sends(way) == (100, None)
    redirects.disconnected(Recorder(3))  # an older connection ends late
    assert redirects.set({3: {FIRST: Holder(2, MAC)}})
    redirects.disconnected(switch)
    assert not redirects.set({3: {FIRST: Holder(1, MAC)}})


def test_a_switch_that_does_not_answer_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redirect, "BARRIER_TIMEOUT", 0.05)
    redirects = Redirects(lambda switch: threading.Event())
    redirects.connected(Recorder(3))
    assert not redirects.set({3: {FIRST: Holder(1, MAC)}})


FABRIC = Fabric(
    switches=(
        Switch(name="core", dpid=16, ports={"x1": 101, "r1": 1, "r1c1": 1, "r2s1": 2, "r2s2": 2}, attached=("x1",)),
        Switch(name="r2tor", dpid=18, ports={"r2s1": 1, "r2s2": 2}, attached=("r2s1", "r2s2"), uplink=100),
    ),
    hosts={"x1": "10.0.0.1", "r2s1": "10.0.2.1", "r2s2": "10.0.2.2"},
    addresses={str(FIRST): "r1", str(SECOND): "r2s1"},
)


@pytest.fixture
def running(tmp_path: Path) -> tuple[Steering, Recorder, Recorder, Path]:
    redirects, core, tor_ = Redirects(at_once), Recorder(16), Recorder(18)
    steering = Steering(FABRIC.check(), redirects, tmp_path / "state.json")
    redirects.connected(core)
    redirects.connected(tor_)
    return steering, core, tor_, tmp_path / "state.json"


def test_the_fabric_sends_addresses_where_its_description_says_and_elsewhere(
    running: tuple[Steering, Recorder, Recorder, Path],
) -> None:
    steering, core, tor_, state = running
    where = {a: sends(v) for a, v in core.flows(HOLDER_PRIORITY).items()}
    assert where == {str(FIRST): (1, None), str(SECOND): (2, None)}
    assert sends(tor_.flows(HOLDER_PRIORITY)[str(SECOND)]) == (1, "02:54:0a:00:02:01")
    steering.steer(str(FIRST), "r2s2")
    assert sends(core.flows(HOLDER_PRIORITY)[str(FIRST)]) == (2, None)
    assert sends(tor_.flows(HOLDER_PRIORITY)[str(FIRST)]) == (2, "02:54:0a:00:02:02")
    steering.steer(str(SECOND), "r1c1")
    assert str(SECOND) not in tor_.flows(HOLDER_PRIORITY), "the rack's own switch sends it up"
    again = Steering(FABRIC, Redirects(at_once), state)
    assert again.places == {str(FIRST): "r2s2", str(SECOND): "r1c1"}


@pytest.mark.parametrize(("address", "place"), [("10.0.255.16", "r9"), ("10.0.1.1", "r1"), ("nonsense", "r1")])
def test_the_fabric_refuses_what_makes_no_sense(
    running: tuple[Steering, Recorder, Recorder, Path], address: str, place: str
) -> None:
    steering = running[0]
    with pytest.raises(FabricError):
        steering.steer(address, place)
    assert steering.places == FABRIC.addresses
    reply = TestClient(fabric.create_app(steering)).post("/v1/steer", json={"address": address, "to": place})
    assert reply.status_code == 400
    assert address in reply.json()["message"] or place in reply.json()["message"]


def test_the_fabric_says_what_is_not_done(tmp_path: Path) -> None:
    steering = Steering(FABRIC, Redirects(at_once), tmp_path / "state.json")
    with pytest.raises(NotDone):
        steering.steer(str(FIRST), "r2s2")
    client = TestClient(fabric.create_app(steering))
    assert client.post("/v1/steer", json={"address": str(FIRST), "to": "r1"}).status_code == 502
    assert client.get("/v1/addresses").json()["addresses"][str(FIRST)] == "r1"
    assert client.get("/v1/status").json()["switches"] == {"core": False, "r2tor": False}
    (tmp_path / "state.json").write_text("[1]")
    with pytest.raises(FabricError, match=r"state\.json"):
        Steering(FABRIC, tor.redirects, tmp_path / "state.json")


def test_descriptions_that_make_no_sense() -> None:
    core = FABRIC.switches[0]
    with pytest.raises(FabricError, match="16"):
        Fabric(switches=(core, core), hosts=FABRIC.hosts).check()
    with pytest.raises(FabricError, match="'x1'"):
        Fabric(switches=(core,), hosts={}).check()
    with pytest.raises(FabricError, match="'mars'"):
        Fabric(switches=(core,), hosts=FABRIC.hosts, addresses={str(FIRST): "mars"}).check()


def test_an_address_is_in_its_mac() -> None:
    assert service_mac(FIRST) == "02:53:0a:00:ff:10"
