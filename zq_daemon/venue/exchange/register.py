"""Which accounts there are, and who signs for them.

Owns the opening of accounts and its bound. Never trades and never checks a signature: it answers
`envelope.Gate` and the info queries, and the exchange opens accounts by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from zq_daemon.venue.exchange.account import Account, unopened_account
from zq_daemon.venue.exchange.agents import Ties, Ward
from zq_daemon.venue.exchange.envelope import ActionError
from zq_daemon.venue.exchange.feeds import ADDRESS

MAX_ACCOUNTS = 1_000
MAX_MET = 10_000


class Register:
    """The accounts in *accounts*, which *opened* adds to; a new one has *balance* dollars.

    Unless *strict*, an address never seen before is an account as soon as it signs.
    """

    def __init__(
        self,
        accounts: Mapping[str, Account],
        ties: Ties,
        *,
        opened: Callable[[str, Decimal], Account],
        balance: Decimal,
        strict: bool,
        now_ms: Callable[[], int],
    ) -> None:
        self._accounts = accounts
        self._open = opened
        self._balance = balance
        self._strict = strict
        self._now_ms = now_ms
        self._met: dict[str, None] = {}
        self.ties = ties

    def open(self, address: str, balance: Decimal | None = None) -> Account:
        """The account of *address*, made with *balance* when it is new; ValueError: no room."""
        key = checked_address(address)
        account = self._accounts.get(key)
        if account is None:
            if len(self._accounts) >= MAX_ACCOUNTS:
                raise ValueError(f"the exchange holds no more than {MAX_ACCOUNTS} accounts")
            amount = self._balance if balance is None else balance
            account = self._open(key, amount)
        return account

    def receiver(self, address: str) -> Account:
        """The account that is given something; ActionError: it is none and cannot become one."""
        try:
            return self.open(address, Decimal(0) if self._strict else None)
        except ValueError as error:
            raise ActionError(f"Invalid destination: {error}") from error

    def account(self, address: str) -> Account:
        """The account of *address*, to look at: one that is not kept when there is none yet."""
        found = self._accounts.get(address)
        if found is None:
            balance = self._balance if self._may_open(address) else Decimal(0)
            found = unopened_account(address, balance)
        return found

    def open_sub_account(self, owner: str, name: str) -> Ward:
        """A sub-account of *owner*, empty; ActionError: there is no room."""
        if len(self._accounts) >= MAX_ACCOUNTS:
            raise ActionError("Too many accounts.")
        ward = self.ties.open_sub_account(owner, name)
        self.open(ward.address, Decimal(0))
        return ward

    def open_vault(self, leader: str, name: str, balance: Decimal) -> Ward:
        """A vault that *leader* trades for; ValueError: there is no room."""
        ward = self.ties.open_vault(self.open(leader).address, name)
        self.open(ward.address, balance)
        return ward

    def account_of(self, signer: str) -> str | None:
        """The account *signer* signs for, its own or another's; None: it counts for nothing."""
        agent = self.ties.agent(signer, self._now_ms())
        if agent is not None:
            return agent.account
        is_own = signer in self._accounts and self.ties.ward(signer) is None
        return signer if is_own or self._may_open(signer) else None

    def owner_of(self, ward: str) -> str | None:
        """The account that a sub-account or vault is traded by."""
        found = self.ties.ward(ward)
        return found.owner if found else None

    def meet(self, address: Any) -> None:
        """Somebody asks about *address*, which may be anything; the latest are remembered."""
        if isinstance(address, str) and ADDRESS.fullmatch(address):
            self._met[address.lower()] = None
            if len(self._met) > MAX_MET:
                del self._met[next(iter(self._met))]

    def has_met(self, address: str) -> bool:
        """Whether anything was heard of *address* before."""
        is_agent = self.ties.agent(address, self._now_ms()) or self.ties.is_spent(address)
        return bool(is_agent) or address in self._accounts or address in self._met

    def _may_open(self, address: str) -> bool:
        """Whether *address* would be given an account."""
        has_room = not self._strict and len(self._accounts) < MAX_ACCOUNTS
        is_free = address not in self._accounts and not self.ties.is_spent(address)
        return has_room and is_free


def checked_address(text: str) -> str:
    """*text* in lower case; ValueError: it is no address."""
    if not ADDRESS.fullmatch(text):
        raise ValueError(f"{text!r} is no address: expected 0x and 40 hexadecimal digits")
    return text.lower()
