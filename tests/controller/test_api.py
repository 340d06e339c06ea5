"""The HTTP API over a shell with a switch in memory."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from rig import RACK, Rack

from controller.api import create_app
from controller.tokens import Role, Tokens
from protocol import capability
from protocol.wire import PAGE_SIZE


class Api:
    """A client, and the rack behind it."""

    def __init__(self, rack: Rack):
        self.rack = rack
        self.tokens = Tokens(rack.path / "tokens.json")
        self.client = TestClient(create_app(rack.shell, self.tokens), raise_server_exceptions=False)
        self.client.headers["Authorization"] = f"Bearer {self.tokens.create('test', Role.OPERATOR)[1]}"

    def get(self, path: str) -> Any:
        reply = self.client.get(path)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def post(self, path: str, status: int = 200, **body: Any) -> Any:
        reply = self.client.post(path, json=body)
        assert reply.status_code == status, reply.text
        return reply.json()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    rack = Rack(tmp_path)
    with rack.running():
        rack.until(lambda: all(e.liveness == "alive" for e in rack.shell.state.elements.values()))
        yield Api(rack)
    rack.kill()


def test_memory_comes_and_goes(api: Api) -> None:
    pid = api.rack.process()
    made = api.post("/v1/alloc", pid=pid, size=5 * PAGE_SIZE - 1)
    assert made["size"] == 5 * PAGE_SIZE
    (process,) = api.get("/v1/processes")["processes"]
    assert (process["pid"], process["element"], process["bytes"]) == (pid, "c1", 5 * PAGE_SIZE)
    assert sum(s["pages"] for s in process["allocations"][0]["segments"]) == 5
    described = api.get("/v1/map")
    assert described["agrees"]
    assert described["missing"] == 0
    assert {e["pid"] for e in described["entries"] if e["table"] == "protection"} == {pid}
    assert api.post("/v1/revoke", va=made["va"])["owner"] == pid
    assert [h["kind"] for h in api.get("/v1/processes")["processes"][0]["allocations"][0]["overrides"]] == ["revoked"]
    assert api.post("/v1/free", va=made["va"])["pages"] == 5
    assert api.get("/v1/processes")["processes"][0]["allocations"] == []
    assert api.get("/v1/map") == {"entries": [], "missing": 0, "agrees": True}


def test_a_hole_as_large_as_its_segment_is_no_difference(api: Api) -> None:
    made = api.post("/v1/alloc", pid=api.rack.process(), size=PAGE_SIZE)
    api.post("/v1/revoke", va=made["va"])
    assert api.get("/v1/map")["agrees"]


def test_a_difference_is_told(api: Api) -> None:
    made = api.post("/v1/alloc", pid=api.rack.process(), size=PAGE_SIZE)
    assert made["segments"] == 1
    key = next(k for k in api.rack.switch.entries if k[0] == "protection")
    del api.rack.switch.entries[key]
    described = api.get("/v1/map")
    assert (described["agrees"], described["missing"]) == (False, 1)


def test_elements_and_fences(api: Api) -> None:
    elements = {e["name"]: e for e in api.get("/v1/elements")["elements"]}
    assert list(elements) == [e.name for e in RACK.elements]
    assert elements["m1"]["free_pages"] == elements["m1"]["pages"] == RACK.element("m1").pages
    assert api.post("/v1/fence", element="c1") == {"element": 1, "fenced": True}
    assert next(e for e in api.get("/v1/elements")["elements"] if e["name"] == "c1")["fenced"]
    assert api.post("/v1/unfence", element="c1") == {"element": 1, "fenced": False}


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/alloc", {"pid": 9999, "size": 1}, 404, "not_found"),
        ("/v1/alloc", {"pid": 1, "size": 1 << 48}, 507, "out_of_memory"),
        ("/v1/free", {"va": 4096}, 404, "not_found"),
        ("/v1/revoke", {"va": 0}, 404, "not_found"),
        ("/v1/fence", {"element": "m9"}, 404, "not_found"),
        ("/v1/alloc", {"pid": 1}, 422, "malformed"),
        ("/v1/alloc", {"pid": 65536, "size": 1}, 422, "malformed"),
        ("/v1/alloc", {"pid": 1, "size": 1, "permissions": 4}, 422, "malformed"),
        ("/v1/revoke", {"va": -1}, 422, "malformed"),
        ("/v1/free", {"va": 1 << 64}, 422, "malformed"),
    ],
)
def test_refusals_are_typed_and_change_nothing(
    api: Api, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    assert api.rack.process() == 1
    before, entries = api.get("/v1/processes"), dict(api.rack.switch.entries)
    refused = api.post(path, status, **body)
    assert refused.get("error") == code
    assert refused.get("message")
    assert api.get("/v1/processes") == before
    assert api.rack.switch.entries == entries


def test_without_a_switch(api: Api) -> None:
    pid = api.rack.process()
    api.rack.switch.die()
    api.rack.until(lambda: bool(api.get("/v1/status")["switch"]["error"]))
    refused = api.post("/v1/alloc", 502, pid=pid, size=1)
    assert refused["error"] == "switch"
    assert api.client.get("/v1/map").status_code == 502
    assert api.get("/v1/status")["switch"]["connected"] is False
    assert api.get("/v1/processes")["processes"]


def test_events_metrics_and_description(api: Api) -> None:
    api.rack.process()
    api.rack.until(lambda: any(e["event"] == "process_created" for e in api.get("/v1/events")["events"]))
    found = api.get("/v1/events")["events"]
    assert [e["id"] for e in found] == list(range(1, len(found) + 1))
    assert {"controller_started", "element_alive", "process_created"} <= {e["event"] for e in found}
    assert api.get(f"/v1/events?since={found[-1]['id']}")["events"] == []
    metrics = api.client.get("/metrics").text
    assert 'rackmmu_element_alive{element="m1"} 1.0' in metrics
    assert "rackmmu_processes 1.0" in metrics
    assert {"/v1/alloc", "/v1/free", "/v1/revoke", "/v1/fence", "/v1/unfence", "/v1/map"} <= set(
        api.get("/openapi.json")["paths"]
    )
    counters = api.get("/v1/counters")
    assert counters.pop("protection") == []
    assert counters == {
        "verdicts": {"forwarded_request": 3},
        "processes": {"1": {"packets": 2, "bytes": 200}},  # 9 is none
        "elements": {"m1": {"packets": 1, "bytes": 100}},
    }
    asked = api.get("/v1/counters?kind=processes&pid=9&pid=77")
    assert asked == {"processes": {"9": {"packets": 5, "bytes": 500}}}
    for bad in ("kind=all", "pid=65536", "pid=-1", "pid=x", "&".join(f"pid={n}" for n in range(300))):
        assert api.client.get(f"/v1/counters?{bad}").status_code == 422
    json.dumps(found)


def test_grant_protect_and_stat(api: Api) -> None:
    giver, recipient = api.rack.process(), api.rack.process()
    va = api.post("/v1/alloc", pid=giver, size=4 * PAGE_SIZE)["va"]
    granted = api.post("/v1/grant", va=va, pages=2, to=recipient)
    assert granted == {"va": va, "pages": 2, "owner": recipient, "source": giver}
    api.post("/v1/protect", va=va, permissions=1)
    found = api.get(f"/v1/stat?va={va + 5}")
    assert (found["owner"], found["permissions"], found["pages"], found["kind"]) == (recipient, 1, 1, "owned")
    assert api.post("/v1/grant", 404, va=va, to=999)["error"] == "no_such_process"
    assert api.post("/v1/grant", 403, va=va + PAGE_SIZE, pages=2, to=giver)["error"] == "permission"
    assert api.client.get("/v1/stat?va=-1").status_code == 422
    assert api.get("/v1/map")["agrees"]


def test_groups_and_theft(api: Api) -> None:
    made = api.post("/v1/groups", name="kv")
    shared = api.post("/v1/groups", name="paxos", needed=2, total=3)
    assert (made["id"], len(bytes.fromhex(made["secret"]))) == (1, 16)
    assert "shares" not in made
    assert len(shared["shares"]) == 3
    assert "secret" not in shared
    listed = api.get("/v1/groups")["groups"]
    assert listed == [
        {"id": 1, "name": "kv", "needed": 0, "total": 0},
        {"id": 2, "name": "paxos", "needed": 2, "total": 3},
    ]
    assert api.post("/v1/groups", 400, name="kv")["error"] == "bad_request"
    source, thief = api.rack.process(), api.rack.process()
    va = api.post("/v1/alloc", pid=source, size=PAGE_SIZE)["va"]
    token = capability.mint(bytes.fromhex(made["secret"]), 1, thief, int(time.time()) + 60)
    body = {"va": va, "source": source, "to": thief, "group": 1, "capability": capability.pack(token).hex()}
    assert api.post("/v1/steal", 403, **body)["error"] == "not_reassignable"
    assert api.post("/v1/steal", 403, **{**body, "capability": "00"})["error"] == "bad_capability"
    api.post("/v1/steal", 422, **{**body, "capability": "xyz"})
    assert made["secret"] not in api.client.get("/v1/events").text, "secrets are told once"


def test_a_service_address_is_given_and_listed(api: Api) -> None:
    pid = api.rack.process()
    assert api.post("/v1/redirect", address="10.0.255.16", pid=pid)["element"] == "c1"
    assert api.get("/v1/addresses")["addresses"] == [
        {"address": "10.0.255.16", "pid": pid, "element": "c1", "group": 0}
    ]
    assert api.post("/v1/redirect", 404, address="10.0.255.16", pid=999)["error"] == "no_such_process"
    assert api.client.delete("/v1/addresses/10.0.255.16").json() == {"address": "10.0.255.16", "pid": pid}
    assert api.get("/v1/addresses")["addresses"] == []
    assert api.client.delete("/v1/addresses/10.0.255.16").status_code == 404
    assert api.post("/v1/redirect", 400, address="10.0.1.1", pid=pid)["error"] == "bad_request"
    api.post("/v1/redirect", 422, address="nonsense", pid=pid)


def test_memory_with_flags_and_wishes(api: Api) -> None:
    pid = api.rack.process()
    group = api.post("/v1/groups", name="kv")["id"]
    made = api.post("/v1/alloc", pid=pid, size=PAGE_SIZE, group=group, permissions=1, element="m2", strict=True)
    assert made["elements"] == ["m2"]
    found = api.get(f"/v1/stat?va={made['va']}")
    assert (found["element"], found["group"], found["permissions"]) == ("m2", group, 1)
    near = api.post("/v1/alloc", pid=pid, size=PAGE_SIZE, near=made["va"], media="dram", placement="worst-fit")
    assert near["elements"] == ["m2"]
    api.post("/v1/alloc", pid=pid, size=PAGE_SIZE, group=group, reassignable=False)
    kept = max(api.rack.shell.state.allocations.values(), key=lambda a: a.va)
    assert (kept.group, kept.may_be_stolen) == (group, False)
    assert api.post("/v1/alloc", 507, pid=pid, size=PAGE_SIZE, media="nvm")["error"] == "out_of_memory"
    assert api.post("/v1/alloc", 422, pid=pid, size=PAGE_SIZE, media="tape")["error"] == "malformed"
    assert api.post("/v1/alloc", 404, pid=pid, size=PAGE_SIZE, group=999)["error"] == "not_found"
    assert api.post("/v1/alloc", 404, pid=pid, size=PAGE_SIZE, element="c1")["error"] == "not_found"
    assert api.post("/v1/alloc", 400, pid=pid, size=PAGE_SIZE, placement="any")["error"] == "bad_request"


def outcome(api: Api, request: str) -> Any:
    deadline = time.monotonic() + 60
    while not (told := api.get(f"/v1/requests/{request}"))["done"]:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return told


def test_what_is_not_waited_for_is_told_later(api: Api) -> None:
    one, other = api.rack.process(), api.rack.process()
    va = api.post("/v1/alloc", pid=one, size=8 * PAGE_SIZE)["va"]
    begun = api.post("/v1/grant", 202, va=va, pages=4, to=other, wait=False)
    assert outcome(api, begun["request"])["result"] == {"va": va, "pages": 4, "owner": other, "source": one}
    assert api.get(f"/v1/stat?va={va}")["owner"] == other
    again = api.post("/v1/grant", 202, va=va, to=other, wait=False)
    told = outcome(api, again["request"])
    assert (told["error"], "has these pages already" in told["message"]) == ("bad_request", True)
    for path, body in (
        ("protect", {"permissions": 1}),
        ("revoke", {}),
        ("free", {"size": PAGE_SIZE}),
    ):
        begun = api.post(f"/v1/{path}", 202, va=va, wait=False, **body)
        assert outcome(api, begun["request"])["result"]["pages"] == 1, path
    assert api.client.get("/v1/requests/1").status_code == 404
    tenant = api.tokens.create("tenant", Role.PROCESS, {one: api.rack.shell.state.processes[one].serial})[1]
    reply = api.client.get(f"/v1/requests/{begun['request']}", headers={"Authorization": f"Bearer {tenant}"})
    assert (reply.status_code, reply.json()["error"]) == (404, "not_found"), "another's"
    assert api.get("/v1/operations") == {"operations": []}
    assert api.get("/v1/map")["agrees"]


def test_operations_under_way_are_listed(tmp_path: Path) -> None:
    rack = Rack(tmp_path)
    rack.until(lambda: all(e.liveness == "alive" for e in rack.shell.state.elements.values()))
    api = Api(rack)
    with rack.running():
        pid, to = rack.process(), rack.process()
        va = api.post("/v1/alloc", pid=pid, size=8 * PAGE_SIZE)["va"]
    begun = api.post("/v1/grant", 202, va=va, pages=8, to=to, wait=False)  # no element answers now
    rack.until(lambda: bool(rack.shell.state.operations), acknowledge=False)
    assert api.get("/v1/operations") == {
        "operations": [{"kind": "grant", "va": va, "pages": 8, "moved": 0, "waiting": 1}]
    }
    assert api.get(f"/v1/requests/{begun['request']}") == {"request": begun["request"], "done": False}
    with rack.running():
        assert outcome(api, begun["request"])["result"]["owner"] == to
    rack.kill()
