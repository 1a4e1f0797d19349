"""A venue's rate limits: new orders are denied first, modifications share requests, cancels go."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.service.execution_rig import later, open_rig
from zq_daemon.model.event import OrderDenied, OrderPendingRejected
from zq_daemon.model.market import Side
from zq_daemon.model.order import OrderStatus

pytestmark = pytest.mark.virtual

D = Decimal


async def test_an_order_without_room_in_the_rate_limits_is_denied() -> None:
    async with open_rig() as rig:
        rig.entry.room = {"submit": 2}
        taken = [rig.submit(), rig.submit()]
        refused = rig.submit()
        denied = rig.last(OrderDenied)
        assert (denied.code, denied.reason) == ("RATE_LIMIT", "no room for 3")
        await later(1)
        assert {rig.now(each).status for each in taken} == {OrderStatus.ACCEPTED}
        assert rig.now(refused).status is OrderStatus.DENIED


async def test_what_only_reduces_needs_no_room_of_new_orders() -> None:
    async with open_rig() as rig:
        await later(1)
        rig.fill(None, "p1", "1")
        rig.entry.room = {"submit": 0}
        cloid = rig.submit(side=Side.SELL, reduce_only=True)
        await later(1)
        assert rig.now(cloid).status is OrderStatus.ACCEPTED


async def test_a_modification_without_room_is_declined_and_the_order_cancelled_all_the_same() -> (
    None
):
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(1)
        rig.entry.room = {"submit": 0, "modify": 0, "cancel": 0}
        rig.modify(cloid, price=D(98))
        assert rig.last(OrderPendingRejected).code == "RATE_LIMIT"
        rig.cancel(cloid)
        await later(1)
        assert rig.now(cloid).status is OrderStatus.CANCELED


async def test_modifications_that_wait_together_are_one_request() -> None:
    async with open_rig() as rig:
        cloids = [rig.submit() for _ in range(3)]
        await later(1)
        for cloid in cloids:
            rig.modify(cloid, price=D(98))
        await later(1)
        _, request = rig.entry.sent[-1]
        assert (request.kind, request.client_order_ids) == ("modify", tuple(cloids))
        assert [rig.now(cloid).price for cloid in cloids] == [D(98)] * 3


async def test_a_modification_that_the_venue_cannot_express_leaves_the_others_theirs() -> None:
    async with open_rig() as rig:
        odd, even = rig.submit(), rig.submit()
        await later(1)
        rig.entry.inexpressible.add(odd)
        for cloid in (odd, even):
            rig.modify(cloid, price=D(98))
        await later(1)
        assert (rig.now(odd).price, rig.now(even).price) == (D(99), D(98))
        assert rig.now(odd).pending is None
