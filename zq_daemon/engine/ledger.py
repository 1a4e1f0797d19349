"""The one place where an order event takes effect: order state, cache, portfolio, then the bus.

Owns that order of things and the log line. It decides nothing: the execution engine, the reader of
reports and the inquiry hand it evidence. Who must know of a change before the subscribers do (what
is in flight, who waits for evidence) listens through `on_change`.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import structlog

from zq_daemon.core import topics
from zq_daemon.core.bus import MessageBus
from zq_daemon.core.cache import Cache
from zq_daemon.core.order_state import apply
from zq_daemon.core.portfolio import Portfolio
from zq_daemon.model.event import (
    FundingPaid,
    OrderAccepted,
    OrderCanceled,
    OrderDenied,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderInitialized,
    OrderJournalled,
    OrderModified,
    OrderPending,
    OrderPendingRejected,
    OrderRejected,
    OrderSubmitted,
    PositionChanged,
)
from zq_daemon.model.fill import Fill
from zq_daemon.model.ids import ClientOrderId, StrategyId, VenueOrderId
from zq_daemon.model.order import Order, OrderStatus, OrderType, Pending
from zq_daemon.model.position import Position
from zq_daemon.model.report import OrderReport, PositionReport
from zq_daemon.ports.clock import Clock
from zq_daemon.venue.interface import Request

EXTERNAL = StrategyId("external")
"""Stands in events for the owner of fills that belong to no order of ours."""

_log = structlog.get_logger("zq.orders")


class OrderLedger:
    """Applies evidence; everything is in cache and portfolio before it is published.

    Every method that takes an order expects it as the cache has it, and returns it as it then
    stands. What tells nothing new is not published.
    """

    def __init__(self, bus: MessageBus, cache: Cache, portfolio: Portfolio, clock: Clock) -> None:
        self._bus = bus
        self._cache = cache
        self._portfolio = portfolio
        self._clock = clock
        self._listeners: list[Callable[[Order, Order], None]] = []

    def on_change(self, listener: Callable[[Order, Order], None]) -> None:
        """Call *listener* with every order before and after a change, ahead of any subscriber."""
        self._listeners.append(listener)

    def track(self, order: Order) -> None:
        """Begin to track an order that was asked for."""
        self._cache.put_order(order)
        self._publish(OrderInitialized(order=order, **self._about(order)), order)

    def deny(self, order: Order, code: str, reason: str) -> Order:
        """Our own checks stopped the order before it left."""
        return self._record(order, OrderDenied(code=code, reason=reason, **self._about(order)))

    def journalled(self, order: Order, request: Request) -> Order:
        """The intent is durable."""
        about = self._about(order)
        event = OrderJournalled(nonce=request.nonce, expires_ns=request.expires_ns, **about)
        return self._record(order, event)

    def submitted(self, order: Order) -> Order:
        """The order is about to leave."""
        return self._record(order, OrderSubmitted(**self._about(order)))

    def accept(self, order: Order, venue_order_id: VenueOrderId) -> Order:
        """The venue has the order."""
        event = OrderAccepted(venue_order_id=venue_order_id, **self._about(order))
        return self._record(order, event)

    def reject(self, order: Order, code: str, reason: str) -> Order:
        """The venue definitely refused the order, or it definitely never left."""
        return self._record(order, OrderRejected(code=code, reason=reason, **self._about(order)))

    def cancel(self, order: Order, reason: str) -> Order:
        """The order is off the book, under whatever venue order id."""
        event = OrderCanceled(venue_order_id=None, reason=reason, **self._about(order))
        return self._record(order, event)

    def expire(self, order: Order, reason: str) -> Order:
        """The order's validity ended, and nobody has ever seen it at the venue."""
        return self._record(order, OrderExpired(reason=reason, **self._about(order)))

    def close(self, order: Order, report: OrderReport) -> Order:
        """The venue says that its order of that id has ended, other than by fills."""
        about = self._about(order) | {"venue_order_id": report.venue_order_id}
        closing = _closing(report.status, "VENUE_REJECTED", report.reason, about)
        return self._record(order, closing)

    def pend(self, order: Order, pending: Pending, quantity: Decimal | None = None) -> Order:
        """A cancel, or a modification to a new total *quantity*, was asked for."""
        event = OrderPending(pending=pending, quantity=quantity, **self._about(order))
        return self._record(order, event)

    def decline(self, order: Order, pending: Pending, code: str, reason: str) -> None:
        """A cancel or modification was not even begun: the order, and what it waits for, stay."""
        about = self._about(order)
        event = OrderPendingRejected(pending=pending, code=code, reason=reason, **about)
        self._publish(event, order)

    def refuse(self, order: Order, pending: Pending, code: str, reason: str) -> Order:
        """A cancel or modification came to nothing; always published, as somebody asked for it."""
        event = OrderPendingRejected(
            pending=pending, code=code, reason=reason, **self._about(order)
        )
        updated = self._keep(order, event)
        self._publish(event, updated)
        if updated.is_closed and not order.is_closed:
            self._publish_held_closing(updated)
        return updated

    def modify(
        self, order: Order, venue_order_id: VenueOrderId, price: Decimal | None, quantity: Decimal
    ) -> Order:
        """The order rests under new terms; *quantity* is the total."""
        event = OrderModified(
            venue_order_id=venue_order_id, price=price, quantity=quantity, **self._about(order)
        )
        return self._record(order, event)

    def fill(self, order: Order, fill: Fill) -> Order:
        """An execution of *order*; the position follows."""
        about = self._about(order) | {"ts_event_ns": fill.ts_event_ns}
        event = OrderFilled(fill=fill, **about)
        updated = self._keep(order, event)
        if updated is not order:
            position = self._portfolio.on_fill(fill, order.strategy_id)
            self._cache.put_position(position)
            self._publish(event, updated)
            self._publish_position(position, fill.ts_event_ns)
        return updated

    def fill_external(self, fill: Fill) -> None:
        """An execution on our account that none of our orders explains."""
        position = self._portfolio.on_fill(fill, None)
        self._cache.put_position(position)
        event = OrderFilled(
            client_order_id=fill.client_order_id or ClientOrderId("external"),
            strategy_id=EXTERNAL,
            instrument_id=fill.instrument_id,
            ts_event_ns=fill.ts_event_ns,
            fill=fill,
        )
        _log.warning("external fill", **_of_fill(fill), venue_order_id=fill.venue_order_id)
        self._bus.publish(topics.order(event), event)
        self._publish_position(position, fill.ts_event_ns)

    def fund(self, funding: FundingPaid) -> None:
        """Funding settled on a position."""
        position = self._portfolio.on_funding(funding)
        self._cache.put_position(position)
        self._bus.publish(topics.funding(funding.account_id, funding.instrument_id), funding)
        self._publish_position(position, funding.ts_event_ns)

    def adopt_position(self, report: PositionReport) -> None:
        """Begin with the venue's position."""
        position = self._portfolio.set_position(report)
        self._cache.put_position(position)
        self._publish_position(position, report.ts_event_ns)

    def _record(self, order: Order, event: OrderEvent) -> Order:
        updated = self._keep(order, event)
        if updated is order:
            return order
        is_closing = isinstance(event, (OrderCanceled, OrderRejected, OrderExpired))
        # A close that is held is no news yet; one more reason for an end is none any more.
        if not is_closing or (updated.is_closed and updated.status is not order.status):
            self._publish(event, updated)
        return updated

    def _keep(self, order: Order, event: OrderEvent) -> Order:
        updated = apply(order, event)
        if updated is not order:
            self._cache.put_order(updated)
            for listener in self._listeners:
                listener(order, updated)
        return updated

    def _publish_held_closing(self, order: Order) -> None:
        about = self._about(order) | {"venue_order_id": order.venue_order_id}
        event = _closing(order.status, "VENUE_REJECTED", order.reason, about)
        self._publish(event, order)

    def _publish(self, event: OrderEvent, order: Order) -> None:
        topic = topics.order(event)
        _log_event(topic.split(".", 2)[1], event, order)
        self._bus.publish(topic, event)

    def _publish_position(self, position: Position, ts_event_ns: int) -> None:
        topic = topics.position(position.account_id, position.instrument_id)
        self._bus.publish(topic, PositionChanged(position=position, ts_event_ns=ts_event_ns))

    def _about(self, order: Order) -> dict[str, Any]:
        return {
            "client_order_id": order.client_order_id,
            "strategy_id": order.strategy_id,
            "instrument_id": order.instrument_id,
            "ts_event_ns": self._clock.now_ns(),
        }


def _closing(
    status: OrderStatus, code: str, reason: str, about: dict[str, Any]
) -> OrderCanceled | OrderRejected | OrderExpired:
    if status is OrderStatus.REJECTED:
        return OrderRejected(code=code, reason=reason, **about)
    if status is OrderStatus.EXPIRED:
        return OrderExpired(reason=reason, **about)
    return OrderCanceled(reason=reason, **about)


def _log_event(name: str, event: OrderEvent, order: Order) -> None:
    details: dict[str, Any] = {}
    match event:
        case OrderInitialized():
            details = {
                "side": order.side.value,
                "type": order.order_type.value,
                "quantity": str(order.quantity),
                # A market order's is the worst that is accepted, far from what is expected.
                "price" if order.order_type is OrderType.LIMIT else "worst_price": str(order.price),
            }
        case OrderFilled():
            details = _of_fill(event.fill)
        case OrderDenied() | OrderRejected() | OrderPendingRejected():
            details = {"code": event.code, "reason": event.reason}
        case OrderCanceled() | OrderExpired():
            details = {"reason": event.reason}
        case OrderModified():
            details = {"quantity": str(event.quantity), "price": str(event.price)}
        case _:
            pass
    # The steps between asking and hearing are of interest only when something went wrong there.
    minor = isinstance(event, (OrderJournalled, OrderSubmitted, OrderPending))
    (_log.debug if minor else _log.info)(
        f"order {name}",
        strategy=event.strategy_id,
        instrument=event.instrument_id,
        **details,
        client_order_id=event.client_order_id,
    )


def _of_fill(fill: Fill) -> dict[str, str]:
    return {
        "trade_id": fill.trade_id,
        "side": fill.side.value,
        "quantity": str(fill.quantity),
        "price": str(fill.price),
    }
