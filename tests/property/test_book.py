"""The order book against its naive twin, and derived deltas against snapshots."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.naive_book import NaiveBook, pairs
from zq_daemon.core.book import DeltaOutcome, OrderBook, delta_since
from zq_daemon.model.ids import InstrumentId
from zq_daemon.model.market import BookDelta, BookLevel, BookSnapshot, Levels, Side

BTC = InstrumentId("hyperliquid.BTC")

prices = st.integers(1, 30).map(lambda tenths: Decimal(tenths) / 10)
quantities = st.integers(1, 50).map(lambda hundredths: Decimal(hundredths) / 100)
sides = st.dictionaries(prices, quantities, max_size=12)
changes = st.dictionaries(prices, st.one_of(st.just(Decimal(0)), quantities), max_size=8)


@st.composite
def snapshots(draw: st.DrawFn) -> BookSnapshot:
    """Any two sides, also crossed ones, as columns of the venue's text."""
    bids = sorted(draw(sides).items(), reverse=True)
    asks = sorted(draw(sides).items())
    return BookSnapshot(
        instrument_id=BTC,
        bids=Levels([str(p) for p, _ in bids], [str(q) for _, q in bids]),
        asks=Levels([str(p) for p, _ in asks], [str(q) for _, q in asks], [1] * len(asks)),
        ts_event_ns=draw(st.integers(0, 100)),
        ts_recv_ns=0,
    )


@st.composite
def deltas(draw: st.DrawFn) -> BookDelta:
    """Changed levels in any order; zero removes, also levels that are not there."""
    bids, asks = draw(changes), draw(changes)
    return BookDelta(
        instrument_id=BTC,
        bids=Levels.of([BookLevel(*level) for level in bids.items()]),
        asks=Levels.of([BookLevel(*level) for level in asks.items()]),
        ts_event_ns=draw(st.integers(0, 100)),
        ts_recv_ns=0,
    )


def assert_same(book: OrderBook, naive: NaiveBook) -> None:
    mid = naive.mid()
    assert (None if book.mid is None else Fraction(book.mid)) == mid
    assert book.spread == naive.spread()
    assert book.is_crossed == naive.is_crossed()
    assert pairs(book.bids(3)) == naive.bids()[:3]
    assert pairs(book.bids()) == naive.bids()
    assert pairs(book.asks()) == naive.asks()
    assert pairs(book.asks(1)) == naive.asks()[:1]
    assert pairs(filter(None, [book.best_bid])) == naive.bids()[:1]
    assert pairs(filter(None, [book.best_ask])) == naive.asks()[:1]


def assert_same_average(book: OrderBook, naive: NaiveBook, side: Side, quantity: Decimal) -> None:
    exact = naive.average_price(side, quantity)
    average = book.average_price(side, quantity)
    assert (average is None) == (exact is None)
    if average is not None and exact is not None:
        assert abs(Fraction(average) - exact) <= exact / 10**27


@settings(max_examples=80)
@given(
    st.lists(st.one_of(snapshots(), deltas()), min_size=1, max_size=12),
    st.sampled_from(Side),
    quantities,
)
def test_the_book_equals_its_naive_twin(
    updates: list[BookSnapshot | BookDelta], side: Side, quantity: Decimal
) -> None:
    book, naive = OrderBook(BTC), NaiveBook()
    for update in updates:
        if isinstance(update, BookSnapshot):
            assert book.apply_snapshot(update)
            naive.apply_snapshot(update)
        elif book.needs_snapshot:
            assert book.apply_delta(update) is DeltaOutcome.WAITING
        else:
            assert book.apply_delta(update) is DeltaOutcome.APPLIED
            naive.apply_delta(update)
        assert_same(book, naive)
        assert_same_average(book, naive, side, quantity * 7)


@settings(max_examples=60)
@given(st.lists(snapshots(), min_size=1, max_size=6))
def test_derived_deltas_rebuild_every_snapshot(sent: list[BookSnapshot]) -> None:
    book, copy = OrderBook(BTC), NaiveBook()
    for snapshot in sent:
        bids, asks = book.bids(), book.asks()
        book.apply_snapshot(snapshot)
        delta = delta_since(bids, asks, book)
        if delta is not None:
            copy.apply_delta(delta)
            assert delta.ts_event_ns == snapshot.ts_event_ns
            assert len(delta.bids) + len(delta.asks) > 0
        assert copy.bids() == pairs(snapshot.bids)
        assert copy.asks() == pairs(snapshot.asks)


@settings(max_examples=60)
@given(
    st.lists(deltas(), min_size=2, max_size=10),
    st.data(),
)
def test_numbered_deltas_before_a_snapshot_lose_nothing(
    sent: list[BookDelta], data: st.DataObject
) -> None:
    """Whenever the snapshot comes, and however old it is, the book ends where the venue's is."""
    number = {"previous": 0, "sequence": 0}
    stream = []
    venue = NaiveBook()
    states = [([], [])]
    for delta in sent:
        number = {"previous": number["sequence"], "sequence": number["sequence"] + 10}
        stream.append(_numbered(delta, **number))
        venue.apply_delta(delta)
        states.append((venue.bids(), venue.asks()))
    first = data.draw(st.integers(0, len(stream)), label="first delta we hear")
    taken = data.draw(st.integers(first, len(stream)), label="state the snapshot shows")
    arrives = data.draw(st.integers(taken, len(stream)), label="deltas heard before it arrives")
    book = OrderBook(BTC)
    for delta in stream[first:arrives]:
        assert book.apply_delta(delta) is DeltaOutcome.WAITING
    book.apply_snapshot(_snapshot_of(*states[taken], sequence=taken * 10))
    for delta in stream[arrives:]:
        assert book.apply_delta(delta) is DeltaOutcome.APPLIED
    assert not book.needs_snapshot
    assert (pairs(book.bids()), pairs(book.asks())) == states[-1]


def _numbered(delta: BookDelta, previous: int, sequence: int) -> BookDelta:
    return BookDelta(
        instrument_id=BTC,
        bids=delta.bids,
        asks=delta.asks,
        ts_event_ns=0,
        ts_recv_ns=0,
        sequence=sequence,
        previous=previous,
    )


def _snapshot_of(
    bids: list[tuple[Decimal, Decimal]], asks: list[tuple[Decimal, Decimal]], sequence: int
) -> BookSnapshot:
    return BookSnapshot(
        instrument_id=BTC,
        bids=Levels.of([BookLevel(*level) for level in bids]),
        asks=Levels.of([BookLevel(*level) for level in asks]),
        ts_event_ns=0,
        ts_recv_ns=0,
        sequence=sequence,
    )
