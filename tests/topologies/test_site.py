"""Several racks as data: names, addresses and the ways between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol import fabric as fabrics
from protocol.rack import RackError
from topologies.site import CORE_DPID, UPLINK, fabric, service_address, site


def test_names_and_addresses_are_unique() -> None:
    made = site(racks=3, full=2, compute=2, servers=3, clients=2)
    elements = [e for r in made.full for e in r.rack.compute]
    servers = [s for r in made.simple for s in r.servers]
    names = [e.name for r in made.full for e in r.rack.elements] + [h.name for h in (*servers, *made.clients)]
    assert len(set(names)) == len(names) == 2 * 4 + 3 + 2
    addresses = [e.ip.split("/")[0] for e in elements] + [h.ip for h in (*servers, *made.clients)]
    assert len(set(addresses)) == len(addresses)
    assert elements[0].name == "r1c1"
    assert elements[2].ip == "10.0.2.1/16"
    assert [r.rack.device_id for r in made.full] == [1, 2]
    assert all(len(f"{name}-rack") <= 15 for name in names), "the kernel's limit for names of interfaces"


def test_the_fabric_leads_everywhere(tmp_path: Path) -> None:
    made = site(racks=3, full=1)
    file = tmp_path / "fabric.json"
    file.write_bytes(fabrics.dumps(fabric(made)))
    read = fabrics.load(file)
    assert read == fabric(made)
    assert read.way(service_address(1), "r1") == {CORE_DPID: (1, None)}
    assert read.way(service_address(1), "r3s2") == {CORE_DPID: (3, None), CORE_DPID + 3: (2, "02:54:0a:00:03:02")}
    assert read.addresses[service_address(2)] == "r2s1"
    assert read.addresses[service_address(1, 15)] == "r1"
    assert [s.uplink for s in read.switches] == [0, UPLINK, UPLINK]
    with pytest.raises(fabrics.FabricError, match="r1c9"):
        read.way(service_address(1), "r1c9")
    file.write_text("{}")
    with pytest.raises(fabrics.FabricError, match="not a description"):
        fabrics.load(file)


@pytest.mark.parametrize(
    "counts", [{"racks": 0}, {"racks": 10}, {"full": 4}, {"full": -1}, {"servers": 0}, {"clients": 0}, {"compute": 100}]
)
def test_counts_that_make_no_sense(counts: dict[str, int]) -> None:
    with pytest.raises(RackError):
        site(**counts)


@pytest.mark.parametrize(("rack", "number"), [(0, 0), (10, 0), (1, 16), (1, -1)])
def test_service_addresses_that_do_not_exist(rack: int, number: int) -> None:
    with pytest.raises(RackError, match="service address"):
        service_address(rack, number)
