"""Net positions."""

from __future__ import annotations

from decimal import Decimal

from attrs import frozen

from zq_daemon.model.ids import AccountId, InstrumentId


@frozen(kw_only=True)
class Position:
    """Net position in one instrument; *quantity* is signed, amounts are in the quote currency.

    *cost* is the signed sum of entry price x quantity of what is open, so that the average entry
    price is exact: `cost / quantity`. *realized_pnl* excludes fees and funding; *fees* is what was
    paid, *funding* what was received.
    """

    account_id: AccountId
    instrument_id: InstrumentId
    quantity: Decimal = Decimal(0)
    cost: Decimal = Decimal(0)
    realized_pnl: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)
    funding: Decimal = Decimal(0)
    ts_last_ns: int = 0

    @property
    def average_entry_price(self) -> Decimal | None:
        """Mean price at which the open quantity was entered; None when flat."""
        return self.cost / self.quantity if self.quantity else None

    def unrealized_pnl(self, mark: Decimal) -> Decimal:
        """Profit if closed at *mark* without fees."""
        return mark * self.quantity - self.cost

    def net_pnl(self, mark: Decimal) -> Decimal:
        """Realised plus unrealised, less fees, plus funding."""
        return self.realized_pnl + self.unrealized_pnl(mark) - self.fees + self.funding
