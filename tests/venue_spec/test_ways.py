"""TC-085 to TC-095: other ways to the venue, its limits, orders that wait, no order at all."""

from __future__ import annotations

from decimal import Decimal

import pytest
import trio
from attrs import evolve

from tests.venue_spec.desk import Desk, open_desk, send_into, sending
from tests.venue_spec.venue import OpenVenue, VenueUnderTest
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderStatus, OrderType, TimeInForce
from zq_daemon.venue.interface import (
    Acknowledged,
    Ambiguous,
    Held,
    Modification,
    NotSent,
    Outcome,
    Refused,
)

pytestmark = pytest.mark.virtual


async def test_tc085_without_a_private_connection_a_request_is_answered_or_not_sent(
    open_venue: OpenVenue,
) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        desk.entry.detach(desk.line)
        orders = [desk.bid(), desk.bid(6)]
        outcomes = await desk.submit(*orders)
        if not desk.entry.has_other_way:
            assert [type(outcome) for outcome in outcomes] == [NotSent, NotSent]
            assert venue.orders() == []
            return
        told = [Acknowledged(venue_order_id=each.venue_order_id) for each in desk.live()]
        assert outcomes == told
        (modified,) = await desk.submit_changes(
            Modification(orders[0], desk.below_ask(7), venue.quantity)
        )
        assert isinstance(modified, Acknowledged)
        assert [type(each) for each in await desk.cancel(*orders)] == [Acknowledged] * 2
        (refused,) = await desk.submit(desk.bid(quantity=desk.instrument.quantity_step))
        assert isinstance(refused, Refused)
        assert refused.code == "min_notional"
        assert desk.live() == []


async def test_tc086_a_missing_answer_is_unknown_whatever_the_way(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        desk.entry.detach(desk.line)
        venue.drop_answers()
        order = desk.bid()
        (outcome,) = await desk.submit(order)
        assert isinstance(outcome, Ambiguous if desk.entry.has_other_way else NotSent)
        assert len(venue.orders()) == desk.entry.has_other_way


async def test_tc087_nothing_is_sent_again_by_another_way(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        venue.drop_answers()
        request = desk.entry.prepare_submit([desk.bid()])
        async with sending(desk.entry, request) as outcomes:
            desk.entry.detach(desk.line)
        assert [type(outcome) for outcome in outcomes] == [Ambiguous]
        await trio.sleep(venue.answer_timeout_s)
        assert len(venue.orders()) == 1


async def test_tc088_what_is_refused_as_too_many_is_refused_and_new_orders_wait(
    open_venue: OpenVenue,
) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        assert desk.entry.why_not_now("submit") is None
        venue.refuse_requests()
        (outcome,) = await desk.submit(desk.bid())
        assert isinstance(outcome, Refused)
        assert outcome.code == "rate_limit"
        assert venue.orders() == []
        assert desk.entry.why_not_now("submit")
        (outcome,) = await desk.submit(desk.bid())
        assert isinstance(outcome, NotSent)
        venue.behave()
        await trio.sleep(30)
        assert desk.entry.why_not_now("submit") is None
        await desk.rest(desk.bid())


async def test_tc089_a_cancel_waits_for_its_turn(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order = desk.bid()
        await desk.rest(order)
        venue.refuse_requests()
        await desk.submit(desk.bid(6))
        venue.behave()
        (outcome,) = await desk.cancel(order)
        assert isinstance(outcome, Acknowledged)
        assert desk.live() == []


async def test_tc090_several_modifications_get_one_outcome_each_in_order(
    open_venue: OpenVenue,
) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        first, gone, last = desk.bid(), desk.bid(6), desk.bid(7)
        await desk.submit(first, gone, last)
        await desk.cancel(gone)
        prices = [desk.below_ask(steps) for steps in (2, 3, 4)]
        outcomes = await desk.submit_changes(
            *(
                Modification(order, price, venue.quantity)
                for order, price in zip((first, gone, last), prices, strict=True)
            )
        )
        assert [type(each) for each in outcomes] == [Acknowledged, Refused, Acknowledged]
        assert isinstance(outcomes[1], Refused)
        assert outcomes[1].code == "missing_order"
        assert sorted(each.price for each in desk.live()) == [prices[2], prices[0]]


async def test_tc091_a_stop_waits_for_the_mark_and_can_be_cancelled(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        for order_type in (OrderType.STOP_LIMIT, OrderType.STOP_MARKET):
            stop = _stop(desk, order_type=order_type)
            (outcome,) = await desk.submit(stop)
            assert isinstance(outcome, Acknowledged)
            (truth,) = desk.live()
            assert truth.client_order_id == stop.client_order_id
            assert (truth.quantity, truth.remaining) == (stop.quantity, stop.quantity)
            (outcome,) = await desk.cancel(stop)
            assert isinstance(outcome, Acknowledged)
        await desk.line.settled()
        assert (desk.live(), desk.line.fills()) == ([], [])


@pytest.mark.parametrize("protects_position", [False, True])
async def test_tc092_a_stop_trades_when_the_mark_has_reached_its_price(
    open_venue: OpenVenue, protects_position: bool
) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        stop = _stop(desk, reduce_only=protects_position)
        if protects_position:
            await _buy(desk)
        request = desk.entry.prepare_submit([stop], protects_position=protects_position)
        (outcome,) = await desk.entry.send(request)
        assert isinstance(outcome, Acknowledged)
        if protects_position:
            await _buy(desk)
        _push_mark_down(desk)
        sold = venue.quantity * (2 if protects_position else 1)
        fills = await desk.fills(stop, sold)
        assert {(fill.side, fill.price) for fill in fills} == {(Side.SELL, venue.bid.price)}
        assert sum(fill.quantity for fill in fills) == sold
        assert (await desk.report(stop, OrderStatus.FILLED)).remaining == 0
        assert desk.live() == []
        with pytest.raises(ValueError, match="protect"):
            desk.entry.prepare_submit([desk.bid()], protects_position=True)


async def test_tc093_exits_are_held_until_their_entry_fills(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        entry = desk.bid()
        stop = evolve(_stop(desk, reduce_only=True), parent_id=entry.client_order_id)
        outcomes = await desk.submit(entry, stop)
        assert [type(each) for each in outcomes] == [Acknowledged, Held]
        venue.take(Side.SELL, desk.below_ask(5), venue.quantity)
        await desk.fills(entry, venue.quantity)
        _push_mark_down(desk)
        (fill,) = await desk.fills(stop, venue.quantity)
        assert fill.side is Side.SELL
        report = await venue.adapter.load_account()
        assert [held for held in report.positions if held.quantity] == []


async def test_tc094_a_scheduled_cancel_ends_all_orders_unless_it_is_taken_back(
    open_venue: OpenVenue,
) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        kept = desk.bid()
        await desk.rest(kept)
        for late in (False, True):
            at_ns = venue.clock.now_ns() + 10 * 1_000_000_000
            assert await _told(desk, at_ns) == Acknowledged(venue_order_id=None)
            if not late:
                assert await _told(desk, None) == Acknowledged(venue_order_id=None)
            await trio.sleep(9)
            assert len(desk.live()) == 1
            await trio.sleep(2)
            assert len(desk.live()) == (0 if late else 1)
        await desk.report(kept, OrderStatus.CANCELED)
        with pytest.raises(ValueError, match="ahead"):
            desk.entry.prepare_schedule_cancel(venue.clock.now_ns())


async def test_tc095_leverage_is_set_or_refused(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        instrument = desk.instrument
        for leverage, taken in ((2, True), (instrument.max_leverage + 1, False)):
            request = desk.entry.prepare_leverage(instrument.id, leverage, is_cross=True)
            assert request.client_order_ids == ()
            (outcome,) = await desk.entry.send(request)
            assert isinstance(outcome, Acknowledged if taken else Refused)
        with pytest.raises(ValueError, match="leverage"):
            desk.entry.prepare_leverage(instrument.id, 0, is_cross=True)


def _stop(desk: Desk, **terms: object) -> Order:
    """A sell that waits one step under the mark, and then accepts whatever there is."""
    venue = desk.venue
    middle = (venue.bid.price + venue.ask.price) / 2
    trigger = middle - desk.instrument.price_step(middle)
    settings: dict[str, object] = {"order_type": OrderType.STOP_MARKET, "trigger_price": trigger}
    return desk.order(Side.SELL, venue.bid.price - 100 * _step(desk), **(settings | terms))


async def _buy(desk: Desk) -> None:
    """The usual quantity, at the best ask."""
    order = desk.order(Side.BUY, desk.venue.ask.price, time_in_force=TimeInForce.IOC)
    await desk.submit(order)
    await desk.fills(order, desk.venue.quantity)


def _push_mark_down(desk: Desk) -> None:
    """Another participant's ask, just above the best bid."""
    venue: VenueUnderTest = desk.venue
    venue.rest(Side.SELL, venue.bid.price + _step(desk), venue.quantity)


def _step(desk: Desk) -> Decimal:
    return desk.instrument.price_step(desk.venue.bid.price)


async def _told(desk: Desk, at_ns: int | None) -> Outcome:
    outcomes: list[Outcome] = []
    await send_into(outcomes, desk.entry, desk.entry.prepare_schedule_cancel(at_ns))
    (outcome,) = outcomes
    return outcome
