"""Spot at the embedded exchange: balances, holds, fees, fills."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.trading_rig import TradingRig, order
from zq_daemon.venue.exchange import messages

PURR, HYPE = "PURR/USDC", "@107"


@pytest.fixture
def rig() -> TradingRig:
    return TradingRig()


def balances(rig, account) -> dict[str, tuple[str, str, str]]:
    holds = rig.trading.spot_holds(account)
    state = messages.spot_state(account, holds, rig.trading.listing.tokens)
    return {
        each["coin"]: (each["total"], each["hold"], each["entryNtl"]) for each in state["balances"]
    }


def give(rig, account, token: str, amount: str) -> None:
    account.credit(token, Decimal(amount))
    rig.trading.clearing.house.deposited[token] += Decimal(amount)


def test_new_account_has_as_many_dollars_in_spot_as_in_the_other_wallet(rig):
    assert rig.alice.balance == 10_000
    assert balances(rig, rig.alice) == {"USDC": ("10000.0", "0.0", "0.0")}


def test_buyer_pays_the_fee_in_the_base_and_seller_in_the_quote(rig):
    give(rig, rig.alice, "PURR", "1000")
    rig.rest(rig.alice, "sell", "0.25", "1000", coin=PURR)
    status = rig.one(rig.bob, "buy", "0.25", "400", coin=PURR)
    assert status["filled"]["totalSz"] == "400.0"
    buy, sell = rig.bob.fills[-1], rig.alice.fills[-1]
    assert (buy.fee_token, buy.fee) == ("PURR", Decimal("0.28"))
    assert (sell.fee_token, sell.fee) == ("USDC", Decimal("0.04"))
    assert balances(rig, rig.bob)["PURR"] == ("399.72", "0.0", "100.0")
    assert rig.bob.token("USDC") == 9_900
    assert rig.alice.token("USDC") == Decimal("10099.96")
    assert rig.trading.clearing.imbalances() == {}


def test_fills_of_a_pair_tell_of_balances_not_of_positions(rig):
    give(rig, rig.bob, "PURR", "500")
    rig.rest(rig.alice, "buy", "0.5", "300", coin=PURR)
    rig.one(rig.bob, "sell", "0.5", "300", coin=PURR)
    buy, sell = messages.fill(rig.alice.fills[-1]), messages.fill(rig.bob.fills[-1])
    assert (buy["dir"], buy["startPosition"], buy["coin"]) == ("Buy", "0.0", PURR)
    assert (sell["dir"], sell["startPosition"], sell["side"]) == ("Sell", "500.0", "A")
    assert rig.alice.positions == rig.bob.positions == {}


def test_sale_realises_the_profit_over_what_the_balance_cost(rig):
    rig.outside("sell", "20", "10", HYPE)
    rig.one(rig.bob, "buy", "20", "10", coin=HYPE)
    rig.outside("buy", "25", "4", HYPE)
    rig.one(rig.bob, "sell", "25", "4", coin=HYPE)
    held, sold = Decimal("9.993"), Decimal(4)
    cost = (200 * sold / held).quantize(Decimal("0.000001"))
    assert rig.bob.fills[-1].closed_pnl == 100 - cost
    assert rig.bob.spot["HYPE"].entry == 200 - cost
    assert rig.trading.clearing.imbalances() == {}


def test_balance_that_is_sold_or_sent_whole_is_forgotten(rig):
    give(rig, rig.alice, "HYPE", "3")
    rig.outside("buy", "25", "2", HYPE)
    rig.one(rig.alice, "sell", "25", "2", coin=HYPE)
    rig.trading.send_spot(rig.alice, rig.bob, "HYPE", Decimal(1))
    assert "HYPE" not in rig.alice.spot
    assert rig.bob.token("HYPE") == 1


def test_resting_orders_hold_what_they_may_spend(rig):
    give(rig, rig.alice, "HYPE", "10")
    rig.rest(rig.alice, "buy", "20", "100", coin=HYPE)
    oid = rig.rest(rig.alice, "sell", "30", "10", coin=HYPE)
    assert balances(rig, rig.alice)["USDC"][1] == "2000.0"
    assert balances(rig, rig.alice)["HYPE"][1] == "10.0"
    error = {"error": "Insufficient spot balance asset=10107"}
    assert rig.one(rig.alice, "sell", "31", "1", coin=HYPE) == error
    assert rig.one(rig.alice, "buy", "20", "400.01", coin=HYPE) == error
    assert "resting" in rig.one(rig.alice, "buy", "20", "400", coin=HYPE)
    assert rig.one(rig.alice, "buy", "1", "100", coin=PURR) == {
        "error": "Insufficient spot balance asset=10000"
    }
    rig.trading.cancel(rig.alice, 10_107, oid)
    assert balances(rig, rig.alice)["HYPE"][1] == "0.0"


def test_part_that_filled_below_the_limit_frees_the_rest_of_its_hold(rig):
    rig.outside("sell", "19", "50", HYPE)
    rig.rest(rig.alice, "buy", "20", "100", coin=HYPE)
    assert balances(rig, rig.alice)["USDC"][:2] == ("9050.0", "1000.0")


def test_modify_may_spend_what_the_old_order_held(rig):
    oid = rig.rest(rig.alice, "buy", "20", "500", coin=HYPE)
    status = rig.trading.modify(rig.alice, oid, order("buy", "19.9", "502", coin=HYPE))
    assert "resting" in status


@pytest.mark.parametrize(
    ("terms", "error"),
    [
        (("buy", "0.2", "49"), "Order must have minimum value of 10 USDC."),
        (("buy", "0.201234", "100"), "Price must be divisible by tick size."),
        (("buy", "0.2", "100.5"), "Order has invalid size."),
    ],
)
def test_orders_of_a_pair_keep_its_rules(rig, terms, error):
    assert rig.one(rig.alice, *terms, coin=PURR) == {"error": error}


def test_pairs_know_neither_reduce_only_nor_triggers(rig):
    refused = {"error": "Spot orders are neither reduce only nor TP/SL."}
    assert rig.one(rig.alice, "buy", "0.2", "100", coin=PURR, reduce_only=True) == refused
    assert rig.one(rig.alice, "sell", "0.2", "100", coin=PURR, sl="0.1") == refused


def test_spot_never_touches_the_margin(rig):
    rig.outside("sell", "20", "100", HYPE)
    before = rig.trading.summary(rig.alice)
    rig.one(rig.alice, "buy", "20", "100", coin=HYPE)
    assert rig.trading.summary(rig.alice) == before
