"""Funding: the documented rate, who pays whom, and what is remembered and told."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.trading_rig import START_MS, TradingRig
from zq_daemon.venue.exchange import messages
from zq_daemon.venue.exchange.funding import HOUR_MS, SAMPLE_MS

D = Decimal
NEXT_HOUR = START_MS - START_MS % HOUR_MS + HOUR_MS


@pytest.fixture
def rig() -> TradingRig:
    rig = TradingRig()
    rig.market.oracles["BTC"] = D(50_000)
    return rig


def at(rig, ms: int) -> None:
    rig.later(ms - rig.trading.now_ms)


def test_longs_pay_shorts_the_interest_where_the_premium_is_small(rig):
    rig.quote(50_000)
    rig.rest(rig.alice, "sell", "50000", "0.2")
    rig.one(rig.bob, "buy", "50000", "0.2")
    before = rig.alice.balance, rig.bob.balance
    at(rig, NEXT_HOUR - 1)
    assert rig.tape.payments == []
    at(rig, NEXT_HOUR)
    assert rig.alice.balance - before[0] == D("0.125")
    assert rig.bob.balance - before[1] == D("-0.125")
    told = dict(rig.tape.payments)
    assert messages.funding_event(told[rig.bob.address]) == {
        "time": NEXT_HOUR,
        "coin": "BTC",
        "usdc": "-0.125",
        "szi": "0.2",
        "fundingRate": "0.0000125",
        "nSamples": 2,
    }
    row = messages.funding_delta(rig.alice.payments[-1])
    assert (row["time"], row["delta"]["usdc"]) == (NEXT_HOUR, "0.125")
    assert row["delta"]["type"] == "funding"


@pytest.mark.parametrize(
    ("middle", "premium", "rate"),
    [
        (50_011, "0.0002", "0.0000125"),
        (50_101, "0.002", "0.0001875"),
        (49_899, "-0.002", "-0.0001875"),
        (49_989, "-0.0002", "0.0000125"),
        (80_001, "0.6", "0.04"),
    ],
)
def test_rate_is_the_premium_clamped_towards_the_interest_and_capped(rig, middle, premium, rate):
    rig.quote(middle)
    assert rig.trading.funding.premium("BTC") == D(premium)
    assert rig.trading.funding.rate("BTC") == D(rate)


def test_impact_prices_are_averages_over_a_notional(rig):
    for price, size in (("50100", "0.2"), ("50200", "1")):
        rig.outside("sell", price, size)
    rig.outside("buy", "49000", "0.1")
    bid, ask = rig.trading.funding.impact_prices("BTC")
    assert bid == 49_000, "all there is"
    rest = (20_000 - D(50_100) * D("0.2")) / 50_200
    assert ask == 20_000 / (D("0.2") + rest)
    assert rig.trading.funding.impact_prices("ETH") is None
    assert rig.trading.funding.premium("ETH") == 0


def test_premiums_are_averaged_over_the_interval(rig):
    rig.quote(50_101)
    at(rig, NEXT_HOUR - 2 * SAMPLE_MS)
    rig.quote(50_001)
    at(rig, NEXT_HOUR - SAMPLE_MS)
    assert rig.trading.funding.rate("BTC") == D("0.0000625"), "0.001 on average, clamped"
    at(rig, NEXT_HOUR)
    (paid,) = rig.trading.funding.history("BTC")
    assert paid.premium == D("0.0006666667")
    assert paid.time_ms == NEXT_HOUR


def test_position_remembers_what_funding_cost_it(rig):
    rig.buy_from_outside(rig.alice, 50_000, "0.2")
    at(rig, NEXT_HOUR)
    at(rig, NEXT_HOUR + HOUR_MS)
    rig.buy_from_outside(rig.alice, 50_000, "0.2")
    at(rig, NEXT_HOUR + 2 * HOUR_MS)
    told = messages.account_state(rig.trading.summary(rig.alice), 0)
    assert told["assetPositions"][0]["position"]["cumFunding"] == {
        "allTime": "0.5",
        "sinceOpen": "0.5",
        "sinceChange": "0.25",
    }
    rig.buy_from_outside(rig.alice, 50_000, "0.4", side="sell")
    rig.buy_from_outside(rig.alice, 50_000, "0.1")
    told = messages.account_state(rig.trading.summary(rig.alice), 0)
    assert told["assetPositions"][0]["position"]["cumFunding"] == {
        "allTime": "0.5",
        "sinceOpen": "0.0",
        "sinceChange": "0.0",
    }


def test_isolated_position_pays_out_of_its_own_margin(rig):
    rig.trading.set_leverage(rig.alice, 0, 10, is_cross=False)
    rig.buy_from_outside(rig.alice, 50_000, "0.2")
    before = rig.alice.balance
    at(rig, NEXT_HOUR)
    assert rig.alice.balance == before
    assert rig.alice.positions["BTC"].margin == D("999.875")
    assert rig.trading.clearing.imbalances() == {}


def test_funding_may_liquidate(rig):
    rig.trading.set_leverage(rig.alice, 0, 40)
    rig.buy_from_outside(rig.alice, 50_000, "7")
    rig.market.oracles["BTC"] = D(40_000)
    rig.quote(50_000)
    at(rig, NEXT_HOUR)
    payment = rig.tape.payments[0][1]
    assert payment.rate > D("0.02")
    assert payment.usdc == -(7 * 40_000 * payment.rate), "by the oracle, not by the mark"
    assert rig.alice.positions == {}
    assert rig.trading.clearing.imbalances() == {}


def test_interval_can_be_shorter_and_a_leap_pays_once():
    rig = TradingRig(funding_interval_ms=1_000)
    rig.market.oracles["BTC"] = D(50_000)
    rig.buy_from_outside(rig.alice, 50_000, "0.2")
    assert rig.trading.next_due_ns() == (START_MS + 1_000) * 1_000_000
    for _ in range(3):
        rig.later(1_000)
    assert len(rig.alice.payments) == 3
    rig.later(3_600_000)
    assert len(rig.alice.payments) == 4
    rig.later(1)
    assert len(rig.alice.payments) == 4
    with pytest.raises(ValueError, match="interval"):
        TradingRig(funding_interval_ms=0)


def test_position_that_turned_round_has_paid_nothing_yet(rig):
    rig.buy_from_outside(rig.alice, 50_000, "0.2")
    at(rig, NEXT_HOUR)
    assert rig.alice.positions["BTC"].funding_since_open == D("0.125")
    rig.buy_from_outside(rig.alice, 50_000, "0.3", side="sell")
    assert rig.alice.positions["BTC"].funding_since_open == 0
