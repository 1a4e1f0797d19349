"""What `orders` answers: the orders of one kind, the newest of them where there are too many.

Read from the cache's indices, written row by row: the trading loop gets its turn in between, as
ten thousand rows would hold it up for longer than an order may wait.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, assert_never

import trio

from zq_daemon.control.amounts import exact_text_of, text_of
from zq_daemon.control.arguments import Arguments
from zq_daemon.control.doubts import doubt_row
from zq_daemon.control.names import find_instrument, find_strategy
from zq_daemon.engine.in_flight import Watch
from zq_daemon.model.ids import ClientOrderId
from zq_daemon.model.order import Order, OrderStatus, Pending
from zq_daemon.ports.clock import NS_PER_S

if TYPE_CHECKING:
    from zq_daemon.assembly import Assembly

KINDS = ("live", "open", "in_flight", "unknown", "closed")
"""Live: not ended; open: the venue has confirmed it; in flight: a request has no outcome yet.

Unknown: it is in doubt, and the venue is asked what became of it; such a row has a `doubt`.
"""
TAKES = ("kind", "strategy", "instrument", "limit")
LIMIT = 1_000
MOST = 10_000
_ROWS_A_TURN = 100


async def list_orders(parts: Assembly, asked: Arguments) -> dict[str, Any]:
    """The orders asked for, oldest first, as JSON-ready rows; *total* counts those left out too."""
    kind = asked.choice("kind", KINDS, "live")
    limit = asked.count("limit", most=MOST, default=LIMIT)
    narrowed = {
        "instrument_id": find_instrument(parts, asked.text("instrument")),
        "strategy_id": find_strategy(parts, asked.text("strategy")),
    }
    doubts: Mapping[ClientOrderId, Watch] = {}
    found: Collection[Order]
    if kind == "unknown":
        doubts = {each.client_order_id: each for each in parts.execution.doubts()}
        # One that has ended may still lack fills.
        known = (*_select(parts, "closed", **narrowed), *_select(parts, "live", **narrowed))
        found = [order for order in known if order.client_order_id in doubts]
    else:
        found = _select(parts, kind, **narrowed)
    total = len(found)
    newest = tuple(islice(found, max(total - limit, 0), None))
    clock = parts.ports.clock
    rows: list[dict[str, Any]] = []
    for start in range(0, len(newest), _ROWS_A_TURN):
        for order in newest[start : start + _ROWS_A_TURN]:
            doubt = doubts.get(order.client_order_id)
            told = {} if doubt is None else {"doubt": doubt_row(order, doubt, clock)}
            rows.append(order_row(order, clock.now_ns()) | told)
        await trio.lowlevel.checkpoint()
    return {"kind": kind, "total": total, "orders": rows}


def _select(parts: Assembly, kind: str, **narrowed: Any) -> Collection[Order]:
    cache = parts.cache
    chosen = {
        "live": cache.orders_live,
        "open": cache.orders_open,
        "in_flight": cache.orders_in_flight,
        "closed": cache.orders_closed,
    }
    return chosen[kind](**narrowed)


def order_row(order: Order, now_ns: int) -> dict[str, Any]:
    """*order* as it is told at wall time *now_ns*; `why` is what is awaited, or why it ended.

    `entry` is the client order id of what it is an exit of, `synthetic` how much of `filled` the
    venue cannot tell the fills of.
    """
    changed_s = _seconds(now_ns - order.ts_last_ns)
    return {
        "client_order_id": order.client_order_id,
        "strategy": order.strategy_id,
        "account": order.account_id,
        "instrument": order.instrument_id,
        "side": order.side.value,
        "type": order.order_type.value,
        "time_in_force": order.time_in_force.value,
        "post_only": order.post_only,
        "reduce_only": order.reduce_only,
        "price": exact_text_of(order.price),
        "trigger_price": exact_text_of(order.trigger_price),
        "quantity": exact_text_of(order.quantity),
        "filled": exact_text_of(order.filled_quantity),
        "average_fill_price": text_of(order.average_fill_price),
        "synthetic": None if order.synthetic is None else exact_text_of(order.synthetic.quantity),
        "status": order.status.value,
        "pending": None if order.pending is None else order.pending.value,
        "age_s": _seconds(now_ns - order.ts_init_ns),
        "changed_s": changed_s,
        "in_flight_s": changed_s if order.is_in_flight else None,
        "why": _awaited(order) or order.reason,
        "venue_order_id": order.venue_order_id,
        "entry": order.parent_id,
    }


def _awaited(order: Order) -> str:
    """What is not known yet about an order in flight, in words; empty where all is known."""
    match order.status:
        case OrderStatus.INITIALIZED:
            return "waits to be sent"
        case OrderStatus.JOURNALLED:
            return "durable, about to be sent"
        case OrderStatus.SUBMITTED:
            later = _requested(order)
            return f"sent, no outcome known; {later}" if later else "sent, no outcome known"
        case _:
            return "" if order.is_closed else _requested(order)


def _requested(order: Order) -> str:
    match order.pending:
        case None:
            is_held = order.is_held and not order.venue_order_ids
            return "held by the venue until its entry has filled" if is_held else ""
        case Pending.CANCEL:
            return "cancel asked for, no outcome known"
        case Pending.MODIFY:
            quantity = exact_text_of(order.pending_quantity)
            to = "" if quantity is None else f" to quantity {quantity}"
            return f"modification{to} asked for, no outcome known"
    assert_never(order.pending)


def _seconds(elapsed_ns: int) -> float:
    """Never negative: the wall clock may have been set back."""
    return round(max(elapsed_ns, 0) / NS_PER_S, 3)
