"""What the market is, told to the official SDK: listings, books, trades, candles, contexts."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hyperliquid.info import Info
from hyperliquid.utils.error import ClientError

from tests.venue_sdk.sdk import PATIENCE_S, Served, Trader, serving
from zq_daemon.venue.exchange.market import SyntheticMarket

PERPS = ["BTC", "ETH", "MATIC", "SOL", "kPEPE"]


@pytest.fixture
def busy() -> Iterator[Served]:
    """An exchange with traffic of its own."""
    with serving(lambda: SyntheticMarket(7)) as served:
        yield served


@pytest.fixture
def watcher(busy: Served) -> Trader:
    return busy.trader(1)


def test_the_listing_gives_every_name_its_asset(served, alice):
    meta = alice.info.meta()
    assert [asset["name"] for asset in meta["universe"]] == PERPS
    assert meta["universe"][2]["isDelisted"]
    spot = alice.info.spot_meta()
    assert [pair["name"] for pair in spot["universe"]] == ["PURR/USDC", "@107"]
    info = Info(served.url, skip_ws=True, timeout=PATIENCE_S)
    named = [info.name_to_asset(name) for name in ("kPEPE", "PURR/USDC", "HYPE/USDC", "@107")]
    assert named == [4, 10_000, 10_107, 10_107]
    assert info.asset_to_sz_decimals[10_107] == 2
    assert info.name_to_coin["HYPE/USDC"] == "@107"
    assert alice.info.perp_dexs() == [None]


def test_contexts_are_told_in_the_order_of_the_listing(alice, bob):
    bob.rest("BTC", "buy", 1.0, 49_990)
    bob.rest("BTC", "sell", 1.0, 50_010)
    alice.limit("BTC", "buy", 0.1, 50_010)
    meta, contexts = alice.info.meta_and_asset_ctxs()
    assert len(meta["universe"]) == len(contexts) == len(PERPS)
    told = contexts[0]
    assert (told["markPx"], told["midPx"], told["openInterest"]) == ("50000.0", "50000.0", "0.1")
    assert (float(told["dayNtlVlm"]), float(told["dayBaseVlm"])) == (5_001, 0.1)
    assert [float(price) for price in told["impactPxs"]] == [49_990, 50_010]
    assert contexts[1]["midPx"] is None
    spot, spot_contexts = alice.info.spot_meta_and_asset_ctxs()
    coins = [pair["name"] for pair in spot["universe"]]
    assert [context["coin"] for context in spot_contexts] == coins


def test_a_book_is_the_orders_that_rest(alice, bob):
    for price in (49_990, 49_980):
        bob.rest("BTC", "buy", 0.5, price)
    alice.rest("BTC", "buy", 0.25, 49_990)
    bob.rest("BTC", "sell", 1.0, 50_010)
    book = alice.info.l2_snapshot("BTC")
    assert book["coin"] == "BTC"
    assert abs(book["time"] - time.time() * 1000) < 60_000
    assert book["levels"] == [
        [{"px": "49990.0", "sz": "0.75", "n": 2}, {"px": "49980.0", "sz": "0.5", "n": 1}],
        [{"px": "50010.0", "sz": "1.0", "n": 1}],
    ]
    assert alice.info.all_mids() == {"BTC": "50000.0"}


def test_the_socket_tells_the_same_as_the_queries(served, alice, bob):
    bob.rest("BTC", "sell", 0.5, 50_010)
    bob.rest("BTC", "buy", 0.5, 49_990)
    kinds = ("l2Book", "bbo", "trades", "activeAssetCtx")
    ear = served.listen(
        alice,
        *[{"type": kind, "coin": "BTC"} for kind in kinds],
        {"type": "candle", "coin": "BTC", "interval": "1m"},
    )
    levels = alice.info.l2_snapshot("BTC")["levels"]
    assert ear.next("l2Book")["levels"] == levels
    assert ear.next("bbo")["bbo"] == [side[0] for side in levels]
    assert ear.next("activeAssetCtx")["ctx"]["markPx"] == "50000.0"
    alice.limit("BTC", "buy", 0.2, 50_010)
    (trade,) = ear.next("trades")
    assert (trade["coin"], trade["side"], trade["px"]) == ("BTC", "B", "50010.0")
    assert trade["users"] == [alice.address.lower(), bob.address.lower()]
    assert trade["tid"] == alice.info.user_fills(alice.address)[0]["tid"]
    assert ear.next("bbo")["bbo"][1] == {"px": "50010.0", "sz": "0.3", "n": 1}
    candle = ear.next("candle")
    assert [candle[name] for name in "siohlcvn"] == [
        "BTC",
        "1m",
        "50010.0",
        "50010.0",
        "50010.0",
        "50010.0",
        "0.2",
        1,
    ]
    assert candle["t"] <= trade["time"] <= candle["T"] == candle["t"] + 59_999
    found = alice.info.candles_snapshot("BTC", "1m", candle["t"], candle["T"])
    assert found == [candle]
    assert ear.next("allMids", lambda data: data["mids"]) == {"mids": {"BTC": "50000.0"}}
    late = served.listen(bob, {"type": "trades", "coin": "BTC"})
    assert late.next("trades") == [trade], "the first batch tells of the past"


def test_a_stream_that_was_left_is_silent(served, alice, bob):
    ear = served.listen(alice, {"type": "bbo", "coin": "BTC"}, {"type": "bbo", "coin": "ETH"})
    assert [ear.next("bbo")["coin"] for _ in range(2)] == ["BTC", "ETH"]
    ear.leave({"type": "bbo", "coin": "BTC"}, 1)
    ear.subscribe({"type": "l2Book", "coin": "ETH"})
    ear.next("l2Book")
    bob.rest("BTC", "buy", 0.5, 49_990)
    bob.rest("ETH", "buy", 0.5, 3_000)
    assert ear.next("bbo")["coin"] == "ETH"


def test_a_market_with_traffic_parses_in_every_stream(busy, watcher):
    ear = busy.listen(
        watcher,
        *[{"type": kind, "coin": "BTC"} for kind in ("l2Book", "bbo", "trades", "activeAssetCtx")],
        {"type": "candle", "coin": "BTC", "interval": "1m"},
    )
    for _ in range(2):
        bids, asks = ear.next("l2Book")["levels"]
        assert len(bids) == len(asks) == 20
        prices = [float(level["px"]) for level in (*reversed(bids), *asks)]
        assert prices == sorted(prices)
        for trade in ear.next("trades"):
            assert float(trade["px"]) > 0
        assert float(ear.next("candle")["v"]) > 0
    assert float(ear.next("activeAssetCtx")["ctx"]["oraclePx"]) > 0
    mids = watcher.info.all_mids()
    assert mids.keys() == {"BTC", "ETH", "SOL", "kPEPE", "PURR/USDC", "@107"}


def test_spot_is_a_market_like_the_others(busy, watcher):
    ear = busy.listen(
        watcher,
        {"type": "activeAssetCtx", "coin": "HYPE/USDC"},
        {"type": "l2Book", "coin": "HYPE/USDC"},
        {"type": "bbo", "coin": "PURR/USDC"},
    )
    told = ear.next("activeAssetCtx")
    assert (told["coin"], told["ctx"]["coin"]) == ("@107", "@107")
    assert ear.next("l2Book")["coin"] == "@107"
    assert ear.next("bbo")["coin"] == "PURR/USDC"
    assert watcher.info.l2_snapshot("HYPE/USDC")["coin"] == "@107"


def test_what_is_no_query_is_an_error_of_the_client(alice):
    with pytest.raises(ClientError) as caught:
        alice.info.post("/info", {"type": "unheardOf"})
    assert caught.value.status_code == 422
    with pytest.raises(ClientError):
        alice.info.meta(dex="another")
