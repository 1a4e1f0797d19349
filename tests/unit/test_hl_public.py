"""Hyperliquid's candles, middle prices, spot contexts and books with options."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from zq_daemon.model.bar import Candle
from zq_daemon.model.market import MarkPrice, MidPrice
from zq_daemon.venue.hyperliquid.session import HyperliquidSession
from zq_daemon.venue.interface import Received

NOW = 1_737_918_850_000_000_000
MS = 1_000_000
MINUTE_MS = 60_000
BEGAN_MS = 1_737_918_840_000


def session(*streams: str, **options: Any) -> HyperliquidSession:
    return HyperliquidSession(streams, account_id=None, address=None, **options)


def receive(of: HyperliquidSession, channel: str, data: Any) -> Received:
    return of.receive(msgspec.json.encode({"channel": channel, "data": data}), NOW)


def candle(number: int = 0, **changes: Any) -> dict[str, Any]:
    begin = BEGAN_MS + number * MINUTE_MS
    made = {
        "t": begin,
        "T": begin + MINUTE_MS - 1,
        "s": "BTC",
        "i": "1m",
        "o": "100.0",
        "c": "101.5",
        "h": "102.0",
        "l": "99.0",
        "v": "3.25",
        "n": 17,
    }
    return made | changes


def test_subscriptions_name_interval_and_options() -> None:
    streams = "candle:BTC:1m", "allMids", "l2Book:BTC?nSigFigs=5&mantissa=2", "candle:x:Y:1M"
    assert [msgspec.json.decode(each)["subscription"] for each in session(*streams).opening()] == [
        {"type": "candle", "coin": "BTC", "interval": "1m"},
        {"type": "allMids"},
        {"type": "l2Book", "coin": "BTC", "nSigFigs": 5, "mantissa": 2},
        {"type": "candle", "coin": "x:Y", "interval": "1M"},
    ]


def test_confirmations_find_the_stream_as_it_was_written() -> None:
    streams = "candle:BTC:1m", "candle:BTC:5m", "allMids", "l2Book:BTC?nSigFigs=4", "bbo:BTC"
    of = session(*streams, "activeAssetCtx:@107")
    for echo, name in (
        ({"type": "candle", "coin": "BTC", "interval": "5m"}, "candle:BTC:5m"),
        ({"type": "allMids", "dex": None}, "allMids"),
        ({"type": "l2Book", "coin": "BTC", "nSigFigs": 4}, "l2Book:BTC?nSigFigs=4"),
        ({"type": "activeSpotAssetCtx", "coin": "@107"}, "activeAssetCtx:@107"),
        ({"type": "activeAssetCtx", "coin": "@107"}, "activeAssetCtx:@107"),
    ):
        told = receive(of, "subscriptionResponse", {"method": "subscribe", "subscription": echo})
        assert told == Received(subscribed=(name,))


def test_of_one_coin_there_is_one_book_on_a_connection() -> None:
    with pytest.raises(ValueError, match=r"'l2Book:BTC\?nSigFigs=4'.*'l2Book:BTC' is subscribed"):
        session("l2Book:BTC", "l2Book:ETH", "l2Book:BTC?nSigFigs=4")


def test_a_candle_is_repeated_while_open_and_closed_once_the_next_has_begun() -> None:
    of = session("candle:BTC:1m")
    (first,) = receive(of, "candle", candle(n=1)).market
    assert first == Candle(
        instrument_id="hyperliquid.BTC",
        interval="1m",
        open=Decimal("100.0"),
        high=Decimal("102.0"),
        low=Decimal("99.0"),
        close=Decimal("101.5"),
        volume=Decimal("3.25"),
        trades=1,
        is_closed=False,
        ts_open_ns=BEGAN_MS * MS,
        ts_close_ns=(BEGAN_MS + MINUTE_MS) * MS,
        ts_event_ns=NOW,
        ts_recv_ns=NOW,
    )
    assert receive(of, "candle", candle(n=1)) == Received()  # as before
    assert [each.trades for each in receive(of, "candle", candle(n=2)).market] == [2]
    ended, begun = receive(of, "candle", candle(1, n=5)).market
    assert (ended.is_closed, ended.trades, ended.ts_open_ns) == (True, 2, BEGAN_MS * MS)
    assert ended.ts_event_ns == ended.ts_close_ns
    assert (begun.is_closed, begun.trades) == (False, 5)
    assert receive(of, "candle", candle(n=3)) == Received()  # of the past


def test_candles_of_each_coin_and_interval_go_on_by_themselves() -> None:
    of = session("candle:BTC:1m", "candle:BTC:5m", "candle:ETH:1m")
    receive(of, "candle", candle())
    five = candle(i="5m", T=BEGAN_MS + 5 * MINUTE_MS - 1)
    assert [each.interval for each in receive(of, "candle", five).market] == ["5m"]
    assert [each.instrument_id for each in receive(of, "candle", candle(1, s="ETH")).market] == [
        "hyperliquid.ETH"
    ]
    assert len(receive(of, "candle", candle(1)).market) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"s": "ETH"},
        {"i": "5m"},
        {"T": BEGAN_MS - 1},
        {"h": "100"},
        {"l": "101"},
        {"v": "-1"},
        {"o": "x"},
        {"n": -1},
        {"c": None},
    ],
)
def test_a_candle_that_cannot_be_is_a_problem_and_forgotten(changes: dict[str, Any]) -> None:
    of = session("candle:BTC:1m")
    receive(of, "candle", candle(n=1))
    got = receive(of, "candle", candle(1) | changes)
    assert (got.market, got.problem.partition(":")[0]) == ((), "candle")
    ended, _ = receive(of, "candle", candle(1)).market
    assert ended.trades == 1


def test_middle_prices_are_told_when_they_changed() -> None:
    of = session("allMids")
    first = receive(of, "allMids", {"mids": {"BTC": "100.5", "@142": "2", "PURR/USDC": "0.1"}})
    assert first.market == tuple(
        MidPrice(
            instrument_id=f"hyperliquid.{coin}",
            price=Decimal(price),
            ts_event_ns=NOW,
            ts_recv_ns=NOW,
        )
        for coin, price in (("BTC", "100.5"), ("@142", "2"), ("PURR/USDC", "0.1"))
    )
    assert receive(of, "allMids", {"mids": {"BTC": "100.5", "@142": "2"}}) == Received()
    changed = receive(of, "allMids", {"mids": {"BTC": "101", "@142": "2"}}).market
    assert [each.instrument_id for each in changed] == ["hyperliquid.BTC"]


def test_a_bad_middle_price_leaves_its_neighbours_and_is_read_again() -> None:
    of = session("allMids")
    got = receive(of, "allMids", {"mids": {"BTC": "0", "ETH": "3", "a b": "1"}})
    assert [each.instrument_id for each in got.market] == ["hyperliquid.ETH"]
    assert got.problem.startswith("allMids: ")
    assert len(receive(of, "allMids", {"mids": {"BTC": "1", "ETH": "3"}}).market) == 1


def test_only_what_is_listed_has_a_middle_price() -> None:
    of = session("allMids", listed=("hyperliquid.BTC",))
    got = receive(of, "allMids", {"mids": {"BTC": "1", "NEW": "2"}})
    assert [each.instrument_id for each in got.market] == ["hyperliquid.BTC"]


def test_the_coins_remembered_are_bounded() -> None:
    of = session("allMids")
    got = receive(of, "allMids", {"mids": {f"C{number}": "1" for number in range(10_001)}})
    assert len(got.market) == 10_000
    assert "more than 10000 coins" in got.problem


def test_a_spot_pairs_context_has_no_oracle() -> None:
    of = session("activeAssetCtx:@107")
    context = {
        "prevDayPx": "0.2",
        "dayNtlVlm": "1",
        "markPx": "0.21",
        "midPx": "0.21",
        "circulatingSupply": "5",
        "coin": "@107",
    }
    (mark,) = receive(of, "activeSpotAssetCtx", {"coin": "@107", "ctx": context}).market
    assert mark == MarkPrice(
        instrument_id="hyperliquid.@107",
        mark_price=Decimal("0.21"),
        oracle_price=None,
        funding_rate=None,
        open_interest=None,
        ts_event_ns=NOW,
        ts_recv_ns=NOW,
    )
