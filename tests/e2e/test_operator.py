"""What operators and tenants do on a live rack: tokens, bad pages, allocations at a place."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from tests.e2e.rackctl import attempt, rackctl
from tests.e2e.workers import Worker
from topologies.launch import RackLauncher

PAGE = 4096


def test_who_may_do_what(rack: RackLauncher, worker: Worker) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(rack.api.url + "/v1/status", timeout=60)
    token_file = rack.run.path / "operator.token"
    assert token_file.stat().st_mode & 0o777 == 0o600
    assert rackctl("--token-file", str(token_file), "status")
    observer = rackctl("token-create", "looks on", "--role", "observer").strip()
    tenant = rackctl("token-create", "tenant", "--role", "process", "--pid", str(worker.pid)).strip()
    assert rackctl("map", token=observer)
    assert "forbidden" in attempt("fence", "c1", token=observer).stderr
    made = json.loads(rackctl("alloc", str(worker.pid), "16K", "--element", "n1", "--strict", "--json", token=tenant))
    assert made["elements"] == ["n1"]
    assert worker.call("access", va=made["va"], write=True)["refused"] is False
    assert worker.call("stat", va=made["va"])["media"] == 2
    assert "forbidden" in attempt("map", token=tenant).stderr
    other = Worker(rack, "c2", "other")
    assert "forbidden" in attempt("alloc", str(other.pid), "4K", token=tenant).stderr
    foreign = other.call("alloc", size=PAGE)["va"]
    assert "permission" in attempt("free", hex(foreign), token=tenant).stderr
    other.close()
    listed = json.loads(rackctl("tokens", "--json"))["tokens"]
    identity = next(t["id"] for t in listed if t["name"] == "tenant")
    rack.kill("controller")
    rack.start_controller()
    assert rackctl("free", hex(made["va"]), token=tenant), "tokens outlive the controller"
    assert "is revoked" in rackctl("token-revoke", identity)
    assert "no good token" in attempt("alloc", str(worker.pid), "4K", token=tenant).stderr
    assert "no good token" in attempt("status", token="rack.0.0").stderr
    with rack.open("/v1/events/follow?since=0") as stream:
        assert json.loads(stream.readline())["id"] == 1


def test_a_bad_page_fails_is_told_and_survives_restarts(rack: RackLauncher, worker: Worker) -> None:
    va = worker.call("alloc", size=8 * PAGE)["va"]
    assert "1 page of" in rackctl("poison", hex(va + PAGE))
    failed = worker.call("access", va=va + PAGE)
    assert (failed["error"], failed["by"]) == ("PageFailed", "element")
    assert worker.call("access", va=va + PAGE, write=True)["error"] == "PageFailed"
    assert worker.call("access", va=va, size=PAGE)["refused"] is False
    rack.wait_for(
        lambda: any(f"1 pages from {va + PAGE:#x}" in n["notice"] for n in worker.call("notices")["notices"]),
        "the notice",
        120,
    )
    (bad,) = rack.get("/v1/poison")["bad"]
    rack.kill("controller")
    rack.start_controller()
    assert rack.get("/v1/poison")["bad"] == [bad]
    assert worker.call("access", va=va + PAGE)["error"] == "PageFailed"
    rack.kill(bad["element"])
    rack.start_element(bad["element"])
    rack.wait_for(rack._all_alive, "the element to serve again", 120)
    assert worker.call("free", va=va)["refused"] is False
    assert rackctl("bad-pages").count(bad["element"]) == 1
    assert "1 page of" in rackctl("unpoison", hex(bad["pa"]), "--element", bad["element"])
    assert rack.get("/v1/poison")["bad"] == []
    again = worker.call("alloc", size=8 * PAGE)["va"]
    assert worker.call("mixed", va=again, size=8 * PAGE, operations=100, seed=1)["ok"]
