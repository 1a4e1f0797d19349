"""The data engine on a real bus and cache: order, duplicates, staleness, gaps, bars."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import structlog
from attrs import evolve

from tests.harness.naive_book import NaiveBook, pairs
from zq_daemon.config.schema import StalenessConfig
from zq_daemon.core import topics
from zq_daemon.core.bus import Fault, MessageBus
from zq_daemon.core.cache import Cache
from zq_daemon.engine.data import DataEngine
from zq_daemon.model.bar import Bar, BarSpec
from zq_daemon.model.ids import InstrumentId, TradeId, Venue
from zq_daemon.model.instrument import Instrument, InstrumentKind
from zq_daemon.model.market import (
    BookDelta,
    BookSnapshot,
    InstrumentStatus,
    Levels,
    MarkPrice,
    Quote,
    Side,
    Trade,
    TradingStatus,
)

BTC = InstrumentId("hyperliquid.BTC")
ETH = InstrumentId("hyperliquid.ETH")
MS = 1_000_000
SECOND = 1_000 * MS
START = 1_700_000_000 * SECOND


class HandClock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.passed_ns = 0

    def now_ns(self) -> int:
        return START + self.passed_ns

    def monotonic_ns(self) -> int:
        return 7 + self.passed_ns


class Rig:
    """The engine with everything around it, and all that was published."""

    def __init__(self, staleness: StalenessConfig | None = None, **options: Any) -> None:
        self.faults: list[Fault] = []
        self.gaps: list[InstrumentId] = []
        self.clock = HandClock()
        self.bus = MessageBus(self.faults.append)
        self.cache = Cache()
        for instrument_id in (BTC, ETH):
            self.cache.add_instrument(instrument(instrument_id))
        self.engine = DataEngine(
            self.bus,
            self.cache,
            self.clock,
            staleness or StalenessConfig(book_ms=1_000, mark_ms=0),
            on_gap=self.gaps.append,
            **options,
        )

    def record(self, pattern: str) -> list[Any]:
        heard: list[Any] = []
        self.bus.subscribe(pattern, heard.append)
        return heard

    def wait(self, ms: int) -> None:
        self.clock.passed_ns += ms * MS
        self.engine.on_clock(self.clock.now_ns())


def instrument(instrument_id: InstrumentId) -> Instrument:
    symbol = instrument_id.partition(".")[2]
    return Instrument(
        id=instrument_id,
        venue=Venue("hyperliquid"),
        symbol=symbol,
        kind=InstrumentKind.PERPETUAL,
        base_currency=symbol,
        quote_currency="USDC",
        asset_id=0,
        price_decimals=1,
        price_figures=5,
        quantity_decimals=5,
        min_notional=Decimal(10),
    )


def trade(number: int = 1, *, at_ns: int = START, price: str = "100", quantity: str = "1") -> Trade:
    return Trade(
        instrument_id=BTC,
        price=Decimal(price),
        quantity=Decimal(quantity),
        aggressor=Side.SELL,
        trade_id=TradeId(str(number)),
        ts_event_ns=at_ns,
        ts_recv_ns=at_ns,
    )


def snapshot(
    bid: str = "100", ask: str = "101", *, at_ns: int = START, sequence: int | None = None
) -> BookSnapshot:
    return BookSnapshot(
        instrument_id=BTC,
        bids=Levels([bid, "1"], ["2", "2"]),
        asks=Levels([ask, "999"], ["3", "3"]),
        ts_event_ns=at_ns,
        ts_recv_ns=at_ns,
        sequence=sequence,
    )


def delta(sequence: int, previous: int, *, bid: str = "100", quantity: str = "5") -> BookDelta:
    return BookDelta(
        instrument_id=BTC,
        bids=Levels([bid], [quantity]),
        asks=Levels([], []),
        ts_event_ns=START,
        ts_recv_ns=START,
        sequence=sequence,
        previous=previous,
    )


QUOTE = Quote(
    instrument_id=BTC,
    bid_price=Decimal(99),
    bid_quantity=Decimal(1),
    ask_price=None,
    ask_quantity=None,
    ts_event_ns=START,
    ts_recv_ns=START,
)
MARK = MarkPrice(
    instrument_id=BTC,
    mark_price=Decimal(100),
    oracle_price=None,
    funding_rate=None,
    open_interest=None,
    ts_event_ns=START,
    ts_recv_ns=START,
)
HALT = InstrumentStatus(
    instrument_id=BTC,
    status=TradingStatus.HALTED,
    reason="upgrade",
    ts_event_ns=START,
    ts_recv_ns=START,
)


def statuses(heard: list[Any]) -> list[TradingStatus]:
    return [status.status for status in heard]


class TestPublishing:
    def test_every_kind_is_in_the_cache_before_it_is_published(self) -> None:
        rig = Rig()
        seen: list[bool] = []
        look = {
            topics.trade(BTC): lambda event: rig.cache.trade(BTC) is event,
            topics.quote(BTC): lambda event: rig.cache.quote(BTC) is event,
            topics.mark(BTC): lambda event: rig.cache.mark(BTC) is event,
            topics.status(BTC): lambda event: rig.cache.status(BTC) is event,
            topics.book_snapshot(BTC): lambda event: _book(rig).bids() is event.bids,
            topics.book_delta(BTC): lambda event: _book(rig).best_bid == event.bids[0],
            topics.bar(BTC, BarSpec.parse("1tick")): lambda event: (
                rig.cache.bar(BTC, event.spec) is event
            ),
        }
        for topic, check in look.items():
            rig.bus.subscribe(topic, lambda event, check=check: seen.append(check(event)))
        rig.engine.add_bars(BTC, BarSpec.parse("1tick"))
        first = snapshot(sequence=1)
        rig.engine.process_batch([trade(), QUOTE, MARK, first, delta(2, 1), HALT])
        assert rig.faults == []
        # trade, its bar, the status, quote, mark, snapshot, its delta, delta, halt
        assert seen == [True] * 9

    def test_in_order_of_arrival(self) -> None:
        rig = Rig()
        heard: list[Any] = []
        for pattern in ("market_data.*", "orderbook.snapshot.*"):
            rig.bus.subscribe(pattern, heard.append)
        events = [trade(1), snapshot(), trade(2), QUOTE, MARK, trade(3)]
        rig.engine.process_batch(events)
        assert [one for one in heard if not isinstance(one, InstrumentStatus)] == events

    def test_a_bar_of_the_venue_is_cached_and_published(self) -> None:
        rig = Rig()
        heard = rig.record("market_data.bar.*")
        rig.engine.add_bars(BTC, BarSpec.parse("1tick"))
        rig.engine.process(trade())
        (bar,) = heard
        rig.engine.process(evolve(bar, instrument_id=ETH))
        assert rig.cache.bar(ETH, bar.spec) is heard[1]

    def test_a_handler_that_raises_keeps_nobody_from_the_event(self) -> None:
        rig = Rig()

        def broken(event: Any) -> None:
            raise RuntimeError

        rig.bus.subscribe("market_data.trade.*", broken, owner="strategy x")
        heard = rig.record("market_data.trade.*")
        rig.engine.process_batch([trade(1), trade(2)])
        assert len(heard) == 2
        assert [fault.owner for fault in rig.faults] == ["strategy x"] * 2

    def test_unknown_instruments_are_counted_and_dropped(self) -> None:
        rig = Rig()
        heard = rig.record("*")
        stranger = InstrumentId("hyperliquid.NOPE")
        rig.engine.expect(stranger, "trade")
        rig.engine.process_batch([evolve(trade(), instrument_id=stranger), trade()])
        assert [event.instrument_id for event in heard] == [BTC, BTC]
        assert rig.engine.stats().unknown_instruments == 1
        assert rig.engine.stats().events == 2
        assert rig.cache.book(stranger) is None

    def test_an_instrument_that_the_cache_learns_later_is_known_then(self) -> None:
        rig = Rig()
        later = InstrumentId("hyperliquid.NEW")
        heard = rig.record("market_data.trade.*")
        rig.engine.process(evolve(trade(), instrument_id=later))
        rig.cache.add_instrument(instrument(later))
        rig.engine.process(evolve(trade(), instrument_id=later))
        assert len(heard) == 1

    @pytest.mark.parametrize("bad", ["NaN", "sNaN", "Infinity", "0", "-1", "1e15"])
    def test_unusable_trades_are_counted_and_dropped(self, bad: str) -> None:
        rig = Rig()
        heard = rig.record("market_data.trade.*")
        rig.engine.add_bars(BTC, BarSpec.parse("1notional"))
        rig.engine.process_batch([trade(1, price=bad), trade(2, quantity=bad), trade(3)])
        assert [one.trade_id for one in heard] == ["3"]
        assert rig.engine.stats().unusable_trades == 2

    def test_older_events_are_counted_and_used(self) -> None:
        rig = Rig()
        heard = rig.record("market_data.trade.*")
        rig.engine.process_batch([trade(1), trade(2, at_ns=START - 5), snapshot()])
        rig.engine.process_batch([snapshot("50", at_ns=START - 1), trade(3)])
        assert len(heard) == 3
        assert rig.engine.stats().out_of_order == 2
        assert pairs(_book(rig).bids(1)) == [(Decimal(50), Decimal(2))]


class TestDuplicates:
    def test_a_trade_counts_once(self) -> None:
        rig = Rig()
        heard = rig.record("market_data.trade.*")
        rig.engine.process_batch([trade(1), trade(2), trade(1)])
        rig.engine.process(trade(2))
        assert [one.trade_id for one in heard] == ["1", "2"]
        assert rig.engine.stats().duplicate_trades == 2

    def test_by_instrument(self) -> None:
        rig = Rig()
        heard = rig.record("market_data.trade.*")
        rig.engine.process_batch([trade(1), evolve(trade(1), instrument_id=ETH)])
        assert len(heard) == 2

    def test_the_memory_is_bounded(self) -> None:
        rig = Rig(trade_memory=3)
        heard = rig.record("market_data.trade.*")
        rig.engine.process_batch([trade(number) for number in (1, 2, 3, 4)])
        rig.engine.process_batch([trade(number) for number in (4, 3, 2, 1)])
        assert [one.trade_id for one in heard] == ["1", "2", "3", "4", "1"]


class TestBars:
    def test_built_from_trades_and_closed_by_the_clock(self) -> None:
        rig = Rig()
        spec = BarSpec.parse("1s")
        heard = rig.record(topics.bar(BTC, spec))
        rig.engine.add_bars(BTC, spec)
        rig.engine.add_bars(BTC, BarSpec.parse("1s"))
        rig.engine.process_batch([trade(1, price="100"), trade(2, price="102"), trade(2)])
        rig.wait(999)
        assert heard == []
        rig.wait(1)
        (bar,) = heard
        assert isinstance(bar, Bar)
        assert (bar.open, bar.close, bar.trades) == (100, 102, 2)
        rig.wait(1_000)
        assert heard[1].trades == 0
        assert rig.cache.bar(BTC, spec) is heard[1]

    def test_late_trades_are_counted(self) -> None:
        rig = Rig()
        rig.engine.add_bars(BTC, BarSpec.parse("1s"))
        rig.engine.process(trade(1))
        rig.wait(1_500)
        rig.engine.process(trade(2, at_ns=START + 1))
        assert rig.engine.stats().late_trades == 1


class TestDerivedDeltas:
    def test_only_when_somebody_subscribes(self) -> None:
        rig = Rig()
        rig.engine.process(snapshot("100"))
        heard = rig.record("orderbook.delta.*")
        copy = NaiveBook()
        copy.apply_snapshot(snapshot("100"))
        for bid in ("99", "100.5", "100.5"):
            rig.engine.process(snapshot(bid))
        assert len(heard) == 2  # the third snapshot changed nothing
        for one in heard:
            copy.apply_delta(one)
        assert copy.bids() == pairs(_book(rig).bids())

    def test_comes_after_its_snapshot(self) -> None:
        rig = Rig()
        heard = rig.record("orderbook.*")
        rig.engine.process(snapshot())
        assert [type(one) for one in heard] == [BookSnapshot, BookDelta]

    def test_a_snapshot_and_the_deltas_it_released_make_one(self) -> None:
        rig = Rig()
        heard = rig.record("orderbook.delta.*")
        rig.engine.process_batch([delta(2, 1), delta(3, 2, bid="99"), snapshot(sequence=1)])
        copy = NaiveBook()
        for one in heard:
            copy.apply_delta(one)
        assert copy.bids() == pairs(_book(rig).bids())
        assert len(copy.bids()) == 3


class TestGaps:
    def test_a_gap_is_stale_until_a_snapshot_fills_it(self) -> None:
        rig = Rig()
        rig.engine.process_batch([snapshot(sequence=1), delta(2, 1)])
        heard = rig.record("market_data.status.*")
        deltas = rig.record("orderbook.delta.*")
        rig.engine.process_batch([delta(5, 4), delta(6, 5), delta(2, 1)])
        assert rig.gaps == [BTC]
        assert rig.engine.is_stale(BTC)
        assert statuses(heard) == [TradingStatus.STALE]
        assert "snapshot" in heard[0].reason
        assert deltas == []
        rig.wait(2_000)
        rig.engine.process(snapshot(sequence=4))
        assert not rig.engine.is_stale(BTC)
        assert statuses(heard) == [TradingStatus.STALE, TradingStatus.TRADING]
        stats = rig.engine.stats()
        assert (stats.book_gaps, stats.dropped_book_updates) == (1, 3)

    def test_a_snapshot_that_is_too_old_is_asked_for_again(self) -> None:
        rig = Rig()
        rig.engine.process_batch([delta(5, 4), snapshot(sequence=1)])
        assert rig.gaps == [BTC, BTC]
        rig.engine.process(snapshot(sequence=4))
        assert rig.gaps == [BTC, BTC]
        assert not rig.engine.is_stale(BTC)

    def test_without_anybody_to_ask(self) -> None:
        rig = Rig()
        engine = DataEngine(rig.bus, rig.cache, rig.clock, StalenessConfig())
        engine.process(delta(2, 1))
        assert engine.is_stale(BTC)

    def test_an_old_snapshot_is_dropped(self) -> None:
        rig = Rig()
        rig.engine.process_batch([snapshot(sequence=5), snapshot("50", sequence=4)])
        assert pairs(_book(rig).bids(1)) == [(Decimal(100), Decimal(2))]
        assert rig.engine.stats().dropped_book_updates == 1

    def test_a_crossed_book_is_stale_while_it_is(self) -> None:
        rig = Rig()
        heard = rig.record("market_data.status.*")
        rig.engine.process_batch([snapshot("101"), snapshot("102"), snapshot("100")])
        rig.engine.process(snapshot("101"))
        assert statuses(heard) == [
            TradingStatus.STALE,
            TradingStatus.TRADING,
            TradingStatus.STALE,
        ]
        assert heard[0].reason == "the book is crossed"
        assert rig.engine.stats().crossed_books == 2

    def test_a_book_that_flaps_is_told_of_at_most_once_a_second(self) -> None:
        rig = Rig()
        rig.engine.process(snapshot())
        heard = rig.record("market_data.status.*")
        with structlog.testing.capture_logs() as lines:
            for number in range(9_999):
                rig.clock.passed_ns += MS
                rig.engine.process(snapshot("100" if number % 2 else "102"))
                assert rig.engine.is_stale(BTC) is (number % 2 == 0)
        both = [TradingStatus.STALE, TradingStatus.TRADING]
        assert statuses(heard) == [*both, *both, *both, *both, TradingStatus.STALE]
        assert [line.get("withheld") for line in lines] == [None, *[1_000, None] * 4]

    def test_what_holds_in_the_end_is_told_when_it_has_calmed_down(self) -> None:
        rig = Rig(StalenessConfig(book_ms=0, mark_ms=0))
        rig.engine.process(snapshot())
        heard = rig.record("market_data.status.*")
        for bid in ("102", "100", "102", "100"):
            rig.engine.process(snapshot(bid))
        rig.wait(1_999)
        assert statuses(heard) == [TradingStatus.STALE]
        rig.wait(1)
        assert statuses(heard) == [TradingStatus.STALE, TradingStatus.TRADING]
        status = rig.cache.status(BTC)
        assert status is not None
        assert status.status is TradingStatus.TRADING
        rig.engine.process(snapshot("102"))
        assert statuses(heard)[2:] == [TradingStatus.STALE]

    def test_a_venue_that_halts_and_resumes_all_the_time_is_calmed_too(self) -> None:
        rig = Rig(StalenessConfig(book_ms=0, mark_ms=0))
        rig.engine.process(snapshot())
        heard = rig.record("market_data.status.*")
        for _ in range(50):
            rig.engine.process_batch([HALT, evolve(HALT, status=TradingStatus.DELISTED)])
            rig.engine.process(evolve(HALT, status=TradingStatus.TRADING))
        assert statuses(heard) == [TradingStatus.HALTED]


class TestStaleness:
    def test_an_expected_stream_must_speak_first(self) -> None:
        rig = Rig()
        heard = rig.record("market_data.status.*")
        rig.engine.expect(BTC, "book")
        rig.engine.expect(BTC, "book")
        assert rig.engine.is_stale(BTC)
        rig.engine.process(trade())
        assert rig.engine.is_stale(BTC)
        assert rig.engine.stats().stale == {BTC: "no book received yet"}
        rig.engine.process(snapshot())
        assert not rig.engine.is_stale(BTC)
        assert rig.engine.stats().stale == {}
        assert statuses(heard) == [TradingStatus.STALE, TradingStatus.TRADING]

    def test_trading_is_known_before_the_event_that_proves_it(self) -> None:
        rig = Rig()
        rig.engine.expect(BTC, "book")
        stale: list[bool] = []
        rig.bus.subscribe(
            "orderbook.snapshot.*", lambda event: stale.append(rig.engine.is_stale(BTC))
        )
        rig.engine.process(snapshot())
        assert stale == [False]

    def test_silence_makes_stale_once(self) -> None:
        rig = Rig()
        rig.engine.expect(BTC, "book")
        rig.engine.process(snapshot())
        heard = rig.record("market_data.status.*")
        rig.wait(1_000)
        assert not rig.engine.is_stale(BTC)
        rig.wait(1)
        rig.engine.process(trade())
        rig.wait(5_000)
        assert rig.engine.is_stale(BTC)
        (status,) = heard
        assert (status.status, status.reason) == (TradingStatus.STALE, "no book for 1000 ms")
        assert status.ts_event_ns == START + 1_001 * MS
        rig.engine.process(snapshot())
        assert not rig.engine.is_stale(BTC)

    def test_streams_without_a_limit_never_make_stale(self) -> None:
        rig = Rig(StalenessConfig(book_ms=0, quote_ms=0, trade_ms=0, mark_ms=0))
        for stream in ("book", "quote", "trade", "mark"):
            rig.engine.expect(BTC, stream)
        assert not rig.engine.is_stale(BTC)
        rig.wait(10**9)
        assert not rig.engine.is_stale(BTC)
        assert not rig.engine.is_stale(ETH)

    def test_each_stream_has_its_own_limit(self) -> None:
        rig = Rig(StalenessConfig(book_ms=1_000, quote_ms=2_000, trade_ms=3_000, mark_ms=4_000))
        for stream in ("book", "quote", "trade", "mark"):
            rig.engine.expect(BTC, stream)
        rig.engine.process_batch([snapshot(), QUOTE, trade(), MARK])
        assert not rig.engine.is_stale(BTC)
        rig.wait(3_500)
        reasons = "no book for 1000 ms, no quote for 2000 ms, no trade for 3000 ms"
        assert rig.engine.stats().stale == {BTC: reasons}

    def test_a_lost_link_is_stale_at_once_and_until_each_stream_speaks(self) -> None:
        rig = Rig()
        rig.engine.expect(BTC, "book")
        rig.engine.process_batch([snapshot(), trade()])
        heard = rig.record("market_data.status.*")
        rig.engine.on_link_lost([BTC])
        assert rig.engine.is_stale(BTC)
        rig.wait(2_000)
        rig.engine.process(trade(2))
        assert rig.engine.is_stale(BTC)
        rig.engine.process(snapshot())
        assert not rig.engine.is_stale(BTC)
        assert statuses(heard) == [TradingStatus.STALE, TradingStatus.TRADING]
        assert heard[0].reason.startswith("the link is lost")

    def test_a_link_back_filling_only_known_trades_is_back(self) -> None:
        rig = Rig(StalenessConfig(book_ms=0, trade_ms=1_000, mark_ms=0))
        rig.engine.expect(BTC, "trade")
        rig.engine.process(trade(1))
        rig.engine.on_link_lost([BTC])
        rig.engine.process(trade(1))
        assert not rig.engine.is_stale(BTC)

    def test_a_book_without_a_limit_is_still_not_current_after_a_lost_link(self) -> None:
        rig = Rig(StalenessConfig(book_ms=0, mark_ms=0))
        rig.engine.process(snapshot())
        rig.engine.on_link_lost([BTC])
        rig.engine.process(trade())
        assert rig.engine.is_stale(BTC)
        rig.engine.process(snapshot())
        assert not rig.engine.is_stale(BTC)

    def test_the_wall_clock_does_not_matter(self) -> None:
        rig = Rig()
        rig.engine.expect(BTC, "book")
        rig.engine.process(snapshot())
        rig.engine.on_clock(START + 10**18)
        assert not rig.engine.is_stale(BTC)


class TestVenueStatus:
    def test_a_halt_outranks_staleness_and_is_passed_on_as_told(self) -> None:
        rig = Rig()
        heard = rig.record("market_data.status.*")
        rig.engine.expect(BTC, "book")
        rig.engine.process_batch([HALT, snapshot(), HALT])
        assert heard[1:] == [HALT]
        assert not rig.engine.is_stale(BTC)
        rig.engine.on_link_lost([BTC])
        assert len(heard) == 2
        assert rig.engine.is_stale(BTC)
        rig.wait(2_000)
        rig.engine.process(evolve(HALT, status=TradingStatus.TRADING))
        assert statuses(heard[2:]) == [TradingStatus.STALE]

    def test_trading_is_told_once(self) -> None:
        rig = Rig()
        heard = rig.record("market_data.status.*")
        rig.engine.process_batch([trade(1), trade(2), evolve(HALT, status=TradingStatus.TRADING)])
        assert statuses(heard) == [TradingStatus.TRADING]


def _book(rig: Rig) -> Any:
    return rig.cache.book(BTC)
