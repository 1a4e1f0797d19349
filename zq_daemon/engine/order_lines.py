"""What the log says of orders: a line an event, and not more of them than a log is for.

Owns the limit. Orders at a high rate would fill a disk, cost the trading thread a quarter of its
time, and make a service manager's log drop lines of everything else; the journal has every event.
What people look for first, executions and refusals, has a limit of its own, so that the routine of
many orders cannot hide it. Part of the ledger.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from zq_daemon.core.topics import order_event_name
from zq_daemon.model.event import (
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
)
from zq_daemon.model.fill import Fill
from zq_daemon.model.order import Order
from zq_daemon.ports.clock import NS_PER_S, Clock
from zq_daemon.telemetry.logging import shows

LINES_A_SECOND = 100
"""Of routine, and as many of the rest: systemd's journal takes 333 from a service by default."""
_MINOR = frozenset((OrderJournalled, OrderSubmitted, OrderPending))
"""Steps between asking and hearing: of interest only when something went wrong there."""
_ROUTINE = frozenset((OrderInitialized, OrderAccepted, OrderCanceled, OrderModified))

_Log = Callable[..., None]

_log = structlog.get_logger("zq.orders")


class OrderLines:
    """Writes the lines of order events; at debug level all of them."""

    def __init__(self, clock: Clock) -> None:
        """*clock* says which second it is."""
        self._clock = clock
        self._routine = _Allowance()
        self._rest = _Allowance()

    def tell(self, event: OrderEvent, order: Order) -> None:
        """Log that *event* led to *order*."""
        kind = type(event)
        if shows("debug"):
            _log_event(_log.debug if kind in _MINOR else _log.info, event, order)
        elif kind not in _MINOR and shows("info"):
            allowance = self._routine if kind in _ROUTINE else self._rest
            if allowance.takes(self._clock.monotonic_ns() // NS_PER_S):
                _log_event(_log.info, event, order)


class _Allowance:
    """Lines of the current second; what is left out is said at once, and then how much it was."""

    def __init__(self) -> None:
        self._second = self._taken = 0

    def takes(self, second: int) -> bool:
        """Whether there is a place for one more line."""
        if second != self._second:
            left_out = self._taken - LINES_A_SECOND
            self._second, self._taken = second, 0
            if left_out > 0:
                _log.info("order lines were left out", lines=left_out)
        self._taken += 1
        if self._taken == LINES_A_SECOND + 1:
            _log.info("more orders than lines: see the journal", limit_a_second=LINES_A_SECOND)
        return self._taken <= LINES_A_SECOND


def of_fill(fill: Fill) -> dict[str, str]:
    """What a line says of an execution."""
    return {
        "trade_id": fill.trade_id,
        "side": fill.side.value,
        "quantity": str(fill.quantity),
        "price": str(fill.price),
    } | ({"synthetic": "true"} if fill.is_synthetic else {})


def _log_event(log: _Log, event: OrderEvent, order: Order) -> None:
    log(
        f"order {order_event_name(event)}",
        strategy=event.strategy_id,
        instrument=event.instrument_id,
        **_details(event, order),
        client_order_id=event.client_order_id,
    )


def _details(event: OrderEvent, order: Order) -> dict[str, str]:
    match event:
        case OrderInitialized():
            # A market order's price is the worst that is accepted, far from what is expected.
            price = "worst_price" if order.order_type.is_market else "price"
            trigger = order.trigger_price
            return {
                "side": order.side.value,
                "type": order.order_type.value,
                "quantity": str(order.quantity),
                price: str(order.price),
            } | ({} if trigger is None else {"trigger_price": str(trigger)})
        case OrderFilled():
            return of_fill(event.fill)
        case OrderDenied() | OrderRejected() | OrderPendingRejected():
            return {"code": event.code, "reason": event.reason}
        case OrderCanceled() | OrderExpired():
            return {"reason": event.reason}
        case OrderModified():
            return {"quantity": str(event.quantity), "price": str(event.price)}
        case _:
            return {}
