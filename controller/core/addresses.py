"""Service addresses: which process has one, and taking it over from a process that is suspected or has crashed.

What is sent to a service address goes to the element of the process that has it; the top-of-rack switch sees to that
(``controller.redirect``) before the change is acknowledged.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from controller.core import groups
from controller.core.answers import Refused, reply
from controller.core.draft import Draft
from controller.core.state import Address, Requester
from protocol.rack import SERVICE_NETWORK
from protocol.wire import Status


def take(draft: Draft, to: Requester, address: int, pid: int, group: int, packed: bytes, wall: float) -> None:
    """Plan that a process has an address from now on. One that another process has needs a capability of the group that this
    other one named for it. ``wall`` is the time of day, seconds since 1970. Raises Refused."""
    had = draft.state.addresses.get(address)
    if had is not None and had.pid != pid:
        if had.group == 0 or had.group != group:
            text = f"{IPv4Address(address)} belongs to process {had.pid}, and not to group {group}"
            raise Refused(Status.PERMISSION, "permission", text)
        groups.check(draft.state.groups.get(group), pid, packed, wall)
    elif group and group not in draft.state.groups:
        raise Refused(Status.NOT_FOUND, "not_found", f"there is no group {group}")
    _move(draft, to, address, pid, group)


def give(draft: Draft, to: Requester, address: int, pid: int) -> None:
    """Plan that a process has an address from now on, whoever had it; its group stays. Raises Refused."""
    had = draft.state.addresses.get(address)
    _move(draft, to, address, pid, had.group if had else 0)


def free(draft: Draft, to: Requester, address: int) -> None:
    """Plan that nobody has an address any more. Raises Refused."""
    had, name = draft.state.addresses.get(address), str(IPv4Address(address))
    if had is None:
        raise Refused(Status.NOT_FOUND, "not_found", f"nobody has {name}")
    draft.remove("addresses", address)
    draft.publish("address_released", address=name, pid=had.pid)
    reply(draft, to, Status.OK, address=name, pid=had.pid)


def release(draft: Draft, pid: int, crashed: bool) -> None:
    """A process has ended. Its addresses wait for members of their groups if it crashed, and are free otherwise."""
    for had in list(draft.state.addresses.values()):
        if had.pid == pid and not (crashed and had.group):
            draft.remove("addresses", had.address)
            draft.publish("address_released", address=str(IPv4Address(had.address)), pid=pid)


def _move(draft: Draft, to: Requester, address: int, pid: int, group: int) -> None:
    name = IPv4Address(address)
    if name not in SERVICE_NETWORK:
        text = f"{name} is no service address; those are in {SERVICE_NETWORK}"
        raise Refused(Status.BAD_REQUEST, "bad_request", text)
    process = draft.state.processes.get(pid)
    if process is None:
        raise Refused(Status.NO_SUCH_PROCESS, "no_such_process", f"there is no process {pid}")
    had = draft.state.addresses.get(address)
    new = Address(address, pid, process.element, group)
    if had != new:
        draft.put("addresses", address, new)
        draft.publish(
            "address_taken", address=str(name), pid=pid, element=process.element, before=had.pid if had else 0
        )
    element = draft.state.elements[process.element]
    reply(draft, to, Status.OK, address=str(name), pid=pid, element=element.name, before=had.pid if had else 0)
