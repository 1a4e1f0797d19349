"""What the public messages of another venue say: those of a capture, and those that are followed.

Owns the reading of their text. Pure; a message that is not as documented is `Unreadable`, or None
where nothing can be told of it. Called by the markets that are not our own.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Any, NoReturn

import msgspec
from attrs import frozen

from zq_daemon.model.market import BookLevel, Side
from zq_daemon.venue.exchange.listing import parse_number
from zq_daemon.venue.exchange.messages import PublicTrade

_CONTEXTS = ("activeAssetCtx", "activeSpotAssetCtx")
_LATEST_MS = 253_402_300_800_000
"""The end of the year 9999."""


class Unreadable(Exception):
    """A market data message without the documented shape."""


@frozen(kw_only=True)
class PublicMessage:
    """A message: *channel* as subscribed to, *coin* and what is in it.

    Of one that is no market data *channel* is empty, and *data* is its channel.
    """

    channel: str
    coin: str
    text: str
    data: Any


def parse_message(raw: bytes | str, channels: Collection[str]) -> PublicMessage | None:
    """A message's content, market data of *channels* and `allMids`; None for what is no message."""
    try:
        text = raw if isinstance(raw, str) else raw.decode()
        message = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return None
    match message:
        case {"channel": "allMids", "data": dict() as data}:
            return PublicMessage(channel="allMids", coin="", text=text, data=data)
        case {"channel": "trades", "data": [{"coin": str(coin)}, *_] as data}:
            return PublicMessage(channel="trades", coin=coin, text=text, data=data)
        case {"channel": str(channel), "data": {"coin": str(coin)} as data}:
            subscribed = "activeAssetCtx" if channel in _CONTEXTS else channel
            known = subscribed if subscribed in channels else ""
            return PublicMessage(channel=known, coin=coin, text=text, data=data)
        case {"channel": str(channel)}:
            return PublicMessage(channel="", coin="", text=text, data=channel)
        case _:
            return None


def book_levels(data: Any) -> tuple[list[BookLevel], list[BookLevel]]:
    """Bids and asks of an `l2Book` message, best first; raises Unreadable."""
    match data:
        case {"levels": [list() as bids, list() as asks]}:
            return [_level(each) for each in bids], [_level(each) for each in asks]
        case _:
            raise Unreadable


def quote_levels(data: Any) -> tuple[BookLevel | None, BookLevel | None]:
    """Best bid and ask of a `bbo` message; raises Unreadable."""
    match data:
        case {"bbo": [bid, ask]}:
            return bid and _level(bid), ask and _level(ask)
        case _:
            raise Unreadable


def printed_trade(coin: str, raw: Any) -> PublicTrade:
    """One trade of a `trades` message of *coin*; raises Unreadable."""
    match raw:
        case {
            "side": "A" | "B" as side,
            "px": str(price),
            "sz": str(size),
            "time": int(time_ms),
            "tid": int(tid),
        }:
            buyer, seller = _users(raw)
            return PublicTrade(
                coin=coin,
                aggressor=Side.BUY if side == "B" else Side.SELL,
                price=_number(price),
                size=_number(size),
                time_ms=time_ms if 0 < time_ms < _LATEST_MS else _unreadable(),
                tid=tid,
                buyer=buyer,
                seller=seller,
            )
        case _:
            raise Unreadable


def message_time_ms(data: Any) -> int | None:
    """The venue's time of an `l2Book` or `bbo` message; None when it tells none."""
    time_ms = data.get("time") if isinstance(data, dict) else None
    return time_ms if isinstance(time_ms, int) and 0 < time_ms < _LATEST_MS else None


def oracle_price(context: Any) -> Decimal | None:
    """The oracle price of an asset context (of a spot pair: its mark); None when there is none."""
    if not isinstance(context, dict):
        return None
    price = context.get("oraclePx", context.get("markPx"))
    return parse_number(price) if isinstance(price, str) else None


def _level(raw: Any) -> BookLevel:
    match raw:
        case {"px": str(price), "sz": str(size), "n": int(orders)}:
            return BookLevel(_number(price), _number(size), orders)
        case _:
            raise Unreadable


def _users(trade: Any) -> tuple[str, str]:
    """Buyer and seller; older recordings do not tell them."""
    match trade:
        case {"users": [str(buyer), str(seller)]}:
            return buyer, seller
        case _:
            return "", ""


def _unreadable() -> NoReturn:
    raise Unreadable


def _number(text: str) -> Decimal:
    number = parse_number(text)
    if number is None:
        raise Unreadable
    return number
