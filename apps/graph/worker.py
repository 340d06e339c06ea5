"""A worker of PageRank: its part of the graph and its ranks are in rack memory, and are read anew in every round."""

from __future__ import annotations

import io
import itertools
from array import array
from pathlib import Path
from typing import Any

from apps.dataflow.exchange import Parcel, Way
from apps.dataflow.memory import Extent, chunks, round_up, store
from apps.dataflow.peer import Peer
from apps.graph.pagerank import FLOAT, FLOAT_SIZE, INT, Part, gather, scatter
from hosts.process import Process

PATIENCE = 300.0  # seconds for parcels to come


class GraphWorker(Peer):
    """The commands. ``setup`` first, then ``scatter``, ``exchange`` and ``gather`` in every round."""

    def __init__(self, process: Process, address: str):
        super().__init__(process, address)
        self._nodes = 0
        self._limits: list[int] = []
        self._names: list[str] = []
        self._me = 0
        self._way: Way = "direct"
        self._held: dict[str, Extent] = {}
        # For what is contributed to others; who is granted one keeps it and grants another.
        self._spare: list[Extent] = []
        self._round = 0
        self._outgoing: dict[str, Parcel] = {}

    def do_setup(self, path: str, nodes: int, limits: list[int], names: list[str], me: int, way: Way) -> dict[str, Any]:
        """A part of the graph from storage to remote memory; ``names`` of all workers, this is number ``me``."""
        self._nodes, self._limits, self._names, self._me, self._way = nodes, limits, names, me, way
        part = load_part(Path(path))
        own = limits[me + 1] - limits[me]
        ranks = array(FLOAT, [1 / nodes]) * own
        for name, values in (
            ("sources", part.sources.tobytes()),
            ("targets", part.targets.tobytes()),
            ("degrees", part.degrees.tobytes()),
            ("ranks", ranks.tobytes()),
        ):
            self._held[name] = self._stored(values)
        if way != "direct":
            largest = FLOAT_SIZE * (1 + max(high - low for low, high in itertools.pairwise(limits)))
            for _ in names:
                self._spare.append(Extent(self.memory.alloc(round_up(largest)).va, round_up(largest)))
            if way == "transparent":
                self.inbox.arena.reserve(round_up(largest) * (len(names) - 1))
        return {}

    def _stored(self, values: bytes) -> Extent:
        region = self.memory.alloc(round_up(max(len(values), 1)))
        return store(self.memory, region, len(values), io.BytesIO(values).read)

    def _read(self, extent: Extent) -> bytes:
        return b"".join(chunks(self.memory, [extent]))

    def do_scatter(self) -> dict[str, Any]:
        """Compute what this part contributes to each."""
        held = {name: self._read(self._held[name]) for name in ("sources", "targets", "degrees")}
        part = Part(*(_array(INT, held[name]) for name in ("sources", "targets", "degrees")))
        given = scatter(part, _array(FLOAT, self._read(self._held["ranks"])), self._nodes, self._limits)
        for name, data in zip(self._names, given, strict=True):
            self._outgoing[name] = self._parcel(data)
        return {}

    def _parcel(self, data: bytes) -> Parcel:
        name = f"{self._me}/{self._round}"
        if self._way == "direct":
            return Parcel(name, data=data)
        buffer = self._spare.pop()
        self.memory.write(buffer.va, data)
        return Parcel(name, (Extent(buffer.va, buffer.capacity, len(data)),))

    def do_exchange(self) -> dict[str, Any]:
        """Give each part what is for it; bytes given."""
        others = {name: [parcel] for name, parcel in self._outgoing.items() if name != self._names[self._me]}
        moved = self.send_all(others, self._way)
        if self._way == "transparent":
            self._spare += [extent for own in others.values() for extent in own[0].extents]
        return {"moved": moved}

    def do_gather(self) -> dict[str, Any]:
        """New ranks."""
        senders = [f"{number}/{self._round}" for number in range(len(self._names)) if number != self._me]
        own = self._outgoing[self._names[self._me]]
        parcels = [*self.inbox.wait(senders, PATIENCE), own]
        given = [p.data if p.data is not None else self._read(p.extents[0]) for p in parcels]
        ranks = gather(given, self._nodes)
        self.memory.write(self._held["ranks"].va, ranks.tobytes())
        self._spare += own.extents
        if self._way == "grant":  # these pages are this worker's now
            self._spare += [extent for parcel in parcels[:-1] for extent in parcel.extents]
        self.inbox.arrived.clear()
        self.inbox.arena.rewind()
        self._outgoing.clear()
        self._round += 1
        return {}

    def do_result(self, path: str) -> dict[str, Any]:
        """The ranks of this part to a file of float64."""
        Path(path).write_bytes(self._read(self._held["ranks"]))
        return {}


def _array(kind: str, data: bytes) -> array[Any]:
    result: array[Any] = array(kind)
    result.frombytes(data)
    return result


def save_part(part: Part, path: Path) -> None:
    """To a file: the number of edges, then the arrays (int32)."""
    arrays = (part.sources, part.targets, part.degrees)
    path.write_bytes(array(INT, [len(part.sources)]).tobytes() + b"".join(a.tobytes() for a in arrays))


def load_part(path: Path) -> Part:
    """What ``save_part`` wrote."""
    values = _array(INT, path.read_bytes())
    edges = values[0]
    return Part(values[1 : edges + 1], values[edges + 1 : 2 * edges + 1], values[2 * edges + 1 :])
