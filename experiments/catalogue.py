"""The experiments that there are: modules with an ``EXPERIMENT``, in the order in which they run and are reported."""

from __future__ import annotations

import importlib
from typing import Any

from experiments.framework.model import Experiment

MODULES: tuple[str, ...] = (
    "experiments.transfer",
    "experiments.shuffle",
    "experiments.pagerank",
    "experiments.straggler",
    "experiments.relaunch",
    "experiments.translations",
    "experiments.handover",
    "experiments.detection",
    "experiments.failover",
    "experiments.failover_memory",
    "experiments.failover_rolling",
)


class CatalogueError(ValueError):
    """No such experiment; the message names those that there are."""


def experiments() -> dict[str, Experiment[Any]]:
    """All of them, by name."""
    found: dict[str, Experiment[Any]] = {}
    for module in MODULES:
        experiment = importlib.import_module(module).EXPERIMENT
        if experiment.name in found:
            raise CatalogueError(f"two experiments are called {experiment.name!r} (the second in {module})")
        found[experiment.name] = experiment
    return found


def chosen(names: list[str]) -> list[Experiment[Any]]:
    """Those with these names, or all; raises CatalogueError."""
    there = experiments()
    unknown = [name for name in names if name not in there]
    if unknown:
        raise CatalogueError(f"no experiment {', '.join(unknown)}; there are {', '.join(there)}")
    return [there[name] for name in (names or there)]
