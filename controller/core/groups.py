"""Groups of processes, and taking memory from another process by a capability of its group (``protocol.capability``).

The controller keeps a group's secret and checks; who gets tokens or shares is the application's affair.
"""

from __future__ import annotations

from controller.core import reassign
from controller.core.answers import Refused, reply
from controller.core.draft import Draft
from controller.core.memory import Config
from controller.core.state import Group, Requester
from protocol import capability
from protocol.capability import CapabilityError, Token
from protocol.wire import Status

MOST_GROUPS = 4096
LONGEST_NAME = 64


def create(draft: Draft, to: Requester, name: str, secret: bytes, needed: int, total: int) -> None:
    """Make a group; ``needed`` of ``total`` shares open it, besides tokens (0 of 0: tokens only). Raises Refused."""
    if not 0 < len(name) <= LONGEST_NAME:
        raise Refused(Status.BAD_REQUEST, "bad_request", f"a group's name has 1 to {LONGEST_NAME} characters")
    if (needed, total) != (0, 0) and not 1 <= needed <= total <= capability.MAX_SHARES:
        text = f"{needed} of {total} shares; 1 <= needed <= total <= {capability.MAX_SHARES}"
        raise Refused(Status.BAD_REQUEST, "bad_request", text)
    if len(draft.state.groups) >= MOST_GROUPS:
        raise Refused(Status.OUT_OF_MEMORY, "out_of_memory", f"there are {MOST_GROUPS} groups already")
    if any(g.name == name for g in draft.state.groups.values()):
        raise Refused(Status.BAD_REQUEST, "bad_request", f"there is a group {name!r} already")
    group = Group(max(draft.state.groups, default=0) + 1, name, secret, needed, total)
    draft.put("groups", group.id, group)
    draft.publish("group_created", group=group.id, name=name, needed=needed, total=total)
    reply(draft, to, Status.OK, id=group.id, name=name, needed=needed, total=total)


def steal(
    draft: Draft,
    config: Config,
    to: Requester,
    va: int,
    pages: int,
    thief: int,
    source: int,
    group: int,
    packed: bytes,
    permissions: int,
    wall: float,
) -> None:
    """Plan that ``thief`` takes pages of ``source``, which may run, be suspected or have crashed. ``wall`` is the time of day,
    seconds since 1970. Raises Refused; who has no good capability learns nothing else."""
    check(draft.state.groups.get(group), thief, packed, wall)
    reassign.take(draft, config, to, va, pages, thief, source, group, permissions)


def check(group: Group | None, pid: int, packed: bytes, wall: float) -> None:
    """Raise Refused unless these bytes are a capability of the group for this process at this time of day."""
    bad = Refused(Status.BAD_CAPABILITY, "bad_capability", "the capability is not one of this group for this process")
    if group is None:
        raise bad
    try:
        found = capability.unpack(packed)
    except CapabilityError:
        raise bad from None
    if isinstance(found, Token):
        if not capability.token_is_genuine(found, group.secret, group.id, pid):
            raise bad
        if found.expires <= wall:
            text = f"the token expired {wall - found.expires:.0f} s ago"
            raise Refused(Status.EXPIRED_CAPABILITY, "expired_capability", text)
    elif not group.needed or not capability.shares_are_genuine(found, group.secret, group.needed):
        raise bad
