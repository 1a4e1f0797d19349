"""What an order says of itself."""

from __future__ import annotations

from decimal import Decimal

import pytest
from attrs import evolve
from attrs.exceptions import FrozenInstanceError

from tests.unit.test_order_state import new_order
from zq_daemon.model.market import Side
from zq_daemon.model.order import OrderStatus, Pending

OPEN = {OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED}
IN_SUBMIT = {OrderStatus.JOURNALLED, OrderStatus.SUBMITTED}
CLOSED = set(OrderStatus) - OPEN - IN_SUBMIT - {OrderStatus.INITIALIZED}


@pytest.mark.parametrize("status", list(OrderStatus))
def test_each_status_is_open_in_flight_or_closed(status: OrderStatus) -> None:
    order = evolve(new_order(), status=status)
    assert order.is_open is (status in OPEN)
    assert order.is_in_flight is (status in IN_SUBMIT)
    assert order.is_closed is (status in CLOSED)


@pytest.mark.parametrize("pending", list(Pending))
def test_a_pending_request_is_in_flight_unless_the_order_closed(pending: Pending) -> None:
    order = evolve(new_order(), status=OrderStatus.ACCEPTED, pending=pending)
    assert order.is_in_flight
    assert not evolve(order, status=OrderStatus.CANCELED).is_in_flight


def test_what_remains_is_never_negative() -> None:
    order = evolve(new_order("3"), filled_quantity=Decimal("1.25"))
    assert order.remaining_quantity == Decimal("1.75")
    assert evolve(order, filled_quantity=Decimal(4)).remaining_quantity == 0


def test_the_average_fill_price_is_none_before_the_first_fill() -> None:
    assert new_order().average_fill_price is None
    order = evolve(new_order(), filled_quantity=Decimal(2), filled_notional=Decimal(201))
    assert order.average_fill_price == Decimal("100.5")


def test_orders_are_immutable() -> None:
    with pytest.raises(FrozenInstanceError):
        new_order().status = OrderStatus.FILLED  # type: ignore[misc]


def test_sides_have_signs_and_opposites() -> None:
    assert (Side.BUY.sign, Side.SELL.sign) == (1, -1)
    assert Side.BUY.opposite is Side.SELL
    assert Side.SELL.opposite is Side.BUY
