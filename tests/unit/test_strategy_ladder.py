"""The ladders that process tests kill daemons with: what they promise must hold, or those lie."""

from __future__ import annotations

import importlib.util
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.service.execution_rig import BTC, book
from tests.service.strategy_rig import Rig
from zq_daemon.config.schema import StrategyConfig
from zq_daemon.core import topics
from zq_daemon.core.book import OrderBook
from zq_daemon.errors import ConfigError
from zq_daemon.model.command import CancelOrder, ModifyOrder
from zq_daemon.model.instrument import InstrumentKind
from zq_daemon.model.market import BookSnapshot, Levels, Side
from zq_daemon.model.order import Order, TimeInForce

FOLDER = Path(__file__).parents[1] / "harness" / "strategies"
BOTH = pytest.mark.parametrize("name", ["EventLadder", "ClockLadder"])


def running(name: str, former: Rig | None = None, **params: Any) -> Rig:
    """As a user would name it: found by its folder."""
    rig = Rig(former)
    rig.load(
        StrategyConfig(
            name="mine",
            use=f"ladder:{name}",
            path=str(FOLDER),
            instruments=(BTC,),
            params={"orders": 4, "offset_bps": 50} | params,
        )
    )
    rig.host.start()
    return rig


def turn(rig: Rig, times: int = 1) -> None:
    """A book and a tick: each of the two strategies hears one of them."""
    empty = Levels.of(())
    for _ in range(times):
        snapshot = BookSnapshot(
            instrument_id=BTC, bids=empty, asks=empty, ts_event_ns=1, ts_recv_ns=1
        )
        rig.bus.publish(topics.book_snapshot(BTC), snapshot)
        rig.tick()


def accepting(rig: Rig) -> Rig:
    rig.react = rig.accept
    return rig


def resting(rig: Rig) -> list[tuple[Side, Decimal]]:
    return [(order.side, order.price or Decimal(0)) for order in rig.cache.orders_live()]


def test_it_is_where_the_configuration_looks_for_it() -> None:
    assert importlib.util.spec_from_file_location("ladder", FOLDER / "ladder.py") is not None


@BOTH
def test_it_rests_its_orders_on_both_sides_and_no_more(name: str) -> None:
    rig = accepting(running(name))
    turn(rig, 9)
    assert resting(rig) == [
        (Side.BUY, Decimal("99.5")),
        (Side.SELL, Decimal("100.5")),
        (Side.BUY, Decimal("99")),
        (Side.SELL, Decimal("101")),
    ]
    assert rig.strategy("mine").counts["asked"] == len(rig.submitted) == 4


@BOTH
def test_each_fill_is_replaced(name: str) -> None:
    rig = accepting(running(name))
    turn(rig, 4)
    first = rig.submitted[0]
    rig.fill(first, str(first.quantity))
    assert len(rig.submitted) == (5 if name == "EventLadder" else 4)
    turn(rig)
    assert [(order.side, order.price) for order in rig.submitted[4:]] == [
        (Side.BUY, Decimal("99.5"))
    ]
    assert rig.strategy("mine").counts["fills"] == 1
    assert len(resting(rig)) == 4


@BOTH
def test_a_fill_in_part_is_not_replaced(name: str) -> None:
    rig = accepting(running(name, quantity="0.002"))
    turn(rig, 4)
    rig.fill(rig.submitted[0], "0.001")
    turn(rig, 3)
    assert len(rig.submitted) == 4


@BOTH
def test_every_so_often_an_order_is_moved_or_cancelled(name: str) -> None:
    rig = accepting(running(name, churn=5))
    turn(rig, 5)
    (moved,) = rig.asked(ModifyOrder)
    assert (moved.client_order_id, moved.price) == (rig.submitted[0].client_order_id, 98)
    turn(rig, 5)
    assert rig.asked(CancelOrder) == [CancelOrder(client_order_id=moved.client_order_id)]
    rig.cancel(rig.submitted[0])
    turn(rig)
    assert len(rig.submitted) == 5
    counts = rig.strategy("mine").counts
    assert counts == {"asked": 5, "fills": 0, "moved": 1, "cancelled": 1}


@BOTH
def test_every_so_often_one_more_order_crosses_the_book(name: str) -> None:
    rig = accepting(running(name, take=6, churn=6))
    turn(rig, 6)
    taken = rig.submitted[-1]
    assert (taken.side, taken.price) == (Side.BUY, 102)
    assert taken.time_in_force is TimeInForce.IOC
    rig.fill(taken, str(taken.quantity))
    turn(rig, 6)
    assert (rig.submitted[-1].side, rig.submitted[-1].price) == (Side.SELL, 98)
    assert rig.asked(ModifyOrder) == []


@BOTH
def test_of_a_spot_pair_it_sells_only_what_it_owns(name: str) -> None:
    rig = accepting(running(name, orders=1, quantity=1))
    spot = evolve(rig.cache.instrument(BTC), kind=InstrumentKind.SPOT)
    rig.cache.add_instrument(spot)
    turn(rig)
    rig.fill(rig.submitted[0], "0.5")
    rig.cancel(rig.submitted[0])
    turn(rig)
    assert [order.side for order in rig.submitted] == [Side.BUY, Side.BUY]
    rig.fill(rig.submitted[1], "1")
    turn(rig)
    assert [order.side for order in rig.submitted[2:]] == [Side.SELL]
    rig.fill(rig.submitted[2], "1")
    turn(rig)
    assert [order.side for order in rig.submitted[3:]] == [Side.BUY]


@BOTH
def test_after_a_restart_it_goes_on_with_orders_and_counts(name: str) -> None:
    former = accepting(running(name))
    turn(former, 4)
    former.fill(former.submitted[1], "0.001")
    turn(former)
    rig = accepting(running(name, former))
    assert rig.strategy("mine").counts == former.strategy("mine").counts
    turn(rig, 3)
    assert rig.commands == []
    rig.fill(former.submitted[0], "0.001")
    turn(rig)
    assert len(rig.submitted) == 1
    assert rig.strategy("mine").counts["asked"] == 6
    assert rig.saved[-1].version == 1


@BOTH
def test_with_fewer_orders_than_before_the_newest_go(name: str) -> None:
    former = accepting(running(name))
    turn(former, 4)
    rig = accepting(running(name, former, orders=3))
    surplus = former.submitted[3]
    assert rig.commands == [CancelOrder(client_order_id=surplus.client_order_id)]
    rig.cancel(surplus)
    turn(rig, 3)
    assert rig.submitted == []


@BOTH
def test_without_a_market_it_does_nothing(name: str) -> None:
    rig = accepting(running(name))
    rig.cache.put_book(BTC, OrderBook(BTC))
    turn(rig, 3)
    assert rig.commands == []
    rig.cache.put_book(BTC, book(BTC))
    turn(rig)
    assert len(rig.submitted) == 1


@BOTH
def test_what_is_refused_is_not_asked_for_all_the_time(name: str) -> None:
    rig = running(name)
    rig.react = rig.deny
    turn(rig, 16)
    assert len(rig.submitted) == 4  # after pauses of 1, 2 and 4 turns, then 8


@pytest.mark.parametrize(
    "wrong",
    [
        {"orders": 0},
        {"quantity": 0},
        {"churn": -1},
        {"take": -1},
        {"offset_bps": 0},
        {"orders": 200},
    ],
)
def test_senseless_parameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        running("EventLadder", **wrong)


STEPS = st.lists(
    st.sampled_from(["turn", "accept", "fill", "cancel", "deny", "restart"]), max_size=60
)


@settings(deadline=None)
@given(
    name=st.sampled_from(["EventLadder", "ClockLadder"]),
    orders=st.integers(1, 5),
    churn=st.integers(0, 4),
    steps=STEPS,
)
def test_there_are_never_too_many(name: str, orders: int, churn: int, steps: list[str]) -> None:
    rig = running(name, orders=orders, churn=churn)
    fills = 0
    for step in steps:
        live = tuple(rig.cache.orders_live())
        if step == "restart":
            rig = running(name, rig, orders=orders, churn=churn)
        elif step == "turn":
            turn(rig)
        elif live:
            fills += step == "fill"
            act(rig, step, live[0])
        assert len(rig.cache.orders_live()) <= orders
        assert rig.strategy("mine").counts["fills"] == fills
    assert rig.faults == []


def act(rig: Rig, step: str, order: Order) -> None:
    match step:
        case "accept":
            rig.accept(order)
        case "fill":
            rig.fill(order, str(order.remaining_quantity))
        case "cancel":
            rig.cancel(order)
        case _ if not order.is_open:
            rig.deny(order)
