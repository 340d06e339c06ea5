"""Answers to whoever asked, and the memory of them: a control request that comes twice takes effect once.

An answer is remembered for far longer than its requester repeats the request, and the rack's links hold no frame that long.
Answers to what had an effect are stored with that effect; refusals are remembered until a restart, except BUSY, which asks
for a repetition, and BAD_REQUEST, which would be said again. What only asks is answered anew.
"""

from __future__ import annotations

from controller.core.draft import Draft
from controller.core.events import Answer, ApiError, SendReply
from controller.core.records import replaced
from controller.core.state import Reply, Requester, State
from protocol.wire import LOCAL_OS_PID, Op, Status

REMEMBERED_FOR = 20.0  # seconds; requesters give up after 5
MOST_REMEMBERED = 8192  # answers to one speaker; it is BUSY beyond that
LONGEST_REASON = 256  # bytes of a refusal's text in band: thousands of them are remembered


_ASKS_ONLY = (Op.STAT, Op.TRANSLATE, Op.RANGES, Op.PROCESS_LIST)
_NOT_REMEMBERED = (Status.BUSY, Status.BAD_REQUEST)


class Refused(Exception):
    """A request cannot be met: a status for the protocol, a code and text for the API."""

    def __init__(self, status: Status, code: str, message: str):
        self.status, self.code, self.message = status, code, message
        super().__init__(message)


def requester_of_token(token: int) -> Requester:
    """An API request as requester: no element, the token as id."""
    return Requester(request_id=token)


def reply(draft: Draft, to: Requester, status: Status, payload: bytes = b"", **result: object) -> None:
    """Answer whoever asked. ``va`` of ``result`` is also the header's; a refusal says why in words (``message``)."""
    why = str(result.get("message", ""))
    if to.element == 0:
        error = None if status is Status.OK else ApiError(status.name.lower(), why or status.name)
        draft.do(Answer(to.request_id, dict(result), error))
        return
    if status is not Status.OK:
        payload = why.encode()[:LONGEST_REASON]
    va = result.get("va", to.va)
    assert isinstance(va, int)
    answer = Reply(to.element, to.pid, to.request_id, to.op, int(status), va, payload)
    if (
        to.op not in _ASKS_ONLY
        and status not in _NOT_REMEMBERED
        and (to.pid == LOCAL_OS_PID or to.pid in draft.state.processes)
    ):
        _remember(draft, answer)
    draft.do(SendReply(answer))


def _remember(draft: Draft, answer: Reply) -> None:
    speaker, key = (answer.element, answer.pid), (answer.element, answer.pid, answer.request_id)
    if answer.status == Status.OK:
        draft.put("replies", key, answer)
    else:
        draft.state = replaced(draft.state, refusals=draft.state.refusals.set(key, answer))
    answered = draft.state.answered.get(speaker, ())
    fresh = next((n for n, (at, _) in enumerate(answered) if at + REMEMBERED_FOR > draft.now), len(answered))
    for _, request_id in answered[:fresh]:
        _forget(draft, (*speaker, request_id))
    answered = (*answered[fresh:], (draft.now, answer.request_id))
    draft.state = replaced(draft.state, answered=draft.state.answered.set(speaker, answered))


def _forget(draft: Draft, key: tuple[int, int, int]) -> None:
    if key in draft.state.replies:
        draft.remove("replies", key)
    if key in draft.state.refusals:
        draft.state = replaced(draft.state, refusals=draft.state.refusals.delete(key))


def recall(state: State, element: int, pid: int, request_id: int, now: float) -> Reply | None:
    """The answer that this request got before. Raises Refused when the speaker has had so many that it must wait."""
    key = (element, pid, request_id)
    known = state.replies.get(key) or state.refusals.get(key)
    answered = state.answered.get((element, pid), ())
    if known is None and len(answered) >= MOST_REMEMBERED and answered[-MOST_REMEMBERED][0] + REMEMBERED_FOR > now:
        text = f"process {pid} of element {element} has had {MOST_REMEMBERED} answers in {REMEMBERED_FOR:.0f} s"
        raise Refused(Status.BUSY, "busy", text)
    return known


def forget_speaker(draft: Draft, element: int, pid: int) -> None:
    """The process has ended: nobody repeats anything."""
    for _, request_id in draft.state.answered.get((element, pid), ()):
        _forget(draft, (element, pid, request_id))
    if (element, pid) in draft.state.answered:
        draft.state = replaced(draft.state, answered=draft.state.answered.delete((element, pid)))


def count_from_now(draft: Draft) -> None:
    """The clock has begun anew: everything that is remembered counts as said now."""
    answered: dict[tuple[int, int], list[tuple[float, int]]] = {}
    for element, pid, request_id in sorted({*draft.state.replies, *draft.state.refusals}):
        answered.setdefault((element, pid), []).append((draft.now, request_id))
    fresh = {speaker: tuple(said) for speaker, said in answered.items()}
    draft.state = replaced(draft.state, answered=draft.state.answered.update(fresh))
