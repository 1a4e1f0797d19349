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


VAULT = "0x1719884eb866cb12b2287399b15f7db5e7d775ea"


def golden_order(terms: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The order of the published vectors."""
    order = {"a": 1, "b": True, "p": "100", "s": "100", "r": False, "t": terms} | more
    return {"type": "order", "orders": [order], "grouping": "na"}


_GTC = {"limit": {"tif": "Gtc"}}
_STOP = {"trigger": {"isMarket": True, "triggerPx": "103", "tpsl": "sl"}}
_DUMMY = {"type": "dummy", "num": 100_000_000_000}
GOLDEN: dict[str, tuple[dict[str, Any], str | None, Signature, Signature]] = {
    "dummy": (
        _DUMMY,
        None,
        Signature(
            0x53749D5B30552AEB2FCA34B530185976545BB22D0B3CE6F62E31BE961A59298,
            0x755C40BA9BF05223521753995ABB2F73AB3229BE8EC921F350CB447E384D8ED8,
            27,
        ),
        Signature(
            0x542AF61EF1F429707E3C76C5293C80D01F74EF853E34B76EFFFCB57E574F9510,
            0x17B8B32F086E8CDEDE991F1E2C529F5DD5297CBE8128500E00CBAF766204A613,
            28,
        ),
    ),
    "order": (
        golden_order(_GTC),
        None,
        Signature(
            0xD65369825A9DF5D80099E513CCE430311D7D26DDF477F5B3A33D2806B100D78E,
            0x2B54116FF64054968AA237C20CA9FF68000F977C93289157748A3162B6EA940E,
            28,
        ),
        Signature(
            0x82B2BA28E76B3D761093AADED1B1CDAD4960B3AF30212B343FB2E6CDFA4E3D54,
            0x6B53878FC99D26047F4D7E8C90EB98955A109F44209163F52D8DC4278CBBD9F5,
            27,
        ),
    ),
    "cloid": (
        ACTION,
        None,
        Signature(
            0x41AE18E8239A56CACBC5DAD94D45D0B747E5DA11AD564077FCAC71277A946E3,
            0x3C61F667E747404FE7EEA8F90AB0E76CC12CE60270438B2058324681A00116DA,
            27,
        ),
        Signature(
            0xEBA0664BED2676FC4E5A743BF89E5C7501AA6D870BDB9446E122C9466C5CD16D,
            0x7F3E74825C9114BC59086F1EEBEA2928C190FDFBFDE144827CB02B85BBE90988,
            28,
        ),
    ),
    "vault": (
        _DUMMY,
        VAULT,
        Signature(
            0x3C548DB75E479F8012ACF3000CA3A6B05606BC2EC0C29C50C515066A326239,
            0x4D402BE7396CE74FBBA3795769CDA45AEC00DC3125A984F2A9F23177B190DA2C,
            28,
        ),
        Signature(
            0xE281D2FB5C6E25CA01601F878E4D69C965BB598B88FAC58E475DD1F5E56C362B,
            0x7DDAD27E9A238D045C035BC606349D075D5C5CD00A6CD1DA23AB5C39D4EF0F60,
            27,
        ),
    ),
    "schedule": (
        {"type": "scheduleCancel"},
        None,
        Signature(
            0x6CDFB286702F5917E76CD9B3B8BF678FCC49AEC194C02A73E6D4F16891195DF9,
            0x6557AC307FA05D25B8D61F21FB8A938E703B3D9BF575F6717BA21EC61261B2A0,
            27,
        ),
        Signature(
            0xC75BB195C3F6A4E06B7D395ACC20BBB224F6D23CCFF7C6A26D327304E6EFAEED,
            0x342F8EDE109A29F2C0723BD5EFB9E9100E3BBB493F8FB5164EE3D385908233DF,
            28,
        ),
    ),
    "schedule time": (
        {"type": "scheduleCancel", "time": 123456789},
        None,
        Signature(
            0x609CB20C737945D070716DCC696BA030E9976FCF5EDAD87AFA7D877493109D55,
            0x16C685D63B5C7A04512D73F183B3D7A00DA5406FF1F8AAD33F8AE2163BAB758B,
            28,
        ),
        Signature(
            0x4E4F2DBD4107C69783E251B7E1057D9F2B9D11CEE213441CCFA2BE63516DC5BC,
            0x706C656B23428C8BA356D68DB207E11139EDE1670481A9E01AE2DFCDB0E1A678,
            27,
        ),
    ),
    "tpsl": (
        golden_order(_STOP),
        None,
        Signature(
            0x98343F2B5AE8E26BB2587DAAD3863BC70D8792B09AF1841B6FDD530A2065A3F9,
            0x6B5BB6BB0633B710AA22B721DD9DEE6D083646A5F8E581A20B545BE6C1FEB405,
            27,
        ),
        Signature(
            0x971C554D917C44E0E1B6CC45D8F9404F32172A9D3B3566262347D0302896A2E4,
            0x206257B104788F80450F8E786C329DAA589AA0B32BA96948201AE556D5637EAC,
            28,
        ),
    ),
}
"""By what is special: action, vault, signatures on mainnet and testnet; all with nonce 0."""


@pytest.mark.parametrize("name", GOLDEN)
def test_the_published_signatures(name):
    action, vault, mainnet, testnet = GOLDEN[name]
    digest = action_hash(action, 0, vault, None)
    assert sign_l1_action(KEY, digest, "mainnet").to_wire() == mainnet.to_wire()
    assert sign_l1_action(KEY, digest, "testnet").to_wire() == testnet.to_wire()


def test_the_published_hash_of_an_order_in_production():
    order = {"a": 4, "b": True, "p": "1670.1", "s": "0.0147", "r": False}
    action = {
        "type": "order",
        "orders": [order | {"t": {"limit": {"tif": "Ioc"}}}],
        "grouping": "na",
    }
    digest = action_hash(action, 1_677_777_606_040, None, None)
    assert digest.hex() == "0fcbeda5ae3c4950a548021552a4fea2226858c4453571bf3f24ba017eac2908"


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
