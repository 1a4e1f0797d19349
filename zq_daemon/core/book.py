"""The order book (L2) of one instrument, kept from snapshots, from deltas, or from both.

Owns the levels, the sequence rule and what is computed from levels (mid, spread, average price).
Never waits, never publishes, never asks for a snapshot: it says that it needs one. Called by the
data engine; strategies read it through the cache.

A snapshot is kept as it came, undecoded: a venue that sends whole books (Hyperliquid) costs nothing
until a level is read. The first delta after it turns both sides into sorted columns.

The sequence rule is the one of venues with numbered deltas (e.g. Binance's "how to manage a local
order book correctly"), in terms of a delta's own number and the one it follows: a delta that is not
newer than the book is a duplicate; one that follows a number beyond the book's reveals a gap. What
is numbered and arrives while a snapshot is awaited is held, within a bound, and applied after it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from enum import Enum
from typing import overload

from zq_daemon.model.ids import InstrumentId
from zq_daemon.model.market import BookDelta, BookLevel, BookSnapshot, Levels, Side

HELD_DELTAS = 1_024
"""How many deltas a book holds while it waits for a snapshot; beyond that the oldest are lost."""

_ZERO = Decimal(0)


class DeltaOutcome(Enum):
    """What became of a delta; WAITING ones, and the one that revealed a GAP, need a snapshot."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    GAP = "gap"
    WAITING = "waiting"


class OrderBook:
    """Bids and asks of one instrument, best first; times are those of the last update applied."""

    __slots__ = (
        "_asks",
        "_bids",
        "_held",
        "_sequence",
        "instrument_id",
        "needs_snapshot",
        "ts_event_ns",
        "ts_recv_ns",
        "updates",
    )

    def __init__(self, instrument_id: InstrumentId) -> None:
        self.instrument_id = instrument_id
        self.needs_snapshot = True
        self.ts_event_ns = 0
        self.ts_recv_ns = 0
        self.updates = 0
        self._bids: Levels | _Side = Levels.of(())
        self._asks: Levels | _Side = Levels.of(())
        self._sequence: int | None = None
        self._held: deque[BookDelta] = deque(maxlen=HELD_DELTAS)

    def apply_snapshot(self, snapshot: BookSnapshot) -> bool:
        """Replace the book; False for a numbered snapshot older than it, which changes nothing.

        Unnumbered snapshots count in order of arrival, whatever their time-stamps. Held deltas are
        applied on top; `needs_snapshot` is set again if they show that the snapshot is too old.
        """
        if _is_older(snapshot.sequence, self._sequence):
            return False
        self._bids, self._asks = snapshot.bids, snapshot.asks
        self._sequence = snapshot.sequence
        self.needs_snapshot = False
        self._stamp(snapshot)
        if self._held:
            self._release_held()
        return True

    def apply_delta(self, delta: BookDelta) -> DeltaOutcome:
        """Change the levels that *delta* names, if the sequence rule allows it now."""
        if self.needs_snapshot:
            self._held.append(delta)
            return DeltaOutcome.WAITING
        if delta.sequence is not None and self._sequence is not None:
            if delta.sequence <= self._sequence:
                return DeltaOutcome.DUPLICATE
            if delta.previous is not None and delta.previous > self._sequence:
                self.invalidate()
                self._held.append(delta)
                return DeltaOutcome.GAP
        self._merge(delta)
        return DeltaOutcome.APPLIED

    def invalidate(self) -> None:
        """Updates were missed: the levels stay readable, but only a snapshot makes them current."""
        self.needs_snapshot = True
        self._sequence = None
        self._held.clear()

    @property
    def best_bid(self) -> BookLevel | None:
        """The highest bid; None when nobody bids."""
        return self._bids[0] if len(self._bids) else None

    @property
    def best_ask(self) -> BookLevel | None:
        """The lowest ask; None when nobody offers."""
        return self._asks[0] if len(self._asks) else None

    def bids(self, depth: int | None = None) -> Sequence[BookLevel]:
        """The *depth* best bids (None: all), highest first; a copy, or immutable."""
        return _read(self._bids, depth)

    def asks(self, depth: int | None = None) -> Sequence[BookLevel]:
        """The *depth* best asks (None: all), lowest first; a copy, or immutable."""
        return _read(self._asks, depth)

    @property
    def mid(self) -> Decimal | None:
        """Half way between best bid and best ask; None unless both are there."""
        bid, ask = self.best_bid, self.best_ask
        return None if bid is None or ask is None else (bid.price + ask.price) / 2

    @property
    def spread(self) -> Decimal | None:
        """Best ask minus best bid (negative when crossed); None unless both are there."""
        bid, ask = self.best_bid, self.best_ask
        return None if bid is None or ask is None else ask.price - bid.price

    @property
    def is_crossed(self) -> bool:
        """Whether the best bid is at or above the best ask, which no matching engine leaves."""
        bid, ask = self.best_bid, self.best_ask
        return bid is not None and ask is not None and bid.price >= ask.price

    def average_price(self, side: Side, quantity: Decimal) -> Decimal | None:
        """What a base unit costs (BUY: from the asks) or brings (SELL) when *quantity* trades now.

        None when the visible levels hold less than *quantity*; ValueError unless it is positive.
        The quotient is rounded to 28 significant digits.
        """
        if not quantity > 0:
            raise ValueError(f"average price of {quantity}: the quantity must be positive")
        left, notional = quantity, _ZERO
        for level in self._asks if side is Side.BUY else self._bids:
            taken = min(left, level.quantity)
            notional += taken * level.price
            left -= taken
            if not left:
                return notional / quantity
        return None

    def _release_held(self) -> None:
        held = tuple(self._held)
        self._held.clear()
        if self._sequence is None:
            return  # nothing tells which of them the snapshot already contains
        for delta in held:
            if delta.sequence is not None:
                self.apply_delta(delta)

    def _merge(self, delta: BookDelta) -> None:
        if isinstance(self._bids, Levels):
            self._bids = _Side(self._bids, negate=True)
        if isinstance(self._asks, Levels):
            self._asks = _Side(self._asks, negate=False)
        self._bids.merge(delta.bids)
        self._asks.merge(delta.asks)
        if delta.sequence is not None:
            self._sequence = delta.sequence
        self._stamp(delta)

    def _stamp(self, update: BookSnapshot | BookDelta) -> None:
        self.ts_event_ns = update.ts_event_ns
        self.ts_recv_ns = update.ts_recv_ns
        self.updates += 1


def delta_since(
    bids: Sequence[BookLevel], asks: Sequence[BookLevel], book: OrderBook
) -> BookDelta | None:
    """The delta that leads from former *bids* and *asks* to *book*; None when no level differs.

    For venues that send only snapshots. It has no sequence number and the book's times.
    """
    bid_changes = _changes(bids, book.bids())
    ask_changes = _changes(asks, book.asks())
    if not bid_changes and not ask_changes:
        return None
    return BookDelta(
        instrument_id=book.instrument_id,
        bids=Levels.of(bid_changes),
        asks=Levels.of(ask_changes),
        ts_event_ns=book.ts_event_ns,
        ts_recv_ns=book.ts_recv_ns,
    )


class _Side:
    """Levels sorted best first beside their keys; a bid's key is its negated price."""

    __slots__ = ("_keys", "_levels", "_negate")

    def __init__(self, levels: Iterable[BookLevel], *, negate: bool) -> None:
        self._negate = negate
        self._keys: list[Decimal] = []
        self._levels: list[BookLevel] = []
        self.merge(levels)

    def __len__(self) -> int:
        return len(self._levels)

    def __iter__(self) -> Iterator[BookLevel]:
        return iter(self._levels)

    @overload
    def __getitem__(self, index: int) -> BookLevel: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[BookLevel]: ...

    def __getitem__(self, index: int | slice) -> BookLevel | Sequence[BookLevel]:
        return self._levels[index]

    def merge(self, changes: Iterable[BookLevel]) -> None:
        """Insert, replace, or (quantity zero) remove each level of *changes*."""
        for level in changes:
            self._set(level)

    def _set(self, level: BookLevel) -> None:
        keys = self._keys
        # copy_negate: a plain minus would round to the context's precision
        key = level.price.copy_negate() if self._negate else level.price
        at = bisect_left(keys, key)
        known = at < len(keys) and keys[at] == key
        if not level.quantity:
            if known:
                del keys[at], self._levels[at]
        elif known:
            self._levels[at] = level
        else:
            keys.insert(at, key)
            self._levels.insert(at, level)


def _read(side: Levels | _Side, depth: int | None) -> Sequence[BookLevel]:
    if depth is None and isinstance(side, Levels):
        return side  # immutable, and stays undecoded until it is read
    return tuple(side[:depth])


def _changes(before: Iterable[BookLevel], after: Iterable[BookLevel]) -> list[BookLevel]:
    known = {level.price: level for level in before}
    changed = [level for level in after if known.pop(level.price, None) != level]
    return [BookLevel(price, _ZERO) for price in known] + changed


def _is_older(number: int | None, known: int | None) -> bool:
    return number is not None and known is not None and number < known
