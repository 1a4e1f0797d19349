"""What P&L is measured from: the net P&L of an account's positions at one moment.

Owns how far positions have come since, and what of a day's baseline a journal has to say so that
another run measures on from the same place. It holds no positions: the portfolio hands them in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal

from attrs import frozen

from zq_daemon.model.ids import InstrumentId
from zq_daemon.model.money import EXACT, ZERO
from zq_daemon.model.position import Position

Marks = Callable[[InstrumentId], Decimal | None]
"""Looks up what an instrument is worth now; None for unknown."""


def net_pnl(position: Position, marks: Marks) -> Decimal | None:
    """Net P&L at the mark; None for an open position without a mark."""
    if not position.quantity:
        return position.settled_pnl
    mark = marks(position.instrument_id)
    return None if mark is None else position.net_pnl(mark)


class Baseline:
    """The net P&L of an account's positions at one moment, to measure changes from.

    A position whose net P&L is not known then (no mark) is measured from when it first is.
    """

    __slots__ = ("_marks", "_net")

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._net: dict[InstrumentId, Decimal] = {}

    def open(self, instrument_id: InstrumentId) -> None:
        """A position never held before counts whole."""
        self._net[instrument_id] = ZERO

    def change(self, position: Position) -> Decimal:
        """How far *position* is from the baseline; zero where it is not known."""
        net = net_pnl(position, self._marks)
        if net is None:
            return ZERO
        return EXACT.subtract(net, self._net.setdefault(position.instrument_id, net))

    def rebase(self, before: Position, after: Position) -> None:
        """Measure on from *after*, which replaces *before*, keeping the change so far."""
        change = self.change(before)
        net = net_pnl(after, self._marks)
        if net is None:
            self._net.pop(after.instrument_id, None)
        else:
            self._net[after.instrument_id] = EXACT.subtract(net, change)


@frozen(kw_only=True)
class DayMeasure:
    """From where an account's P&L of *day* (days since the epoch, UTC) is measured.

    *since* is the net P&L, by instrument, that the day began with; *marks* are the last ones known
    (to the journal: of what was open). What is flat and not in *since* made nothing on that day.
    """

    day: int
    since: Mapping[InstrumentId, Decimal]
    marks: Mapping[InstrumentId, Decimal]

    def covers(self, newer: DayMeasure) -> bool:
        """Whether going on from here is going on from *newer*, but for how old the marks are."""
        same = (self.day, self.since) == (newer.day, newer.since)
        return same and newer.marks.keys() <= self.marks.keys()


class DayBaseline(Baseline):
    """A baseline that lies at the beginning of a UTC day.

    Where there is no mark now it goes on at the last one that there was.
    """

    __slots__ = ("_last", "_now", "day")

    def __init__(self, marks: Marks) -> None:
        super().__init__(self._mark)
        self._now = marks
        self._last: dict[InstrumentId, Decimal] = {}
        self.day: int | None = None

    @classmethod
    def restored(
        cls, measure: DayMeasure, positions: Iterable[Position], marks: Marks
    ) -> DayBaseline:
        """As *measure*, which was taken of *positions*, says."""
        baseline = cls(marks)
        baseline.day = measure.day
        baseline._last = dict(measure.marks)
        flat = {each.instrument_id: each.settled_pnl for each in positions if not each.quantity}
        baseline._net = flat | dict(measure.since)
        return baseline

    def begin(self, day: int) -> None:
        """Measure from here on, as *day*."""
        self.day = day
        self._net.clear()

    def measure(self, positions: Iterable[Position]) -> DayMeasure:
        """What another run has to know to measure on; *day* must have begun."""
        assert self.day is not None
        since = {}
        for position in positions:
            net = self._net.get(position.instrument_id)
            if net is not None and (position.quantity or net != position.settled_pnl):
                since[position.instrument_id] = net
        return DayMeasure(day=self.day, since=since, marks=dict(self._last))

    def _mark(self, instrument_id: InstrumentId) -> Decimal | None:
        mark = self._now(instrument_id)
        if mark is None:
            return self._last.get(instrument_id)
        self._last[instrument_id] = mark
        return mark
