"""Market data values: trades, quotes, book snapshots and deltas, marks, mids, instrument status.

Prices and quantities are exact. `ts_event_ns` is the venue's wall time of the event, `ts_recv_ns`
ours when its bytes had arrived; both are integer nanoseconds since the Unix epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from enum import Enum
from typing import overload

from attrs import frozen

from zq_daemon.model.bar import Bar, Candle
from zq_daemon.model.ids import InstrumentId, TradeId


class Side(Enum):
    """The side of an order, or of a trade's aggressor."""

    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """+1 for BUY, -1 for SELL."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        """The other side."""
        return Side.SELL if self is Side.BUY else Side.BUY


@frozen
class BookLevel:
    """One price level: *quantity* is the total resting there, *orders* how many (0: not told)."""

    price: Decimal
    quantity: Decimal
    orders: int = 0


class Levels(Sequence[BookLevel]):
    """One side of a book, best price first, decoded from the venue's text only when it is read.

    A full snapshot has 40 levels and a strategy mostly reads two: making 80 Decimals would cost
    more than the rest of the decoding together.
    """

    __slots__ = ("_best", "_orders", "_prices", "_quantities", "_ready")

    def __init__(
        self, prices: Sequence[str], quantities: Sequence[str], orders: Sequence[int] = ()
    ) -> None:
        """Columns of equal length (*orders* may be empty); text must be valid decimal numbers."""
        self._prices = prices
        self._quantities = quantities
        self._orders = orders
        self._best: BookLevel | None = None
        self._ready: tuple[BookLevel, ...] | None = None

    @classmethod
    def of(cls, levels: Sequence[BookLevel]) -> Levels:
        """Levels made from decoded values."""
        made = cls((), ())
        made._ready = tuple(levels)
        return made

    def __len__(self) -> int:
        return len(self._prices) if self._ready is None else len(self._ready)

    @overload
    def __getitem__(self, index: int) -> BookLevel: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[BookLevel]: ...

    def __getitem__(self, index: int | slice) -> BookLevel | Sequence[BookLevel]:
        if self._ready is not None:
            return self._ready[index]
        if isinstance(index, slice):
            return tuple(map(self._level, range(*index.indices(len(self._prices)))))
        if index:
            return self._level(index)
        if self._best is None:  # read for every update, so it is decoded only once
            self._best = self._level(0)
        return self._best

    def __iter__(self) -> Iterator[BookLevel]:
        return iter(self._decoded())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Levels) and self._decoded() == other._decoded()

    def __hash__(self) -> int:
        return hash(self._decoded())

    def __repr__(self) -> str:
        return f"Levels({list(self._decoded())!r})"

    def _level(self, index: int) -> BookLevel:
        orders = self._orders[index] if self._orders else 0
        return BookLevel(Decimal(self._prices[index]), Decimal(self._quantities[index]), orders)

    def _decoded(self) -> tuple[BookLevel, ...]:
        if self._ready is None:
            self._ready = tuple(self._level(index) for index in range(len(self._prices)))
            self._prices = self._quantities = self._orders = ()
        return self._ready


@frozen(kw_only=True)
class Trade:
    """A public trade; *aggressor* is the side that took liquidity."""

    instrument_id: InstrumentId
    price: Decimal
    quantity: Decimal
    aggressor: Side
    trade_id: TradeId
    ts_event_ns: int
    ts_recv_ns: int


@frozen(kw_only=True)
class Quote:
    """Best bid and offer (L1); a side that is empty has None for both values."""

    instrument_id: InstrumentId
    bid_price: Decimal | None
    bid_quantity: Decimal | None
    ask_price: Decimal | None
    ask_quantity: Decimal | None
    ts_event_ns: int
    ts_recv_ns: int


@frozen(kw_only=True)
class BookSnapshot:
    """The whole visible book (L2), best level first on each side; replaces what was known.

    *sequence* is the venue's number of the last update in it; None where it numbers nothing.
    """

    instrument_id: InstrumentId
    bids: Levels
    asks: Levels
    ts_event_ns: int
    ts_recv_ns: int
    sequence: int | None = None


@frozen(kw_only=True)
class BookDelta:
    """Changed levels of a book (L2): a quantity of zero removes the level.

    *sequence* is the venue's number of this update and *previous* the one it follows; None where
    the venue numbers nothing.
    """

    instrument_id: InstrumentId
    bids: Levels
    asks: Levels
    ts_event_ns: int
    ts_recv_ns: int
    sequence: int | None = None
    previous: int | None = None


@frozen(kw_only=True)
class MarkPrice:
    """The venue's mark and oracle price of a perpetual, with its current hourly funding rate."""

    instrument_id: InstrumentId
    mark_price: Decimal
    oracle_price: Decimal | None
    funding_rate: Decimal | None
    open_interest: Decimal | None
    ts_event_ns: int
    ts_recv_ns: int


@frozen(kw_only=True)
class MidPrice:
    """The middle between best bid and offer as the venue states it; told when it changed."""

    instrument_id: InstrumentId
    price: Decimal
    ts_event_ns: int
    ts_recv_ns: int


class TradingStatus(Enum):
    """Whether an instrument trades, and whether what we know of it is current."""

    TRADING = "trading"
    STALE = "stale"
    HALTED = "halted"
    DELISTED = "delisted"


@frozen(kw_only=True)
class InstrumentStatus:
    """An instrument's trading status changed; *reason* says why in a few words."""

    instrument_id: InstrumentId
    status: TradingStatus
    reason: str
    ts_event_ns: int
    ts_recv_ns: int


MarketEvent = (
    Trade
    | Quote
    | BookSnapshot
    | BookDelta
    | MarkPrice
    | MidPrice
    | InstrumentStatus
    | Bar
    | Candle
)
