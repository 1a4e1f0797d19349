"""Margin, worth and liquidation prices of the embedded exchange's accounts."""

from __future__ import annotations

from decimal import Decimal

import pytest
from attrs import evolve

from tests.unit.trading_rig import ASSETS, PERPS, TradingRig
from zq_daemon.venue.exchange import messages
from zq_daemon.venue.exchange.account import Account, Leverage

D = Decimal


@pytest.fixture
def rig() -> TradingRig:
    return TradingRig()


def state(rig, account) -> dict:
    return messages.account_state(rig.trading.summary(account), 7)


def position(rig, account, coin: str = "BTC") -> dict:
    return next(
        each["position"]
        for each in state(rig, account)["assetPositions"]
        if each["position"]["coin"] == coin
    )


def test_cross_position_is_backed_by_the_whole_wallet(rig):
    rig.buy_from_outside(rig.alice, 50_000, "0.5")
    rig.quote(50_400)
    told, held = state(rig, rig.alice), position(rig, rig.alice)
    assert rig.alice.balance == D(10_000) - D("11.25")
    assert held["unrealizedPnl"] == "200.0"
    assert held["positionValue"] == "25200.0"
    assert held["marginUsed"] == "1260.0"
    assert held["returnOnEquity"] == "0.16"
    assert held["leverage"] == {"type": "cross", "value": 20}
    assert (held["maxLeverage"], held["entryPx"]) == (40, "50000.0")
    value = D("10188.75")
    assert told["marginSummary"] == told["crossMarginSummary"]
    assert told["marginSummary"] == {
        "accountValue": "10188.75",
        "totalNtlPos": "25200.0",
        "totalRawUsd": messages.wire(value - 25_200),
        "totalMarginUsed": "1260.0",
    }
    assert told["crossMaintenanceMarginUsed"] == "315.0"
    assert told["withdrawable"] == "7668.75", "a tenth of the notional stays"
    assert told["time"] == 7


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_liquidation_price_is_where_worth_meets_maintenance(rig, side):
    sign = 1 if side == "buy" else -1
    rig.trading.set_leverage(rig.alice, 0, 40)
    rig.buy_from_outside(rig.alice, 50_000, "3", side=side)
    price = D(position(rig, rig.alice)["liquidationPx"])
    held = rig.alice.positions["BTC"]
    worth = rig.alice.balance + held.profit(price)
    assert abs(worth - 3 * price / 80) < D("0.000001")
    assert (price < 50_000) is (sign > 0)


def test_documented_example_of_an_isolated_position():
    """The numbers of the venue's own documentation of `clearinghouseState` (maximum 50 there)."""
    rig = TradingRig((*PERPS[:3], evolve(PERPS[3], max_leverage=50)))
    rig.trading.set_leverage(rig.alice, ASSETS["ETH"], 20, is_cross=False)
    rig.buy_from_outside(rig.alice, 3_000, "0.0335", "ETH")
    held = rig.alice.positions["ETH"]
    held.cost, held.margin = D("100.04105"), D("4.981226")
    rig.clear("ETH")
    rig.market.oracles["ETH"] = D("2985.9")
    told = position(rig, rig.alice, "ETH")
    assert told["positionValue"] == "100.02765"
    assert told["unrealizedPnl"] == "-0.0134"
    assert told["leverage"] == {"type": "isolated", "value": 20, "rawUsd": "-95.059824"}
    assert told["marginUsed"] == "4.967826"
    assert told["liquidationPx"] == "2866.26936529"
    assert told["returnOnEquity"] == "-0.0026789"
    summary = state(rig, rig.alice)
    worth = D(summary["marginSummary"]["accountValue"])
    assert worth - D(summary["crossMarginSummary"]["accountValue"]) == D("4.967826")
    assert summary["crossMarginSummary"]["totalNtlPos"] == "0.0"


def test_long_that_cannot_lose_it_all_has_no_liquidation_price(rig):
    rig.buy_from_outside(rig.alice, 50_000, "0.1")
    assert position(rig, rig.alice)["liquidationPx"] is None


def test_isolated_position_sets_its_margin_aside_and_gives_it_back(rig):
    rig.trading.set_leverage(rig.alice, ASSETS["ISO"], 5, is_cross=False)
    rig.buy_from_outside(rig.alice, 1_000, "10", "ISO")
    assert rig.alice.balance == D(10_000) - D("4.5") - 2_000
    rig.clear("ISO")
    rig.outside("buy", "1100", "4", "ISO")
    rig.one(rig.alice, "sell", "1100", "4", coin="ISO", tif="Ioc")
    assert rig.alice.positions["ISO"].margin == 1_200
    assert rig.alice.balance == D(10_000) - D("4.5") - D("1.98") - 1_200 + 400
    rig.outside("buy", "1000", "20", "ISO")
    rig.one(rig.alice, "sell", "1000", "8", coin="ISO", tif="Ioc")
    held = rig.alice.positions["ISO"]
    assert (held.size, held.cost, held.margin) == (-2, -2_000, 400)
    assert rig.trading.clearing.imbalances() == {}


def test_orders_of_isolated_assets_take_the_wallets_margin_only_for_what_they_add(rig):
    rig.trading.set_leverage(rig.alice, ASSETS["ISO"], 1, is_cross=False)
    rig.buy_from_outside(rig.alice, 1_000, "9", "ISO")
    assert rig.one(rig.alice, "buy", "1000", "2", coin="ISO") == {
        "error": "Insufficient margin to place order."
    }
    assert "resting" in rig.one(rig.alice, "sell", "1010", "9", coin="ISO")
    assert "resting" in rig.one(rig.alice, "buy", "1000", "0.5", coin="ISO")


def test_only_isolated_assets_take_no_cross_margin(rig):
    asset = ASSETS["ISO"]
    assert rig.trading.set_leverage(rig.alice, asset, 5) == (
        "Cross margin is not allowed for this asset."
    )
    rig.buy_from_outside(rig.alice, 1_000, "1", "ISO")
    assert position(rig, rig.alice, "ISO")["leverage"]["type"] == "isolated"


def test_margin_mode_is_fixed_while_a_position_is_open(rig):
    rig.buy_from_outside(rig.alice, 50_000, "0.1")
    problem = rig.trading.set_leverage(rig.alice, 0, 20, is_cross=False)
    assert problem == "Cannot switch leverage type with open position."
    assert rig.trading.set_leverage(rig.alice, 0, 40) is None


def test_leverage_goes_down_only_with_the_margin_for_it(rig):
    rig.buy_from_outside(rig.alice, 50_000, "1")
    assert rig.trading.set_leverage(rig.alice, 0, 6) is None
    refused = "Insufficient margin to decrease leverage."
    assert rig.trading.set_leverage(rig.alice, 0, 5) == refused
    assert rig.alice.leverage["BTC"].value == 6
    rig.trading.set_leverage(rig.bob, ASSETS["ETH"], 10, is_cross=False)
    rig.buy_from_outside(rig.bob, 1_000, "1", "ETH")
    assert rig.trading.set_leverage(rig.bob, ASSETS["ETH"], 5, is_cross=False) == refused
    assert rig.trading.add_isolated_margin(rig.bob, ASSETS["ETH"], D(100)) is None
    assert rig.trading.set_leverage(rig.bob, ASSETS["ETH"], 5, is_cross=False) is None


@pytest.mark.parametrize("leverage", [0, 41])
def test_leverage_is_bounded(rig, leverage):
    assert "at most 40" in rig.trading.set_leverage(rig.alice, 0, leverage)


@pytest.mark.parametrize("coin", ["GONE", "PURR/USDC"])
def test_leverage_is_of_listed_perpetuals(rig, coin):
    assert rig.trading.set_leverage(rig.alice, ASSETS[coin], 2) == "Asset is not listed."


def test_isolated_margin_goes_in_and_out_within_bounds(rig):
    asset, trading = ASSETS["ETH"], rig.trading
    none = "No isolated position to change the margin of."
    assert trading.add_isolated_margin(rig.alice, asset, D(1)) == none
    trading.set_leverage(rig.alice, asset, 10, is_cross=False)
    rig.buy_from_outside(rig.alice, 1_000, "10", "ETH")
    assert rig.alice.positions["ETH"].margin == 1_000
    assert trading.add_isolated_margin(rig.alice, asset, D("8995.6")) == (
        "Insufficient margin to add."
    )
    assert trading.add_isolated_margin(rig.alice, asset, D("0.0000001")) == "Invalid amount."
    assert trading.add_isolated_margin(rig.alice, asset, D(500)) is None
    assert trading.add_isolated_margin(rig.alice, asset, D("-500.01")) == (
        "Cannot remove that much margin from the position."
    )
    assert trading.add_isolated_margin(rig.alice, asset, D(-500)) is None
    assert rig.alice.positions["ETH"].margin == 1_000
    assert trading.set_leverage(rig.alice, asset, 20, is_cross=False) is None
    assert trading.add_isolated_margin(rig.alice, asset, D(500)) is None
    refused = trading.add_isolated_margin(rig.alice, asset, D("-500.01"))
    assert refused is not None, "a tenth of the notional stays, though a twentieth would do"
    assert trading.clearing.imbalances() == {}


def test_closed_position_leaves_nothing_behind():
    """A third of a cost has no end of decimals; the wallet gets what quantising left."""
    account = Account(address="0x1", balance=D(0))
    leverage = Leverage(value=3, is_cross=False)
    account.balance = D(100)
    for change, price in (("7", "1.000001"), ("-3", "1.1"), ("-2", "1.3"), ("-2", "0.9")):
        account.trade_perp("X", D(change), D(price), leverage)
    assert account.positions == {}
    assert account.balance == 100 - 7 * D("1.000001") + D("3.3") + D("2.6") + D("1.8")


def test_half_a_unit_that_quantising_left_is_cash_again():
    account = Account(address="0x1", balance=D(100))
    account.trade_perp("X", D(1), D("1.0000005"), Leverage(value=3))
    account.trade_perp("X", D(-1), D("1.5"), Leverage(value=3))
    assert account.positions == {}
    assert account.balance == 100 - D("1.0000005") + D("1.5")


def test_isolated_position_gets_no_more_margin_than_there_is():
    account = Account(address="0x1", balance=D(10))
    account.trade_perp("X", D(1), D(100), Leverage(value=5, is_cross=False))
    assert (account.positions["X"].margin, account.balance) == (10, 0)


def test_order_that_reduces_is_let_in_whatever_the_margin(rig):
    rig.buy_from_outside(rig.alice, 50_000, "3.9")
    rig.quote(49_500)
    assert rig.one(rig.alice, "buy", "49000", "0.1") == {
        "error": "Insufficient margin to place order."
    }
    assert "resting" in rig.one(rig.alice, "sell", "50000", "1")


def test_neither_armed_nor_reduce_only_orders_take_margin(rig):
    rig.rest(rig.alice, "buy", "52000", "3.9", sl="51000")
    rig.buy_from_outside(rig.alice, 50_000, "3.9")
    rig.rest(rig.bob, "sell", "50000", "3.9", sl="49000")
    assert "resting" in rig.one(rig.bob, "sell", "50500", "3.9")
    rig.rest(rig.alice, "sell", "51000", "3.9", reduce_only=True)
    rig.rest(rig.alice, "sell", "51000", "3.9", reduce_only=True)
    assert "resting" in rig.one(rig.alice, "sell", "51000", "7")


def test_holders_of_a_coin_are_those_with_a_position(rig):
    rig.buy_from_outside(rig.alice, 50_000, "1")
    assert list(rig.trading.clearing.holders["BTC"]) == [rig.alice.address]
    rig.buy_from_outside(rig.alice, 50_000, "1", side="sell")
    assert rig.trading.clearing.holders["BTC"] == {}
