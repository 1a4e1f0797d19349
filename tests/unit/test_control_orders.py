"""How one order is told: its amounts, its ages, and what is not known about it yet."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from zq_daemon.control.orders import order_row
from zq_daemon.model.ids import AccountId, ClientOrderId, InstrumentId, StrategyId, VenueOrderId
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderStatus, OrderType, Pending

_S = 1_000_000_000


def order(**known: Any) -> Order:
    asked: dict[str, Any] = {
        "client_order_id": ClientOrderId("0x01"),
        "strategy_id": StrategyId("maker"),
        "account_id": AccountId("venue.me"),
        "instrument_id": InstrumentId("venue.BTC"),
        "side": Side.BUY,
        "order_type": OrderType.LIMIT,
        "quantity": Decimal("0.100000000001"),
        "price": Decimal("64000.0"),
        "ts_init_ns": 10 * _S,
        "ts_last_ns": 12 * _S,
    }
    return Order(**{**asked, **known})


@pytest.mark.parametrize(
    ("status", "pending", "why", "in_flight_s"),
    [
        (OrderStatus.INITIALIZED, None, "waits to be sent", None),
        (OrderStatus.JOURNALLED, None, "durable, about to be sent", 3.0),
        (OrderStatus.SUBMITTED, None, "sent, no outcome known", 3.0),
        (
            OrderStatus.SUBMITTED,
            Pending.CANCEL,
            "sent, no outcome known; cancel asked for, no outcome known",
            3.0,
        ),
        (OrderStatus.ACCEPTED, None, "", None),
        (OrderStatus.ACCEPTED, Pending.CANCEL, "cancel asked for, no outcome known", 3.0),
        (
            OrderStatus.PARTIALLY_FILLED,
            Pending.MODIFY,
            "modification asked for, no outcome known",
            3.0,
        ),
        (OrderStatus.FILLED, Pending.CANCEL, "", None),
    ],
)
def test_what_is_awaited_is_told(
    status: OrderStatus, pending: Pending | None, why: str, in_flight_s: float | None
) -> None:
    row = order_row(order(status=status, pending=pending), 15 * _S)
    assert row["status"] == status.value
    assert row["pending"] == (None if pending is None else pending.value)
    assert row["why"] == why
    assert row["in_flight_s"] == in_flight_s
    assert (row["age_s"], row["changed_s"]) == (5.0, 3.0)


def test_a_modification_tells_the_quantity_it_asks_for() -> None:
    changing = order(
        status=OrderStatus.ACCEPTED, pending=Pending.MODIFY, pending_quantity=Decimal("0.20")
    )
    row = order_row(changing, 15 * _S)
    assert row["why"] == "modification to quantity 0.2 asked for, no outcome known"


def test_an_exit_that_is_held_says_for_what_it_waits() -> None:
    entry = ClientOrderId("0x02")
    waits: dict[str, Any] = {"status": OrderStatus.ACCEPTED, "is_held": True, "parent_id": entry}
    row = order_row(order(trigger_price=Decimal("63000.00"), **waits), 15 * _S)
    assert row["why"] == "held by the venue until its entry has filled"
    assert (row["trigger_price"], row["entry"], row["in_flight_s"]) == ("63000", entry, None)
    armed = order(venue_order_ids=(VenueOrderId("7"),), **waits)
    assert order_row(armed, 15 * _S)["why"] == ""


def test_why_an_order_ended_is_told() -> None:
    row = order_row(order(status=OrderStatus.REJECTED, reason="no margin"), 15 * _S)
    assert row["why"] == "no margin"
    assert row["in_flight_s"] is None


def test_amounts_are_exact_and_a_clock_set_back_makes_nothing_negative() -> None:
    row = order_row(order(price=None), 0)
    assert row["quantity"] == "0.100000000001"
    assert row["price"] is None
    assert row["filled"] == "0"
    assert (row["age_s"], row["changed_s"]) == (0, 0)
