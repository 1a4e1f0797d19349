"""Brackets: an entry and its exits leave together or not at all; the exits are held meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve

from tests.harness.journal import intents_of
from tests.service.execution_rig import Rig, later, open_rig, open_risk, statement
from zq_daemon.engine.confirmation import StopResult
from zq_daemon.model.command import SubmitBracket
from zq_daemon.model.event import OrderDenied, OrderHeld, OrderPendingRejected
from zq_daemon.model.ids import VenueOrderId
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderStatus, OrderType
from zq_daemon.ports.disk import MemoryDisk
from zq_daemon.venue.interface import (
    MISSING_ORDER,
    Acknowledged,
    Ambiguous,
    Held,
    Outcome,
    Refused,
    Request,
)

pytestmark = pytest.mark.virtual

D = Decimal
TAKEN: Sequence[Outcome] = [Acknowledged(venue_order_id=VenueOrderId("e1")), Held(), Held()]


def bracket(rig: Rig, **changes: Any) -> tuple[Order, Order, Order]:
    """Buy at 99, out at 102 or, at a loss, at 97."""
    entry = rig.order(price=D(99))
    exits: dict[str, Any] = {"side": Side.SELL, "price": None, "reduce_only": True}
    exits |= {"parent_id": entry.client_order_id}
    profit = rig.order(
        order_type=OrderType.TAKE_PROFIT_MARKET, **({"trigger_price": D(102)} | exits | changes)
    )
    loss = rig.order(order_type=OrderType.STOP_MARKET, trigger_price=D(97), **exits)
    return entry, profit, loss


def submit(rig: Rig, orders: tuple[Order, Order, Order]) -> None:
    command = SubmitBracket(entry=orders[0], exits=orders[1:])
    rig.bus.send("order.submit_bracket", command)


async def taken(rig: Rig) -> tuple[Order, Order, Order]:
    """A bracket that the venue has accepted."""
    rig.entry.answers["submit"].append(TAKEN)
    orders = bracket(rig)
    submit(rig, orders)
    await later(1)
    return orders


def states(rig: Rig, orders: Sequence[Order]) -> list[OrderStatus]:
    return [rig.now(each.client_order_id).status for each in orders]


async def test_a_bracket_leaves_in_one_request_whose_intents_are_all_durable() -> None:
    async with open_rig() as rig:
        rig.entry.answers["submit"].append(TAKEN)
        rig.submit()
        orders = bracket(rig)
        submit(rig, orders)
        rig.submit()
        await later(1)
        ids = tuple(each.client_order_id for each in orders)
        assert ids in [request.client_order_ids for _, request in rig.entry.sent]
        assert set(ids) <= {intent.client_order_id for intent in await intents_of(rig.disk)}


async def test_exits_are_held_and_not_missed_in_statements_while_their_entry_rests() -> None:
    async with open_rig() as rig:
        orders = await taken(rig)
        assert states(rig, orders) == [OrderStatus.ACCEPTED] * 3
        assert all(rig.now(each.client_order_id).is_held for each in orders[1:])
        rests = rig.report_of(orders[0].client_order_id, OrderStatus.ACCEPTED)
        rig.engine.on_report(statement(rig.clock.now_ns(), {}, (rests,)))
        await later(300)
        assert rig.queries.asked == []
        assert states(rig, orders) == [OrderStatus.ACCEPTED] * 3


async def test_exits_of_an_entry_that_ends_unfilled_are_asked_about() -> None:
    async with open_rig() as rig:
        orders = await taken(rig)
        rig.cancel(orders[0].client_order_id)
        await later(60)
        assert {each for _, each in rig.queries.asked} == {
            order.client_order_id for order in orders[1:]
        }
        assert states(rig, orders) == [OrderStatus.CANCELED] * 3


async def test_an_exit_gets_its_id_when_the_venue_lets_it_wait_for_its_price() -> None:
    async with open_rig() as rig:
        orders = await taken(rig)
        rig.fill(orders[0].client_order_id, "t1", "1")
        profit, loss = (each.client_order_id for each in orders[1:])
        rig.report(profit, OrderStatus.ACCEPTED, venue_order_id="x1")
        rig.report(loss, OrderStatus.ACCEPTED, venue_order_id="x2")
        assert (rig.now(profit).venue_order_id, rig.now(loss).venue_order_id) == ("x1", "x2")
        assert rig.queries.asked == []


async def test_exits_of_an_entry_that_has_filled_are_made_sure_of() -> None:
    async with open_rig() as rig:
        orders = await taken(rig)
        entry, profit, loss = (each.client_order_id for each in orders)
        rig.queries.orders[profit] = rig.report_of(
            profit, OrderStatus.ACCEPTED, venue_order_id=VenueOrderId("x1")
        )
        rig.queries.orders[loss] = rig.report_of(
            loss, OrderStatus.REJECTED, venue_order_id=VenueOrderId("x2")
        )
        rig.fill(entry, "t1", "1")  # and nothing is told of the exits
        await later(2)
        assert states(rig, orders[1:]) == [OrderStatus.ACCEPTED, OrderStatus.REJECTED]
        assert rig.now(profit).venue_order_id == "x1"
        await later(300)
        assert len(rig.queries.asked) == 2


async def test_exits_are_made_sure_of_that_are_said_to_be_held_after_their_entry_has_filled() -> (
    None
):
    async with open_rig() as rig:
        entry, profit, loss = orders = bracket(rig)

        async def fill_first(_: Request) -> Sequence[Outcome]:
            rig.report(entry.client_order_id, OrderStatus.ACCEPTED, venue_order_id="e1")
            rig.fill(entry.client_order_id, "t1", "1", venue_order_id="e1")
            return TAKEN

        rig.entry.answers["submit"].append(fill_first)
        for number, each in enumerate((profit, loss)):
            rig.queries.orders[each.client_order_id] = rig.report_of(
                each, OrderStatus.ACCEPTED, venue_order_id=VenueOrderId(f"x{number}")
            )
        submit(rig, orders)
        await later(2)
        assert states(rig, orders) == [OrderStatus.FILLED, *[OrderStatus.ACCEPTED] * 2]
        assert rig.now(loss.client_order_id).venue_order_id == "x1"


async def test_a_refused_bracket_has_ended() -> None:
    async with open_rig() as rig:
        rig.entry.answers["submit"].append([Refused(code="margin", text="no")] * 3)
        orders = bracket(rig)
        submit(rig, orders)
        await later(1)
        assert states(rig, orders) == [OrderStatus.REJECTED] * 3


async def test_what_waits_to_be_sent_is_withdrawn_with_its_exits() -> None:
    async with open_rig() as rig:
        orders = bracket(rig)
        submit(rig, orders)
        rig.cancel(orders[0].client_order_id)
        await later(1)
        assert states(rig, orders) == [OrderStatus.CANCELED] * 3
        assert rig.entry.sent == []


async def test_an_exit_that_is_withdrawn_leaves_its_entry_and_the_other_exit() -> None:
    async with open_rig() as rig:
        orders = bracket(rig)
        submit(rig, orders)
        rig.cancel(orders[1].client_order_id)
        await later(1)
        ((_, request),) = rig.entry.sent
        assert request.client_order_ids == (orders[0].client_order_id, orders[2].client_order_id)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"trigger_price": D(98)}, "TRIGGER_PRICE"),
        ({"quantity": D(2)}, "REDUCE_ONLY"),
        ({"trigger_price": D(0)}, "INVALID_TRIGGER_PRICE"),
    ],
)
async def test_all_of_a_bracket_is_denied_for_one_of_its_exits(
    changes: dict[str, Any], code: str
) -> None:
    async with open_rig() as rig:
        terms = dict(changes)
        quantity = terms.pop("quantity", None)
        orders = bracket(rig, **terms)
        if quantity is not None:
            orders = (orders[0], evolve(orders[1], quantity=quantity), orders[2])
        submit(rig, orders)
        await later(1)
        assert states(rig, orders) == [OrderStatus.DENIED] * 3
        assert rig.last(OrderDenied).code == code
        assert rig.entry.sent == []


@pytest.mark.parametrize(
    ("order_type", "trigger", "status"),
    [
        (OrderType.TAKE_PROFIT_MARKET, "100.5", OrderStatus.ACCEPTED),
        (OrderType.TAKE_PROFIT_MARKET, "99.9", OrderStatus.DENIED),
        (OrderType.STOP_MARKET, "99.9", OrderStatus.ACCEPTED),
        (OrderType.STOP_MARKET, "100.5", OrderStatus.DENIED),
    ],
)
async def test_exits_of_an_entry_that_trades_at_once_are_measured_at_the_mark(
    order_type: OrderType, trigger: str, status: OrderStatus
) -> None:
    async with open_rig() as rig:
        entry = rig.order(order_type=OrderType.MARKET, price=None)  # 101.1 is the worst it takes
        way_out = rig.order(
            side=Side.SELL,
            order_type=order_type,
            trigger_price=D(trigger),
            price=None,
            reduce_only=True,
            parent_id=entry.client_order_id,
        )
        rig.bus.send("order.submit_bracket", SubmitBracket(entry=entry, exits=(way_out,)))
        await later(1)
        assert states(rig, (entry, way_out)) == [status] * 2


async def test_exits_that_are_held_are_left_at_a_stop_with_their_entry() -> None:
    async with open_rig() as rig:
        orders = await taken(rig)
        rests = rig.report_of(orders[0].client_order_id, OrderStatus.ACCEPTED)
        rig.queries.open_orders = (rests,)
        result = await rig.engine.settle_all(cancel=False, timeout_s=10)
        assert result == StopResult(cancelled=0, left=3, unverified=0)
        rig.queries.open_orders = ()
        result = await rig.engine.settle_all(cancel=False, timeout_s=10)
        assert (result.left, result.unverified) == (0, 3)


async def test_exits_whose_ids_were_asked_for_are_held_all_the_same() -> None:
    async with open_rig() as rig:
        rig.entry.answers["submit"].append([Ambiguous(detail="no answer")] * 3)
        orders = bracket(rig)
        for number, each in enumerate(orders):
            rig.queries.orders[each.client_order_id] = rig.report_of(
                each, OrderStatus.ACCEPTED, venue_order_id=VenueOrderId(f"x{number}")
            )
        submit(rig, orders)
        await later(20)
        assert [rig.now(each.client_order_id).venue_order_id for each in orders] == [
            "x0",
            "x1",
            "x2",
        ]
        asked = len(rig.queries.asked)
        rig.queries.open_orders = (rig.report_of(orders[0].client_order_id, OrderStatus.ACCEPTED),)
        rig.state()
        await later(60)
        assert len(rig.queries.asked) == asked
        result = await rig.engine.settle_all(cancel=False, timeout_s=10)
        assert result == StopResult(cancelled=0, left=3, unverified=0)
        rig.report(orders[0].client_order_id, OrderStatus.CANCELED)
        await later(60)
        assert {each for _, each in rig.queries.asked[asked:]} == {
            each.client_order_id for each in orders[1:]
        }


@pytest.mark.parametrize("fill_first", [True, False])
async def test_an_exit_ends_that_the_venue_made_as_small_as_what_its_entry_got(
    fill_first: bool,
) -> None:
    async with open_rig() as rig:
        orders = await taken(rig)
        entry, profit, _ = (each.client_order_id for each in orders)
        rig.fill(entry, "t1", "0.4")
        rig.report(entry, OrderStatus.CANCELED)
        small: dict[str, Any] = {"venue_order_id": VenueOrderId("x1"), "quantity": D("0.4")}
        rig.report(profit, OrderStatus.ACCEPTED, remaining=D("0.4"), **small)
        if fill_first:
            rig.fill(profit, "t2", "0.4", venue_order_id=VenueOrderId("x1"))
        rig.report(profit, OrderStatus.FILLED, remaining=D(0), **small)
        if not fill_first:
            assert not rig.now(profit).is_closed
            rig.fill(profit, "t2", "0.4", venue_order_id=VenueOrderId("x1"))
        assert rig.now(profit).status is OrderStatus.CANCELED
        assert rig.now(profit).filled_quantity == D("0.4")


async def test_the_budget_must_have_room_for_all_of_a_bracket() -> None:
    async with open_rig() as rig:
        rig.entry.answers["submit"].append(TAKEN)
        rig.entry.room["submit"] = 5
        first, second = bracket(rig), bracket(rig)
        submit(rig, first)
        submit(rig, second)  # while the other one waits
        await later(1)
        assert (
            states(rig, (*first, *second)) == [OrderStatus.ACCEPTED] * 3 + [OrderStatus.DENIED] * 3
        )
        assert rig.last(OrderDenied).code == "RATE_LIMIT"


async def test_all_of_a_bracket_counts_as_orders() -> None:
    async with open_rig(risk=open_risk(max_orders_per_second=2)) as rig:
        orders = bracket(rig)
        submit(rig, orders)
        assert rig.last(OrderDenied).code == "ORDER_RATE"
        assert states(rig, orders) == [OrderStatus.DENIED] * 3


@pytest.mark.parametrize(("most", "status"), [(2, OrderStatus.DENIED), (3, OrderStatus.ACCEPTED)])
async def test_no_bracket_takes_more_places_than_are_left(most: int, status: OrderStatus) -> None:
    async with open_rig(risk=open_risk(max_open_orders=most)) as rig:
        orders = await taken(rig)
        assert states(rig, orders) == [status] * 3


@pytest.mark.parametrize(
    "odd",
    [
        {"side": Side.BUY},
        {"reduce_only": False},
        {"order_type": OrderType.LIMIT, "trigger_price": None, "price": D(102)},
        {"parent_id": None},
    ],
)
async def test_what_is_no_bracket_is_not_taken(odd: dict[str, Any]) -> None:
    async with open_rig() as rig:
        entry, profit, loss = bracket(rig)
        submit(rig, (entry, evolve(profit, **odd), loss))
        assert rig.cache.order(entry.client_order_id) is None
        rig.submit(profit)
        assert rig.cache.order(profit.client_order_id) is None


async def test_the_entry_of_a_bracket_is_not_modified() -> None:
    async with open_rig() as rig:
        orders = await taken(rig)
        rig.modify(orders[0].client_order_id, price=D(98))
        assert rig.last(OrderPendingRejected).code == "BRACKET"


async def test_a_bracket_that_the_venue_cannot_express_is_denied_as_a_whole() -> None:
    async with open_rig() as rig:
        orders = bracket(rig)
        rig.entry.inexpressible.add(orders[2].client_order_id)
        submit(rig, orders)
        await later(1)
        assert states(rig, orders) == [OrderStatus.DENIED] * 3
        assert rig.last(OrderDenied).code == "NOT_EXPRESSIBLE"


async def test_an_exit_that_the_venue_disowns_is_not_taken_for_held() -> None:
    async with open_rig() as rig:
        orders = await taken(rig)
        rests = rig.report_of(orders[0].client_order_id, OrderStatus.ACCEPTED)
        rig.queries.open_orders = (rests,)
        rig.entry.answers["cancel"].append([Ambiguous(detail="no answer")])
        rig.cancel(orders[1].client_order_id)
        await later(30)
        assert not rig.now(orders[1].client_order_id).is_closed
        rig.entry.answers["cancel"].append([Refused(code=MISSING_ORDER, text="no such order")])
        rig.cancel(orders[1].client_order_id)
        await later(60)
        accepted, canceled = OrderStatus.ACCEPTED, OrderStatus.CANCELED
        assert states(rig, orders) == [accepted, canceled, accepted]


async def test_exits_live_on_whose_cancel_cannot_be_expressed() -> None:
    async with open_rig() as rig:
        orders = await taken(rig)
        rig.entry.inexpressible.add(orders[1].client_order_id)
        for each in orders[1:]:
            rig.cancel(each.client_order_id)
        await later(1)
        assert states(rig, orders[1:]) == [OrderStatus.ACCEPTED, OrderStatus.CANCELED]
        assert rig.last(OrderPendingRejected).code == "NOT_EXPRESSIBLE"


async def test_exits_are_known_as_such_after_a_restart() -> None:
    disk = MemoryDisk()
    async with open_rig(disk=disk) as rig:
        orders = await taken(rig)
        assert rig.last(OrderHeld).client_order_id == orders[2].client_order_id
    async with open_rig(disk=disk) as rig:
        assert states(rig, orders) == [OrderStatus.ACCEPTED] * 3
        rests = rig.report_of(orders[0].client_order_id, OrderStatus.ACCEPTED)
        rig.queries.open_orders = (rests,)
        rig.engine.on_report(statement(rig.clock.now_ns(), {}, (rests,)))
        await later(300)
        exits = sorted(each.client_order_id for each in orders[1:])
        assert sorted(each for _, each in rig.queries.asked if each in exits) == exits
        assert states(rig, orders) == [OrderStatus.ACCEPTED] * 3
        rig.queries.open_orders = ()
        rig.report(orders[0].client_order_id, OrderStatus.CANCELED)
        await later(60)
        assert states(rig, orders) == [OrderStatus.CANCELED] * 3
