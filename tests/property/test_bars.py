"""Bars against the naive oracle."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.naive_bars import NaiveBar, measured_bars, time_bars
from zq_daemon.core.bars import BarBuilder
from zq_daemon.model.bar import Bar, BarKind, BarSpec
from zq_daemon.model.ids import InstrumentId, TradeId
from zq_daemon.model.market import Side, Trade

BTC = InstrumentId("hyperliquid.BTC")
SECOND = 1_000_000_000


@st.composite
def trades(draw: st.DrawFn) -> Trade:
    """Whole amounts; event and arrival within a few seconds of each other, either one first."""
    at_ns = draw(st.integers(0, 30 * SECOND))
    return Trade(
        instrument_id=BTC,
        price=Decimal(draw(st.integers(1, 12))),
        quantity=Decimal(draw(st.integers(1, 15))),
        aggressor=Side.BUY,
        trade_id=TradeId("1"),
        ts_event_ns=at_ns,
        ts_recv_ns=max(at_ns + draw(st.integers(-SECOND, 2 * SECOND)), 0),
    )


def exact(bar: Bar, *, timed: bool) -> NaiveBar:
    return NaiveBar(
        Fraction(bar.open),
        Fraction(bar.high),
        Fraction(bar.low),
        Fraction(bar.close),
        Fraction(bar.volume),
        Fraction(bar.notional),
        bar.trades,
        bar.ts_open_ns if timed else None,
    )


@settings(max_examples=80)
@given(
    st.lists(st.one_of(trades(), st.integers(0, 40 * SECOND)), max_size=20),
    st.integers(1, 5),
)
def test_time_bars_equal_the_oracle(happened: list[Trade | int], seconds: int) -> None:
    # a clock that is set back is another test's; here it only stands still
    step_ns = seconds * SECOND
    builder = BarBuilder(BTC, BarSpec.parse(f"{seconds}s"))
    latest_ns, seen, bars = 0, [], []
    for one in happened:
        if isinstance(one, Trade):
            seen.append(one)
            bars += builder.on_trade(one)
            latest_ns = max(latest_ns, min(one.ts_event_ns, one.ts_recv_ns))
        else:
            latest_ns = max(latest_ns, one)
            seen.append(latest_ns)
            bars += builder.on_time(latest_ns)
    assert [exact(bar, timed=True) for bar in bars] == time_bars(seen, step_ns)
    assert all(bar.ts_close_ns == bar.ts_open_ns + step_ns == bar.ts_event_ns for bar in bars)
    assert all(bar.ts_open_ns % step_ns == 0 for bar in bars)


@settings(max_examples=80)
@given(st.lists(trades(), max_size=20), st.sampled_from(["tick", "volume"]), st.integers(1, 20))
def test_tick_and_volume_bars_equal_the_oracle(happened: list[Trade], kind: str, step: int) -> None:
    builder = BarBuilder(BTC, BarSpec.parse(f"{step}{kind}"))
    bars = [bar for trade in happened for bar in builder.on_trade(trade)]
    expected = measured_bars(happened, BarKind(kind), step)
    assert [exact(bar, timed=False) for bar in bars] == expected


@settings(max_examples=80)
@given(st.lists(trades(), max_size=12), st.integers(1, 60))
def test_notional_bars_equal_the_oracle(happened: list[Trade], step: int) -> None:
    builder = BarBuilder(BTC, BarSpec.parse(f"{step}notional"))
    bars = [exact(bar, timed=False) for t in happened for bar in builder.on_trade(t)]
    expected = measured_bars(happened, BarKind.NOTIONAL, step)
    assert len(bars) == len(expected)
    for bar, naive in zip(bars, expected, strict=True):
        assert abs(bar.volume - naive.volume) <= Fraction(2 * bar.trades, 10**12)
        assert bar == NaiveBar(
            naive.open,
            naive.high,
            naive.low,
            naive.close,
            bar.volume,
            naive.notional,
            naive.trades,
        )
        assert bar.notional == step


@settings(max_examples=60)
@given(
    st.lists(trades(), min_size=1, max_size=12),
    st.sampled_from(["0.7volume", "3volume", "0.3notional", "11notional"]),
)
def test_split_trades_add_up_to_the_last_digit(happened: list[Trade], spec: str) -> None:
    """When a last trade fills the open bar, the bars hold what was traded and nothing else."""
    builder = BarBuilder(BTC, BarSpec.parse(spec))
    by_volume = builder.spec.kind is BarKind.VOLUME
    total = sum(trade.quantity * (1 if by_volume else trade.price) for trade in happened)
    last = evolve(happened[-1], price=Decimal(1), quantity=-total % builder.spec.step)
    if last.quantity < 0:
        last = evolve(last, quantity=last.quantity + builder.spec.step)
    sent = [*happened, last] if last.quantity else happened
    bars = [bar for trade in sent for bar in builder.on_trade(trade)]
    assert sum(Fraction(bar.volume) for bar in bars) == sum(Fraction(t.quantity) for t in sent)
    assert sum(Fraction(bar.notional) for bar in bars) == sum(
        Fraction(t.quantity) * Fraction(t.price) for t in sent
    )
    measured = [bar.volume if by_volume else bar.notional for bar in bars]
    assert set(measured) == {builder.spec.step}
