"""Net positions."""

from __future__ import annotations

from decimal import Decimal

from attrs import frozen

from zq_daemon.model.ids import AccountId, InstrumentId
from zq_daemon.model.money import EXACT, ZERO


@frozen(kw_only=True)
class Position:
    """Net position in one instrument; *quantity* is signed, amounts are in the quote currency.

    *cost* is the signed sum of entry price x quantity of what is open: `cost / quantity` is the
    average entry price. *realized_pnl* excludes fees and funding; *fees* is what was paid in the
    quote currency, *funding* what was received. `core.portfolio.apply_fill` keeps
    `realized_pnl - cost` equal to the cash that the fills moved, to the last digit.
    """

    account_id: AccountId
    instrument_id: InstrumentId
    quantity: Decimal = ZERO
    cost: Decimal = ZERO
    realized_pnl: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    ts_last_ns: int = 0

    @property
    def average_entry_price(self) -> Decimal | None:
        """Mean price at which the open quantity was entered; None when flat."""
        return self.cost / self.quantity if self.quantity else None

    def unrealized_pnl(self, mark: Decimal) -> Decimal:
        """Profit if closed at *mark* without fees."""
        return EXACT.subtract(EXACT.multiply(mark, self.quantity), self.cost)

    def net_pnl(self, mark: Decimal) -> Decimal:
        """Realised plus unrealised, less fees, plus funding."""
        return EXACT.add(self.settled_pnl, self.unrealized_pnl(mark))

    @property
    def settled_pnl(self) -> Decimal:
        """What no mark changes any more: realised, less fees, plus funding."""
        return EXACT.add(EXACT.subtract(self.realized_pnl, self.fees), self.funding)
