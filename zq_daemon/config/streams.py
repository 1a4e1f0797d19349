"""The streams each venue has, by name, and how the configuration writes one.

Pure data and its one reading: the rules of the file and the venues themselves use the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import Factory, frozen

_Options = Mapping[str, frozenset[int]]


@frozen(kw_only=True)
class StreamNames:
    """A venue's streams, by what their name is followed by.

    *market*: `<stream>:<symbol>`; *candles*: `<stream>:<symbol>:<interval>`, with its intervals;
    *whole*: of the whole venue, and *private*: of the account, nothing. *options*: what may follow
    the symbol as `?<option>=<number>&…`, and which numbers; *needs*: what one is only taken with.
    """

    market: frozenset[str]
    private: frozenset[str]
    candles: Mapping[str, tuple[str, ...]] = Factory(dict)
    whole: frozenset[str] = frozenset()
    options: Mapping[str, _Options] = Factory(dict)
    needs: Mapping[str, tuple[str, int]] = Factory(dict)

    def every(self) -> frozenset[str]:
        """All names."""
        return self.market | self.private | self.whole | self.candles.keys()


@frozen
class StreamName:
    """A stream as written: *symbol* and *interval* are None where it takes none."""

    kind: str
    symbol: str | None = None
    interval: str | None = None
    options: tuple[tuple[str, int], ...] = ()


STREAMS: Mapping[str, StreamNames] = {
    "hyperliquid": StreamNames(
        market=frozenset({"l2Book", "bbo", "trades", "activeAssetCtx"}),
        candles={
            "candle": (
                *("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "8h", "12h"),
                *("1d", "3d", "1w", "1M"),
            )
        },
        whole=frozenset({"allMids"}),
        private=frozenset({"orderUpdates", "userFills", "userEvents", "userFundings"}),
        options={"l2Book": {"nSigFigs": frozenset({2, 3, 4, 5}), "mantissa": frozenset({1, 2, 5})}},
        needs={"mantissa": ("nSigFigs", 5)},
    )
}
"""By venue."""


def split_stream(venue: str, text: str) -> StreamName:
    """The stream that *text* names; ValueError says what is wrong with it."""
    names = STREAMS[venue]
    kind, colon, rest = text.partition(":")
    if kind in names.private | names.whole:
        if colon:
            raise ValueError(f"stream {text!r}: {kind} takes no symbol")
        return StreamName(kind)
    if kind not in names.every():
        known = ", ".join(sorted(names.every()))
        raise ValueError(f"stream {text!r}: {venue} has {known}")
    if kind in names.candles:
        return _candles(text, kind, rest, names.candles[kind])
    symbol, mark, told = rest.partition("?")
    if not symbol:
        raise ValueError(f"stream {text!r}: needs a symbol, e.g. '{kind}:BTC'")
    allowed = names.options.get(kind, {})
    options = tuple(_option(text, each, allowed) for each in told.split("&")) if mark else ()
    if len(dict(options)) != len(options):
        raise ValueError(f"stream {text!r}: an option is there twice")
    for option, _ in options:
        needed = names.needs.get(option)
        if needed is not None and needed not in options:
            raise ValueError(f"stream {text!r}: {option} needs {needed[0]}={needed[1]}")
    return StreamName(kind, symbol, None, options)


def _candles(text: str, kind: str, rest: str, intervals: tuple[str, ...]) -> StreamName:
    # The interval is what follows the last colon: a symbol may have one.
    symbol, _, interval = rest.rpartition(":")
    if not symbol or interval not in intervals:
        raise ValueError(
            f"stream {text!r}: needs a symbol and an interval, e.g. '{kind}:BTC:1m' "
            f"({', '.join(intervals)})"
        )
    return StreamName(kind, symbol, interval)


def _option(text: str, told: str, allowed: _Options) -> tuple[str, int]:
    name, _, number = told.partition("=")
    choices = allowed.get(name, frozenset())
    if number not in map(str, choices):
        known = "; ".join(f"{each}: {sorted(allowed[each])}" for each in allowed) or "none"
        raise ValueError(f"stream {text!r}: option {told!r}: there is {known}")
    return name, int(number)
