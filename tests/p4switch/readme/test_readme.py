"""p4switch/README.md is true: its commands run as they stand and print what it says, and every option is described."""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p4switch import __main__ as p4switch

ROOT = Path(__file__).parents[3]
README = ROOT / "p4switch" / "README.md"
MARK = "== block {} =="
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[str]:
    return [body for name, body in _BLOCK.findall(README.read_text()) if name == kind]


def expectations() -> Iterator[tuple[int, str]]:
    """Lines that must come out of a block, with the block's index."""
    index = -1
    for kind, body in _BLOCK.findall(README.read_text()):
        if kind == "sh":
            index += 1
        elif kind == "text":
            for line in body.splitlines():
                yield index, line


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What each block printed. All run in one shell, in network, mount and process namespaces of their own."""
    here = tmp_path_factory.mktemp("tour")
    (here / "p4switch").symlink_to(ROOT / "p4switch")
    (here / "out" / "tour").mkdir(parents=True)
    commands = "\n".join(f"echo '{MARK.format(i)}'\n{body}" for i, body in enumerate(blocks("sh")))
    (here / "tour.sh").write_text(
        "mount -t proc proc /proc\nmkdir -p /run/netns\nmount -t tmpfs none /run/netns\nip link set lo up\n"
        f"set -eu -o pipefail\n{commands}"
    )
    (here / "bin").mkdir()
    (here / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (here / "bin" / "python").chmod(0o755)
    environment = {**os.environ, "PATH": f"{here / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": "."}
    isolated = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "bash", "tour.sh"]
    log = here / "log"
    with log.open("w") as sink:
        done = subprocess.run(
            isolated, cwd=here, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, timeout=90
        )
    text = log.read_text()
    assert done.returncode == 0, text
    parts = re.split("^" + MARK.format(r"\d+") + "$", text, flags=re.MULTILINE)
    return parts[1:]


@pytest.mark.root
def test_every_block_runs(outputs: list[str]) -> None:
    assert len(outputs) == len(blocks("sh")) >= 10


@pytest.mark.root
def test_output_is_as_shown(outputs: list[str]) -> None:
    wanted = list(expectations())
    assert len(wanted) > 10
    for index, line in wanted:
        pattern = re.escape(line).replace(re.escape("..."), ".*")
        assert re.search(pattern, outputs[index]), f"{line!r} is not in:\n{outputs[index]}"


def test_no_block_escapes() -> None:
    """Only what installs or becomes root is not run."""
    assert {kind for kind, _ in _BLOCK.findall(README.read_text())} == {"", "console", "sh", "text"}
    commands = [line[2:].split()[0] for body in blocks("console") for line in body.splitlines()]
    assert commands == ["sudo", "python3", ".venv/bin/pip", "sudo", ".", "mkdir"]


def test_packages_are_those_of_the_project() -> None:
    packages = re.search(r"apt-get install --no-install-recommends (.*)", README.read_text())
    assert packages is not None
    known = [line.split("#")[0].strip() for line in (ROOT / "scripts" / "debian-packages.txt").read_text().splitlines()]
    assert set(packages[1].split()) <= set(known)


def test_requirements_are_what_is_imported() -> None:
    wanted = {"scapy"}  # only the tour
    for path in (ROOT / "p4switch").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                wanted |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                wanted.add(node.module.split(".")[0])
    names = {"google": "protobuf", "grpc": "grpcio", "_cffi_backend": "cffi"}
    required = (ROOT / "p4switch" / "requirements.txt").read_text().splitlines()
    given = {line.split("#")[0].strip() for line in required} - {""}
    assert given == {names.get(name, name) for name in wanted - sys.stdlib_module_names - {"p4switch"}}
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert given <= pinned


def options(command: str) -> set[str]:
    parser = argparse.ArgumentParser()
    importlib.import_module(f"p4switch.cli.{command}").add_arguments(parser)
    found = {option for action in parser._actions for option in action.option_strings} - {"-h", "--help", "--Wno-all"}
    kinds = {option for option in found if option.startswith("--Wno-")}
    return found - kinds | ({"--Wno-KIND", "--Wno-all"} if kinds else set())


def described(text: str) -> set[str]:
    """Options that stand in code quotes."""
    return {word for quoted in re.findall(r"`([^`]+)`", text) for word in quoted.split() if word.startswith("-")}


def test_every_option_is_described() -> None:
    reference = README.read_text().split("## Commands")[1].replace("python -m p4switch", "p4switch")
    commands = {name for name in p4switch._COMMANDS if f"`{name} " in reference or f"`{name}`" in reference}
    assert commands == set(p4switch._COMMANDS)
    wanted = {option for command in commands for option in options(command)}
    missing, gone = wanted - described(reference), described(reference) - wanted - {"--help"}
    assert not missing, f"describe in p4switch/README.md: {sorted(missing)}"
    assert not gone, f"described in p4switch/README.md, but not there: {sorted(gone)}"


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", README.read_text()):
        assert (README.parent / target).exists(), target
