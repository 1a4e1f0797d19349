"""Orders as values: what was asked for, and what is known of its fate."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum

from attrs import frozen

from zq_daemon.model.ids import (
    AccountId,
    ClientOrderId,
    InstrumentId,
    StrategyId,
    TradeId,
    VenueOrderId,
)
from zq_daemon.model.market import Side
from zq_daemon.model.money import EXACT, ZERO


class OrderType(Enum):
    """Limit, or market (sent as an aggressive immediate-or-cancel limit where a venue has none)."""

    LIMIT = "limit"
    MARKET = "market"


class TimeInForce(Enum):
    """How long an order lives."""

    GTC = "gtc"
    IOC = "ioc"


class OrderStatus(Enum):
    """Where an order stands; the last four and DENIED are terminal. Unknown is never terminal."""

    INITIALIZED = "initialized"
    DENIED = "denied"
    JOURNALLED = "journalled"
    SUBMITTED = "submitted"
    ACCEPTED = "accepted"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    REJECTED = "rejected"
    CANCELED = "canceled"
    EXPIRED = "expired"


TERMINAL = frozenset(
    {
        OrderStatus.DENIED,
        OrderStatus.FILLED,
        OrderStatus.REJECTED,
        OrderStatus.CANCELED,
        OrderStatus.EXPIRED,
    }
)
WORKING = frozenset({OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED})
"""States in which the venue has confirmed that the order rests."""


class Pending(Enum):
    """A request about a live order whose outcome is not known yet."""

    CANCEL = "cancel"
    MODIFY = "modify"


@frozen
class Closing:
    """Evidence that an order ended: *status* is DENIED, REJECTED, EXPIRED or CANCELED.

    *venue_order_id* is the venue's order it speaks of; None: of the client order id as a whole.
    """

    venue_order_id: VenueOrderId | None
    status: OrderStatus
    reason: str


@frozen(kw_only=True)
class Order:
    """One order and everything known of it; changed only by `core.order_state.apply`.

    *quantity* is the total, including what is filled. *price* of a market order is the worst price
    accepted: None when asked for, set by the execution engine from the book and the venue's
    slippage before the intent is journalled. *filled_notional* is the sum of price x quantity of
    its fills, *fees* the sum of their fees in the currency the fills name. Times are wall
    nanoseconds.

    A venue that modifies by cancel-replace gives one order several ids: *venue_order_ids* are the
    acknowledged ones, oldest first, *venue_order_id* is the current one. *closings* is what spoke
    for an end, also where something stronger speaks against it. *ts_modified_ns* is the time of
    the newest confirmed modification (None: never modified), *pending_quantity* the total quantity
    that a modification in flight asks for.
    """

    client_order_id: ClientOrderId
    strategy_id: StrategyId
    account_id: AccountId
    instrument_id: InstrumentId
    side: Side
    order_type: OrderType
    quantity: Decimal
    price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    post_only: bool = False
    reduce_only: bool = False
    status: OrderStatus = OrderStatus.INITIALIZED
    pending: Pending | None = None
    pending_quantity: Decimal | None = None
    venue_order_id: VenueOrderId | None = None
    venue_order_ids: tuple[VenueOrderId, ...] = ()
    closings: tuple[Closing, ...] = ()
    filled_quantity: Decimal = ZERO
    filled_notional: Decimal = ZERO
    fees: Decimal = ZERO
    trade_ids: frozenset[TradeId] = frozenset()
    ts_modified_ns: int | None = None
    reason: str = ""
    ts_init_ns: int = 0
    ts_last_ns: int = 0

    @property
    def remaining_quantity(self) -> Decimal:
        """What is still to be filled, never negative."""
        if not self.filled_quantity:
            return self.quantity
        return max(EXACT.subtract(self.quantity, self.filled_quantity), ZERO)

    @property
    def average_fill_price(self) -> Decimal | None:
        """Quantity-weighted mean price of its fills; None before the first."""
        return self.filled_notional / self.filled_quantity if self.filled_quantity else None

    @property
    def is_closed(self) -> bool:
        """No further change is expected (a late fill is still taken)."""
        return self.status in TERMINAL

    @property
    def is_open(self) -> bool:
        """Confirmed by the venue and not finished."""
        return self.status in WORKING

    @property
    def is_in_flight(self) -> bool:
        """A request of ours (submit, cancel, modify) has no known outcome yet."""
        in_submit = self.status in (OrderStatus.JOURNALLED, OrderStatus.SUBMITTED)
        return in_submit or (self.pending is not None and not self.is_closed)
