"""How long a steal takes by size: from a process that runs, with a token of the group that the memory is in."""

from __future__ import annotations

from bench.mmu.setting import KIB, MIB, Setting, size_text
from bench.report import Figure, against
from protocol.wire import PAGE_SIZE
from topologies.processes import StartError

PART = "steal"
ROOT = True


def _sizes(setting: Setting) -> tuple[int, ...]:
    return (4 * KIB, MIB, 64 * MIB) if setting.quick else (4 * KIB, 64 * KIB, MIB, 16 * MIB, 64 * MIB, 256 * MIB)


def steps(setting: Setting) -> int:
    """Of the progress bar."""
    return setting.repetitions


def run(setting: Setting) -> list[Figure]:
    """The figures. Sizes take turns within a repetition; ratios are to the smallest."""
    first, second = setting.rack.rack.compute[:2]
    owner, thief = setting.worker(first.name, "owner"), setting.worker(second.name, "thief")
    group = setting.rack.post("/v1/groups", {"name": "bench-mmu"})
    sizes = _sizes(setting)
    found: dict[int, list[float]] = {s: [] for s in sizes}
    for number in range(setting.repetitions + 1):
        if number:
            setting.step(f"{PART}: {number} of {setting.repetitions}")
        for size in sizes:
            va = owner.call("alloc", size=size, group=group["id"])["va"]
            answer = thief.call(
                "steal",
                va=va,
                pages=size // PAGE_SIZE,
                source=owner.pid,
                group=group["id"],
                secret=group["secret"],
            )
            if answer["refused"]:
                raise StartError(f"steal of {size_text(size)}: {answer['text']}")
            if number:  # the first of everything is slow
                found[size].append(answer["ms"])
            setting.rack.post("/v1/free", {"va": va})
    owner.close()
    thief.close()
    figures = []
    for size in sizes:
        ratios = against(found[size], found[sizes[0]]) if size != sizes[0] else ()
        baseline = size_text(sizes[0]) if ratios else ""
        figures.append(Figure(PART, "steal", size_text(size), "ms", found[size], {}, baseline, ratios))
    return figures
