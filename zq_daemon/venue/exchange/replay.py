"""A market out of a capture: recorded messages sent again, in order, at a chosen speed.

Owns the capture's place and the replayed books. Recorded messages go out verbatim; users' orders
match by `core.replay_matching` and are never mixed into them.

A capture is lines of `<receive ns> <raw JSON>`, plain or gzip. Lines that are no market data
(acknowledgements, pongs, private streams) are skipped; lines that cannot be read are counted in
`bad_lines`. The replay starts a moment after the first subscription to market data, so that a
client's other subscriptions (and other clients that start with it) miss nothing.
"""

from __future__ import annotations

import gzip
import zlib
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from attrs import frozen

from zq_daemon.core.replay_matching import ReplayBook
from zq_daemon.errors import ConfigError
from zq_daemon.model.market import BookLevel, Side
from zq_daemon.ports.clock import NS_PER_MS
from zq_daemon.venue.exchange.feeds import COIN_STREAMS
from zq_daemon.venue.exchange.perp import Perp, parse_number, universe_with
from zq_daemon.venue.exchange.source import Desk, Message

BATCH = 64
"""At most so many messages in one step: between steps, others run and back-pressure works."""
_MAX_LINE = 1 << 24
_KNOWN_TRADES = 1_000
_GZIP_MAGIC = b"\x1f\x8b"


@frozen(kw_only=True)
class _Line:
    """One readable line: its receive time, its text, and what is in it."""

    ts_ns: int
    text: str
    channel: str
    coin: str
    data: Any


class ReplayMarket:
    """The capture at *path*; *speed* 2 is twice as fast, 0 as fast as the clients take it.

    At speed 0 nothing is lost: a client that is slow holds the replay up. ConfigError when the
    file cannot be read or holds no market data.
    """

    def __init__(
        self, path: str | Path, *, speed: Decimal = Decimal(1), start_delay_ms: int = 1_000
    ) -> None:
        self._path = Path(path)
        self._speed = speed
        self._delay_ns = start_delay_ms * NS_PER_MS
        self.bad_lines = 0
        survey = _Survey()
        try:
            for line in self._read():
                survey.add(line)
        except (OSError, EOFError, zlib.error) as error:
            raise ConfigError(f"cannot read the capture {self._path}: {error}") from error
        if survey.first_ns is None:
            raise ConfigError(f"the capture {self._path} holds no market data")
        self._first_ns = survey.first_ns
        self._recorded = frozenset(survey.streams)
        self._universe = universe_with(list(survey.decimals.items()))
        self._books = {perp.name: ReplayBook() for perp in self._universe}
        self._known_trades: deque[tuple[str, Any]] = deque(maxlen=_KNOWN_TRADES)
        self.bad_lines = 0
        self._lines = self._read()
        self._next: _Line | None = next(self._lines, None)
        self._start_ns: int | None = None

    @property
    def universe(self) -> Sequence[Perp]:
        """The usual listing, and whatever else the capture holds."""
        return self._universe

    @property
    def recorded(self) -> Collection[tuple[str, str]]:
        """The (channel, coin) pairs of the capture."""
        return self._recorded

    @property
    def is_lossless(self) -> bool:
        """At speed 0 the clients set the pace."""
        return not self._speed

    @property
    def is_finished(self) -> bool:
        """Whether every message has been sent."""
        return self._next is None

    def matcher(self, coin: str) -> ReplayBook:
        """The replayed book of *coin*."""
        return self._books[coin]

    def oracle(self, coin: str) -> Decimal | None:
        """A capture has no other price than its book."""
        return None

    def listened(self, now_ns: int) -> None:
        """The first listener starts the replay."""
        if self._start_ns is None:
            self._start_ns = now_ns + self._delay_ns

    def next_due_ns(self) -> int | None:
        """When the next message is due; None before the start and after the end."""
        if self._start_ns is None or self._next is None:
            return None
        if not self._speed:
            return self._start_ns
        return self._start_ns + int((self._next.ts_ns - self._first_ns) / self._speed)

    def advance(self, now_ns: int, desk: Desk) -> None:
        """Send what is due, a bounded number of messages."""
        for _ in range(BATCH):
            due_ns = self.next_due_ns()
            if self._next is None or due_ns is None or due_ns > now_ns:
                return
            line, self._next = self._next, next(self._lines, None)
            desk.broadcast(Message(line.channel, line.coin, line.text))
            try:
                self._match(line, desk)
            except _Unreadable:
                self.bad_lines += 1

    def _match(self, line: _Line, desk: Desk) -> None:
        """Let users' orders meet what the message shows."""
        book = self._books[line.coin] if line.coin else None
        if book is None:
            return
        if line.channel == "l2Book":
            bids, asks = _levels(line.data)
            for event in book.apply_snapshot(bids, asks):
                desk.settle(line.coin, event)
        elif line.channel == "trades":
            for trade in line.data:
                self._match_trade(line, book, trade, desk)

    def _match_trade(self, line: _Line, book: ReplayBook, trade: Any, desk: Desk) -> None:
        side, price, size, time_ms, tid = _trade(trade)
        known = (line.coin, tid)
        # The first batch of a subscription tells of the past, and a reconnect repeats it.
        if known in self._known_trades or time_ms * NS_PER_MS < self._first_ns:
            return
        self._known_trades.append(known)
        for event in book.apply_trade(side, price, size):
            desk.settle(line.coin, event)

    def _read(self) -> Iterator[_Line]:
        with self._path.open("rb") as raw:
            is_gzip = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            file = gzip.GzipFile(fileobj=raw) if is_gzip else raw
            while text := file.readline(_MAX_LINE):
                line = _parse(text)
                if line is None:
                    self.bad_lines += 1
                elif line.channel:
                    yield line


class _Survey:
    """What a capture holds: streams, coins with the size decimals seen, the first time."""

    def __init__(self) -> None:
        self.streams: set[tuple[str, str]] = set()
        self.decimals: dict[str, int] = {}
        self.first_ns: int | None = None

    def add(self, line: _Line) -> None:
        self.streams.add((line.channel, line.coin))
        if self.first_ns is None:
            self.first_ns = line.ts_ns
        if not line.coin:
            return
        seen = self.decimals.setdefault(line.coin, 0)
        if line.channel == "trades":
            sizes = [str(trade.get("sz", "")) for trade in line.data if isinstance(trade, dict)]
            found = max((len(size.partition(".")[2].rstrip("0")) for size in sizes), default=0)
            self.decimals[line.coin] = max(seen, found)


class _Unreadable(Exception):
    """A market data message without the documented shape."""


def _parse(line: bytes) -> _Line | None:
    """A line's content; an empty channel for what is no market data, None for what is broken."""
    stamp, _, raw = line.strip().partition(b" ")
    try:
        ts_ns, text = int(stamp), raw.decode()
        message = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return None
    match message:
        case {"channel": "allMids", "data": dict() as data}:
            return _Line(ts_ns=ts_ns, text=text, channel="allMids", coin="", data=data)
        case {"channel": "trades", "data": [{"coin": str(coin)}, *_] as data}:
            return _Line(ts_ns=ts_ns, text=text, channel="trades", coin=coin, data=data)
        case {"channel": str(channel), "data": {"coin": str(coin)} as data}:
            known = channel if channel in COIN_STREAMS else ""
            return _Line(ts_ns=ts_ns, text=text, channel=known, coin=coin, data=data)
        case {"channel": str()}:
            return _Line(ts_ns=ts_ns, text=text, channel="", coin="", data=None)
        case _:
            return None


def _levels(data: Any) -> tuple[list[BookLevel], list[BookLevel]]:
    match data:
        case {"levels": [list() as bids, list() as asks]}:
            return [_level(each) for each in bids], [_level(each) for each in asks]
        case _:
            raise _Unreadable


def _level(raw: Any) -> BookLevel:
    match raw:
        case {"px": str(price), "sz": str(size), "n": int(orders)}:
            return BookLevel(_number(price), _number(size), orders)
        case _:
            raise _Unreadable


def _trade(raw: Any) -> tuple[Side, Decimal, Decimal, int, int]:
    match raw:
        case {
            "side": "A" | "B" as side,
            "px": str(price),
            "sz": str(size),
            "time": int(time_ms),
            "tid": int(tid),
        }:
            aggressor = Side.BUY if side == "B" else Side.SELL
            return aggressor, _number(price), _number(size), time_ms, tid
        case _:
            raise _Unreadable


def _number(text: str) -> Decimal:
    number = parse_number(text)
    if number is None:
        raise _Unreadable
    return number
