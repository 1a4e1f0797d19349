"""Candles of every interval the venue has, built from the trades everybody sees.

Owns the latest candles of each coin and interval, a bounded number. Never sees a book; an interval
without a trade has no candle. Times are milliseconds of UTC; weeks begin on Monday.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from attrs import define, frozen

from zq_daemon.venue.exchange.listing import total

KEPT_CANDLES = 1_000
MINUTE_MS = 60_000
_HOUR_MS = 60 * MINUTE_MS
_DAY_MS = 24 * _HOUR_MS
_WEEK_MS = 7 * _DAY_MS
_MONDAY_MS = 4 * _DAY_MS
"""The first Monday of the epoch."""


@define(kw_only=True)
class Candle:
    """What was traded from *start_ms* up to *end_ms* (exclusive)."""

    coin: str
    interval: str
    start_ms: int
    end_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    notional: Decimal
    trades: int = 1

    def add(self, price: Decimal, size: Decimal) -> None:
        """One more trade."""
        self.high = max(self.high, price)
        self.low = min(self.low, price)
        self.close = price
        self.volume += size
        self.notional += price * size
        self.trades += 1


@frozen
class Day:
    """What was traded in a day, and the price it began with; None: nothing was."""

    open: Decimal | None
    volume: Decimal
    notional: Decimal


Span = Callable[[int], tuple[int, int]]
"""From a time to the start and the end (exclusive) of its interval."""


def _every(step_ms: int, origin_ms: int = 0) -> Span:
    def span(time_ms: int) -> tuple[int, int]:
        start = (time_ms - origin_ms) // step_ms * step_ms + origin_ms
        return start, start + step_ms

    return span


def _month(time_ms: int) -> tuple[int, int]:
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    start = datetime(moment.year, moment.month, 1, tzinfo=UTC)
    end = datetime(moment.year + moment.month // 12, moment.month % 12 + 1, 1, tzinfo=UTC)
    return int(start.timestamp()) * 1000, int(end.timestamp()) * 1000


INTERVALS: Mapping[str, Span] = {
    "1m": _every(MINUTE_MS),
    "3m": _every(3 * MINUTE_MS),
    "5m": _every(5 * MINUTE_MS),
    "15m": _every(15 * MINUTE_MS),
    "30m": _every(30 * MINUTE_MS),
    "1h": _every(_HOUR_MS),
    "2h": _every(2 * _HOUR_MS),
    "4h": _every(4 * _HOUR_MS),
    "8h": _every(8 * _HOUR_MS),
    "12h": _every(12 * _HOUR_MS),
    "1d": _every(_DAY_MS),
    "3d": _every(3 * _DAY_MS),
    "1w": _every(_WEEK_MS, _MONDAY_MS),
    "1M": _month,
}


class Candles:
    """The candles of *coins*."""

    def __init__(self, coins: Collection[str]) -> None:
        self._kept: dict[tuple[str, str], deque[Candle]] = {
            (coin, interval): deque(maxlen=KEPT_CANDLES) for coin in coins for interval in INTERVALS
        }

    def add(self, coin: str, price: Decimal, size: Decimal, time_ms: int) -> None:
        """A trade; one from before the open candle counts to that one."""
        for interval, span in INTERVALS.items():
            kept = self._kept[coin, interval]
            if kept and time_ms < kept[-1].end_ms:
                kept[-1].add(price, size)
                continue
            start_ms, end_ms = span(time_ms)
            kept.append(
                Candle(
                    coin=coin,
                    interval=interval,
                    start_ms=start_ms,
                    end_ms=end_ms,
                    open=price,
                    high=price,
                    low=price,
                    close=price,
                    volume=size,
                    notional=price * size,
                )
            )

    def day(self, coin: str, now_ms: int) -> Day:
        """The last 24 hours of *coin*, whole hours of them."""
        recent = [each for each in self._kept[coin, "1h"] if each.end_ms > now_ms - _DAY_MS]
        return Day(
            open=recent[0].open if recent else None,
            volume=total(each.volume for each in recent),
            notional=total(each.notional for each in recent),
        )

    def last(self, coin: str, interval: str) -> Candle | None:
        """The candle of the latest trade."""
        kept = self._kept[coin, interval]
        return kept[-1] if kept else None

    def between(self, coin: str, interval: str, start_ms: int, end_ms: int) -> Sequence[Candle]:
        """The candles that touch *start_ms* to *end_ms*, oldest first."""
        kept = self._kept[coin, interval]
        return [each for each in kept if each.end_ms > start_ms and each.start_ms <= end_ms]
