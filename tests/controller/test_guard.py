"""Who may do what with the API: every route for every role, what tokens are, and bodies that make no sense."""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from rig import Rack

from controller import tokens as tokens_module
from controller.api import create_app
from controller.guard import LONGEST_BODY, RULES
from controller.tokens import Role, TokenError, Tokens, of_running_rack, read_token
from protocol.wire import PAGE_SIZE

ROOT = Path(__file__).resolve().parents[2]
ROLES = ("nobody", *Role)

# What of each route is tried: a body or a path that is right in form. {pid} is the process of the token, {other} another one;
# {va} memory of {pid}.
BODIES: dict[str, dict[str, Any]] = {
    "/v1/alloc": {"pid": "{pid}", "size": 4096},
    "/v1/free": {"va": "{va}", "size": 4096},
    "/v1/revoke": {"va": "{va}"},
    "/v1/migrate": {"va": "{va}"},
    "/v1/drain": {"element": "m9"},
    "/v1/grant": {"va": "{va}", "to": "{other}"},
    "/v1/protect": {"va": "{va}", "permissions": 1},
    "/v1/steal": {"va": "{va}", "source": "{other}", "to": "{pid}", "group": 1, "capability": "00"},
    "/v1/groups": {"name": "g"},
    "/v1/redirect": {"address": "10.0.255.1", "pid": "{pid}"},
    "/v1/fence": {"element": "c2"},
    "/v1/unfence": {"element": "c2"},
    "/v1/monitor": {"fail_ms": 700},
    "/v1/poison": {"va": "{va}"},
    "/v1/watches": {"pid": "{other}", "group": 1, "source": "{pid}"},
    "/v1/tokens": {"name": "another", "role": "observer"},
}


class World:
    """A rack, its API, and a client of each role; the process's acts for process ``pid``."""

    def __init__(self, path: Path):
        self.rack = Rack(path)
        self.tokens = Tokens(path / "tokens.json")
        self.app = create_app(self.rack.shell, self.tokens)
        self.client = TestClient(self.app, raise_server_exceptions=False)

    def begin(self) -> None:
        self.rack.until(lambda: all(e.liveness == "alive" for e in self.rack.shell.state.elements.values()))
        self.pid, self.other = self.rack.process(), self.rack.process()
        serial = self.rack.shell.state.processes[self.pid].serial
        self.texts = {"nobody": ""}
        for role in Role:
            processes = {self.pid: serial} if role is Role.PROCESS else None
            self.texts[role] = self.tokens.create(str(role), role, processes)[1]
        self.va = self.ask("operator", "POST", "/v1/alloc", {"pid": self.pid, "size": 8 * PAGE_SIZE}).json()["va"]

    def ask(self, role: str, method: str, path: str, body: Any = None, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.texts[role]}"} if self.texts[role] else {}
        return self.client.request(method, path, json=body, headers=headers, **options)

    def filled(self, path: str) -> dict[str, Any]:
        values = {"{pid}": self.pid, "{other}": self.other, "{va}": self.va}
        return {k: values.get(v, v) if isinstance(v, str) else v for k, v in BODIES[path].items()}

    def routes(self) -> set[tuple[str, str]]:
        found = set()
        for path, methods in self.app.openapi()["paths"].items():
            found |= {(method.upper(), path) for method in methods}
        return found | {("GET", "/openapi.json")}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    with made.rack.running():
        made.begin()
        yield made
    made.rack.kill()


def test_every_route_has_a_rule_and_says_that_it_wants_a_token(world: World) -> None:
    assert world.routes() == set(RULES)
    described = world.app.openapi()
    for path, methods in described["paths"].items():
        for method, route in methods.items():
            assert route["security"] == [{"HTTPBearer": []}], (method, path)


def test_every_route_for_every_role(world: World) -> None:
    """Refused with 401 or 403 exactly where the table says so; where it lets pass, what comes is the request's own outcome."""
    for (method, path), allowed in RULES.items():
        if path.endswith("/follow"):
            continue  # it does not end: below
        for role in ROLES:
            target = path.replace("{number}", "999").replace("{identity}", "0000").replace("{address}", "10.0.255.1")
            target += f"?va={world.va}" if path == "/v1/stat" else ""
            before = world.rack.shell.state
            reply = world.ask(role, method, target, world.filled(path) if method == "POST" else None)
            where = (method, path, role, reply.status_code, reply.text[:200])
            if role == "nobody":
                assert (reply.status_code, reply.json()["error"]) == (401, "unauthorised"), where
                assert reply.headers["www-authenticate"] == "Bearer"
            elif Role(role) not in allowed:
                assert (reply.status_code, reply.json()["error"]) == (403, "forbidden"), where
                assert f"the role {role} may not" in reply.json()["message"]
            else:
                assert reply.status_code not in (401, 405, 422, 500), where
                assert reply.status_code != 403 or reply.json()["error"] == "bad_capability", where
                continue
            after = world.rack.shell.state
            for kind in ("allocations", "groups", "watches", "settings", "elements", "addresses"):
                assert getattr(after, kind) is getattr(before, kind), where


def test_the_event_stream_wants_a_token(world: World) -> None:
    assert world.ask("nobody", "GET", "/v1/events/follow").status_code == 401
    assert world.ask("process", "GET", "/v1/events/follow").status_code == 403


def test_the_table_in_the_documents_is_the_rules() -> None:
    text = (ROOT / "docs" / "controller.md").read_text()
    found: dict[tuple[str, str], frozenset[Role]] = {}
    for routes, observer, process, operator in re.findall(
        r"^\| (`(?:GET|POST|DELETE) .*?) \| (.*?) \| (.*?) \| (.*?) \|$", text, re.M
    ):
        said = zip((Role.OBSERVER, Role.PROCESS, Role.OPERATOR), (observer, process, operator), strict=True)
        roles = frozenset(role for role, word in said if word != "no")
        for method, paths in re.findall(r"`(GET|POST|DELETE) ([^`]*)`", routes):
            found |= {(method, path): roles for path in paths.split(", ")}
    assert found == RULES


# ------------------------------------------------------------------------------------------------------ the role process


def test_a_process_acts_for_its_own_memory_alone(world: World) -> None:
    foreign = world.ask("operator", "POST", "/v1/alloc", {"pid": world.other, "size": 4 * PAGE_SIZE}).json()["va"]
    state = world.rack.shell.state
    for path, body in (
        ("/v1/alloc", {"pid": world.other, "size": 4096}),
        ("/v1/free", {"va": foreign}),
        ("/v1/free", {"va": 1 << 47, "size": 4096}),
        ("/v1/grant", {"va": foreign, "to": world.pid}),
        ("/v1/protect", {"va": foreign, "permissions": 1}),
        ("/v1/steal", {"va": foreign, "source": world.pid, "to": world.other, "group": 1, "capability": "00"}),
    ):
        reply = world.ask("process", "POST", path, body)
        assert reply.status_code == 403, (path, reply.text)
        assert reply.json()["error"] in ("forbidden", "permission"), (path, reply.text)
    assert world.rack.shell.state.allocations is state.allocations
    assert world.ask("process", "GET", f"/v1/stat?va={foreign}").status_code == 403
    assert [p["pid"] for p in world.ask("process", "GET", "/v1/processes").json()["processes"]] == [world.pid]
    # A range that begins with its own and goes on with another's.
    granted = world.ask("process", "POST", "/v1/grant", {"va": world.va + PAGE_SIZE, "to": world.other})
    assert granted.json()["owner"] == world.other
    mixed = world.ask("process", "POST", "/v1/protect", {"va": world.va, "pages": 2, "permissions": 1})
    assert (mixed.status_code, mixed.json()["error"]) == (403, "permission")
    assert world.ask("process", "GET", f"/v1/stat?va={world.va}").json()["owner"] == world.pid
    assert world.ask("process", "GET", f"/v1/stat?va={world.va + PAGE_SIZE}").status_code == 403
    assert world.ask("process", "POST", "/v1/free", {"va": world.va}).json()["pages"] == 7, "what is its"
    assert world.ask("process", "GET", f"/v1/stat?va={world.va}").status_code == 404


def test_a_token_does_not_act_for_a_later_process_with_the_same_pid(world: World) -> None:
    shell = world.rack.shell
    reborn = replace(shell.state.processes[world.pid], serial=10**9)
    shell._state = shell.state = replace(shell.state, processes=shell.state.processes.set(world.pid, reborn))
    assert world.ask("process", "GET", "/v1/processes").json()["processes"] == []
    assert world.ask("process", "POST", "/v1/alloc", {"pid": world.pid, "size": 4096}).status_code == 403


# --------------------------------------------------------------------------------------------------------------- tokens


def test_tokens_are_made_listed_and_revoked(world: World) -> None:
    body = {"name": "tenant", "role": "process", "pids": [world.pid]}
    made = world.ask("operator", "POST", "/v1/tokens", body).json()
    world.texts["tenant"] = made["token"]
    assert world.ask("tenant", "POST", "/v1/alloc", {"pid": world.pid, "size": 1}).status_code == 200
    listed = world.ask("operator", "GET", "/v1/tokens").text
    assert '"tenant"' in listed
    assert made["token"].rpartition(".")[2] not in listed
    assert made["token"].rpartition(".")[2] not in world.tokens.path.read_text()
    assert made["token"].rpartition(".")[2] not in world.ask("operator", "GET", "/v1/events").text
    assert world.ask("operator", "DELETE", f"/v1/tokens/{made['id']}").json() == {"id": made["id"]}
    assert world.ask("tenant", "POST", "/v1/alloc", {"pid": world.pid, "size": 1}).status_code == 401
    assert world.ask("operator", "DELETE", f"/v1/tokens/{made['id']}").status_code == 404
    own = next(t["id"] for t in json.loads(listed)["tokens"] if t["role"] == "operator")
    refused = world.ask("operator", "DELETE", f"/v1/tokens/{own}")
    assert (refused.status_code, "last token of an operator" in refused.text) == (400, True)


@pytest.mark.parametrize(
    "body",
    [
        {"name": "", "role": "observer"},
        {"name": "x" * 65, "role": "observer"},
        {"name": "x", "role": "king"},
        {"name": "x", "role": "process"},
        {"name": "x", "role": "process", "pids": []},
        {"name": "x", "role": "process", "pids": [60000]},
        {"name": "x", "role": "process", "pids": list(range(300))},
        {"name": "x", "role": "operator", "pids": [1]},
        {"name": "x", "role": "observer", "seconds": 0},
        {"name": "x", "role": "observer", "seconds": -1},
        {"name": "x\n", "role": "observer"},
        {"name": "x", "role": "observer", "power": 9},
    ],
)
def test_tokens_that_make_no_sense_are_not_made(world: World, body: dict[str, Any]) -> None:
    before = world.tokens.all()
    reply = world.ask("operator", "POST", "/v1/tokens", body)
    assert reply.status_code in (400, 404, 422), reply.text
    assert reply.json()["message"]
    assert world.tokens.all() == before


def test_what_is_no_token(world: World) -> None:
    good = world.texts["operator"]
    prefix, identity, secret = good.split(".")
    other = world.texts["observer"].split(".")
    wrong = ["", "x", good[:-1], good + "0", good.upper(), f"{prefix}.{identity}.{'0' * 64}"]
    wrong += [f"{prefix}.{other[1]}.{secret}", f"{prefix}.{'0' * 16}.{secret}", f"{good}\u00e9"]
    for text in wrong:
        assert world.tokens.find(text) is None, text
    for header in (good, f"Basic {good}", f"Bearer  {good} x", "Bearer", f"Bearer {good},Bearer {good}"):
        reply = world.client.get("/v1/status", headers={"Authorization": header})
        assert reply.status_code == 401, header
    twice = [("Authorization", f"Bearer {good}"), ("Authorization", f"Bearer {good}")]
    assert world.client.get("/v1/status", headers=twice).status_code == 401
    assert world.client.get("/v1/status", headers={"authorization": f"bearer {good}"}).status_code == 200


def test_tokens_expire(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    token, text = tokens.create("x", Role.OBSERVER, life=60)
    assert tokens.find(text) == token
    assert tokens.find(text, time.time() + 61) is None


def test_the_file_is_private_whole_and_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tokens.json"
    os.umask(os.umask(0))
    one, two = Tokens(path), Tokens(path)
    _, first = one.create("a", Role.OPERATOR)
    _, second = two.create("b", Role.OBSERVER)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = Tokens(path)
    assert [t.name for t in again.all()] == ["a", "b"], "neither has lost the other's"
    assert again.find(first)
    assert again.find(second)
    monkeypatch.setattr(tokens_module, "_store", lambda *_: (_ for _ in ()).throw(OSError("no room")))
    with pytest.raises(OSError, match="no room"):
        again.create("c", Role.OBSERVER)
    assert len(again.all()) == 2, "what is not stored is not"
    monkeypatch.undo()
    monkeypatch.setattr(tokens_module, "MOST_TOKENS", 2)
    with pytest.raises(TokenError, match="2 tokens already"):
        again.create("c", Role.OBSERVER)
    path.chmod(0o644)
    with pytest.raises(TokenError, match="mode 644"):
        Tokens(path)
    path.chmod(0o600)
    path.write_text("[{}]")
    with pytest.raises(TokenError, match="no file of tokens"):
        Tokens(path)


def test_the_token_of_a_running_rack_is_found(tmp_path: Path) -> None:
    for name, api in (("a", "http://127.0.0.1:1"), ("b", "http://127.0.0.1:2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.json").write_text(json.dumps({"api": api}))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "state.json").write_text("{")
    found = of_running_rack("http://127.0.0.1:2/", tmp_path)
    assert found == tmp_path / "b" / "operator.token"
    assert of_running_rack("http://127.0.0.1:3", tmp_path) is None
    found.write_text("not a token\n")
    with pytest.raises(TokenError, match="holds no token"):
        read_token(found)


# --------------------------------------------------------------------------------------------------- malformed requests


MALFORMED: list[tuple[str, Any]] = [
    *[("/v1/alloc", body) for body in (None, [], "x", 5, {}, {"pid": 1}, {"size": 1})],
    *[
        ("/v1/alloc", {"pid": 1, "size": size})
        for size in (0, -1, (1 << 48) + 1, 1 << 200, "4096", 4096.0, True, None, [1])
    ],
    *[("/v1/alloc", {"pid": pid, "size": 1}) for pid in (0, 65536, "1", 1.5, {})],
    *[("/v1/alloc", {"pid": 1, "size": 1, "permissions": p}) for p in (0, 4, "rw")],
    ("/v1/alloc", {"pid": 1, "size": 1, "colour": "red"}),
    *[("/v1/free", {"va": va}) for va in (-1, 1 << 64, "0x1000", None)],
    ("/v1/free", {"va": 4096, "size": -4096}),
    ("/v1/free", {"va": 4096, "size": 0}),
    *[(p, {"va": 4096, "pages": n}) for p in ("/v1/revoke", "/v1/grant") for n in (0, -1, (1 << 36) + 1)],
    ("/v1/grant", {"va": 4096, "to": 0}),
    ("/v1/protect", {"va": 4096, "permissions": 8}),
    ("/v1/steal", {"va": 4096, "source": 1, "to": 2, "group": 1, "capability": "0"}),
    ("/v1/steal", {"va": 4096, "source": 1, "to": 2, "group": 0, "capability": "00"}),
    ("/v1/groups", {"name": "x" * 65}),
    ("/v1/fence", {"element": ["c1"]}),
    ("/v1/redirect", {"address": "10.0.0.256", "pid": 1}),
    ("/v1/monitor", {"fail_ms": "600"}),
    ("/v1/watches", {"pid": 1, "group": 1, "source": -1}),
    *[
        ("/v1/poison", body)
        for body in ({}, {"va": 4096, "element": "m1", "pa": 0}, {"element": "m1"}, {"va": 0, "pa": 0})
    ],
]


def test_malformed_bodies_are_refused_by_type_and_change_nothing(world: World) -> None:
    before = world.rack.shell.state
    for path, body in MALFORMED:
        reply = world.ask("operator", "POST", path, body)
        assert (reply.status_code, reply.json()["error"]) == (422, "malformed"), (path, body, reply.text)
        assert reply.json()["fields"], (path, body)
    for kind in ("allocations", "groups", "watches", "settings", "operations", "addresses"):
        assert getattr(world.rack.shell.state, kind) is getattr(before, kind)


def test_unaligned_and_overlapping_ranges_are_refused(world: World) -> None:
    for path, body in (
        ("/v1/free", {"va": world.va + 1, "size": 4096}),
        ("/v1/revoke", {"va": world.va + 8}),
        ("/v1/grant", {"va": world.va + 2048, "to": world.other}),
        ("/v1/protect", {"va": world.va + 4, "permissions": 1}),
        ("/v1/revoke", {"va": world.va, "pages": 9}),
        ("/v1/grant", {"va": world.va, "pages": 1 << 36, "to": world.other}),
        ("/v1/grant", {"va": world.va, "to": world.pid}),
    ):
        before = world.rack.shell.state.allocations
        reply = world.ask("operator", "POST", path, body)
        assert (reply.status_code, reply.json()["error"]) == (400, "bad_request"), (path, body, reply.text)
        assert world.rack.shell.state.allocations is before


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"\xff\xfe", 422),
        (b'{"pid": 1, "size": 1' + b"0" * 5000 + b"}", 400),
        (b"[" * 20000, 400),
        (b'{"pid": NaN, "size": 1}', 422),
    ],
)
def test_what_is_no_json(world: World, content: bytes, status: int) -> None:
    headers = {"Authorization": f"Bearer {world.texts['operator']}", "Content-Type": "application/json"}
    reply = world.client.post("/v1/alloc", content=content, headers=headers)
    assert (reply.status_code, reply.json()["error"]) == (status, "malformed"), reply.text


def test_long_bodies_are_not_read(world: World) -> None:
    headers = {"Authorization": f"Bearer {world.texts['operator']}", "Content-Type": "application/json"}
    reply = world.client.post("/v1/alloc", content=b" " * (LONGEST_BODY + 1), headers=headers)
    assert (reply.status_code, reply.json()["error"]) == (413, "too_large")
    assert world.client.post("/v1/alloc", content=b" " * (LONGEST_BODY + 1)).status_code == 401
    fits = json.dumps({"pid": world.pid, "size": 1}).encode().ljust(LONGEST_BODY)
    assert world.client.post("/v1/alloc", content=fits, headers=headers).status_code == 200
    pieces = (b" " * 1024 for _ in range(100))
    assert world.client.post("/v1/alloc", content=pieces, headers=headers).status_code == 413


def test_unknown_paths_methods_and_faults_are_typed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert world.ask("operator", "GET", "/v2").json()["error"] == "not_found"
    assert world.ask("observer", "GET", "/v2").status_code == 403, "what is not in the table is the operator's"
    assert world.ask("operator", "PUT", "/v1/alloc").json()["error"] == "method_not_allowed"
    assert world.ask("operator", "GET", "/docs").status_code == 404
    monkeypatch.setattr(world.rack.shell, "describe", lambda: 1 / 0)
    failed = world.ask("operator", "GET", "/v1/status")
    assert (failed.status_code, failed.json()["error"]) == (500, "internal")
