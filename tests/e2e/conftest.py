from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.workers import Worker
from topologies.launch import LaunchOptions, RackLauncher
from topologies.racks import small_rack

ROOT = Path(__file__).resolve().parents[2]
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
        yield launched


@pytest.fixture
def worker(rack: RackLauncher, request: pytest.FixtureRequest) -> Iterator[Worker]:
    made = Worker(rack, "c1", request.node.name[:20])
    yield made
    made.close()
