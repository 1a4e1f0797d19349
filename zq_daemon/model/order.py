"""Orders as values: what was asked for, and what is known of its fate."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from typing import Any

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
    """Limit, market (sent as an aggressive immediate-or-cancel limit where a venue has none), or
    one of these that the venue holds back until the mark reaches a trigger price.

    A stop triggers at a price that is worse than the mark (a buy above it, a sell below), a take
    profit at one that is better.
    """

    LIMIT = "limit"
    MARKET = "market"
    STOP_LIMIT = "stop_limit"
    STOP_MARKET = "stop_market"
    TAKE_PROFIT_LIMIT = "take_profit_limit"
    TAKE_PROFIT_MARKET = "take_profit_market"

    @property
    def is_market(self) -> bool:
        """Whether it trades at whatever price there is, within the venue's slippage."""
        return self in _MARKET

    @property
    def is_trigger(self) -> bool:
        """Whether it waits outside of the book for its trigger price."""
        return self not in _PLAIN

    @property
    def is_stop(self) -> bool:
        """Whether it triggers at a price that is worse than the mark."""
        return self in _STOP


# Tuples, as below.
_PLAIN = (OrderType.LIMIT, OrderType.MARKET)
_MARKET = (OrderType.MARKET, OrderType.STOP_MARKET, OrderType.TAKE_PROFIT_MARKET)
_STOP = (OrderType.STOP_MARKET, OrderType.STOP_LIMIT)


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


# Tuples: to look an enumeration's member up in a set costs four times as much.
TERMINAL = (
    OrderStatus.DENIED,
    OrderStatus.FILLED,
    OrderStatus.REJECTED,
    OrderStatus.CANCELED,
    OrderStatus.EXPIRED,
)
WORKING = (OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED)
"""States in which the venue has confirmed that the order rests."""
UNANSWERED = (OrderStatus.JOURNALLED, OrderStatus.SUBMITTED)
"""States in which it may have reached the venue."""


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


@frozen
class Synthesised:
    """What of an order's fills the venue could not give, and has not given since.

    *trade_id* is that of the synthetic fill; *stated*: only the strategy's position moved by it.
    *venue_order_id*: it was executed under that; None: under several. *until_ns*: what it stands
    for was executed by then, at the venue's time; None: there is no telling, as of an order that
    has ended, which trades no more.
    """

    trade_id: TradeId
    quantity: Decimal
    price: Decimal
    stated: bool
    venue_order_id: VenueOrderId | None
    until_ns: int | None


@frozen(kw_only=True, slots=False)  # its states are copies of each other, and a dict copies fast
class Order:
    """One order and everything known of it; changed only by `core.order_state.apply`.

    *quantity* is the total, including what is filled. *price* of a market order is the worst price
    accepted: None when asked for, set by the execution engine from the book (or the trigger price)
    and the venue's slippage before the intent is journalled. *trigger_price* is of a trigger order,
    and None of others. *parent_id* is of an exit, which the venue holds until that order has
    filled; *is_held*: it does, whether there is an id of its own or not. *filled_notional* is the
    sum of price x quantity of its fills, *fees* the sum of their fees in the currency the fills
    name; *synthetic* is what of these is made up. Times are wall nanoseconds.

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
    trigger_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    post_only: bool = False
    reduce_only: bool = False
    parent_id: ClientOrderId | None = None
    is_held: bool = False
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
    synthetic: Synthesised | None = None
    ts_modified_ns: int | None = None
    reason: str = ""
    ts_init_ns: int = 0
    ts_last_ns: int = 0

    def with_changes(self, changes: dict[str, Any]) -> Order:
        """A copy with other values: `attrs.evolve` without its checks, in a tenth of its time."""
        copy = object.__new__(Order)
        object.__setattr__(copy, "__dict__", self.__dict__ | changes)
        return copy

    @property
    def remaining_quantity(self) -> Decimal:
        """What is still to be filled, never negative."""
        if not self.filled_quantity:
            return self.quantity
        return max(EXACT.subtract(self.quantity, self.filled_quantity), ZERO)

    @property
    def fillable_quantity(self) -> Decimal:
        """What it may still fill while it lives, a larger quantity asked for already counted."""
        if self.pending_quantity is None or self.pending_quantity <= self.quantity:
            return self.remaining_quantity
        return EXACT.subtract(self.pending_quantity, self.filled_quantity)

    @property
    def average_fill_price(self) -> Decimal | None:
        """Quantity-weighted mean price of its fills; None before the first."""
        return self.filled_notional / self.filled_quantity if self.filled_quantity else None

    @property
    def triggers_above(self) -> bool:
        """Of a trigger order: whether the mark has to rise to its trigger price, not fall."""
        return (self.side is Side.BUY) is self.order_type.is_stop

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
        pending = self.pending is not None and not self.is_closed
        return pending or self.status in UNANSWERED
