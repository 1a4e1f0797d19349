"""The data engine on candles and middle prices of the venue, and single streams' limits."""

from __future__ import annotations

from decimal import Decimal

from attrs import evolve

from tests.unit.test_data_engine import BTC, ETH, SECOND, START, Rig, snapshot, trade
from zq_daemon.model.bar import Candle
from zq_daemon.model.market import MidPrice

MID = MidPrice(instrument_id=BTC, price=Decimal("99.75"), ts_event_ns=START, ts_recv_ns=START)


def candle(number: int, interval: str = "1m") -> Candle:
    begin_ns = START + number * 60 * SECOND
    return Candle(
        instrument_id=BTC,
        interval=interval,
        open=Decimal(1),
        high=Decimal(3),
        low=Decimal(1),
        close=Decimal(2),
        volume=Decimal(5),
        trades=2,
        is_closed=False,
        ts_open_ns=begin_ns,
        ts_close_ns=begin_ns + 60 * SECOND,
        ts_event_ns=begin_ns,
        ts_recv_ns=begin_ns,
    )


def test_a_closed_candle_is_told_once_and_nothing_older_after_it() -> None:
    rig = Rig()
    heard = rig.record("market_data.candle.*")
    first, second = candle(0), candle(1)
    ended = evolve(first, is_closed=True)
    rig.engine.process_batch([first, ended, ended, first, second, candle(0, "5m")])
    assert heard == [first, ended, second, candle(0, "5m")]
    assert rig.cache.candle(BTC, "1m") == second
    assert rig.cache.candle(BTC, "1h") is None


def test_candles_may_be_expected() -> None:
    rig = Rig()
    rig.engine.expect(BTC, "candle")
    assert not rig.engine.is_stale(BTC)
    rig.engine.expect(BTC, "candle", 500)
    assert rig.engine.is_stale(BTC)
    rig.engine.process(candle(0))
    assert not rig.engine.is_stale(BTC)
    rig.wait(501)
    assert rig.engine.is_stale(BTC)


def test_a_streams_own_limit_replaces_that_of_its_kind() -> None:
    rig = Rig()  # where books may be silent for 1 s
    rig.engine.expect(BTC, "book", 3_000)
    rig.engine.expect(ETH, "book", 0)
    rig.engine.process(snapshot())
    rig.wait(2_999)
    assert not rig.engine.is_stale(BTC)
    rig.wait(2)
    assert rig.engine.is_stale(BTC)
    assert not rig.engine.is_stale(ETH)


def test_of_two_limits_of_one_kind_the_shorter_counts() -> None:
    rig = Rig()
    for limit_ms in (3_000, 500, 1_000):
        rig.engine.expect(BTC, "candle", limit_ms)
    rig.engine.process(candle(0))
    rig.wait(501)
    assert rig.engine.is_stale(BTC)


def test_a_middle_price_is_worth_more_than_the_last_trade_only() -> None:
    rig = Rig()
    heard = rig.record("market_data.mid.*")
    rig.engine.process_batch([trade(), MID])
    assert heard == [MID]
    assert rig.cache.mid(BTC) == MID
    assert rig.cache.mid_or_mark(BTC) == MID.price
    rig.engine.process(snapshot())
    assert rig.cache.mid_or_mark(BTC) == Decimal("100.5")
