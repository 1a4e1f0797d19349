"""The shapes of the wire: what the exchange says, built from its values.

Pure functions from values to JSON-ready dictionaries, in Hyperliquid's documented shapes; they own
no state. Called by the feeds and the info queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from attrs import frozen

from zq_daemon.model.market import BookLevel, Side
from zq_daemon.venue.exchange.account import Account, UserFill, UserOrder
from zq_daemon.venue.exchange.perp import Perp, wire

Json = dict[str, Any]
_UNIT = Decimal("0.000001")
_FINE = Decimal("0.0000000001")


@frozen(kw_only=True)
class PublicTrade:
    """A trade everybody sees; *buyer* and *seller* are addresses."""

    coin: str
    aggressor: Side
    price: Decimal
    size: Decimal
    time_ms: int
    tid: int
    buyer: str
    seller: str


@frozen(kw_only=True)
class AssetContext:
    """What the venue tells of one perpetual beside its book."""

    mark: Decimal
    oracle: Decimal
    mid: Decimal | None
    previous_day: Decimal
    day_volume: Decimal
    day_notional: Decimal
    open_interest: Decimal
    funding: Decimal


def side_letter(side: Side) -> str:
    """`B` for bid (buy), `A` for ask (sell)."""
    return "B" if side is Side.BUY else "A"


def level(value: BookLevel) -> Json:
    """One price level."""
    return {"px": wire(value.price), "sz": wire(value.quantity), "n": value.orders}


def book(coin: str, time_ms: int, bids: Sequence[BookLevel], asks: Sequence[BookLevel]) -> Json:
    """A full book snapshot."""
    sides = [[level(each) for each in bids], [level(each) for each in asks]]
    return {"coin": coin, "time": time_ms, "levels": sides}


def bbo(coin: str, time_ms: int, bid: BookLevel | None, ask: BookLevel | None) -> Json:
    """Best bid and offer; an empty side is null."""
    return {
        "coin": coin,
        "time": time_ms,
        "bbo": [bid and level(bid), ask and level(ask)],
    }


def trade(value: PublicTrade) -> Json:
    """One public trade."""
    return {
        "coin": value.coin,
        "side": side_letter(value.aggressor),
        "px": wire(value.price),
        "sz": wire(value.size),
        "hash": trade_hash(value.tid),
        "time": value.time_ms,
        "tid": value.tid,
        "users": [value.buyer, value.seller],
    }


def trade_hash(tid: int) -> str:
    """There is no chain here: a made-up transaction hash that is unique for the trade."""
    return f"0x{tid:064x}"


def asset_context(value: AssetContext) -> Json:
    """The context of one perpetual (`activeAssetCtx`, `metaAndAssetCtxs`)."""
    mid = None if value.mid is None else wire(value.mid)
    premium = (value.mark - value.oracle) / value.oracle if value.oracle else Decimal(0)
    return {
        "funding": wire(value.funding),
        "openInterest": wire(value.open_interest),
        "prevDayPx": wire(value.previous_day),
        "dayNtlVlm": wire(value.day_notional),
        "premium": wire(premium.quantize(_FINE)),
        "oraclePx": wire(value.oracle),
        "markPx": wire(value.mark),
        "midPx": mid,
        "impactPxs": None if mid is None else [mid, mid],
        "dayBaseVlm": wire(value.day_volume),
    }


def meta(universe: Sequence[Perp]) -> Json:
    """The listing; an asset id is a place in it."""
    return {
        "universe": [
            {
                "szDecimals": perp.size_decimals,
                "name": perp.name,
                "maxLeverage": perp.max_leverage,
            }
            for perp in universe
        ],
        "marginTables": [],
    }


def open_order(order: UserOrder) -> Json:
    """A live order as `openOrders` and `orderUpdates` have it."""
    shape: Json = {
        "coin": order.coin,
        "side": side_letter(order.side),
        "limitPx": wire(order.price),
        "sz": wire(order.left),
        "oid": order.oid,
        "timestamp": order.time_ms,
        "origSz": wire(order.size),
    }
    if order.cloid is not None:
        shape["cloid"] = order.cloid
    return shape


def frontend_order(order: UserOrder) -> Json:
    """An order as `frontendOpenOrders` and `orderStatus` have it."""
    return open_order(order) | {
        "triggerCondition": "N/A",
        "isTrigger": False,
        "triggerPx": "0.0",
        "children": [],
        "isPositionTpsl": False,
        "reduceOnly": order.reduce_only,
        "orderType": "Limit",
        "tif": order.tif,
        "cloid": order.cloid,
    }


def order_update(order: UserOrder) -> Json:
    """One entry of `orderUpdates`."""
    return {
        "order": open_order(order),
        "status": order.status,
        "statusTimestamp": order.status_ms,
    }


def order_status(order: UserOrder) -> Json:
    """One row of `historicalOrders`, and the inner part of `orderStatus`."""
    return order_update(order) | {"order": frontend_order(order)}


def fill(value: UserFill) -> Json:
    """One execution of a user's order."""
    shape: Json = {
        "coin": value.coin,
        "px": wire(value.price),
        "sz": wire(value.size),
        "side": side_letter(value.side),
        "time": value.time_ms,
        "startPosition": wire(value.start_position),
        "dir": value.direction,
        "closedPnl": wire(value.closed_pnl),
        "hash": trade_hash(value.tid),
        "oid": value.oid,
        "crossed": value.crossed,
        "fee": wire(value.fee),
        "tid": value.tid,
        "feeToken": "USDC",
    }
    if value.cloid is not None:
        shape["cloid"] = value.cloid
    return shape


@frozen(kw_only=True)
class Marked:
    """A position's coin with its mark and leverage, for the account's state."""

    coin: str
    mark: Decimal
    leverage: int
    max_leverage: int


def account_state(account: Account, marked: Sequence[Marked], time_ms: int) -> Json:
    """`clearinghouseState`: positions at their marks and the margin summary."""
    positions = [_position(account, each) for each in marked]
    marks = {each.coin: each.mark for each in marked}
    value = account.value(marks.__getitem__)
    notional = sum((abs(account.position_size(m.coin)) * m.mark for m in marked), Decimal(0))
    net = sum((account.position_size(m.coin) * m.mark for m in marked), Decimal(0))
    used = sum((_margin(account, each) for each in marked), Decimal(0))
    summary = {
        "accountValue": wire(value),
        "totalNtlPos": wire(notional),
        "totalRawUsd": wire(value - net),
        "totalMarginUsed": wire(used),
    }
    return {
        "marginSummary": summary,
        "crossMarginSummary": dict(summary),
        "crossMaintenanceMarginUsed": wire(used / 2),
        "withdrawable": wire(max(value - used, Decimal(0))),
        "assetPositions": positions,
        "time": time_ms,
    }


def _position(account: Account, marked: Marked) -> Json:
    held = account.positions[marked.coin]
    profit = held.size * marked.mark - held.cost
    margin = _margin(account, marked)
    entry = held.entry_price or Decimal(0)
    return {
        "type": "oneWay",
        "position": {
            "coin": marked.coin,
            "szi": wire(held.size),
            "leverage": {"type": "cross", "value": marked.leverage},
            "entryPx": wire(entry.quantize(_FINE)),
            "positionValue": wire(abs(held.size) * marked.mark),
            "unrealizedPnl": wire(profit),
            "returnOnEquity": wire((profit / margin).quantize(_FINE) if margin else margin),
            "liquidationPx": None,
            "marginUsed": wire(margin),
            "maxLeverage": marked.max_leverage,
            "cumFunding": {"allTime": "0.0", "sinceOpen": "0.0", "sinceChange": "0.0"},
        },
    }


def _margin(account: Account, marked: Marked) -> Decimal:
    notional = abs(account.position_size(marked.coin)) * marked.mark
    return (notional / marked.leverage).quantize(_UNIT)
