"""Whether memory grows: samples over a run, and a straight line through those after the warm-up."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

WARM_UP = 0.25  # the part of a run that may fill caches, pools and tables
MIB = 1 << 20


class _Mallinfo2(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    _fields_: ClassVar = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    ]  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """Memory at some moment. ``progress`` is from 0 to 1; sizes in bytes.

    ``allocated`` is what the process has from malloc or, seen from outside, its private writable address space, which grows
    when nothing that was freed serves any more.
    """

    progress: float
    resident: int
    allocated: int


def allocated() -> int:
    """Bytes that this process has from malloc and has not freed: the C runtime's, and large objects of the interpreter's."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = _Mallinfo2
    info = libc.mallinfo2()
    return int(info.uordblks + info.hblkhd)


def resident(process: int | None = None) -> int:
    """Resident bytes of a process that it shares with no file and no other process; of this one if None."""
    return _status(process, "RssAnon")


def of_process(process: int, progress: float) -> Sample:
    """A sample of another process."""
    return Sample(progress, resident(process), _status(process, "VmData"))


def _status(process: int | None, name: str) -> int:
    for line in Path(f"/proc/{process or 'self'}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{process or 'self'}/status has no {name}")


def take(progress: float) -> Sample:
    """A sample of this process."""
    return Sample(progress, resident(), allocated())


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the straight line through points with the least squares; 0 for fewer than three."""
    if len(points) < 3:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


@dataclass(frozen=True)
class Growth:
    """What the line says about the whole run after its warm-up, in bytes."""

    what: str
    resident: float
    allocated: float
    most_resident: float
    most_allocated: float
    first: Sample
    last: Sample

    @property
    def within(self) -> bool:
        """Whether memory grew by no more than is allowed."""
        return self.resident <= self.most_resident and self.allocated <= self.most_allocated

    def __str__(self) -> str:
        parts = [
            f"{name} {before / MIB:.1f} -> {after / MIB:.1f} MiB, growth {grown / 1024:+.0f} KiB (at most {most / 1024:.0f})"
            for name, before, after, grown, most in (
                ("resident", self.first.resident, self.last.resident, self.resident, self.most_resident),
                ("allocated", self.first.allocated, self.last.allocated, self.allocated, self.most_allocated),
            )
        ]
        return f"{self.what}: " + "; ".join(parts) + ("" if self.within else "  TOO MUCH")


def growth(what: str, samples: Sequence[Sample], *, most_resident: float, most_allocated: float) -> Growth:
    """Judge samples. Raises ValueError when fewer than eight come after the warm-up: no line would mean anything."""
    kept = [s for s in samples if s.progress >= WARM_UP]
    if len(kept) < 8:
        raise ValueError(f"{what}: {len(kept)} samples after the warm-up; expected 8 or more")
    span = kept[-1].progress - kept[0].progress
    return Growth(
        what,
        slope([(s.progress, s.resident) for s in kept]) * span,
        slope([(s.progress, s.allocated) for s in kept]) * span,
        most_resident,
        most_allocated,
        kept[0],
        kept[-1],
    )
