"""Real text for the jobs, and what they must make of it, computed in another way: one process, plain Python, no remote memory."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

LICENCES = Path("/usr/share/common-licenses")  # Debian's base-files
LIBRARY = Path("/usr/lib/python3.11")  # libpython3-stdlib: 11 MB of text


def corpus(size: int) -> bytes:
    """``size`` bytes (up to the end of a line) of licences and the sources of Python's library, repeated where that is
    not enough."""
    found: list[bytes] = []
    have = 0
    while have < size:
        before = have
        for path in _files():
            text = path.read_bytes()
            found.append(text if text.endswith(b"\n") else text + b"\n")
            have += len(found[-1])
            if have >= size:
                break
        if have == before:
            raise FileNotFoundError(f"no text in {LICENCES} or {LIBRARY}")
    whole = b"".join(found).replace(b"\r", b"").replace(b"\x0c", b"").replace(b"\x0b", b"")
    return whole[: whole.rfind(b"\n", 0, size) + 1]


def available() -> int:
    """Bytes of text that there are; a larger corpus repeats them."""
    return sum(path.stat().st_size for path in _files())


def _files() -> list[Path]:
    licences = sorted(path for path in LICENCES.glob("*") if path.is_file() and not path.is_symlink())
    return licences + sorted(LIBRARY.rglob("*.py"))


def expected(job: str, text: bytes) -> object:
    """What the job must find."""
    if job == "sort":
        return sorted(line + b"\n" for line in text.split(b"\n")[:-1])
    words = re.compile(rb"[a-z_]+")
    if job == "word count":
        counts: Counter[bytes] = Counter()
        for match in words.finditer(text.lower()):
            counts[match.group()] += 1
        return dict(counts)
    lower = text.lower()
    index: dict[bytes, set[int]] = {}
    for match in words.finditer(lower):
        line = lower.rfind(b"\n", 0, match.start()) + 1
        index.setdefault(match.group(), set()).add(line // 4096)
    return index


def found(job: str, results: list[bytes]) -> object:
    """What the workers' results say, in the same form. A key that two partitions have makes it wrong."""
    lines = [line for result in results for line in result.split(b"\n")[:-1]]
    if job == "sort":
        return [line + b"\n" for line in lines]
    pairs = [line.split(b" ", 1) for line in lines]
    if len({word for word, _ in pairs}) != len(pairs):
        raise ValueError("a word is in two results")
    if job == "word count":
        return {word: int(count) for word, count in pairs}
    return {word: set(map(int, pages.split(b" "))) for word, pages in pairs}
