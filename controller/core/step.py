"""The core's one entry: state and event in, new state and plan out."""

from __future__ import annotations

from immutables import Map

from controller.core import (
    addresses,
    answers,
    fences,
    groups,
    memory,
    migrate,
    monitor,
    notices,
    operations,
    poison,
    processes,
    reassign,
    standby,
    translate,
)
from controller.core.answers import Refused, reply, requester_of_token
from controller.core.draft import Draft, Step
from controller.core.events import (
    Acknowledged,
    AddressReleaseRequest,
    AddressRequest,
    AllocRequest,
    Answer,
    ApiError,
    ApiRequest,
    ControlRequest,
    Event,
    FenceRequest,
    FreeRequest,
    GrantRequest,
    GroupRequest,
    Heartbeat,
    MigrateRequest,
    NoticeAcknowledged,
    Notify,
    PoisonRequest,
    ProtectRequest,
    RevokeRequest,
    Send,
    SendReply,
    Started,
    StatRequest,
    StealRequest,
    ThresholdsRequest,
    Tick,
    UnwatchRequest,
    WatchRequest,
)
from controller.core.layout import holders, runs
from controller.core.memory import Config
from controller.core.placement import NO_WISH, Wish, policy_name
from controller.core.state import Counters, Element, Process, Reply, Requester, State, first_va
from protocol import wire
from protocol.rack import Rack
from protocol.wire import LOCAL_OS_PID, MAX_PID, HintFlag, Op, Placement, Status

MAX_PROCESSES = 4096  # of one compute element, so that none can take all process ids
MAX_RACK_PROCESSES = 65536 - 1024  # the size of `binding`, without the local OSes


def initial(rack: Rack, epoch: int = 1, first_id: int = 1) -> State:
    """The state of a rack of which nothing is known. Should there be elements that remember an earlier controller, whose store
    is lost: ``epoch`` (32 bits) is larger than that one's, and it never used message ids from ``first_id`` on."""
    elements = {
        e.id: Element(id=e.id, name=e.name, kind=e.kind, port=e.port, media=e.media, pages=e.pages)
        for e in rack.elements
    }
    state = State(elements=Map(elements), counters=Counters(epoch=epoch, next_id=first_id))
    return monitor.complete(state)


def step(state: State, event: Event, now: float, config: Config) -> Step:
    """What an event does. ``now`` is in seconds of a clock that never goes back."""
    draft = Draft(state, now)
    match event:
        case ControlRequest():
            try:
                _control(draft, event, now, config)
            except Refused as refused:
                draft = Draft(state, now)  # what was planned before the refusal must not happen
                to = Requester(event.element, event.pid, event.request_id, event.op, event.va)
                reply(draft, to, refused.status, message=refused.message)
        case Heartbeat(element=element, incarnation=incarnation, interval=interval):
            monitor.seen(draft, element, incarnation, now, interval)
            wanted = monitor.thresholds(state, config).interval
            if interval and element in state.elements and round(interval * 1000) != round(wanted * 1000):
                _welcome(draft, element, config)
        case Acknowledged():
            _acknowledged(draft, event)
        case NoticeAcknowledged(element=element, notice=number):
            notices.acknowledge(draft, element, number)
        case Tick():
            monitor.tick(draft, config, now)
        case Started():
            answers.count_from_now(draft)
            for element in state.elements:
                draft.see(element, now)
            for message in state.messages.values():
                draft.do(Send(message))
            for notice in state.notices.values():
                draft.do(Notify(notice))
        case ApiRequest():
            return _api(state, event, now, config)
    return draft.finish()


def _acknowledged(draft: Draft, event: Acknowledged) -> None:
    message = draft.state.messages.get(event.message)
    if message is None or message.element != event.element:
        return  # a repetition
    if event.status != Status.OK:
        # The element refuses what the controller is sure of: it cannot be trusted with memory.
        draft.publish("page_table_refused", element=event.element, message=event.message, status=event.status)
        monitor.fail(draft, draft.state.elements[event.element], f"refused a page-table change: status {event.status}")
        return
    operations.acknowledge(draft, event.message)


# ---------------------------------------------------------------------------------------------------- requests in band


def _control(draft: Draft, event: ControlRequest, now: float, config: Config) -> None:
    element = draft.state.elements.get(event.element)
    if element is None:
        return
    to = Requester(event.element, event.pid, event.request_id, event.op, event.va)
    if event.op == Op.HELLO:
        _hello(draft, event, element, now, config)
        return
    known = answers.recall(draft.state, event.element, event.pid, event.request_id, draft.now)
    if known is not None:
        draft.do(SendReply(known))
        return
    if any(o.requester == to for o in draft.state.operations.values()):
        return  # a repetition of something that is under way
    _dispatch(draft, event, element, to, config)


def _hello(draft: Draft, event: ControlRequest, element: Element, now: float, config: Config) -> None:
    status, payload = Status.BAD_REQUEST, b""
    if len(event.payload) >= wire.HELLO_ARGS.size:
        kind, _, _, _, pages, incarnation = wire.HELLO_ARGS.unpack_from(event.payload)
        expected = wire.ElementKind.COMPUTE if element.kind == "compute" else wire.ElementKind.MEMORY
        if kind == expected and pages == element.pages:
            monitor.seen(draft, element.id, incarnation, now)
            status = Status.OK
            payload = _welcome_payload(draft.state, element.id, config)
        else:
            draft.publish("hello_refused", element=element.id, name=element.name, said_kind=kind, said_pages=pages)
    answer = Reply(element.id, event.pid, event.request_id, event.op, int(status), event.va, payload)
    draft.do(SendReply(answer))


def _welcome_payload(state: State, element: int, config: Config) -> bytes:
    return wire.HELLO_REPLY.pack(element, round(monitor.thresholds(state, config).interval * 1000), 0)


def _welcome(draft: Draft, element: int, config: Config) -> None:
    """Say again how often an element is to be heard: it has another interval."""
    payload = _welcome_payload(draft.state, element, config)
    draft.do(SendReply(Reply(element, LOCAL_OS_PID, 0, int(Op.HELLO), int(Status.OK), 0, payload)))


def _dispatch(draft: Draft, event: ControlRequest, element: Element, to: Requester, config: Config) -> None:
    match event.op:
        case Op.PROCESS_CREATE if event.pid == LOCAL_OS_PID:
            _create_process(draft, event, element, to)
        case Op.PROCESS_EXIT if event.pid == LOCAL_OS_PID:
            crashed = len(event.payload) >= wire.PROCESS_EXIT_ARGS.size and event.payload[0] == 1
            _exit_process(draft, event.va, element, to, crashed)
        case Op.PROCESS_LIST if event.pid == LOCAL_OS_PID:
            pids = sorted(
                p.pid for p in draft.state.processes.values() if p.element == element.id and p.pid >= event.va
            )
            listed = b"".join(map(wire.LISTED.pack, pids[: wire.MOST_LISTED]))
            reply(draft, to, Status.OK, listed)
        case Op.ALLOC if event.pid != LOCAL_OS_PID and len(event.payload) >= wire.ALLOC_ARGS.size:
            size, permissions, flags = wire.ALLOC_ARGS.unpack_from(event.payload)
            memory.alloc(draft, config, to, event.pid, size, permissions, flags, _wish(event.payload))
        case Op.FREE if event.pid != LOCAL_OS_PID and len(event.payload) >= wire.FREE_ARGS.size:
            va, size = wire.FREE_ARGS.unpack_from(event.payload)
            memory.free(draft, config, to, va, size, event.pid)
        case Op.GRANT if event.pid != LOCAL_OS_PID and len(event.payload) >= wire.GRANT_ARGS.size:
            pages, recipient, permissions = wire.GRANT_ARGS.unpack_from(event.payload)
            reassign.grant(draft, config, to, event.va, pages, event.pid, recipient, permissions)
        case Op.STEAL if event.pid != LOCAL_OS_PID and len(event.payload) >= wire.STEAL_ARGS.size:
            pages, source, permissions, group = wire.STEAL_ARGS.unpack_from(event.payload)
            given = event.payload[wire.STEAL_ARGS.size :]
            groups.steal(draft, config, to, event.va, pages, event.pid, source, group, given, permissions, event.wall)
        case Op.PROTECT if event.pid != LOCAL_OS_PID and len(event.payload) >= wire.PROTECT_ARGS.size:
            pages, permissions = wire.PROTECT_ARGS.unpack_from(event.payload)
            reassign.protect(draft, config, to, event.va, pages, event.pid, permissions)
        case Op.MIGRATE if event.pid != LOCAL_OS_PID and len(event.payload) >= wire.MIGRATE_ARGS.size:
            pages, target = wire.MIGRATE_ARGS.unpack_from(event.payload)
            migrate.migrate(draft, config, to, event.va, pages, event.pid, target or None)
        case Op.REVOKE if event.pid != LOCAL_OS_PID and len(event.payload) >= wire.REVOKE_ARGS.size:
            (pages,) = wire.REVOKE_ARGS.unpack_from(event.payload)
            memory.revoke(draft, config, to, event.va, pages, event.pid)
        case Op.FENCE if event.pid != LOCAL_OS_PID and len(event.payload) >= wire.FENCE_ARGS.size:
            fenced, name = wire.FENCE_ARGS.unpack_from(event.payload)
            fences.request_by_name(draft, to, name.rstrip(b"\0").decode(errors="replace"), fenced == 1, event.operator)
        case Op.STAT if event.pid != LOCAL_OS_PID:
            reassign.stat(draft, to, event.va)
        case Op.TRANSLATE if event.pid != LOCAL_OS_PID:
            translate.translate(draft, to, event.va)
        case Op.TAKE_ADDRESS if event.pid != LOCAL_OS_PID and len(event.payload) >= wire.TAKE_ADDRESS_ARGS.size:
            address, group = wire.TAKE_ADDRESS_ARGS.unpack_from(event.payload)
            given = event.payload[wire.TAKE_ADDRESS_ARGS.size :]
            addresses.take(draft, to, address, event.pid, group, given, event.wall)
        case Op.WATCH if event.pid != LOCAL_OS_PID and len(event.payload) >= wire.WATCH_ARGS.size:
            source, group = wire.WATCH_ARGS.unpack_from(event.payload)
            given = event.payload[wire.WATCH_ARGS.size :]
            groups.check(draft.state.groups.get(group), event.pid, given, event.wall)
            standby.watch(draft, to, event.pid, source, group)
        case Op.UNWATCH if event.pid != LOCAL_OS_PID:
            standby.unwatch(draft, to, event.va, event.pid)
        case Op.RANGES if event.pid != LOCAL_OS_PID and len(event.payload) >= wire.RANGES_ARGS.size:
            source, group = wire.RANGES_ARGS.unpack_from(event.payload)
            standby.ranges(draft, to, event.pid, source, group, event.va)
        case _:
            raise Refused(
                Status.BAD_REQUEST, "bad_request", f"operation {event.op:#x} of process {event.pid} makes no sense"
            )


def _wish(payload: bytes) -> Wish:
    """What an ALLOC says of where it wishes to be. Raises Refused."""
    if len(payload) < wire.ALLOC_ARGS.size + wire.ALLOC_HINT.size:
        return NO_WISH
    near, code, flags, name = wire.ALLOC_HINT.unpack_from(payload, wire.ALLOC_ARGS.size)
    try:
        policy = policy_name(Placement(code))
        element = name.rstrip(b"\0").decode()
    except ValueError:
        text = f"there is no placement {code}, or {name!r} is no name"
        raise Refused(Status.BAD_REQUEST, "bad_request", text) from None
    if flags & ~int(HintFlag.STRICT):
        raise Refused(Status.BAD_REQUEST, "bad_request", f"flags {flags:#x} of a hint make no sense")
    return Wish(policy, element, near, bool(flags & HintFlag.STRICT))


def _create_process(draft: Draft, event: ControlRequest, element: Element, to: Requester) -> None:
    name = event.payload[: wire.PROCESS_CREATE_ARGS.size].rstrip(b"\0").decode(errors="replace")
    if sum(p.element == element.id for p in draft.state.processes.values()) >= MAX_PROCESSES:
        raise Refused(Status.BUSY, "busy", f"{element.name} has {MAX_PROCESSES} processes already")
    if len(draft.state.processes) >= MAX_RACK_PROCESSES:
        raise Refused(Status.BUSY, "busy", f"the rack has {MAX_RACK_PROCESSES} processes already")
    pid = draft.state.counters.next_pid
    allocations = draft.state.allocations.values()
    taken = {pid for a in allocations for pid in (a.pid, *holders(a))}
    taken |= set(draft.state.processes) | {w.source for w in draft.state.watches.values()}
    taken |= {o.giver for o in draft.state.operations.values()}
    for _ in range(MAX_PID):
        if pid not in taken:
            break
        pid = pid % MAX_PID + 1
    else:
        raise Refused(Status.BUSY, "busy", f"all {MAX_PID} process ids are taken")
    draft.set_next_pid(pid % MAX_PID + 1)
    draft.put("processes", pid, Process(pid, element.id, name, first_va(pid), draft.new_id()))
    draft.publish("process_created", pid=pid, name=name, element=element.id)
    reply(draft, to, Status.OK, va=pid)


def _exit_process(draft: Draft, pid: int, element: Element, to: Requester, crashed: bool) -> None:
    process = draft.state.processes.get(pid)
    if process is None or process.element != element.id:
        raise Refused(Status.NOT_FOUND, "not_found", f"there is no process {pid} on {element.name}")
    processes.end(draft, pid, crashed)
    reply(draft, to, Status.OK)


# ------------------------------------------------------------------------------------------------ requests of the API


def _acting(draft: Draft, event: ApiRequest, va: int) -> int | None:
    """For whom a request about this address is made: its owner; None if the request is an operator's. Raises Refused."""
    if event.acting is None:
        return None
    allocation = draft.state.allocation_at(va)
    owner = None if allocation is None else next(runs(allocation, va & -wire.PAGE_SIZE)).pid
    if owner not in event.acting:
        text = f"nothing at {va:#x} belongs to a process that this request is made for"
        raise Refused(Status.PERMISSION, "permission", text)
    return owner


def _api(state: State, event: ApiRequest, now: float, config: Config) -> Step:
    draft = Draft(state, now)
    to = requester_of_token(event.token)
    try:
        match event:
            case AllocRequest(pid=pid, size=size, permissions=permissions, flags=flags, wish=wish):
                memory.alloc(draft, config, to, pid, size, permissions, flags, wish)
            case FreeRequest(va=va, size=size):
                memory.free(draft, config, to, va, size, _acting(draft, event, va))
            case RevokeRequest(va=va, pages=pages):
                memory.revoke(draft, config, to, va, pages)
            case GrantRequest(va=va, pages=pages, recipient=recipient, permissions=permissions):
                reassign.grant(draft, config, to, va, pages, _acting(draft, event, va), recipient, permissions)
            case ProtectRequest(va=va, pages=pages, permissions=permissions):
                reassign.protect(draft, config, to, va, pages, _acting(draft, event, va), permissions)
            case StealRequest():
                e = event
                rest = e.group, e.capability, e.permissions, e.wall
                groups.steal(draft, config, to, e.va, e.pages, e.thief, e.source, *rest)
            case GroupRequest(name=name, secret=secret, needed=needed, total=total):
                groups.create(draft, to, name, secret, needed, total)
            case MigrateRequest(va=va, pages=pages, target=target):
                migrate.migrate(draft, config, to, va, pages, None, target)
            case StatRequest(va=va):
                _acting(draft, event, va)
                reassign.stat(draft, to, va)
            case AddressRequest(address=address, pid=pid):
                addresses.give(draft, to, address, pid)
            case AddressReleaseRequest(address=address):
                addresses.free(draft, to, address)
            case FenceRequest(element=element, fenced=fenced):
                fences.request(draft, to, element, fenced)
            case PoisonRequest(place=(element, pa), pages=pages, bad=bad):
                poison.by_place(draft, to, element, pa, pages, bad)
            case PoisonRequest(place=int(va), pages=pages, bad=bad):
                poison.by_address(draft, to, va, pages, bad)
            case WatchRequest(pid=pid, source=source, group=group):
                standby.watch(draft, to, pid, source, group)
            case UnwatchRequest(watch=number):
                standby.unwatch(draft, to, number, None)
            case ThresholdsRequest(interval=interval, suspect=suspect, fail=fail):
                monitor.adjust(draft, config, to, interval, suspect, fail)
    except Refused as refused:
        draft = Draft(state, now)
        draft.do(Answer(event.token, {}, ApiError(refused.code, refused.message)))
    return draft.finish()
