"""Rate limits: weights by place of origin, budgets by account, and nothing while they are off."""

from __future__ import annotations

import pytest

from tests.unit.exchange_rig import Rig, wire_order
from zq_daemon.venue.exchange import limits as module
from zq_daemon.venue.exchange.limits import (
    Bucket,
    Meter,
    RateLimits,
    TooMany,
    action_weight,
    query_weight,
)

NOOP = {"type": "noop"}


def orders(count: int) -> dict:
    return {"type": "order", "orders": [wire_order("buy", "50000", "0.001")] * count}


def limited(**numbers: int) -> Rig:
    return Rig(rate_limits=RateLimits(**numbers))


def test_weights_are_the_documented_ones():
    assert [query_weight({"type": kind}) for kind in ("l2Book", "userRole", "meta")] == [2, 60, 20]
    assert [query_weight(other) for other in (None, {}, {"type": []}, {"type": "?"})] == [20] * 4
    assert [action_weight(orders(count)) for count in (1, 39, 40, 79, 80)] == [1, 1, 2, 2, 3]
    assert action_weight({"type": "order", "orders": "all"}) == 1
    assert action_weight({"type": ["order"]}) == 1


def test_a_bucket_flows_back_evenly():
    bucket = Bucket(60)
    assert bucket.take(60, 0)
    assert not bucket.take(1, 999_999_999)
    assert bucket.take(1, 1_000_000_000)
    assert not bucket.take(61, 10**12)
    assert bucket.take(60, 10**12)
    bucket.owe(60, 10**12)
    assert not bucket.take(1, 10**12 + 60 * 10**9)
    assert bucket.take(1, 10**12 + 61 * 10**9)


def test_places_are_weighed_apart_and_only_where_limits_are_in_force():
    rig = limited(weight_per_minute=40)
    query = {"type": "meta"}
    for _ in range(2):
        rig.exchange.info(query, "here")
    with pytest.raises(TooMany):
        rig.exchange.info(query, "here")
    with pytest.raises(TooMany):
        rig.exchange.action(rig.envelope(rig.alice, NOOP), "here")
    rig.exchange.info(query, "there")
    rig.clock.advance_ms(30_000)
    rig.exchange.info(query, "here")
    free = Rig()
    for _ in range(1_000):
        free.exchange.info(query, "here")


def test_long_answers_weigh_more():
    rig = limited(weight_per_minute=40)
    for number in range(40):
        oid = rig.rest(rig.alice, "buy", str(40_000 + number), "0.01")
        rig.cancel(rig.alice, oid)
        rig.clock.advance_ms(60_000)
    rig.exchange.info({"type": "historicalOrders", "user": rig.alice.address}, "here")
    rig.exchange.info({"type": "l2Book", "coin": "BTC"}, "here")
    for _ in range(8):
        rig.exchange.info({"type": "l2Book", "coin": "BTC"}, "here")
    with pytest.raises(TooMany):
        rig.exchange.info({"type": "l2Book", "coin": "BTC"}, "here")


def test_places_are_forgotten_beyond_a_bound(monkeypatch):
    monkeypatch.setattr(module, "MAX_PLACES", 2)
    meter = Meter(RateLimits(weight_per_minute=1))
    for place in ("a", "b", "c"):
        meter.weigh(place, 1, 0)
    with pytest.raises(TooMany):
        meter.weigh("b", 1, 0)
    meter.weigh("a", 1, 0)


def test_an_account_that_is_spent_may_act_every_ten_seconds_and_cancel_more():
    rig = limited(requests=3)
    oid = rig.rest(rig.alice, "buy", "40000", "0.01")
    rig.rest(rig.alice, "buy", "40001", "0.01")
    assert rig.send(rig.alice, orders(2))["response"] == (
        "Too many cumulative requests sent (4 > 3) for cumulative volume traded $0.00. "
        "Place taker orders to free up 1 request per USDC traded."
    )
    assert rig.cancel(rig.alice, oid) == "success"
    assert rig.send(rig.alice, NOOP)["status"] == "err"
    rig.clock.advance_ms(10_000)
    assert rig.send(rig.alice, NOOP)["status"] == "ok"
    assert rig.send(rig.alice, NOOP)["status"] == "err"
    assert rig.send(rig.bob, NOOP)["status"] == "ok"


def test_trading_earns_requests_and_the_query_tells_the_truth():
    rig = limited(requests=3)
    rig.rest(rig.alice, "sell", "50000", "0.01")
    rig.place(rig.bob, "buy", "50000", "0.01")
    for _ in range(5):
        assert rig.send(rig.bob, NOOP)["status"] == "ok"
    told = rig.info("userRateLimit", user=rig.bob.address)
    assert told == {"cumVlm": "500.0", "nRequestsUsed": 6, "nRequestsCap": 503}


def test_requests_are_counted_while_nothing_is_refused():
    rig = Rig()
    rig.send(rig.alice, orders(7))
    told = rig.info("userRateLimit", user=rig.alice.address)
    assert (told["nRequestsUsed"], told["nRequestsCap"]) == (7, 10_000)
