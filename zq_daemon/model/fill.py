"""Fills: executions of our orders."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum

from attrs import frozen

from zq_daemon.model.ids import AccountId, ClientOrderId, InstrumentId, TradeId, VenueOrderId
from zq_daemon.model.market import Side
from zq_daemon.model.money import EXACT


class Liquidity(Enum):
    """Whether a fill rested in the book or took from it."""

    MAKER = "maker"
    TAKER = "taker"


@frozen(kw_only=True)
class Fill:
    """One execution. *fee* is what we paid in *fee_currency* (negative: a rebate).

    *client_order_id* is None where the venue did not tell it: then *venue_order_id* finds the
    order. *is_liquidation*: the venue closed a position of this account by force. *is_synthetic*:
    the venue says that the order was filled and cannot tell how; see `core.synthesis`.
    """

    trade_id: TradeId
    client_order_id: ClientOrderId | None
    venue_order_id: VenueOrderId
    account_id: AccountId
    instrument_id: InstrumentId
    side: Side
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_currency: str
    liquidity: Liquidity
    ts_event_ns: int
    ts_recv_ns: int
    is_liquidation: bool = False
    is_synthetic: bool = False

    @property
    def notional(self) -> Decimal:
        """Price x quantity, exact, in the quote currency."""
        return EXACT.multiply(self.price, self.quantity)

    @property
    def signed_quantity(self) -> Decimal:
        """The quantity by which it changes a net position."""
        return self.quantity if self.side is Side.BUY else self.quantity.copy_negate()
