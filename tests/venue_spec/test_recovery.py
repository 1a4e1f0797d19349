"""TC-074 to TC-084: what a daemon that starts anew must learn of its account, and be able to do."""

from __future__ import annotations

import pytest
import trio
from attrs import evolve

from tests.venue_spec.desk import Desk, open_desk
from tests.venue_spec.venue import OpenVenue
from zq_daemon.errors import LinkError
from zq_daemon.model.ids import VenueOrderId
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderStatus, TimeInForce
from zq_daemon.model.report import OrderReport
from zq_daemon.venue.interface import Acknowledged, Modification, Refused

pytestmark = pytest.mark.virtual


async def test_tc074_fills_since_a_time_are_loaded(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        assert (await venue.adapter.load_fills(0)).fills == ()
        orders = [desk.bid(quantity=venue.quantity * 2), desk.bid(4)]
        await desk.submit(*orders)
        times = []
        for price in (4, 5, 5):
            times.append(venue.clock.now_ns())
            venue.take(Side.SELL, desk.below_ask(price), venue.quantity)
            await trio.sleep(1)
        told = await desk.fills(orders[0], venue.quantity * 2)
        history = await venue.adapter.load_fills(0)
        assert history.complete
        assert [fill.trade_id for fill in history.fills] == list(venue.fees())
        assert [evolve(fill, ts_recv_ns=0) for fill in history.fills[1:]] == [
            evolve(fill, ts_recv_ns=0) for fill in told
        ]
        assert {fill.client_order_id for fill in history.fills} == {
            order.client_order_id for order in orders
        }
        since = await venue.adapter.load_fills(times[1])
        assert (since.fills, since.complete) == (history.fills[1:], True)
        assert (await venue.adapter.load_fills(venue.clock.now_ns())).fills == ()


async def test_tc075_a_history_of_several_answers_is_whole(open_venue: OpenVenue) -> None:
    async with open_venue() as venue:
        for count in (700, 1_500, 900, 1):
            venue.trade_often(count)
            await trio.sleep(1)
        history = await venue.adapter.load_fills(0)
        assert history.complete
        assert [fill.trade_id for fill in history.fills] == list(venue.fees())
        assert len(history.fills) == 3_101


async def test_tc076_what_the_venue_may_have_forgotten_is_not_complete(
    open_venue: OpenVenue,
) -> None:
    async with open_venue() as venue:
        venue.trade_often(1)
        for _ in range(20):
            await trio.sleep(1)
            venue.trade_often(venue.retained_fills // 20)
        await trio.sleep(1)
        venue.trade_often(3)
        history = await venue.adapter.load_fills(0)
        assert not history.complete
        assert [fill.trade_id for fill in history.fills] == list(venue.fees())
        recent = await venue.adapter.load_fills(history.fills[-1].ts_event_ns)
        assert (len(recent.fills), recent.complete) == (3, True)


async def test_tc077_fills_of_external_orders_are_told(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order = desk.by_hand(Side.BUY, desk.below_ask(5))
        trade_id = venue.take(Side.SELL, desk.below_ask(5), venue.quantity)
        (fill,) = await desk.line.until(lambda: desk.line.fills() or None)
        (loaded,) = (await venue.adapter.load_fills(0)).fills
        for told in (fill, loaded):
            assert (told.trade_id, told.venue_order_id) == (trade_id, order.venue_order_id)
            assert told.client_order_id is None


async def test_tc078_fills_that_cannot_be_reached_are_a_link_error(open_venue: OpenVenue) -> None:
    async with open_venue() as venue:
        venue.trade_often(2)
        await venue.cut()
        with pytest.raises(LinkError):
            await venue.adapter.load_fills(0)
        venue.heal()
        assert len((await venue.adapter.load_fills(0)).fills) == 2


@pytest.mark.parametrize("external", [False, True])
async def test_tc079_an_open_order_is_stated_with_its_terms(
    open_venue: OpenVenue, external: bool
) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        venue.trade_often(1)
        orders = [
            await _placed(desk, external, Side.BUY, 7, quantity=venue.quantity * 2),
            await _placed(desk, external, Side.BUY, 6, post_only=True),
            await _placed(
                desk, external, Side.SELL, 1, quantity=venue.quantity / 10, reduce_only=True
            ),
        ]
        placed_ns = venue.clock.now_ns()
        await trio.sleep(5)
        venue.take(Side.SELL, desk.below_ask(6), venue.quantity / 2)
        stated = (await venue.adapter.load_account()).open_orders
        assert len(stated) == len(orders)
        for order in orders:
            (told,) = [each for each in stated if each.price == order.price]
            _assert_adoptable(told, order)
            assert told.client_order_id == (None if external else order.client_order_id)
            assert placed_ns - 1_000_000 < told.ts_event_ns <= placed_ns
        (hit,) = [each for each in stated if each.price == desk.below_ask(6)]
        assert hit.remaining == venue.quantity / 2
        found = await venue.adapter.query_order(orders[2].client_order_id, orders[2].venue_order_id)
        assert found is not None
        _assert_adoptable(found, orders[2])


async def test_tc080_an_external_order_is_found_by_its_venue_order_id(
    open_venue: OpenVenue,
) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order, other = (desk.by_hand(Side.BUY, desk.below_ask(step)) for step in (5, 6))
        found = await _found(desk, order)
        assert found is not None
        assert (found.client_order_id, found.venue_order_id) == (
            order.client_order_id,
            order.venue_order_id,
        )
        assert found.status is OrderStatus.ACCEPTED
        venue.take(Side.SELL, desk.below_ask(5), venue.quantity)
        await desk.cancel(other)
        for each, status in ((order, OrderStatus.FILLED), (other, OrderStatus.CANCELED)):
            found = await _found(desk, each)
            assert found is not None
            assert (found.status, found.client_order_id) == (status, each.client_order_id)
        assert await _found(desk, evolve(order, venue_order_id=VenueOrderId("1"))) is None
        assert await _found(desk, evolve(order, venue_order_id=None)) is None
        venue.forget_orders()
        assert await _found(desk, order) is None


async def test_tc081_external_orders_are_cancelled(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        orders = [desk.by_hand(Side.BUY, desk.below_ask(step)) for step in (3, 4, 5, 6)]
        venue.take(Side.SELL, desk.below_ask(3), venue.quantity)
        filled, *canceled, left = orders
        outcomes = await desk.cancel(filled, *canceled)
        assert [type(outcome) for outcome in outcomes] == [Refused, Acknowledged, Acknowledged]
        assert isinstance(outcomes[0], Refused)
        assert outcomes[0].code == "missing_order"
        assert [each.venue_order_id for each in desk.live()] == [left.venue_order_id]
        await desk.line.settled()
        gone = [each for each in desk.line.reports() if each.status is OrderStatus.CANCELED]
        assert [each.venue_order_id for each in gone] == [each.venue_order_id for each in canceled]


async def test_tc082_a_modified_external_order_gets_its_client_order_id(
    open_venue: OpenVenue,
) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order = desk.by_hand(Side.BUY, desk.below_ask(6))
        outcome = await desk.modify(order, desk.below_ask(4), venue.quantity * 2)
        (truth,) = desk.live()
        assert outcome == Acknowledged(venue_order_id=truth.venue_order_id)
        assert truth.venue_order_id != order.venue_order_id
        assert (truth.price, truth.remaining) == (desk.below_ask(4), venue.quantity * 2)
        report = await desk.report(order, OrderStatus.ACCEPTED)
        assert report.venue_order_id == truth.venue_order_id
        found = await _found(desk, order)
        assert found is not None, "it is found by what was known before the modification"
        assert found.venue_order_id == truth.venue_order_id
        assert found.status is OrderStatus.ACCEPTED
        modified = evolve(order, venue_order_id=truth.venue_order_id)
        await desk.modify(modified, desk.below_ask(5), venue.quantity)
        (truth,) = desk.live()
        (outcome,) = await desk.cancel(evolve(order, venue_order_id=truth.venue_order_id))
        assert isinstance(outcome, Acknowledged)
        assert desk.live() == []


async def test_tc083_an_external_order_that_cannot_be_named_is_a_value_error(
    open_venue: OpenVenue,
) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        external, own = desk.by_hand(Side.BUY, desk.below_ask(5)), desk.bid(6)
        await desk.rest(own)
        nameless = evolve(external, venue_order_id=None)
        with pytest.raises(ValueError, match="not both"):
            desk.entry.prepare_cancel([own, external])
        with pytest.raises(ValueError, match="venue order id"):
            desk.entry.prepare_cancel([external, nameless])
        with pytest.raises(ValueError, match="venue order id"):
            desk.entry.prepare_modify([Modification(nameless, desk.below_ask(4), venue.quantity)])
        await desk.line.settled()
        assert len(desk.live()) == 2


async def test_tc084_nonces_go_on_after_a_restart(open_venue: OpenVenue) -> None:
    async with open_venue() as venue:
        async with open_desk(venue) as desk:
            requests = [desk.entry.prepare_submit([desk.bid()]) for _ in range(2_000)]
            last = requests[-1]
            assert last.nonce > venue.clock.now_ns() // 1_000_000 + 1_000, "ahead of the clock"
            (outcome,) = await desk.entry.send(last)
            assert isinstance(outcome, Acknowledged)
        again = venue.restarted()
        async with open_desk(venue, again) as desk:
            desk.entry.resume(last.nonce)
            desk.entry.resume(last.nonce - 500)
            order = desk.bid(6)
            request = desk.entry.prepare_submit([order])
            assert request.nonce > last.nonce
            assert isinstance((await desk.entry.send(request))[0], Acknowledged | Refused)
            assert len(desk.live()) >= 1
            with pytest.raises(ValueError, match="clock"):
                desk.entry.resume(last.nonce + 10**12)
        await again.aclose()


async def _placed(desk: Desk, external: bool, side: Side, step: int, **terms: object) -> Order:
    price = desk.below_ask(step)
    if external:
        return desk.by_hand(side, price, **terms)
    order = desk.order(side, price, **terms)
    return evolve(order, venue_order_id=await desk.rest(order))


async def _found(desk: Desk, order: Order) -> OrderReport | None:
    return await desk.adapter.query_order(order.client_order_id, order.venue_order_id)


def _assert_adoptable(told: OrderReport, order: Order) -> None:
    assert told.venue_order_id == order.venue_order_id
    assert (told.instrument_id, told.side) == (order.instrument_id, order.side)
    assert (told.price, told.quantity) == (order.price, order.quantity)
    assert told.time_in_force is TimeInForce.GTC
    assert (told.post_only, told.reduce_only) == (order.post_only, order.reduce_only)
    assert told.is_trigger is False
