"""The moving-average cross: against sums made afresh, and what it trades."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.service.execution_rig import BTC, ETH
from tests.service.strategy_rig import Rig, config
from zq_daemon.model.bar import BarSpec
from zq_daemon.model.market import Side
from zq_daemon.model.order import OrderType
from zq_daemon.strategy.ma_cross import MovingAverageCross, Window
from zq_daemon.strategy.pause import Pause

PRICES = st.decimals("0.0001", "1000000", places=8)


@given(st.lists(PRICES, max_size=40), st.integers(1, 6), st.integers(6, 12))
def test_running_sums_never_drift(closes: list[Decimal], short: int, size: int) -> None:
    window = Window(size)
    for count, close in enumerate(closes, start=1):
        window.add(close)
        for length in (short, size):
            assert window.sum_of_last(length) == sum(closes[:count][-length:])
        assert window.is_full == (count >= size)


def test_a_resized_window_keeps_what_it_has() -> None:
    window = Window(4)
    for close in (1, 2, 3, 4, 5):
        window.add(Decimal(close))
    window.resize(2)
    assert (window.sum_of_last(2), window.is_full) == (Decimal(9), True)
    window.resize(3)
    assert not window.is_full
    window.add(Decimal(6))
    assert (window.sum_of_last(3), window.is_full) == (Decimal(15), True)


def running(**params: Any) -> Rig:
    rig = Rig()
    terms = {"fast": 2, "slow": 3, "quantity": 1} | params
    rig.load(config(MovingAverageCross, params=terms, instruments=(BTC, ETH), bars=("1m", "5m")))
    rig.host.start()
    return rig


def trade(rig: Rig, *closes: str) -> list[tuple[Side, Decimal, bool]]:
    """Bars with these closes; each order is filled at once. What was submitted."""
    before = len(rig.submitted)
    for close in closes:
        done = len(rig.submitted)
        rig.publish_bar(close)
        for order in rig.submitted[done:]:
            rig.accept(order)
            rig.fill(order, str(order.quantity), close)
    new = rig.submitted[before:]
    assert all(order.order_type is OrderType.MARKET for order in new)
    return [(order.side, order.quantity, order.reduce_only) for order in new]


def test_it_goes_long_and_turns_short() -> None:
    rig = running()
    assert trade(rig, "100", "101") == []
    assert trade(rig, "102") == [(Side.BUY, Decimal(1), False)]
    assert trade(rig, "103", "104") == []
    assert trade(rig, "90") == [(Side.SELL, Decimal(2), False)]
    assert trade(rig, "80") == []
    assert rig.strategy("mine").context.position(BTC).quantity == -1
    assert rig.strategy("mine").context.position(ETH).quantity == 0


def test_without_shorts_it_goes_flat() -> None:
    rig = running(allow_short=False)
    trade(rig, "100", "101", "102")
    assert trade(rig, "90") == [(Side.SELL, Decimal(1), True)]
    assert trade(rig, "80") == []


def test_equal_means_are_flat() -> None:
    rig = running()
    trade(rig, "100", "101", "102")
    assert trade(rig, "102", "102") == [(Side.SELL, Decimal(1), True)]


def test_one_order_at_a_time_and_denied_ones_are_tried_again() -> None:
    rig = running()
    for close in ("100", "101", "102"):
        rig.publish_bar(close)
    rig.publish_bar("103")
    assert len(rig.submitted) == 1  # still live
    rig.deny(rig.submitted[0])
    rig.publish_bar("104")
    assert len(rig.submitted) == 1  # it waits for a bar
    rig.publish_bar("105")
    assert len(rig.submitted) == 2


def test_only_its_first_bar_spec_counts() -> None:
    rig = running()
    for close in ("100", "101", "102", "103"):
        rig.publish_bar(close, spec=BarSpec.parse("5m"))
    assert rig.submitted == []


def test_a_rest_below_the_quantity_step_is_left_alone() -> None:
    rig = running()
    trade(rig, "100", "101")
    rig.publish_bar("102")
    (order,) = rig.submitted
    rig.accept(order)
    rig.fill(order, "0.9999", "102")
    rig.cancel(order)
    rig.publish_bar("103")
    assert len(rig.submitted) == 1


def test_new_parameters_are_taken_while_it_runs() -> None:
    rig = running()
    trade(rig, "100", "101", "102")
    terms = {"fast": 2, "slow": 5, "quantity": 3}
    rig.host.reload([config(MovingAverageCross, params=terms)])
    assert trade(rig, "103") == []  # the longer window is not full yet
    assert trade(rig, "104") == [(Side.BUY, Decimal(2), False)]


def test_without_bars_it_starts_and_does_nothing() -> None:
    rig = Rig()
    rig.load(config(MovingAverageCross, params={"quantity": 1}, bars=()))
    rig.host.start()
    assert rig.faults == []


@pytest.mark.parametrize("price", ["0.1", "0.7"])
def test_many_bars_of_one_price_never_trade(price: str) -> None:
    rig = running(fast=3, slow=7)
    assert trade(rig, *[price] * 50) == []


def test_a_pause_doubles_up_to_its_longest() -> None:
    pause = Pause()
    assert not pause.passes()
    lengths = []
    for _ in range(9):
        pause.begin()
        lengths.append(next(count for count in range(100) if not pause.passes()))
    assert lengths == [1, 2, 4, 8, 16, 32, 64, 64, 64]


def test_a_refused_order_is_not_repeated_on_the_next_bar() -> None:
    rig = running()
    for close in ("1", "2", "3"):
        rig.publish_bar(close)
    tries = []
    for bar in range(12):
        (order,) = rig.submitted[-1:]
        if bar == 0 or len(rig.submitted) > tries[-1]:
            tries.append(len(rig.submitted))
            rig.deny(order)
        rig.publish_bar(str(4 + bar))
    assert len(rig.submitted) == 4
