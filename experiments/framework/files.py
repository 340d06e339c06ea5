"""Results as files: JSON and CSV for each experiment, a summary of all."""

from __future__ import annotations

import csv
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.framework import links
from experiments.framework.model import NETWORKS
from experiments.framework.runner import Result
from experiments.framework.summary import groups


def setting() -> dict[str, Any]:
    """When and on what."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load before": round(os.getloadavg()[0], 2),
    }


def as_json(result: Result) -> dict[str, Any]:
    """All that is known of an experiment."""
    return {
        "name": result.experiment.name,
        "title": result.experiment.title,
        "scale": result.scale,
        "seed": result.seed,
        "repetitions": result.repetitions,
        "options": asdict(result.experiment.scales[result.scale]),
        "held": result.held,
        "problems": result.problems,
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


def save(result: Result, about: dict[str, Any]) -> None:
    """``result.json`` and ``rows.csv``, each to be read alone."""
    text = json.dumps({"setting": about, **as_json(result)}, indent=2)
    (result.out / "result.json").write_text(text + "\n")
    _save_csv(result, result.out / "rows.csv")


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


def save_summary(results: Sequence[Result], about: dict[str, Any], path: Path) -> None:
    """Verdicts of all."""
    verdicts = {
        result.experiment.name: {
            "held": result.held,
            "problems": result.problems,
            "claims not held": [finding.claim for finding in result.missed],
            "seconds": round(result.seconds, 1),
        }
        for result in results
    }
    path.write_text(json.dumps({"setting": about, "experiments": verdicts}, indent=2) + "\n")
