"""Processes of tests: more patient than others, since controllers are started again on slow machines meanwhile."""

from __future__ import annotations

from experiments import workers
from topologies.launch import RackLauncher


class Worker(workers.Worker):
    """A process that repeats requests for longer."""

    def __init__(self, rack: RackLauncher, element: str, name: str):
        super().__init__(rack, element, name, options=("--budget", "50"))
