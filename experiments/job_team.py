"""Workers of a job on the compute elements of a rack, and what their phases take."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from apps.dataflow.crew import connect
from apps.mapreduce.orchestrator import Phase
from experiments.framework.measure import QUIET, Meter, rack_ports, since
from experiments.framework.model import Network, Traffic
from experiments.workers import PATIENCE, Worker
from protocol.rack import Rack
from topologies.launch import RackLauncher

OPTIONS = ("--placement", "balance", *QUIET)  # of the controller


def first(rack: Rack, count: int) -> list[str]:
    """Names of the first compute elements."""
    return [element.name for element in rack.compute[:count]]


@contextlib.contextmanager
def team(rack: RackLauncher, names: Sequence[str], module: str = "experiments.job_worker") -> Iterator[list[Worker]]:
    """Workers on these compute elements, connected with each other."""
    elements = [rack.rack.element(name) for name in names]
    addresses = [element.ip.split("/")[0] for element in elements]

    def begin(number: int) -> Worker:
        return Worker(
            rack, elements[number].name, f"w{number + 1}", module, ("--address", addresses[number]), patience=PATIENCE
        )

    with contextlib.ExitStack() as stack:
        with ThreadPoolExecutor(len(names)) as pool:
            workers = list(pool.map(begin, range(len(names))))
        for worker in workers:
            stack.callback(worker.close)
        connect(workers, addresses)
        yield workers


class Measured:
    """Seconds and traffic of each phase of a run."""

    def __init__(self, rack: Rack, workers: Sequence[Worker]):
        self._meter, self._workers = Meter(rack_ports(rack)), workers
        self.seconds: dict[str, float] = {}
        self.traffic: dict[str, dict[Network, Traffic]] = {}
        self.retries = 0  # of all workers in all phases: bytes that would not have had to cross the interconnect
        self.begin()

    def begin(self) -> None:
        """Count from here."""
        self._round_trips()
        self._before = self._meter.read()

    def after(self, phase: Phase) -> None:
        """A phase has ended."""
        counted = since(self._before, self._meter.read())
        trips = self._round_trips()
        self.seconds[phase.name] = phase.seconds
        self.traffic[phase.name] = {n: Traffic(trips[n], t.messages, t.size) for n, t in counted.items()}
        self._before = self._meter.read()

    def _round_trips(self) -> Mapping[Network, float]:
        """Workers wait at the same time: of the one that waited most."""
        each = [worker.call("round_trips") for worker in self._workers]
        self.retries = sum(one["retries"] for one in each)
        return {
            "interconnect": max(one["interconnect"] for one in each),
            "rack": max(one["network"] for one in each),
        }
