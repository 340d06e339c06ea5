"""Bad input to every operation on a live rack, through each way: typed errors, and nothing has changed afterwards."""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from controller import rackctl
from protocol import capability
from tests.e2e.conftest import settled
from tests.e2e.workers import Worker
from topologies.launch import RackLauncher

PAGE = 4096
PAGES = 16


@dataclass
class Case:
    """Process ``me`` has an allocation at ``va``, one of a group behind it, and ``other`` one of its own."""

    rack: RackLauncher
    me: Worker
    other: Worker
    va: int
    shared: int
    foreign: int
    dead: int
    group: int
    secret: str

    def condition(self) -> str:
        """All that an operation could change: the switch's tables, the store, free memory, contents."""
        told = [self.rack.get(f"/v1/{what}") for what in ("map", "processes", "operations", "groups")]
        free = [(e["name"], e["free_pages"], e["fenced"]) for e in self.rack.get("/v1/elements")["elements"]]
        assert told[0]["agrees"]
        return json.dumps([told, free, self.me.call("hash", va=self.va, size=PAGES * PAGE)["sha256"]])

    def by_process(self, what: str, va: int, pages: int, **rest: Any) -> str:
        """The name of the error that the process API raised."""
        asker = self.other if what == "steal" else self.me
        return str(asker.call("change", what=what, va=va, size=pages * PAGE, **rest).get("error", ""))

    def by_api(self, what: str, **body: Any) -> str:
        """The code of the refusal over HTTP."""
        try:
            self.rack.post(f"/v1/{what}", body)
        except urllib.error.HTTPError as error:
            return str(json.loads(error.read())["error"])
        return ""


@pytest.fixture
def case(rack: RackLauncher) -> Iterator[Case]:
    me, other, dead = Worker(rack, "c1", "me"), Worker(rack, "c2", "other"), Worker(rack, "c3", "dead")
    dead.close()
    group = rack.post("/v1/groups", {"name": f"group of {me.pid}"})
    shared = rack.post("/v1/alloc", {"pid": me.pid, "size": PAGES * PAGE, "group": group["id"]})["va"]
    va, foreign = me.call("alloc", size=PAGES * PAGE)["va"], other.call("alloc", size=PAGES * PAGE)["va"]
    settled(rack, me, other)
    yield Case(rack, me, other, va, shared, foreign, dead.pid, group["id"], group["secret"])
    me.close()
    other.close()


def test_bad_ranges_of_every_operation(case: Case) -> None:
    packed = capability.pack(capability.mint(bytes.fromhex(case.secret), case.group, case.other.pid, 1 << 40)).hex()
    stolen = {"source": case.me.pid, "group": case.group}
    operations: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # what the process API and HTTP want besides
        "grant": ({"to": case.other.pid}, {"to": case.other.pid}),
        "protect": ({"permissions": 1}, {"permissions": 1}),
        "steal": (stolen | {"secret": case.secret}, stolen | {"to": case.other.pid, "capability": packed}),
        "revoke": ({}, {}),
        "migrate": ({}, {}),
        "free": ({}, {}),
    }
    before = case.condition()
    for what, (of_process, of_api) in operations.items():
        start = case.shared if what == "steal" else case.va
        for va, pages, error, code in (
            (start, 0, "BadArgument", "malformed"),
            (start, 1 << 36, "BadRequest", "bad_request"),
            (start, 1 << 52, "BadRequest", "malformed"),
            (1 << 64, 1, "BadArgument", "malformed"),
            (start + 8, 1, "BadRequest", "bad_request"),
            (start + (PAGES - 1) * PAGE, 2, "BadRequest", "bad_request"),
            (start + (1 << 40), 1, "NotFound", "not_found"),
        ):
            if what == "free" and pages == 1 << 52:
                error = "BadArgument"  # it says bytes
            size = {"size": pages * PAGE} if what == "free" else {"pages": pages}
            where = f"{what} {pages} pages at {va:#x}"
            assert case.by_process(what, va, pages, **of_process) == error, where
            assert case.by_api(what, va=va, **size, **of_api) == code, where
        if what != "steal":
            owner = "NotFound" if what == "free" else "PermissionDenied"
            assert case.by_process(what, case.foreign, 1, **of_process) == owner, f"{what} of another's"
        assert case.condition() == before, f"{what} has changed something"


def test_whom_memory_cannot_go_to(
    case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = case.condition()
    for to, error, code in (
        (case.me.pid, "BadRequest", "bad_request"),
        (case.dead, "NoSuchProcess", "no_such_process"),
        (999, "NoSuchProcess", "no_such_process"),
        (70000, "BadArgument", "malformed"),
    ):
        assert case.by_process("grant", case.va, 1, to=to) == error
        assert case.by_api("grant", va=case.va, to=to) == code
        monkeypatch.setattr("sys.argv", ["rackctl", "--api", case.rack.api.url, "grant", hex(case.va), str(to)])
        monkeypatch.setenv("RACKCTL_TOKEN", case.rack.api.token)
        assert rackctl.main() == 1
        assert capsys.readouterr().err.startswith(f"rackctl: refused ({code})")
    stolen = {"group": case.group, "secret": case.secret}
    for va, changes, error in (
        (case.va, {}, "NotReassignable"),
        (case.shared, {"secret": "00" * 16}, "BadCapability"),
        (case.shared, {"life": -60}, "ExpiredCapability"),
        (case.shared, {"source": 999}, "NoSuchProcess"),
        (case.shared, {"source": case.other.pid}, "PermissionDenied"),
        (case.shared, {"group": case.group + 1}, "BadCapability"),
    ):
        assert case.by_process("steal", va, 1, **{"source": case.me.pid, **stolen, **changes}) == error
    assert case.condition() == before
    assert case.by_process("free", case.va, 1) == ""
    assert case.by_process("free", case.va, 1) == "NotFound"
    assert case.by_api("free", va=case.va, size=PAGE) == "not_found"


def test_a_process_revokes_and_fences(case: Case) -> None:
    assert case.by_process("revoke", case.va, 2) == ""
    assert case.me.call("access", va=case.va, write=True)["error"] == "PermissionDenied"
    assert case.me.call("access", va=case.va + 2 * PAGE, write=True)["refused"] is False
    assert case.rack.get("/v1/map")["agrees"]
    refused = case.me.call("fence", element="c2", token="rack.0.0", fenced=True)
    assert (refused["error"], "token of an operator" in refused["text"]) == ("PermissionDenied", True)
    assert case.other.call("access", va=case.foreign)["refused"] is False
    assert case.me.call("fence", element="c2", token=case.rack.api.token, fenced=True)["refused"] is False
    assert case.other.call("access", va=case.foreign)["error"] == "Fenced"
    assert case.me.call("fence", element="c2", token=case.rack.api.token, fenced=False)["refused"] is False
    assert case.other.call("access", va=case.foreign)["refused"] is False
