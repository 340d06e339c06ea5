"""``rackctl`` as people see it: its output against recorded texts (RECORD=1 records them anew)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from rig import Rack

from controller import rackctl
from controller.api import create_app
from controller.tokens import Role, Tokens
from protocol import wire
from protocol.wire import PAGE_SIZE, Header, Op

GOLDEN = Path(__file__).parent / "golden"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[Rack]:
    made = Rack(tmp_path)
    with made.running():
        made.until(lambda: all(e.liveness == "alive" for e in made.shell.state.elements.values()))
        yield made
    made.kill()


@pytest.fixture
def run(rack: Rack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command line; exit status, standard output, standard error."""
    tokens = Tokens(rack.path / "tokens.json")
    client = TestClient(create_app(rack.shell, tokens))
    monkeypatch.setenv("RACKCTL_TOKEN", tokens.create("test", Role.OPERATOR)[1])

    def request(method: str, url: str, **options: Any) -> httpx.Response:
        options.pop("timeout")
        return client.request(method, url.removeprefix("http://rack"), **options)

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["rackctl", "--api", "http://rack", *arguments])
        status = rackctl.main()
        out, err = capsys.readouterr()
        return status, out, err

    monkeypatch.setattr(httpx, "request", request)
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.setenv("TERM", "dumb")
    return command


def check(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.txt"
    text = "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
    if os.environ.get("RECORD"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), f"{path}: set RECORD=1 if this is as it should be"


def test_what_people_see(rack: Rack, run: Run) -> None:
    pid = rack.process()
    session = []

    def also(*arguments: str) -> str:
        status, out, err = run(*arguments)
        session.append(f"$ rackctl {' '.join(arguments)}\n{out}{err}{f'[{status}]' if status else ''}")
        return out

    made = json.loads(run("alloc", str(pid), "20K", "--json")[1])
    also("alloc", str(pid), "1M")
    also("revoke", hex(made["va"]), "2")
    also("free", hex(made["va"] + 4 * PAGE_SIZE), "4K")
    other = rack.process()
    also("grant", hex(made["va"] + 2 * PAGE_SIZE), str(other))
    also("protect", hex(made["va"] + 2 * PAGE_SIZE), "r")
    also("stat", hex(made["va"] + 2 * PAGE_SIZE))
    also("stat", hex(made["va"]))
    also("grant", hex(made["va"]), str(other))
    also("grant", hex(made["va"] + 3 * PAGE_SIZE), "77")
    also("fence", "c2")
    also("elements")
    also("processes")
    also("map")
    also("counters")
    also("unfence", "c2")
    also("free", hex(made["va"]))
    also("free", "0x1000")
    also("alloc", "7", "4K")
    also("alloc", str(pid), "1T")
    also("fence", "m9")
    check("session", "\n".join(session))


def test_groups_and_theft(rack: Rack, run: Run) -> None:
    _, out, _ = run("group-create", "kv")
    assert re.fullmatch(r"group 1 kv\nsecret [0-9a-f]{32}\n", out)
    key = out.split()[-1]
    _, out, _ = run("group-create", "paxos", "--shares", "2/3")
    assert re.fullmatch(r"group 2 paxos\n(share [1-3]-[0-9a-f]{32}\n){3}", out)
    shares = [line.split()[1] for line in out.splitlines()[1:]]
    assert "2 of 3" in run("groups")[1]
    source, thief = rack.process(), rack.process()
    args = wire.ALLOC_ARGS.pack(2 * PAGE_SIZE, 3, 2 << wire.GROUP_SHIFT)
    rack.frame(1, Header(Op.ALLOC, pid=source, request_id=5), args)
    rack.until(lambda: any(a.status == "ready" for a in rack.shell.state.allocations.values()))
    (va,) = rack.shell.state.allocations
    who = (hex(va), str(source), str(thief), "--group", "2")
    status, _, err = run("steal", *who, "--share", shares[0])
    assert (status, "bad_capability" in err) == (1, True)
    status, _, err = run("steal", *who, "--secret", key)
    assert (status, "bad_capability" in err) == (1, True)
    status, out, err = run("steal", *who, "--share", shares[0], "--share", shares[2])
    assert (status, err) == (0, "")
    assert out == f"1 page at {va:#x} went from process {source} to {thief}\n"


def test_json_is_what_the_api_said(rack: Rack, run: Run) -> None:
    tokens = Tokens(rack.path / "tokens.json")
    client = TestClient(create_app(rack.shell, tokens))
    client.headers["Authorization"] = f"Bearer {os.environ['RACKCTL_TOKEN']}"
    for command in ("elements", "processes", "map", "counters"):
        status, out, _ = run(command, "--json")
        assert status == 0
        assert json.loads(out) == client.get(f"/v1/{command}").json()


def test_status_and_events(rack: Rack, run: Run) -> None:
    status, out, _ = run("status")
    assert status == 0
    assert "fake:1, connected" in out
    _, out, _ = run("events", "--since", "0")
    assert [line.split()[0] for line in out.splitlines()] == [str(n + 1) for n in range(len(out.splitlines()))]
    rack.switch.die()
    rack.until(lambda: bool(rack.shell.describe()["switch"]["error"]))
    assert "NOT connected" in run("status")[1]
    status, _, err = run("map")
    assert status == 1
    assert err.startswith("rackctl: refused (switch): ")
    rack.switch.reachable = True
    rack.until(lambda: rack.shell.describe()["switch"]["error"] is None)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["alloc", "1", "12Q"], "expected a size such as 4096, 64K or 16MiB, found '12Q'"),
        (["alloc", "1", "0xK"], "found '0xK'"),
        (["alloc", "x", "1"], "expected a number, found 'x'"),
        (["steal", "1", "2", "3", "--group", "1", "--secret", "abc"], "expected 16 bytes in hex"),
        (["steal", "1", "2", "3", "--group", "1", "--share", "1-2"], "'1-2' is no share"),
        (["steal", "1", "2", "3", "--group", "1"], "--secret --share"),
        (["group-create", "x", "--shares", "2"], "expected K/N such as 2/3, found '2'"),
        (["token-create", "x", "--role", "king"], "'king' (choose from 'observer', 'operator', 'process')"),
        (["nonsense"], "invalid choice: 'nonsense'"),
        ([], "required: COMMAND"),
    ],
)
def test_wrong_usage(run: Run, arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == 2
    assert text in capsys.readouterr().err


def test_a_grant_that_is_not_waited_for(rack: Rack, run: Run) -> None:
    pid, other = rack.process(), rack.process()
    va = json.loads(run("alloc", str(pid), "16K", "--json")[1])["va"]
    status, out, err = run("grant", hex(va), str(other), "2", "--no-wait")
    found = re.fullmatch(r"request (\d+) is under way\n", out)
    assert found, (status, out, err)
    rack.until(lambda: run("request", found[1])[1] != "under way\n", acknowledge=False)
    assert f'"owner": {other}' in run("request", found[1])[1]
    begun = json.loads(run("grant", hex(va), str(other), "--no-wait", "--json")[1])["request"]
    rack.until(lambda: run("request", begun)[1] != "under way\n", acknowledge=False)
    assert run("request", begun)[1].startswith("refused (bad_request): process")
    assert "operations under way" in run("operations")[1]
    assert "there is no request 1" in run("request", "1")[2]
