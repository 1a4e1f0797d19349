"""The order book, from a typed event to the best price."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from benchmarks import values
from benchmarks.measure import Case, Scale, nanoseconds
from benchmarks.report import Row, compared, duration
from zq_daemon.core.book import OrderBook as OwnBook
from zq_daemon.model.market import BookDelta, BookLevel, BookSnapshot, Levels

LEVELS, DEEP = 20, 1_000


class NaiveBook:
    """The alternative: two dictionaries of decoded levels, searched for the best."""

    def __init__(self) -> None:
        self._bids: dict[Decimal, Decimal] = {}
        self._asks: dict[Decimal, Decimal] = {}

    def apply_snapshot(self, snapshot: BookSnapshot) -> None:
        """Decode and keep every level."""
        self._bids = {level.price: level.quantity for level in snapshot.bids}
        self._asks = {level.price: level.quantity for level in snapshot.asks}

    def apply_delta(self, delta: BookDelta) -> None:
        """Change the levels named."""
        for side, changes in ((self._bids, delta.bids), (self._asks, delta.asks)):
            for level in changes:
                side[level.price] = level.quantity
                if not level.quantity:
                    del side[level.price]

    @property
    def best_bid(self) -> Decimal:
        """The highest bid."""
        return max(self._bids)

    @property
    def best_ask(self) -> Decimal:
        """The lowest ask."""
        return min(self._asks)


def run(scale: Scale) -> Iterator[Row]:
    """A whole book, then changes of one as deep as venues with deltas keep."""
    best = "book.best_bid; book.best_ask"
    name = f"book: snapshot, {LEVELS} x {LEVELS}, and both best prices"
    yield _row(name, f"book.apply_snapshot(snapshot()); {best}", LEVELS, scale)
    for depth in (LEVELS, DEEP):
        name = f"book: two deltas of 3 levels at {depth:,} x {depth:,}, and both best prices"
        yield _row(name, f"book.apply_delta(delta); book.apply_delta(undo); {best}", depth, scale)


def _row(name: str, statement: str, depth: int, scale: Scale) -> Row:
    books: dict[str, Any] = {"own": OwnBook(values.BTC), "naive": NaiveBook()}
    for book in books.values():
        book.apply_snapshot(snapshot(depth))
    taken = nanoseconds(
        {
            key: Case(
                statement,
                {
                    "book": book,
                    "snapshot": lambda: snapshot(depth),
                    "delta": delta(1),
                    "undo": delta(0),
                },
            )
            for key, book in books.items()
        },
        scale,
    )
    return Row(
        name=name,
        figure=duration(taken["own"]),
        against=compared("two dictionaries, all decoded", taken["naive"], taken["own"]),
    )


_BIDS = [f"{105_055 - step}.0" for step in range(DEEP)]
_ASKS = [f"{105_056 + step}.0" for step in range(DEEP)]
_SIZES = [f"{step % 9 + 1}.03622" for step in range(DEEP)]


def snapshot(depth: int) -> BookSnapshot:
    """A new one for each update: levels that were decoded stay decoded."""
    return BookSnapshot(
        instrument_id=values.BTC,
        bids=Levels(_BIDS[:depth], _SIZES[:depth]),
        asks=Levels(_ASKS[:depth], _SIZES[:depth]),
        ts_event_ns=values.TS_NS,
        ts_recv_ns=values.TS_NS,
    )


def delta(quantity: int) -> BookDelta:
    """Three levels in the middle of each side: there with 1, gone with 0."""
    bids, asks = (
        [BookLevel(Decimal(f"{price + step}.5"), Decimal(quantity)) for step in range(3)]
        for price in (105_050, 105_060)
    )
    return BookDelta(
        instrument_id=values.BTC,
        bids=Levels.of(bids),
        asks=Levels.of(asks),
        ts_event_ns=values.TS_NS,
        ts_recv_ns=values.TS_NS,
    )
