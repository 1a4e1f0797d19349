"""Signing of Hyperliquid's L1 actions: the action hash, its EIP-712 digest, secp256k1 signatures.

Owns the bytes that are signed and the agent key. Never sends, never logs, never shows the key.
Order entry signs with it; the embedded exchange recovers the signer with it.

The chain, as the venue's SDK does it: msgpack of the action in insertion order, the nonce and the
vault address and the expiry appended, keccak256: the *connection id*. It is the one variable of
the EIP-712 struct `Agent(string source, bytes32 connectionId)` in the domain `Exchange` version 1,
chain 1337, contract 0, whose source is `a` on mainnet and `b` on testnet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import coincurve
import msgspec
from attrs import frozen
from Crypto.Hash import keccak

from zq_daemon.errors import CredentialError

Network = Literal["mainnet", "testnet"]

ADDRESS_PATTERN = re.compile(r"0x[0-9a-f]{40}")
_SECRET_PATTERN = re.compile(r"(?:0[xX])?([0-9a-fA-F]{64})")
_U64 = 1 << 64
_U256 = 1 << 256
_FIRST_RECOVERY_ID = 27
_encode = msgspec.msgpack.Encoder().encode


@frozen
class Signature:
    """An Ethereum signature; *v* is 27 or 28. Its repr shows nothing: it authorises an action."""

    r: int
    s: int
    v: int

    def __repr__(self) -> str:
        return "Signature(…)"

    def to_wire(self) -> dict[str, str | int]:
        """As the venue's JSON has it: lower-case hexadecimal without leading zeros."""
        return {"r": f"0x{self.r:x}", "s": f"0x{self.s:x}", "v": self.v}


class AgentKey:
    """A secp256k1 private key that never shows itself; *address* is its public address."""

    __slots__ = ("_key", "address")

    def __init__(self, secret: bytes) -> None:
        """From 32 bytes; ValueError (without the secret) when they are no valid key."""
        self._key = coincurve.PrivateKey(secret)
        self.address = _address(self._key.public_key)

    @classmethod
    def from_text(cls, secret: str) -> AgentKey:
        """From 64 hexadecimal digits, with or without `0x`; CredentialError never quotes them."""
        match = _SECRET_PATTERN.fullmatch(secret.strip())
        if match is None:
            raise CredentialError("agent key: expected 64 hexadecimal digits, with or without 0x")
        try:
            return cls(bytes.fromhex(match[1]))
        except ValueError:
            raise CredentialError("agent key: not a valid secp256k1 private key") from None

    def sign_digest(self, digest: bytes) -> Signature:
        """Sign 32 bytes (deterministic, RFC 6979)."""
        signed = self._key.sign_recoverable(digest, hasher=None)
        r, s = int.from_bytes(signed[:32], "big"), int.from_bytes(signed[32:64], "big")
        return Signature(r, s, _FIRST_RECOVERY_ID + signed[64])

    def __repr__(self) -> str:
        return f"AgentKey(address={self.address!r})"

    def __reduce__(self) -> str:
        raise TypeError("an agent key is never serialised")


def keccak256(data: bytes) -> bytes:
    """Ethereum's hash: Keccak with its original padding (not SHA3-256)."""
    return keccak.new(digest_bits=256, data=data).digest()


def action_hash(
    action: Mapping[str, Any],
    nonce: int,
    vault_address: str | None,
    expires_after_ms: int | None,
) -> bytes:
    """The connection id of *action*, whose keys must be in the venue's order.

    Takes mappings, lists, strings, booleans, None and integers of up to 64 bits. ValueError for a
    nonce or expiry outside of 64 bits or a malformed vault address.
    """
    parts = [_encode(action), _u64(nonce), _vault(vault_address)]
    if expires_after_ms is not None:
        parts += (b"\x00", _u64(expires_after_ms))
    return keccak256(b"".join(parts))


def sign_l1_action(key: AgentKey, connection_id: bytes, network: Network) -> Signature:
    """Sign the action whose hash is *connection_id* for *network*."""
    return key.sign_digest(_digest(connection_id, network))


def recover_signer(connection_id: bytes, r: int, s: int, v: int, network: Network) -> str:
    """The lower-case address that signed *connection_id*; ValueError: impossible signature."""
    return recover_address(_digest(connection_id, network), r, s, v)


def recover_address(digest: bytes, r: int, s: int, v: int) -> str:
    """The lower-case address that signed the 32 bytes; ValueError: impossible signature."""
    if not (0 <= r < _U256 and 0 <= s < _U256 and v in (27, 28)):
        raise ValueError("signature: r and s are 256-bit integers and v is 27 or 28")
    signature = b"%b%b%c" % (r.to_bytes(32, "big"), s.to_bytes(32, "big"), v - _FIRST_RECOVERY_ID)
    return _address(coincurve.PublicKey.from_signature_and_message(signature, digest, hasher=None))


def _u64(number: int) -> bytes:
    if not 0 <= number < _U64:
        raise ValueError(f"{number} is not an unsigned 64-bit integer")
    return number.to_bytes(8, "big")


def _vault(address: str | None) -> bytes:
    if address is None:
        return b"\x00"
    if not ADDRESS_PATTERN.fullmatch(address.lower()):
        raise ValueError(f"vault address {address!r}: expected 0x and 40 hexadecimal digits")
    return b"\x01" + bytes.fromhex(address[2:])


def _address(public_key: coincurve.PublicKey) -> str:
    return "0x" + keccak256(public_key.format(compressed=False)[1:])[-20:].hex()


def _digest(connection_id: bytes, network: Network) -> bytes:
    return keccak256(
        _EIP712_PREFIX + keccak256(_AGENT_TYPE + _SOURCE_HASH[network] + connection_id)
    )


_AGENT_TYPE = keccak256(b"Agent(string source,bytes32 connectionId)")
_SOURCE_HASH: Mapping[Network, bytes] = {"mainnet": keccak256(b"a"), "testnet": keccak256(b"b")}
_DOMAIN_TYPE = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
_EIP712_PREFIX = b"\x19\x01" + keccak256(
    keccak256(_DOMAIN_TYPE)
    + keccak256(b"Exchange")
    + keccak256(b"1")
    + (1337).to_bytes(32, "big")
    + bytes(32)
)
