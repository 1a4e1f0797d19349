"""The shapes of the wire: what the exchange says, built from its values.

Pure functions from values to JSON-ready dictionaries, in Hyperliquid's documented shapes; they own
no state. Called by the feeds and the info queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from attrs import frozen

from zq_daemon.model.market import BookLevel, Side
from zq_daemon.venue.exchange.account import (
    UNIT,
    Account,
    FundingPayment,
    LedgerUpdate,
    Leverage,
    Liquidation,
    UserFill,
    UserOrder,
)
from zq_daemon.venue.exchange.candles import Candle
from zq_daemon.venue.exchange.listing import Listing, Perp, SpotPair, Token, total, wire
from zq_daemon.venue.exchange.margin import AccountSummary, PositionSummary

if TYPE_CHECKING:
    from zq_daemon.venue.exchange.funding import FundingRate

Json = dict[str, Any]
SUPPLY = "1000000000.0"
"""Of every token there is as much: none is ever made."""


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
    """What the venue tells of one asset beside its book."""

    mark: Decimal
    mid: Decimal | None
    previous_day: Decimal
    day_volume: Decimal
    day_notional: Decimal


@frozen(kw_only=True)
class Carry:
    """What it tells of a perpetual besides; *impact* are prices at which size trades."""

    oracle: Decimal
    open_interest: Decimal
    funding: Decimal
    premium: Decimal
    impact: tuple[Decimal, Decimal] | None


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


def asset_context(value: AssetContext, carry: Carry) -> Json:
    """The context of one perpetual (`activeAssetCtx`, `metaAndAssetCtxs`)."""
    impact = carry.impact and [wire(price.quantize(UNIT)) for price in carry.impact]
    return {
        "funding": wire(carry.funding),
        "openInterest": wire(carry.open_interest),
        "prevDayPx": wire(value.previous_day),
        "dayNtlVlm": wire(value.day_notional),
        "premium": wire(carry.premium),
        "oraclePx": wire(carry.oracle),
        "markPx": wire(value.mark),
        "midPx": None if value.mid is None else wire(value.mid),
        "impactPxs": impact,
        "dayBaseVlm": wire(value.day_volume),
    }


def spot_context(coin: str, value: AssetContext) -> Json:
    """The context of one spot pair (`activeSpotAssetCtx`, `spotMetaAndAssetCtxs`)."""
    return {
        "coin": coin,
        "prevDayPx": wire(value.previous_day),
        "dayNtlVlm": wire(value.day_notional),
        "markPx": wire(value.mark),
        "midPx": None if value.mid is None else wire(value.mid),
        "circulatingSupply": SUPPLY,
        "totalSupply": SUPPLY,
        "dayBaseVlm": wire(value.day_volume),
    }


def candle(value: Candle) -> Json:
    """One candle; its last millisecond is told as its end."""
    return {
        "t": value.start_ms,
        "T": value.end_ms - 1,
        "s": value.coin,
        "i": value.interval,
        "o": wire(value.open),
        "c": wire(value.close),
        "h": wire(value.high),
        "l": wire(value.low),
        "v": wire(value.volume),
        "n": value.trades,
    }


def meta(universe: Sequence[Perp]) -> Json:
    """The listing; an asset id is a place in it."""
    return {
        "universe": [_perp(perp) for perp in universe],
        "marginTables": [],
    }


def spot_meta(listing: Listing) -> Json:
    """The spot listing; an asset id is 10 000 and a pair's index."""
    return {
        "tokens": [_token(token) for token in listing.tokens],
        "universe": [_pair(pair) for pair in listing.pairs],
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
        "triggerCondition": _trigger_condition(order),
        "isTrigger": order.trigger is not None,
        "triggerPx": wire(order.trigger.price) if order.trigger else "0.0",
        "children": [frontend_order(child) for child in order.children],
        "isPositionTpsl": order.follows_position,
        "reduceOnly": order.reduce_only,
        "orderType": _order_type(order),
        "tif": None if order.trigger else order.tif,
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
        "feeToken": value.fee_token,
    }
    if value.cloid is not None:
        shape["cloid"] = value.cloid
    if value.liquidation is not None:
        shape["liquidation"] = {
            "liquidatedUser": value.liquidation.user,
            "markPx": wire(value.liquidation.mark),
            "method": value.liquidation.method,
        }
    return shape


def account_state(summary: AccountSummary, time_ms: int) -> Json:
    """`clearinghouseState`: positions at their marks, and what they need."""
    cross = _margin_summary(summary.cross_value, summary.cross_positions)
    return {
        "marginSummary": _margin_summary(summary.value, summary.positions),
        "crossMarginSummary": cross,
        "crossMaintenanceMarginUsed": wire(summary.cross_maintenance),
        "withdrawable": wire(summary.withdrawable),
        "assetPositions": [_position(each) for each in summary.positions],
        "time": time_ms,
    }


def spot_state(account: Account, holds: Mapping[str, Decimal], tokens: Sequence[Token]) -> Json:
    """`spotClearinghouseState`: balances by token."""
    balances = []
    for token in tokens:
        if (held := account.spot.get(token.name)) is not None:
            hold = holds.get(token.name, Decimal(0))
            balances.append(
                {
                    "coin": token.name,
                    "token": token.index,
                    "total": wire(held.total),
                    "hold": wire(hold),
                    "entryNtl": wire(held.entry),
                }
            )
    return {"balances": balances}


def leverage(value: Leverage, raw_usd: Decimal) -> Json:
    """A leverage; *raw_usd* is what an isolated position would leave behind at price 0."""
    if value.is_cross:
        return {"type": "cross", "value": value.value}
    return {"type": "isolated", "value": value.value, "rawUsd": wire(raw_usd)}


def date_text(time_ms: int) -> str:
    """The day of *time_ms* in UTC, as `2026-11-21`."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).date().isoformat()


def funding_event(value: FundingPayment) -> Json:
    """A funding payment on the `user` and `userFundings` channels."""
    return {
        "time": value.time_ms,
        "coin": value.coin,
        "usdc": wire(value.usdc),
        "szi": wire(value.size),
        "fundingRate": wire(value.rate),
        "nSamples": value.samples,
    }


def funding_delta(value: FundingPayment) -> Json:
    """One row of `userFunding`."""
    event = funding_event(value)
    time_ms = event.pop("time")
    return {"time": time_ms, "hash": trade_hash(0), "delta": {"type": "funding", **event}}


def funding_rate(value: FundingRate) -> Json:
    """One row of `fundingHistory`."""
    return {
        "coin": value.coin,
        "fundingRate": wire(value.rate),
        "premium": wire(value.premium),
        "time": value.time_ms,
    }


def ledger_update(value: LedgerUpdate) -> Json:
    """One row of `userNonFundingLedgerUpdates`."""
    return {"time": value.time_ms, "hash": trade_hash(value.number), "delta": value.delta}


def liquidation(value: Liquidation) -> Json:
    """A liquidation on the `user` channel."""
    return {
        "lid": value.lid,
        "liquidator": value.liquidator,
        "liquidated_user": value.user,
        "liquidated_ntl_pos": wire(value.notional),
        "liquidated_account_value": wire(value.account_value),
    }


def liquidation_delta(value: Liquidation) -> Json:
    """A liquidation as one of the account's ledger updates."""
    return {
        "type": "liquidation",
        "liquidatedNtlPos": wire(value.notional),
        "accountValue": wire(value.account_value),
        "leverageType": "Cross" if value.is_cross else "Isolated",
        "liquidatedPositions": [{"coin": coin, "szi": wire(size)} for coin, size in value.coins],
    }


def _margin_summary(value: Decimal, positions: Sequence[PositionSummary]) -> Json:
    return {
        "accountValue": wire(value),
        "totalNtlPos": wire(total(each.value for each in positions)),
        "totalRawUsd": wire(value - total(each.signed_value for each in positions)),
        "totalMarginUsed": wire(total(each.margin_used for each in positions)),
    }


def _position(summary: PositionSummary) -> Json:
    price = summary.liquidation_price
    return {
        "type": "oneWay",
        "position": {
            "coin": summary.coin,
            "szi": wire(summary.size),
            "leverage": leverage(summary.leverage, summary.raw_usd),
            "entryPx": wire(summary.entry_price),
            "positionValue": wire(summary.value),
            "unrealizedPnl": wire(summary.profit),
            "returnOnEquity": wire(summary.return_on_equity),
            "liquidationPx": None if price is None else wire(price),
            "marginUsed": wire(summary.margin_used),
            "maxLeverage": summary.max_leverage,
            "cumFunding": {
                "allTime": wire(summary.funding_all_time),
                "sinceOpen": wire(summary.funding_since_open),
                "sinceChange": wire(summary.funding_since_change),
            },
        },
    }


def _order_type(order: UserOrder) -> str:
    if order.trigger is None:
        return "Limit" if order.tif in ("Gtc", "Ioc", "Alo") else "Market"
    kind = "Take Profit" if order.trigger.takes_profit else "Stop"
    return f"{kind} {'Market' if order.trigger.is_market else 'Limit'}"


def _trigger_condition(order: UserOrder) -> str:
    if order.trigger is None:
        return "N/A"
    if order.triggered:
        return "Triggered"
    word = "above" if order.trigger.fires_above(order.side) else "below"
    return f"Price {word} {wire(order.trigger.price).removesuffix('.0')}"


def _perp(perp: Perp) -> Json:
    shape: Json = {
        "szDecimals": perp.size_decimals,
        "name": perp.name,
        "maxLeverage": perp.max_leverage,
    }
    if perp.only_isolated:
        shape["onlyIsolated"] = True
    if perp.delisted:
        shape["isDelisted"] = True
    return shape


def _token(token: Token) -> Json:
    return {
        "name": token.name,
        "szDecimals": token.size_decimals,
        "weiDecimals": token.wei_decimals,
        "index": token.index,
        "tokenId": token.token_id,
        "isCanonical": True,
        "evmContract": None,
        "fullName": None,
    }


def _pair(pair: SpotPair) -> Json:
    return {
        "tokens": [pair.base.index, pair.quote.index],
        "name": pair.name,
        "index": pair.index,
        "isCanonical": pair.is_canonical,
    }
