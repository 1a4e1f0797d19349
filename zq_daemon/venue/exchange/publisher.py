"""What the exchange tells, and when: batches after every change, books and contexts on a cadence.

Owns what was last told and the recent trades. Never decides anything about orders. It is the
`Tape` of `trading.Trading`; `exchange.Exchange` calls `flush` after each change.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from typing import Any

from zq_daemon.model.market import BookLevel, Side
from zq_daemon.ports.clock import NS_PER_MS
from zq_daemon.venue.exchange import messages
from zq_daemon.venue.exchange.account import Account, UserFill, UserOrder
from zq_daemon.venue.exchange.feeds import Connection, Feeds, Stream, encode
from zq_daemon.venue.exchange.messages import AssetContext, Json, PublicTrade
from zq_daemon.venue.exchange.perp import wire
from zq_daemon.venue.exchange.source import MarketSource, Message, mark_price

BOOK_LEVELS = 20
BOOK_INTERVAL_NS = 500 * NS_PER_MS
CONTEXT_INTERVAL_NS = 1_000 * NS_PER_MS
RECENT_TRADES = 50
SNAPSHOT_FILLS = 2_000
FUNDING_RATE = Decimal("0.0000125")


class Publisher:
    """Turns what happened into messages on the feeds."""

    def __init__(self, market: MarketSource, feeds: Feeds) -> None:
        self._market = market
        self._feeds = feeds
        self._coins = [perp.name for perp in market.universe]
        self._recent: dict[str, deque[PublicTrade]] = {
            coin: deque(maxlen=RECENT_TRADES) for coin in self._coins
        }
        self._volume = {coin: (Decimal(0), Decimal(0)) for coin in self._coins}
        self._first_mark: dict[str, Decimal] = {}
        self._last_bbo: dict[str, tuple[BookLevel | None, BookLevel | None]] = {}
        self._trades: dict[str, list[PublicTrade]] = {}
        self._orders: dict[str, list[Json]] = {}
        self._fills: dict[str, list[Json]] = {}
        self._book_due_ns = 0
        self._context_due_ns = 0

    def order_changed(self, order: UserOrder) -> None:
        """Queue an order update."""
        self._orders.setdefault(order.account, []).append(messages.order_update(order))

    def filled(self, account: Account, fill: UserFill) -> None:
        """Queue a fill of an account."""
        self._fills.setdefault(account.address, []).append(messages.fill(fill))

    def traded(self, trade: PublicTrade) -> None:
        """Queue a public trade."""
        self._recent[trade.coin].append(trade)
        self._trades.setdefault(trade.coin, []).append(trade)
        size, notional = self._volume[trade.coin]
        self._volume[trade.coin] = size + trade.size, notional + trade.size * trade.price

    def broadcast(self, message: Message) -> None:
        """A recorded message goes out as it is."""
        self._feeds.publish_text((message.channel, message.coin), message.text)

    def flush(self, now_ns: int) -> None:
        """Send what is queued, and changed best prices."""
        for coin, trades in self._trades.items():
            data = [messages.trade(trade) for trade in trades]
            self._send("trades", coin, data)
        for user, updates in self._orders.items():
            self._feeds.publish(("orderUpdates", user), "orderUpdates", updates)
        for user, fills in self._fills.items():
            self._feeds.publish(("userFills", user), "userFills", {"user": user, "fills": fills})
            self._feeds.publish(("userEvents", user), "user", {"fills": fills})
        self._trades, self._orders, self._fills = {}, {}, {}
        for coin in self._coins:
            if self._feeds.has_listeners(("bbo", coin)):
                self._flush_bbo(coin, now_ns)

    def on_clock(self, now_ns: int) -> None:
        """Send books and contexts when their time has come."""
        if now_ns >= self._book_due_ns:
            self._book_due_ns = now_ns + BOOK_INTERVAL_NS
            for coin in self._coins:
                if self._feeds.has_listeners(("l2Book", coin)):
                    self._send("l2Book", coin, self.book(coin, now_ns))
        if now_ns >= self._context_due_ns:
            self._context_due_ns = now_ns + CONTEXT_INTERVAL_NS
            self._send("allMids", "", {"mids": self.mids()})
            for coin in self._coins:
                if self._tells_context(coin):
                    self._send("activeAssetCtx", coin, self._active_context(coin))

    def next_due_ns(self) -> int:
        """When `on_clock` has something to do."""
        return min(self._book_due_ns, self._context_due_ns)

    def opening(self, stream: Stream, now_ns: int) -> list[tuple[str, Any]]:
        """What a new subscriber of market data gets at once: (channel, data); none if recorded."""
        channel, coin = stream
        if stream in self._market.recorded:
            return []
        match channel:
            case "l2Book":
                return [(channel, self.book(coin, now_ns))]
            case "bbo":
                return [(channel, messages.bbo(coin, now_ns // NS_PER_MS, *self._best(coin)))]
            case "trades" if self._recent[coin]:
                return [(channel, [messages.trade(trade) for trade in self._recent[coin]])]
            case "activeAssetCtx" if mark_price(self._market, coin):
                return [(channel, self._active_context(coin))]
            case "allMids":
                return [(channel, {"mids": self.mids()})]
            case _:
                return []

    def send_fills(self, connection: Connection, account: Account | None, user: str) -> None:
        """The snapshot that opens a `userFills` subscription."""
        kept = [] if account is None else list(account.fills)[-SNAPSHOT_FILLS:]
        data = {"user": user, "isSnapshot": True, "fills": [messages.fill(each) for each in kept]}
        connection.outbox.put(encode({"channel": "userFills", "data": data}))

    def book(self, coin: str, now_ns: int) -> Json:
        """The book as it is shown."""
        matcher = self._market.matcher(coin)
        bids, asks = (matcher.depth(side, BOOK_LEVELS) for side in (Side.BUY, Side.SELL))
        return messages.book(coin, now_ns // NS_PER_MS, bids, asks)

    def mids(self) -> dict[str, str]:
        """Middle prices by coin, of those that have one."""
        mids = {coin: mark_price(self._market, coin) for coin in self._coins}
        return {coin: wire(mid) for coin, mid in mids.items() if mid}

    def context(self, coin: str) -> Json:
        """The asset context of *coin*."""
        mark = mark_price(self._market, coin)
        size, notional = self._volume[coin]
        return messages.asset_context(
            AssetContext(
                mark=mark,
                oracle=self._market.oracle(coin) or mark,
                mid=mark or None,
                previous_day=self._first_mark.setdefault(coin, mark) if mark else mark,
                day_volume=size,
                day_notional=notional,
                open_interest=size,
                funding=FUNDING_RATE,
            )
        )

    def _tells_context(self, coin: str) -> bool:
        """Whether somebody listens, and there is a price to tell."""
        listened = self._feeds.has_listeners(("activeAssetCtx", coin))
        return listened and bool(mark_price(self._market, coin))

    def _active_context(self, coin: str) -> Json:
        return {"coin": coin, "ctx": self.context(coin)}

    def _flush_bbo(self, coin: str, now_ns: int) -> None:
        best = self._best(coin)
        if best != self._last_bbo.get(coin):
            self._last_bbo[coin] = best
            self._send("bbo", coin, messages.bbo(coin, now_ns // NS_PER_MS, *best))

    def _best(self, coin: str) -> tuple[BookLevel | None, BookLevel | None]:
        matcher = self._market.matcher(coin)
        bids, asks = matcher.depth(Side.BUY, 1), matcher.depth(Side.SELL, 1)
        return (bids[0] if bids else None), (asks[0] if asks else None)

    def _send(self, channel: str, coin: str, data: Any) -> None:
        if (channel, coin) not in self._market.recorded:
            self._feeds.publish((channel, coin), channel, data)
