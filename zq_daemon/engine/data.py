"""The data engine: every market event into the cache first, then onto the bus.

Owns which events count, the bars and the staleness of instruments. Never waits, never decodes,
never trades. The daemon's feed task calls `process_batch`, its clock task `on_clock`; it calls
`on_link_lost` when an endpoint's connection is gone. Strategies see what is published.

- A trade is published once by trade id, within a bounded memory for each instrument; then the bars
  that it closed.
- A venue's candle is published whenever it changed, and once when it is closed.
- Events count in order of arrival: one older than its predecessor is counted, and used.
- Events of instruments that the cache does not know, and trades without a usable price or quantity,
  are counted and dropped.
- `orderbook.delta` carries the deltas that changed the cached book and, while somebody subscribes,
  the change that each snapshot made: a copy of the cached book to which they are applied keeps up.
- An instrument is stale while anything is wrong with what we know of it: an expected stream has not
  spoken yet or is silent for too long, its link is lost, its book has a gap or is crossed (or
  locked). When that, or the status the venue tells, changes the outcome, `InstrumentStatus` is
  published; a halt or delisting told by the venue outranks staleness there.
- That an instrument does not trade any more is published at once, anything after it no sooner than
  two seconds later, if it holds then: a market that flaps makes at most one status a second.
  `is_stale`, by which orders are denied, follows every change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import assert_never

import structlog
from attrs import frozen

from zq_daemon.config.schema import StalenessConfig
from zq_daemon.core import topics
from zq_daemon.core.bars import BarBuilder
from zq_daemon.core.book import DeltaOutcome, delta_since
from zq_daemon.core.bus import MessageBus
from zq_daemon.core.cache import Cache
from zq_daemon.engine.feed import Feed, Stream
from zq_daemon.model.bar import Bar, BarSpec, Candle
from zq_daemon.model.ids import InstrumentId
from zq_daemon.model.market import (
    BookDelta,
    BookSnapshot,
    InstrumentStatus,
    MarketEvent,
    MarkPrice,
    MidPrice,
    Quote,
    Trade,
    TradingStatus,
)
from zq_daemon.ports.clock import NS_PER_MS, Clock

TRADE_MEMORY = 2_048
"""Trade ids remembered for each instrument: far more than a venue back-fills."""

_TOO_LARGE = Decimal("1e15")

_log = structlog.get_logger("zq.data")


@frozen(kw_only=True)
class DataStats:
    """Counters since the start; *stale* says of each stale instrument what is wrong with it.

    *crossed_books* and *book_gaps* count how often a book became so, *dropped_book_updates* those
    that were duplicates, too old or waiting for a snapshot.
    """

    events: int
    unknown_instruments: int
    duplicate_trades: int
    unusable_trades: int
    late_trades: int
    out_of_order: int
    crossed_books: int
    book_gaps: int
    dropped_book_updates: int
    stale: Mapping[InstrumentId, str]


class DataEngine:
    """Turns market events into a current cache, and tells the bus."""

    def __init__(
        self,
        bus: MessageBus,
        cache: Cache,
        clock: Clock,
        staleness: StalenessConfig,
        *,
        on_gap: Callable[[InstrumentId], None] | None = None,
        trade_memory: int = TRADE_MEMORY,
    ) -> None:
        """*on_gap* is called each time a book that is kept from deltas comes to need a snapshot."""
        self._bus = bus
        self._cache = cache
        self._clock = clock
        self._limits_ms: Mapping[Stream, int] = {
            "book": staleness.book_ms,
            "quote": staleness.quote_ms,
            "trade": staleness.trade_ms,
            "mark": staleness.mark_ms,
            "candle": staleness.candle_ms,
        }
        self._on_gap = on_gap
        self._trade_memory = trade_memory
        self._feeds: dict[InstrumentId, Feed] = {}
        self._events = self._unknown = self._duplicates = self._unusable = 0
        self._out_of_order = self._crossed = self._gaps = self._dropped_updates = 0

    def expect(
        self, instrument_id: InstrumentId, stream: Stream, stale_ms: int | None = None
    ) -> None:
        """We subscribed to *stream*: the instrument is stale until it speaks (no limit: never).

        *stale_ms* is this stream's own limit (0: none); None is that of its kind.
        """
        feed = self._feed(instrument_id)
        if limit_ms := self._limits_ms[stream] if stale_ms is None else stale_ms:
            feed.expect(stream, limit_ms * NS_PER_MS)
            self._announce(feed)

    def add_bars(self, instrument_id: InstrumentId, spec: BarSpec) -> None:
        """Build bars by *spec* from the instrument's trades; asking again changes nothing."""
        self._feed(instrument_id).builders.setdefault(spec, BarBuilder(instrument_id, spec))

    def process(self, event: MarketEvent) -> None:
        """Take one event."""
        self.process_batch((event,))

    def process_batch(self, events: Iterable[MarketEvent]) -> None:
        """Take *events*, in their order, as having arrived now."""
        now_ns = self._clock.monotonic_ns()
        for event in events:
            self._events += 1
            feed = self._feeds.get(event.instrument_id)
            if feed is None or not feed.known:
                feed = self._admit(event.instrument_id)
            if feed is None:
                self._unknown += 1
            else:
                self._take(feed, event, now_ns)

    def on_clock(self, now_ns: int) -> None:
        """It is *now_ns* (wall time): close the time bars that ended, look for silent streams."""
        monotonic_ns = self._clock.monotonic_ns()
        for feed in tuple(self._feeds.values()):
            for builder in tuple(feed.builders.values()):
                self._publish_bars(builder.on_time(now_ns))
            feed.find_silence(monotonic_ns)
            if feed.unsettled or feed.withholds:
                self._announce(feed)

    def on_link_lost(self, instrument_ids: Iterable[InstrumentId]) -> None:
        """The connection of these instruments is gone: they are stale until they speak again."""
        for instrument_id in instrument_ids:
            feed = self._feed(instrument_id)
            feed.lose_link()
            self._announce(feed)

    def is_stale(self, instrument_id: InstrumentId) -> bool:
        """Whether what we know of it may be out of date; an instrument nobody expects is not."""
        feed = self._feeds.get(instrument_id)
        return feed is not None and feed.is_stale

    def stats(self) -> DataStats:
        """What was seen so far, and what is stale now."""
        feeds = self._feeds.values()
        return DataStats(
            events=self._events,
            unknown_instruments=self._unknown,
            duplicate_trades=self._duplicates,
            unusable_trades=self._unusable,
            late_trades=sum(bars.late_trades for feed in feeds for bars in feed.builders.values()),
            out_of_order=self._out_of_order,
            crossed_books=self._crossed,
            book_gaps=self._gaps,
            dropped_book_updates=self._dropped_updates,
            stale={feed.instrument_id: feed.trouble for feed in feeds if feed.is_stale},
        )

    def _feed(self, instrument_id: InstrumentId) -> Feed:
        feed = self._feeds.get(instrument_id)
        if feed is None:
            feed = self._feeds[instrument_id] = Feed(instrument_id, self._trade_memory)
        return feed

    def _admit(self, instrument_id: InstrumentId) -> Feed | None:
        """The feed of an instrument whose first event this is; None unless the cache knows it."""
        if self._cache.instrument(instrument_id) is None:
            return None
        feed = self._feed(instrument_id)
        feed.known = feed.unsettled = True
        self._cache.put_book(instrument_id, feed.book)
        return feed

    def _take(self, feed: Feed, event: MarketEvent, now_ns: int) -> None:
        match event:
            case Trade():
                self._take_trade(feed, event, now_ns)
            case BookSnapshot():
                self._take_snapshot(feed, event, now_ns)
            case Quote():
                self._cache.put_quote(event)
                self._heard(feed, "quote", event.ts_event_ns, now_ns)
                self._bus.publish(topics.quote(event.instrument_id), event)
            case BookDelta():
                self._take_delta(feed, event, now_ns)
            case MarkPrice():
                self._cache.put_mark(event)
                self._heard(feed, "mark", event.ts_event_ns, now_ns)
                self._bus.publish(topics.mark(event.instrument_id), event)
            case MidPrice():
                self._cache.put_mid(event)
                self._bus.publish(topics.mid(event.instrument_id), event)
            case InstrumentStatus():
                feed.on_venue_status(event)
                self._announce(feed)
            case Bar():
                self._publish_bars((event,))
            case Candle():
                self._take_candle(feed, event, now_ns)
            case _:
                assert_never(event)

    def _take_trade(self, feed: Feed, trade: Trade, now_ns: int) -> None:
        if not (_is_usable(trade.price) and _is_usable(trade.quantity)):
            self._unusable += 1
            return
        if not feed.trades.add(trade.trade_id):
            self._duplicates += 1
            feed.heard("trade", now_ns)
            return
        self._cache.put_trade(trade)
        self._heard(feed, "trade", trade.ts_event_ns, now_ns)
        self._bus.publish(topics.trade(trade.instrument_id), trade)
        for builder in tuple(feed.builders.values()):
            self._publish_bars(builder.on_trade(trade))

    def _take_candle(self, feed: Feed, candle: Candle, now_ns: int) -> None:
        """A closed one counts once, whoever tells it again; then none as old counts any more."""
        self._heard(feed, "candle", candle.ts_event_ns, now_ns)
        if candle.ts_open_ns <= feed.closed_candles.get(candle.interval, -1):
            return
        if candle.is_closed:
            feed.closed_candles[candle.interval] = candle.ts_open_ns
        self._cache.put_candle(candle)
        self._bus.publish(topics.candle(candle.instrument_id, candle.interval), candle)

    def _take_snapshot(self, feed: Feed, snapshot: BookSnapshot, now_ns: int) -> None:
        book, delta_topic = feed.book, topics.book_delta(snapshot.instrument_id)
        former = None
        if self._bus.has_subscribers(delta_topic):
            former = book.bids(), book.asks()
        if not book.apply_snapshot(snapshot):
            self._dropped_updates += 1
            return
        feed.awaits_snapshot = False
        self._check_book(feed)
        self._heard(feed, "book", snapshot.ts_event_ns, now_ns)
        self._bus.publish(topics.book_snapshot(snapshot.instrument_id), snapshot)
        if former is not None and (delta := delta_since(*former, book)) is not None:
            self._bus.publish(delta_topic, delta)

    def _take_delta(self, feed: Feed, delta: BookDelta, now_ns: int) -> None:
        outcome = feed.book.apply_delta(delta)
        self._check_book(feed)
        self._heard(feed, "book", delta.ts_event_ns, now_ns)
        if outcome is DeltaOutcome.APPLIED:
            self._bus.publish(topics.book_delta(delta.instrument_id), delta)
        else:
            self._dropped_updates += 1

    def _check_book(self, feed: Feed) -> None:
        book = feed.book
        if not book.is_crossed:
            feed.clear_trouble("crossed")
        elif feed.set_trouble("crossed", "the book is crossed"):
            self._crossed += 1
        if not book.needs_snapshot:
            feed.clear_trouble("gap")
        elif feed.set_trouble("gap", "the book needs a snapshot"):
            self._gaps += 1
        if book.needs_snapshot and not feed.awaits_snapshot:
            feed.awaits_snapshot = True
            if self._on_gap is not None:
                self._on_gap(feed.instrument_id)

    def _heard(self, feed: Feed, stream: Stream, ts_event_ns: int, now_ns: int) -> None:
        """A stream spoke; a status that this changes is told before the event itself."""
        self._out_of_order += feed.is_behind(stream, ts_event_ns)
        feed.heard(stream, now_ns)
        if feed.unsettled:
            self._announce(feed)

    def _announce(self, feed: Feed) -> None:
        """Publish the instrument's status if it is due and not the one published last."""
        feed.unsettled = False
        status, before = feed.status(self._clock.now_ns()), feed.announced
        if not feed.is_due(status.status, self._clock.monotonic_ns()):
            return
        _log_status(status, before, feed.take_withheld())
        self._cache.put_status(status)
        self._bus.publish(topics.status(status.instrument_id), status)

    def _publish_bars(self, bars: Iterable[Bar]) -> None:
        for bar in bars:
            self._cache.put_bar(bar)
            self._bus.publish(topics.bar(bar.instrument_id, bar.spec), bar)


def _log_status(status: InstrumentStatus, before: TradingStatus | None, withheld: int) -> None:
    """A market that is lost is a warning; that none is there yet at the start is no news.

    *withheld* changes happened since the last line and were not told.
    """
    is_well = status.status is TradingStatus.TRADING
    log = _log.info if is_well else _log.debug if before is None else _log.warning
    log(
        "market status",
        instrument=status.instrument_id,
        state=status.status.value,
        reason=status.reason,
        **({"withheld": withheld} if withheld else {}),
    )


def _is_usable(amount: Decimal) -> bool:
    """Whether sums and products of it stay positive and exact."""
    return amount.is_finite() and 0 < amount < _TOO_LARGE
