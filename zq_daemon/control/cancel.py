"""`cancel-all`: has every live order of a kind cancelled and, if asked to, waits for the evidence.

It commands and listens over the bus like everybody else. What it waits for are the orders that were
live when it was asked: the strategies trade on, and what they place meanwhile is none of its
concern (`halt` is for that). Cancels that came to nothing are tried again by the execution engine,
also when nobody waits any more.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import structlog
import trio

from zq_daemon.control.arguments import Arguments
from zq_daemon.control.names import find_instrument, find_strategy
from zq_daemon.errors import ControlError
from zq_daemon.model.command import CancelAllOrders
from zq_daemon.model.ids import ClientOrderId
from zq_daemon.model.order import OrderStatus

if TYPE_CHECKING:
    from zq_daemon.assembly import Assembly

TAKES = ("strategy", "instrument", "wait_s")
MOST_S = 3_600.0
"""How long a client may have itself wait."""
_TOLD = 100
"""Unverified orders that are named."""

_log = structlog.get_logger("zq.control")


class CancelAll:
    """The verb; at most *waits* clients wait at a time, so that others still get through."""

    def __init__(self, waits: int) -> None:
        self._waits = trio.CapacityLimiter(waits)

    async def run(self, parts: Assembly, asked: Arguments) -> dict[str, Any]:
        """Cancel what is asked; what came of it, or with no `wait_s` only how many are asked."""
        command = CancelAllOrders(
            strategy_id=find_strategy(parts, asked.text("strategy")),
            instrument_id=find_instrument(parts, asked.text("instrument")),
        )
        wait_s = asked.seconds("wait_s", most=MOST_S)
        if wait_s is None:
            return {"asked": len(_cancel(parts, command))}
        try:
            self._waits.acquire_nowait()
        except trio.WouldBlock:
            raise ControlError(
                "too many clients wait for cancels: try again, or do not wait"
            ) from None
        try:
            return await _cancel_and_wait(parts, command, wait_s)
        finally:
            self._waits.release()


def _cancel(parts: Assembly, command: CancelAllOrders) -> tuple[ClientOrderId, ...]:
    live = parts.cache.orders_live(
        strategy_id=command.strategy_id, instrument_id=command.instrument_id
    )
    asked = tuple(order.client_order_id for order in live)
    _log.warning(
        "cancelling all orders",
        strategy=command.strategy_id,
        instrument=command.instrument_id,
        orders=len(asked),
        by="control socket",
    )
    parts.bus.send("order.cancel_all", command)
    return asked


async def _cancel_and_wait(
    parts: Assembly, command: CancelAllOrders, wait_s: float
) -> dict[str, Any]:
    changed = trio.Event()

    def hear(_: object) -> None:
        changed.set()

    subscription = parts.bus.subscribe("order.*", hear)
    try:
        asked = _cancel(parts, command)
        left = _alive(parts, asked)
        with trio.move_on_after(wait_s):
            while left:
                await changed.wait()
                changed = trio.Event()
                left = _alive(parts, left)
    finally:
        subscription.cancel()
    return _outcome(parts, asked, _alive(parts, asked))


def _alive(parts: Assembly, asked: Collection[ClientOrderId]) -> tuple[ClientOrderId, ...]:
    orders = (parts.cache.order(each) for each in asked)
    return tuple(
        order.client_order_id for order in orders if order is not None and not order.is_closed
    )


def _outcome(
    parts: Assembly, asked: Collection[ClientOrderId], unverified: Collection[ClientOrderId]
) -> dict[str, Any]:
    orders = (parts.cache.order(each) for each in asked)
    cancelled = sum(order is not None and order.status is OrderStatus.CANCELED for order in orders)
    result = {
        "asked": len(asked),
        "cancelled": cancelled,
        "unverified": len(unverified),
        "otherwise": len(asked) - cancelled - len(unverified),
    }
    (_log.warning if unverified else _log.info)("orders cancelled", **result)
    return {**result, "unverified_orders": list(unverified)[:_TOLD]}
