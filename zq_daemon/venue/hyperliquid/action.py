"""What is asked of Hyperliquid, as its JSON has it: orders, cancels, modifications, settings.

Owns the shape of every action, whose keys stay in this order: it is hashed. Pure functions;
ValueError names an order that the venue's protocol cannot express. Order entry signs what is made
here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from zq_daemon.model.order import Order, OrderType, TimeInForce
from zq_daemon.venue.hyperliquid import decode

Action = Mapping[str, Any]
Wire = dict[str, Any]


def submission(orders: Sequence[Wire], grouping: str) -> Action:
    """New orders."""
    return {"type": "order", "orders": list(orders), "grouping": grouping}


def grouping(orders: Sequence[Order], *, protects_position: bool) -> str:
    """How the venue ties *orders* together; ValueError for what it does not.

    `na`: not at all. `normalTpsl`: the first is the entry, the others protect what it fills.
    `positionTpsl`: they protect the position, whatever its size becomes.
    """
    exits = [order for order in orders if order.parent_id is not None]
    protective = all(order.order_type.is_trigger and order.reduce_only for order in orders)
    if protects_position:
        if exits or not protective:
            raise ValueError("only reduce-only trigger orders without an entry protect a position")
        return "positionTpsl"
    if not exits:
        return "na"
    entry = orders[0]
    if entry.parent_id is not None or {each.parent_id for each in orders[1:]} != {
        entry.client_order_id
    }:
        raise ValueError(
            f"order {entry.client_order_id}: one request has one entry, first, and its exits only"
        )
    return "normalTpsl"


def cancellation(orders: Sequence[tuple[int, Order]]) -> Action:
    """The end of orders by client order id; each has its asset id before it."""
    cancels = [{"asset": asset, "cloid": order.client_order_id} for asset, order in orders]
    return {"type": "cancelByCloid", "cancels": cancels}


def cancellation_by_number(orders: Sequence[tuple[int, Order]]) -> Action:
    """The end of orders by the venue's own number; ValueError for one without."""
    cancels = [{"a": asset, "o": order_number(order)} for asset, order in orders]
    return {"type": "cancel", "cancels": cancels}


def modification(changes: Sequence[tuple[int | str, Wire]]) -> Action:
    """What shall rest instead of each order, which is named by its number or client order id."""
    return {
        "type": "batchModify",
        "modifies": [{"oid": named, "order": order} for named, order in changes],
    }


def scheduled_cancel(at_ms: int | None) -> Action:
    """All orders shall be cancelled at *at_ms*; None: not any more."""
    return (
        {"type": "scheduleCancel"} if at_ms is None else {"type": "scheduleCancel", "time": at_ms}
    )


def leverage_update(asset: int, leverage: int, *, is_cross: bool) -> Action:
    """The leverage of positions in *asset* from now on."""
    return {"type": "updateLeverage", "asset": asset, "isCross": is_cross, "leverage": leverage}


def order_terms(order: Order, asset: int, price: Decimal | None, quantity: Decimal) -> Wire:
    """*order* with *price* and *quantity* in place of its own."""
    if price is None:
        raise ValueError(f"order {order.client_order_id}: has no price")
    return {
        "a": asset,
        "b": order.side.sign > 0,
        "p": wire_number(price),
        "s": wire_number(quantity),
        "r": order.reduce_only,
        "t": _trigger(order) if order.order_type.is_trigger else _limit(order),
        "c": order.client_order_id,
    }


def order_number(order: Order) -> int:
    """The venue's own number of an external order; ValueError when it is not known."""
    number = decode.order_number(order.venue_order_id)
    if number is None:
        raise ValueError(
            f"external order {order.client_order_id}: its venue order id is "
            f"{order.venue_order_id!r}, not a number"
        )
    return number


def wire_number(value: Decimal) -> str:
    """A price or size as it is hashed: plain digits, no trailing zeros; ValueError unless > 0."""
    if not (value.is_finite() and value > 0):
        raise ValueError(f"{value} is not a price or size")
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _limit(order: Order) -> Wire:
    immediate = order.order_type is OrderType.MARKET or order.time_in_force is TimeInForce.IOC
    if immediate and order.post_only:
        raise ValueError(f"order {order.client_order_id}: post-only and immediate exclude another")
    return {"limit": {"tif": "Ioc" if immediate else "Alo" if order.post_only else "Gtc"}}


def _trigger(order: Order) -> Wire:
    name = f"order {order.client_order_id}"
    is_market = order.order_type.is_market
    if order.trigger_price is None:
        raise ValueError(f"{name}: has no trigger price")
    if order.post_only:
        raise ValueError(f"{name}: a trigger order cannot be post-only here")
    if order.time_in_force is TimeInForce.IOC and not is_market:
        raise ValueError(f"{name}: a triggered limit order rests here, it cannot be immediate")
    return {
        "trigger": {
            "isMarket": is_market,
            "triggerPx": wire_number(order.trigger_price),
            "tpsl": "sl" if order.order_type.is_stop else "tp",
        }
    }
