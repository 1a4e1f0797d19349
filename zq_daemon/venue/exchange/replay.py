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

from attrs import frozen

from zq_daemon.core.replay_matching import QueuePosition, ReplayBook
from zq_daemon.errors import ConfigError
from zq_daemon.ports.clock import NS_PER_MS
from zq_daemon.venue.exchange.feeds import COIN_STREAMS
from zq_daemon.venue.exchange.listing import (
    Listing,
    Perp,
    SpotPair,
    pairs_with,
    universe_with,
)
from zq_daemon.venue.exchange.messages import PublicTrade
from zq_daemon.venue.exchange.public_messages import (
    PublicMessage,
    Unreadable,
    book_levels,
    parse_message,
    printed_trade,
)
from zq_daemon.venue.exchange.source import Desk, Message

BATCH = 64
"""At most so many messages in one step: between steps, others run and back-pressure works."""
_MAX_LINE = 1 << 24
_KNOWN_TRADES = 1_000
_GZIP_MAGIC = b"\x1f\x8b"


@frozen
class _Line:
    """One readable line: its receive time, and the message."""

    ts_ns: int
    message: PublicMessage


class ReplayMarket:
    """The capture at *path*; *speed* 2 is twice as fast, 0 as fast as the clients take it.

    At speed 0 nothing is lost: a client that is slow holds the replay up. ConfigError when the
    file cannot be read or holds no market data.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        speed: Decimal = Decimal(1),
        start_delay_ms: int = 1_000,
        queue: QueuePosition = QueuePosition.BACK,
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
        held = list(survey.decimals.items())
        self._universe, self._pairs = universe_with(held), pairs_with(held)
        self._books = {
            coin: ReplayBook(queue) for coin in Listing(self._universe, self._pairs).coins
        }
        self._known_trades: deque[tuple[str, int]] = deque(maxlen=_KNOWN_TRADES)
        self.bad_lines = 0
        self._lines = self._read()
        self._next: _Line | None = next(self._lines, None)
        self._start_ns: int | None = None

    @property
    def universe(self) -> Sequence[Perp]:
        """The usual perpetuals, and whatever else the capture holds."""
        return self._universe

    @property
    def pairs(self) -> Sequence[SpotPair]:
        """The usual spot pairs, and whatever else the capture holds."""
        return self._pairs

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

    def listened(self, channel: str, coin: str, now_ns: int) -> Sequence[str]:
        """The first listener starts the replay."""
        if self._start_ns is None:
            self._start_ns = now_ns + self._delay_ns
        return ()

    def delay_ns(self, coins: Collection[str]) -> int:
        """Orders are here at once."""
        return 0

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
            told = line.message
            desk.broadcast(Message(told.channel, told.coin, told.text))
            try:
                self._match(told, desk)
            except Unreadable:
                self.bad_lines += 1

    def _match(self, told: PublicMessage, desk: Desk) -> None:
        """Let users' orders meet what the message shows."""
        book = self._books[told.coin] if told.coin else None
        if book is None:
            return
        if told.channel == "l2Book":
            for event in book.apply_snapshot(*book_levels(told.data)):
                desk.settle(told.coin, event)
        elif told.channel == "trades":
            for raw in told.data:
                self._match_trade(book, printed_trade(told.coin, raw), desk)

    def _match_trade(self, book: ReplayBook, trade: PublicTrade, desk: Desk) -> None:
        known = (trade.coin, trade.tid)
        # The first batch of a subscription tells of the past, and a reconnect repeats it.
        if known in self._known_trades or trade.time_ms * NS_PER_MS < self._first_ns:
            return
        self._known_trades.append(known)
        desk.traded(trade)
        for event in book.apply_trade(trade.aggressor, trade.price, trade.size):
            desk.settle(trade.coin, event)

    def _read(self) -> Iterator[_Line]:
        with self._path.open("rb") as raw:
            is_gzip = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            file = gzip.GzipFile(fileobj=raw) if is_gzip else raw
            while text := file.readline(_MAX_LINE):
                line = _parse(text)
                if line is None:
                    self.bad_lines += 1
                elif line.message.channel:
                    yield line


class _Survey:
    """What a capture holds: streams, coins with the size decimals seen, the first time."""

    def __init__(self) -> None:
        self.streams: set[tuple[str, str]] = set()
        self.decimals: dict[str, int] = {}
        self.first_ns: int | None = None

    def add(self, line: _Line) -> None:
        told = line.message
        self.streams.add((told.channel, told.coin))
        if self.first_ns is None:
            self.first_ns = line.ts_ns
        if not told.coin:
            return
        seen = self.decimals.setdefault(told.coin, 0)
        if told.channel == "trades":
            sizes = [str(trade.get("sz", "")) for trade in told.data if isinstance(trade, dict)]
            found = max((len(size.partition(".")[2].rstrip("0")) for size in sizes), default=0)
            self.decimals[told.coin] = max(seen, found)


def _parse(line: bytes) -> _Line | None:
    """A line's content; None for what is broken."""
    stamp, _, raw = line.strip().partition(b" ")
    message = parse_message(raw, COIN_STREAMS)
    try:
        return None if message is None else _Line(int(stamp), message)
    except ValueError:
        return None
