"""The dead man's switch: when it may be set, what it cancels, and how often."""

from __future__ import annotations

import pytest

from tests.unit.exchange_rig import START_NS, Rig

NOW_MS = START_NS // 1_000_000
OK = {"status": "ok", "response": {"type": "default"}}
DAY_MS = 86_400_000


@pytest.fixture
def rig() -> Rig:
    return Rig()


def schedule(rig: Rig, time_ms: int | None = None):
    action = {"type": "scheduleCancel"} | ({} if time_ms is None else {"time": time_ms})
    return rig.send(rig.alice, action)


def step(rig: Rig, ms: int) -> None:
    rig.clock.advance_ms(ms)
    rig.exchange.step(rig.clock.ns)


def test_everything_of_the_account_is_cancelled_at_the_time(rig):
    rig.exchange.step(rig.clock.ns)
    oids = [rig.rest(rig.alice, "buy", price, "0.01") for price in ("40000", "40001")]
    other = rig.rest(rig.bob, "buy", "40002", "0.01")
    assert schedule(rig, NOW_MS + 5_000) == OK
    hearing = rig.listen({"type": "orderUpdates", "user": rig.alice.address})
    step(rig, 4_999)
    assert len(rig.info("openOrders", user=rig.alice.address)) == 2
    assert rig.exchange.next_due_ns() <= rig.clock.ns + 1_000_000
    step(rig, 1)
    assert rig.info("openOrders", user=rig.alice.address) == []
    assert rig.info("openOrders", user=rig.bob.address)[0]["oid"] == other
    (updates,) = hearing.heard("orderUpdates")
    assert [(each["order"]["oid"], each["status"]) for each in updates] == [
        (oid, "scheduledCancel") for oid in oids
    ]


def test_it_comes_once_and_not_when_it_was_cleared_or_put_off(rig):
    schedule(rig, NOW_MS + 5_000)
    assert schedule(rig) == OK
    rig.rest(rig.alice, "buy", "40000", "0.01")
    step(rig, 5_000)
    assert len(rig.info("openOrders", user=rig.alice.address)) == 1
    schedule(rig, NOW_MS + 10_000)
    schedule(rig, NOW_MS + 20_000)
    step(rig, 10_000)
    assert len(rig.info("openOrders", user=rig.alice.address)) == 1
    step(rig, 5_000)
    assert rig.info("openOrders", user=rig.alice.address) == []
    rig.rest(rig.alice, "buy", "40000", "0.01")
    step(rig, 60_000)
    assert len(rig.info("openOrders", user=rig.alice.address)) == 1


def test_a_time_too_near_is_refused(rig):
    text = "Scheduled cancel time too early, must be at least 5 seconds from now."
    for time_ms in (NOW_MS + 4_999, NOW_MS, 0):
        assert schedule(rig, time_ms) == {"status": "err", "response": text}


def test_it_comes_ten_times_a_day_at_most(rig):
    rig.clock.ns -= rig.clock.ns % (DAY_MS * 1_000_000)
    for _ in range(10):
        assert schedule(rig, rig.clock.ns // 1_000_000 + 5_000) == OK
        step(rig, 5_000)
    late = rig.clock.ns // 1_000_000 + 5_000
    assert schedule(rig, late)["response"].startswith("Scheduled cancel triggered 10 times")
    assert schedule(rig) == OK
    step(rig, DAY_MS - 50_000)
    assert schedule(rig, rig.clock.ns // 1_000_000 + 5_000) == OK
