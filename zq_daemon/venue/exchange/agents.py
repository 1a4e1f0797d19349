"""Who signs for whom: agents of accounts, sub-accounts of masters, vaults of leaders.

Owns these ties and their limits. Never holds money, never checks a signature. Asked by
`envelope.Gate` and the info queries, told by the exchange.

An account has one agent without a name and a few with names; approving one again, by the same name,
puts the new one in its place. An agent that was replaced, or has expired, is no account of its own
either: its signature counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from attrs import frozen

from zq_daemon.venue.exchange.envelope import ActionError
from zq_daemon.venue.hyperliquid.sign import keccak256

MAX_NAMED_AGENTS = 3
AGENTS_PER_SUB_ACCOUNT = 2
MAX_SUB_ACCOUNTS = 10
MAX_RETIRED = 10_000
VALID_MS = 180 * 86_400_000
"""How long an agent is valid at most, and when its name does not say."""
_VALIDITY = " valid_until "


@frozen(kw_only=True)
class Agent:
    """*address* may sign for *account* before *valid_until_ms*; an empty name is the main agent."""

    address: str
    account: str
    name: str
    valid_until_ms: int


@frozen(kw_only=True)
class Ward:
    """An account that another one's signature moves: a sub-account, or a vault."""

    address: str
    owner: str
    name: str
    is_vault: bool = False


class Ties:
    """All agents, sub-accounts and vaults; addresses are lower-case.

    *forget* is told each address whose signature counts no more.
    """

    def __init__(self, forget: Callable[[str], None]) -> None:
        self._forget = forget
        self._agents: dict[str, Agent] = {}
        self._retired: dict[str, None] = {}
        self._wards: dict[str, Ward] = {}

    def approve(self, address: str, account: str, name: str, now_ms: int) -> None:
        """Let *address* sign for *account*; *name* may end in ` valid_until <ms>`.

        ActionError: it signs for another, the name's time is wrong, or there are too many.
        """
        self.approve_until(address, account, *_validity(name, now_ms), now_ms)

    def approve_until(
        self, address: str, account: str, name: str, valid_until_ms: int, now_ms: int
    ) -> None:
        """`approve` before *valid_until_ms*, however far that is."""
        known = self._agents.get(address)
        is_used = address == account or address in self._retired or address in self._wards
        if is_used or _is_of_other(known, account):
            raise ActionError("Extra agent already used.")
        replaced = [each for each in self.of(account, now_ms) if each.name == name]
        if name and not replaced and len(self.named(account, now_ms)) >= self._room(account):
            raise ActionError("Too many extra agents.")
        for each in replaced:
            if each.address != address:
                self._retire(each)
        self._agents[address] = Agent(
            address=address, account=account, name=name, valid_until_ms=valid_until_ms
        )

    def agent(self, address: str, now_ms: int) -> Agent | None:
        """The agent of that address, while it is valid."""
        agent = self._agents.get(address)
        if agent is not None and agent.valid_until_ms <= now_ms:
            self._retire(agent)
            return None
        return agent

    def is_spent(self, address: str) -> bool:
        """Whether that address was an agent and is none any more."""
        return address in self._retired

    def of(self, account: str, now_ms: int) -> Sequence[Agent]:
        """The valid agents of *account*."""
        own = [agent for agent in self._agents.values() if agent.account == account]
        return [agent for agent in own if self.agent(agent.address, now_ms)]

    def named(self, account: str, now_ms: int) -> Sequence[Agent]:
        """Those of them with a name."""
        return [agent for agent in self.of(account, now_ms) if agent.name]

    def open_sub_account(self, owner: str, name: str) -> Ward:
        """A new sub-account; ActionError: there are too many, or *owner* is one itself."""
        own = self.sub_accounts(owner)
        if owner in self._wards:
            raise ActionError("Sub-accounts cannot create sub-accounts.")
        if len(own) >= MAX_SUB_ACCOUNTS:
            raise ActionError("Too many sub-accounts.")
        if any(each.name == name for each in own):
            raise ActionError("Sub-account name already used.")
        return self._add(Ward(address=_derived(owner, "sub", len(own)), owner=owner, name=name))

    def open_vault(self, leader: str, name: str) -> Ward:
        """A new vault that *leader* trades for."""
        number = sum(each.is_vault for each in self._wards.values())
        address = _derived(leader, "vault", number)
        return self._add(Ward(address=address, owner=leader, name=name, is_vault=True))

    def ward(self, address: str) -> Ward | None:
        """The sub-account or vault of that address."""
        return self._wards.get(address)

    def sub_accounts(self, owner: str) -> Sequence[Ward]:
        """The sub-accounts of *owner*, oldest first."""
        wards: Iterable[Ward] = self._wards.values()
        return [each for each in wards if each.owner == owner and not each.is_vault]

    def _add(self, ward: Ward) -> Ward:
        self._wards[ward.address] = ward
        return ward

    def _room(self, account: str) -> int:
        return MAX_NAMED_AGENTS + AGENTS_PER_SUB_ACCOUNT * len(self.sub_accounts(account))

    def _retire(self, agent: Agent) -> None:
        del self._agents[agent.address]
        self._forget(agent.address)
        self._retired[agent.address] = None
        if len(self._retired) > MAX_RETIRED:
            del self._retired[next(iter(self._retired))]


def _is_of_other(agent: Agent | None, account: str) -> bool:
    return agent is not None and agent.account != account


def _validity(name: str, now_ms: int) -> tuple[str, int]:
    bare, mark, digits = name.rpartition(_VALIDITY)
    if not mark:
        return name, now_ms + VALID_MS
    if not digits.isascii() or not digits.isdigit() or len(digits) > 15:
        raise ActionError(f"Invalid agent name: expected milliseconds after{_VALIDITY.rstrip()}")
    valid_until_ms = int(digits)
    if not now_ms < valid_until_ms <= now_ms + VALID_MS:
        raise ActionError("Invalid agent name: valid_until is past or too far ahead")
    return bare, valid_until_ms


def _derived(owner: str, kind: str, number: int) -> str:
    return "0x" + keccak256(f"{owner}/{kind}/{number}".encode())[-20:].hex()
