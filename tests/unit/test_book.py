"""The order book: laziness, the sequence rule, prices, and a real capture."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.harness.naive_book import NaiveBook, pairs
from zq_daemon.core.book import HELD_DELTAS, DeltaOutcome, OrderBook, delta_since
from zq_daemon.model.ids import InstrumentId
from zq_daemon.model.market import BookDelta, BookLevel, BookSnapshot, Levels, Side

BTC = InstrumentId("hyperliquid.BTC")
Texts = list[tuple[str, str]]


def levels(texts: Texts) -> Levels:
    return Levels([price for price, _ in texts], [quantity for _, quantity in texts])


def snapshot(bids: Texts, asks: Texts, *, sequence: int | None = None, at: int = 1) -> BookSnapshot:
    return BookSnapshot(
        instrument_id=BTC,
        bids=levels(bids),
        asks=levels(asks),
        ts_event_ns=at,
        ts_recv_ns=at + 1,
        sequence=sequence,
    )


def delta(
    bids: Texts, asks: Texts, *, previous: int | None = None, sequence: int | None = None
) -> BookDelta:
    return BookDelta(
        instrument_id=BTC,
        bids=levels(bids),
        asks=levels(asks),
        ts_event_ns=5,
        ts_recv_ns=6,
        previous=previous,
        sequence=sequence,
    )


def book_of(bids: Texts, asks: Texts, sequence: int | None = None) -> OrderBook:
    book = OrderBook(BTC)
    book.apply_snapshot(snapshot(bids, asks, sequence=sequence))
    return book


BIDS: Texts = [("100", "1"), ("99", "2"), ("98", "3")]
ASKS: Texts = [("101", "1"), ("103", "4")]


class TestEmpty:
    def test_has_no_prices(self) -> None:
        book = OrderBook(BTC)
        assert book.best_bid is None
        assert book.best_ask is None
        assert book.mid is None
        assert book.spread is None
        assert not book.is_crossed
        assert list(book.bids()) == []
        assert book.average_price(Side.BUY, Decimal(1)) is None
        assert book.needs_snapshot
        assert book.updates == 0

    def test_one_side_has_no_mid(self) -> None:
        book = book_of(BIDS, [])
        assert book.best_bid == BookLevel(Decimal(100), Decimal(1))
        assert book.mid is None
        assert book.spread is None
        assert not book.is_crossed


class TestReading:
    def test_prices(self) -> None:
        book = book_of(BIDS, ASKS)
        assert book.mid == Decimal("100.5")
        assert book.spread == 1
        assert pairs(book.bids(2)) == [(Decimal(100), Decimal(1)), (Decimal(99), Decimal(2))]
        assert len(book.asks(99)) == 2
        assert (book.ts_event_ns, book.ts_recv_ns, book.updates) == (1, 2, 1)

    @pytest.mark.parametrize(
        ("bid", "ask", "crossed"), [("100", "100.1", False), ("100", "100", True), ("2", "1", True)]
    )
    def test_crossed_and_locked(self, bid: str, ask: str, crossed: bool) -> None:
        assert book_of([(bid, "1")], [(ask, "1")]).is_crossed is crossed

    @pytest.mark.parametrize(
        ("side", "quantity", "average"),
        [
            (Side.BUY, "1", "101"),
            (Side.BUY, "3", "102.3333333333333333333333333"),
            (Side.BUY, "5", "102.6"),
            (Side.BUY, "5.1", None),
            (Side.SELL, "6", "98.66666666666666666666666667"),
            (Side.SELL, "0.5", "100"),
        ],
    )
    def test_average_price(self, side: Side, quantity: str, average: str | None) -> None:
        expected = None if average is None else Decimal(average)
        assert book_of(BIDS, ASKS).average_price(side, Decimal(quantity)) == expected

    @pytest.mark.parametrize("quantity", ["0", "-1", "NaN"])
    def test_average_price_of_nothing_is_a_mistake(self, quantity: str) -> None:
        with pytest.raises((ValueError, ArithmeticError)):
            book_of(BIDS, ASKS).average_price(Side.BUY, Decimal(quantity))

    def test_a_snapshot_is_decoded_no_further_than_it_is_read(self) -> None:
        book = book_of([("100", "1"), ("not yet", "read")], [("101", "1"), ("not yet", "read")])
        assert book.mid == Decimal("100.5")
        assert not book.is_crossed
        assert book.bids(1)[0].price == 100
        assert book.bids()[0] is book.best_bid
        with pytest.raises(ArithmeticError):
            list(book.bids())

    def test_what_was_read_does_not_change(self) -> None:
        book = book_of(BIDS, ASKS)
        before, top = book.bids(), book.asks(1)
        book.apply_delta(delta([("100", "0")], [("100.5", "9")]))
        after = book.bids()
        book.apply_delta(delta([("99", "0")], []))
        assert pairs(before)[0] == (Decimal(100), Decimal(1))
        assert pairs(top) == [(Decimal(101), Decimal(1))]
        assert pairs(after)[0] == (Decimal(99), Decimal(2))


class TestDeltas:
    def test_insert_replace_remove(self) -> None:
        book = book_of(BIDS, ASKS)
        change = delta([("99.50", "7"), ("98.0", "0"), ("1", "0")], [("101.00", "2")])
        assert book.apply_delta(change) is DeltaOutcome.APPLIED
        assert pairs(book.bids()) == [
            (Decimal(100), Decimal(1)),
            (Decimal("99.5"), Decimal(7)),
            (Decimal(99), Decimal(2)),
        ]
        assert pairs(book.asks()) == [(Decimal(101), Decimal(2)), (Decimal(103), Decimal(4))]
        assert (book.ts_event_ns, book.ts_recv_ns, book.updates) == (5, 6, 2)

    def test_prices_beyond_the_decimal_context_stay_exact(self) -> None:
        long = "100.0000000000000000000000000000001"
        book = book_of([("100", "1")], [])
        book.apply_delta(delta([(long, "1")], []))
        assert book.best_bid == BookLevel(Decimal(long), Decimal(1))
        book.apply_delta(delta([(long, "0")], []))
        assert book.best_bid == BookLevel(Decimal(100), Decimal(1))

    def test_a_delta_waits_for_the_first_snapshot(self) -> None:
        book = OrderBook(BTC)
        assert book.apply_delta(delta(BIDS, ASKS)) is DeltaOutcome.WAITING
        assert book.best_bid is None
        book.apply_snapshot(snapshot([("1", "1")], []))
        assert pairs(book.bids()) == [(Decimal(1), Decimal(1))]

    def test_numbered_deltas_follow_each_other(self) -> None:
        book = book_of(BIDS, ASKS, sequence=10)
        first = delta([("100", "5")], [], previous=8, sequence=12)
        assert book.apply_delta(first) is DeltaOutcome.APPLIED
        assert book.apply_delta(first) is DeltaOutcome.DUPLICATE
        second = delta([("100", "6")], [], previous=12, sequence=15)
        assert book.apply_delta(second) is DeltaOutcome.APPLIED
        assert book.apply_delta(first) is DeltaOutcome.DUPLICATE
        assert book.best_bid == BookLevel(Decimal(100), Decimal(6))

    def test_a_gap_keeps_the_levels_and_asks_for_a_snapshot(self) -> None:
        book = book_of(BIDS, ASKS, sequence=10)
        late = delta([("100", "5")], [], previous=11, sequence=12)
        assert book.apply_delta(late) is DeltaOutcome.GAP
        assert book.needs_snapshot
        assert book.best_bid == BookLevel(Decimal(100), Decimal(1))
        later = delta([("97", "1")], [], previous=12, sequence=13)
        assert book.apply_delta(later) is DeltaOutcome.WAITING
        assert book.apply_snapshot(snapshot([("99", "1")], [("101", "1")], sequence=11))
        assert not book.needs_snapshot
        assert pairs(book.bids()) == [
            (Decimal(100), Decimal(5)),
            (Decimal(99), Decimal(1)),
            (Decimal(97), Decimal(1)),
        ]

    def test_a_snapshot_that_is_too_old_leaves_the_gap(self) -> None:
        book = OrderBook(BTC)
        for previous in (20, 30):
            book.apply_delta(delta([("100", "5")], [], previous=previous, sequence=previous + 10))
        book.apply_snapshot(snapshot(BIDS, ASKS, sequence=15))
        assert book.needs_snapshot
        book.apply_snapshot(snapshot(BIDS, ASKS, sequence=25))
        assert not book.needs_snapshot
        assert book.best_bid == BookLevel(Decimal(100), Decimal(5))

    def test_unnumbered_deltas_that_waited_are_not_applied(self) -> None:
        book = OrderBook(BTC)
        book.apply_delta(delta([("100", "5")], []))
        book.apply_snapshot(snapshot(BIDS, ASKS, sequence=15))
        assert book.best_bid == BookLevel(Decimal(100), Decimal(1))

    def test_what_is_held_is_bounded(self) -> None:
        book = OrderBook(BTC)
        for number in range(HELD_DELTAS + 5):
            book.apply_delta(delta([("100", "5")], [], previous=number, sequence=number + 1))
        book.apply_snapshot(snapshot(BIDS, ASKS, sequence=2))
        assert book.needs_snapshot

    def test_an_older_numbered_snapshot_changes_nothing(self) -> None:
        book = book_of(BIDS, ASKS, sequence=10)
        assert not book.apply_snapshot(snapshot([], [], sequence=9))
        assert len(book.bids()) == 3
        book.invalidate()
        assert book.apply_snapshot(snapshot([], [], sequence=9))
        assert len(book.bids()) == 0

    def test_unnumbered_snapshots_count_in_order_of_arrival(self) -> None:
        book = OrderBook(BTC)
        book.apply_snapshot(snapshot(BIDS, ASKS, at=100))
        assert book.apply_snapshot(snapshot([("1", "1")], [], at=50))
        assert book.ts_event_ns == 50


class TestDerivedDeltas:
    def test_names_what_changed_and_nothing_else(self) -> None:
        book = book_of(BIDS, ASKS)
        bids, asks = book.bids(), book.asks()
        book.apply_snapshot(snapshot([("100.0", "1.0"), ("99", "7")], ASKS, at=9))
        made = delta_since(bids, asks, book)
        assert made is not None
        assert pairs(made.bids) == [(Decimal(98), Decimal(0)), (Decimal(99), Decimal(7))]
        assert pairs(made.asks) == []
        assert (made.ts_event_ns, made.sequence, made.previous) == (9, None, None)

    def test_is_none_when_nothing_changed(self) -> None:
        book = book_of(BIDS, ASKS)
        assert delta_since(book.bids(), book.asks(), book) is None


class TestLevels:
    def test_reads_like_a_sequence(self) -> None:
        side = Levels(["3", "2", "1"], ["1", "1", "1"], [7, 8, 9])
        assert side[-1] == BookLevel(Decimal(1), Decimal(1), 9)
        assert side[0] is side[0]
        assert side[1:] == (side[1], side[2])
        with pytest.raises(IndexError):
            side[3]
        assert len(side) == 3
        assert [level.orders for level in side] == [7, 8, 9]
        assert side[1:] == (side[1], side[2])
        assert side == Levels.of(list(side))
        assert hash(side) == hash(Levels.of(list(side)))
        assert "BookLevel" in repr(side)

    def test_no_first_level_of_an_empty_side(self) -> None:
        with pytest.raises(IndexError):
            Levels([], [])[0]


def test_a_real_capture_gives_the_naive_twins_book(captures: Path) -> None:
    book, naive = OrderBook(BTC), NaiveBook()
    held: list[BookDelta] = []
    outcomes: dict[DeltaOutcome, int] = dict.fromkeys(DeltaOutcome, 0)
    started = compared = 0
    for update in _binance_depth(captures / "binance_usdm" / "btcusdt_20240808.gz"):
        if isinstance(update, BookSnapshot):
            book.apply_snapshot(update)
            naive.apply_snapshot(update)
            for early in held:
                if early.sequence > update.sequence:  # type: ignore[operator]
                    naive.apply_delta(early)
            started = True
            continue
        outcomes[book.apply_delta(update)] += 1
        if not started:
            held.append(update)
            continue
        naive.apply_delta(update)
        if outcomes[DeltaOutcome.APPLIED] % 200 == 0:
            compared += 1
            assert pairs(book.bids()) == naive.bids()
            assert pairs(book.asks()) == naive.asks()
    assert pairs(book.bids()) == naive.bids()
    assert pairs(book.asks()) == naive.asks()
    assert not book.is_crossed
    assert compared > 20
    assert outcomes[DeltaOutcome.GAP] == outcomes[DeltaOutcome.DUPLICATE] == 0
    assert sum(outcomes.values()) == 6_551


def _binance_depth(file: Path) -> Iterator[BookSnapshot | BookDelta]:
    with gzip.open(file, "rt") as lines:
        for line in lines:
            received, _, text = line.partition(" ")
            if '"depthUpdate"' in text:
                yield _binance_delta(json.loads(text)["data"], int(received))
            elif '"lastUpdateId"' in text:
                message = json.loads(text)
                yield BookSnapshot(
                    instrument_id=BTC,
                    bids=levels(message["bids"]),
                    asks=levels(message["asks"]),
                    ts_event_ns=message["T"] * 1_000_000,
                    ts_recv_ns=int(received),
                    sequence=message["lastUpdateId"],
                )


def _binance_delta(data: dict[str, Any], received_ns: int) -> BookDelta:
    return BookDelta(
        instrument_id=BTC,
        bids=levels(data["b"]),
        asks=levels(data["a"]),
        ts_event_ns=data["T"] * 1_000_000,
        ts_recv_ns=received_ns,
        sequence=data["u"],
        previous=data["pu"],
    )
