"""Which rule of an order speaks first, and what it leaves behind."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.trading_rig import ASSETS, TradingRig, order
from zq_daemon.venue.exchange import messages
from zq_daemon.venue.exchange.checks import MAX_OPEN_ORDERS
from zq_daemon.venue.exchange.envelope import ActionError

NOTIONAL = "Order must have minimum value of $10."
MARGIN = "Insufficient margin to place order."
TICK = "Price must be divisible by tick size."


@pytest.fixture
def rig() -> TradingRig:
    rig = TradingRig()
    rig.quote(50_000)
    return rig


def status(rig, account, cloid: int) -> str | None:
    found = rig.trading.orders.find(account.address, f"0x{cloid:032x}")
    return found and found.status


@pytest.mark.parametrize(
    ("terms", "options", "text", "word"),
    [
        (("buy", "50000", "0.0001"), {}, NOTIONAL, "minTradeNtlRejected"),
        (("buy", "1", "9"), {}, NOTIONAL, "minTradeNtlRejected"),
        (("buy", "99000", "9"), {}, MARGIN, "perpMarginRejected"),
        (
            ("buy", "99000", "9"),
            {"reduce_only": True},
            "Reduce only order would increase position.",
            "reduceOnlyRejected",
        ),
        (("buy", "50000", "0.1"), {"sl": "40000"}, "Invalid TP/SL price.", "badTriggerPxRejected"),
        (("buy", "99000", "0.1"), {}, "Order price too far from oracle", "oracleRejected"),
        (("buy", "9999", "0.1"), {}, "Order price too far from oracle", "oracleRejected"),
        (
            ("buy", "50001", "0.1"),
            {"tif": "Alo"},
            "Post only order would have immediately matched, bbo was 49999.0@50001.0.",
            "badAloPxRejected",
        ),
        (
            ("buy", "50000", "0.1"),
            {"tif": "Ioc"},
            "Order could not immediately match against any resting orders.",
            "iocCancelRejected",
        ),
        (
            ("buy", "0.2", "49"),
            {"coin": "PURR/USDC"},
            "Order must have minimum value of 10 USDC.",
            "minTradeSpotNtlRejected",
        ),
        (
            ("buy", "0.2", "90000"),
            {"coin": "PURR/USDC"},
            "Insufficient spot balance asset=10000",
            "insufficientSpotBalanceRejected",
        ),
    ],
)
def test_refused_order_is_remembered_by_the_reason(rig, terms, options, text, word):
    rig.outside("sell", "0.3", "9", "PURR/USDC")
    rig.market.oracles["BTC"] = Decimal(50_000)
    assert rig.one(rig.alice, *terms, cloid=1, **options) == {"error": text}
    assert status(rig, rig.alice, 1) == word
    assert [word] == [told for _, told in rig.tape.orders]
    assert rig.alice.orders == {}
    assert rig.tape.cancels == []


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (order("buy", "50000.1", "0.1"), TICK),
        (order("buy", "1e5", "0.1"), "Order has invalid price."),
        (order("buy", "50000", "0.10"), "Order has invalid size."),
        (order("buy", "50000", "0.1", coin="GONE"), "GONE is delisted."),
        (order("buy", "50000", "0.1", sl="1.23456"), "Invalid TP/SL price."),
    ],
)
def test_what_the_payload_shows_refuses_the_whole_batch(rig, bad, text):
    good = order("buy", "40000", "0.1", cloid=1)
    assert rig.place(rig.alice, good, bad) == [{"error": text}] * 2
    assert rig.alice.orders == {}
    assert status(rig, rig.alice, 1) is None, "nothing was placed, its id is free"


def test_what_depends_on_the_account_refuses_one_order_of_a_batch(rig):
    statuses = rig.place(
        rig.alice,
        order("buy", "40000", "9"),
        order("buy", "40000", "0.1", cloid=1),
        order("buy", "40000", "0.1", cloid=1),
    )
    assert statuses[0] == {"error": MARGIN}
    assert "resting" in statuses[1]
    assert "Duplicate" in statuses[2]["error"]


def test_empty_batch_is_refused_as_an_action(rig):
    with pytest.raises(ActionError, match="No orders"):
        rig.place(rig.alice)


def test_asset_ids_beyond_the_listing_are_refused(rig):
    wanted = order("buy", "40000", "0.1")
    for asset in (4, 9_999, 10_001, 10**12):
        wanted.a = asset
        assert rig.place(rig.alice, wanted) == [{"error": "Asset is not listed."}]


def test_tick_comes_before_the_notional_and_that_before_margin(rig):
    assert rig.one(rig.alice, "buy", "0.00000001", "9") == {"error": TICK}
    rig.trading.transfer_class(rig.alice, Decimal(10_000), to_perp=False)
    assert rig.one(rig.alice, "buy", "50000", "0.0001") == {"error": NOTIONAL}
    assert rig.one(rig.alice, "buy", "50000", "0.001", tif="Alo") == {"error": MARGIN}


def test_market_order_of_the_frontend_tells_an_empty_book_from_a_far_one(rig):
    refused = rig.one(rig.alice, "buy", "49999", "0.1", tif="FrontendMarket", cloid=1)
    assert refused["error"].startswith("Order could not immediately match")
    rig.clear()
    assert rig.one(rig.alice, "buy", "50001", "0.1", tif="FrontendMarket", cloid=2) == {
        "error": "No liquidity available for market order."
    }
    assert status(rig, rig.alice, 2) == "marketOrderNoLiquidityRejected"
    found = rig.trading.orders.find(rig.alice.address, f"0x{2:032x}")
    assert messages.frontend_order(found)["orderType"] == "Market"


def test_full_account_may_still_modify_and_reduce_its_number(rig, monkeypatch):
    assert MAX_OPEN_ORDERS == 1_000
    monkeypatch.setattr("zq_daemon.venue.exchange.checks.MAX_OPEN_ORDERS", 2)
    oid = rig.rest(rig.alice, "buy", "40000", "0.001")
    rig.rest(rig.alice, "buy", "40001", "0.001")
    full = {"error": "Too many open orders."}
    assert rig.one(rig.alice, "buy", "40002", "0.001") == full
    assert "resting" in rig.trading.modify(rig.alice, oid, order("buy", "40003", "0.001"))
    assert rig.one(rig.alice, "buy", "40002", "0.001") == full


def test_oracle_of_the_market_counts_before_its_own_book(rig):
    rig.market.oracles["BTC"] = Decimal(20_000)
    assert rig.one(rig.alice, "buy", "40000", "0.1") == {"error": "Order price too far from oracle"}
    assert "resting" in rig.one(rig.alice, "buy", "36000", "0.1")


def test_cancel_needs_the_asset_the_order_is_of(rig):
    oid = rig.rest(rig.alice, "buy", "20", "10", coin="@107")
    gone = {"error": "Order was never placed, already canceled, or filled."}
    assert rig.trading.cancel(rig.alice, ASSETS["BTC"], oid) == gone
    assert rig.trading.cancel(rig.alice, ASSETS["@107"], oid) == "success"
    assert rig.trading.cancel(rig.alice, ASSETS["@107"], oid) == gone


def test_part_of_a_resting_order_that_fills_is_told(rig):
    oid = rig.rest(rig.alice, "buy", "50000", "0.3")
    rig.outside("sell", "50000", "0.1", take=True)
    assert rig.tape.statuses(oid) == ["open", "open"]
    rig.outside("sell", "50000", "0.2", take=True)
    assert rig.tape.statuses(oid) == ["open", "open", "filled"]
