"""Tokens of the API: who bears one may do what its role may.

A token is 256 random bits behind a public name, so a plain hash of it is as good as a slow one: nothing can be tried out. Only
hashes are stored, in a file that only its owner may read; they are compared in constant time.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import msgspec

OPERATOR_TOKEN = "operator.token"  # in a rack's run directory
MOST_TOKENS = 1024
MOST_PIDS = 256  # of one token
LONGEST_NAME = 64
_TEXT = re.compile(r"rack\.([0-9a-f]{16})\.([0-9a-f]{64})")


class Role(StrEnum):
    """What the bearer of a token is."""

    OBSERVER = "observer"  # sees everything, changes nothing
    PROCESS = "process"  # acts for some processes, and sees what is theirs
    OPERATOR = "operator"  # may do everything


class TokenError(ValueError):
    """A token, or a file of tokens, cannot be made or used; the message says why."""


class Token(msgspec.Struct, frozen=True):
    """What is stored of a token. ``processes`` are those that it acts for: pid, and the number that tells the process from a
    later one with the same pid (``Process.serial``)."""

    id: str
    name: str
    role: Role
    digest: str  # SHA-256 of the secret part, hex
    made: float  # seconds since 1970
    expires: float | None = None
    processes: dict[int, int] = {}

    def acts_for(self, serial_of: Callable[[int], int | None]) -> frozenset[int]:
        """The pids that it acts for, of those that live (None: it does not)."""
        return frozenset(pid for pid, serial in self.processes.items() if serial_of(pid) == serial)


def digest(secret: str) -> str:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Tokens:
    """The tokens of a file. Thread-safe; several processes may use the file in turn."""

    def __init__(self, path: Path):
        """Open the file, or make it. Raises TokenError, OSError."""
        self.path = path
        self._lock = threading.Lock()
        self._tokens: dict[str, Token] = {}
        with self._changing():
            pass

    def find(self, text: str, now: float | None = None) -> Token | None:
        """The token that this is, unless it is unknown, revoked or expired."""
        found = _TEXT.fullmatch(text)
        identity, secret = found.groups() if found else ("", "")
        token = self._tokens.get(identity)
        genuine = hmac.compare_digest(digest(secret), digest("") if token is None else token.digest)
        if token is None or not genuine:
            return None
        expired = token.expires is not None and token.expires <= (time.time() if now is None else now)
        return None if expired else token

    def is_operators(self, text: str) -> bool:
        """Whether this is a good token of an operator."""
        found = self.find(text)
        return found is not None and found.role is Role.OPERATOR

    def create(
        self, name: str, role: Role, processes: Mapping[int, int] | None = None, life: float | None = None
    ) -> tuple[Token, str]:
        """Make a token; what is stored, and the text that its bearer shows (it is nowhere else). ``life`` is in seconds.
        Raises TokenError, OSError."""
        if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            raise TokenError(f"a token's name has 1 to {LONGEST_NAME} printable characters")
        if (role is Role.PROCESS) != bool(processes) or len(processes or {}) > MOST_PIDS:
            raise TokenError(f"a token of role process acts for 1 to {MOST_PIDS} processes, others for none")
        if life is not None and not life > 0:
            raise TokenError(f"a token cannot live {life} seconds")
        identity, secret = secrets.token_hex(8), secrets.token_hex(32)
        now = time.time()
        expires = None if life is None else now + life
        token = Token(identity, name, role, digest(secret), now, expires, dict(processes or {}))
        with self._changing() as tokens:
            for old in [t for t in tokens.values() if t.expires is not None and t.expires <= now]:
                del tokens[old.id]
            if len(tokens) >= MOST_TOKENS:
                raise TokenError(f"there are {MOST_TOKENS} tokens already")
            tokens[identity] = token
        return token, f"rack.{identity}.{secret}"

    def revoke(self, identity: str) -> Token:
        """Forget a token. Raises TokenError when there is none, or it is the operator's last; OSError."""
        with self._changing() as tokens:
            token = tokens.get(identity)
            if token is None:
                raise TokenError(f"there is no token {identity!r}")
            if token.role is Role.OPERATOR:
                others = [
                    t for t in tokens.values() if t.role is Role.OPERATOR and t.id != identity and t.expires is None
                ]
                if not others:
                    raise TokenError("nobody could make tokens any more: it is the last token of an operator")
            del tokens[identity]
        return token

    def all(self) -> list[Token]:
        """All of them, the oldest first."""
        return sorted(self._tokens.values(), key=lambda t: t.made)

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Token]]:
        """The file's tokens, to change; they are written back, atomically, unless an exception passes."""
        with self._lock, _locked(self.path):
            tokens = {t.id: t for t in _load(self.path)}
            before = dict(tokens)
            yield tokens
            if tokens != before or not self.path.exists():
                _store(self.path, list(tokens.values()))
            self._tokens = tokens


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _load(path: Path) -> list[Token]:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            text = file.read()
    except FileNotFoundError:
        return []
    if mode & 0o077:
        raise TokenError(f"{path} has mode {mode:o}: others may read or change it; make it 600")
    try:
        return msgspec.json.decode(text, type=list[Token])
    except msgspec.MsgspecError as error:
        raise TokenError(f"{path} is no file of tokens: {error}") from None


def _store(path: Path, tokens: list[Token]) -> None:
    write_private(path, msgspec.json.format(msgspec.json.encode(tokens)) + b"\n")


def write_private(path: Path, data: bytes, owner: int = -1) -> None:
    """Write a file, atomically, that only its owner (a user id; -1: this process's) may read."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if owner >= 0:
            os.fchown(descriptor, owner, -1)
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)


def read_token(path: Path) -> str:
    """The text of a token from a file. Raises OSError, TokenError."""
    text = path.read_text().strip()
    if not _TEXT.fullmatch(text):
        raise TokenError(f"{path} holds no token")
    return text


def of_running_rack(api: str, run_root: Path) -> Path | None:
    """Where the launcher of the rack with this API has put its operator's token; None when no rack with it runs here."""
    for state in sorted(run_root.glob("*/state.json")):
        try:
            if json.loads(state.read_bytes()).get("api") == api.rstrip("/"):
                return state.with_name(OPERATOR_TOKEN)
        except (OSError, ValueError, AttributeError):
            continue
    return None
