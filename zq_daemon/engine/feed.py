"""What the data engine keeps for one instrument, and what is wrong with it.

Owns the instrument's book, bar builders, remembered trade ids and the troubles that make it stale.
Publishes nothing, reads no clock. Used by the data engine only.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from zq_daemon.core.bars import BarBuilder
from zq_daemon.core.book import OrderBook
from zq_daemon.model.bar import BarSpec
from zq_daemon.model.ids import InstrumentId, TradeId
from zq_daemon.model.market import InstrumentStatus, TradingStatus

Stream = Literal["book", "quote", "trade", "mark", "candle"]
"""A kind of market data that an instrument's subscriptions may carry."""

CALM_NS = 2_000_000_000
"""How long the status of a market that was lost is left as it is."""

_BY_VENUE = (TradingStatus.HALTED, TradingStatus.DELISTED)


class Feed:
    """The market data of one instrument; it is stale while it has any trouble.

    A trouble has a key (a stream, `link`, `gap`, `crossed`) and a few words for people. *unsettled*
    says that the status may have changed since it was last announced, *withholds* that it has and
    that it is too early to say so.
    """

    __slots__ = (
        "_calm_until_ns",
        "_heard_ns",
        "_latest_ns",
        "_limits_ns",
        "_seen",
        "_troubles",
        "_venue_status",
        "_withheld",
        "announced",
        "awaits_snapshot",
        "book",
        "builders",
        "closed_candles",
        "instrument_id",
        "known",
        "trades",
        "unsettled",
        "withholds",
    )

    def __init__(self, instrument_id: InstrumentId, trade_memory: int) -> None:
        self.instrument_id = instrument_id
        self.book = OrderBook(instrument_id)
        self.builders: dict[BarSpec, BarBuilder] = {}
        self.closed_candles: dict[str, int] = {}
        self.trades = RecentTrades(trade_memory)
        self.known = False
        self.awaits_snapshot = False
        self.announced: TradingStatus | None = None
        self.unsettled = False
        self.withholds = False
        self._calm_until_ns = 0
        self._seen: TradingStatus | None = None
        self._withheld = 0
        self._limits_ns: dict[Stream, int] = {}
        self._heard_ns: dict[Stream, int] = {}
        self._latest_ns: dict[Stream, int] = {}
        self._troubles: dict[str, str] = {}
        self._venue_status: InstrumentStatus | None = None

    @property
    def trouble(self) -> str:
        """What is wrong, for people; empty when nothing is."""
        return ", ".join(self._troubles.values())

    @property
    def is_stale(self) -> bool:
        """Whether anything is wrong."""
        return bool(self._troubles)

    def expect(self, stream: Stream, limit_ns: int) -> None:
        """From now on *stream* must speak, and then never be silent for longer than *limit_ns*."""
        known_ns = self._limits_ns.get(stream)
        if known_ns is None:
            self.set_trouble(stream, f"no {stream} received yet")
        self._limits_ns[stream] = limit_ns if known_ns is None else min(limit_ns, known_ns)

    def heard(self, stream: Stream, now_ns: int) -> None:
        """*stream* has spoken at *now_ns* (monotonic), so its link is up as well."""
        self._heard_ns[stream] = now_ns
        if self._troubles:
            self.clear_trouble(stream)
            self.clear_trouble("link")

    def is_behind(self, stream: Stream, ts_event_ns: int) -> bool:
        """Whether an event of *stream* is older than the one before it, which it replaces here."""
        latest_ns = self._latest_ns.get(stream, ts_event_ns)
        self._latest_ns[stream] = ts_event_ns
        return ts_event_ns < latest_ns

    def find_silence(self, now_ns: int) -> None:
        """Set the troubles of the expected streams that are silent for too long at *now_ns*."""
        for stream, limit_ns in self._limits_ns.items():
            silent_ns = now_ns - self._heard_ns.get(stream, now_ns)
            if silent_ns > limit_ns and stream not in self._troubles:
                self.set_trouble(stream, f"no {stream} for {limit_ns // 1_000_000} ms")

    def lose_link(self) -> None:
        """Updates may be missed from now on."""
        self.set_trouble("link", "the link is lost")
        for stream in self._limits_ns:
            self.set_trouble(stream, f"no {stream} since the link was lost")
        self.book.invalidate()
        if self.book.updates:
            self.set_trouble("gap", "the book needs a snapshot")

    def set_trouble(self, key: str, text: str) -> bool:
        """Something is wrong; whether it was not before."""
        is_new = key not in self._troubles
        self._troubles[key] = text
        self.unsettled = True
        return is_new

    def clear_trouble(self, key: str) -> None:
        """That is not wrong, or not any more."""
        if self._troubles.pop(key, None) is not None:
            self.unsettled = True

    def on_venue_status(self, status: InstrumentStatus) -> None:
        """The venue told the instrument's trading status."""
        self._venue_status = status
        self.unsettled = True

    def status(self, now_ns: int) -> InstrumentStatus:
        """What holds at *now_ns* (wall): a halt or delisting the venue told, then our troubles."""
        venue = self._venue_status
        if venue is not None and venue.status in _BY_VENUE:
            return venue
        status = TradingStatus.STALE if self._troubles else TradingStatus.TRADING
        return InstrumentStatus(
            instrument_id=self.instrument_id,
            status=status,
            reason=self.trouble or "market data is current",
            ts_event_ns=now_ns,
            ts_recv_ns=now_ns,
        )

    def is_due(self, status: TradingStatus, now_ns: int) -> bool:
        """Whether *status* is to be announced at *now_ns* (monotonic); it counts as announced then.

        Only the loss of a market that trades is always due; whatever follows it waits, so that one
        that comes and goes is not told of each time.
        """
        has_turned, self._seen = status is not self._seen, status
        is_new = status is not self.announced
        was_lost = self.announced not in (None, TradingStatus.TRADING)
        self.withholds = is_new and was_lost and now_ns < self._calm_until_ns
        self._withheld += self.withholds and has_turned
        if not is_new or self.withholds:
            return False
        if self.announced is not None:
            self._calm_until_ns = now_ns + CALM_NS
        self.announced = status
        return True

    def take_withheld(self) -> int:
        """How many changes were withheld since this was asked last."""
        withheld, self._withheld = self._withheld, 0
        return withheld


class RecentTrades:
    """The last *limit* different trade ids."""

    __slots__ = ("_ids", "_limit", "_order")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._order: deque[TradeId] = deque()
        self._ids: set[TradeId] = set()

    def add(self, trade_id: TradeId) -> bool:
        """Remember *trade_id*; False if it is remembered already."""
        if trade_id in self._ids:
            return False
        self._ids.add(trade_id)
        self._order.append(trade_id)
        if len(self._order) > self._limit:
            self._ids.remove(self._order.popleft())
        return True
