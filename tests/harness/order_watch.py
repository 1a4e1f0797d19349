"""Holds everything that becomes known of orders against what may follow what.

Subscribed to a bus it sees every event; between events `look` compares the cache with what it was.
It is written from the docstring of `core.order_state`, not from its code. What is wrong is noted in
`wrong`, as a handler that raises is only a fault on the bus.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from zq_daemon.core.cache import Cache
from zq_daemon.core.portfolio import Portfolio
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
    OrderPendingRejected,
    OrderRejected,
    OrderReopened,
    OrderSubmitted,
    PositionChanged,
)
from zq_daemon.model.ids import ClientOrderId
from zq_daemon.model.order import Order, OrderStatus

S = OrderStatus
_RANK = {S.INITIALIZED: 0, S.JOURNALLED: 1, S.SUBMITTED: 2, S.ACCEPTED: 3, S.PARTIALLY_FILLED: 4}
_CLOSED, _FILLED = 5, 6
_STAGES = (OrderInitialized, OrderJournalled, OrderSubmitted)
_CONCLUDED = (S.REJECTED, S.EXPIRED)
_AFTER_THE_END: dict[OrderStatus, tuple[type, ...]] = {
    S.DENIED: (),
    # A conclusion about something not seen: an acknowledgement or a fill proves it wrong.
    S.REJECTED: (OrderAccepted, OrderFilled, OrderCanceled, OrderExpired, OrderPendingRejected),
    S.EXPIRED: (OrderAccepted, OrderFilled, OrderCanceled, OrderPendingRejected),
    # Late: a fill, the acknowledgement, the newer id; and what became of a request.
    S.CANCELED: (OrderAccepted, OrderHeld, OrderFilled, OrderModified, OrderPendingRejected),
    S.FILLED: (OrderAccepted, OrderHeld, OrderFilled, OrderModified, OrderPendingRejected),
}
_NEVER_CHANGES = (
    "strategy_id",
    "account_id",
    "instrument_id",
    "side",
    "order_type",
    "time_in_force",
    "post_only",
    "reduce_only",
)


class OrderWatch:
    """Subscribe it to `*`; *known* at the beginning are the orders of former lives.

    Unless it is *thorough* an event makes it look at the order that it is about, and not at all.
    """

    def __init__(self, cache: Cache, portfolio: Portfolio, *, thorough: bool = True) -> None:
        self._thorough = thorough
        self.wrong: list[str] = []
        self.reopened: list[ClientOrderId] = []
        self._cache = cache
        self._portfolio = portfolio
        self._last: dict[ClientOrderId, Order] = {}
        self._stage: dict[ClientOrderId, int] = {}
        self._ended: dict[ClientOrderId, OrderStatus] = {}
        self._modified: set[ClientOrderId] = set()
        self._grown: Counter[ClientOrderId] = Counter()
        for order in (*cache.orders_closed(), *cache.orders_live()):
            self._last[order.client_order_id] = order
            self._stage[order.client_order_id] = len(_STAGES)
            if order.is_closed:
                self._ended[order.client_order_id] = order.status

    def __call__(self, event: Any) -> None:
        if isinstance(event, PositionChanged):
            held = event.position
            if held != self._portfolio.position(held.account_id, held.instrument_id):
                self._complain(event, "is published before the portfolio has it")
        order = None
        if isinstance(event, OrderEvent):
            order = self._cache.order(event.client_order_id)
            if order is not None:
                self._check_event(event, order)
            elif not (isinstance(event, OrderFilled) and event.strategy_id == "external"):
                self._complain(event, "is about an order that the cache does not have")
        if self._thorough:
            self.look()
        elif order is not None:
            self._look_at([order])

    def look(self) -> None:
        """Compare every order with what it was."""
        self._look_at((*self._cache.orders_closed(), *self._cache.orders_live()))

    def _look_at(self, orders: Iterable[Order]) -> None:
        for order in orders:
            before = self._last.get(order.client_order_id)
            if before is not None and before is not order:
                self._check_change(before, order)
            self._last[order.client_order_id] = order
        self._modified.clear()
        self._grown.clear()

    def _check_event(self, event: OrderEvent, order: Order) -> None:
        cloid, kind = event.client_order_id, type(event)
        stage = self._stage.get(cloid, 0)
        if kind in _STAGES:
            if _STAGES.index(kind) != stage:
                self._complain(event, f"comes at stage {stage}")
            self._stage[cloid] = stage + 1
        elif kind is OrderDenied:
            if stage > 1:
                self._complain(event, f"comes at stage {stage}")
        elif stage == 0:
            self._complain(event, "comes before the order was initialized")
        if kind is OrderReopened:
            # Statement after statement lists it: that is stronger than all that spoke for an end.
            self._ended.pop(cloid, None)
            self._last[cloid] = order
            self.reopened.append(cloid)
        if kind is OrderModified:
            self._modified.add(cloid)
        if isinstance(event, OrderFilled) and event.outgrown:
            self._grown[cloid] += event.fill.quantity  # type: ignore[assignment]
        ended = self._ended.get(cloid)
        if ended is not None and kind not in _AFTER_THE_END[ended]:
            self._complain(event, f"comes after {ended.value}")
        if kind is OrderFilled and event.fill.trade_id not in order.trade_ids:  # type: ignore[union-attr]
            self._complain(event, "is published before the order has it")
        self._note_end(event, order)

    def _note_end(self, event: OrderEvent, order: Order) -> None:
        cloid = event.client_order_id
        match event:
            case OrderDenied() | OrderRejected() | OrderExpired() | OrderCanceled():
                if not order.is_closed:
                    self._complain(event, f"says it ended, and it is {order.status.value}")
                self._ended[cloid] = order.status
            case OrderAccepted() | OrderFilled() | OrderModified() if not order.is_closed:
                self._ended.pop(cloid, None)
            case OrderFilled() if order.status is S.FILLED:
                self._ended[cloid] = S.FILLED
            case _:
                pass

    def _check_change(self, before: Order, after: Order) -> None:
        for name in _NEVER_CHANGES:
            if getattr(before, name) != getattr(after, name):
                self._complain(after, f"has another {name} than before")
        modified = after.client_order_id in self._modified
        total = before.quantity + self._grown[after.client_order_id]
        if not modified and (before.price, total) != (after.price, after.quantity):
            self._complain(after, "has other terms, and was not modified")
        if not before.trade_ids <= after.trade_ids:
            self._complain(after, "lost a fill")
        if before.filled_quantity > after.filled_quantity or before.ts_last_ns > after.ts_last_ns:
            self._complain(after, "went back")
        if set(before.venue_order_ids) - set(after.venue_order_ids):
            self._complain(after, "lost a venue order id")
        if _rank(after) < _rank(before) and not (modified or _was_disproved(before, after)):
            self._complain(after, f"moved back from {before.status.value}")

    def _complain(self, what: Any, problem: str) -> None:
        self.wrong.append(f"{what}: {problem}")


def _rank(order: Order) -> int:
    if order.status is S.FILLED:
        return _FILLED
    return _RANK.get(order.status, _CLOSED)


def _was_disproved(before: Order, after: Order) -> bool:
    """It was concluded without the order having been seen, and now it was."""
    unseen = not before.venue_order_ids and not before.trade_ids
    seen = bool(after.venue_order_ids or after.trade_ids)
    return before.status in _CONCLUDED and unseen and seen
