"""A worker's connections with the others. The methods ``do_X`` are commands, with JSON for arguments and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from apps.dataflow.exchange import Inbox, Outbox, Parcel, Way
from apps.dataflow.memory import Counted
from hosts.process import Process, RetryPolicy

# For bulk data: a busy memory element answers late; a request that is repeated too soon costs it and the links twice.
PATIENT = RetryPolicy(first=1.0, longest=4.0, budget=60.0)


class Peer:
    """A process that gives parcels to others and gets theirs."""

    def __init__(self, process: Process, address: str):
        self.process = process
        self.memory = Counted(process)
        self.inbox = Inbox(self.memory, address)
        self._outboxes: dict[str, Outbox] = {}

    def do_address(self) -> dict[str, Any]:
        """Where this worker receives."""
        return {"port": self.inbox.port}

    def do_connect(self, peers: dict[str, tuple[str, int, int]]) -> dict[str, Any]:
        """Connect to other workers: name to address, port and process id."""
        for name, (address, port, pid) in peers.items():
            self._outboxes[name] = Outbox(self.memory, address, port, pid)
        return {}

    def do_round_trips(self) -> dict[str, Any]:
        """Round trips that this worker has waited for since it was asked last: on the interconnect and in the network. And how
        many requests it has repeated, in all."""
        network = sum(outbox.round_trips for outbox in self._outboxes.values())
        for outbox in self._outboxes.values():
            outbox.round_trips = 0
        interconnect, self.memory.round_trips = self.memory.round_trips, 0
        retries = self.process.statistics()["retries"]
        return {"interconnect": interconnect, "network": network, "retries": retries}

    def send_all(self, parcels: Mapping[str, Sequence[Parcel]], way: Way) -> int:
        """Parcels by name of the worker that they are for, to all workers at once; bytes when all have arrived."""

        def send(name: str) -> None:
            for parcel in parcels[name]:
                self._outboxes[name].send(parcel, way)

        with ThreadPoolExecutor(max(len(parcels), 1)) as pool:
            list(pool.map(send, parcels))
        return sum(parcel.size for own in parcels.values() for parcel in own)
