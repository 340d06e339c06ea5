from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.workers import Worker
from topologies.launch import LaunchOptions, RackLauncher
from topologies.racks import small_rack

ROOT = Path(__file__).resolve().parents[2]
# Silence that means failure: also of elements that a busy machine lets wait, and that are not meant to fail.
SUSPECT_MS, FAIL_MS = 750, 1500
PATIENT = ("--heartbeat-timeout", str(FAIL_MS))
OPTIONS = ("--placement", "balance", "--largest-block", "64")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/e2e" in str(item.path) and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root: network namespaces and raw sockets"))


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RackLauncher]:
    """A rack in Mininet, with everything real: p4switch, controller, elements, top-of-rack switch."""
    options = LaunchOptions(out=tmp_path_factory.mktemp("rack"), controller_options=OPTIONS)
    with RackLauncher(small_rack(), options) as launched:
        launched.post("/v1/monitor", {"suspect_ms": SUSPECT_MS, "fail_ms": FAIL_MS})
        yield launched


def settled(rack: RackLauncher, *workers: Worker, elsewhere: str = "") -> None:
    """Wait until these processes are all there are, but for those on one element: those of the test before may still be on their
    way out."""

    def alone() -> bool:
        known = {p["pid"] for p in rack.get("/v1/processes")["processes"] if p["element"] != elsewhere}
        return known == {w.pid for w in workers} and not rack.get("/v1/operations")["operations"]

    rack.wait_for(alone, "the processes of earlier tests to be gone", 120)


@pytest.fixture
def worker(rack: RackLauncher, request: pytest.FixtureRequest) -> Iterator[Worker]:
    made = Worker(rack, "c1", request.node.name[:20])
    yield made
    made.close()
