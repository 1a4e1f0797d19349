"""What the exchange tells, and when: batches after every change, books and contexts on a cadence.

Owns what was last told and the recent trades. Never decides anything about orders. It is the
`Tape` of `trading.Trading`; `exchange.Exchange` calls `flush` after each change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from zq_daemon.model.market import BookLevel, Side
from zq_daemon.ports.clock import NS_PER_MS
from zq_daemon.venue.exchange import messages
from zq_daemon.venue.exchange.account import (
    Account,
    FundingPayment,
    LedgerUpdate,
    Liquidation,
    UserFill,
    UserOrder,
)
from zq_daemon.venue.exchange.candles import Candles
from zq_daemon.venue.exchange.depth import Rounding, rounded
from zq_daemon.venue.exchange.feeds import Feeds, Stream
from zq_daemon.venue.exchange.listing import SpotPair, wire
from zq_daemon.venue.exchange.messages import AssetContext, Carry, Json, PublicTrade
from zq_daemon.venue.exchange.source import MarketSource, Message, listing_of, mark_price

BOOK_LEVELS = 20
ROUNDED_LEVELS = 2_000
"""So many levels are looked at for a book with fewer figures."""
BOOK_INTERVAL_MS = 500
CONTEXT_INTERVAL_NS = 1_000 * NS_PER_MS
RECENT_TRADES = 50
SNAPSHOT_FILLS = 2_000
SNAPSHOT_ROWS = 500

_LEDGER = "userNonFundingLedgerUpdates"
View = Callable[..., Json]
"""What a stream of a user shows, from the rest of the stream: the user, and a coin."""


class Publisher:
    """Turns what happened into messages on the feeds.

    *views* are what the streams of those names show again whenever it has changed; *carry* tells of
    a perpetual what is not in its book.
    """

    def __init__(
        self,
        market: MarketSource,
        feeds: Feeds,
        views: Mapping[str, View],
        carry: Callable[[str], Carry],
        book_interval_ms: int,
    ) -> None:
        self._book_interval_ns = book_interval_ms * NS_PER_MS
        self._market = market
        self._feeds = feeds
        self._views = views
        self._carry = carry
        self._told_views: dict[Stream, Json] = {}
        self._listing = listing_of(market)
        self._coins = self._listing.coins
        self.candles = Candles(self._coins)
        self._recent: dict[str, deque[PublicTrade]] = {
            coin: deque(maxlen=RECENT_TRADES) for coin in self._coins
        }
        self._first_mark: dict[str, Decimal] = {}
        self._last_bbo: dict[str, tuple[BookLevel | None, BookLevel | None]] = {}
        self._trades: dict[str, list[PublicTrade]] = {}
        self._orders: dict[str, list[Json]] = {}
        self._fills: dict[str, list[Json]] = {}
        self._events: list[tuple[str, Json]] = []
        self._fundings: dict[str, list[Json]] = {}
        self._updates: dict[str, list[Json]] = {}
        self._now_ms = 0
        self._book_due_ns = 0
        self._context_due_ns = 0

    def order_changed(self, order: UserOrder) -> None:
        """Queue an order update."""
        update = messages.order_update(order)
        update["status"] = self._feeds.misbehaviour.status(order.status)
        self._orders.setdefault(order.account, []).append(update)

    def filled(self, account: Account, fill: UserFill) -> None:
        """Queue a fill of an account."""
        self._fills.setdefault(account.address, []).append(messages.fill(fill))

    def withdrawn(self, order: UserOrder) -> None:
        """Queue word of a cancel that the owner did not ask for."""
        cancelled = [{"coin": order.coin, "oid": order.oid}]
        self._events.append((order.account, {"nonUserCancel": cancelled}))

    def funded(self, account: Account, payment: FundingPayment) -> None:
        """Queue a funding payment of an account."""
        event = messages.funding_event(payment)
        self._events.append((account.address, {"funding": event}))
        self._fundings.setdefault(account.address, []).append(event)

    def noted(self, account: Account, update: LedgerUpdate) -> None:
        """Queue word of money that came or went without a trade."""
        row = messages.ledger_update(update)
        self._updates.setdefault(account.address, []).append(row)

    def liquidated(self, account: Account, liquidation: Liquidation) -> None:
        """Queue word of a liquidation to who was liquidated."""
        self._events.append((account.address, {"liquidation": messages.liquidation(liquidation)}))

    def traded(self, trade: PublicTrade) -> None:
        """Queue a public trade."""
        self._recent[trade.coin].append(trade)
        self._trades.setdefault(trade.coin, []).append(trade)
        self.candles.add(trade.coin, trade.price, trade.size, trade.time_ms)

    def broadcast(self, message: Message) -> None:
        """A recorded message goes out as it is."""
        self._feeds.publish_text((message.channel, message.coin), message.text)

    def flush(self, now_ns: int) -> None:
        """Send what is queued, and changed best prices."""
        for coin, trades in self._trades.items():
            told = [messages.trade(trade) for trade in trades]
            self._send(("trades", coin), "trades", told)
        for stream in self._feeds.listened("candle") if self._trades else ():
            if stream[1] in self._trades:
                self._send_candle(stream)
        for user, updates in self._orders.items():
            self._feeds.publish(("orderUpdates", user), "orderUpdates", updates)
        for user, fills in self._fills.items():
            self._feeds.publish(("userFills", user), "userFills", {"user": user, "fills": fills})
            self._feeds.publish(("userEvents", user), "user", {"fills": fills})
        for user, event in self._events:
            self._feeds.publish(("userEvents", user), "user", event)
        for user, payments in self._fundings.items():
            data = {"user": user, "fundings": payments}
            self._feeds.publish(("userFundings", user), "userFundings", data)
        for user, rows in self._updates.items():
            data = {"user": user, "nonFundingLedgerUpdates": rows}
            self._feeds.publish((_LEDGER, user), _LEDGER, data)
        self._trades, self._orders, self._fills = {}, {}, {}
        self._events, self._fundings, self._updates = [], {}, {}
        for coin in self._coins:
            if self._feeds.has_listeners(("bbo", coin)):
                self._flush_bbo(coin, now_ns)

    def tell_last(self, order: UserOrder) -> None:
        """Put what is queued of *order* behind all else of its account (a fault)."""
        updates = self._orders.get(order.account, [])
        updates.sort(key=lambda update: bool(update["order"]["oid"] == order.oid))

    def on_clock(self, now_ns: int, told_ns: int) -> None:
        """Send books and contexts when their time has come; *told_ns* is the time they tell."""
        self._now_ms = told_ns // NS_PER_MS
        if now_ns >= self._book_due_ns:
            self._book_due_ns = now_ns + self._book_interval_ns
            for stream in self._feeds.listened("l2Book"):
                self._send(stream, "l2Book", self.book(stream[1], told_ns, _rounding(stream)))
        if now_ns >= self._context_due_ns:
            self._context_due_ns = now_ns + CONTEXT_INTERVAL_NS
            self._send(("allMids", ""), "allMids", {"mids": self.mids()})
            for stream in self._feeds.listened("activeAssetCtx"):
                if mark_price(self._market, stream[1]):
                    self._send(stream, *self._active_context(stream[1]))
            self._send_views()

    def next_due_ns(self) -> int:
        """When `on_clock` has something to do."""
        return min(self._book_due_ns, self._context_due_ns)

    def opening(self, stream: Stream, now_ns: int) -> list[tuple[str, Any]]:
        """What a new subscriber of market data gets at once: (channel, data); none if recorded."""
        channel, coin = stream[0], stream[1]
        if stream in self._market.recorded:
            return []
        match channel:
            case "l2Book":
                return [(channel, self.book(coin, now_ns, _rounding(stream)))]
            case "bbo":
                return [(channel, messages.bbo(coin, now_ns // NS_PER_MS, *self._best(coin)))]
            case "trades" if self._recent[coin]:
                return [(channel, [messages.trade(trade) for trade in self._recent[coin]])]
            case "activeAssetCtx" if mark_price(self._market, coin):
                return [self._active_context(coin)]
            case "allMids":
                return [(channel, {"mids": self.mids()})]
            case "candle" if candle := self.candles.last(coin, stream[2]):
                return [(channel, messages.candle(candle))]
            case _:
                return []

    def snapshot(self, stream: Stream, account: Account) -> list[tuple[str, Any]]:
        """What a new subscriber of a user's stream gets at once: (channel, data)."""
        channel, user = stream[0], stream[1]
        match channel:
            case "userFills":
                fills = list(self._feeds.misbehaviour.told_fills(account.fills))
                told: Json = {"fills": [messages.fill(each) for each in fills[-SNAPSHOT_FILLS:]]}
            case "userFundings":
                payments = list(account.payments)[-SNAPSHOT_ROWS:]
                told = {"fundings": [messages.funding_event(each) for each in payments]}
            case "userNonFundingLedgerUpdates":
                updates = list(account.updates)[-SNAPSHOT_ROWS:]
                rows = [messages.ledger_update(each) for each in updates]
                told = {"nonFundingLedgerUpdates": rows}
            case view if view in self._views:
                return [(channel, self._views[view](*stream[1:]))]
            case _:
                return []
        return [(channel, {"user": user, "isSnapshot": True, **told})]

    def book(self, coin: str, now_ns: int, how: Rounding | None = None) -> Json:
        """The book as it is shown, with fewer figures if asked for."""
        matcher = self._market.matcher(coin)
        if how is None:
            bids, asks = (matcher.depth(side, BOOK_LEVELS) for side in (Side.BUY, Side.SELL))
        else:
            bids, asks = (
                rounded(matcher.depth(side, ROUNDED_LEVELS), side, how, BOOK_LEVELS)
                for side in (Side.BUY, Side.SELL)
            )
        return messages.book(coin, now_ns // NS_PER_MS, bids, asks)

    def recent(self, coin: str) -> Sequence[PublicTrade]:
        """The latest trades of *coin*, oldest first."""
        return list(self._recent[coin])

    def mids(self) -> dict[str, str]:
        """Middle prices by coin, of those that have one."""
        mids = {coin: mark_price(self._market, coin) for coin in self._coins}
        return {coin: wire(mid) for coin, mid in mids.items() if mid}

    def context(self, coin: str) -> Json:
        """The context of a perpetual, or of a spot pair."""
        mark = mark_price(self._market, coin)
        value = self._context(coin, mark)
        if self._is_spot(coin):
            return messages.spot_context(coin, value)
        return messages.asset_context(value, self._carry(coin))

    def _context(self, coin: str, mark: Decimal) -> AssetContext:
        day = self.candles.day(coin, self._now_ms)
        first = self._first_mark.setdefault(coin, mark) if mark else mark
        return AssetContext(
            mark=mark,
            mid=mark or None,
            previous_day=first if day.open is None else day.open,
            day_volume=day.volume,
            day_notional=day.notional,
        )

    def _is_spot(self, coin: str) -> bool:
        return isinstance(self._listing.named(coin), SpotPair)

    def _active_context(self, coin: str) -> tuple[str, Json]:
        channel = "activeSpotAssetCtx" if self._is_spot(coin) else "activeAssetCtx"
        return channel, {"coin": coin, "ctx": self.context(coin)}

    def _send_candle(self, stream: Stream) -> None:
        candle = self.candles.last(stream[1], stream[2])
        if candle is not None:
            self._send(stream, "candle", messages.candle(candle))

    def _send_views(self) -> None:
        """Show again what has changed in a user's views."""
        shown = {
            stream: self._views[stream[0]](*stream[1:])
            for stream in self._feeds.listened(*self._views)
        }
        for stream, data in shown.items():
            if data != self._told_views.get(stream):
                self._feeds.publish(stream, stream[0], data)
        self._told_views = shown

    def _flush_bbo(self, coin: str, now_ns: int) -> None:
        best = self._best(coin)
        if best != self._last_bbo.get(coin):
            self._last_bbo[coin] = best
            told = messages.bbo(coin, now_ns // NS_PER_MS, *best)
            self._send(("bbo", coin), "bbo", told)

    def _best(self, coin: str) -> tuple[BookLevel | None, BookLevel | None]:
        matcher = self._market.matcher(coin)
        bids, asks = matcher.depth(Side.BUY, 1), matcher.depth(Side.SELL, 1)
        return (bids[0] if bids else None), (asks[0] if asks else None)

    def _send(self, stream: Stream, channel: str, data: Any) -> None:
        if stream not in self._market.recorded:
            self._feeds.publish(stream, channel, data)


def _rounding(stream: Stream) -> Rounding | None:
    """The rounding that is part of a book's stream."""
    return Rounding(*map(int, stream[2:])) if stream[2:] else None
