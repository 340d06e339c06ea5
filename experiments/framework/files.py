"""Results as files: JSON and CSV for each experiment, a summary of all; and results of earlier runs from their files."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.framework import links
from experiments.framework.model import NETWORKS, Counts, Experiment, Finding, Row, Traffic
from experiments.framework.runner import Result
from experiments.framework.summary import groups

RESULT = "result.json"


class FileError(ValueError):
    """A file that is not what it must be; the message names it."""


def as_json(result: Result) -> dict[str, Any]:
    """All that is known of an experiment."""
    return {
        "name": result.experiment.name,
        "title": result.experiment.title,
        "setting": result.setting,
        "scale": result.scale,
        "seed": result.seed,
        "repetitions": result.repetitions,
        "options": asdict(result.experiment.scales[result.scale]),
        "held": result.held,
        "problems": result.problems,
        "ended early": result.problem,
        "seconds": result.seconds,
        "claims": [asdict(claim) for claim in result.experiment.claims],
        "findings": [asdict(finding) for finding in result.findings],
        "notes": result.notes,
        "medians": [
            {
                "case": dict(group.case),
                "values": {name: asdict(spread) for name, spread in group.values.items()},
                "counts": {network: asdict(traffic) for network, traffic in group.counts.items()},
                "projected": {link.name: links.project(group.counts, link) for link in links.INTERCONNECTS}
                if group.counts
                else {},
            }
            for group in groups(result.rows)
        ],
        "rows": [asdict(row) for row in result.rows],
    }


def save(result: Result) -> None:
    """``result.json`` and ``rows.csv``, each to be read alone, and each whole whenever the program is killed."""
    new = result.out / f"{RESULT}.new"
    new.write_text(json.dumps(as_json(result), indent=2) + "\n")
    new.rename(result.out / RESULT)
    new = result.out / "rows.csv.new"
    _save_csv(result, new)
    new.rename(result.out / "rows.csv")


def load(experiment: Experiment[Any], out: Path) -> Result | None:
    """What an earlier run left in ``out`` of this experiment; None if nothing. Raises FileError."""
    path = out / experiment.name / RESULT
    try:
        held = json.loads(path.read_text())
        return Result(
            experiment,
            held["scale"],
            held["seed"],
            held["repetitions"],
            path.parent,
            held["setting"],
            [_row(row) for row in held["rows"]],
            [Finding(**finding) for finding in held["findings"]],
            held["notes"],
            held["ended early"],
            seconds=held["seconds"],
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"{path}: not a result of this version ({type(error).__name__}: {error})") from None


def _row(held: Mapping[str, Any]) -> Row:
    counts: Counts = {network: Traffic(**traffic) for network, traffic in held["counts"].items()}
    return Row(held["case"], held["values"], counts, held["repetition"], held["problem"])


def _save_csv(result: Result, path: Path) -> None:
    cases = list(dict.fromkeys(name for row in result.rows for name in row.case))
    values = list(dict.fromkeys(name for row in result.rows for name in row.values))
    counted = [network for network in NETWORKS if any(network in row.counts for row in result.rows)]
    parts = ("round_trips", "messages", "size")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        counts = [f"{network} {part}" for network in counted for part in parts]
        writer.writerow(["repetition", *cases, *values, *counts, "problem"])
        for row in result.rows:
            counts_of = [
                getattr(row.counts[network], part) if network in row.counts else ""
                for network in counted
                for part in parts
            ]
            cells = [*(row.case.get(name, "") for name in cases), *(row.values.get(name, "") for name in values)]
            writer.writerow([row.repetition, *cells, *counts_of, row.problem])


def save_summary(results: Sequence[Result], path: Path) -> None:
    """Verdicts of all."""
    verdicts = {
        result.experiment.name: {
            "started": result.setting["started"],
            "scale": result.scale,
            "held": result.held,
            "problems": result.problems,
            "claims not held": [finding.claim for finding in result.missed],
            "seconds": round(result.seconds, 1),
        }
        for result in results
    }
    path.write_text(json.dumps({"experiments": verdicts}, indent=2) + "\n")
