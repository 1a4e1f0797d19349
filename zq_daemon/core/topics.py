"""The names of the bus's topics, built in one place.

Every topic is dotted; a segment that comes from outside (a symbol, an account, a strategy's name)
is escaped so that it can neither add a segment nor act as a wildcard. `docs/topics.md` is the table
of all topics with their events and publishers. Topics are memoised: making one that has been made
before costs a look-up. Publishers and subscribers call this; the bus does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from zq_daemon.model.bar import BarSpec
from zq_daemon.model.event import (
    OrderAccepted,
    OrderCanceled,
    OrderDenied,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderHeld,
    OrderInitialized,
    OrderJournalled,
    OrderModified,
    OrderPending,
    OrderPendingRejected,
    OrderRejected,
    OrderReopened,
    OrderSubmitted,
)
from zq_daemon.model.ids import AccountId, InstrumentId, StrategyId
from zq_daemon.model.order import Pending

PROBE = "system.probe"
TICK = "system.tick"
TRADING_STATE = "system.trading_state"

_MEMOISED = 16_384
"""Topics remembered by each function here: several times the instruments of one venue."""


def escape(segment: str) -> str:
    """*segment* with `%`, `.` and `*` written as `%25`, `%2E` and `%2A`; `unescape` undoes it."""
    return segment.replace("%", "%25").replace(".", "%2E").replace("*", "%2A")


def unescape(segment: str) -> str:
    """What `escape` was given."""
    return segment.replace("%2A", "*").replace("%2E", ".").replace("%25", "%")


@lru_cache(_MEMOISED)
def trade(instrument_id: InstrumentId) -> str:
    """`market_data.trade.<venue>.<symbol>`: `Trade`."""
    return f"market_data.trade.{_instrument(instrument_id)}"


@lru_cache(_MEMOISED)
def quote(instrument_id: InstrumentId) -> str:
    """`market_data.quote.<venue>.<symbol>`: `Quote`."""
    return f"market_data.quote.{_instrument(instrument_id)}"


@lru_cache(_MEMOISED)
def bar(instrument_id: InstrumentId, spec: BarSpec) -> str:
    """`market_data.bar.<venue>.<symbol>.<spec>`: `Bar`; the spec as configured (`1m`)."""
    return f"market_data.bar.{_instrument(instrument_id)}.{escape(spec.text)}"


@lru_cache(_MEMOISED)
def mark(instrument_id: InstrumentId) -> str:
    """`market_data.mark.<venue>.<symbol>`: `MarkPrice`."""
    return f"market_data.mark.{_instrument(instrument_id)}"


@lru_cache(_MEMOISED)
def mid(instrument_id: InstrumentId) -> str:
    """`market_data.mid.<venue>.<symbol>`: `MidPrice`."""
    return f"market_data.mid.{_instrument(instrument_id)}"


@lru_cache(_MEMOISED)
def candle(instrument_id: InstrumentId, interval: str) -> str:
    """`market_data.candle.<venue>.<symbol>.<interval>`: `Candle`; the interval as subscribed to."""
    return f"market_data.candle.{_instrument(instrument_id)}.{escape(interval)}"


@lru_cache(_MEMOISED)
def candles(instrument_id: InstrumentId) -> str:
    """A pattern: all candles of an instrument."""
    return f"market_data.candle.{_instrument(instrument_id)}.*"


@lru_cache(_MEMOISED)
def status(instrument_id: InstrumentId) -> str:
    """`market_data.status.<venue>.<symbol>`: `InstrumentStatus`."""
    return f"market_data.status.{_instrument(instrument_id)}"


@lru_cache(_MEMOISED)
def book_snapshot(instrument_id: InstrumentId) -> str:
    """`orderbook.snapshot.<venue>.<symbol>`: `BookSnapshot`."""
    return f"orderbook.snapshot.{_instrument(instrument_id)}"


@lru_cache(_MEMOISED)
def book_delta(instrument_id: InstrumentId) -> str:
    """`orderbook.delta.<venue>.<symbol>`: `BookDelta`."""
    return f"orderbook.delta.{_instrument(instrument_id)}"


def order(event: OrderEvent) -> str:
    """`order.<event>.<strategy>.<venue>.<symbol>`, the event's name as in `docs/topics.md`."""
    return _order(order_event_name(event), event.strategy_id, event.instrument_id)


@lru_cache(_MEMOISED)
def position(account_id: AccountId, instrument_id: InstrumentId) -> str:
    """`position.<account>.<venue>.<symbol>`: `PositionChanged`."""
    return f"position.{escape(account_id)}.{_instrument(instrument_id)}"


@lru_cache(_MEMOISED)
def account(account_id: AccountId) -> str:
    """`account.<account>`: `AccountUpdated`."""
    return f"account.{escape(account_id)}"


@lru_cache(_MEMOISED)
def liquidation(account_id: AccountId) -> str:
    """`liquidation.<account>`: `AccountLiquidated`."""
    return f"liquidation.{escape(account_id)}"


@lru_cache(_MEMOISED)
def funding(account_id: AccountId, instrument_id: InstrumentId) -> str:
    """`funding.<account>.<venue>.<symbol>`: `FundingPaid`."""
    return f"funding.{escape(account_id)}.{_instrument(instrument_id)}"


@lru_cache(_MEMOISED)
def strategy_call(strategy_id: str) -> str:
    """`strategy.call.<strategy>`: a function of the strategy's own, called as its handler."""
    return f"strategy.call.{escape(strategy_id)}"


@lru_cache(_MEMOISED)
def link(endpoint: str) -> str:
    """`system.link.<endpoint>`: `LinkChanged`."""
    return f"system.link.{escape(endpoint)}"


@lru_cache(_MEMOISED)
def health(component: str) -> str:
    """`system.health.<component>`: `HealthChanged`."""
    return f"system.health.{escape(component)}"


def _instrument(instrument_id: InstrumentId) -> str:
    venue, _, symbol = instrument_id.partition(".")
    return f"{escape(venue)}.{escape(symbol)}"


@lru_cache(_MEMOISED)
def _order(name: str, strategy_id: StrategyId, instrument_id: InstrumentId) -> str:
    return f"order.{name}.{escape(strategy_id)}.{_instrument(instrument_id)}"


def order_event_name(event: OrderEvent) -> str:
    """The event's name in its topic: `accepted`, `pending_cancel`."""
    name = _NAMES.get(type(event))
    if name is not None:
        return name
    match event:
        case OrderPending():
            return "pending_cancel" if event.pending is Pending.CANCEL else "pending_modify"
        case OrderPendingRejected():
            return "cancel_rejected" if event.pending is Pending.CANCEL else "modify_rejected"
        case _:
            raise TypeError(f"{type(event).__name__} is no event of an order")


_NAMES: Mapping[type[OrderEvent], str] = {
    OrderInitialized: "initialized",
    OrderDenied: "denied",
    OrderJournalled: "journalled",
    OrderSubmitted: "submitted",
    OrderAccepted: "accepted",
    OrderHeld: "held",
    OrderReopened: "reopened",
    OrderFilled: "filled",
    OrderCanceled: "canceled",
    OrderModified: "modified",
    OrderRejected: "rejected",
    OrderExpired: "expired",
}
