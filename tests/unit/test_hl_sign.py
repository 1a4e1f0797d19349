"""The signing chain against the published golden values, an independent msgpack and itself."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zq_daemon.errors import CredentialError
from zq_daemon.venue.hyperliquid.sign import (
    AgentKey,
    Signature,
    action_hash,
    keccak256,
    recover_signer,
    sign_l1_action,
)

SECRET = "0x0123456789012345678901234567890123456789012345678901234567890123"
KEY = AgentKey.from_text(SECRET)
CONNECTION_ID = keccak256(b"anything")
ACTION = {
    "type": "order",
    "orders": [
        {
            "a": 1,
            "b": True,
            "p": "100",
            "s": "100",
            "r": False,
            "t": {"limit": {"tif": "Gtc"}},
            "c": "0x00000000000000000000000000000001",
        }
    ],
    "grouping": "na",
}


def test_keccak_is_not_sha3():
    empty = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak256(b"").hex() == empty


def test_the_golden_chain():
    connection_id = action_hash(ACTION, 0, None, None)
    assert connection_id.hex() == "0ba500cedd8f4ba6ded620a0b1cd04f124d9ba745e2e2893fcc763bcc1444af5"
    signature = sign_l1_action(KEY, connection_id, "mainnet")
    assert signature == Signature(
        0x41AE18E8239A56CACBC5DAD94D45D0B747E5DA11AD564077FCAC71277A946E3,
        0x3C61F667E747404FE7EEA8F90AB0E76CC12CE60270438B2058324681A00116DA,
        27,
    )
    assert signature.to_wire() == {
        "r": "0x41ae18e8239a56cacbc5dad94d45d0b747e5da11ad564077fcac71277a946e3",
        "s": "0x3c61f667e747404fe7eea8f90ab0e76cc12ce60270438b2058324681a00116da",
        "v": 27,
    }


def test_the_address_of_the_golden_key():
    assert KEY.address == "0x14791697260e4c9a71f18484c9f997b308e59325"


@given(
    digest=st.binary(min_size=32, max_size=32),
    secret=st.integers(1, 2**255),
    network=st.sampled_from(["mainnet", "testnet"]),
)
@settings(max_examples=50)
def test_the_signer_is_recovered_and_networks_are_apart(digest, secret, network):
    key = AgentKey(secret.to_bytes(32, "big"))
    signed = sign_l1_action(key, digest, network)
    assert signed.v in (27, 28)
    assert recover_signer(digest, signed.r, signed.s, signed.v, network) == key.address
    other = "testnet" if network == "mainnet" else "mainnet"
    assert recover_signer(digest, signed.r, signed.s, signed.v, other) != key.address


@pytest.mark.parametrize(
    ("r", "s", "v"),
    [(-1, 1, 27), (1, 2**256, 27), (1, 1, 29), (1, 1, 0), (0, 0, 27), (2**256 - 1, 1, 28)],
)
def test_an_impossible_signature_is_a_value_error(r, s, v):
    with pytest.raises(ValueError, match=r"."):
        recover_signer(CONNECTION_ID, r, s, v, "mainnet")


def test_nonce_vault_and_expiry_are_appended():
    vault = "0x" + "Ab" * 20
    packed = _pack(ACTION)
    nonce = (1_700_000_000_000).to_bytes(8, "big")
    expiry = (1_700_000_015_000).to_bytes(8, "big")
    assert action_hash(ACTION, 1_700_000_000_000, None, None) == keccak256(packed + nonce + b"\x00")
    assert action_hash(ACTION, 1_700_000_000_000, vault, 1_700_000_015_000) == keccak256(
        packed + nonce + b"\x01" + b"\xab" * 20 + b"\x00" + expiry
    )


@pytest.mark.parametrize(
    ("nonce", "vault", "expires"),
    [(-1, None, None), (2**64, None, None), (0, "0x12", None), (0, None, 2**64)],
)
def test_what_cannot_be_hashed_is_a_value_error(nonce, vault, expires):
    with pytest.raises(ValueError, match=r"64-bit|vault"):
        action_hash(ACTION, nonce, vault, expires)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2**64 - 1) | st.text(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=40), inner, max_size=20)
    ),
    max_leaves=30,
)


@given(st.dictionaries(st.text(max_size=40), _VALUES, max_size=20))
@settings(max_examples=60)
def test_the_packing_is_the_minimal_one_of_the_msgpack_specification(action):
    assert action_hash(action, 7, None, None) == keccak256(_pack(action) + bytes(7) + b"\x07\x00")


@pytest.mark.parametrize("number", [0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63])
def test_integers_are_packed_minimally(number):
    action = {"o": number, "s": "x" * min(number, 70_000)}
    assert action_hash(action, 0, None, None) == keccak256(_pack(action) + bytes(8) + b"\x00")


@pytest.mark.parametrize(
    "secret", ["", "0x12", "zz" * 32, "0x" + "00" * 32, "ff" * 32, SECRET + "0"]
)
def test_a_bad_key_is_refused_without_being_quoted(secret):
    with pytest.raises(CredentialError) as refused:
        AgentKey.from_text(secret)
    assert not secret or secret not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_a_key_is_read_with_or_without_its_prefix_and_surrounding_blanks():
    assert AgentKey.from_text(f" {SECRET[2:].upper()}\n").address == KEY.address


def test_neither_key_nor_signature_shows_itself():
    assert SECRET[2:] not in repr(KEY)
    assert KEY.address in repr(KEY)
    signature = sign_l1_action(KEY, CONNECTION_ID, "mainnet")
    assert str(signature.r) not in repr(signature)
    assert f"{signature.r:x}" not in f"{signature}"
    with pytest.raises(TypeError, match="never serialised"):
        pickle.dumps(KEY)


def _pack(value: Any) -> bytes:
    """Msgpack by the book, written independently of any library."""
    match value:
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if value else b"\xc2"
        case int():
            return _pack_uint(value)
        case str():
            text = value.encode()
            return _head(len(text), (0xA0, 32), 0xD9, 0xDA, 0xDB) + text
        case list():
            head = _head(len(value), (0x90, 16), None, 0xDC, 0xDD)
            return head + b"".join(map(_pack, value))
        case dict():
            head = _head(len(value), (0x80, 16), None, 0xDE, 0xDF)
            return head + b"".join(_pack(k) + _pack(v) for k, v in value.items())
    raise AssertionError(value)


def _pack_uint(number: int) -> bytes:
    if number < 128:
        return bytes([number])
    for code, size in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)):
        if number < 1 << 8 * size:
            return bytes([code]) + number.to_bytes(size, "big")
    raise AssertionError(number)


def _head(length: int, fix: tuple[int, int], one: int | None, two: int, four: int) -> bytes:
    base, limit = fix
    if length < limit:
        return bytes([base + length])
    if one is not None and length < 256:
        return bytes([one, length])
    if length < 65536:
        return bytes([two]) + length.to_bytes(2, "big")
    return bytes([four]) + length.to_bytes(4, "big")
