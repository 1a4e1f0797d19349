"""The queries of `/info`: which there are, and those about the market.

Owns no state. Unparsable requests are `Malformed`, and so is a market of another deployer (`dex`):
there is none. What has nothing behind it here (staking, vault deposits, auctions) is answered by
nothing, as at the venue for who has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zq_daemon.venue.exchange import messages
from zq_daemon.venue.exchange.candles import INTERVALS
from zq_daemon.venue.exchange.depth import rounding
from zq_daemon.venue.exchange.envelope import Malformed
from zq_daemon.venue.exchange.messages import Json
from zq_daemon.venue.exchange.queries import MAX_ROWS, Queried, Query, coin_of, times_of
from zq_daemon.venue.exchange.user_info import NOTHING_OF_USERS, USER_QUERIES, web_data


def answer(exchange: Queried, request: Any) -> Any:
    """The JSON-ready answer to an info *request*; raises Malformed."""
    if not isinstance(request, dict):
        raise Malformed
    kind = request.get("type")
    query = _QUERIES.get(kind) if isinstance(kind, str) else None
    if query is None or request.get("dex") not in (None, ""):
        raise Malformed
    return query(exchange, request)


def _meta(exchange: Queried, _: Json) -> Any:
    return messages.meta(exchange.universe)


def _meta_and_contexts(exchange: Queried, request: Json) -> Any:
    contexts = [exchange.publisher.context(perp.name) for perp in exchange.universe]
    return [_meta(exchange, request), contexts]


def _spot_meta(exchange: Queried, _: Json) -> Any:
    return messages.spot_meta(exchange.trading.listing)


def _spot_meta_and_contexts(exchange: Queried, request: Json) -> Any:
    pairs = exchange.trading.listing.pairs
    contexts = [exchange.publisher.context(pair.name) for pair in pairs]
    return [_spot_meta(exchange, request), contexts]


def _perp_dexs(_: Queried, __: Json) -> Any:
    return [None]


def _l2_book(exchange: Queried, request: Json) -> Any:
    coin = coin_of(request)
    try:
        how = rounding(request.get("nSigFigs"), request.get("mantissa"))
    except ValueError as error:
        raise Malformed from error
    if exchange.trading.listing.named(coin) is None:
        return None
    exchange.asked(coin)
    return exchange.publisher.book(coin, exchange.now_ns(), how)


def _recent_trades(exchange: Queried, request: Json) -> Any:
    coin = coin_of(request)
    if exchange.trading.listing.named(coin) is None:
        return None
    exchange.asked(coin)
    return [messages.trade(trade) for trade in reversed(exchange.publisher.recent(coin))]


def _candle_snapshot(exchange: Queried, request: Json) -> Any:
    wanted = request.get("req")
    if not isinstance(wanted, dict):
        raise Malformed
    coin, interval = coin_of(wanted), wanted.get("interval")
    if not isinstance(interval, str) or interval not in INTERVALS:
        raise Malformed
    start, end = times_of(wanted, exchange)
    if exchange.trading.listing.named(coin) is None:
        return []
    exchange.asked(coin)
    found = exchange.publisher.candles.between(coin, interval, start, end)
    return [messages.candle(candle) for candle in found]


def _all_mids(exchange: Queried, _: Json) -> Any:
    return exchange.publisher.mids()


def _funding_history(exchange: Queried, request: Json) -> Any:
    coin, (start, end) = coin_of(request), times_of(request, exchange)
    rates = [
        messages.funding_rate(rate)
        for rate in exchange.trading.funding.history(coin)
        if start <= rate.time_ms <= end
    ]
    return rates[:MAX_ROWS]


def _exchange_status(exchange: Queried, _: Json) -> Any:
    return {"time": exchange.now_ms(), "specialStatuses": None}


def _web_data(exchange: Queried, request: Json) -> Any:
    market = {
        "meta": _meta(exchange, request),
        "assetCtxs": _meta_and_contexts(exchange, request)[1],
        "spotAssetCtxs": _spot_meta_and_contexts(exchange, request)[1],
    }
    return web_data(exchange, request) | market


_QUERIES: Mapping[str, Query] = {
    "meta": _meta,
    "metaAndAssetCtxs": _meta_and_contexts,
    "spotMeta": _spot_meta,
    "spotMetaAndAssetCtxs": _spot_meta_and_contexts,
    "perpDexs": _perp_dexs,
    "l2Book": _l2_book,
    "recentTrades": _recent_trades,
    "candleSnapshot": _candle_snapshot,
    "allMids": _all_mids,
    "fundingHistory": _funding_history,
    "exchangeStatus": _exchange_status,
    "webData2": _web_data,
    **USER_QUERIES,
    **NOTHING_OF_USERS,
}
