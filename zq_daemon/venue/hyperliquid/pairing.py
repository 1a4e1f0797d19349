"""Whether the agent key may sign for the account: what the venue says of both addresses.

Owns the rules of who signs for whom, and the words that tell an operator what to change. A master
account signs for itself; its agents, its sub-accounts' and its vaults' orders are signed by it or
by an agent of it. It asks through the functions it is given and keeps nothing. The adapter calls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog
from attrs import frozen

from zq_daemon.errors import CredentialError, LinkRefused
from zq_daemon.venue.hyperliquid import wire
from zq_daemon.venue.hyperliquid.decode import nanoseconds
from zq_daemon.venue.interface import Credentials

_ACCOUNT = "venues.hyperliquid.account"

_log = structlog.get_logger("zq.credentials")


@frozen(kw_only=True)
class Questions:
    """What is asked of the venue; each raises LinkError, LinkRefused or DecodeError."""

    role: Callable[[str], Awaitable[wire.UserRole]]
    agents: Callable[[str], Awaitable[Sequence[wire.ExtraAgent]]]
    leader: Callable[[str], Awaitable[str]]


async def check_pairing(ask: Questions, *, account: str, signer: str | None) -> Credentials:
    """Who signs for *account* (lower-case addresses); *signer* None: nobody, it is only watched.

    CredentialError says what to change; other errors are the questions'.
    """
    role = await ask.role(account)
    master = await _master(ask, account, role)
    if signer is None:
        return Credentials(account=account, signer=None, relation="watched only")
    own = "" if master in (None, account) else f" of the master {master}"
    if signer == master:
        return Credentials(account=account, signer=signer, relation=f"the account's own key{own}")
    told = await ask.role(signer)
    signs_for = _lower(told.data.user) if told.role == "agent" and told.data else None
    if signs_for is None and master is None:
        return Credentials(account=account, signer=signer, relation="not told by the venue")
    if signs_for is None or master not in (None, signs_for):
        raise CredentialError(_mismatch(account, master, signer, signs_for, role.role))
    return Credentials(
        account=account,
        signer=signer,
        relation=f"agent{own}",
        valid_until_ns=await _end(ask, signs_for, signer),
    )


async def _master(ask: Questions, account: str, role: wire.UserRole) -> str | None:
    """Whose keys sign for *account*; None where the venue does not tell."""
    match role.role:
        case "agent":
            owner = _lower(role.data.user) if role.data else None
            raise CredentialError(
                f"{_ACCOUNT} {account} is an agent: it has neither orders nor positions. Set "
                f"{_ACCOUNT} to the account it trades for" + (f", {owner}" if owner else "")
            )
        case "missing":
            raise CredentialError(
                f"{_ACCOUNT} {account} is not known to the venue: look for a typing mistake, at "
                "venues.hyperliquid.network, and whether anything was ever deposited there"
            )
        case "subAccount":
            return _lower(role.data.master) if role.data else None
        case "vault":
            try:
                return _lower(await ask.leader(account))
            except LinkRefused as error:
                _log.warning("the vault's leader is not told", vault=account, reason=str(error))
                return None
        case _:
            return account


async def _end(ask: Questions, master: str | None, signer: str) -> int | None:
    """Until when the agent is approved; unnamed agents, and venues, may not tell."""
    try:
        agents = [] if master is None else await ask.agents(master)
    except LinkRefused as error:
        _log.warning("the agent's end is not told", agent=signer, reason=str(error))
        return None
    ends = [each.valid_until for each in agents if _lower(each.address) == signer]
    return nanoseconds(ends[0]) if ends else None


def _mismatch(
    account: str, master: str | None, signer: str, signs_for: str | None, role: str
) -> str:
    who = account if master in (None, account) else f"{account} (a {role} of {master})"
    if signs_for is None:
        return (
            f"the key's address {signer} is no agent of {_ACCOUNT} {who}: approve it as an API "
            f"wallet of {master or 'its owner'}, or give the key of one that is (was it replaced, "
            "or has it expired?)"
        )
    return (
        f"the agent key {signer} signs for {signs_for}, not for {_ACCOUNT} {who}: set {_ACCOUNT} "
        f"to {signs_for}, or give the key of an agent of {master or 'its owner'}"
    )


def _lower(address: str | None) -> str | None:
    return None if address is None else address.lower()
