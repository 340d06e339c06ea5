"""The cache's files: whole and one's own, or absent."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from p4switch import cache


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P4SWITCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_written_and_read(place: Path) -> None:
    assert cache.read("a") is None
    assert cache.find("a") is None
    assert cache.write("a", b"content") == place / "a"
    assert cache.read("a") == b"content"
    assert cache.find("a") == place / "a"
    assert cache.write("a", b"") == place / "a"
    assert cache.read("a") == b""
    assert place.stat().st_mode & 0o777 == 0o700
    assert [p.name for p in place.iterdir()] == ["a"]


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[1:], lambda b: b"x" + b[1:], lambda b: b + b"x", lambda b: b""]
)
def test_damaged_files_are_absent(place: Path, damage: object) -> None:
    path = cache.write("a", b"content")
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert cache.read("a") is None
    cache.write("a", b"content")
    assert cache.read("a") == b"content"


def test_files_that_others_could_have_put_there_are_absent(place: Path, tmp_path: Path) -> None:
    path = cache.write("a", b"content")
    path.chmod(0o720)
    assert cache.read("a") is None
    path.chmod(0o700)
    assert cache.read("a") == b"content"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert cache.read("a") is None
    path.unlink()
    path.mkdir()
    assert cache.read("a") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="chown needs root")
def test_files_of_others_are_absent(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    os.chown(cache.write("a", b"content"), 12345, 12345)
    assert cache.read("a") is None
    monkeypatch.setenv("SUDO_UID", "12345")
    assert cache.read("a") == b"content"


def test_directories_that_others_could_replace_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "shared"
    monkeypatch.setenv("P4SWITCH_CACHE", str(shared / "cache"))
    cache.write("a", b"content")
    shared.chmod(0o777)
    with pytest.raises(cache.CacheError, match=f"everybody may write {shared}, and so replace it"):
        cache.read("a")
    shared.chmod(0o1777)  # sticky, as /tmp: only the owner may rename
    assert cache.read("a") == b"content"
    link = tmp_path / "link"
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    link.symlink_to(tmp_path / "open")
    monkeypatch.setenv("P4SWITCH_CACHE", str(link))
    with pytest.raises(cache.CacheError, match="only uid"):
        cache.read("a")
    (tmp_path / "file").touch()
    monkeypatch.setenv("P4SWITCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(cache.CacheError, match="P4SWITCH_CACHE names another"):
        cache.read("a")


def test_many_writers_of_one_name(place: Path) -> None:
    contents = [bytes([n]) * 100_000 for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda c: (cache.write("a", c), cache.read("a"))[1], contents * 4))
    assert all(content in contents for content in seen)
    assert [p.name for p in place.iterdir()] == ["a"]


def test_what_is_not_used_goes(place: Path) -> None:
    month, hours = time.time() - 31 * 86400, time.time() - 2 * 3600
    for name in ("old", "used", ".build-abandoned", ".build-running"):
        cache.write(name, b"content")
    (place / ".build-directory").mkdir()
    (place / ".build-directory" / "file").touch()
    for name, when in (("old", month), ("used", month), (".build-abandoned", hours), (".build-directory", hours)):
        os.utime(place / name, (when, when))
    assert cache.read("used") == b"content"
    cache.write("new", b"content")
    assert sorted(p.name for p in place.iterdir()) == [".build-running", "new", "used"]


def test_the_oldest_of_too_many_go(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_MOST_FILES", 3)
    for number in range(5):
        path = cache.write(f"file{number}", b"content")
        when = time.time() - 100 + number
        os.utime(path, (when, when))
    assert sorted(p.name for p in place.iterdir()) == ["file2", "file3", "file4"]


def test_keys_know_where_parts_end() -> None:
    keys = {cache.key(parts) for parts in (["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], [b"abc", "d"])}
    assert len(keys) == 5
    assert cache.key(["abc"]) == cache.key([b"abc"])
