"""Orders that have to go: asked for through outages and refusals, until they have ended."""

from __future__ import annotations

import itertools

import pytest
from structlog.testing import capture_logs

from tests.service.execution_rig import (
    ACCOUNT,
    ETH,
    MAKER,
    Rig,
    later,
    never,
    open_rig,
)
from zq_daemon.engine.execution import ExecutionSettings
from zq_daemon.model.command import CancelAllOrders
from zq_daemon.model.event import OrderPendingRejected
from zq_daemon.model.ids import ClientOrderId, VenueOrderId
from zq_daemon.model.order import OrderStatus
from zq_daemon.venue.interface import MISSING_ORDER, Ambiguous, NotSent, Refused

pytestmark = pytest.mark.virtual


def cancel_all(rig: Rig) -> None:
    rig.bus.send("order.cancel_all", CancelAllOrders(strategy_id=MAKER))


def cancels(rig: Rig) -> list[float]:
    return [at for at, request in rig.entry.sent if request.kind == "cancel"]


async def test_what_is_to_go_during_an_outage_goes_when_the_link_is_back() -> None:
    async with open_rig() as rig:
        orders = [rig.submit(), rig.submit(instrument_id=ETH)]
        await later(1)
        rig.down.add(ACCOUNT)
        cancel_all(rig)
        assert rig.engine.stats()["owed_cancels"] == 2
        await later(600)
        assert cancels(rig) == []
        assert rig.count(OrderPendingRejected) == 0
        rig.down.clear()
        rig.engine.on_link_up(ACCOUNT)
        await later(0.1)
        assert all(rig.now(each).status is OrderStatus.CANCELED for each in orders)
        assert rig.engine.stats()["owed_cancels"] == 0
        assert len(cancels(rig)) == 1


async def test_one_plain_cancel_during_an_outage_is_declined_and_forgotten() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(1)
        rig.down.add(ACCOUNT)
        rig.cancel(cloid)
        assert rig.last(OrderPendingRejected).code == "LINK_DOWN"
        rig.down.clear()
        rig.engine.on_link_up(ACCOUNT)
        await later(60)
        assert rig.now(cloid).is_open
        assert cancels(rig) == []


@pytest.mark.parametrize(
    "answer", [Refused(code="busy", text="rate limit"), NotSent(detail="no connection")]
)
async def test_a_cancel_that_came_to_nothing_is_asked_for_again(
    answer: Refused | NotSent,
) -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(1)
        rig.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.ACCEPTED)
        rig.entry.answers["cancel"].extend([[answer]] * 9)
        cancel_all(rig)
        await later(500)
        assert rig.now(cloid).status is OrderStatus.CANCELED
        gaps = [round(after - before) for before, after in itertools.pairwise(cancels(rig))]
        assert gaps == [1, 2, 4, 8, 16, 32, 60, 60, 60]


async def test_a_cancel_that_was_not_effective_is_asked_for_again() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(1)
        rig.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.ACCEPTED)
        rig.entry.answers["cancel"].extend([[Ambiguous(detail="lost")]] * 7)
        cancel_all(rig)
        await later(600)
        assert rig.now(cloid).status is OrderStatus.CANCELED
        assert len(cancels(rig)) == 8


async def test_a_link_that_comes_back_ends_the_wait_for_the_next_attempt() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(1)
        rig.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.ACCEPTED)
        rig.entry.answers["cancel"].extend([[NotSent(detail="no connection")]] * 6)
        cancel_all(rig)
        await later(40)
        assert len(cancels(rig)) == 6
        rig.engine.on_link_up(ACCOUNT)
        await later(0.1)
        assert rig.now(cloid).status is OrderStatus.CANCELED


async def test_an_order_nobody_knows_ends_although_cancels_of_it_get_no_answer() -> None:
    async with open_rig() as rig:
        rig.entry.answers["submit"].append([Ambiguous(detail="lost")])
        rig.entry.answers["cancel"].extend([never()] * 50)
        cloid = rig.submit()
        await later(1)
        cancel_all(rig)
        await later(300)
        assert rig.now(cloid).is_closed
        assert rig.engine.stats()["owed_cancels"] == 0


async def test_cancels_do_not_put_off_the_end_of_an_order_that_never_arrived() -> None:
    """They cannot bring it to the venue, however long they are valid."""
    async with open_rig() as rig:
        rig.entry.answers["submit"].append([Ambiguous(detail="lost")])
        rig.entry.answers["cancel"].extend(
            [[Refused(code=MISSING_ORDER, text="never placed")]] * 50
        )
        cloid = rig.submit()
        await later(1)
        cancel_all(rig)
        await later(13)
        assert not rig.now(cloid).is_closed
        await later(20)
        assert rig.now(cloid).status is OrderStatus.EXPIRED
        assert len(cancels(rig)) > 3


async def test_an_order_the_venue_disowns_is_asked_about_and_let_go() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(1)
        rig.entry.answers["cancel"].extend([[Refused(code=MISSING_ORDER, text="gone")]] * 50)
        cancel_all(rig)
        await later(10)
        assert rig.now(cloid).is_closed
        assert rig.engine.stats()["owed_cancels"] == 0
        assert len(rig.queries.asked) < 10


async def test_what_waits_to_be_sent_is_withdrawn_even_without_a_link() -> None:
    async with open_rig(settings=ExecutionSettings(submit_queue=100)) as rig:
        cloid = rig.submit()
        rig.down.add(ACCOUNT)
        cancel_all(rig)
        assert rig.now(cloid).status is OrderStatus.CANCELED
        assert rig.engine.stats()["owed_cancels"] == 0
        await later(1)
        assert rig.entry.sent == []


async def test_a_stop_during_an_outage_cancels_once_the_link_is_back() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(1)
        rig.down.add(ACCOUNT)
        result = await rig.engine.cancel_all(timeout_s=5)
        assert result.unverified == (cloid,)
        rig.down.clear()
        rig.engine.on_link_up(ACCOUNT)
        result = await rig.engine.cancel_all(timeout_s=5)
        assert result.cancelled == (cloid,)


async def expired_by_silence(rig: Rig) -> ClientOrderId:
    rig.entry.answers["submit"].append([Ambiguous(detail="lost")])
    cloid = rig.submit()
    await later(600)
    assert rig.now(cloid).status is OrderStatus.EXPIRED
    return cloid


async def test_an_order_that_lives_after_all_is_told_and_has_to_go() -> None:
    async with open_rig() as rig:
        cloid = await expired_by_silence(rig)
        with capture_logs() as logs:
            rig.report(cloid, OrderStatus.ACCEPTED)
        assert rig.now(cloid).is_open
        assert rig.names(cloid)[-2:] == ["expired", "accepted"]
        (warning,) = [each for each in logs if each["log_level"] == "warning"]
        assert warning["client_order_id"] == cloid
        await later(1)
        assert rig.names(cloid)[-3:] == ["accepted", "pending_cancel", "canceled"]
        assert rig.now(cloid).status is OrderStatus.CANCELED


async def test_an_order_that_a_fill_shows_alive_has_to_go_too() -> None:
    async with open_rig() as rig:
        cloid = await expired_by_silence(rig)
        rig.fill(cloid, "t1", "0.4")
        await later(1)
        assert rig.names(cloid)[-4:] == ["expired", "filled", "pending_cancel", "canceled"]


async def test_an_order_that_lives_after_all_is_covered_at_stop() -> None:
    async with open_rig() as rig:
        cloid = await expired_by_silence(rig)
        rig.down.add(ACCOUNT)
        rig.report(cloid, OrderStatus.ACCEPTED, venue_order_id=VenueOrderId("v9"))
        rig.engine.close_gate("stopping")
        result = await rig.engine.cancel_all(timeout_s=5)
        assert result.unverified == (cloid,)
        rig.down.clear()
        result = await rig.engine.cancel_all(timeout_s=5)
        assert result.cancelled == (cloid,)


async def test_an_order_replaced_after_its_old_id_ended_may_stay() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(1)
        rig.report(cloid, OrderStatus.EXPIRED)
        rig.report(cloid, OrderStatus.ACCEPTED, venue_order_id=VenueOrderId("v2"))
        await later(600)
        assert rig.now(cloid).is_open
        assert cancels(rig) == []
