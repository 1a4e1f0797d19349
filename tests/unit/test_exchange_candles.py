"""Candles: which interval a trade is in, what a candle holds, and how many are kept."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zq_daemon.venue.exchange import candles as module
from zq_daemon.venue.exchange.candles import INTERVALS, Candles

TIMES = st.integers(0, 4_102_444_800_000)
LATE = st.lists(
    st.tuples(st.integers(0, 40_000_000), st.integers(1, 99), st.integers(1, 9)), max_size=60
)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


@pytest.mark.parametrize(
    ("interval", "time", "start", "end"),
    [
        ("1m", "2026-11-21T17:33:59", "2026-11-21T17:33", "2026-11-21T17:34"),
        ("15m", "2026-11-21T17:45:00", "2026-11-21T17:45", "2026-11-21T18:00"),
        ("8h", "2026-11-21T17:45:00", "2026-11-21T16:00", "2026-11-22T00:00"),
        ("1w", "2026-11-22T23:59:59", "2026-11-16T00:00", "2026-11-23T00:00"),
        ("1w", "2026-11-23T00:00:00", "2026-11-23T00:00", "2026-11-30T00:00"),
        ("1M", "2026-12-31T23:59:59", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("1M", "2028-02-29T12:00:00", "2028-02-01T00:00", "2028-03-01T00:00"),
    ],
)
def test_intervals_begin_where_the_calendar_says(interval, time, start, end):
    assert INTERVALS[interval](ms(time)) == (ms(start), ms(end))


@given(st.sampled_from(sorted(INTERVALS)), TIMES)
def test_intervals_cover_all_time_without_overlap(interval, time_ms):
    span = INTERVALS[interval]
    start, end = span(time_ms)
    assert start <= time_ms < end
    assert span(start) == span(end - 1) == (start, end)
    assert span(end)[0] == end


@given(LATE)
def test_candles_are_what_the_trades_of_their_interval_make(trades):
    kept, trades = Candles(["BTC"]), sorted(trades)
    for time_ms, price, size in trades:
        kept.add("BTC", Decimal(price), Decimal(size), time_ms)
    for interval, span in INTERVALS.items():
        expected = {}
        for time_ms, price, size in trades:
            expected.setdefault(span(time_ms), []).append((price, size))
        found = kept.between("BTC", interval, 0, 50_000_000)
        assert [(each.start_ms, each.end_ms) for each in found] == list(expected)
        for candle, inside in zip(found, expected.values(), strict=True):
            prices = [price for price, _ in inside]
            assert (candle.open, candle.close) == (prices[0], prices[-1])
            assert (candle.high, candle.low) == (max(prices), min(prices))
            assert candle.volume == sum(size for _, size in inside)
            assert candle.trades == len(inside)


def test_a_late_trade_counts_to_the_open_candle():
    kept = Candles(["BTC"])
    kept.add("BTC", Decimal(10), Decimal(1), 120_000)
    kept.add("BTC", Decimal(8), Decimal(1), 119_999)
    (candle,) = kept.between("BTC", "1m", 0, 200_000)
    assert (candle.start_ms, candle.low, candle.trades) == (120_000, 8, 2)


def test_the_oldest_candles_are_forgotten_and_bounds_are_inclusive(monkeypatch):
    monkeypatch.setattr(module, "KEPT_CANDLES", 3)
    kept = Candles(["BTC"])
    for minute in range(5):
        kept.add("BTC", Decimal(10), Decimal(1), minute * 60_000)
    starts = [each.start_ms for each in kept.between("BTC", "1m", 0, 10**9)]
    assert starts == [120_000, 180_000, 240_000]
    assert [each.start_ms for each in kept.between("BTC", "1m", 179_999, 180_000)] == starts[:2]
    assert [each.start_ms for each in kept.between("BTC", "1m", 180_000, 239_999)] == starts[1:2]
    assert kept.last("BTC", "1m").start_ms == 240_000
    assert Candles(["BTC"]).last("BTC", "1m") is None
