"""Stops, take profits and their groups at the embedded exchange."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.trading_rig import ASSETS, TradingRig, order
from zq_daemon.venue.exchange import messages

D = Decimal
BAD = {"error": "Invalid TP/SL price."}


@pytest.fixture
def rig() -> TradingRig:
    rig = TradingRig()
    rig.quote(50_000)
    return rig


def live(rig, account) -> list[dict]:
    return [messages.frontend_order(each) for each in account.open_orders()]


def by_cloid(rig, account, cloid: int):
    found = rig.trading.orders.find(account.address, f"0x{cloid:032x}")
    assert found is not None
    return found


def bracket(rig, account, price="50000", size="0.1", **options):
    """A buy with a take profit (cloid 2) and a stop (cloid 3)."""
    return rig.place(
        account,
        order("buy", price, size, cloid=1, **options),
        order("sell", "51000", size, tp="51500", reduce_only=True, cloid=2),
        order("sell", "48000", size, sl="49000", reduce_only=True, cloid=3),
        grouping="normalTpsl",
    )


@pytest.mark.parametrize(
    ("side", "terms", "kind", "condition"),
    [
        ("sell", {"sl": "49000"}, "Stop Market", "Price below 49000"),
        ("buy", {"sl": "51000", "is_market": False}, "Stop Limit", "Price above 51000"),
        ("sell", {"tp": "51000"}, "Take Profit Market", "Price above 51000"),
        ("buy", {"tp": "49000", "is_market": False}, "Take Profit Limit", "Price below 49000"),
    ],
)
def test_trigger_order_rests_outside_the_book(rig, side, terms, kind, condition):
    oid = rig.rest(rig.alice, side, "50000", "0.1", **terms)
    (shown,) = live(rig, rig.alice)
    assert (shown["orderType"], shown["triggerCondition"]) == (kind, condition)
    assert shown["isTrigger"]
    assert not shown["isPositionTpsl"]
    assert shown["triggerPx"] == condition.split()[-1] + ".0"
    assert (shown["tif"], shown["oid"], shown["limitPx"]) == (None, oid, "50000.0")
    assert rig.market.books["BTC"].left(oid) is None
    assert rig.trading.cancel(rig.alice, 0, oid) == "success"
    assert rig.tape.statuses(oid) == ["open", "canceled"]


@pytest.mark.parametrize(
    ("side", "terms"),
    [
        ("sell", {"sl": "50000"}),
        ("sell", {"sl": "51000"}),
        ("buy", {"sl": "49000"}),
        ("sell", {"tp": "49000"}),
        ("buy", {"tp": "51000"}),
        ("sell", {"sl": "49000.5"}),
        ("sell", {"sl": "0"}),
        ("sell", {"sl": "x"}),
    ],
)
def test_trigger_that_is_reached_already_or_no_price_is_refused(rig, side, terms):
    assert rig.one(rig.alice, side, "50000", "0.1", **terms) == BAD
    assert live(rig, rig.alice) == []


def test_stop_is_set_off_by_the_mark_and_sells_to_the_book(rig):
    rig.buy_from_outside(rig.alice, 50_000, "0.1")
    oid = rig.rest(rig.alice, "sell", "48000", "0.1", sl="49000", reduce_only=True)
    rig.quote(49_001)
    assert rig.state(oid) == "open"
    rig.quote(49_000)
    assert rig.tape.statuses(oid) == ["open", "triggered", "filled"]
    assert rig.alice.fills[-1].price == 48_999
    assert rig.alice.positions == {}


def test_limit_that_was_triggered_rests_in_the_book(rig):
    oid = rig.rest(rig.alice, "buy", "50500", "0.1", sl="51000", is_market=False)
    rig.quote(51_000)
    assert rig.tape.statuses(oid) == ["open", "triggered", "open"]
    assert rig.market.books["BTC"].left(oid) == D("0.1")
    (shown,) = live(rig, rig.alice)
    assert shown["triggerCondition"] == "Triggered"
    rig.quote(52_000)
    assert rig.state(oid) == "open", "it fires once"


def test_market_order_without_anybody_to_trade_with_is_rejected(rig):
    rig.buy_from_outside(rig.alice, 50_000, "0.1")
    first = rig.rest(rig.alice, "sell", "48000", "0.1", sl="49000", reduce_only=True)
    second = rig.rest(rig.alice, "sell", "48000", "0.1", sl="48900", reduce_only=True)
    rig.clear()
    rig.outside("sell", "48950", "1")
    rig.trading.react()
    assert rig.state(first) == "marketOrderNoLiquidityRejected"
    rig.outside("buy", "47000", "1")
    rig.trading.react()
    assert rig.state(second) == "iocCancelRejected", "there is only worse than its limit"


def test_stop_is_cut_to_the_position_when_it_fires(rig):
    rig.buy_from_outside(rig.alice, 50_000, "0.1")
    oid = rig.rest(rig.alice, "sell", "48000", "5", sl="49000", reduce_only=True)
    rig.buy_from_outside(rig.alice, 50_000, "0.2")
    rig.quote(48_500)
    assert rig.state(oid) == "filled"
    assert rig.alice.fills[-1].size == D("0.3")
    assert rig.alice.positions == {}


def test_reduce_only_trigger_needs_a_position_and_goes_with_it(rig):
    refused = {"error": "Reduce only order would increase position."}
    stop = {"sl": "49000", "reduce_only": True}
    assert rig.one(rig.alice, "sell", "48000", "0.1", **stop) == refused
    rig.buy_from_outside(rig.alice, 50_000, "0.1")
    oid = rig.rest(rig.alice, "sell", "48000", "0.1", **stop)
    rig.buy_from_outside(rig.alice, 50_000, "0.1", side="sell")
    assert rig.state(oid) == "reduceOnlyCanceled"


def test_entry_that_the_margin_no_longer_carries_is_rejected_when_it_fires(rig):
    oid = rig.rest(rig.alice, "buy", "52000", "3.8", sl="51000")
    rig.buy_from_outside(rig.alice, 50_000, "1")
    rig.quote(51_000)
    assert rig.tape.statuses(oid) == ["open", "triggered", "perpMarginRejected"]


def test_one_trigger_may_set_off_another(rig):
    rig.buy_from_outside(rig.alice, 50_000, "0.1")
    rig.buy_from_outside(rig.bob, 50_000, "0.1")
    rig.clear()
    rig.outside("buy", "49000", "0.1")
    rig.outside("buy", "47500", "0.1")
    rig.outside("sell", "49100", "1")
    near = rig.rest(rig.alice, "sell", "40000", "0.1", sl="49040", reduce_only=True)
    far = rig.rest(rig.bob, "sell", "40000", "0.1", sl="48500", reduce_only=True)
    rig.outside("sell", "49060", "1")
    rig.trading.react()
    assert (rig.state(near), rig.state(far)) == ("filled", "filled")


def test_children_wait_for_the_fill_of_their_parent(rig):
    statuses = bracket(rig, rig.alice, price="49500")
    assert "resting" in statuses[0]
    assert statuses[1:] == ["waitingForFill", "waitingForFill"]
    (shown,) = live(rig, rig.alice)
    assert [child["orderType"] for child in shown["children"]] == [
        "Take Profit Market",
        "Stop Market",
    ]
    assert rig.tape.statuses(by_cloid(rig, rig.alice, 2).oid) == []
    rig.outside("sell", "49500", "0.04", take=True)
    assert by_cloid(rig, rig.alice, 2).is_waiting, "a part is not all"
    rig.outside("sell", "49500", "0.06", take=True)
    rig.trading.react()
    assert [each["orderType"] for each in live(rig, rig.alice)] == [
        "Take Profit Market",
        "Stop Market",
    ]
    rig.quote(51_600)
    assert by_cloid(rig, rig.alice, 2).status == "filled"
    assert by_cloid(rig, rig.alice, 3).status == "siblingFilledCanceled"
    assert rig.alice.positions == {}


def test_children_of_a_parent_that_fills_at_once_wait_for_the_mark(rig):
    statuses = bracket(rig, rig.alice, price="50001")
    assert "filled" in statuses[0]
    assert statuses[1:] == ["waitingForTrigger", "waitingForTrigger"]
    rig.quote(48_900)
    assert by_cloid(rig, rig.alice, 3).status == "filled"
    assert by_cloid(rig, rig.alice, 2).status == "siblingFilledCanceled"


def test_children_of_an_immediate_parent_have_the_size_it_got(rig):
    rig.clear()
    rig.outside("sell", "50000", "0.03")
    rig.outside("buy", "49900", "1")
    statuses = bracket(rig, rig.alice, price="50000", tif="Ioc")
    assert statuses[0]["filled"]["totalSz"] == "0.03"
    assert statuses[1:] == ["waitingForTrigger"] * 2
    assert by_cloid(rig, rig.alice, 3).left == D("0.03")


def test_children_go_with_a_parent_that_is_cancelled(rig):
    statuses = bracket(rig, rig.alice, price="49500")
    rig.outside("sell", "49500", "0.04", take=True)
    rig.trading.cancel(rig.alice, 0, statuses[0]["resting"]["oid"])
    assert [by_cloid(rig, rig.alice, each).status for each in (1, 2, 3)] == ["canceled"] * 3
    assert rig.alice.orders == {}


def test_children_of_a_parent_that_never_entered_share_its_error(rig):
    statuses = bracket(rig, rig.alice, price="50100", tif="Alo")
    assert "Post only" in statuses[0]["error"]
    assert statuses == [statuses[0]] * 3
    assert rig.alice.orders == {}
    assert bracket(rig, rig.bob, size="90")[0] == {"error": "Insufficient margin to place order."}


def test_child_can_be_cancelled_and_replaced_before_the_parent_fills(rig):
    bracket(rig, rig.alice, price="49500")
    profit, stop = (by_cloid(rig, rig.alice, each) for each in (2, 3))
    assert rig.trading.cancel(rig.alice, 0, profit.oid) == "success"
    assert len(live(rig, rig.alice)[0]["children"]) == 1
    new = order("sell", "47000", "0.1", sl="48000", reduce_only=True, cloid=3)
    assert rig.trading.modify(rig.alice, stop.oid, new) == "waitingForFill"
    assert rig.trading.modify(rig.alice, f"0x{3:032x}", order("sell", "47000", "0.1")) == {
        "error": "TP/SL orders must be reduce only."
    }
    rig.quote(49_400)
    rig.trading.react()
    rig.outside("sell", "49500", "0.1", take=True)
    (left,) = live(rig, rig.alice)
    assert (left["triggerPx"], left["cloid"]) == ("48000.0", f"0x{3:032x}")


def test_replaced_parent_keeps_its_children_and_a_replaced_child_its_sibling(rig):
    oid = bracket(rig, rig.alice, price="49500")[0]["resting"]["oid"]
    status = rig.trading.modify(rig.alice, oid, order("buy", "50001", "0.1", cloid=1))
    assert "filled" in status
    stop = by_cloid(rig, rig.alice, 3)
    assert stop.is_armed
    new = order("sell", "47000", "0.1", sl="48000", reduce_only=True, cloid=3)
    assert "resting" in rig.trading.modify(rig.alice, stop.oid, new)
    rig.quote(51_600)
    assert by_cloid(rig, rig.alice, 3).status == "siblingFilledCanceled"


@pytest.mark.parametrize(
    "orders",
    [
        [order("buy", "50000", "0.1")],
        [order("buy", "50000", "0.1"), order("sell", "51000", "0.1", reduce_only=True)],
        [order("buy", "50000", "0.1", sl="52000"), order("sell", "49000", "0.1", sl="49000")],
        [order("buy", "50000", "0.1"), order("sell", "900", "1", coin="ETH", sl="900")],
        [order("buy", "50000", "0.1"), *[order("sell", "49000", "0.1", sl="49000")] * 3],
    ],
)
def test_group_of_another_shape_is_refused_whole(rig, orders):
    statuses = rig.place(rig.alice, *orders, grouping="normalTpsl")
    assert statuses == [{"error": "Invalid TP/SL grouping."}] * len(orders)
    assert rig.alice.orders == {}


def test_exit_that_is_not_reduce_only_refuses_its_group(rig):
    orders = [order("buy", "50000", "0.1"), order("sell", "49000", "0.1", sl="49000")]
    statuses = rig.place(rig.alice, *orders, grouping="normalTpsl")
    assert statuses == [{"error": "TP/SL orders must be reduce only."}] * 2


def test_exits_must_lie_on_their_side_of_the_parents_price(rig):
    for terms in ({"tp": "49000"}, {"sl": "49600"}):
        statuses = rig.place(
            rig.alice,
            order("buy", "49500", "0.1"),
            order("sell", "49000", "0.1", reduce_only=True, **terms),
            grouping="normalTpsl",
        )
        assert statuses == [BAD, BAD]
    same = order("buy", "52000", "0.1", reduce_only=True, sl="52000")
    statuses = rig.place(rig.alice, order("buy", "49500", "0.1"), same, grouping="normalTpsl")
    assert statuses == [{"error": "Reduce only order would increase position."}] * 2


@pytest.mark.parametrize(
    ("terms", "fits"),
    [
        ({"tp": "50500"}, True),
        ({"sl": "49900"}, True),
        ({"tp": "49900"}, False),
        ({"sl": "50500"}, False),
    ],
)
def test_exits_of_an_entry_that_trades_at_once_are_measured_at_the_mark(rig, terms, fits):
    statuses = rig.place(
        rig.alice,
        order("buy", "52000", "0.1", tif="Ioc"),
        order("sell", "49000", "0.1", reduce_only=True, **terms),
        grouping="normalTpsl",
    )
    assert (statuses == [BAD, BAD]) is not fits
    assert bool(rig.alice.positions) is fits


def test_exits_of_a_position_follow_its_size_and_go_with_it(rig):
    exits = [
        order("sell", "51000", "0", tp="51500", reduce_only=True, cloid=2),
        order("sell", "48000", "0", sl="49000", reduce_only=True, cloid=3),
    ]
    refused = {"error": "Reduce only order would increase position."}
    assert rig.place(rig.alice, *exits, grouping="positionTpsl") == [refused] * 2
    rig.buy_from_outside(rig.alice, 50_000, "0.1")
    exits = [
        order("sell", "51000", "0", tp="51500", reduce_only=True, cloid=4),
        order("sell", "48000", "0", sl="49000", reduce_only=True, cloid=5),
    ]
    assert rig.place(rig.alice, *exits, grouping="positionTpsl") == ["waitingForTrigger"] * 2
    assert all(each["isPositionTpsl"] for each in live(rig, rig.alice))
    rig.buy_from_outside(rig.alice, 50_000, "0.2")
    assert [each["sz"] for each in live(rig, rig.alice)] == ["0.3", "0.3"]
    rig.quote(48_900)
    assert by_cloid(rig, rig.alice, 5).status == "filled"
    assert by_cloid(rig, rig.alice, 4).status == "siblingFilledCanceled"
    assert rig.alice.positions == {}


def test_exits_of_a_position_are_cancelled_when_it_turns_round(rig):
    rig.buy_from_outside(rig.alice, 50_000, "0.1")
    stop = order("sell", "48000", "0", sl="49000", reduce_only=True, cloid=5)
    rig.place(rig.alice, stop, grouping="positionTpsl")
    rig.buy_from_outside(rig.alice, 50_000, "0.3", side="sell")
    assert by_cloid(rig, rig.alice, 5).status == "reduceOnlyCanceled"


def test_exits_of_an_entry_that_only_reduced_are_not_kept(rig):
    rig.buy_from_outside(rig.alice, 50_000, "0.5", side="sell")
    statuses = bracket(rig, rig.alice, price="50001")
    assert "filled" in statuses[0]
    assert statuses[1:] == ["waitingForTrigger"] * 2
    assert by_cloid(rig, rig.alice, 2).status == "reduceOnlyCanceled"


def test_client_order_ids_of_a_group_are_new_and_different(rig):
    twice = [
        order("buy", "50000", "0.1", cloid=1),
        order("sell", "49000", "0.1", sl="49000", reduce_only=True, cloid=1),
    ]
    statuses = rig.place(rig.alice, *twice, grouping="normalTpsl")
    assert all("Duplicate" in status["error"] for status in statuses)


def test_asset_of_a_trigger_order_cannot_be_changed(rig):
    oid = rig.rest(rig.alice, "sell", "50000", "0.1", sl="49000")
    assert ASSETS["ETH"] == 3
    status = rig.trading.modify(rig.alice, oid, order("sell", "900", "1", coin="ETH", sl="900"))
    assert status == {"error": "Cannot modify the asset of an order"}


def test_children_wait_on_when_another_position_in_the_coin_ends(rig):
    bracket(rig, rig.alice, price="49500")
    rig.buy_from_outside(rig.alice, 50_000, "0.1")
    rig.buy_from_outside(rig.alice, 50_000, "0.1", side="sell")
    children = [by_cloid(rig, rig.alice, each) for each in (2, 3)]
    assert [child.oid in rig.alice.orders for child in children] == [True, True]
    assert all(child.is_waiting for child in children)
