"""Actions that a wallet signs in readable form: EIP-712 structs of the venue's documented types.

Owns the types and their hashing. Transfers and the approval of agents are signed so, with the
account's own key, never with an agent's. Called by `envelope.Gate`; never looks at balances.

The domain is `HyperliquidSignTransaction` version 1, contract 0, on whatever chain the wallet says
(`signatureChainId`); `hyperliquidChain` in the message binds it to mainnet or testnet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zq_daemon.venue.hyperliquid.sign import ADDRESS_PATTERN, Network, keccak256

Field = tuple[str, str]
"""A member's name and Solidity type."""

CHAIN_NAMES: Mapping[Network, str] = {"mainnet": "Mainnet", "testnet": "Testnet"}
_CHAIN: Field = ("hyperliquidChain", "string")
_SENT: tuple[Field, ...] = (("amount", "string"), ("time", "uint64"))
_PREFIX = "HyperliquidTransaction:"

USER_SIGNED: Mapping[str, tuple[str, tuple[Field, ...]]] = {
    "approveAgent": (
        f"{_PREFIX}ApproveAgent",
        (_CHAIN, ("agentAddress", "address"), ("agentName", "string"), ("nonce", "uint64")),
    ),
    "usdSend": (f"{_PREFIX}UsdSend", (_CHAIN, ("destination", "string"), *_SENT)),
    "spotSend": (
        f"{_PREFIX}SpotSend",
        (_CHAIN, ("destination", "string"), ("token", "string"), *_SENT),
    ),
    "withdraw3": (f"{_PREFIX}Withdraw", (_CHAIN, ("destination", "string"), *_SENT)),
    "usdClassTransfer": (
        f"{_PREFIX}UsdClassTransfer",
        (_CHAIN, ("amount", "string"), ("toPerp", "bool"), ("nonce", "uint64")),
    ),
    "sendAsset": (
        f"{_PREFIX}SendAsset",
        (
            _CHAIN,
            ("destination", "string"),
            ("sourceDex", "string"),
            ("destinationDex", "string"),
            ("token", "string"),
            ("amount", "string"),
            ("fromSubAccount", "string"),
            ("nonce", "uint64"),
        ),
    ),
    "approveBuilderFee": (
        f"{_PREFIX}ApproveBuilderFee",
        (_CHAIN, ("maxFeeRate", "string"), ("builder", "address"), ("nonce", "uint64")),
    ),
}
"""The struct that is signed, by the action's type."""

NONCE_FIELDS = ("nonce", "time")
"""What a user-signed action calls the nonce it repeats."""


def user_signed_digest(action: Mapping[str, Any]) -> bytes:
    """The 32 bytes a wallet signs for *action*; ValueError: of another shape than its type has."""
    primary, fields = USER_SIGNED[str(action["type"])]
    # An agent without a name is signed with an empty one, which its action then leaves out.
    message = {"agentName": "", **action}
    if message["agentName"] is None:
        message["agentName"] = ""
    missing = [name for name, _ in fields if name not in message]
    if missing:
        raise ValueError(f"{primary}: {', '.join(missing)} missing")
    domain = {
        "name": "HyperliquidSignTransaction",
        "version": "1",
        "chainId": _chain_id(action.get("signatureChainId")),
        "verifyingContract": "0x" + "0" * 40,
    }
    hashed = hash_struct("EIP712Domain", _DOMAIN, domain) + hash_struct(primary, fields, message)
    return keccak256(b"\x19\x01" + hashed)


def hash_struct(primary: str, fields: Sequence[Field], message: Mapping[str, Any]) -> bytes:
    """EIP-712 `hashStruct` of a struct without nested types; ValueError: a value does not fit."""
    members = ",".join(f"{kind} {name}" for name, kind in fields)
    type_hash = keccak256(f"{primary}({members})".encode())
    return keccak256(type_hash + b"".join(_ENCODERS[kind](message[name]) for name, kind in fields))


def _chain_id(value: Any) -> int:
    if not isinstance(value, str) or not value.startswith("0x") or len(value) > 18:
        raise ValueError("signatureChainId: expected hexadecimal digits after 0x")
    return int(value, 16)


def _string(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError(f"expected a text, got {type(value).__name__}")
    return keccak256(value.encode())


def _unsigned(bits: int) -> Callable[[Any], bytes]:
    def encode(value: Any) -> bytes:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << bits:
            raise ValueError(f"expected an unsigned integer of {bits} bits")
        return value.to_bytes(32, "big")

    return encode


def _boolean(value: Any) -> bytes:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {type(value).__name__}")
    return value.to_bytes(32, "big")


def _address(value: Any) -> bytes:
    if not isinstance(value, str) or not ADDRESS_PATTERN.fullmatch(value.lower()):
        raise ValueError("expected 0x and 40 hexadecimal digits")
    return bytes(12) + bytes.fromhex(value[2:])


_ENCODERS: Mapping[str, Callable[[Any], bytes]] = {
    "string": _string,
    "uint64": _unsigned(64),
    "uint256": _unsigned(256),
    "bool": _boolean,
    "address": _address,
}
_DOMAIN: tuple[Field, ...] = (
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
)
