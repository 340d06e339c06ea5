"""What is compared: each target connects the left and the right interface of a testbed of its own while its context is open."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from bench import workload
from bench.testbed import BenchError, Process, Testbed, run

ROOT = Path(__file__).parent.parent


@contextlib.contextmanager
def forwarder(bed: Testbed, tools: Path, cpu: int | None) -> Iterator[Process]:
    """The bare forwarder in C."""
    with Process([str(tools / "forwarder"), bed.left, bed.right], namespace=bed.middle, cpu=cpu) as process:
        yield process


@contextlib.contextmanager
def bridge(bed: Testbed) -> Iterator[None]:
    """The kernel's bridge. It ends with its namespace."""
    ip = ("ip", "-n", bed.middle, "link")
    run(*ip, "add", "bridge", "type", "bridge")
    for interface in (bed.left, bed.right):
        run(*ip, "set", interface, "master", "bridge")
    run("ip", "netns", "exec", bed.middle, "sysctl", "-qw", "net.ipv6.conf.bridge.disable_ipv6=1")
    run(*ip, "set", "bridge", "mtu", "9000", "up")
    yield


def module(name: str, *arguments: str) -> list[str]:
    """A command line that runs a module of this project."""
    return [sys.executable, "-m", name, *arguments]


def start_switch(
    program: Path | None,
    *options: str,
    namespace: str | None = None,
    cpu: int | None = None,
    cache: Path | None = None,
) -> Process:
    """``p4switch run``, serving when this returns. ``cache`` replaces the user's cache of compiled programs."""
    source = ["--p4", str(program)] if program else ["--no-p4"]
    command = module("p4switch", "run", *source, "--grpc-addr", "127.0.0.1:0", "--log-level", "warning", *options)
    environment = {"P4SWITCH_CACHE": str(cache)} if cache else {}
    return Process(command, namespace=namespace, cpu=cpu, environment=environment)


def port_of(switch: Process) -> int:
    """The gRPC port that ``p4switch run`` has announced."""
    digits = switch.first_line.rpartition(" ")[2]
    if not switch.first_line.startswith("READY") or not digits.isdigit():
        raise BenchError(f"p4switch says {switch.first_line!r}")
    return int(digits)


@contextlib.contextmanager
def switch_and_client(
    work: workload.Workload,
    scratch: Path,
    *options: str,
    namespace: str | None = None,
    cpu: int | None = None,
) -> Iterator[tuple[Process, Process]]:
    """``p4switch run`` with the workload's program and empty tables, and its controller (:mod:`bench.client`)."""
    info = scratch / f"{work.name}.p4info.txtpb"
    options = (*options, "--cpu-port", str(workload.CPU_PORT), "--p4info-out", str(info))
    with start_switch(work.program, *options, namespace=namespace, cpu=cpu) as switch:
        command = module("bench.client", str(port_of(switch)), work.name, str(work.entries), str(info))
        with Process(command, namespace=namespace) as client:
            yield switch, client


@contextlib.contextmanager
def p4switch(
    bed: Testbed, work: workload.Workload, full: bool, scratch: Path, cpu: int | None, *options: str
) -> Iterator[Process]:
    """This project's switch, its tables filled by P4Runtime; the controller leaves before anything is measured."""
    interfaces = (f"{workload.LEFT_PORT}@{bed.left}", f"{workload.RIGHT_PORT}@{bed.right}")
    options = (*options, *(word for interface in interfaces for word in ("-i", interface)))
    with contextlib.ExitStack() as stack:
        process, client = stack.enter_context(switch_and_client(work, scratch, *options, namespace=bed.middle, cpu=cpu))
        client.ask(do="load", full=full)
        client.close()
        yield process
