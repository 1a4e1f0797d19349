"""A market that follows another venue's live data: paper trading.

Owns the followed books, what is asked of the venue, and the messages that have arrived and not been
taken yet. Public messages go out verbatim; users' orders match by `core.replay_matching` against
what the messages show, and are never mixed into them. Never does I/O: `follower` carries the
messages. What is followed is what somebody listens to or trades, a bounded number of streams.

While the venue cannot be heard, or has told nothing of a book for too long, that book shows
nothing: orders rest, and one that wants to trade at once finds nothing to trade with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from decimal import Decimal

import trio
from attrs import define, field, frozen

from zq_daemon.core.replay_matching import QueuePosition, ReplayBook
from zq_daemon.ports.clock import NS_PER_MS, Clock
from zq_daemon.venue.exchange.listing import Listing, Perp, SpotPair, parse_number
from zq_daemon.venue.exchange.messages import PublicTrade
from zq_daemon.venue.exchange.public_messages import (
    PublicMessage,
    Unreadable,
    book_levels,
    message_time_ms,
    oracle_price,
    printed_trade,
    quote_levels,
)
from zq_daemon.venue.exchange.source import Desk, Message

MAX_STREAMS = 900
"""The venue takes no more than 1,000 subscriptions from one address."""
FOLLOWED = ("l2Book", "trades", "bbo", "activeAssetCtx")
"""What is asked of a coin that somebody listens to or trades."""
QUEUED = 4_096
BATCH = 64
_KNOWN_TRADES = 1_000
_WARM_UP_NS = 1_000 * NS_PER_MS
_MIDS = ("allMids", "")


@frozen(kw_only=True)
class FollowSettings:
    """How users' orders meet the followed market.

    *queue* is where a resting order stands among what is shown at its price, *order_latency_ms* how
    long an order takes to get there, *stale_ms* how long a book may be silent.
    """

    queue: QueuePosition = QueuePosition.BACK
    order_latency_ms: int = 0
    stale_ms: int = 10_000


@define
class _Followed:
    """One coin: its book, when it was last told by our clock and the venue's, the trades known."""

    book: ReplayBook
    told_ns: int = 0
    told_ms: int = 0
    known: set[int] = field(factory=set)
    order: deque[int] = field(factory=deque)

    def is_new(self, trade: PublicTrade) -> bool:
        """Whether the trade is told for the first time; a new subscription repeats the latest."""
        if trade.tid in self.known:
            return False
        if len(self.order) >= _KNOWN_TRADES:
            self.known.discard(self.order.popleft())
        self.known.add(trade.tid)
        self.order.append(trade.tid)
        return True


class FollowMarket:
    """What *listing* has, as the venue that lists it shows it."""

    def __init__(
        self, listing: Listing, clock: Clock, settings: FollowSettings | None = None
    ) -> None:
        self._listing = listing
        self._clock = clock
        self._settings = settings or FollowSettings()
        self._offset_ms = 0
        self._coins = {
            coin: _Followed(ReplayBook(self._settings.queue, self._venue_ms))
            for coin in listing.coins
        }
        self._recorded = frozenset(
            {(channel, coin) for channel in FOLLOWED for coin in listing.coins} | {_MIDS}
        )
        self._fresh: dict[str, None] = {}
        self._oracles: dict[str, Decimal] = {}
        self._latest: dict[tuple[str, str], str] = {}
        self._wanted: dict[tuple[str, str], None] = {_MIDS: None}
        self._more = trio.Event()
        # Neither end is closed: both live as long as the market.
        self._arrive, self._arrived = trio.open_memory_channel[PublicMessage | None](QUEUED)
        self.bad_messages = 0

    @property
    def universe(self) -> Sequence[Perp]:
        """The venue's perpetuals."""
        return self._listing.perps

    @property
    def pairs(self) -> Sequence[SpotPair]:
        """The venue's spot pairs."""
        return self._listing.pairs

    @property
    def recorded(self) -> Collection[tuple[str, str]]:
        """What the venue tells, the exchange does not."""
        return self._recorded

    @property
    def is_lossless(self) -> bool:
        """A client that is too slow is cut off: the venue does not wait."""
        return False

    @property
    def wanted(self) -> Sequence[tuple[str, str]]:
        """The (channel, coin) pairs to subscribe to at the venue, in the order of asking."""
        return tuple(self._wanted)

    async def wait_wanted(self, count: int) -> None:
        """Return when more than *count* streams are wanted."""
        while len(self._wanted) <= count:
            await self._more.wait()

    async def deliver(self, message: PublicMessage) -> None:
        """A message has arrived; waits while too many have not been taken."""
        await self._arrive.send(message)

    async def lose(self) -> None:
        """The venue cannot be heard any more, from behind what has arrived."""
        await self._arrive.send(None)

    def matcher(self, coin: str) -> ReplayBook:
        """The followed book of *coin*."""
        return self._coins[coin].book

    def oracle(self, coin: str) -> Decimal | None:
        """The oracle price, or the middle price, that the venue told last."""
        return self._oracles.get(coin)

    def listened(self, channel: str, coin: str, now_ns: int) -> Sequence[str]:
        """Follow what somebody listens to; what was told of it last opens it."""
        if coin in self._coins:
            self._follow(coin)
        latest = self._latest.get((channel, coin))
        return () if latest is None else (latest,)

    def delay_ns(self, coins: Collection[str]) -> int:
        """The latency of orders in *coins*; the first in one also waits for its book."""
        is_new = [self._follow(coin) for coin in coins if coin in self._coins]
        latency_ns = self._settings.order_latency_ms * NS_PER_MS
        return max(latency_ns, _WARM_UP_NS) if any(is_new) else latency_ns

    def next_due_ns(self) -> int | None:
        """At once when something has arrived, else when the first book becomes stale."""
        if self._arrived.statistics().current_buffer_used:
            return 0
        coin = next(iter(self._fresh), None)
        return None if coin is None else self._stale_ns(coin)

    def advance(self, now_ns: int, desk: Desk) -> None:
        """Take what has arrived, a bounded number of messages, and give up books that are stale."""
        for _ in range(BATCH):
            try:
                message = self._arrived.receive_nowait()
            except trio.WouldBlock:
                break
            if message is None:
                self._lose_all()
            else:
                self._take(message, now_ns, desk)
        while self._fresh and self._stale_ns(coin := next(iter(self._fresh))) <= now_ns:
            self._lose_sight(coin)

    def _follow(self, coin: str) -> bool:
        """Want *coin*'s streams; whether that is new."""
        new = [(channel, coin) for channel in FOLLOWED if (channel, coin) not in self._wanted]
        if not new or len(self._wanted) + len(new) > MAX_STREAMS:
            return False
        self._wanted |= dict.fromkeys(new)
        self._more.set()
        self._more = trio.Event()
        return True

    def _take(self, message: PublicMessage, now_ns: int, desk: Desk) -> None:
        stream = (message.channel, message.coin)
        if stream not in self._recorded:
            self.bad_messages += 1
            return
        desk.broadcast(Message(*stream, message.text))
        self._latest[stream] = message.text
        try:
            self._match(message, now_ns, desk)
        except Unreadable:
            self.bad_messages += 1

    def _match(self, message: PublicMessage, now_ns: int, desk: Desk) -> None:
        """Let users' orders meet what the message shows."""
        if message.channel == "allMids":
            self._take_mids(message)
            return
        coin = message.coin
        followed = self._coins[coin]
        match message.channel:
            case "l2Book":
                bids, asks = book_levels(message.data)
                if self._is_later(followed, message, now_ns):
                    self._refresh(coin, now_ns)
                    for event in followed.book.apply_snapshot(bids, asks):
                        desk.settle(coin, event)
            case "bbo":
                quote = quote_levels(message.data)
                # Before the first snapshot there is no book whose top it could be.
                if coin in self._fresh and self._is_later(followed, message, now_ns):
                    for event in followed.book.apply_quote(*quote):
                        desk.settle(coin, event)
            case "trades":
                for raw in message.data:
                    self._match_trade(followed, printed_trade(coin, raw), desk)
            case "activeAssetCtx":
                price = oracle_price(message.data.get("ctx"))
                if price:
                    self._oracles[coin] = price

    def _match_trade(self, followed: _Followed, trade: PublicTrade, desk: Desk) -> None:
        if not followed.is_new(trade):
            return
        desk.traded(trade)
        events = followed.book.apply_trade(trade.aggressor, trade.price, trade.size, trade.time_ms)
        for event in events:
            desk.settle(trade.coin, event)

    def _take_mids(self, message: PublicMessage) -> None:
        mids = message.data.get("mids")
        for coin, text in mids.items() if isinstance(mids, dict) else ():
            price = parse_number(text) if isinstance(text, str) else None
            # The oracle of a coin that is followed is better than its middle price.
            if price and coin in self._coins and ("activeAssetCtx", coin) not in self._latest:
                self._oracles[coin] = price

    def _is_later(self, followed: _Followed, message: PublicMessage, now_ns: int) -> bool:
        """Whether the message is not older than what the book was told before; keeps the time."""
        time_ms = message_time_ms(message.data)
        if time_ms is None:
            raise Unreadable
        if time_ms < followed.told_ms:
            return False
        followed.told_ms = time_ms
        self._offset_ms = time_ms - now_ns // NS_PER_MS
        return True

    def _venue_ms(self) -> int:
        """The venue's time, as far as it can be told from its last message."""
        return self._clock.now_ns() // NS_PER_MS + self._offset_ms

    def _refresh(self, coin: str, now_ns: int) -> None:
        """The whole book of *coin* was told: those told longest ago come first."""
        self._coins[coin].told_ns = now_ns
        self._fresh.pop(coin, None)
        self._fresh[coin] = None

    def _stale_ns(self, coin: str) -> int:
        return self._coins[coin].told_ns + self._settings.stale_ms * NS_PER_MS

    def _lose_all(self) -> None:
        for coin in list(self._fresh):
            self._lose_sight(coin)
        self._latest.clear()

    def _lose_sight(self, coin: str) -> None:
        del self._fresh[coin]
        followed = self._coins[coin]
        followed.told_ms = 0
        followed.book.lose_sight()
