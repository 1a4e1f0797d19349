"""The envelope of `/exchange`: whose action it is, and whether it may be executed.

Owns the nonces. Checks signature, signer, nonce window and expiry; never executes an action.
"""

from __future__ import annotations

from bisect import insort
from typing import Any, Literal, Protocol

import msgspec
from attrs import frozen

from zq_daemon.venue.exchange.user_signed import (
    CHAIN_NAMES,
    NONCE_FIELDS,
    USER_SIGNED,
    user_signed_digest,
)
from zq_daemon.venue.hyperliquid.sign import (
    Network,
    action_hash,
    recover_address,
    recover_signer,
)

AcceptedNetwork = Network | Literal["either"]
"""Whose signatures are accepted. Clients that tell the networks apart by the venue's address sign
for the testnet here, as the official SDK does; others as they are configured."""
KEPT_NONCES = 100
UNPARSABLE = "Failed to deserialize the JSON body into the target type"
_DAY_MS = 86_400_000
_EITHER: tuple[Network, ...] = ("testnet", "mainnet")


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
class Admission:
    """Who signed, and the account that the action is of; both lower-case."""

    signer: str
    account: str


class Signers(Protocol):
    """What the gate asks about addresses."""

    def account_of(self, signer: str) -> str | None:
        """The account *signer* signs for, its own or another's; None: it counts for nothing."""

    def owner_of(self, ward: str) -> str | None:
        """The account that a sub-account or vault is traded by."""

    def has_met(self, address: str) -> bool:
        """Whether anything was heard of *address* before."""


class Gate:
    """Lets each signed action of a known signer through at most once."""

    def __init__(self, network: AcceptedNetwork, signers: Signers) -> None:
        self._networks: tuple[Network, ...] = _EITHER if network == "either" else (network,)
        self._signers = signers
        self._nonces: dict[str, list[int]] = {}

    def admit(self, envelope: Envelope, now_ms: int) -> Admission:
        """Check *envelope* and use up its nonce; raises Malformed or ActionError."""
        by_user = envelope.action.get("type") in USER_SIGNED
        try:
            signer = self._user(envelope) if by_user else self._signer(envelope)
        except (ValueError, OverflowError, TypeError, RecursionError) as error:
            raise Malformed from error
        if by_user:
            self._check_user(envelope, signer)
            account = signer
        else:
            account = self._account(envelope, signer)
            self._check_expiry(envelope, now_ms)
        self._use_nonce(signer, envelope.nonce, now_ms)
        return Admission(signer=signer, account=account)

    def forget(self, signer: str) -> None:
        """The signer will never be admitted again."""
        self._nonces.pop(signer, None)

    def _account(self, envelope: Envelope, signer: str) -> str:
        account = self._signers.account_of(signer)
        if account is None:
            raise ActionError(f"User or API Wallet {signer} does not exist.")
        if envelope.vault_address is None:
            return account
        ward = envelope.vault_address.lower()
        if self._signers.owner_of(ward) != account:
            raise ActionError(f"Vault not registered: {ward}")
        return ward

    def _check_user(self, envelope: Envelope, signer: str) -> None:
        """A wallet signs for its own account only, with the nonce and the chain in the action."""
        action = envelope.action
        if self._signers.account_of(signer) != signer:
            raise ActionError(f"Must deposit before performing actions. User: {signer}")
        chains = [CHAIN_NAMES[network] for network in self._networks]
        if action["hyperliquidChain"] not in chains:
            raise ActionError(f"Invalid chain: expected {' or '.join(chains)}")
        if envelope.expires_after is not None:
            raise ActionError("expiresAfter is not supported for user-signed actions")
        if envelope.nonce not in [action[name] for name in NONCE_FIELDS if name in action]:
            raise ActionError("Invalid nonce: the action has another one than its envelope")

    def _user(self, envelope: Envelope) -> str:
        return recover_address(user_signed_digest(envelope.action), *_numbers(envelope.signature))

    def _signer(self, envelope: Envelope) -> str:
        """Who signed, for the network by which it is somebody met before, else for the first."""
        connection_id = action_hash(
            envelope.action, envelope.nonce, envelope.vault_address, envelope.expires_after
        )
        numbers = _numbers(envelope.signature)
        signer = recover_signer(connection_id, *numbers, self._networks[0])
        for network in self._networks[1:]:
            if self._signers.has_met(signer):
                break
            other = recover_signer(connection_id, *numbers, network)
            signer = other if self._signers.has_met(other) else signer
        return signer

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


def read_envelope(request: Any) -> Envelope:
    """The typed envelope; raises Malformed."""
    try:
        return msgspec.convert(request, Envelope)
    except (ValueError, RecursionError) as error:
        raise Malformed from error


def _numbers(signature: _Signature) -> tuple[int, int, int]:
    return _integer(signature.r), _integer(signature.s), signature.v


def _integer(text: str) -> int:
    if not text.startswith("0x") or len(text) > 66:
        raise ValueError("expected hexadecimal digits after 0x")
    return int(text, 16)
