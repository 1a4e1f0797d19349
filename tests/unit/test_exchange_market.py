"""The synthetic market: the same for the same seed, sane for ever, and users trade in it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.exchange_rig import COINS, Rig
from zq_daemon.model.market import Side
from zq_daemon.venue.exchange.listing import LISTED, Perp, parse_number, wire
from zq_daemon.venue.exchange.market import LISTINGS, SyntheticMarket


def run(rig: Rig, seconds: int) -> None:
    for _ in range(seconds * 10):
        rig.exchange.step(rig.clock.ns)
        rig.clock.advance_ms(100)


def stream(seed: int) -> list[str]:
    rig = Rig(SyntheticMarket(seed))
    connection = rig.exchange.connect()
    for coin in COINS:
        for kind in ("l2Book", "trades", "bbo", "activeAssetCtx"):
            rig.exchange.subscribe(connection, {"type": kind, "coin": coin})
    run(rig, 5)
    return connection.outbox.drain()


def test_one_seed_is_one_market():
    assert stream(5) == stream(5)
    assert stream(5) != stream(6)


def test_books_are_deep_narrow_uncrossed_and_within_the_listings_rules():
    rig = Rig(SyntheticMarket(3))
    for _ in range(20):
        run(rig, 3)
        for listing in LISTINGS:
            book = rig.exchange.market.matcher(listing.asset.name)
            bids, asks = book.depth(Side.BUY, 99), book.depth(Side.SELL, 99)
            assert 18 <= len(bids) <= 24
            assert 18 <= len(asks) <= 24
            assert 0 < asks[0].price - bids[0].price <= 12 * listing.tick
            for level in (*bids, *asks):
                assert listing.asset.price_fits(level.price)
                assert listing.asset.size_fits(level.quantity)


def test_prices_move_but_stay_within_reach_of_their_start():
    rig = Rig(SyntheticMarket(8))
    seen = set()
    for _ in range(300):
        run(rig, 1)
        seen.add(rig.exchange.market.oracle("BTC"))
    assert len(seen) > 50
    assert all(abs(price / 64_000 - 1) < Decimal("0.3") for price in seen)


def test_drift_turns_back_at_the_edge_of_the_band():
    market = SyntheticMarket(8)
    rig = Rig(market)
    flow = market._flows["SOL"]
    flow.fair = flow.start * 13 // 10
    run(rig, 5)
    assert flow.drift < 0
    flow.fair = flow.start * 7 // 10
    run(rig, 5)
    assert flow.drift > 0


def test_everything_trades():
    rig = Rig(SyntheticMarket(4))
    listener = rig.listen(*({"type": "trades", "coin": coin} for coin in COINS))
    run(rig, 60)
    trades = [trade for batch in listener.heard("trades") for trade in batch]
    assert {trade["coin"] for trade in trades} == set(COINS)
    assert {trade["side"] for trade in trades} == {"A", "B"}
    tids = [trade["tid"] for trade in trades]
    assert len(set(tids)) == len(tids)


def test_users_quote_inside_the_spread_is_taken_by_the_flow():
    rig = Rig(SyntheticMarket(4))
    rig.exchange.step(rig.clock.ns)
    for _ in range(200):
        book = rig.exchange.market.matcher("BTC")
        if not rig.info("openOrders", user=rig.alice.address):
            rig.rest(rig.alice, "buy", str(book.best(Side.SELL) - 1), "0.001", tif="Alo")
        run(rig, 1)
        if rig.info("userFills", user=rig.alice.address):
            break
    fills = rig.info("userFills", user=rig.alice.address)
    assert fills
    assert not fills[0]["crossed"]


def test_user_takes_background_liquidity_which_comes_back():
    rig = Rig(SyntheticMarket(4))
    rig.exchange.step(rig.clock.ns)
    market = rig.exchange.market
    top = market.matcher("BTC").depth(Side.SELL, 3)
    size = sum(level.quantity for level in top)
    status = rig.place(rig.alice, "buy", str(top[-1].price), str(size), tif="Ioc")
    assert Decimal(status["filled"]["totalSz"]) == size
    assert market.matcher("BTC").best(Side.SELL) > top[-1].price
    run(rig, 2)
    assert len(market.matcher("BTC").depth(Side.SELL, 99)) >= 20


def test_clock_that_leaps_skips_steps_instead_of_catching_up_for_ever():
    rig = Rig(SyntheticMarket(4))
    rig.exchange.step(rig.clock.ns)
    rig.clock.advance_ms(24 * 3_600_000)
    rig.exchange.step(rig.clock.ns)
    assert 0 < rig.exchange.next_due_ns() - rig.clock.ns <= 100_000_000


@pytest.mark.parametrize(
    ("price", "fits"),
    [("64000", True), ("640001", True), ("64000.1", False), ("6400.1", True), ("0.12", True)],
)
def test_price_rule(price, fits):
    assert Perp(name="X", size_decimals=4).price_fits(Decimal(price)) is fits


def test_price_rule_counts_decimals_and_takes_no_infinity():
    assert not LISTED[0].price_fits(Decimal("0.12"))
    assert not LISTED[0].price_fits(Decimal("Infinity"))
    assert not LISTED[0].size_fits(Decimal("NaN"))
    assert LISTED[4].size_fits(Decimal(100))
    assert not LISTED[4].size_fits(Decimal("100.5"))


def test_numbers_on_the_wire():
    written = [wire(Decimal(text)) for text in ("40", "4E+1", "0.500", "-0.000", "1E-7", "100")]
    assert written == ["40.0", "40.0", "0.5", "0.0", "0.0000001", "100.0"]
    assert parse_number("1.50") == Decimal("1.5")
    for text in ("", ".5", "1.", "+1", "1e3", "٣", "1" * 19):
        assert parse_number(text) is None
