"""Service addresses: who gets one, who may take it over, what becomes of it at the end; and that the switch is told."""

from __future__ import annotations

import random
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from rig import Rack as ShellRack
from test_safety import tiny_rack
from world import World

from controller.core import events
from controller.core.memory import Config
from protocol import capability, wire
from protocol.wire import Header, Op, Status

RNG = random.Random(0)
SECRET = bytes(range(16))
NOW = 1_000_000.0
ADDRESS = "10.0.255.16"


class Service:
    """A holder, and a standby on another element; group 1 may take over."""

    def __init__(self) -> None:
        self.world = World(tiny_rack(), Config())
        self.world.ask(lambda t: events.GroupRequest(t, "service", SECRET, 0, 0))
        self.holder, self.standby = self.world.create_process(1), self.world.create_process(2)

    def take(self, pid: int, group: int = 1, given: bytes = b"", address: str = ADDRESS) -> Status:
        args = wire.TAKE_ADDRESS_ARGS.pack(int(IPv4Address(address)), group) + given
        number, element = self.world.new_number(), self.world.state.processes[pid].element
        self.world.feed(events.ControlRequest(element, pid, number, Op.TAKE_ADDRESS, 0, args, NOW))
        return Status(next(r.status for r in self.world.replies if r.request_id == number))

    def token(self, pid: int, group: int = 1, expires: int = int(NOW) + 9, secret: bytes = SECRET) -> bytes:
        return capability.pack(capability.mint(secret, group, pid, expires))

    def has(self, address: str = ADDRESS) -> tuple[int, int] | None:
        """Pid and element of who has it."""
        found = self.world.state.addresses.get(int(IPv4Address(address)))
        return None if found is None else (found.pid, found.element)

    def exit(self, pid: int, crashed: bool) -> None:
        args, element = wire.PROCESS_EXIT_ARGS.pack(crashed), self.world.state.processes[pid].element
        self.world.feed(events.ControlRequest(element, 0, self.world.new_number(), Op.PROCESS_EXIT, pid, args))


@pytest.fixture
def service() -> Service:
    return Service()


def test_a_free_address_is_taken_and_taken_over_by_capability(service: Service) -> None:
    assert service.take(service.holder) == Status.OK
    assert service.has() == (service.holder, 1)
    assert service.take(service.holder) == Status.OK, "what one has, one may take again"
    assert service.take(service.standby, given=service.token(service.standby)) == Status.OK
    assert service.has() == (service.standby, 2)
    assert service.take(service.holder) == Status.BAD_CAPABILITY, "the former holder has no claim left"
    assert service.has() == (service.standby, 2)


@pytest.mark.parametrize(
    ("given", "group", "expected"),
    [
        ({}, 2, Status.PERMISSION),
        ({}, 0, Status.PERMISSION),
        ({"secret": bytes(16)}, 1, Status.BAD_CAPABILITY),
        ({"pid": 99}, 1, Status.BAD_CAPABILITY),
        ({"expires": int(NOW) - 1}, 1, Status.EXPIRED_CAPABILITY),
    ],
)
def test_who_may_not_take_it_over(service: Service, given: dict, group: int, expected: Status) -> None:
    assert service.take(service.holder) == Status.OK
    token = service.token(**({"pid": service.standby} | given))
    assert service.take(service.standby, group, token) == expected
    assert service.has() == (service.holder, 1)


def test_an_address_without_a_group_cannot_be_taken_over(service: Service) -> None:
    assert service.take(service.holder, group=0) == Status.OK
    assert service.take(service.standby, 0, service.token(service.standby)) == Status.PERMISSION
    assert service.take(service.standby, 1, service.token(service.standby)) == Status.PERMISSION


@pytest.mark.parametrize("address", ["10.0.1.1", "10.1.255.16", "0.0.0.0", "255.255.255.255"])
def test_only_service_addresses_can_be_taken(service: Service, address: str) -> None:
    assert service.take(service.holder, address=address) == Status.BAD_REQUEST
    assert service.take(service.holder, group=77) == Status.NOT_FOUND
    assert not service.world.state.addresses


def test_the_end_of_a_process(service: Service) -> None:
    assert service.take(service.holder) == Status.OK
    service.exit(service.holder, crashed=True)
    assert service.has() == (service.holder, 1), "it waits for a member of the group"
    assert service.take(service.standby, 2) == Status.PERMISSION
    assert service.take(service.standby, given=service.token(service.standby)) == Status.OK
    service.exit(service.standby, crashed=False)
    assert service.has() is None


def test_addresses_outlive_the_controller_and_operators_may_move_them(service: Service) -> None:
    service.take(service.holder)
    service.world.restart()
    assert service.has() == (service.holder, 1)
    token = service.world.ask(lambda t: events.AddressRequest(t, int(IPv4Address(ADDRESS)), service.standby))
    assert service.world.answers[token].result == {
        "address": ADDRESS,
        "pid": service.standby,
        "element": service.world.state.elements[2].name,
        "before": service.holder,
    }
    token = service.world.ask(lambda t: events.AddressRequest(t, int(IPv4Address(ADDRESS)), 999))
    error = service.world.answers[token].error
    assert error is not None
    assert error.code == "no_such_process"
    assert service.take(service.holder, given=service.token(service.holder)) == Status.OK, "the group is still the same"


def test_the_switch_is_told_before_the_taker_is_answered(tmp_path: Path) -> None:
    rack = ShellRack(tmp_path)
    told: list[tuple[dict[int, int], bool]] = []

    def answered() -> bool:
        return bool(rack.requests(Op.TAKE_ADDRESS | wire.REPLY))

    rack.shell.on_addresses = lambda holders: told.append((holders, answered())) or True
    with rack.running():
        pid = rack.process()
        args = wire.TAKE_ADDRESS_ARGS.pack(int(IPv4Address(ADDRESS)), 0)
        rack.frame(1, Header(Op.TAKE_ADDRESS, pid=pid, length=len(args), request_id=5), args)
        rack.until(answered)
    rack.kill()
    assert told[-1] == ({int(IPv4Address(ADDRESS)): 1}, False)
