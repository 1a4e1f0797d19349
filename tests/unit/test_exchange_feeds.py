"""What clients hear: acknowledgements, opening messages, changes, cadences, limits, faults."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.exchange_rig import COINS, Rig, wire_order
from zq_daemon.venue.exchange.faults import Faults
from zq_daemon.venue.exchange.market import SyntheticMarket

BTC_BOOK = {"type": "l2Book", "coin": "BTC"}
BTC_TRADES = {"type": "trades", "coin": "BTC"}
BTC_BBO = {"type": "bbo", "coin": "BTC"}
BTC_CONTEXT = {"type": "activeAssetCtx", "coin": "BTC"}


@pytest.fixture
def rig() -> Rig:
    return Rig()


def unheard(listener, exchange, subscription) -> list[str]:
    exchange.subscribe(listener.connection, subscription)
    return listener.heard("error")


def test_subscription_is_acknowledged_with_its_echo(rig):
    listener = rig.listen(BTC_BOOK)
    first, second = listener.heard()
    assert first == {
        "channel": "subscriptionResponse",
        "data": {"method": "subscribe", "subscription": BTC_BOOK},
    }
    assert second["channel"] == "l2Book"
    rig.exchange.unsubscribe(listener.connection, BTC_BOOK)
    (gone,) = listener.heard("subscriptionResponse")
    assert gone["method"] == "unsubscribe"


def test_wrong_subscriptions_are_told_on_the_error_channel(rig):
    listener = rig.listen(BTC_BOOK)
    listener.heard()
    (twice,) = unheard(listener, rig.exchange, BTC_BOOK)
    assert twice == 'Already subscribed: {"type":"l2Book","coin":"BTC"}'
    for bad in (
        {"type": "l2Book", "coin": "btc"},
        {"type": "l2Book"},
        {"type": "weather"},
        {"type": ["l2Book"], "coin": "BTC"},
        {"type": "userFills", "user": "me"},
        {"type": "userFills", "user": 7},
        {"type": "candle", "coin": "BTC"},
        {"type": "candle", "coin": "BTC", "interval": "7m"},
        {"type": "candle", "coin": "DOGE", "interval": "1m"},
        {"type": "l2Book", "coin": "BTC", "nSigFigs": 6},
        {"type": "l2Book", "coin": "BTC", "nSigFigs": 4, "mantissa": 2},
        {"type": "activeAssetData", "user": "0x" + "1" * 40},
        {"type": "activeAssetData", "user": "0x" + "1" * 40, "coin": "DOGE"},
        {"type": "activeAssetData", "user": "0x" + "1" * 40, "coin": "PURR/USDC"},
        {"type": "activeAssetData", "user": "me", "coin": "BTC"},
        "l2Book",
        None,
        {"type": "x" * 1_000},
    ):
        (text,) = unheard(listener, rig.exchange, bad)
        assert text.startswith("Invalid subscription")
        assert len(text) < 300
    for bad, start in ((BTC_TRADES, "Already unsubscribed"), ({}, "Invalid subscription")):
        rig.exchange.unsubscribe(listener.connection, bad)
        (text,) = listener.heard("error")
        assert text.startswith(start)


def test_subscriptions_and_users_of_a_connection_are_bounded(rig, monkeypatch):
    monkeypatch.setattr("zq_daemon.venue.exchange.feeds.MAX_SUBSCRIPTIONS", 12)
    listener = rig.listen()
    for number in range(10):
        rig.exchange.subscribe(
            listener.connection, {"type": "userFills", "user": f"0x{number:040x}"}
        )
    assert listener.heard("error") == []
    (text,) = unheard(listener, rig.exchange, {"type": "orderUpdates", "user": "0x" + "f" * 40})
    assert "users" in text
    for coin in ("BTC", "ETH"):
        assert unheard(listener, rig.exchange, {"type": "bbo", "coin": coin}) == []
    (text,) = unheard(listener, rig.exchange, BTC_BOOK)
    assert "more than 12" in text


def test_first_trades_back_fill_the_recent_ones(rig):
    rig.rest(rig.alice, "sell", "50000", "0.01")
    rig.place(rig.bob, "buy", "50000", "0.01")
    early = rig.listen(BTC_TRADES)
    ((old,),) = early.heard("trades")
    rig.rest(rig.alice, "sell", "50001", "0.01")
    rig.place(rig.bob, "buy", "50001", "0.01")
    ((new,),) = early.heard("trades")
    (both,) = rig.listen(BTC_TRADES).heard("trades")
    assert [trade["tid"] for trade in both] == [old["tid"], new["tid"]]
    assert new["tid"] > old["tid"]


def test_no_trades_yet_means_no_first_batch(rig):
    assert rig.listen(BTC_TRADES).heard("trades") == []


def test_bbo_comes_when_it_changes_and_an_empty_side_is_null(rig):
    listener = rig.listen(BTC_BBO)
    (opening,) = listener.heard("bbo")
    assert opening["bbo"] == [None, None]
    rig.rest(rig.alice, "sell", "50000", "0.01")
    (changed,) = listener.heard("bbo")
    assert changed["bbo"] == [None, {"px": "50000.0", "sz": "0.01", "n": 1}]
    rig.rest(rig.alice, "sell", "50001", "0.01")
    assert listener.heard("bbo") == []


def test_book_comes_on_a_cadence_and_not_with_every_order(rig):
    listener = rig.listen(BTC_BOOK)
    listener.heard()
    rig.exchange.step(rig.clock.ns)
    assert len(listener.heard("l2Book")) == 1
    for number in range(30):
        rig.rest(rig.alice, "buy", f"{49000 - number}", "0.001")
    assert listener.heard("l2Book") == []
    rig.clock.advance_ms(499)
    rig.exchange.step(rig.clock.ns)
    assert listener.heard("l2Book") == []
    rig.clock.advance_ms(1)
    assert rig.exchange.next_due_ns() == rig.clock.ns
    rig.exchange.step(rig.clock.ns)
    (book,) = listener.heard("l2Book")
    bids, asks = book["levels"]
    assert len(bids) == 20
    assert bids[0] == {"px": "49000.0", "sz": "0.001", "n": 1}
    assert asks == []
    assert book["time"] == rig.clock.ns // 1_000_000


def test_contexts_and_mids_come_every_second_for_what_has_a_price(rig):
    listener = rig.listen(BTC_CONTEXT, {"type": "allMids"})
    assert listener.heard("activeAssetCtx") == [], "no price yet"
    rig.rest(rig.alice, "buy", "49999", "0.01")
    rig.rest(rig.bob, "sell", "50001", "0.01")
    rig.exchange.step(rig.clock.ns)
    told = listener.heard()
    assert [message["channel"] for message in told] == ["allMids", "activeAssetCtx"]
    assert told[0]["data"] == {"mids": {"BTC": "50000.0"}}
    assert told[1]["data"]["ctx"]["markPx"] == "50000.0"
    assert len(rig.listen(BTC_CONTEXT).heard("activeAssetCtx")) == 1
    rig.clock.advance_ms(999)
    rig.exchange.step(rig.clock.ns)
    assert listener.heard("allMids") == []
    rig.clock.advance_ms(1)
    rig.exchange.step(rig.clock.ns)
    assert len(listener.heard("allMids")) == 1


def test_books_with_other_figures_are_other_streams(rig):
    for price in ("49991", "49992", "49999"):
        rig.rest(rig.alice, "buy", price, "0.01")
    rounded = BTC_BOOK | {"nSigFigs": 4}
    listener = rig.listen(BTC_BOOK, rounded, BTC_BOOK | {"nSigFigs": 5, "mantissa": 5})
    assert len(listener.heard("error")) == 0
    rig.exchange.step(rig.clock.ns)
    plain, four, fives = (book["levels"][0] for book in listener.heard("l2Book"))
    assert [level["px"] for level in plain] == ["49999.0", "49992.0", "49991.0"]
    assert four == [{"px": "49990.0", "sz": "0.03", "n": 3}]
    assert [level["px"] for level in fives] == ["49995.0", "49990.0"]
    assert rig.info("l2Book", coin="BTC", nSigFigs=4)["levels"][0] == four
    rig.exchange.unsubscribe(listener.connection, rounded)
    listener.heard()
    rig.clock.advance_ms(500)
    rig.exchange.step(rig.clock.ns)
    assert len(listener.heard("l2Book")) == 2


def test_the_open_candle_is_told_with_each_batch_of_trades(rig):
    minute = {"type": "candle", "coin": "BTC", "interval": "1m"}
    listener = rig.listen(minute)
    assert listener.heard("candle") == [], "nothing was traded yet"
    rig.rest(rig.alice, "sell", "50000", "0.03")
    rig.place(rig.bob, "buy", "50000", "0.01")
    rig.place(rig.bob, "buy", "50000", "0.02")
    first, second = listener.heard("candle")
    assert (first["v"], first["n"], second["v"], second["n"]) == ("0.01", 1, "0.03", 2)
    assert first["t"] == second["t"] == first["T"] - 59_999
    (late,) = rig.listen(minute).heard("candle")
    assert late == second


def test_views_of_a_user_come_again_when_they_have_changed(rig):
    rig.rest(rig.bob, "buy", "49999", "1")
    rig.rest(rig.bob, "sell", "50001", "1")
    view = {"type": "activeAssetData", "user": rig.alice.address, "coin": "BTC"}
    listener = rig.listen(view)
    (opening,) = listener.heard("activeAssetData")
    assert opening["availableToTrade"] == ["10000.0", "10000.0"]
    for changed in (True, False):
        rig.clock.advance_ms(1_000)
        rig.exchange.step(rig.clock.ns)
        assert len(listener.heard("activeAssetData")) == changed, "once after it was asked for"
    leverage = {"type": "updateLeverage", "asset": 0, "isCross": True, "leverage": 3}
    rig.send(rig.alice, leverage)
    rig.clock.advance_ms(1_000)
    rig.exchange.step(rig.clock.ns)
    (told,) = listener.heard("activeAssetData")
    assert told["leverage"] == {"type": "cross", "value": 3}
    assert told["maxTradeSzs"] == ["0.6", "0.6"]


def test_private_streams_tell_only_their_user(rig):
    rig.rest(rig.alice, "sell", "50000", "0.03")
    streams = ("orderUpdates", "userFills", "userEvents")
    bob = rig.listen(
        *({"type": kind, "user": rig.bob.address.upper().replace("0X", "0x")} for kind in streams)
    )
    (snapshot,) = bob.heard("userFills")
    assert snapshot == {"user": rig.bob.address, "isSnapshot": True, "fills": []}
    rig.place(rig.bob, "buy", "50000", "0.01", cloid=5)
    told = {message["channel"]: message["data"] for message in bob.heard()}
    (update,) = told["orderUpdates"]
    assert update["status"] == "filled"
    assert update["order"]["cloid"] == f"0x{5:032x}"
    (fill,) = told["userFills"]["fills"]
    assert "isSnapshot" not in told["userFills"]
    assert told["user"] == {"fills": [fill]}
    again = rig.listen({"type": "userFills", "user": rig.bob.address})
    assert again.heard("userFills")[0]["fills"] == [fill]


def test_partly_filled_resting_order_is_told_as_open_with_what_is_left(rig):
    rig.rest(rig.alice, "sell", "50000", "0.03")
    alice = rig.listen({"type": "orderUpdates", "user": rig.alice.address})
    rig.place(rig.bob, "buy", "50000", "0.01")
    ((update,),) = alice.heard("orderUpdates")
    assert (update["status"], update["order"]["sz"]) == ("open", "0.02")
    assert update["order"]["origSz"] == "0.03"


def test_updates_of_one_action_come_as_one_batch(rig):
    listener = rig.listen({"type": "orderUpdates", "user": rig.alice.address})
    listener.heard()
    orders = [wire_order("buy", str(49000 + n), "0.01") for n in range(3)]
    rig.statuses(rig.alice, {"type": "order", "orders": orders, "grouping": "na"})
    (batch,) = listener.heard("orderUpdates")
    assert len(batch) == 3


def test_client_that_does_not_read_is_cut_off_and_no_other():
    rig = Rig(outbox_limit=8)
    slow, quick = rig.listen(BTC_BBO), rig.listen(BTC_BBO)
    for number in range(20):
        rig.rest(rig.alice, "buy", str(49000 + number), "0.001")
        quick.heard()
    assert slow.connection.outbox.closed_because.startswith("too slow")
    assert slow.heard() == []
    assert quick.connection.outbox.closed_because is None


def test_disconnected_client_is_forgotten(rig):
    listener = rig.listen(BTC_BBO)
    rig.exchange.disconnect(listener.connection)
    rig.exchange.disconnect(listener.connection)
    assert len(rig.exchange.connections) == 0
    assert not rig.exchange.feeds.has_listeners(("bbo", "BTC"))


def test_faults_freeze_data_refuse_cancels_forget_orders_and_drop_connections(rig):
    listener = rig.listen(BTC_BBO)
    listener.heard()
    rig.exchange.faults = Faults(freeze_data=True, refuse_cancels=True, forget_orders=True)
    oid = rig.rest(rig.alice, "buy", "49000", "0.01")
    assert listener.heard() == []
    assert "error" in rig.cancel(rig.alice, oid)
    query = {"user": rig.alice.address, "oid": oid}
    assert rig.info("orderStatus", **query) == {"status": "unknownOid"}
    rig.exchange.faults = Faults()
    assert rig.info("orderStatus", **query)["status"] == "order"
    assert rig.cancel(rig.alice, oid) == "success"
    rig.exchange.drop_connections()
    assert listener.connection.outbox.closed_because == "dropped on purpose"


SHARED = Rig()
json_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(["BTC", "l2Book"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["type", "coin", "user"]), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(json_values)
def test_any_subscription_is_answered_and_none_is_fatal(subscription):
    listener = SHARED.listen(subscription)
    answers = listener.heard()
    assert answers[0]["channel"] in ("subscriptionResponse", "error")
    SHARED.exchange.unsubscribe(listener.connection, subscription)
    (answer,) = listener.heard()
    assert answer["channel"] == answers[0]["channel"]
    SHARED.exchange.disconnect(listener.connection)


def test_every_listed_coin_can_be_heard():
    rig = Rig(SyntheticMarket(1))
    rig.exchange.step(rig.clock.ns)
    for coin in COINS:
        listener = rig.listen(
            *({"type": kind, "coin": coin} for kind in ("l2Book", "bbo", "activeAssetCtx"))
        )
        assert len(listener.heard()) == 6
