"""The official SDK places, changes and cancels orders, and reads back what became of them."""

from __future__ import annotations

import time

import pytest
from hyperliquid.utils.types import Cloid

from tests.venue_sdk.sdk import Served, Trader

GTC = {"limit": {"tif": "Gtc"}}
GONE = "Order was never placed, already canceled, or filled."


@pytest.fixture
def book(bob: Trader) -> Trader:
    """Bob quotes a bitcoin at 49,990 to 50,010."""
    bob.rest("BTC", "buy", 1.0, 49_990)
    bob.rest("BTC", "sell", 1.0, 50_010)
    return bob


def order_status(trader: Trader, oid: int) -> str:
    found = trader.info.query_order_by_oid(trader.address, oid)
    assert found["status"] == "order"
    assert found["order"]["order"]["oid"] == oid
    status: str = found["order"]["status"]
    return status


def open_oids(trader: Trader) -> set[int]:
    return {order["oid"] for order in trader.info.open_orders(trader.address)}


def test_a_limit_order_rests_and_is_found_by_either_id(alice):
    cloid = Cloid.from_int(7)
    oid = alice.rest("BTC", "buy", 0.01, 50_000, cloid=cloid)
    (shown,) = alice.info.open_orders(alice.address)
    assert (shown["oid"], shown["coin"], shown["side"]) == (oid, "BTC", "B")
    assert (float(shown["limitPx"]), float(shown["sz"])) == (50_000, 0.01)
    (full,) = alice.info.frontend_open_orders(alice.address)
    assert (full["orderType"], full["tif"], full["cloid"]) == ("Limit", "Gtc", cloid.to_raw())
    by_oid = alice.info.query_order_by_oid(alice.address, oid)
    assert by_oid == alice.info.query_order_by_cloid(alice.address, cloid)
    assert by_oid["order"]["status"] == "open"
    unknown = alice.info.query_order_by_cloid(alice.address, Cloid.from_int(8))
    assert unknown == {"status": "unknownOid"}


def test_orders_are_refused_one_by_one_with_the_venues_words(alice, book):
    size, price, order = 0.01, 50_000, {"coin": "BTC", "is_buy": True, "reduce_only": False}
    orders = [
        order | {"sz": size, "limit_px": 40_000, "order_type": GTC},
        order | {"sz": 0.0001, "limit_px": 40_000, "order_type": GTC},
        order | {"sz": size, "limit_px": 60_000, "order_type": {"limit": {"tif": "Alo"}}},
        order | {"sz": size, "limit_px": price, "order_type": {"limit": {"tif": "Ioc"}}},
    ]
    placed, small, crossed, unmatched = alice.statuses(alice.sdk.bulk_orders(orders))
    assert "resting" in placed
    assert small == {"error": "Order must have minimum value of $10."}
    text = "Post only order would have immediately matched, bbo was 49990.0@50010.0."
    assert crossed == {"error": text}
    text = "Order could not immediately match against any resting orders."
    assert unmatched == {"error": text}
    (ticks,) = alice.statuses(alice.sdk.order("BTC", True, size, 50_000.5, GTC))
    assert ticks == {"error": "Price must be divisible by tick size."}


def test_a_modify_replaces_the_order_under_the_same_cloid(served, alice):
    cloid = Cloid.from_int(7)
    ear = served.listen(alice, {"type": "orderUpdates", "user": alice.address})
    old = alice.rest("BTC", "buy", 0.01, 50_000, cloid=cloid)
    reply = alice.sdk.modify_order(cloid, "BTC", True, 0.02, 49_000, GTC, cloid=cloid)
    (status,) = alice.statuses(reply)
    new = status["resting"]["oid"]
    assert new != old
    assert open_oids(alice) == {new}
    assert order_status(alice, old) == "canceled"
    ear.update("canceled", old)
    assert ear.update("open", new)["order"]["origSz"] == "0.02"
    found = alice.info.query_order_by_cloid(alice.address, cloid)
    assert found["order"]["order"]["oid"] == new
    reply = alice.sdk.modify_order(new, "BTC", True, 0.03, 49_000, GTC)
    (status,) = alice.statuses(reply)
    newest = status["resting"]["oid"]
    reply = alice.sdk.modify_order(new, "BTC", True, 0.03, 49_000, GTC)
    (status,) = alice.statuses(reply)
    assert "error" in status
    assert open_oids(alice) == {newest}


def test_cancels_by_either_id_and_in_bulk(served, alice):
    ear = served.listen(alice, {"type": "orderUpdates", "user": alice.address})
    cloids = [Cloid.from_int(number) for number in (1, 2)]
    oids = [alice.rest("BTC", "buy", 0.01, 40_000 + n) for n in range(3)]
    named = [alice.rest("BTC", "buy", 0.01, 41_000, cloid=cloid) for cloid in cloids]
    assert alice.statuses(alice.sdk.cancel("BTC", oids[0])) == ["success"]
    ear.update("canceled", oids[0])
    assert alice.statuses(alice.sdk.cancel_by_cloid("BTC", cloids[0])) == ["success"]
    ear.update("canceled", named[0])
    many = [{"coin": "BTC", "oid": oid} for oid in oids]
    assert alice.statuses(alice.sdk.bulk_cancel(many)) == [{"error": GONE}, "success", "success"]
    both = [{"coin": "BTC", "cloid": cloid} for cloid in cloids]
    assert alice.statuses(alice.sdk.bulk_cancel_by_cloid(both)) == [{"error": GONE}, "success"]
    assert open_oids(alice) == set()
    statuses = {
        row["order"]["oid"]: row["status"] for row in alice.info.historical_orders(alice.address)
    }
    assert statuses == dict.fromkeys((*oids, *named), "canceled")


def test_both_sides_of_a_trade_hear_of_it(served, alice, bob):
    kinds = ("userFills", "orderUpdates", "userEvents")
    ear = served.listen(bob, *[{"type": kind, "user": bob.address} for kind in kinds])
    assert ear.next("userFills")["isSnapshot"]
    oid = bob.rest("BTC", "sell", 0.01, 50_000)
    assert ear.update("open", oid)["order"]["origSz"] == "0.01"
    status = alice.limit("BTC", "buy", 0.01, 50_000)
    assert status["filled"]["totalSz"] == "0.01"
    (fill,) = ear.next("userFills")["fills"]
    assert (fill["oid"], fill["crossed"], fill["dir"]) == (oid, False, "Open Short")
    assert ear.next("userEvents") == {"fills": [fill]}
    ear.update("filled", oid)
    (own,) = alice.info.user_fills(alice.address)
    assert (own["tid"], own["crossed"], own["dir"]) == (fill["tid"], True, "Open Long")
    assert (float(own["fee"]), float(fill["fee"])) == (0.225, 0.075)


def test_market_orders_open_and_close_a_position(alice, book):
    (status,) = alice.statuses(alice.sdk.market_open("BTC", True, 0.05))
    assert status["filled"]["totalSz"] == "0.05"
    assert float(status["filled"]["avgPx"]) == 50_010
    (held,) = alice.info.user_state(alice.address)["assetPositions"]
    assert (held["position"]["coin"], float(held["position"]["szi"])) == ("BTC", 0.05)
    (status,) = alice.statuses(alice.sdk.market_close("BTC"))
    assert float(status["filled"]["avgPx"]) == 49_990
    state = alice.info.user_state(alice.address)
    assert state["assetPositions"] == []
    lost = 0.05 * 20 + 0.05 * (50_010 + 49_990) * 0.00045
    assert float(state["marginSummary"]["accountValue"]) == pytest.approx(100_000 - lost, abs=1e-6)
    assert alice.sdk.market_close("BTC") is None, "there is nothing to close"


def test_fills_are_paged_by_time_oldest_first(alice, book):
    for _ in range(3):
        alice.sdk.market_open("BTC", True, 0.01)
    fills = alice.info.user_fills_by_time(alice.address, 0)
    assert [fill["tid"] for fill in fills] == sorted(fill["tid"] for fill in fills)
    assert fills == alice.info.user_fills(alice.address)[::-1]
    middle = fills[1]["time"]
    page = alice.info.user_fills_by_time(alice.address, middle, middle)
    assert page == [fill for fill in fills if fill["time"] == middle]
    assert alice.info.user_fills_by_time(alice.address, fills[-1]["time"] + 1) == []


def test_fills_of_one_crossing_order_are_told_together_if_asked_for(alice, book):
    book.rest("BTC", "sell", 0.5, 50_005)
    alice.limit("BTC", "buy", 1.0, 50_010)
    apart = alice.info.user_fills_by_time(alice.address, 0)
    assert [(float(fill["sz"]), float(fill["px"])) for fill in apart] == [
        (0.5, 50_005),
        (0.5, 50_010),
    ]
    (whole,) = alice.info.user_fills_by_time(alice.address, 0, aggregate_by_time=True)
    assert (float(whole["sz"]), float(whole["px"])) == (1.0, 50_007.5)
    assert float(whole["fee"]) == pytest.approx(sum(float(fill["fee"]) for fill in apart))
    resting = book.info.user_fills_by_time(book.address, 0, aggregate_by_time=True)
    assert len(resting) == 2, "these were two orders"


def test_a_scheduled_cancel_takes_everything_away(served, alice):
    stop = {"trigger": {"isMarket": True, "triggerPx": 40_000, "tpsl": "sl"}}
    ear = served.listen(alice, {"type": "orderUpdates", "user": alice.address})
    oid = alice.rest("BTC", "buy", 0.01, 45_000)
    stopped = alice.rest("BTC", "sell", 0.01, 40_000, order_type=stop)
    early = alice.sdk.schedule_cancel(int(time.time() * 1000) + 1_000)
    text = "Scheduled cancel time too early, must be at least 5 seconds from now."
    assert early == {"status": "err", "response": text}
    ok = {"status": "ok", "response": {"type": "default"}}
    assert alice.sdk.schedule_cancel(int(time.time() * 1000) + 60_000) == ok
    served.pass_time(60_000)
    ear.update("scheduledCancel", oid)
    assert order_status(alice, stopped) == "scheduledCancel"
    assert open_oids(alice) == set()
    assert alice.sdk.schedule_cancel(None) == ok


def test_a_stop_waits_for_its_price_and_closes_the_position(served, alice, book):
    alice.sdk.market_open("BTC", True, 0.05)
    ear = served.listen(alice, {"type": "orderUpdates", "user": alice.address})
    stop = {"trigger": {"isMarket": True, "triggerPx": 49_000, "tpsl": "sl"}}
    oid = alice.rest("BTC", "sell", 0.05, 45_000, order_type=stop, reduce_only=True)
    (shown,) = alice.info.frontend_open_orders(alice.address)
    assert (shown["oid"], shown["orderType"], shown["isTrigger"]) == (oid, "Stop Market", True)
    assert float(shown["triggerPx"]) == 49_000
    (bid, ask) = sorted(open_oids(book))
    assert book.statuses(book.sdk.bulk_cancel([{"coin": "BTC", "oid": o} for o in (bid, ask)]))
    book.rest("BTC", "buy", 1.0, 48_500)
    book.rest("BTC", "sell", 1.0, 48_510)
    ear.update("filled", oid)
    assert alice.info.user_state(alice.address)["assetPositions"] == []


def test_take_profit_and_stop_loss_hang_on_their_order(alice, book):
    entry = {"coin": "BTC", "is_buy": True, "sz": 0.05, "limit_px": 49_000, "reduce_only": False}
    exit_ = {"coin": "BTC", "is_buy": False, "sz": 0.05, "reduce_only": True}
    profit = {"trigger": {"isMarket": True, "triggerPx": 60_000, "tpsl": "tp"}}
    loss = {"trigger": {"isMarket": True, "triggerPx": 45_000, "tpsl": "sl"}}
    orders = [
        entry | {"order_type": GTC},
        exit_ | {"limit_px": 60_000, "order_type": profit},
        exit_ | {"limit_px": 45_000, "order_type": loss},
    ]
    statuses = alice.statuses(alice.sdk.bulk_orders(orders, grouping="normalTpsl"))
    assert statuses[1:] == ["waitingForFill", "waitingForFill"]
    parent = statuses[0]["resting"]["oid"]
    (shown,) = alice.info.frontend_open_orders(alice.address)
    kinds = [child["orderType"] for child in shown["children"]]
    assert kinds == ["Take Profit Market", "Stop Market"]
    book.limit("BTC", "sell", 1.05, 49_000)
    assert order_status(alice, parent) == "filled"
    armed = {order["orderType"] for order in alice.info.frontend_open_orders(alice.address)}
    assert armed == {"Take Profit Market", "Stop Market"}


def test_a_builder_and_a_priority_are_tolerated(alice):
    order = {"coin": "BTC", "is_buy": True, "sz": 0.01, "limit_px": 40_000}
    order |= {"order_type": GTC, "reduce_only": False}
    builder = {"b": "0x" + "Ab" * 20, "f": 10}
    (status,) = alice.statuses(alice.sdk.bulk_orders([order], builder=builder))
    assert "resting" in status
    (status,) = alice.statuses(alice.sdk.bulk_orders([order], grouping={"p": 5}))
    assert "resting" in status


def test_spot_is_bought_with_spot_dollars_and_sold_again(alice, bob):
    assert bob.limit("PURR/USDC", "sell", 100, 0.2) == {
        "error": "Insufficient spot balance asset=10000"
    }
    bob.rest("PURR/USDC", "buy", 100, 0.2)
    (balance,) = bob.info.spot_user_state(bob.address)["balances"]
    assert (balance["coin"], float(balance["total"]), float(balance["hold"])) == (
        "USDC",
        100_000,
        20,
    )


def test_an_action_comes_too_late_after_its_expiry(alice):
    alice.sdk.set_expires_after(int(time.time() * 1000) - 1)
    reply = alice.sdk.order("BTC", True, 0.01, 40_000, GTC)
    assert reply["status"] == "err"
    assert "expired" in reply["response"]
    alice.sdk.set_expires_after(int(time.time() * 1000) + 60_000)
    alice.rest("BTC", "buy", 0.01, 40_000)


def test_a_nonce_is_used_once(alice):
    nonce = int(time.time() * 1000)
    assert alice.sdk.noop(nonce)["status"] == "ok"
    text = f"Invalid nonce: duplicate nonce {nonce}"
    assert alice.sdk.noop(nonce) == {"status": "err", "response": text}


def test_what_happened_is_in_the_same_words_for_another_client(served: Served, alice, book):
    """Two SDK clients of one account see the same."""
    again = served.trader(1)
    alice.sdk.market_open("BTC", False, 0.02)
    assert (
        again.info.user_state(again.address)["assetPositions"]
        == (alice.info.user_state(alice.address)["assetPositions"])
    )
