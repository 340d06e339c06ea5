from __future__ import annotations

import pytest

from protocol import rack, wire
from topologies.racks import small_rack


def test_round_trip() -> None:
    made = small_rack()
    assert rack.loads(rack.dumps(made)) == made
    assert [e.name for e in made.elements] == ["c1", "c2", "c3", "m1", "m2", "n1"]
    assert made.element("m1").mac == "02:00:00:00:00:65"
    assert made.by_id(101).name == "m1"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"{", "not a rack description"),
        (b'{"name": "x", "elements": [], "colour": 1}', "colour"),
        (b'{"name":"x","elements":[{"name":"a","id":0,"kind":"compute","port":1}]}', "element id 0"),
        (b'{"name":"x","elements":[{"name":"a","id":1,"kind":"compute","port":510}]}', "port 510"),
        (b'{"name":"x","elements":[{"name":"a","id":1,"kind":"memory","port":1}]}', "pages and a medium"),
        (
            b'{"name":"x","elements":[{"name":"a","id":1,"kind":"compute","port":1},{"name":"b","id":1,"kind":"compute","port":2}]}',
            "id used twice: 1",
        ),
    ],
)
def test_bad_descriptions(text: bytes, error: str) -> None:
    with pytest.raises(rack.RackError, match=error):
        rack.loads(text)


def test_unknown_element_names_the_valid_ones() -> None:
    with pytest.raises(rack.RackError, match=r"no element 'x'; the rack has c1, c2"):
        small_rack(compute=2, dram=1, nvm=0).element("x")


@pytest.mark.parametrize("arguments", [{"compute": 0}, {"dram": 0, "nvm": 0}, {"memory_mib": 0}])
def test_impossible_racks(arguments: dict[str, int]) -> None:
    with pytest.raises(rack.RackError):
        small_rack(**arguments)


def test_owner_of_an_address() -> None:
    assert wire.va_owner((7 << 48) + 4096) == 7
