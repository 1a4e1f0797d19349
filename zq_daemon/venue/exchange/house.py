"""What is not users': fees taken, the insurance, and the outside world that users trade with.

Owns the other side of every entry, so that the books balance: whatever an account gains, another
account, the fees, the insurance or the outside (background and recorded liquidity) loses. Never
decides anything. Called by the clearinghouse.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

from attrs import Factory, define

from zq_daemon.venue.exchange.account import Account
from zq_daemon.venue.exchange.listing import USDC

INSURANCE = "0x2e3d94f0562703b25c83308a05046ddaf9a8dd14"
"""Who takes over what a liquidation could not sell."""
Sums = defaultdict[str, Decimal]


def _sums() -> Sums:
    return defaultdict(Decimal)


@define
class House:
    """Sums by token (*fees*, *deposited*, *outside*) and by perpetual (*outside* too)."""

    fees: Sums = Factory(_sums)
    deposited: Sums = Factory(_sums)
    outside: Sums = Factory(_sums)
    insurance: Account = Factory(lambda: Account(address=INSURANCE, balance=Decimal(0)))

    def meet_perp(self, coin: str, change: Decimal, price: Decimal) -> None:
        """The outside trades *change* of a perpetual."""
        self.outside[coin] += change
        self.outside[USDC.name] -= change * price

    def meet_spot(self, base: str, quote: str, change: Decimal, price: Decimal) -> None:
        """The outside trades *change* of a spot pair."""
        self.outside[base] += change
        self.outside[quote] -= change * price

    def imbalances(self, accounts: Iterable[Account]) -> dict[str, Decimal]:
        """What is missing or too much, by token and perpetual: nothing at all if all is right."""
        sums = _sums()
        for account in (*accounts, self.insurance):
            sums[USDC.name] += account.balance
            for coin, held in account.positions.items():
                sums[coin] += held.size
                sums[USDC.name] += held.raw_usd
            for token, balance in account.spot.items():
                sums[token] += balance.total
        for token, amount in self.fees.items():
            sums[token] += amount
        for name, amount in self.outside.items():
            sums[name] += amount
        for token, amount in self.deposited.items():
            sums[token] -= amount
        return {name: amount for name, amount in sums.items() if amount}
