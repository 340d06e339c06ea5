"""The documents point at what is there: links, anchors, paths, make targets, commands and their subcommands."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from p4switch.stf import StfError
from p4switch.stf.script import parse_script

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("[a-z]*/README.md")])
_FENCE = re.compile(r"^```.*?^```$|^    [^\n]*$", re.MULTILINE | re.DOTALL)
_TOP = (
    "apps",
    "bench",
    "controller",
    "docs",
    "experiments",
    "fuzz",
    "hosts",
    "models",
    "p4src",
    "p4switch",
    "protocol",
)
_TOP += ("scripts", "tests", "topologies")


def names(documents: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in documents]


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", document.read_text()), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {text.replace(" ", "-") for text in plain}


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_links(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists(), f"{target} leads nowhere"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{target}: no such heading; there are {sorted(anchors(path))}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_paths(document: Path) -> None:
    """Whatever in code quotes begins like a path of the repository is one; ``*`` may stand in it."""
    if document.name == "CHANGELOG.md":  # tells of what was
        return
    for quoted in re.findall(r"`([^`\n]+)`", _FENCE.sub("", document.read_text())):
        for word in quoted.split():
            top, slash, _ = word.partition("/")
            if slash and top in _TOP and re.fullmatch(r"[\w./*-]+", word):
                assert any(ROOT.glob(word.rstrip("/"))), f"`{word}` is not there"


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_make_targets(document: Path) -> None:
    targets = re.findall(r"^([\w-]+%?):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    wanted = set(re.findall(r"(?:^|[`\s])make ([a-z][\w-]*)(?=[`\s]|$)", commands(document), re.MULTILINE))
    there = {name for name in wanted for target in targets if fnmatchcase(name, target.replace("%", "*"))}
    assert wanted == there, f"make {wanted - there}: no such target"


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_modules(document: Path) -> None:
    for module in set(re.findall(r"python -m ([a-z_][\w.]*)", commands(document))):
        found = importlib.util.find_spec(module.split(".")[0]) and (
            importlib.util.find_spec(module) if "." in module else importlib.util.find_spec(f"{module}.__main__")
        )
        assert found or module in ("venv", "p4runtime_sh"), f"python -m {module}: no such module"


def test_decisions_are_numbered() -> None:
    numbers = sorted(int(path.name[:4]) for path in (ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_package_is_in_the_architecture() -> None:
    table = (ROOT / "docs" / "architecture.md").read_text()
    code = {path.parent for pattern in ("*/__init__.py", "*/*.pml", "*/*.p4") for path in ROOT.glob(pattern)}
    code |= {path.parent for path in (ROOT / "p4switch").glob("*/__init__.py")}
    names = {f"`{path.relative_to(ROOT)}/`" for path in code if path.name != "tests"} - {"`p4switch/`"}
    assert not {name for name in names if name not in table}


def test_every_command_of_stf_is_described() -> None:
    with pytest.raises(StfError) as caught:
        parse_script("nonsense")
    known = set(re.findall(r"\b[a-z_]{3,}\b", str(caught.value).partition("there are")[2])) - {"and"}
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "stf.md").read_text(), re.MULTILINE)
    described = {quoted.split()[0] for row in rows for quoted in re.findall(r"`([^`]+)`", row)}
    assert described == known and len(known) > 20


def commands(document: Path) -> str:
    """What stands in code: quoted or in blocks."""
    text = document.read_text()
    return "\n".join([*_FENCE.findall(text), *re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))])


def test_every_make_target_is_explained() -> None:
    """``make help`` lists each target that is meant for people."""
    text = (ROOT / "Makefile").read_text()
    phony = set(re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE))
    shown = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, timeout=30).stdout
    assert {line.split()[1] for line in shown.splitlines()} >= {name for names in phony for name in names.split()}
