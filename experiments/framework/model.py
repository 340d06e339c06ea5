"""What an experiment is made of: claims that it tests, rows that it measures, findings that it draws, charts of it.

Rows are flat so that they can be a CSV file: ``case`` says what was varied, ``values`` what came out. A row is one repetition.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, TypeVar

from protocol.rack import Rack
from topologies.launch import RackLauncher
from topologies.targets import TargetName

Scale = Literal["quick", "full"]
SCALES: tuple[Scale, ...] = ("quick", "full")
Network = Literal["interconnect", "rack", "cross_rack"]
NETWORKS: dict[Network, str] = {
    "interconnect": "links of the Rack MMU",
    "rack": "the network of the rack, links of its top-of-rack switch",
    "cross_rack": "the network between racks",
}
Case = str | int | float
IN_A_ROW = 3  # rows that failed, one after the other: then the experiment ends
O = TypeVar("O")  # noqa: E741 - an experiment's options


class ScenarioFailed(RuntimeError):
    """What must hold did not: a wrong result, a lost write, an element that was not fenced. The message says what."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper ("Disaggregation and the Application"), in a sentence; ``section`` is where it makes it."""

    name: str
    section: str
    text: str


@dataclass(frozen=True)
class Finding:
    """What came out for a claim. ``held`` None: this run cannot tell (too small, say). ``essential``: the experiment has failed
    if it does not hold; otherwise it is a matter of the figures, and of ``--strict``."""

    claim: str
    held: bool | None
    text: str
    essential: bool = False


@dataclass(frozen=True)
class Traffic:
    """What crossed one network, counted so that it does not depend on the machine.

    ``round_trips``: exchanges that waited for one another (pipelined requests of one call are one); ``messages``: frames, and
    ``size``: their bytes, headers included, each counted once on every link that it crossed.
    """

    round_trips: float = 0.0
    messages: float = 0.0
    size: float = 0.0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.round_trips + other.round_trips, self.messages + other.messages, self.size + other.size)


Counts = Mapping[Network, Traffic]


@dataclass(frozen=True)
class Row:
    """One repetition of one case. ``problem`` (not empty) makes the experiment fail, and the others go on."""

    case: Mapping[str, Case]
    values: Mapping[str, float]
    counts: Counts = field(default_factory=dict)
    repetition: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Chart:
    """A drawing of rows: medians with their range (least to greatest) of value ``y`` over ``x`` of the case, a line (or a group
    of bars) for each value of ``series``. ``where`` chooses rows; ``log`` is for the axes x and y. With ``link`` it shows the
    microseconds that what was counted takes on that interconnect (a name of ``links.INTERCONNECTS``), and ``y`` is not used."""

    name: str
    title: str
    x: str
    y: str
    series: str
    where: Mapping[str, Case] = field(default_factory=dict)
    kind: Literal["line", "bar"] = "line"
    log: tuple[bool, bool] = (False, False)
    xlabel: str = ""
    ylabel: str = ""
    link: str = ""


@dataclass
class Context(Generic[O]):
    """What ``run`` is given. Everything random comes from ``seed``; files go to ``out``."""

    scale: Scale
    options: O
    seed: int
    repetitions: int
    out: Path
    target: TargetName
    note: Callable[[str], None]  # a sentence for the report: what limited a figure, what was left out
    _step: Callable[[str, float], None]
    _launch: Callable[..., AbstractContextManager[RackLauncher]]
    earlier: Sequence[Row] = ()  # of a run that is gone on with
    _failed: int = 0  # rows in a row

    def step(self, text: str, weight: float = 1.0) -> None:
        """Begin something that takes ``weight`` seconds or so; the weights of all are what ``Experiment.steps`` says."""
        self._step(text, weight)

    def had(self, case: Mapping[str, Case], repetition: int) -> Row | None:
        """This row, if the run that is gone on with had it."""
        return next((row for row in self.earlier if row.repetition == repetition and row.case == case), None)

    def row(self, case: Mapping[str, Case], repetition: int, measure: Callable[[], Row]) -> Row:
        """What ``measure`` gives, or the row of the run that is gone on with. What it raises makes a row with a problem, and its
        traceback a file: a broken repetition must not cost the others. After three in a row the next is raised."""
        found = self.had(case, repetition)
        if found is not None:
            return found
        try:
            row = measure()
        except Exception as error:
            self._failed += 1
            name = "-".join(str(varied) for varied in (*case.values(), repetition)).replace(" ", "-").replace("/", "-")
            (self.out / f"failed-{name}.txt").write_text(traceback.format_exc())
            if self._failed >= IN_A_ROW:
                raise
            return Row(case, {}, repetition=repetition, problem=f"{name}: {type(error).__name__}: {error}")
        self._failed = 0
        return row

    def rack(
        self,
        rack: Rack,
        name: str,
        *,
        controller_options: Sequence[str] = (),
        element_options: Mapping[str, tuple[str, ...]] | None = None,
        **more: object,
    ) -> AbstractContextManager[RackLauncher]:
        """A running rack, with captures on every port of its switches; logs and captures are under ``out/NAME`` and the
        captures go when all went well. ``more`` are further fields of ``LaunchOptions``."""
        return self._launch(
            rack,
            name,
            controller_options=tuple(controller_options),
            element_options=dict(element_options or {}),
            **more,
        )


def no_findings(rows: Sequence[Row]) -> list[Finding]:
    """For an experiment that only shows."""
    return []


@dataclass(frozen=True)
class Experiment(Generic[O]):
    """An experiment. ``run`` yields rows as they are measured; ``judge`` is a pure function of all of them.

    ``scales`` are the options of each scale (quick: 25 s at most on two CPUs, rack included); ``steps`` is the sum
    of the weights that ``run`` will call ``context.step`` with, given these options and so many repetitions. ``judge`` is given
    the rows that have been measured, also of a run that is not at its end.
    """

    name: str
    title: str
    about: str  # some sentences for the report: what is compared, how, what the columns mean
    claims: Sequence[Claim]
    scales: Mapping[Scale, O]
    run: Callable[[Context[O]], Iterator[Row]]
    steps: Callable[[O, int], float]
    judge: Callable[[Sequence[Row]], list[Finding]] = no_findings
    charts: Sequence[Chart] = ()
    repetitions: Mapping[Scale, int] = field(default_factory=lambda: {"quick": 1, "full": 5})
    root: bool = True  # needs root, because it boots racks
