"""What came out for each claim of the paper, as a table in Markdown: all experiments, a line for each claim."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.framework.runner import Result

_WORDS = {True: "yes", False: "**no**", None: "cannot be told"}


def page(results: Sequence[Result]) -> str:
    """The whole file."""
    lines = ["| claim (section) | experiment | what came out | holds |", "|---|---|---|---|"]
    for result in results:
        for claim in result.experiment.claims:
            own = [finding for finding in result.findings if finding.claim == claim.name]
            told = [f.text for f in own] or ["not judged"]
            held = list(dict.fromkeys(_WORDS[f.held] for f in own)) or [_WORDS[None]]
            cells = [f"{claim.text} ({claim.section})", result.experiment.name, "; ".join(told), ", ".join(held)]
            lines.append("| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |")
    lines += ["", *(_how(result) for result in results)]
    return "\n".join(lines) + "\n"


def _how(result: Result) -> str:
    """On what the figures of an experiment rest."""
    by_case: dict[tuple[object, ...], int] = {}
    for row in result.rows:
        if not row.problem:
            key = tuple(row.case.items())
            by_case[key] = by_case.get(key, 0) + 1
    counts = sorted(set(by_case.values()))
    often = (
        "no rows"
        if not counts
        else f"{len(by_case)} cases, {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} times"
    )
    verdict = "all results right" if result.held else f"FAILED: {'; '.join(result.problems) or 'no rows'}"
    where = f"{result.scale}, seed {result.seed}, {result.seconds:.0f} s from {result.setting['started']}"
    return f"- {result.experiment.name}: {often}; {where}; load before {result.setting['load before']}; {verdict}"
