"""What the first stage of a campaign must have done before it may end: a condition, not what happens to fit into some seconds.

A campaign that has not killed a controller, or whose intruder was never refused by a memory element, has shown nothing of
either; so it goes on until each of these has come about, and says what has not when it may not go on for longer. No I/O.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

OPERATIONS = 500  # of the players
_ATTEMPTS = ("WRITE", "CAS", "FETCH_ADD")
_REFUSALS = ("PERMISSION switch", "UNMAPPED switch", "FENCED switch", "STALE_GENERATION element")
_LOSSES = ("revoked", "fenced", "freed", "granted", "stolen", "lost long ago")  # of the intruder
_ACTIONS = ("allocations", "revoked", "freed", "freed by the API", "migrated")  # that concern players
_BETWEEN_PLAYERS = ("granted", "stolen")
_INTRUDER = ("fences", "granted by the intruder", "stolen from the intruder")
_OUTCOMES = ("", "PermissionDenied", "Fenced")  # of players' operations


@dataclass(frozen=True)
class Goals:
    """Depends on how the campaign is set up."""

    late: int  # answered late writes
    crashes: Collection[str] = ()  # of what
    several_players: bool = True
    retries: bool = True  # links lose frames

    def to_do(self, late: Mapping[str, int], late_after: Mapping[str, int], actions: Mapping[str, int]) -> list[str]:
        """What is still missing of what the campaign does itself."""
        answered = late.get("answered", 0)
        missing = [] if answered >= self.late else [f"{self.late - answered} of {self.late} late writes"]
        wanted = _ACTIONS + _INTRUDER + (_BETWEEN_PLAYERS if self.several_players else ())
        missing += [f"change of memory: {what}" for what in wanted if not actions.get(what)]
        missing += [f"crash of a {what}" for what in self.crashes if not actions.get(f"crashes of a {what}")]
        missing += [f"late write to pages {why}" for why in _LOSSES if not late_after.get(why)]
        answers = [f"{kind} {answer}" for kind in _ATTEMPTS for answer in _REFUSALS]
        return missing + [f"answer to a late write: {answer}" for answer in answers if not late.get(answer)]

    def to_see(self, operations: int, retries: int, outcomes: Collection[str]) -> list[str]:
        """What is still missing of what players have met."""
        missing = [] if operations >= OPERATIONS else [f"{OPERATIONS - operations} of {OPERATIONS} operations"]
        missing += [] if retries or not self.retries else ["a retry"]
        return missing + [f"operation: {what or 'carried out'}" for what in _OUTCOMES if what not in outcomes]


def in_short(missing: Sequence[str], at_most: int = 6) -> str:
    """For a line of text."""
    more = len(missing) - at_most
    return "; ".join(missing[:at_most]) + (f"; and {more} more" if more > 0 else "")
