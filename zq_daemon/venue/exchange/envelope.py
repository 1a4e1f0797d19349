"""The envelope of `/exchange`: whose action it is, and whether it may be executed.

Owns the nonces. Checks signature, signer, nonce window and expiry; never looks into the action.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from typing import Any

import msgspec
from attrs import frozen

from zq_daemon.venue.hyperliquid.sign import Network, action_hash, recover_signer

KEPT_NONCES = 100
UNPARSABLE = "Failed to deserialize the JSON body into the target type"
_DAY_MS = 86_400_000


class Malformed(Exception):
    """The request cannot be parsed: HTTP 422 with this text."""

    def __init__(self, text: str = UNPARSABLE) -> None:
        super().__init__(text)


class ActionError(Exception):
    """The whole action is refused: `{"status":"err","response":text}`."""


class _Signature(msgspec.Struct):
    r: str
    s: str
    v: int


class Envelope(msgspec.Struct, rename="camel"):
    """A signed action; *action* keeps the key order that was signed."""

    action: dict[str, Any]
    nonce: int
    signature: _Signature
    vault_address: str | None = None
    expires_after: int | None = None


@frozen(kw_only=True)
class SignedAction:
    """An action whose signer is known."""

    signer: str
    action: dict[str, Any]


class Gate:
    """Lets each signed action of a known signer through at most once."""

    def __init__(self, network: Network, is_known: Callable[[str], bool]) -> None:
        self._network = network
        self._is_known = is_known
        self._nonces: dict[str, list[int]] = {}

    def admit(self, request: Any, now_ms: int) -> SignedAction:
        """Check *request* and use up its nonce; raises Malformed or ActionError."""
        try:
            envelope = msgspec.convert(request, Envelope)
            signer = self._signer(envelope)
        except (ValueError, OverflowError, TypeError, RecursionError) as error:
            raise Malformed from error
        if envelope.vault_address is not None:
            raise ActionError(f"Vault not registered: {envelope.vault_address}")
        if not self._is_known(signer):
            raise ActionError(f"User or API Wallet {signer} does not exist.")
        self._check_expiry(envelope, now_ms)
        self._use_nonce(signer, envelope.nonce, now_ms)
        return SignedAction(signer=signer, action=envelope.action)

    def _signer(self, envelope: Envelope) -> str:
        connection_id = action_hash(
            envelope.action, envelope.nonce, envelope.vault_address, envelope.expires_after
        )
        signature = envelope.signature
        return recover_signer(
            connection_id, _integer(signature.r), _integer(signature.s), signature.v, self._network
        )

    def _check_expiry(self, envelope: Envelope, now_ms: int) -> None:
        expires = envelope.expires_after
        if expires is not None and expires <= now_ms:
            raise ActionError(f"Action expired: expiresAfter {expires} has passed")

    def _use_nonce(self, signer: str, nonce: int, now_ms: int) -> None:
        """The venue's rule: the 100 highest of a signer are kept; new ones go above the lowest."""
        if not now_ms - 2 * _DAY_MS < nonce < now_ms + _DAY_MS:
            raise ActionError(f"Invalid nonce: {nonce} is too far from {now_ms}")
        used = self._nonces.setdefault(signer, [])
        if nonce in used:
            raise ActionError(f"Invalid nonce: duplicate nonce {nonce}")
        if len(used) >= KEPT_NONCES:
            if nonce < used[0]:
                raise ActionError(f"Invalid nonce: {nonce} is below the lowest kept {used[0]}")
            del used[0]
        insort(used, nonce)


def _integer(text: str) -> int:
    if not text.startswith("0x") or len(text) > 66:
        raise ValueError("expected hexadecimal digits after 0x")
    return int(text, 16)
