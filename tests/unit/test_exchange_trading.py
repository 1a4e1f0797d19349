"""Orders at the embedded exchange: checks, matching, statuses, accounts."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.exchange_rig import Rig, StillMarket, wire_order
from zq_daemon.venue.exchange.orders import OrderStore
from zq_daemon.venue.exchange.trading import GONE


@pytest.fixture
def rig() -> Rig:
    return Rig()


def state(rig: Rig, user) -> dict:
    return rig.info("clearinghouseState", user=user.address)


def position(rig: Rig, user, coin: str = "BTC") -> dict | None:
    held = [each["position"] for each in state(rig, user)["assetPositions"]]
    return next((each for each in held if each["coin"] == coin), None)


def status_of(rig: Rig, user, oid) -> dict:
    return rig.info("orderStatus", user=user.address, oid=oid)


def test_order_rests_is_filled_and_books_both_accounts(rig):
    oid = rig.rest(rig.alice, "sell", "50000", "0.02", cloid=1)
    status = rig.place(rig.bob, "buy", "50100", "0.03", cloid=2)
    assert "resting" in status, "a part of it rests"
    assert status_of(rig, rig.alice, oid)["order"]["status"] == "filled"
    assert position(rig, rig.alice)["szi"] == "-0.02"
    assert position(rig, rig.bob)["entryPx"] == "50000.0"
    (maker_fill,) = rig.info("userFills", user=rig.alice.address)
    (taker_fill,) = rig.info("userFills", user=rig.bob.address)
    assert maker_fill["fee"] == "0.15"
    assert taker_fill["fee"] == "0.45"
    assert (maker_fill["crossed"], taker_fill["crossed"]) == (False, True)
    assert maker_fill["tid"] == taker_fill["tid"]
    assert (maker_fill["dir"], taker_fill["dir"]) == ("Open Short", "Open Long")
    (left,) = rig.info("openOrders", user=rig.bob.address)
    assert (left["sz"], left["origSz"], left["cloid"]) == ("0.01", "0.03", f"0x{2:032x}")


def test_filled_at_once_tells_the_average_price(rig):
    rig.rest(rig.alice, "sell", "50000", "0.01")
    rig.rest(rig.alice, "sell", "50010", "0.01")
    status = rig.place(rig.bob, "buy", "50010", "0.02", cloid=7)
    filled = status["filled"]
    assert (filled["totalSz"], filled["avgPx"], filled["cloid"]) == (
        "0.02",
        "50005.0",
        f"0x{7:032x}",
    )


@pytest.mark.parametrize(
    ("terms", "error"),
    [
        (("buy", "50000.1", "0.01"), "Price must be divisible by tick size."),
        (("buy", "0", "0.01"), "Order has invalid price."),
        (("buy", "-5", "0.01"), "Order has invalid price."),
        (("buy", "1e5", "0.01"), "Order has invalid price."),
        (("buy", "NaN", "0.01"), "Order has invalid price."),
        (("buy", "50000.0", "0.01"), "Order has invalid price."),
        (("buy", "50000", "0.000001"), "Order has invalid size."),
        (("buy", "50000", "0"), "Order has invalid size."),
        (("buy", "50000", "0.010"), "Order has invalid size."),
        (("buy", "50000", "0.0001"), "Order must have minimum value of $10."),
        (("buy", "50000", "9"), "Insufficient margin to place order."),
        (("buy", "95000", "0.01"), "Order price too far from oracle"),
    ],
)
def test_order_that_breaks_a_rule_is_refused_in_the_venues_words(rig, terms, error):
    rig.rest(rig.alice, "sell", "50010", "0.01")
    rig.rest(rig.bob, "buy", "49990", "0.01")
    assert rig.place(rig.carol, *terms) == {"error": error}
    assert rig.info("openOrders", user=rig.carol.address) == []


def test_integer_prices_are_valid_beyond_five_figures(rig):
    assert "resting" in rig.place(rig.alice, "buy", "105055", "0.001")
    assert rig.place(rig.alice, "buy", "10505.5", "0.001") == {
        "error": "Price must be divisible by tick size."
    }


def test_unlisted_asset_is_refused(rig):
    assert rig.place(rig.alice, "buy", "100", "1", asset=99) == {"error": "Asset is not listed."}


def test_post_only_tells_the_best_prices(rig):
    rig.rest(rig.alice, "sell", "50000", "0.01")
    rig.rest(rig.alice, "buy", "49000", "0.01")
    status = rig.place(rig.bob, "buy", "50000", "0.01", tif="Alo", cloid=3)
    assert status == {
        "error": "Post only order would have immediately matched, bbo was 49000.0@50000.0."
    }
    told = status_of(rig, rig.bob, f"0x{3:032x}")
    assert told["order"]["status"] == "badAloPxRejected"
    assert "resting" in rig.place(rig.bob, "buy", "49999", "0.01", tif="Alo")


def test_immediate_order_without_counterpart_is_refused_and_with_some_is_cut(rig):
    status = rig.place(rig.bob, "buy", "50000", "0.02", tif="Ioc", cloid=4)
    assert status == {"error": "Order could not immediately match against any resting orders."}
    assert status_of(rig, rig.bob, f"0x{4:032x}")["order"]["status"] == "iocCancelRejected"
    rig.rest(rig.alice, "sell", "50000", "0.01")
    status = rig.place(rig.bob, "buy", "50000", "0.02", tif="Ioc", cloid=5)
    assert status["filled"]["totalSz"] == "0.01"
    told = status_of(rig, rig.bob, f"0x{5:032x}")["order"]
    assert (told["status"], told["order"]["sz"]) == ("canceled", "0.01")


def test_own_resting_order_gives_way(rig):
    oid = rig.rest(rig.alice, "sell", "50000", "0.01")
    rig.rest(rig.alice, "buy", "50000", "0.01")
    assert status_of(rig, rig.alice, oid)["order"]["status"] == "selfTradeCanceled"


def test_client_order_id_is_used_once(rig):
    rig.rest(rig.alice, "buy", "50000", "0.01", cloid=9)
    assert "Duplicate" in rig.place(rig.alice, "buy", "50000", "0.01", cloid=9)["error"]
    assert "resting" in rig.place(rig.bob, "buy", "50000", "0.01", cloid=9), "others may use it"


def test_cancel_by_either_id_and_only_once(rig):
    oid = rig.rest(rig.alice, "buy", "50000", "0.01")
    assert rig.cancel(rig.bob, oid) == {"error": GONE}, "only the owner may"
    assert rig.cancel(rig.alice, oid, asset=1) == {"error": GONE}, "on its asset"
    assert rig.cancel(rig.alice, oid, asset=99) == {"error": GONE}
    assert rig.cancel(rig.alice, oid) == "success"
    assert rig.cancel(rig.alice, oid) == {"error": GONE}
    rig.rest(rig.alice, "buy", "50000", "0.01", cloid=0xAB)
    by_cloid = {
        "type": "cancelByCloid",
        "cancels": [{"asset": 0, "cloid": f"0x{0xAB:032X}".replace("0X", "0x")}],
    }
    assert rig.statuses(rig.alice, by_cloid) == ["success"]
    assert rig.statuses(rig.alice, by_cloid) == [{"error": GONE}]
    assert rig.info("openOrders", user=rig.alice.address) == []


def modify(oid, *terms, **options) -> dict:
    return {
        "type": "batchModify",
        "modifies": [{"oid": oid, "order": wire_order(*terms, **options)}],
    }


def test_modify_is_cancel_replace_with_a_new_id_and_the_same_client_id(rig):
    oid = rig.rest(rig.alice, "buy", "50000", "0.01", cloid=1)
    listener = rig.listen({"type": "orderUpdates", "user": rig.alice.address})
    listener.heard()
    action = modify(oid, "buy", "50001", "0.02", cloid=1)
    (status,) = rig.statuses(rig.alice, action)
    assert status["resting"]["oid"] != oid
    assert status["resting"]["cloid"] == f"0x{1:032x}"
    (updates,) = listener.heard("orderUpdates")
    assert [update["status"] for update in updates] == ["canceled", "open"]
    told = status_of(rig, rig.alice, f"0x{1:032x}")
    assert told["order"]["order"]["oid"] == status["resting"]["oid"]


def test_modify_refuses_what_is_gone_or_wrong_and_leaves_the_old_order(rig):
    oid = rig.rest(rig.alice, "buy", "50000", "0.01", cloid=1)
    rig.rest(rig.alice, "buy", "40000", "0.01", cloid=2)
    for terms, options, part in [
        (("buy", "50000.5", "0.01"), {}, "tick"),
        (("buy", "50000", "0.01"), {"cloid": 2}, "Duplicate"),
        (("buy", "2000", "0.01"), {"asset": 1}, "asset"),
        (("buy", "50000", "90"), {}, "margin"),
    ]:
        (status,) = rig.statuses(rig.alice, modify(oid, *terms, **options))
        assert part in status["error"]
    assert len(rig.info("openOrders", user=rig.alice.address)) == 2
    (status,) = rig.statuses(rig.bob, modify(oid, "buy", "50000", "0.01"))
    assert status == {"error": "Cannot modify canceled or filled order"}


def test_single_modify_answers_without_statuses(rig):
    oid = rig.rest(rig.alice, "buy", "50000", "0.01")
    action = {"type": "modify", "oid": oid, "order": wire_order("buy", "50001", "0.01")}
    assert rig.send(rig.alice, action) == {"status": "ok", "response": {"type": "default"}}
    assert rig.send(rig.alice, action)["status"] == "err"


def test_modify_frees_the_margin_of_what_it_replaces(rig):
    oid = rig.rest(rig.alice, "buy", "50000", "3")
    (status,) = rig.statuses(rig.alice, modify(oid, "buy", "49999", "3"))
    assert "resting" in status


def test_margin_counts_positions_and_resting_orders_by_leverage(rig):
    rig.rest(rig.alice, "sell", "50000", "0.1")
    assert "resting" in rig.place(rig.bob, "buy", "49000", "3.9"), "20 times 10 000 dollars"
    refused = {"error": "Insufficient margin to place order."}
    assert rig.place(rig.bob, "buy", "49000", "0.2") == refused
    assert "resting" in rig.place(rig.bob, "sell", "51000", "3.9"), "the other side is free"
    rig.send(rig.carol, {"type": "updateLeverage", "asset": 0, "isCross": True, "leverage": 2})
    assert rig.place(rig.carol, "buy", "49000", "0.5") == refused


def test_leverage_has_a_maximum(rig):
    def choose(asset: int, leverage: int) -> dict:
        action = {
            "type": "updateLeverage",
            "asset": asset,
            "isCross": True,
            "leverage": leverage,
        }
        return rig.send(rig.alice, action)

    assert choose(0, 40) == {"status": "ok", "response": {"type": "default"}}
    assert choose(0, 41)["status"] == "err"
    assert choose(9, 1) == {"status": "err", "response": "Asset is not listed."}


def test_reduce_only_is_cut_to_the_position_and_refused_without_one(rig):
    refused = {"error": "Reduce only order would increase position."}
    assert rig.place(rig.bob, "sell", "50000", "0.01", reduce_only=True) == refused
    rig.rest(rig.alice, "sell", "50000", "0.01")
    rig.place(rig.bob, "buy", "50000", "0.01")
    assert rig.place(rig.bob, "buy", "50000", "0.01", reduce_only=True) == refused
    rig.rest(rig.carol, "buy", "49990", "1")
    status = rig.place(rig.bob, "sell", "49990", "5", reduce_only=True, tif="Ioc")
    assert status["filled"]["totalSz"] == "0.01"
    assert position(rig, rig.bob) is None


def test_resting_reduce_only_orders_shrink_and_go_with_the_position(rig):
    rig.rest(rig.alice, "sell", "50000", "0.04")
    rig.place(rig.bob, "buy", "50000", "0.04")
    first = rig.rest(rig.bob, "sell", "50010", "0.03", reduce_only=True)
    second = rig.rest(rig.bob, "sell", "50010", "0.04", reduce_only=True)
    rig.place(rig.carol, "buy", "50010", "0.01", tif="Ioc")
    left = {row["oid"]: row["sz"] for row in rig.info("openOrders", user=rig.bob.address)}
    assert left == {first: "0.02", second: "0.03"}
    rig.place(rig.carol, "buy", "50010", "1", tif="Ioc")
    assert position(rig, rig.bob) is None, "one sweep over both must not turn the position round"
    assert status_of(rig, rig.bob, first)["order"]["status"] == "filled"
    assert status_of(rig, rig.bob, second)["order"]["status"] == "filled"


def test_reduce_only_order_is_cancelled_when_another_order_closed_the_position(rig):
    rig.rest(rig.alice, "sell", "50000", "0.01")
    rig.place(rig.bob, "buy", "50000", "0.01")
    oid = rig.rest(rig.bob, "sell", "51000", "0.01", reduce_only=True)
    rig.rest(rig.carol, "buy", "49990", "0.01")
    rig.place(rig.bob, "sell", "49990", "0.01")
    assert status_of(rig, rig.bob, oid)["order"]["status"] == "reduceOnlyCanceled"


def test_fills_tell_direction_start_position_and_closed_profit(rig):
    deals = [
        ("buy", "50000", "0.02"),
        ("buy", "50100", "0.02"),
        ("sell", "50250", "0.01"),
        ("sell", "50000", "0.04"),
        ("buy", "49000", "0.01"),
    ]
    for side, price, size in deals:
        rig.rest(rig.alice, "sell" if side == "buy" else "buy", price, size)
        rig.place(rig.bob, side, price, size, tif="Ioc")
    fills = list(reversed(rig.info("userFills", user=rig.bob.address)))
    assert [(f["dir"], f["startPosition"], f["closedPnl"]) for f in fills] == [
        ("Open Long", "0.0", "0.0"),
        ("Open Long", "0.02", "0.0"),
        ("Close Long", "0.04", "2.0"),
        ("Long > Short", "0.03", "-1.5"),
        ("Close Short", "-0.01", "10.0"),
    ]
    fees = sum(Decimal(fill["fee"]) for fill in fills)
    value = Decimal(state(rig, rig.bob)["marginSummary"]["accountValue"])
    assert value == 10_000 + Decimal("10.5") - fees


def test_account_state_values_a_position_at_the_mark(rig):
    rig.rest(rig.alice, "sell", "50000", "0.02")
    rig.place(rig.bob, "buy", "50000", "0.02")
    rig.rest(rig.carol, "buy", "50090", "0.01")
    rig.rest(rig.carol, "sell", "50110", "0.01")
    told = state(rig, rig.bob)
    held = position(rig, rig.bob)
    assert held["unrealizedPnl"] == "2.0"
    assert held["marginUsed"] == "50.1"
    assert held["leverage"] == {"type": "cross", "value": 20}
    assert told["marginSummary"]["totalNtlPos"] == "1002.0"
    assert told["marginSummary"]["accountValue"] == "10001.55"


def test_history_forgets_the_oldest_order_and_its_client_id():
    rig = Rig()
    rig.exchange.trading.orders = OrderStore(kept_closed=2)
    oids = [rig.rest(rig.alice, "buy", "50000", "0.01", cloid=number) for number in (1, 2, 3)]
    for oid in oids:
        rig.cancel(rig.alice, oid)
    told = [status_of(rig, rig.alice, oid)["status"] for oid in oids]
    assert told == ["unknownOid", "order", "order"]
    assert status_of(rig, rig.alice, f"0x{1:032x}") == {"status": "unknownOid"}
    history = rig.info("historicalOrders", user=rig.alice.address)
    assert [row["order"]["oid"] for row in history] == [oids[2], oids[1]]


def test_open_orders_of_an_account_are_bounded(rig, monkeypatch):
    monkeypatch.setattr("zq_daemon.venue.exchange.checks.MAX_OPEN_ORDERS", 2)
    for _ in range(2):
        rig.rest(rig.alice, "buy", "50000", "0.001")
    assert rig.place(rig.alice, "buy", "50000", "0.001") == {"error": "Too many open orders."}


def test_public_trade_names_buyer_and_seller():
    rig = Rig(StillMarket())
    rig.rest(rig.alice, "buy", "50000", "0.01")
    listener = rig.listen({"type": "trades", "coin": "BTC"})
    rig.place(rig.bob, "sell", "50000", "0.01")
    ((trade,),) = listener.heard("trades")
    assert trade["users"] == [rig.alice.address, rig.bob.address]
    assert (trade["side"], trade["px"], trade["sz"]) == ("A", "50000.0", "0.01")
