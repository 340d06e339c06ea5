"""Multi-Paxos without input or output: messages and times go in, records to keep, messages to send and decided slots come out.

One stable leader runs phase 1 once, for all slots, then phase 2 for each. Who decides a slot follows from the slots up to
``WINDOW`` before it (Lamport, Malkhi and Zhou, Reconfiguring a State Machine): a leader never proposes further than that ahead of
what it knows to be chosen. The caller keeps the rule that makes answers binding: records are durable before messages are sent.
"""

from __future__ import annotations

from collections.abc import Iterable

from apps.paxos.leader import Leadership, Recovery
from apps.paxos.messages import (
    CHOSEN,
    Accept,
    Accepted,
    AcceptedRun,
    Ballot,
    Compacted,
    Entry,
    Excluded,
    Fetch,
    Heartbeat,
    HeartbeatAck,
    Learn,
    Membership,
    Message,
    Prepare,
    Promise,
    Reconfigure,
    Reject,
    Report,
    Resign,
)
from apps.paxos.voter import WINDOW, Voter


class Core(Voter):
    """One replica. Not thread-safe."""

    @property
    def is_leader(self) -> bool:
        """Whether this replica may propose, as far as it knows."""
        return self.leading is not None

    @property
    def role(self) -> str:
        """leader, candidate, follower or joining."""
        if self.leading is not None:
            return "leader"
        if self._stateless:
            return "joining"
        return "candidate" if self.recovery is not None else "follower"

    def all_caught_up(self) -> bool:
        """Whether, as far as this leader knows, every member has the state and has followed it up to what was under way."""
        if self.leading is None or self.membership is None or self.membership.pending is not None:
            return False
        return self.membership.current.ids <= self.leading.up_to_date | {self.me}

    def submit(self, commands: Iterable[bytes], now: float) -> None:
        """Have commands decided. Only for the leader; what is queued is dropped when it loses its office."""
        self.queue.extend(commands)
        self._pump(now)

    def reconfigure(self, change: Reconfigure, now: float) -> None:
        """Have a change of the membership decided. Only for the leader."""
        self._reconfigure.append(change)
        self._pump(now)

    def tick(self, now: float) -> None:
        """Let time pass: call often, at least a few times per heartbeat."""
        if self.leading is not None:
            self._tick_leader(self.leading, now)
        elif self.recovery is not None:
            if now >= self.recovery.repeat_at:
                self.recovery.repeat_at = now + self.timing.retransmit
                self._send_prepare(self.recovery)
                self._finish_recovery(self.recovery, now)
            if now >= self._election_at and self.recovery is not None:
                self._campaign(now)
        elif now >= self._election_at:
            self._campaign(now)

    def receive(self, sender: int, message: Message, now: float) -> None:
        """Take in a message."""
        match message:
            case Prepare():
                self._on_prepare(sender, message, now)
            case Promise():
                self._on_promise(sender, message, now)
            case Reject():
                self._on_reject(message, now)
            case Accept():
                self._on_accept(sender, message, now)
            case Accepted():
                self._on_accepted(sender, message, now)
            case Heartbeat():
                self._on_heartbeat(sender, message, now)
            case HeartbeatAck():
                self._on_heartbeat_ack(sender, message, now)
            case Fetch():
                self._on_fetch(sender, message)
            case Learn():
                self._on_learn(sender, message, now)
            case Compacted():
                self._on_compacted(sender, message)
            case Resign():
                self._on_resign(sender, message, now)
            case Excluded():
                self._on_excluded(message)

    # ---------------------------------------------------------------------------------------------------------------- news

    def _on_learn(self, sender: int, message: Learn, now: float) -> None:
        if self.leading is not None or self._stateless:
            return
        news = [(s, e) for s, e in enumerate(message.entries, message.first) if s > self.committed]
        if not news:
            return
        for slot, entry in news:
            self.accepted[slot] = (CHOSEN, entry)
        self._effects.records.append(AcceptedRun(CHOSEN, news[0][0], tuple(e for _, e in news)))
        self._know_chosen()
        if self.committed < message.committed:
            self._next_fetch = now
            self._fetch(sender, now)
        if self.recovery is not None:
            self._finish_recovery(self.recovery, now)

    def _on_resign(self, sender: int, message: Resign, now: float) -> None:
        if sender == self.leader:
            self.leader, self._leader_heard = None, float("-inf")
            self._election_at = now + self.timing.heartbeat * self.rng.random()
        self._effects.notes.append(f"replica {sender} resigned" + (", its memory lost" if message.lost else ""))
        if message.lost:
            self._lost.add(sender)
        if self.leading is not None:
            self._replace(self.leading, now)

    # ------------------------------------------------------------------------------------------------------------- phase 1

    def _campaign(self, now: float) -> None:
        self._postpone_election(now)
        if self._stateless or self._transferring or self.membership is None or self.me not in self.membership.members:
            return
        self._step_down()
        ballot = Ballot(max(self._highest_round, self.promised.round) + 1, self.me)
        self._promise(ballot)
        self.leader = None
        self.recovery = Recovery(ballot, now + self.timing.retransmit)
        self._send_prepare(self.recovery)
        reports = tuple(Report(s, b, e) for s, (b, e) in self.accepted.items() if s > self.committed)
        self._on_promise(self.me, Promise(ballot, self.committed, reports), now)

    def _send_prepare(self, recovery: Recovery) -> None:
        if self.membership is not None:
            for member in self.membership.members:
                if member != self.me and member not in recovery.promises:
                    self._send(member, Prepare(recovery.ballot, self.committed))

    def _on_promise(self, sender: int, message: Promise, now: float) -> None:
        recovery = self.recovery
        if recovery is not None and message.ballot == recovery.ballot:
            recovery.add(sender, message)
            self._finish_recovery(recovery, now)
        elif self.leading is not None and message.ballot == self.leading.ballot and self.membership is not None:
            leading = self.leading
            if _may_lead(leading.recovered, self.membership):
                return  # it came late: nothing depends on it
            if message.committed > self.committed:  # slots were decided by a configuration that is news here
                self._step_down()
                self._fetch(sender, now)
                self._election_at = now
                return
            leading.recovered.add(sender, message)
            self._pump(now)

    def _finish_recovery(self, recovery: Recovery, now: float) -> None:
        membership = self.membership
        if membership is None or not _may_lead(recovery, membership):
            return
        source = recovery.most_advanced()
        if recovery.committed[source] > self.committed:
            self._fetch(source, now)
            return
        self.recovery = None
        self.leader = self.me
        self.leading = Leadership(recovery, self.committed + 1, now, membership.members)
        self._effects.notes.append(f"elected with ballot {tuple(recovery.ballot)}")
        self._heartbeat(self.leading, now)
        self._pump(now)

    def _on_reject(self, message: Reject, now: float) -> None:
        self._highest_round = max(self._highest_round, message.ballot.round)
        mine = self.leading.ballot if self.leading is not None else self.recovery.ballot if self.recovery else None
        if mine is not None and message.ballot > mine:
            self._step_down()
            self.leader = None
            self._postpone_election(now)

    # ------------------------------------------------------------------------------------------------------------- phase 2

    def _heartbeat(self, leading: Leadership, now: float) -> None:
        leading.heartbeat_at = now + self.timing.heartbeat
        self._broadcast(Heartbeat(leading.ballot, self.committed))

    def _tick_leader(self, leading: Leadership, now: float) -> None:
        membership = self.membership
        assert membership is not None
        silence = {m: now - leading.heard(m, now) for m in membership.members if m != self.me}
        for member in leading.newly_silent({m for m, s in silence.items() if s >= self.timing.election}):
            self._effects.notes.append(f"suspects replica {member}: silent for {silence[member]:.2f} s")
        alive = {self.me, *(m for m, s in silence.items() if s < 2 * self.timing.election)}
        if not membership.current.has_majority(alive):
            self._step_down()  # clients shall look elsewhere
            self.leader = None
            self._postpone_election(now)
            return
        if now >= leading.heartbeat_at:
            self._heartbeat(leading, now)
        for first, entries, missing in leading.unanswered(now, self.timing.retransmit, membership):
            for member in missing - {self.me}:
                self._send(member, Accept(leading.ballot, first, entries, self.committed))
        if now >= leading.prepare_at and not _may_lead(leading.recovered, membership):
            leading.prepare_at = now + self.timing.retransmit  # phase 1 with those who are new
            self._send_prepare(leading.recovered)
        self._replace(leading, now)

    def _replace(self, leading: Leadership, now: float) -> None:
        """Put a spare in the place of a member that has lost its memory or is silent for too long."""
        membership = self.membership
        if membership is None or membership.pending is not None or self._reconfigure or leading.is_changing():
            return
        for member in sorted(membership.current.ids - {self.me}):
            silent = self.timing.replace > 0 and now - leading.heard(member, now) > self.timing.replace
            taken = {*membership.members, *membership.retired}
            spare = next((s for s in self.spares if s.id not in taken), None)
            if spare is not None and (silent or member in self._lost):
                self._effects.notes.append(f"replaces replica {member} by {spare.id}")
                self.reconfigure(Reconfigure(member, spare), now)
                return

    def _pump(self, now: float) -> None:
        """Propose what the window allows: what phase 1 found, then changes of the membership, then commands."""
        leading, membership = self.leading, self.membership
        if leading is None or membership is None:
            return
        first, entries = leading.next_slot, list[Entry]()
        while leading.next_slot <= self.committed + WINDOW:
            if not leading.has_majority(membership.of(leading.next_slot)):
                break
            pending = membership.pending is not None and leading.next_slot < membership.pending.since
            entry = leading.next_entry(self.queue, self._reconfigure, pending)
            if entry is None:
                break
            entries.append(entry)
        if not entries:
            return
        for slot, entry in enumerate(entries, first):
            self.accepted[slot] = (leading.ballot, entry)
            leading.proposed(slot, entry, self.me, now)
        self._effects.records.append(AcceptedRun(leading.ballot, first, tuple(entries)))
        self._broadcast(Accept(leading.ballot, first, tuple(entries), self.committed))
        self._choose_proposed(leading, now)

    def _on_accepted(self, sender: int, message: Accepted, now: float) -> None:
        leading = self.leading
        if leading is None or message.ballot != leading.ballot:
            return
        leading.hear(sender, now)
        for slot in range(message.first, message.first + message.count):
            leading.acknowledged(slot, sender)
        self._choose_proposed(leading, now)

    def _choose_proposed(self, leading: Leadership, now: float) -> None:
        before = self.committed
        while self.membership is not None and leading.is_chosen(self.committed + 1, self.membership):
            slot = self.committed + 1
            self._choose(slot)
            leading.done(slot)
        if self.committed > before:
            if self._effects.excluded:
                self._step_down()
                return
            if not leading.in_flight and not self.queue:
                self._heartbeat(leading, now)  # nothing else will tell them soon that it is chosen
            self._pump(now)

    def _on_heartbeat_ack(self, sender: int, message: HeartbeatAck, now: float) -> None:
        if self.leading is not None and message.ballot == self.leading.ballot:
            self.leading.hear(sender, now)
            if self.leading.caught_up(sender, message.committed, self.committed):
                self._effects.notes.append(f"replica {sender} has caught up")


def _may_lead(recovery: Recovery, membership: Membership) -> bool:
    """Whether phase 1 holds for all slots that may be proposed now."""
    pending = membership.pending
    return recovery.has_majority(membership.current) and (pending is None or recovery.has_majority(pending))
