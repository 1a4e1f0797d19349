"""Bars and what closes them: time, a count of trades, a volume, a notional; a venue's candles."""

from __future__ import annotations

import re
from decimal import Decimal
from enum import Enum

from attrs import frozen

from zq_daemon.model.ids import InstrumentId

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SPEC = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|m|h|d|tick|volume|notional)")


class BarKind(Enum):
    """What a bar is measured in."""

    TIME = "time"
    TICK = "tick"
    VOLUME = "volume"
    NOTIONAL = "notional"


@frozen
class BarSpec:
    """When a bar closes: every *step* nanoseconds, trades, base units or quote units by *kind*."""

    kind: BarKind
    step: Decimal
    text: str

    @classmethod
    def parse(cls, text: str) -> BarSpec:
        """Read `30s`, `1m`, `4h`, `1d`, `100tick`, `2.5volume`, `100000notional`; ValueError."""
        match = _SPEC.fullmatch(text)
        if match is None or not Decimal(match[1]):
            raise ValueError(
                f"bar {text!r}: expected e.g. '1m', '100tick', '5volume', '1000notional'"
            )
        number, unit = Decimal(match[1]), match[2]
        if unit in _SECONDS:
            number *= _SECONDS[unit] * 1_000_000_000
        if unit in (*_SECONDS, "tick") and (number != number.to_integral_value()):
            raise ValueError(f"bar {text!r}: needs a whole number of {unit}")
        kind = BarKind.TIME if unit in _SECONDS else BarKind(unit)
        return cls(kind, number, text)

    def __str__(self) -> str:
        return self.text


@frozen(kw_only=True)
class Bar:
    """Open, high, low, close over one bar; a time bar in which nothing traded repeats the close.

    Covers [ts_open_ns, ts_close_ns) for time bars; *volume* is in base units, *notional* in quote.
    """

    instrument_id: InstrumentId
    spec: BarSpec
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    notional: Decimal
    trades: int
    ts_open_ns: int
    ts_close_ns: int
    ts_event_ns: int
    ts_recv_ns: int


@frozen(kw_only=True)
class Candle:
    """A bar that the venue made of its own trades; *interval* in its words (`1m`).

    It is repeated while it is open; *is_closed* says that it changes no more. Covers
    [ts_open_ns, ts_close_ns); *volume* is in base units, and the venue tells no notional.
    """

    instrument_id: InstrumentId
    interval: str
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    trades: int
    is_closed: bool
    ts_open_ns: int
    ts_close_ns: int
    ts_event_ns: int
    ts_recv_ns: int
