"""TC-043 to TC-055: what the private stream and the queries say of the account."""

from __future__ import annotations

from decimal import Decimal

import pytest
import trio

from tests.venue_spec.desk import open_desk
from tests.venue_spec.venue import OpenVenue
from zq_daemon.model.fill import Liquidity
from zq_daemon.model.market import Side
from zq_daemon.model.order import OrderStatus, TimeInForce

pytestmark = pytest.mark.virtual


async def test_tc043_a_resting_order_that_is_hit_reports_its_fill(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order = desk.bid()
        venue_order_id = await desk.rest(order)
        await trio.sleep(3)
        trade_id = venue.take(Side.SELL, desk.below_ask(5), venue.quantity)
        (fill,) = await desk.fills(order, venue.quantity)
        assert (fill.trade_id, fill.venue_order_id) == (trade_id, venue_order_id)
        assert (fill.side, fill.price) == (Side.BUY, order.price)
        assert fill.liquidity is Liquidity.MAKER
        assert venue.fees() == {trade_id: fill.fee}
        report = await desk.report(order, OrderStatus.FILLED)
        assert (report.venue_order_id, report.remaining) == (venue_order_id, Decimal(0))
        assert report.ts_event_ns == fill.ts_event_ns >= venue.clock.now_ns() - 1_000_000


async def test_tc044_a_partly_filled_order_can_be_cancelled(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order = desk.bid(quantity=venue.quantity * 4)
        await desk.rest(order)
        for _ in range(3):
            venue.take(Side.SELL, desk.below_ask(5), venue.quantity)
        fills = await desk.fills(order, venue.quantity * 3)
        assert len({fill.trade_id for fill in fills}) == len(fills) == 3
        for left in (3, 2, 1):
            remaining = venue.quantity * left
            report = await desk.report(order, OrderStatus.ACCEPTED, remaining=remaining)
            assert report.quantity == order.quantity
        await desk.cancel(order)
        report = await desk.report(order, OrderStatus.CANCELED)
        assert (report.quantity, report.remaining) == (order.quantity, venue.quantity)
        await desk.line.settled()
        assert len(desk.line.fills()) == 3
        assert desk.live() == []


async def test_tc045_what_others_do_is_not_reported(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        venue.rest(Side.SELL, desk.below_ask(2), venue.quantity)
        venue.take(Side.BUY, desk.below_ask(2), venue.quantity)
        await desk.line.settled()
        assert (desk.line.reports(), desk.line.fills()) == ([], [])
        report = await venue.adapter.load_account()
        assert (report.positions, report.open_orders) == ((), ())


async def test_tc046_a_fill_missed_while_away_is_told_on_return(open_venue: OpenVenue) -> None:
    async with open_venue() as venue:
        async with open_desk(venue) as desk:
            order = desk.bid(quantity=venue.quantity * 2)
            await desk.rest(order)
            seen = venue.take(Side.SELL, desk.below_ask(5), venue.quantity)
            await desk.fills(order, venue.quantity)
            await venue.cut()
            await desk.line.lost.wait()
            missed = venue.take(Side.SELL, desk.below_ask(5), venue.quantity)
            assert [fill.trade_id for fill in desk.line.fills()] == [seen]
        await trio.sleep(20)
        venue.heal()
        async with open_desk(venue) as desk:
            fills = await desk.fills(order, venue.quantity)
            await desk.line.settled()
            told = {fill.trade_id: fill for fill in desk.line.fills()}
            assert missed in told
            assert set(told) <= {seen, missed}
            assert all(fill.client_order_id == order.client_order_id for fill in fills)
            assert venue.fees()[missed] == told[missed].fee


async def test_tc047_the_account_states_its_positions(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        before = await venue.adapter.load_account()
        assert before.positions == ()
        await desk.submit(
            desk.order(
                Side.SELL,
                venue.bid.price,
                quantity=venue.quantity * 3,
                time_in_force=TimeInForce.IOC,
            ),
            desk.order(Side.BUY, venue.ask.price, time_in_force=TimeInForce.IOC),
        )
        report = await venue.adapter.load_account()
        (held,) = report.positions
        assert (held.account_id, held.instrument_id) == (
            venue.adapter.account_id,
            venue.instrument_id,
        )
        assert held.quantity == -2 * venue.quantity
        assert held.average_entry_price == venue.bid.price
        assert held.ts_event_ns <= venue.clock.now_ns()


async def test_tc048_the_account_states_its_worth(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        before = (await venue.adapter.load_account()).account
        assert before.account_id == venue.adapter.account_id
        assert before.equity == venue.equity() > 0
        assert before.margin_used == 0
        await desk.submit(desk.order(Side.BUY, venue.ask.price, time_in_force=TimeInForce.IOC))
        after = (await venue.adapter.load_account()).account
        assert after.equity == venue.equity() < before.equity
        assert after.margin_used > 0
        (balance,) = (each for each in after.balances if not each.is_spot)
        assert balance.currency == desk.instrument.quote_currency
        assert balance.total == before.equity - sum(venue.fees().values())
        assert Decimal(0) < balance.free < balance.total


async def test_tc049_the_account_states_its_open_orders(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        orders = [desk.bid(4, quantity=venue.quantity * 2), desk.order(Side.SELL, venue.ask.price)]
        closed = desk.bid(7)
        await desk.submit(*orders, closed)
        await desk.cancel(closed)
        venue.take(Side.SELL, desk.below_ask(4), venue.quantity)
        report = await venue.adapter.load_account()
        told = {each.client_order_id: each for each in report.open_orders}
        assert set(told) == {order.client_order_id for order in orders}
        for order in orders:
            each, truth = told[order.client_order_id], desk.truth(order)
            assert truth is not None
            assert each.status is OrderStatus.ACCEPTED
            assert each.venue_order_id == truth.venue_order_id
            assert (each.side, each.price) == (order.side, order.price)
            assert (each.quantity, each.remaining) == (order.quantity, truth.remaining)


async def test_tc050_a_live_order_is_found_by_its_client_order_id(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order = desk.bid(quantity=venue.quantity * 2)
        venue_order_id = await desk.rest(order)
        venue.take(Side.SELL, desk.below_ask(5), venue.quantity)
        report = await venue.adapter.query_order(order.client_order_id)
        assert report is not None
        assert report.client_order_id == order.client_order_id
        assert report.venue_order_id == venue_order_id
        assert report.status is OrderStatus.ACCEPTED
        assert (report.side, report.price) == (order.side, order.price)
        assert (report.quantity, report.remaining) == (order.quantity, venue.quantity)


async def test_tc051_a_filled_order_is_found_by_its_client_order_id(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order = desk.order(Side.BUY, venue.ask.price, time_in_force=TimeInForce.IOC)
        await desk.submit(order)
        report = await venue.adapter.query_order(order.client_order_id)
        assert report is not None
        assert report.status is OrderStatus.FILLED
        assert (report.quantity, report.remaining) == (order.quantity, Decimal(0))


async def test_tc052_a_cancelled_order_is_found_by_its_client_order_id(
    open_venue: OpenVenue,
) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order = desk.bid(quantity=venue.quantity * 2)
        await desk.rest(order)
        venue.take(Side.SELL, desk.below_ask(5), venue.quantity)
        await desk.cancel(order)
        report = await venue.adapter.query_order(order.client_order_id)
        assert report is not None
        assert report.status is OrderStatus.CANCELED
        assert (report.quantity, report.remaining) == (order.quantity, venue.quantity)


async def test_tc053_a_refused_order_is_not_found_alive(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order = desk.order(Side.BUY, venue.ask.price, post_only=True)
        await desk.submit(order)
        report = await venue.adapter.query_order(order.client_order_id)
        assert report is None or report.status is OrderStatus.REJECTED


async def test_tc054_a_modified_order_is_found_as_it_is_now(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order = desk.bid(6)
        await desk.rest(order)
        await desk.modify(order, desk.below_ask(3), venue.quantity * 2)
        report = await venue.adapter.query_order(order.client_order_id)
        assert report is not None
        assert report.venue_order_id == desk.live()[0].venue_order_id
        assert report.status is OrderStatus.ACCEPTED
        assert (report.price, report.quantity) == (desk.below_ask(3), venue.quantity * 2)


async def test_tc055_not_found_is_none_also_of_an_order_that_lives(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order = desk.bid()
        await desk.rest(order)
        assert await venue.adapter.query_order(desk.bid().client_order_id) is None
        venue.forget_orders()
        assert await venue.adapter.query_order(order.client_order_id) is None
        venue.behave()
        assert await venue.adapter.query_order(order.client_order_id) is not None
