"""Action profiles and selectors (specification, "ActionProfileMember & ActionProfileGroup"): members, groups, one-shot sets.

A one-shot becomes members and a group with ids of our own, which no client sees: reads give the action set back as written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from finsy.proto import p4r

from p4switch.dataplane import binding as dp
from p4switch.server import tables, values
from p4switch.server.errors import Code, P4RuntimeError, exhausted, failure, invalid, not_found, unimplemented
from p4switch.server.schema import ActionInfo, ProfileInfo, TableInfo, by_id
from p4switch.server.state import FIRST_OWN_ID, OwnMember, Target, Weighted, check_presence

INSERT, MODIFY, DELETE = p4r.Update.INSERT, p4r.Update.MODIFY, p4r.Update.DELETE
MAX_WEIGHT = 65536  # of a group, in sum: the data plane lays the choices out


def _profile(target: Target, number: int) -> ProfileInfo:
    return by_id(target.schema.profiles, number, "action profile")


def _check_id(what: str, number: int) -> None:
    if not 0 < number < FIRST_OWN_ID:
        raise invalid(f"{what} ids are in 1..{FIRST_OWN_ID - 1}, not {number}")


def _refuse_mixing(target: Target, profile: ProfileInfo) -> None:
    if any(owner == profile.id for owner, _ in target.state.one_shots):
        raise invalid(f"{profile.name} is programmed with one-shot action sets: it takes no members and groups")


def _delete(call: Callable[[], None], what: str) -> None:
    try:
        call()
    except dp.DataplaneError as error:
        raise failure(error.code, what) from None


def _canonical(action: ActionInfo, data: bytes) -> p4r.Action:
    message = p4r.Action(action_id=action.id)
    for number, field in action.params.items():
        value = values.encode(int.from_bytes(data[field.start : field.end], "big"))
        message.params.add(param_id=number, value=value)
    return message


# ------------------------------------------------------------------------------------------------------------- members


def write_member(target: Target, kind: int, entry: p4r.ActionProfileMember) -> None:
    """INSERT, MODIFY or DELETE a member."""
    profile = _profile(target, entry.action_profile_id)
    _check_id("member", entry.member_id)
    _refuse_mixing(target, profile)
    key, what = (profile.id, entry.member_id), f"member {entry.member_id} of {profile.name}"
    old = target.state.members.get(key)
    check_presence(old is not None, kind, what)
    if kind == DELETE:
        _check_unused(target, profile, entry.member_id, what)
        _delete(lambda: target.switch.delete_member(profile.index, entry.member_id), what)
        assert old is not None
        target.undo(lambda: _set_member(target, profile, old, must_exist=False))
        target.drop(target.state.members, key)
        return
    action = _find_action(profile, entry.action.action_id, what)
    data = tables.encode_params(action, entry.action)
    target.switch.set_member(profile.index, entry.member_id, action.index, data, must_exist=kind == MODIFY)
    if old is None:
        target.undo(lambda: target.switch.delete_member(profile.index, entry.member_id))
    else:
        target.undo(lambda: _set_member(target, profile, old, must_exist=True))
    canonical = p4r.ActionProfileMember(
        action_profile_id=profile.id, member_id=entry.member_id, action=_canonical(action, data)
    )
    target.put(target.state.members, key, canonical)


def _find_action(profile: ProfileInfo, number: int, what: str) -> ActionInfo:
    action = profile.actions.get(number)
    if action is None:
        possible = ", ".join(f"{n:#x} ({a.name})" for n, a in profile.actions.items()) or "none"
        raise invalid(f"{what}: action {number:#x} is not possible; possible are {possible}")
    return action


def _set_member(target: Target, profile: ProfileInfo, entry: p4r.ActionProfileMember, *, must_exist: bool) -> None:
    action = profile.actions[entry.action.action_id]
    data = tables.encode_params(action, entry.action)
    target.switch.set_member(profile.index, entry.member_id, action.index, data, must_exist=must_exist)


def _check_unused(target: Target, profile: ProfileInfo, member: int, what: str) -> None:
    """The data plane counts references, but not those of members whose watch port is down."""
    for (owner, number), group in target.state.groups.items():
        if owner == profile.id and any(m.member_id == member for m in group.members):
            raise P4RuntimeError(Code.FAILED_PRECONDITION, f"{what} is in group {number}")


# -------------------------------------------------------------------------------------------------------------- groups


def write_group(target: Target, kind: int, entry: p4r.ActionProfileGroup) -> None:
    """INSERT, MODIFY or DELETE a group."""
    profile = _profile(target, entry.action_profile_id)
    _check_id("group", entry.group_id)
    if not profile.with_selector:
        raise invalid(f"{profile.name} is an action profile without selector: it has no groups")
    _refuse_mixing(target, profile)
    key, what = (profile.id, entry.group_id), f"group {entry.group_id} of {profile.name}"
    old = target.state.groups.get(key)
    check_presence(old is not None, kind, what)
    if kind == DELETE:
        assert old is not None
        before = _members_of(target, old)
        _delete(lambda: target.switch.delete_group(profile.index, entry.group_id), what)
        target.undo(lambda: _set_group(target, profile, entry.group_id, before, must_exist=False))
        target.drop(target.state.groups, key)
        return
    if old is not None and old.max_size != entry.max_size:
        raise invalid(f"{what} was inserted with max_size {old.max_size}: it cannot become {entry.max_size}")
    members = _members_of(target, entry)
    _check_group(target, profile, entry.max_size, members, what)
    for member in members:
        if (profile.id, member.member) not in target.state.members:
            raise not_found(f"{what}: there is no member {member.member}")
    if len({m.member for m in members}) != len(members):
        raise invalid(f"{what}: a member is given twice: use its weight")
    _set_group(target, profile, entry.group_id, members, must_exist=kind == MODIFY)
    if old is None:
        target.undo(lambda: target.switch.delete_group(profile.index, entry.group_id))
    else:
        before = _members_of(target, old)
        target.undo(lambda: _set_group(target, profile, entry.group_id, before, must_exist=True))
    copy = p4r.ActionProfileGroup()
    copy.CopyFrom(entry)
    for listed in copy.members:
        _shorten(listed)
    target.put(target.state.groups, key, copy)


def _members_of(target: Target, group: p4r.ActionProfileGroup) -> list[Weighted]:
    return [Weighted(m.member_id, m.weight, _watch_port(target, m)) for m in group.members]


def _watch_port(target: Target, member: Any) -> int | None:
    kind = member.WhichOneof("watch_kind")
    if kind is None or (kind == "watch_port" and not member.watch_port):
        return None
    port = values.decode(member.watch_port, 32, "watch port") if kind == "watch_port" else member.watch
    if not target.links.exists(port):
        known = ", ".join(map(str, target.links.ports())) or "none"
        raise invalid(f"watch port {port} does not exist; ports with an interface are {known}")
    return int(port)


def _shorten(member: Any) -> None:
    """Keep a watch port as the shortest byte string."""
    if member.WhichOneof("watch_kind") == "watch_port" and member.watch_port:
        member.watch_port = values.encode(int.from_bytes(member.watch_port, "big"))


def _check_group(target: Target, profile: ProfileInfo, max_size: int, members: list[Weighted], what: str) -> None:
    for member in members:
        if profile.weights_disallowed and member.weight:
            raise invalid(f"{what}: {profile.name} has no weights, found {member.weight}")
        if not profile.weights_disallowed and member.weight <= 0:
            raise invalid(f"{what}: a weight is greater than 0, found {member.weight}")
        if profile.max_member_weight and member.weight > profile.max_member_weight:
            raise invalid(f"{what}: weight {member.weight} is above {profile.max_member_weight}")
    limit = profile.max_group_size
    if max_size < 0 or (limit and max_size > limit):
        raise invalid(f"{what}: max_size {max_size} is not in 0..{limit or 'any'}")
    size = len(members) if profile.sum_of_members else sum(m.weight or 1 for m in members)
    if size > (max_size or limit or MAX_WEIGHT):
        raise exhausted(f"{what}: its size is limited to {max_size or limit or MAX_WEIGHT}, found {size}")
    if sum(m.weight for m in members) > MAX_WEIGHT:
        raise exhausted(f"{what}: the sum of weights is limited to {MAX_WEIGHT}")


def _set_group(
    target: Target, profile: ProfileInfo, group: int, members: Iterable[Weighted], *, must_exist: bool
) -> None:
    """Members whose watch port is down are left out until it is up again."""
    chosen = [(m.member, m.weight or 1) for m in members if m.watch is None or target.links.is_up(m.watch)]
    target.switch.set_group(profile.index, group, chosen, must_exist=must_exist)


def follow_links(target: Target) -> None:
    """A port has gone up or down: groups that watch ports choose anew."""
    for (number, group), entry in target.state.groups.items():
        if any(m.WhichOneof("watch_kind") for m in entry.members):
            profile = target.schema.profiles[number]
            _set_group(target, profile, group, _members_of(target, entry), must_exist=True)
    for (number, group), members in target.state.one_shots.items():
        if any(m.weighted.watch is not None for m in members):
            profile = target.schema.profiles[number]
            _set_group(target, profile, group, [m.weighted for m in members], must_exist=True)


# ----------------------------------------------------------------------------------------------------------- one-shots


def check_one_shot(
    target: Target, table: TableInfo, actions: p4r.ActionProfileActionSet
) -> tuple[p4r.ActionProfileActionSet, list[tuple[int, bytes, int, int | None]]]:
    """The canonical message, and what its members do: (action index, data, weight, watch port). Raises P4RuntimeError."""
    profile, what = table.profile, f"the action set of {tables.describe(table)}"
    if profile is None or not profile.with_selector:
        raise invalid(f"table {table.name} has no action selector: its entries take no action sets")
    if any(owner == profile.id for owner, _ in (*target.state.members, *target.state.groups)):
        raise invalid(f"{profile.name} is programmed with members and groups: it takes no action sets")
    modes = p4r.ActionProfileActionSet
    if actions.action_selection_mode not in (modes.DEFAULT_MODE_DETERMINED_BY_ACTION_SELECTOR, modes.HASH):
        raise unimplemented(f"{what}: only selection by hash is possible")
    own = modes.SUM_OF_MEMBERS if profile.sum_of_members else modes.SUM_OF_WEIGHTS
    if actions.size_semantics not in (modes.DEFAULT_SIZE_DETERMINED_BY_ACTION_SELECTOR, own):
        raise unimplemented(f"{what}: only the size semantics of {profile.name} are possible")
    canonical = p4r.ActionProfileActionSet()
    canonical.CopyFrom(actions)
    members = []
    for one in canonical.action_profile_actions:
        action = tables.find_action(table, one.action.action_id, table.entry_actions)
        data = tables.encode_params(action, one.action)
        members.append((action.index, data, one.weight, _watch_port(target, one)))
        one.action.CopyFrom(_canonical(action, data))
        _shorten(one)
    try:
        _check_group(target, profile, 0, [Weighted(0, weight, watch) for _, _, weight, watch in members], what)
    except P4RuntimeError as error:
        raise invalid(str(error)) from None  # for one-shots the specification has but one code
    return canonical, members


def set_one_shot(
    target: Target, profile: ProfileInfo, group: int | None, wanted: list[tuple[int, bytes, int, int | None]]
) -> int:
    """Make (``group`` None) or change the group behind a one-shot; returns its id. Undoable."""
    state = target.state
    before = None if group is None else state.one_shots[profile.id, group]
    used = sum(len(m) for (owner, _), m in state.one_shots.items() if owner == profile.id)
    if profile.size and used - len(before or ()) + len(wanted) > profile.size:
        raise exhausted(f"{profile.name} holds {profile.size} members")
    if group is None:
        group = state.own_id()
    ids = [m.weighted.member for m in before or ()]
    ids += [state.own_id() for _ in range(len(wanted) - len(ids))]
    after = tuple(OwnMember(Weighted(i, w, p), a, d) for i, (a, d, w, p) in zip(ids, wanted, strict=False))
    _move(target, profile, group, before, after)
    return group


def drop_one_shot(target: Target, profile: ProfileInfo, group: int) -> None:
    """Remove the group behind a one-shot. Undoable."""
    _move(target, profile, group, target.state.one_shots[profile.id, group], None)


def _move(
    target: Target,
    profile: ProfileInfo,
    group: int,
    before: tuple[OwnMember, ...] | None,
    after: tuple[OwnMember, ...] | None,
) -> None:
    """From one content of a group to another; None: there is no group."""
    key, switch = (profile.id, group), target.switch
    known = {m.weighted.member for m in before or ()}
    for m in after or ():
        switch.set_member(profile.index, m.weighted.member, m.action, m.data, must_exist=m.weighted.member in known)
    if after is not None:
        _set_group(target, profile, group, [m.weighted for m in after], must_exist=before is not None)
        target.state.one_shots[key] = after
    else:
        switch.delete_group(profile.index, group)
        del target.state.one_shots[key]
    for member in known - {m.weighted.member for m in after or ()}:
        switch.delete_member(profile.index, member)
    target.undo(lambda: _move(target, profile, group, after, before))


# --------------------------------------------------------------------------------------------------------------- reads


def read_members(target: Target, wanted: p4r.ActionProfileMember) -> Iterator[p4r.Entity]:
    """Members as they were written; 0 is a wildcard for both ids."""
    if wanted.action_profile_id:
        _profile(target, wanted.action_profile_id)
    for (profile, member), entry in target.state.members.items():
        if wanted.action_profile_id in (0, profile) and wanted.member_id in (0, member):
            yield p4r.Entity(action_profile_member=entry)


def read_groups(target: Target, wanted: p4r.ActionProfileGroup) -> Iterator[p4r.Entity]:
    """Groups as they were written; 0 is a wildcard for both ids."""
    if wanted.action_profile_id:
        _profile(target, wanted.action_profile_id)
    for (profile, group), entry in target.state.groups.items():
        if wanted.action_profile_id in (0, profile) and wanted.group_id in (0, group):
            yield p4r.Entity(action_profile_group=entry)
