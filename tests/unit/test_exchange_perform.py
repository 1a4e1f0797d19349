"""Batches: statuses in the order asked for, empty ones, and groups in the post-only mode."""

from __future__ import annotations

import pytest

from tests.unit.exchange_rig import Rig, wire_order
from zq_daemon.venue.exchange.faults import POST_ONLY_TEXT, Faults


@pytest.fixture
def rig() -> Rig:
    return Rig()


def order(*orders: dict, grouping: object = "na") -> dict:
    return {"type": "order", "orders": list(orders), "grouping": grouping}


def stop(price: str) -> dict:
    terms = {"trigger": {"isMarket": True, "triggerPx": price, "tpsl": "sl"}}
    return wire_order("sell", price, "0.01", reduce_only=True) | {"t": terms}


def test_an_empty_batch_is_refused_as_a_whole(rig):
    assert rig.send(rig.alice, order())["status"] == "err"
    for kind, field in (("cancel", "cancels"), ("cancelByCloid", "cancels")):
        assert rig.statuses(rig.alice, {"type": kind, field: []}) == []


def test_statuses_come_in_the_order_asked_for_when_some_are_refused(rig):
    rig.exchange.faults = Faults(post_only_ms=1_000)
    resting, refused = {"tif": "Alo"}, {"tif": "Gtc"}
    orders = [
        wire_order("buy", "50000", "0.01", **terms)
        for terms in (refused, resting, refused, resting)
    ]
    statuses = rig.statuses(rig.alice, order(*orders))
    assert [list(status) for status in statuses] == [["error"], ["resting"]] * 2
    assert statuses[0] == {"error": POST_ONLY_TEXT}
    rig.clock.advance_ms(1_000)
    assert "resting" in rig.statuses(rig.alice, order(orders[0]))[0]


def test_a_group_is_let_in_whole_or_not_at_all(rig):
    rig.exchange.faults = Faults(post_only_ms=1_000)
    parent = wire_order("buy", "50000", "0.01", tif="Alo")
    group = order(parent, stop("40000"), grouping="normalTpsl")
    assert rig.statuses(rig.alice, group) == [{"error": POST_ONLY_TEXT}] * 2
    assert rig.info("openOrders", user=rig.alice.address) == []
    rig.exchange.faults = Faults()
    first, second = rig.statuses(rig.alice, group)
    assert ("resting" in first, second) == (True, "waitingForFill")


def test_a_priority_is_no_grouping(rig):
    (status,) = rig.statuses(
        rig.alice, order(wire_order("buy", "50000", "0.01"), grouping={"p": 9})
    )
    assert "resting" in status
