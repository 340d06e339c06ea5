"""The two targets a Rack MMU can run on: how each compiles the P4 program and starts the switch.

``p4switch`` is the project's embedded switch. ``bmv2`` is ``simple_switch_grpc`` with ``p4c``, both from PATH.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TargetName = Literal["p4switch", "bmv2"]
TARGETS: tuple[TargetName, ...] = ("p4switch", "bmv2")

ROOT = Path(__file__).resolve().parent.parent
P4_PROGRAM = ROOT / "p4src" / "rack_mmu.p4"


class TargetError(RuntimeError):
    """A target's tools are missing, or its compiler refused the program."""


@dataclass(frozen=True)
class Pipeline:
    """A compiled program: P4Info (text) and the target's own device config, as a P4Runtime client pushes them."""

    p4info: Path
    device_config: Path


def _bmv2_tools() -> tuple[str, str]:
    """Paths of the compiler and the switch; TargetError in one line where they are absent."""
    compiler = shutil.which("p4c") or shutil.which("p4c-bm2-ss")
    switch = shutil.which("simple_switch_grpc")
    missing = [name for name, path in (("p4c (or p4c-bm2-ss)", compiler), ("simple_switch_grpc", switch)) if not path]
    if not compiler or not switch:
        raise TargetError(
            f"TARGET=bmv2 needs {' and '.join(missing)} in PATH: build them from github.com/p4lang/behavioral-model "
            "and github.com/p4lang/p4c (about an hour), or use TARGET=p4switch"
        )
    return compiler, switch


def _target(text: str) -> TargetName:
    """What an option or the environment names; an argparse type, because argparse does not hold a default against choices."""
    if text not in TARGETS:
        raise argparse.ArgumentTypeError(f"there is no target {text!r}; there are {', '.join(TARGETS)}")
    return text


def add_target_argument(parser: argparse.ArgumentParser) -> None:
    """``--target``, or the environment's TARGET."""
    parser.add_argument(
        "--target",
        type=_target,
        default=os.environ.get("TARGET", "p4switch"),
        metavar="{" + ",".join(TARGETS) + "}",
        help="what the Rack MMU runs on (default: $TARGET or p4switch)",
    )


def check(target: TargetName) -> None:
    """Raise TargetError when the target cannot be used on this machine."""
    if target == "bmv2":
        _bmv2_tools()


def compile_command(target: TargetName, program: Path, out: Path) -> tuple[list[str], Pipeline]:
    """The command that compiles ``program`` into ``out`` and what it leaves there."""
    stem = program.stem
    p4info = out / f"{stem}.p4info.txtpb"
    if target == "p4switch":
        config = out / f"{stem}.ir.json"
        command = [
            sys.executable,
            "-m",
            "p4switch",
            "compile",
            str(program),
            "-o",
            str(config),
            "--p4info",
            str(p4info),
        ]
        return command, Pipeline(p4info, config)
    compiler, _ = _bmv2_tools()
    config = out / f"{stem}.json"
    command = [compiler, "--p4runtime-files", str(p4info), "-o"]
    if Path(compiler).name == "p4c":
        command[1:1] = ["--target", "bmv2", "--arch", "v1model"]
        command += [str(out), str(program)]
    else:
        command += [str(config), str(program)]
    return command, Pipeline(p4info, config)


def compile_program(target: TargetName, out: Path, program: Path = P4_PROGRAM) -> Pipeline:
    """Compile the program; TargetError carries the compiler's diagnostics."""
    out.mkdir(parents=True, exist_ok=True)
    command, pipeline = compile_command(target, program, out)
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        raise TargetError(f"{program} does not compile:\n{result.stderr or result.stdout}")
    return pipeline


def switch_command(
    target: TargetName,
    device_id: int,
    ports: Mapping[int, str],
    grpc_address: str,
    cpu_port: int,
    pcap: Path | None = None,
    ready_file: Path | None = None,
) -> list[str]:
    """The command line of a switch without a program (the controller pushes it); ``ports`` maps numbers to interfaces."""
    interfaces = [f for port, name in sorted(ports.items()) for f in ("-i", f"{port}@{name}")]
    if target == "p4switch":
        command = [sys.executable, "-m", "p4switch", "run", "--no-p4", "--device-id", str(device_id), *interfaces]
        command += ["--grpc-addr", grpc_address, "--cpu-port", str(cpu_port)]
        command += ["--pcap", str(pcap)] if pcap else []
        command += ["--ready-file", str(ready_file)] if ready_file else []
        return command
    _, switch = _bmv2_tools()
    command = [switch, "--no-p4", "--device-id", str(device_id), *interfaces]
    command += ["--pcap", str(pcap)] if pcap else []
    return [*command, "--", "--grpc-server-addr", grpc_address, "--cpu-port", str(cpu_port)]
