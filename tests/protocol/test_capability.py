"""Tokens and shares: what is genuine passes, nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.capability import (
    MAX_SHARES,
    CapabilityError,
    Share,
    Token,
    mint,
    new_secret,
    pack,
    shares_are_genuine,
    split,
    token_is_genuine,
    unpack,
)

SECRETS = st.binary(min_size=16, max_size=16)
SHARES = st.builds(Share, st.integers(1, 255), SECRETS)
CAPABILITIES = st.one_of(
    st.builds(Token, st.integers(0, 2**64 - 1), st.binary(min_size=32, max_size=32)),
    st.lists(SHARES, min_size=1, max_size=MAX_SHARES).map(tuple),
)


@given(SECRETS, st.integers(0, 2**32 - 1), st.integers(0, 0xFFFF), st.integers(0, 2**64 - 1))
def test_a_token_is_good_for_its_group_process_and_expiry(secret: bytes, group: int, pid: int, expires: int) -> None:
    token = mint(secret, group, pid, expires)
    assert token_is_genuine(token, secret, group, pid)
    assert not token_is_genuine(token, secret, group ^ 1, pid)
    assert not token_is_genuine(token, secret, group, pid ^ 1)
    assert not token_is_genuine(Token(expires ^ 1, token.mac), secret, group, pid)
    assert not token_is_genuine(token, bytes([secret[0] ^ 1]) + secret[1:], group, pid)


@given(st.data())
def test_any_k_shares_are_enough_and_fewer_are_not(data: st.DataObject) -> None:
    total = data.draw(st.integers(1, 8))
    needed = data.draw(st.integers(1, total))
    secret = new_secret()
    shares = data.draw(st.permutations(split(secret, needed, total)))
    assert shares_are_genuine(shares[:needed], secret, needed)
    assert shares_are_genuine(shares, secret, needed)
    assert not shares_are_genuine(shares[: needed - 1], secret, needed)
    if needed > 1:
        assert not shares_are_genuine([*shares[: needed - 1], shares[0]], secret, needed), "one share twice"
        forged = Share(shares[needed - 1].index, new_secret())
        assert not shares_are_genuine([*shares[: needed - 1], forged], secret, needed)
        assert not shares_are_genuine([*shares[:needed], Share(200, new_secret())], secret, needed)


@given(CAPABILITIES)
def test_they_travel_unchanged(capability: Token | tuple[Share, ...]) -> None:
    assert unpack(pack(capability)) == capability


@given(st.binary(max_size=700))
def test_other_bytes_are_refused(data: bytes) -> None:
    try:
        capability = unpack(data)
    except CapabilityError:
        return
    assert pack(capability) == data


@given(SHARES)
def test_shares_as_text(share: Share) -> None:
    assert Share.parse(str(share)) == share


@pytest.mark.parametrize("text", ["", "1", "x-00", "0-" + "00" * 16, "1-" + "00" * 15, "300-" + "00" * 16, "1-zz"])
def test_text_that_is_no_share(text: str) -> None:
    with pytest.raises(CapabilityError, match="share"):
        Share.parse(text)


@pytest.mark.parametrize(("needed", "total"), [(0, 3), (4, 3), (1, 0), (2, MAX_SHARES + 1)])
def test_impossible_thresholds(needed: int, total: int) -> None:
    with pytest.raises(CapabilityError, match="shares"):
        split(new_secret(), needed, total)
