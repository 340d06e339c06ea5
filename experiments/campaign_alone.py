"""The second stage of a campaign: the switch refuses late writes alone, with memory elements that refuse nothing (S4).

That elements refuse nothing is shown as well: frames behind the switch's back are all carried out. Without that this stage
could not fail.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from experiments.campaign_check import add, persist
from experiments.workers import Worker
from topologies.launch import RackLauncher

PAGES = 24  # that the intruder loses in each way


@dataclass
class AloneReport:
    """Attempts and their answers; ``control``: past the switch."""

    late: dict[str, int] = field(default_factory=dict)
    control: dict[str, int] = field(default_factory=dict)

    @property
    def held(self) -> bool:
        """The switch let nothing pass, and it was the switch."""
        return not self.late["accepted"] and self.late["answered"] > 0 and self.control["accepted"] > 0


class Alone:
    """The stage."""

    def __init__(self, rack: RackLauncher, intruder: Worker, element: str):
        self.rack, self.intruder = rack, intruder
        self.report = AloneReport()
        self.other = Worker(rack, element, "other", "experiments.campaign_player")
        group = rack.post("/v1/groups", {"name": "alone"})
        self.group, self.secret = group["id"], group["secret"]

    def run(self, late: int) -> AloneReport:
        """Lose memory in every way; ``late`` attempts that are answered."""
        try:
            each = -(-late // 5)
            for lose in (self._revoke, self._free, self._grant, self._steal):
                made = self.intruder.call("alloc", pages=PAGES, group=self.group)
                lose(made["va"])
                self._attempt(self.report.late, "late", pages=[p[0] for p in made["places"]], count=each)
            made = self.intruder.call("alloc", pages=PAGES, group=self.group)
            self.rack.post("/v1/fence", {"element": self.intruder.element})
            self._attempt(self.report.late, "late", pages=[p[0] for p in made["places"]], count=each)
            self.rack.post("/v1/unfence", {"element": self.intruder.element})
            self.rack.post("/v1/revoke", {"va": made["va"], "pages": PAGES})
            self._attempt(self.report.control, "inject", places=made["places"], count=500)
        finally:
            self.other.close()
        return self.report

    def _revoke(self, va: int) -> None:
        self.rack.post("/v1/revoke", {"va": va, "pages": PAGES})

    def _free(self, va: int) -> None:
        self.intruder.call("free", va=va, pages=PAGES)

    def _grant(self, va: int) -> None:
        self.intruder.call("grant", va=va, pages=PAGES, to=self.other.pid)

    def _steal(self, va: int) -> None:
        source = {"source": self.intruder.pid, "group": self.group, "secret": self.secret}
        answer = self.other.call("steal", va=va, pages=PAGES, **source)
        assert not answer["error"], answer

    def _attempt(self, into: dict[str, int], how: str, count: int, **arguments: Any) -> None:
        def attempt(missing: int) -> dict[str, Any]:
            answer = self.intruder.call(how, count=missing, **arguments)
            add(into, answer["answers"] | {k: answer[k] for k in ("sent", "answered", "accepted")})
            return answer

        persist(attempt, count, f"attempts ({how})")
