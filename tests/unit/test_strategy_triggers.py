"""Stops, take profits and brackets as a strategy asks for them, and what leaves for the engine."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.service.execution_rig import BTC
from tests.service.strategy_rig import Rig, config
from zq_daemon.errors import StrategyError
from zq_daemon.model.check import check_command
from zq_daemon.model.command import SubmitBracket
from zq_daemon.model.market import Side
from zq_daemon.model.order import OrderType, TimeInForce
from zq_daemon.strategy.base import Strategy

D = Decimal


class Idle(Strategy):
    """Does nothing of its own."""


def running() -> tuple[Rig, Any]:
    rig = Rig()
    rig.load(config(Idle))
    rig.host.start()
    return rig, rig.strategy("mine").context


@pytest.mark.parametrize(
    ("method", "price", "kind"),
    [
        ("submit_stop", None, OrderType.STOP_MARKET),
        ("submit_stop", 96, OrderType.STOP_LIMIT),
        ("submit_take_profit", None, OrderType.TAKE_PROFIT_MARKET),
        ("submit_take_profit", 96, OrderType.TAKE_PROFIT_LIMIT),
    ],
)
def test_a_stop_or_take_profit_only_reduces_unless_asked_otherwise(
    method: str, price: int | None, kind: OrderType
) -> None:
    rig, context = running()
    ids = [
        getattr(context, method)(BTC, Side.SELL, 1, 97, price=price),
        getattr(context, method)(BTC, Side.SELL, 1, D("97.5"), price=price, reduce_only=False),
    ]
    first, second = rig.submitted
    assert [first.client_order_id, second.client_order_id] == ids
    assert (first.order_type, first.trigger_price, first.reduce_only) == (kind, D(97), True)
    assert (second.trigger_price, second.reduce_only) == (D("97.5"), False)
    assert first.price == (None if price is None else D(price))
    assert first.time_in_force is TimeInForce.GTC


@pytest.mark.parametrize("price", [None, 99])
def test_a_bracket_is_an_entry_and_what_closes_it(price: int | None) -> None:
    rig, context = running()
    bracket = context.submit_bracket(
        BTC, Side.BUY, D("0.5"), price=price, take_profit=102, stop_loss=97
    )
    (command,) = rig.asked(SubmitBracket)
    assert check_command(command) is None
    entry, (profit, loss) = command.entry, command.exits
    ids = [each.client_order_id for each in (entry, profit, loss)]
    assert ids == [bracket.entry, bracket.take_profit, bracket.stop_loss]
    if price is None:
        market = (OrderType.MARKET, TimeInForce.IOC)
        assert (entry.order_type, entry.time_in_force) == market
    else:
        assert (entry.order_type, entry.price) == (OrderType.LIMIT, D(99))
    assert (profit.order_type, profit.trigger_price) == (OrderType.TAKE_PROFIT_MARKET, D(102))
    assert (loss.order_type, loss.trigger_price) == (OrderType.STOP_MARKET, D(97))
    for each in (profit, loss):
        assert (each.side, each.quantity, each.reduce_only) == (Side.SELL, D("0.5"), True)
        assert each.parent_id == entry.client_order_id


@pytest.mark.parametrize(
    ("given", "missing"), [("take_profit", "stop_loss"), ("stop_loss", "take_profit")]
)
def test_one_exit_makes_a_bracket_too(given: str, missing: str) -> None:
    rig, context = running()
    bracket = context.submit_bracket(BTC, Side.SELL, 1, price=101, **{given: 100})
    (command,) = rig.asked(SubmitBracket)
    (way_out,) = command.exits
    assert getattr(bracket, given) == way_out.client_order_id
    assert getattr(bracket, missing) is None
    assert way_out.side is Side.BUY


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "pass a take_profit, a stop_loss or both"),
        ({"take_profit": 1.5}, r"take_profit: 1\.5 \(float\)"),
        ({"stop_loss": D("NaN")}, r"stop_loss: NaN \(Decimal\)"),
        ({"stop_loss": 97, "post_only": 1}, "post_only"),
    ],
)
def test_a_mistake_in_a_bracket_is_named(wrong: dict[str, Any], said: str) -> None:
    rig, context = running()
    with pytest.raises(StrategyError, match=f"strategy mine: submit_bracket: {said}"):
        context.submit_bracket(BTC, Side.BUY, 1, price=99, **wrong)
    assert rig.commands == []


def test_a_strategy_that_may_not_submit_may_not_submit_these() -> None:
    rig, context = running()
    context.permit("it has faulted")
    with pytest.raises(StrategyError, match="may not submit: it has faulted"):
        context.submit_stop(BTC, Side.SELL, 1, 97)
    with pytest.raises(StrategyError, match="may not submit: it has faulted"):
        context.submit_bracket(BTC, Side.BUY, 1, stop_loss=97)
    assert rig.commands == []
