"""Bars from trades: by time, by count of trades, by volume, by notional.

Owns the bar being built and the rules of where a bar ends. Reads no clock: the time is passed in.
Never publishes, never looks for duplicates. Called by the data engine.

Time bars cover [k x step, (k + 1) x step) of the Unix epoch. They are closed by the clock or by a
trade of a later bar, whichever comes first; once there was a trade there is a bar for every step,
and one in which nothing traded repeats the close. A trade belongs to the bar of its event time, or
of its arrival if that is earlier (the venue's clock may be ahead of ours). A late trade, one whose
bar is closed, counts in the open bar as if it traded now: no closed bar is ever changed. So the
trades that a venue back-fills on subscription make bars of the past, and a replay of old messages
on today's clock makes bars by arrival.

Tick, volume and notional bars close when the step is reached, and hold it exactly: a trade that is
larger than what is missing is split over bars, and counts as a trade in each bar that it touches.
Volume and notional of the parts add up to the trade exactly; in notional bars the quantity is split
at 12 decimals, so that it stays a finite decimal.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Context, Decimal

from zq_daemon.model.bar import Bar, BarKind, BarSpec
from zq_daemon.model.ids import InstrumentId
from zq_daemon.model.market import Trade

MAX_QUIET_BARS = 1_000
"""A longer stretch without a trade or a clock reading (a machine that slept) is jumped over."""

MAX_BARS_PER_TRADE = 1_000
"""One trade closes no more bars; what is left of it is dropped: such a step is a mistake."""

_ZERO = Decimal(0)
_ONE = Decimal(1)
_SPLIT_STEP = Decimal("1e-12")
_WIDE = Context(prec=64)


class BarBuilder:
    """Builds the bars of one instrument by one specification."""

    __slots__ = ("_bars", "instrument_id", "spec")

    def __init__(self, instrument_id: InstrumentId, spec: BarSpec) -> None:
        self.instrument_id = instrument_id
        self.spec = spec
        kind = _TimeBars if spec.kind is BarKind.TIME else _MeasuredBars
        self._bars: _TimeBars | _MeasuredBars = kind(instrument_id, spec)

    def on_trade(self, trade: Trade) -> list[Bar]:
        """Count *trade* (price and quantity positive); the bars this closed, oldest first."""
        return self._bars.on_trade(trade)

    def on_time(self, now_ns: int) -> list[Bar]:
        """It is *now_ns* (wall time): the time bars this closed, oldest first."""
        return self._bars.on_time(now_ns)

    @property
    def late_trades(self) -> int:
        """How many trades came after their time bar was closed."""
        return self._bars.late_trades


class _OpenBar:
    """What has been counted so far of the bar being built."""

    __slots__ = ("_close", "_high", "_low", "_open", "first_ns", "notional", "trades", "volume")

    def __init__(self, close: Decimal) -> None:
        self._open = self._high = self._low = self._close = close
        self.volume = self.notional = _ZERO
        self.trades = 0
        self.first_ns = 0

    def add(self, trade: Trade, quantity: Decimal, notional: Decimal) -> None:
        """Count *quantity* (worth *notional*) of *trade*."""
        price = trade.price
        if not self.trades:
            self._open = self._high = self._low = price
            self.first_ns = trade.ts_event_ns
        elif price > self._high:
            self._high = price
        elif price < self._low:
            self._low = price
        self._close = price
        self.volume += quantity
        self.notional += notional
        self.trades += 1

    def closed(
        self, instrument_id: InstrumentId, spec: BarSpec, opened_ns: int, ends_ns: int, now_ns: int
    ) -> Bar:
        """The finished bar; its event is its end, *now_ns* when we knew."""
        return Bar(
            instrument_id=instrument_id,
            spec=spec,
            open=self._open,
            high=self._high,
            low=self._low,
            close=self._close,
            volume=self.volume,
            notional=self.notional,
            trades=self.trades,
            ts_open_ns=opened_ns,
            ts_close_ns=ends_ns,
            ts_event_ns=ends_ns,
            ts_recv_ns=now_ns,
        )

    def next(self) -> _OpenBar:
        """An empty bar that follows this one."""
        return _OpenBar(self._close)


class _TimeBars:
    __slots__ = ("_bar", "_instrument_id", "_opens_ns", "_spec", "_step_ns", "late_trades")

    def __init__(self, instrument_id: InstrumentId, spec: BarSpec) -> None:
        self._instrument_id = instrument_id
        self._spec = spec
        self._step_ns = int(spec.step)
        self._opens_ns = 0
        self._bar: _OpenBar | None = None
        self.late_trades = 0

    def on_trade(self, trade: Trade) -> list[Bar]:
        at_ns = min(trade.ts_event_ns, trade.ts_recv_ns)
        closed: list[Bar] = []
        if self._bar is None:
            self._opens_ns = self._aligned(at_ns)
            bar = self._bar = _OpenBar(trade.price)
        else:
            bar = self._advance(self._bar, at_ns, trade.ts_recv_ns, closed)
        self.late_trades += at_ns < self._opens_ns
        bar.add(trade, trade.quantity, trade.price * trade.quantity)
        return closed

    def on_time(self, now_ns: int) -> list[Bar]:
        closed: list[Bar] = []
        if self._bar is None:
            return closed
        if now_ns < self._opens_ns - self._step_ns:
            self._opens_ns = self._aligned(now_ns)  # the clock was set back: follow it
        self._advance(self._bar, now_ns, now_ns, closed)
        return closed

    def _advance(self, bar: _OpenBar, to_ns: int, now_ns: int, closed: list[Bar]) -> _OpenBar:
        """Close what ends by *to_ns* into *closed*; the bar that is then open."""
        step_ns = self._step_ns
        while to_ns >= (ends_ns := self._opens_ns + step_ns):
            closed.append(
                bar.closed(self._instrument_id, self._spec, self._opens_ns, ends_ns, now_ns)
            )
            bar = self._bar = bar.next()
            too_far = to_ns - ends_ns > MAX_QUIET_BARS * step_ns
            self._opens_ns = self._aligned(to_ns) if too_far else ends_ns
        return bar

    def _aligned(self, at_ns: int) -> int:
        return at_ns - at_ns % self._step_ns


class _MeasuredBars:
    """Tick, volume and notional bars: one loop, which differs in what it measures."""

    __slots__ = ("_bar", "_instrument_id", "_spec", "late_trades")

    def __init__(self, instrument_id: InstrumentId, spec: BarSpec) -> None:
        self._instrument_id = instrument_id
        self._spec = spec
        self._bar = _OpenBar(_ZERO)
        self.late_trades = 0

    def on_trade(self, trade: Trade) -> list[Bar]:
        closed: list[Bar] = []
        quantity, notional = trade.quantity, trade.price * trade.quantity
        while len(closed) < MAX_BARS_PER_TRADE:
            excess = self._measure(quantity, notional) - self._missing()
            if excess <= 0:
                self._bar.add(trade, quantity, notional)
                if not excess:
                    closed.append(self._close(trade))
                break
            part, worth = self._split(trade.price, quantity, notional)
            self._bar.add(trade, part, worth)
            closed.append(self._close(trade))
            quantity, notional = quantity - part, notional - worth
        return closed

    def on_time(self, now_ns: int) -> list[Bar]:
        return []

    def _measure(self, quantity: Decimal, notional: Decimal) -> Decimal:
        if self._spec.kind is BarKind.VOLUME:
            return quantity
        return notional if self._spec.kind is BarKind.NOTIONAL else _ONE

    def _missing(self) -> Decimal:
        bar = self._bar
        if self._spec.kind is BarKind.TICK:
            return self._spec.step - bar.trades
        return self._spec.step - self._measure(bar.volume, bar.notional)

    def _split(
        self, price: Decimal, quantity: Decimal, notional: Decimal
    ) -> tuple[Decimal, Decimal]:
        """Of *quantity*, worth *notional*, what the open bar still misses, and its notional."""
        missing = self._missing()
        if self._spec.kind is BarKind.VOLUME:
            return missing, missing * price
        # what is left is cut, not the part: so the error does not grow with the number of parts
        left = _WIDE.divide(notional - missing, price)
        left = left.quantize(_SPLIT_STEP, rounding=ROUND_DOWN, context=_WIDE)
        return quantity - left, missing

    def _close(self, trade: Trade) -> Bar:
        bar = self._bar
        self._bar = bar.next()
        at_ns, now_ns = trade.ts_event_ns, trade.ts_recv_ns
        return bar.closed(self._instrument_id, self._spec, bar.first_ns, at_ns, now_ns)
