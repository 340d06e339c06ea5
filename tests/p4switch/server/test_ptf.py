"""A suite of the packet test framework against a running switch, both in a network namespace of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from p4switch.compiler import ir, p4info
from p4switch.compiler.driver import compile_source
from tests.p4switch.server.conftest import DEVICE, HERE
from tests.p4switch.server.test_clients import ROOT, SHELL

SUITE = HERE / "ptf_suite"
PTF = SHELL.parent / "ptf"
PORTS = (1, 2, 3)
CPU_PORT = 255
ADDRESS = "127.0.0.1:9559"  # in the namespace


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=400)


@pytest.fixture
def namespace() -> Iterator[str]:
    """A namespace with a veth pair for each port: s1, s2, ... for the switch, p1, p2, ... for the framework."""
    name = f"p4switch-ptf-{os.getpid()}"
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        for port in PORTS:
            ip("-n", name, "link", "add", f"s{port}", "type", "veth", "peer", "name", f"p{port}")
            for end in (f"s{port}", f"p{port}"):
                # Neighbour discovery would be unexpected packets.
                subprocess.run(
                    ["ip", "netns", "exec", name, "sysctl", "-q", f"net.ipv6.conf.{end}.disable_ipv6=1"], check=False
                )
                ip("-n", name, "link", "set", end, "up")
        yield name
    finally:
        ip("netns", "del", name)


@pytest.fixture
def switch(namespace: str, tmp_path: Path) -> Iterator[None]:
    """A switch without a program in the namespace."""
    ready, log = tmp_path / "ready", tmp_path / "switch.log"
    command = ["ip", "netns", "exec", namespace, sys.executable, "-m", "p4switch", "run", "--no-p4"]
    command += ["--grpc-addr", ADDRESS, "--device-id", str(DEVICE), "--cpu-port", str(CPU_PORT)]
    command += [word for port in PORTS for word in ("-i", f"{port}@s{port}")]
    with log.open("w") as out:
        process = subprocess.Popen([*command, "--ready-file", str(ready)], stdout=out, stderr=out, cwd=ROOT)
    try:
        deadline = time.monotonic() + 30
        while not ready.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.root
@pytest.mark.skipif(not PTF.exists(), reason="no ptf in .venv-shell: run scripts/setup_shell_venv.sh (make test does)")
@pytest.mark.skipif(os.geteuid() != 0, reason="PTF needs root: network namespaces and raw sockets")
@pytest.mark.usefixtures("switch")
def test_router(namespace: str, tmp_path: Path) -> None:
    compiled = compile_source(SUITE / "router.p4").program
    info, config = tmp_path / "router.p4info.txtpb", tmp_path / "router.ir"
    info.write_text(p4info.to_text(p4info.build(compiled)))
    config.write_bytes(ir.dumps(compiled))
    parameters = f"address='{ADDRESS}';device='{DEVICE}';info='{info}';config='{config}'"
    command = ["ip", "netns", "exec", namespace, str(PTF), "--test-dir", str(SUITE), "--test-params", parameters]
    command += [word for port in PORTS for word in ("-i", f"{port}@p{port}")]
    command += ["--log-dir", str(tmp_path / "log"), "--fail-skipped", "--test-case-timeout", "30"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ran 5 tests" in done.stdout + done.stderr
