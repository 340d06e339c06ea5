"""Projects machine-independent counts onto real links.

Interconnects: the table "Cost of Crossing Network" of Y. Zhang's talks on resource disaggregation ("Farewell to
Servers"); where it gives a bound or a range, the bound and the lower bandwidth. Networks: round trips of figure 2 of
"Disaggregation and the Application".

The model is plain: every exchange that waits for another costs a round trip, every byte its share of the bandwidth on each link
that it crosses, and nothing overlaps. So it is too high for what moves data, and too low for what changes mappings: the time that
controllers, switches, memory and CPUs take is not in it. A table's latency is taken for one way, so that a round trip is twice
that; the figure's values are round trips already. Neither source gives bandwidths of networks: 100 Gb/s is assumed.
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments.framework.model import Counts, Network, Traffic

GB = 1e9
ETHERNET = 12.5 * GB  # 100 Gb/s in bytes a second


@dataclass(frozen=True)
class Link:
    """``round_trip`` in seconds, ``bandwidth`` in bytes a second."""

    name: str
    round_trip: float
    bandwidth: float

    def time(self, traffic: Traffic) -> float:
        """Seconds that this traffic takes, one thing after the other."""
        return traffic.round_trips * self.round_trip + traffic.size / self.bandwidth


INTERCONNECTS: tuple[Link, ...] = (
    Link("memory bus", 2 * 50e-9, 50 * GB),
    Link("Gen-Z", 2 * 100e-9, 32 * GB),
    Link("InfiniBand HDR", 2 * 500e-9, 25 * GB),
    Link("InfiniBand EDR", 2 * 500e-9, 12.5 * GB),
    Link("PCIe 3.0 x16", 2 * 700e-9, 16 * GB),
)
RACK_NETWORKS: tuple[Link, ...] = (
    Link("eRPC in the rack", 2e-6, ETHERNET),
    Link("ConnectX-6 in the rack", 1e-6, ETHERNET),
)
CROSS_RACK = Link("between racks", 45e-6, ETHERNET)


def project(counts: Counts, interconnect: Link, rack: Link = RACK_NETWORKS[0], cross: Link = CROSS_RACK) -> float:
    """Seconds that what was counted takes on these links."""
    links: dict[Network, Link] = {"interconnect": interconnect, "rack": rack, "cross_rack": cross}
    return sum(links[network].time(traffic) for network, traffic in counts.items())
