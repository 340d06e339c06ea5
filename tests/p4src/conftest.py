from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.p4src.harness import RackSwitch
from tests.p4src.model import Rack
from tests.p4src.world import build, standard_rack


@pytest.fixture
def rack() -> Rack:
    return standard_rack()


@pytest.fixture
def switch(rack: Rack) -> Iterator[RackSwitch]:
    made = RackSwitch()
    build(rack, made)
    yield made
    made.close()
