"""Rack topologies as data. Nothing here starts anything: ``topologies.launch`` does."""

from __future__ import annotations

from protocol.rack import Element, Rack, RackError

MEMORY_ID_BASE = 100
MIB_PAGES = (1 << 20) // 4096


def small_rack(compute: int = 3, dram: int = 2, nvm: int = 1, memory_mib: int = 16, name: str = "small") -> Rack:
    """A full rack in small: compute elements c1.., DRAM elements m1.., NVM elements n1.., all on one Rack MMU.

    ``memory_mib`` is the size of each memory element. Raises RackError when a count or size makes no sense.
    """
    if compute < 1 or dram + nvm < 1 or dram < 0 or nvm < 0:
        raise RackError(
            f"a rack needs compute and memory elements: {compute} compute, {dram} DRAM, {nvm} NVM asked for"
        )
    if memory_mib < 1:
        raise RackError(f"a memory element has at least 1 MiB, {memory_mib} asked for")
    elements: list[Element] = []
    for i in range(1, compute + 1):
        elements.append(
            Element(
                name=f"c{i}", id=i, kind="compute", port=len(elements) + 1, tor_port=i, ip=f"10.0.{i >> 8}.{i & 255}/16"
            )
        )
    for media, count, prefix in (("dram", dram, "m"), ("nvm", nvm, "n")):
        for i in range(1, count + 1):
            number = len(elements) + 1
            elements.append(
                Element(
                    name=f"{prefix}{i}",
                    id=MEMORY_ID_BASE + number - compute,
                    kind="memory",
                    port=number,
                    media="dram" if media == "dram" else "nvm",
                    pages=memory_mib * MIB_PAGES,
                )
            )
    return Rack(name=name, elements=tuple(elements)).check()
