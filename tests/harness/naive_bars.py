"""Naive bars, the oracle: no state machine, only a list of units cut into equal pieces.

Time: each trade is given the window that was open when it came, the windows are listed one by one.
Others: each trade is written out as its single units (trades, base units, quote units), and the
long list is cut every `step` units. So amounts must be whole numbers here.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from attrs import frozen

from zq_daemon.model.bar import BarKind
from zq_daemon.model.market import Trade


@frozen
class NaiveBar:
    """What the oracle says of a bar; times only of time bars."""

    open: Fraction
    high: Fraction
    low: Fraction
    close: Fraction
    volume: Fraction
    notional: Fraction
    trades: int
    opens_ns: int | None = None


def time_bars(happened: Sequence[Trade | int], step_ns: int) -> list[NaiveBar]:
    """Closed bars of trades and clock readings (integers, ns) in their order of arrival."""
    windows: dict[int, list[Trade]] = {}
    latest_ns: int | None = None
    for one in happened:
        at_ns = one if isinstance(one, int) else min(one.ts_event_ns, one.ts_recv_ns)
        if latest_ns is None and isinstance(one, int):
            continue
        latest_ns = at_ns if latest_ns is None else max(latest_ns, at_ns)
        window = latest_ns // step_ns
        windows.setdefault(window, [])
        if isinstance(one, Trade):
            windows[window].append(one)
    bars: list[NaiveBar] = []
    for window in range(min(windows, default=0), max(windows, default=0)):
        trades = windows.get(window, [])
        prices = [Fraction(trade.price) for trade in trades] or [bars[-1].close]
        bars.append(
            NaiveBar(
                prices[0],
                max(prices),
                min(prices),
                prices[-1],
                sum((Fraction(trade.quantity) for trade in trades), Fraction(0)),
                sum((Fraction(t.quantity) * Fraction(t.price) for t in trades), Fraction(0)),
                len(trades),
                window * step_ns,
            )
        )
    return bars


def measured_bars(trades: Sequence[Trade], kind: BarKind, step: int) -> list[NaiveBar]:
    """Closed tick, volume or notional bars; what is measured of each trade is a whole number."""
    units: list[tuple[int, Trade, Fraction]] = []
    for number, trade in enumerate(trades):
        size = _size(trade, kind)
        units += [(number, trade, Fraction(trade.quantity) / size)] * size
    bars = []
    for start in range(0, len(units) - step + 1, step):
        piece = units[start : start + step]
        prices = [Fraction(trade.price) for _, trade, _ in piece]
        bars.append(
            NaiveBar(
                prices[0],
                max(prices),
                min(prices),
                prices[-1],
                sum((quantity for _, _, quantity in piece), Fraction(0)),
                sum((q * Fraction(trade.price) for _, trade, q in piece), Fraction(0)),
                len({number for number, _, _ in piece}),
            )
        )
    return bars


def _size(trade: Trade, kind: BarKind) -> int:
    if kind is BarKind.TICK:
        return 1
    size = trade.quantity if kind is BarKind.VOLUME else trade.quantity * trade.price
    assert size == int(size), "the oracle counts whole units"
    return int(size)
