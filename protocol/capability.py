"""Capabilities to take memory from another process: tokens of a group, or k of n shares of its secret (paper, section 3).

A group has a secret of 16 bytes. Whoever has it makes tokens: a MAC over group, process and expiry, good for that process until
then. Or the secret is cut into n shares, any k of which together are as good as a token: what a crashed peer held can be taken
when k others agree. The controller keeps the secret and checks; policy, that is who gets what, is the application's.
"""

from __future__ import annotations

import hmac
import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from Crypto.Protocol.SecretSharing import Shamir

SECRET_BYTES = 16
MAC_BYTES = 32
MAX_SHARES = 32
_HEAD = struct.Struct("!BB")  # kind, number of shares
_TOKEN = struct.Struct(f"!Q{MAC_BYTES}s")  # expiry, MAC
_SHARE = struct.Struct(f"!B{SECRET_BYTES}s")
_IS_TOKEN, _IS_SHARES = 1, 2
_SIGNED = struct.Struct("!20sIHQ")
_PURPOSE = b"rack-mmu steal token"


class CapabilityError(ValueError):
    """Bytes or numbers that are no capability."""


@dataclass(frozen=True)
class Token:
    """Good for one process until ``expires`` (seconds since 1970, UTC)."""

    expires: int
    mac: bytes


@dataclass(frozen=True)
class Share:
    """One of n parts of a group's secret; ``index`` counts from 1."""

    index: int
    value: bytes

    def __str__(self) -> str:
        return f"{self.index}-{self.value.hex()}"

    @classmethod
    def parse(cls, text: str) -> Share:
        """The share that ``str`` wrote. Raises CapabilityError."""
        index, dash, value = text.partition("-")
        try:
            share = cls(int(index), bytes.fromhex(value))
        except ValueError:
            raise CapabilityError(f"{text!r} is no share; expected INDEX-HEX") from None
        if not dash or not 1 <= share.index <= 255 or len(share.value) != SECRET_BYTES:
            raise CapabilityError(f"{text!r} is no share; expected an index from 1 and {SECRET_BYTES} bytes in hex")
        return share


Capability = Token | tuple[Share, ...]


def new_secret() -> bytes:
    """A group's secret."""
    return secrets.token_bytes(SECRET_BYTES)


def split(secret: bytes, needed: int, total: int) -> tuple[Share, ...]:
    """The secret as ``total`` shares, of which any ``needed`` restore it (Shamir's scheme). Raises CapabilityError."""
    if not 1 <= needed <= total <= MAX_SHARES:
        raise CapabilityError(f"{needed} of {total} shares; 1 <= needed <= total <= {MAX_SHARES}")
    if needed == 1:  # the scheme's polynomial is a constant then: each share is the secret
        return tuple(Share(i, secret) for i in range(1, total + 1))
    return tuple(Share(i, value) for i, value in Shamir.split(needed, total, secret))


def _mac(secret: bytes, group: int, pid: int, expires: int) -> bytes:
    return hmac.digest(secret, _SIGNED.pack(_PURPOSE, group, pid, expires), "sha256")


def mint(secret: bytes, group: int, pid: int, expires: int) -> Token:
    """A token that lets process ``pid`` take the group's memory until ``expires``."""
    return Token(expires, _mac(secret, group, pid, expires))


def token_is_genuine(token: Token, secret: bytes, group: int, pid: int) -> bool:
    """Whether the group's secret made this token for this process; its expiry is checked apart."""
    return hmac.compare_digest(token.mac, _mac(secret, group, pid, token.expires))


def shares_are_genuine(shares: Sequence[Share], secret: bytes, needed: int) -> bool:
    """Whether these are at least ``needed`` different shares of the secret, and no other among them."""
    if len(shares) < needed or len({s.index for s in shares}) != len(shares):
        return False
    if needed == 1:
        return all(hmac.compare_digest(s.value, secret) for s in shares)
    for last in shares[needed - 1 :]:  # each one beyond the first k - 1 must fit as well
        found = Shamir.combine([(s.index, s.value) for s in (*shares[: needed - 1], last)])
        if not hmac.compare_digest(found, secret):
            return False
    return True


def pack(capability: Capability) -> bytes:
    """As it travels in a STEAL request."""
    if isinstance(capability, Token):
        return _HEAD.pack(_IS_TOKEN, 0) + _TOKEN.pack(capability.expires, capability.mac)
    if not 1 <= len(capability) <= MAX_SHARES:
        raise CapabilityError(f"{len(capability)} shares; 1 to {MAX_SHARES} are possible")
    return _HEAD.pack(_IS_SHARES, len(capability)) + b"".join(_SHARE.pack(s.index, s.value) for s in capability)


def unpack(data: bytes) -> Capability:
    """The inverse of :func:`pack`. Raises CapabilityError for anything else."""
    try:
        kind, count = _HEAD.unpack_from(data)
        if kind == _IS_TOKEN and count == 0 and len(data) == _HEAD.size + _TOKEN.size:
            return Token(*_TOKEN.unpack_from(data, _HEAD.size))
        if kind == _IS_SHARES and 1 <= count <= MAX_SHARES and len(data) == _HEAD.size + count * _SHARE.size:
            shares = tuple(Share(*_SHARE.unpack_from(data, _HEAD.size + i * _SHARE.size)) for i in range(count))
            if all(share.index for share in shares):  # share 0 would be the secret itself
                return shares
    except struct.error:
        pass
    raise CapabilityError(f"{len(data)} bytes that are neither a token nor shares")
