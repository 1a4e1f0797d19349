"""What the exchange does wrong on purpose, as far as no connection is needed."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.exchange_rig import Rig
from zq_daemon.venue.exchange.faults import Faults, Misbehaviour
from zq_daemon.venue.exchange.trading import GONE

REFUSED = {"error": GONE}


@pytest.fixture
def rig() -> Rig:
    return Rig()


def resting(rig: Rig, count: int) -> list[int]:
    """Bids of alice, one price each; the first of *count* has no client order id."""
    terms = [{}, *({"cloid": number} for number in range(1, count))]
    return [
        rig.rest(rig.alice, "buy", str(49_000 - number), "0.01", **each)
        for number, each in enumerate(terms)
    ]


def cancel(rig: Rig, *oids: int) -> list:
    return rig.statuses(
        rig.alice, {"type": "cancel", "cancels": [{"a": 0, "o": oid} for oid in oids]}
    )


def cancel_by_cloid(rig: Rig, *cloids: int) -> list:
    cancels = [{"asset": 0, "cloid": f"0x{cloid:032x}"} for cloid in cloids]
    return rig.statuses(rig.alice, {"type": "cancelByCloid", "cancels": cancels})


def live(rig: Rig) -> list[int]:
    return [order["oid"] for order in rig.info("openOrders", user=rig.alice.address)]


def test_nothing_is_wrong_by_default(rig):
    oids = resting(rig, 3)
    assert cancel(rig, *oids) == ["success"] * 3


def test_the_first_orders_refuse_to_be_cancelled_each_time(rig):
    first, second, third = resting(rig, 3)
    rig.exchange.faults = Faults(refuse_cancel_count=2)
    assert cancel(rig, second) == [REFUSED]
    assert cancel_by_cloid(rig, 1, 2) == [REFUSED, REFUSED], "of whatever kind the cancel is"
    assert cancel(rig, first) == ["success"]
    assert live(rig) == [second, third]
    rig.exchange.faults = Faults()
    assert cancel(rig, second, third) == ["success"] * 2


def test_an_order_that_refuses_still_does_when_it_was_modified(rig):
    (_, oid) = resting(rig, 2)
    rig.exchange.faults = Faults(refuse_cancel_count=1)
    assert cancel(rig, oid) == [REFUSED]
    order = {"a": 0, "b": True, "p": "48000", "s": "0.02", "r": False}
    order |= {"t": {"limit": {"tif": "Gtc"}}, "c": f"0x{1:032x}"}
    modifies = [{"oid": oid, "order": order}]
    (status,) = rig.statuses(rig.alice, {"type": "batchModify", "modifies": modifies})
    new = status["resting"]["oid"]
    assert new != oid
    assert cancel(rig, new) == [REFUSED]


def test_what_does_not_live_is_no_order_that_refuses(rig):
    (oid,) = resting(rig, 1)
    rig.exchange.faults = Faults(refuse_cancel_count=1)
    assert cancel(rig, 5, 6) == [REFUSED] * 2
    assert cancel(rig, oid) == [REFUSED]
    assert live(rig) == [oid]


def test_orders_are_filled_as_their_cancel_arrives(rig):
    first, second, third, fourth = resting(rig, 4)
    rig.exchange.faults = Faults(refuse_cancel_count=1, fill_on_cancel_count=2)
    heard = rig.listen({"type": "userFills", "user": rig.alice.address})
    heard.heard()
    assert cancel(rig, first, second, third, fourth) == [REFUSED, REFUSED, REFUSED, "success"]
    assert live(rig) == [first]
    fills = rig.info("userFillsByTime", user=rig.alice.address, startTime=0)
    assert [(fill["oid"], fill["px"], fill["sz"]) for fill in fills] == [
        (second, "48999.0", "0.01"),
        (third, "48998.0", "0.01"),
    ]
    assert not any(fill["crossed"] for fill in fills)
    assert [each["fills"] for each in heard.heard("userFills")] == [[fills[0]], [fills[1]]]
    state = rig.info("clearinghouseState", user=rig.alice.address)
    assert state["assetPositions"][0]["position"]["szi"] == "0.02"
    for oid in (second, third):
        status = rig.info("orderStatus", user=rig.alice.address, oid=oid)
        assert status["order"]["status"] == "filled"


def test_a_part_filled_order_is_filled_by_its_rest(rig):
    (oid,) = resting(rig, 1)
    rig.place(rig.bob, "sell", "49000", "0.004")
    rig.exchange.faults = Faults(fill_on_cancel_count=1)
    assert cancel(rig, oid) == [REFUSED]
    fills = rig.info("userFillsByTime", user=rig.alice.address, startTime=0)
    assert [fill["sz"] for fill in fills] == ["0.004", "0.006"]


def test_a_number_of_queries_about_orders_find_nothing(rig):
    oid, _ = resting(rig, 2)
    rig.exchange.faults = Faults(forget_order_count=2)

    def status(of: int | str) -> str:
        return rig.info("orderStatus", user=rig.alice.address, oid=of)["status"]

    asked = [oid, 1, f"0x{1:032x}", oid]
    assert [status(each) for each in asked] == ["unknownOid"] * 3 + ["order"]
    rig.exchange.faults = Faults(forget_orders=True)
    assert [status(oid) for _ in range(3)] == ["unknownOid"] * 3


def test_a_late_cancel_has_no_effect_before_its_time(rig):
    first, second = resting(rig, 2)
    rig.exchange.faults = Faults(cancel_latency_ms=250)
    answers: list = []
    for oid in (first, second):
        action = {"type": "cancel", "cancels": [{"a": 0, "o": oid}]}
        rig.exchange.post_action(rig.envelope(rig.alice, action), answers.append)
        rig.clock.advance_ms(100)
    rig.exchange.step(rig.clock.ns)
    assert (answers, live(rig)) == ([], [first, second])
    assert rig.exchange.next_due_ns() == rig.clock.ns + 50_000_000
    rig.place(rig.bob, "sell", "49000", "0.01")
    rig.clock.advance_ms(50)
    rig.exchange.step(rig.clock.ns)
    assert [each["response"]["data"]["statuses"] for each in answers] == [[REFUSED]]
    rig.exchange.faults = Faults()
    rig.clock.advance_ms(100)
    rig.exchange.step(rig.clock.ns)
    assert answers[1]["response"]["data"]["statuses"] == ["success"]
    assert live(rig) == []


def test_late_cancels_keep_their_order_when_the_latency_changes(rig):
    first, second = resting(rig, 2)
    answers: list = []
    for oid, latency in ((first, 300), (second, 100)):
        rig.exchange.faults = Faults(cancel_latency_ms=latency)
        action = {"type": "cancel", "cancels": [{"a": 0, "o": oid}]}
        rig.exchange.post_action(
            rig.envelope(rig.alice, action), lambda _, o=oid: answers.append(o)
        )
    rig.clock.advance_ms(1_000)
    rig.exchange.step(rig.clock.ns)
    assert answers == [second, first]


def test_only_cancels_are_late(rig):
    rig.exchange.faults = Faults(cancel_latency_ms=250)
    answers: list = []
    rig.exchange.post_action(rig.envelope(rig.alice, {"type": "noop"}), answers.append)
    cancels = {"type": "cancel", "cancels": [{"a": 0, "o": 5}]}
    rig.exchange.post_action(rig.envelope(rig.alice, cancels, nonce=1), answers.append)
    assert [each["status"] for each in answers] == ["ok", "err"], "a refusal is not executed"


def test_private_messages_can_be_lost_but_for_the_snapshot(rig):
    user = rig.alice.address
    rig.exchange.faults = Faults(drop_private=True)
    heard = rig.listen(*({"type": kind, "user": user} for kind in ("orderUpdates", "userFills")))
    public = rig.listen({"type": "trades", "coin": "BTC"})
    rig.rest(rig.alice, "buy", "49000", "0.01")
    rig.place(rig.bob, "sell", "49000", "0.01")
    assert [each["channel"] for each in heard.heard()] == ["subscriptionResponse"] * 2 + [
        "userFills"
    ]
    assert len(public.heard("trades")) == 1
    again = rig.listen({"type": "userFills", "user": user})
    (snapshot,) = again.heard("userFills")
    assert len(snapshot["fills"]) == 1


@pytest.mark.parametrize(
    ("cut_action", "cut"),
    [
        ("order", ["order"]),
        ("cancel", ["cancel", "cancelByCloid"]),
        ("modify", ["modify", "batchModify"]),
        ("any", ["order", "cancel", "cancelByCloid", "modify", "batchModify", "noop"]),
    ],
)
def test_cuts_count_the_actions_they_are_for(cut_action, cut):
    every = ["order", "cancel", "cancelByCloid", "modify", "batchModify", "noop", ""]
    for action in every:
        faults = Faults(cut_before_execute=1, cut_after_execute=2, cut_action=cut_action)
        misbehaviour = Misbehaviour(faults)
        expected = action in cut
        assert [misbehaviour.cuts_before(action) for _ in range(2)] == [expected, False]
        assert [misbehaviour.cuts_after(action) for _ in range(3)] == [expected, expected, False]


@pytest.mark.parametrize("name", ["reply_latency_ms", "cut_before_execute", "forget_order_count"])
def test_a_count_or_latency_is_not_negative(name):
    with pytest.raises(ValueError, match=name):
        Faults(**{name: -1})


@pytest.mark.parametrize("code", [999, 1004, 1005, 1006, 1015, 2999, 5000])
def test_a_close_code_can_be_sent(code):
    with pytest.raises(ValueError, match=f"close_code: {code} is no code"):
        Faults(close_code=code)


@pytest.mark.parametrize(
    ("name", "value"),
    [("http_error", 200), ("http_error_share", "1.1"), ("drop_private_share", "-0.1")],
)
def test_an_error_is_an_error_and_a_share_is_a_share(name, value):
    with pytest.raises(ValueError, match=name):
        Faults(**{name: value if isinstance(value, int) else Decimal(value)})


def test_only_post_only_orders_for_a_time_after_an_upgrade(rig):
    oid = rig.rest(rig.alice, "buy", "49000", "0.01")
    rig.exchange.faults = Faults(post_only_ms=5_000)
    refused = {"error": "Only post-only orders allowed immediately after a network upgrade"}
    assert rig.place(rig.alice, "buy", "49000", "0.01") == refused
    assert rig.place(rig.alice, "buy", "49000", "0.01", tif="Ioc") == refused
    change = {"a": 0, "b": True, "p": "48000", "s": "0.01", "r": False}
    change["t"] = {"limit": {"tif": "Gtc"}}
    modifies = [{"oid": oid, "order": change}]
    assert rig.statuses(rig.alice, {"type": "batchModify", "modifies": modifies}) == [refused]
    assert "resting" in rig.place(rig.alice, "buy", "49000", "0.01", tif="Alo")
    rig.clock.advance_ms(4_999)
    assert rig.place(rig.alice, "buy", "49000", "0.01") == refused
    assert cancel(rig, oid) == ["success"], "what is there can be cancelled"
    rig.clock.advance_ms(1)
    assert "resting" in rig.place(rig.alice, "buy", "49000", "0.01")


@pytest.mark.parametrize("skew_ms", [-90_000, 90_000])
def test_the_exchanges_clock_is_wrong_in_what_it_judges_and_tells(rig, skew_ms):
    true_ms = rig.clock.ns // 1_000_000
    rig.exchange.faults = Faults(clock_skew_ms=skew_ms)
    heard = rig.listen({"type": "l2Book", "coin": "BTC"})
    rig.exchange.step(rig.clock.ns)
    assert {book["time"] for book in heard.heard("l2Book")} == {true_ms + skew_ms}
    oid = rig.rest(rig.alice, "buy", "49000", "0.01")
    status = rig.info("orderStatus", user=rig.alice.address, oid=oid)
    assert status["order"]["order"]["timestamp"] == true_ms + skew_ms
    assert rig.info("exchangeStatus")["time"] == true_ms + skew_ms
    answer = rig.send(rig.alice, {"type": "noop"}, expires=true_ms + 10_000)
    assert answer["status"] == ("ok" if skew_ms < 0 else "err")
    assert rig.exchange.next_due_ns() - rig.clock.ns <= 500_000_000, "time itself goes on"
