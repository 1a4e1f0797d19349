"""Liquidation at the embedded exchange: when, how, what is told, and who pays."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.trading_rig import ASSETS, TradingRig, order
from zq_daemon.venue.exchange import messages
from zq_daemon.venue.exchange.house import INSURANCE

D = Decimal


@pytest.fixture
def rig() -> TradingRig:
    rig = TradingRig()
    rig.trading.set_leverage(rig.alice, 0, 40)
    return rig


def test_wallet_below_its_maintenance_margin_is_sold_to_the_book(rig):
    rig.buy_from_outside(rig.alice, 50_000, "5")
    rig.quote(48_640)
    assert rig.tape.liquidations == [], "worth 3137, maintenance 3040"
    rig.quote(48_590)
    assert rig.alice.positions == {}
    fill = rig.alice.fills[-1]
    assert (fill.price, fill.size, fill.direction) == (48_589, 5, "Close Long")
    assert fill.crossed
    told = messages.fill(fill)
    assert told["liquidation"] == {
        "liquidatedUser": rig.alice.address,
        "markPx": "48590.0",
        "method": "market",
    }
    loss = 5 * D(50_000 - 48_589)
    fees = 5 * D(50_000 + 48_589) * D("0.00045")
    assert rig.alice.balance == 10_000 - loss - fees
    (liquidation,) = rig.tape.liquidations
    assert messages.liquidation(liquidation) == {
        "lid": liquidation.lid,
        "liquidator": INSURANCE,
        "liquidated_user": rig.alice.address,
        "liquidated_ntl_pos": "242950.0",
        "liquidated_account_value": "2837.5",
    }
    (update,) = rig.alice.updates
    assert update.delta["liquidatedPositions"] == [{"coin": "BTC", "szi": "5.0"}]


def test_orders_that_need_the_margin_are_cancelled_and_spot_orders_stay(rig):
    rig.buy_from_outside(rig.alice, 50_000, "5")
    resting = rig.rest(rig.alice, "sell", "60000", "0.1", reduce_only=True)
    stop = rig.rest(rig.alice, "sell", "30000", "1", sl="40000", reduce_only=True)
    elsewhere = rig.rest(rig.alice, "buy", "900", "0.1", coin="ETH")
    spot = rig.rest(rig.alice, "buy", "20", "10", coin="@107")
    rig.quote(48_000)
    assert [rig.state(oid) for oid in (resting, stop, elsewhere)] == ["liquidatedCanceled"] * 3
    assert rig.state(spot) == "open"
    assert (stop, "liquidatedCanceled") in rig.tape.cancels


def test_only_as_much_is_sold_as_makes_the_wallet_healthy(rig):
    rig.buy_from_outside(rig.alice, 50_000, "4")
    rig.buy_from_outside(rig.alice, 1_000, "10", "ETH")
    rig.quote(47_900)
    assert set(rig.alice.positions) == {"ETH"}, "the largest goes first"


def test_what_the_book_does_not_take_goes_to_the_insurance_at_the_mark(rig):
    rig.buy_from_outside(rig.alice, 50_000, "5")
    rig.quote(48_590, size="1")
    last, before = rig.alice.fills[-1], rig.alice.fills[-2]
    assert (before.size, before.direction) == (1, "Close Long")
    assert (last.size, last.price, last.fee) == (4, 48_590, 0)
    assert last.direction == "Liquidated Cross Long"
    assert last.liquidation.method == "backstop"
    insurance = rig.trading.clearing.house.insurance
    assert insurance.position_size("BTC") == 4
    assert rig.alice.positions == {}
    assert rig.trading.clearing.imbalances() == {}


def test_book_far_from_the_mark_is_not_sold_into(rig):
    rig.buy_from_outside(rig.alice, 50_000, "5", side="sell")
    rig.clear()
    rig.outside("buy", "45000", "10")
    rig.outside("sell", "58000", "10")
    rig.trading.react()
    assert rig.alice.fills[-1].direction == "Liquidated Cross Short"
    assert rig.alice.fills[-1].price == 51_500


def test_insurance_makes_a_wallet_whole_that_ends_below_nothing(rig):
    rig.buy_from_outside(rig.alice, 50_000, "7")
    rig.quote(45_000)
    assert rig.alice.balance == 0
    assert rig.trading.clearing.house.insurance.balance < 0
    assert rig.trading.clearing.imbalances() == {}


def test_isolated_position_is_liquidated_alone_and_loses_no_more_than_its_margin(rig):
    asset = ASSETS["ISO"]
    rig.trading.set_leverage(rig.alice, asset, 10, is_cross=False)
    rig.buy_from_outside(rig.alice, 50_000, "0.1")
    rig.buy_from_outside(rig.alice, 1_000, "10", "ISO")
    here = rig.rest(rig.alice, "sell", "1500", "10", coin="ISO", reduce_only=True)
    there = rig.rest(rig.alice, "sell", "60000", "0.1", reduce_only=True)
    before = rig.alice.balance
    rig.quote(870, "ISO")
    assert set(rig.alice.positions) == {"BTC"}
    assert (rig.state(here), rig.state(there)) == ("liquidatedCanceled", "open")
    assert rig.alice.balance == before, "1000 of margin is gone, and no more"
    assert rig.trading.clearing.imbalances() == {}


def test_what_is_left_of_an_isolated_margin_comes_back(rig):
    asset = ASSETS["ISO"]
    rig.trading.set_leverage(rig.alice, asset, 10, is_cross=False)
    rig.buy_from_outside(rig.alice, 1_000, "10", "ISO", side="sell")
    before = rig.alice.balance
    rig.quote(1_047, "ISO")
    assert rig.tape.liquidations == []
    rig.quote(1_048, "ISO")
    assert rig.alice.positions == {}
    fee = 10 * D(1_049) * D("0.00045")
    assert rig.alice.balance == before + 1_000 - 490 - fee


def test_resting_order_of_another_account_meets_the_liquidation_and_is_told_so(rig):
    rig.buy_from_outside(rig.alice, 50_000, "5")
    rig.clear()
    rig.rest(rig.bob, "buy", "48500", "0.5")
    rig.outside("sell", "48600", "10")
    rig.trading.react()
    fill = next(fill for fill in rig.bob.fills)
    assert (fill.direction, fill.crossed) == ("Open Long", False)
    assert fill.liquidation.user == rig.alice.address
    assert rig.tape.trades[-1].buyer == rig.bob.address


def test_one_liquidation_may_set_off_another(rig):
    rig.trading.set_leverage(rig.bob, 0, 40)
    rig.buy_from_outside(rig.alice, 50_000, "7")
    rig.buy_from_outside(rig.bob, 50_000, "3")
    rig.clear()
    rig.outside("buy", "49150", "2")
    rig.outside("buy", "47000", "50")
    rig.outside("sell", "49200", "1")
    rig.trading.react()
    assert [each.user for each in rig.tape.liquidations] == [rig.alice.address]
    assert rig.alice.positions == {}
    assert rig.trading.mark("BTC") == 48_100
    assert rig.bob.position_size("BTC") == 3


def test_nobody_is_liquidated_without_a_price(rig):
    rig.buy_from_outside(rig.alice, 50_000, "5")
    rig.clear()
    rig.trading.clearing.last_trade.clear()
    rig.trading.react()
    assert rig.tape.liquidations == []


def test_orders_after_a_liquidation_start_from_what_is_left(rig):
    rig.buy_from_outside(rig.alice, 50_000, "7")
    rig.quote(45_000)
    assert rig.place(rig.alice, order("buy", "45000", "0.01")) == [
        {"error": "Insufficient margin to place order."}
    ]


def test_group_that_waits_is_cancelled_once(rig):
    rig.buy_from_outside(rig.alice, 50_000, "5")
    parent, child = (
        order("buy", "40000", "0.1", cloid=1),
        order("sell", "39000", "0.1", sl="39500", reduce_only=True, cloid=2),
    )
    rig.place(rig.alice, parent, child, grouping="normalTpsl")
    waiting = rig.trading.orders.find(rig.alice.address, f"0x{2:032x}")
    rig.quote(48_000)
    assert rig.tape.statuses(waiting.oid) == ["liquidatedCanceled"]
