"""Cancel-replace, with the messages about the old and the new order in the worst order."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest

from tests.service.execution_rig import Rig, after, later, never, open_rig
from zq_daemon.journal.digest import differences
from zq_daemon.model.ids import ClientOrderId, VenueOrderId
from zq_daemon.model.order import OrderStatus, Pending
from zq_daemon.venue.interface import MISSING_ORDER, Acknowledged, Refused

pytestmark = pytest.mark.virtual

V1, V2, V3 = (VenueOrderId(f"v{number}") for number in (1, 2, 3))
GONE = [Refused(code=MISSING_ORDER, text="cannot modify")]


async def resting(rig: Rig, quantity: str) -> ClientOrderId:
    """An acknowledged order, v1."""
    cloid = rig.submit(quantity=quantity)
    await later(0.1)
    assert rig.now(cloid).venue_order_ids == (V1,)
    return cloid


async def replaced(rig: Rig, cloid: ClientOrderId, quantity: str, new: VenueOrderId) -> None:
    rig.entry.answers["modify"].append([Acknowledged(venue_order_id=new)])
    rig.modify(cloid, quantity=Decimal(quantity))
    await later(0.1)
    assert rig.now(cloid).venue_order_id == new


def says(
    rig: Rig, cloid: ClientOrderId, id_: VenueOrderId, numbers: Sequence[str], status: OrderStatus
) -> None:
    quantity, remaining = (Decimal(each) for each in numbers)
    rig.report(cloid, status, venue_order_id=id_, quantity=quantity, remaining=remaining)


async def test_what_the_current_order_shows_is_not_what_the_next_one_is_to_show() -> None:
    """The replacement has 3 of the total of 4; a total of 3 is asked for, and lost on its way."""
    async with open_rig() as rig:
        cloid = await resting(rig, "3")
        rig.fill(cloid, "t1", "1")
        await replaced(rig, cloid, "4", V2)
        rig.entry.answers["modify"].append(never())
        rig.modify(cloid, quantity=Decimal(3))
        await later(1)
        says(rig, cloid, V2, ("3", "3"), OrderStatus.ACCEPTED)
        assert rig.now(cloid).pending is Pending.MODIFY
        rig.queries.orders[cloid] = rig.report_of(
            cloid,
            OrderStatus.ACCEPTED,
            venue_order_id=V2,
            quantity=Decimal(3),
            remaining=Decimal(3),
        )
        await later(60)
        assert rig.names(cloid)[-1] == "modify_rejected"
        assert rig.now(cloid).quantity == 4
        assert rig.now(cloid).remaining_quantity == 3


async def test_a_late_answer_is_about_the_modification_it_answers() -> None:
    async with open_rig() as rig:
        cloid = await resting(rig, "2")
        rig.entry.answers["modify"].append(after(2, Acknowledged(venue_order_id=V2)))
        rig.modify(cloid, quantity=Decimal(4))
        await later(0.1)
        says(rig, cloid, V2, ("4", "4"), OrderStatus.ACCEPTED)  # the private stream is faster
        rig.entry.answers["modify"].append(after(5, Acknowledged(venue_order_id=V3)))
        rig.modify(cloid, quantity=Decimal(3))
        await later(3)
        assert rig.now(cloid).quantity == 4
        assert rig.now(cloid).pending is Pending.MODIFY
        says(rig, cloid, V2, ("4", "4"), OrderStatus.CANCELED)
        await later(5)
        assert rig.now(cloid).status is OrderStatus.ACCEPTED
        assert rig.now(cloid).quantity == 3
        assert rig.now(cloid).venue_order_id == V3


async def test_fills_of_a_replacement_do_not_complete_the_order_it_replaces() -> None:
    async with open_rig() as rig:
        cloid = await resting(rig, "2")
        rig.entry.answers["modify"].append(after(2, Acknowledged(venue_order_id=V2)))
        rig.modify(cloid, quantity=Decimal(5))
        await later(0.1)
        rig.fill(cloid, "t1", "2", venue_order_id=V2)
        assert rig.now(cloid).status is OrderStatus.PARTIALLY_FILLED
        says(rig, cloid, V2, ("5", "5"), OrderStatus.ACCEPTED)  # from before the fill
        assert rig.now(cloid).quantity == 5
        assert rig.now(cloid).remaining_quantity == 3
        await later(3)
        rig.fill(cloid, "t2", "3", venue_order_id=V2)
        assert rig.now(cloid).status is OrderStatus.FILLED


async def test_an_order_that_was_filled_while_it_was_modified_is_filled() -> None:
    async with open_rig() as rig:
        cloid = await resting(rig, "2")
        rig.entry.answers["modify"].append(after(2, *GONE))
        rig.modify(cloid, quantity=Decimal(5))
        await later(0.1)
        rig.fill(cloid, "t1", "2")
        assert rig.now(cloid).is_in_flight
        await later(3)
        assert rig.now(cloid).status is OrderStatus.FILLED
        assert rig.names(cloid)[-2:] == ["filled", "modify_rejected"]
        assert len(rig.engine._in_flight) == 0


async def test_a_fill_of_the_replaced_order_counts_while_the_next_one_is_under_way() -> None:
    async with open_rig() as rig:
        cloid = await resting(rig, "4")
        await replaced(rig, cloid, "5", V2)  # 5 rest, as nobody knows of a fill
        rig.entry.answers["modify"].append(after(2, *GONE))
        rig.modify(cloid, quantity=Decimal(3))
        await later(0.1)
        rig.fill(cloid, "t1", "2", venue_order_id=V1)
        assert rig.now(cloid).quantity == 7
        assert rig.now(cloid).pending is Pending.MODIFY
        await later(3)
        rig.fill(cloid, "t2", "3", venue_order_id=V2)
        assert rig.now(cloid).status is OrderStatus.PARTIALLY_FILLED
        assert rig.now(cloid).remaining_quantity == 2


async def test_an_order_is_modified_only_once_its_id_is_known() -> None:
    async with open_rig() as rig:
        rig.entry.answers["submit"].append(after(2, Acknowledged(venue_order_id=V1)))
        cloid = rig.submit(quantity="5")
        await later(0.1)
        rig.fill(cloid, "t1", "1")
        rig.modify(cloid, price=Decimal(98))
        await later(1)
        assert rig.names(cloid)[-1] == "modify_rejected"
        assert rig.entry.kinds() == ["submit"]
        await later(2)
        rig.modify(cloid, price=Decimal(98))
        await later(1)
        assert rig.entry.kinds() == ["submit", "modify"]


async def test_an_answer_from_before_a_request_left_says_nothing_about_it() -> None:
    async with open_rig() as rig:
        cloid = await resting(rig, "2")
        rig.entry.answers["modify"].append([Refused(code="other", text="no")])
        rig.modify(cloid, quantity=Decimal(3))
        await later(0.1)
        rig.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.ACCEPTED, venue_order_id=V1)
        rig.disk.sync_s = 2  # the question is asked while the next intent is being written
        rig.entry.answers["modify"].append(after(5, Acknowledged(venue_order_id=V2)))
        rig.modify(cloid, quantity=Decimal(4))
        await later(1)
        assert rig.queries.asked
        assert rig.entry.kinds() == ["submit", "modify"]
        assert rig.now(cloid).pending is Pending.MODIFY
        await later(10)
        assert rig.now(cloid).venue_order_id == V2
        assert rig.now(cloid).quantity == 4


async def test_a_replacement_that_ended_before_anybody_heard_of_it_is_the_end() -> None:
    async with open_rig() as rig:
        cloid = await resting(rig, "2")
        rig.entry.answers["modify"].append(never())
        rig.modify(cloid, quantity=Decimal(4))
        await later(1)
        rig.queries.orders[cloid] = rig.report_of(
            cloid, OrderStatus.CANCELED, venue_order_id=V2, quantity=Decimal(4)
        )
        says(rig, cloid, V1, ("2", "2"), OrderStatus.CANCELED)
        await later(2)
        assert rig.now(cloid).status is OrderStatus.CANCELED
        assert rig.names(cloid)[-1] == "canceled"


async def test_an_end_of_an_unknown_replacement_is_asked_about() -> None:
    async with open_rig() as rig:
        cloid = await resting(rig, "2")
        report = rig.report_of(cloid, OrderStatus.CANCELED, venue_order_id=V2)
        rig.engine.on_report(report)
        assert rig.now(cloid).is_open
        rig.queries.orders[cloid] = report
        await later(2)
        assert rig.now(cloid).status is OrderStatus.CANCELED


async def test_a_late_fill_and_what_it_adds_to_the_total_are_one_record() -> None:
    """A crash between two would leave half of it, and the fill, heard again, add once more."""
    async with open_rig() as rig:
        cloid = await resting(rig, "3")
        await replaced(rig, cloid, "4", V2)
        written = rig.journal.state.sequence
        rig.fill(cloid, "t1", "1", venue_order_id=V1)
        assert rig.journal.state.sequence == written + 1
        assert rig.names(cloid)[-1] == "filled"
        assert rig.now(cloid).quantity == 5
        assert rig.now(cloid).remaining_quantity == 4
        assert differences(rig.journal.state, rig.copied.replayed()) == []
