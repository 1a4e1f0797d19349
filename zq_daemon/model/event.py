"""Events: what happened to orders, positions, accounts and the daemon itself (past tense)."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum

from attrs import frozen

from zq_daemon.model.account import Account
from zq_daemon.model.fill import Fill
from zq_daemon.model.ids import (
    AccountId,
    ClientOrderId,
    InstrumentId,
    StrategyId,
    VenueOrderId,
)
from zq_daemon.model.order import Order, Pending
from zq_daemon.model.position import Position


@frozen(kw_only=True)
class _OrderEventBase:
    client_order_id: ClientOrderId
    strategy_id: StrategyId
    instrument_id: InstrumentId
    ts_event_ns: int


@frozen(kw_only=True)
class OrderInitialized(_OrderEventBase):
    """A strategy asked for an order; it is tracked from here on."""

    order: Order


@frozen(kw_only=True)
class OrderDenied(_OrderEventBase):
    """Our own risk checks stopped the order; the venue never saw it. *code* names the check."""

    code: str
    reason: str


@frozen(kw_only=True)
class OrderJournalled(_OrderEventBase):
    """The intent is durable; nothing has been sent yet."""

    nonce: int
    expires_ns: int | None


@frozen(kw_only=True)
class OrderSubmitted(_OrderEventBase):
    """The order is about to leave: from now on its fate is unknown until evidence arrives."""


@frozen(kw_only=True)
class OrderAccepted(_OrderEventBase):
    """The venue confirmed the order under its own id."""

    venue_order_id: VenueOrderId


@frozen(kw_only=True)
class OrderRejected(_OrderEventBase):
    """The venue definitely refused the order, or it definitely never left us.

    With a *venue_order_id* it is the venue's word on that very order and closes it for good;
    without one, an acknowledgement or a fill that turns up proves it wrong.
    """

    code: str
    reason: str
    venue_order_id: VenueOrderId | None = None


@frozen(kw_only=True)
class OrderPending(_OrderEventBase):
    """A cancel or modify was requested and has no known outcome yet.

    *quantity* is the total quantity a modify asks for (None: unchanged).
    """

    pending: Pending
    quantity: Decimal | None = None


@frozen(kw_only=True)
class OrderPendingRejected(_OrderEventBase):
    """A cancel or modify request was definitely refused; the order stays as it was."""

    pending: Pending
    code: str
    reason: str


@frozen(kw_only=True)
class OrderModified(_OrderEventBase):
    """The venue confirmed new terms; a cancel-replace venue gives a new venue order id.

    *quantity* is the total, including what was filled before; *price* None: unchanged.
    """

    venue_order_id: VenueOrderId
    price: Decimal | None
    quantity: Decimal


@frozen(kw_only=True)
class OrderCanceled(_OrderEventBase):
    """The order is off the book before it was filled; *reason* is the venue's word or ours.

    Without a *venue_order_id* the whole client order id is finished, whatever ids it still has.
    """

    venue_order_id: VenueOrderId | None
    reason: str


@frozen(kw_only=True)
class OrderExpired(_OrderEventBase):
    """The order's validity ended before the venue took it; *venue_order_id* as in OrderRejected."""

    reason: str
    venue_order_id: VenueOrderId | None = None


@frozen(kw_only=True)
class OrderHeld(_OrderEventBase):
    """The venue has the order and holds it until its parent has filled; it has no id yet."""


@frozen(kw_only=True)
class OrderReopened(_OrderEventBase):
    """An order that was said to have ended rests at the venue after all, with *remaining* to fill.

    Whoever ordered it has gone on without it, so that it is going to be cancelled.
    """

    venue_order_id: VenueOrderId
    remaining: Decimal


@frozen(kw_only=True)
class OrderFilled(_OrderEventBase):
    """The order was filled in part or whole.

    *stated*: the account's position was taken over from the venue with this fill in it, so that
    only the strategy's position moves. *outgrown*: the fill is of an id that was replaced before
    anybody heard of it, so that the replacement was given it too: the total quantity grows by it.
    *replaces*: that much of the order's synthetic fill is taken back: this is the real one.
    *rests*: this is a synthetic fill of an order that goes on resting, and may trade on.
    """

    fill: Fill
    stated: bool = False
    outgrown: bool = False
    rests: bool = False
    replaces: Fill | None = None


OrderEvent = (
    OrderInitialized
    | OrderDenied
    | OrderJournalled
    | OrderSubmitted
    | OrderAccepted
    | OrderRejected
    | OrderPending
    | OrderPendingRejected
    | OrderModified
    | OrderCanceled
    | OrderExpired
    | OrderHeld
    | OrderReopened
    | OrderFilled
)


@frozen(kw_only=True)
class PositionChanged:
    """A net position changed by a fill or by funding."""

    position: Position
    ts_event_ns: int


@frozen(kw_only=True)
class AccountUpdated:
    """The venue stated an account anew."""

    account: Account
    ts_event_ns: int


@frozen(kw_only=True)
class FundingPaid:
    """Funding settled on a position; *amount* is signed, positive when received."""

    account_id: AccountId
    instrument_id: InstrumentId
    amount: Decimal
    rate: Decimal
    ts_event_ns: int


@frozen(kw_only=True)
class AccountLiquidated:
    """The venue closed positions of the account by force; *detail* in its own words.

    *notional* is what was closed and *equity* what was left, in quote currency, where it told so.
    """

    account_id: AccountId
    detail: str
    notional: Decimal | None
    equity: Decimal | None
    ts_event_ns: int


@frozen(kw_only=True)
class Tick:
    """The clock of clock-driven strategies: tick number *count*; *missed* were skipped before."""

    count: int
    missed: int
    ts_event_ns: int
    ts_monotonic_ns: int


class LinkState(Enum):
    """Where a WebSocket endpoint's connection stands."""

    CONNECTING = "connecting"
    UP = "up"
    BACKOFF = "backoff"
    DOWN = "down"
    REFUSED = "refused"


@frozen(kw_only=True)
class LinkChanged:
    """An endpoint's connection changed state; *private* links carry orders and reports."""

    endpoint: str
    venue: str
    private: bool
    state: LinkState
    reason: str
    ts_event_ns: int


class TradingState(Enum):
    """What may be sent: everything, only what reduces exposure, nothing."""

    ACTIVE = "active"
    REDUCING = "reducing"
    HALTED = "halted"


@frozen(kw_only=True)
class TradingStateChanged:
    """The daemon's trading state changed; *reason* says who or what did it."""

    state: TradingState
    reason: str
    ts_event_ns: int


@frozen(kw_only=True)
class HealthChanged:
    """A component (strategy, link, engine) became healthy or not."""

    component: str
    healthy: bool
    reason: str
    ts_event_ns: int


@frozen(kw_only=True)
class Probe:
    """Goes the way of every event: when it comes out, the trading loop has turned."""

    number: int
    ts_event_ns: int


SystemEvent = Tick | LinkChanged | TradingStateChanged | HealthChanged | Probe
