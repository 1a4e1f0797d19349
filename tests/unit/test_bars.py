"""Bars: alignment, the clock, late trades, exact splitting, and the bounds."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

from zq_daemon.core.bars import MAX_BARS_PER_TRADE, MAX_QUIET_BARS, BarBuilder
from zq_daemon.model.bar import Bar, BarKind, BarSpec
from zq_daemon.model.ids import InstrumentId, TradeId
from zq_daemon.model.market import Side, Trade

BTC = InstrumentId("hyperliquid.BTC")
SECOND = 1_000_000_000
MINUTE = 60 * SECOND


def trade(at_ns: int, price: str = "10", quantity: str = "1", *, recv_ns: int = -1) -> Trade:
    return Trade(
        instrument_id=BTC,
        price=Decimal(price),
        quantity=Decimal(quantity),
        aggressor=Side.BUY,
        trade_id=TradeId(str(at_ns)),
        ts_event_ns=at_ns,
        ts_recv_ns=at_ns if recv_ns < 0 else recv_ns,
    )


def builder(spec: str) -> BarBuilder:
    return BarBuilder(BTC, BarSpec.parse(spec))


def prices(bar: Bar) -> tuple[int, int, int, int]:
    return int(bar.open), int(bar.high), int(bar.low), int(bar.close)


class TestTimeBars:
    def test_no_bar_before_the_first_trade(self) -> None:
        bars = builder("1m")
        assert bars.on_time(10 * MINUTE) == []
        assert bars.on_time(20 * MINUTE) == []

    def test_is_aligned_to_the_epoch_and_closed_by_the_clock(self) -> None:
        bars = builder("1m")
        for at, price in ((61, "10"), (62, "12"), (63, "9"), (64, "11")):
            assert bars.on_trade(trade(at * SECOND, price, "2")) == []
        assert bars.on_time(2 * MINUTE - 1) == []
        (bar,) = bars.on_time(2 * MINUTE + 5)
        assert prices(bar) == (10, 12, 9, 11)
        assert (bar.volume, bar.notional, bar.trades) == (8, 84, 4)
        assert (bar.ts_open_ns, bar.ts_close_ns) == (MINUTE, 2 * MINUTE)
        assert (bar.ts_event_ns, bar.ts_recv_ns) == (2 * MINUTE, 2 * MINUTE + 5)
        assert (bar.instrument_id, bar.spec.text) == (BTC, "1m")

    def test_repeats_the_close_when_nothing_trades(self) -> None:
        bars = builder("1s")
        bars.on_trade(trade(0, "10"))
        bars.on_trade(trade(1, "7"))
        first, second, third = bars.on_time(3 * SECOND)
        assert prices(first) == (10, 10, 7, 7)
        for quiet in (second, third):
            assert prices(quiet) == (7, 7, 7, 7)
            assert (quiet.volume, quiet.notional, quiet.trades) == (0, 0, 0)
        assert [bar.ts_open_ns for bar in (first, second, third)] == [0, SECOND, 2 * SECOND]

    def test_a_trade_closes_what_the_clock_did_not(self) -> None:
        bars = builder("1s")
        bars.on_trade(trade(0, "10"))
        closed = bars.on_trade(trade(2 * SECOND, "20", recv_ns=2 * SECOND + 3))
        assert [prices(bar) for bar in closed] == [(10, 10, 10, 10)] * 2
        assert [bar.ts_recv_ns for bar in closed] == [2 * SECOND + 3] * 2
        assert prices(bars.on_time(3 * SECOND)[0]) == (20, 20, 20, 20)

    def test_a_late_trade_counts_in_the_open_bar(self) -> None:
        bars = builder("1s")
        bars.on_trade(trade(0, "10"))
        bars.on_time(SECOND)
        assert bars.on_trade(trade(SECOND - 1, "30", recv_ns=SECOND + 9)) == []
        assert bars.late_trades == 1
        (bar,) = bars.on_time(2 * SECOND)
        assert prices(bar) == (30, 30, 30, 30)
        assert (bar.trades, bar.ts_open_ns) == (1, SECOND)

    def test_a_trade_from_the_future_counts_when_it_came(self) -> None:
        bars = builder("1s")
        assert bars.on_trade(trade(10**20, recv_ns=5)) == []
        (bar,) = bars.on_time(SECOND)
        assert (bar.ts_open_ns, bar.trades) == (0, 1)

    def test_back_filled_trades_make_bars_of_the_past(self) -> None:
        bars = builder("1s")
        closed = [
            bar
            for at in (1, 2, 3)
            for bar in bars.on_trade(trade(at * SECOND, str(at), recv_ns=9 * SECOND))
        ]
        assert [bar.ts_open_ns for bar in closed] == [SECOND, 2 * SECOND]
        assert bars.late_trades == 0

    def test_a_long_gap_is_jumped_over(self) -> None:
        bars = builder("1s")
        bars.on_trade(trade(0, "10"))
        now_ns = (MAX_QUIET_BARS + 3) * SECOND + 7
        (bar,) = bars.on_time(now_ns)
        assert (bar.ts_open_ns, bar.trades) == (0, 1)
        (quiet,) = bars.on_time(now_ns + SECOND)
        assert quiet.ts_open_ns == now_ns - 7
        assert prices(quiet) == (10, 10, 10, 10)

    def test_the_longest_gap_that_is_filled(self) -> None:
        bars = builder("1s")
        bars.on_trade(trade(0, "10"))
        assert len(bars.on_time((MAX_QUIET_BARS + 1) * SECOND)) == MAX_QUIET_BARS + 1

    def test_a_replay_of_old_trades_on_todays_clock_makes_bars_by_arrival(self) -> None:
        bars = builder("1s")
        today = 50 * 365 * 86_400 * SECOND
        bars.on_trade(trade(0, "10", recv_ns=today))
        assert len(bars.on_time(today)) == 1
        bars.on_trade(trade(1, "11", recv_ns=today + 1))
        bars.on_trade(trade(2, "12", recv_ns=today + 2))
        (bar,) = bars.on_time(today + SECOND)
        assert (prices(bar), bar.trades, bar.ts_open_ns) == ((11, 12, 11, 12), 2, today)

    def test_follows_a_clock_that_is_set_back(self) -> None:
        bars = builder("1s")
        bars.on_trade(trade(100 * SECOND, "10"))
        assert bars.on_time(99 * SECOND) == []
        assert bars.on_time(20 * SECOND + 5) == []
        (bar,) = bars.on_time(21 * SECOND)
        assert (bar.ts_open_ns, bar.trades) == (20 * SECOND, 1)


class TestMeasuredBars:
    def test_tick_bars_hold_exactly_their_trades(self) -> None:
        bars = builder("3tick")
        assert bars.on_trade(trade(5, "10", "1")) == []
        assert bars.on_trade(trade(6, "12", "2")) == []
        (bar,) = bars.on_trade(trade(7, "11", "3", recv_ns=8))
        assert prices(bar) == (10, 12, 10, 11)
        assert (bar.volume, bar.notional, bar.trades) == (6, 67, 3)
        assert (bar.ts_open_ns, bar.ts_close_ns) == (5, 7)
        assert (bar.ts_event_ns, bar.ts_recv_ns) == (7, 8)
        assert bars.on_time(10**18) == []
        assert bars.late_trades == 0

    def test_a_big_trade_is_split_over_volume_bars(self) -> None:
        bars = builder("5volume")
        bars.on_trade(trade(1, "10", "3"))
        first, second = bars.on_trade(trade(2, "20", "9.5"))
        assert (first.volume, first.notional, first.trades) == (5, 70, 2)
        assert prices(first) == (10, 20, 10, 20)
        assert (second.volume, second.notional, second.trades) == (5, 100, 1)
        assert prices(second) == (20, 20, 20, 20)
        (third,) = bars.on_trade(trade(3, "30", "2.5"))
        assert (third.volume, third.notional, third.trades) == (5, 125, 2)
        assert third.ts_open_ns == 2

    def test_notional_is_split_exactly_and_its_volume_adds_up(self) -> None:
        bars = builder("100notional")
        closed = bars.on_trade(trade(1, "3", "100"))
        assert [bar.notional for bar in closed] == [100, 100, 100]
        assert sum(Fraction(bar.volume) for bar in closed) == 100
        assert closed[0].volume == Decimal("33.333333333334")
        assert bars.on_trade(trade(2, "3", "33")) == []

    def test_one_trade_closes_a_bounded_number_of_bars(self) -> None:
        bars = builder("0.001volume")
        assert len(bars.on_trade(trade(1, "3", "1000000"))) == MAX_BARS_PER_TRADE
        (bar,) = bars.on_trade(trade(2, "4", "0.001"))
        assert prices(bar) == (4, 4, 4, 4)


class TestSpec:
    @pytest.mark.parametrize(
        ("text", "kind", "step"),
        [
            ("30s", BarKind.TIME, 30 * SECOND),
            ("1m", BarKind.TIME, MINUTE),
            ("4h", BarKind.TIME, 240 * MINUTE),
            ("1d", BarKind.TIME, 1440 * MINUTE),
            ("100tick", BarKind.TICK, 100),
            ("2.5volume", BarKind.VOLUME, Decimal("2.5")),
            ("1000notional", BarKind.NOTIONAL, 1000),
        ],
    )
    def test_reads(self, text: str, kind: BarKind, step: Decimal) -> None:
        spec = BarSpec.parse(text)
        assert (spec.kind, spec.step, str(spec)) == (kind, step, text)

    @pytest.mark.parametrize("text", ["", "m", "1", "0s", "1.5tick", "-1m", "1 m", "1e3tick", "1w"])
    def test_refuses(self, text: str) -> None:
        with pytest.raises(ValueError, match="bar "):
            BarSpec.parse(text)
