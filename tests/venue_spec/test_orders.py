"""TC-019 to TC-042: orders submitted, cancelled and modified, and what the answers are."""

from __future__ import annotations

from decimal import Decimal

import pytest
import trio
from attrs import evolve

from tests.venue_spec.desk import open_desk, sending
from tests.venue_spec.venue import OpenVenue
from zq_daemon.model.fill import Liquidity
from zq_daemon.model.ids import InstrumentId
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderStatus, OrderType, TimeInForce
from zq_daemon.venue.interface import Acknowledged, Executed, Modification, Refused

pytestmark = pytest.mark.virtual


@pytest.mark.parametrize("side", Side)
async def test_tc019_a_limit_order_rests(open_venue: OpenVenue, side: Side) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order = desk.order(side, desk.below_ask(4))
        (outcome,) = await desk.submit(order)
        (truth,) = desk.live()
        assert outcome == Acknowledged(venue_order_id=truth.venue_order_id)
        assert truth.client_order_id == order.client_order_id
        assert (truth.instrument_id, truth.side) == (order.instrument_id, side)
        assert (truth.price, truth.remaining) == (order.price, order.quantity)
        report = await desk.report(order, OrderStatus.ACCEPTED)
        assert report.account_id == venue.adapter.account_id
        assert report.instrument_id == order.instrument_id
        assert report.venue_order_id == truth.venue_order_id
        assert (report.side, report.price) == (side, order.price)
        assert (report.quantity, report.remaining) == (order.quantity, order.quantity)
        assert report.ts_event_ns <= venue.clock.now_ns() < report.ts_recv_ns


@pytest.mark.parametrize("side", Side)
async def test_tc020_an_immediate_order_fills(open_venue: OpenVenue, side: Side) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        price = venue.ask.price if side is Side.BUY else venue.bid.price
        order = desk.order(side, price, time_in_force=TimeInForce.IOC)
        (outcome,) = await desk.submit(order)
        truth = desk.truth(order)
        assert truth is not None
        assert outcome == Executed(
            venue_order_id=truth.venue_order_id, quantity=venue.quantity, average_price=price
        )
        (fill,) = await desk.fills(order, venue.quantity)
        assert fill.client_order_id == order.client_order_id
        assert fill.venue_order_id == truth.venue_order_id
        assert (fill.account_id, fill.instrument_id) == (order.account_id, order.instrument_id)
        assert (fill.side, fill.price, fill.quantity) == (side, price, venue.quantity)
        assert fill.liquidity is Liquidity.TAKER
        assert venue.fees() == {fill.trade_id: fill.fee}
        assert fill.fee > 0
        assert fill.fee_currency == desk.instrument.quote_currency
        assert fill.ts_event_ns <= venue.clock.now_ns() < fill.ts_recv_ns
        assert (await desk.report(order, OrderStatus.FILLED)).remaining == 0


async def test_tc021_an_immediate_order_leaves_no_rest(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        there = venue.quantity * 3
        venue.rest(Side.SELL, desk.below_ask(3), there)
        wanted = venue.quantity * 5
        order = desk.order(
            Side.BUY, desk.below_ask(3), quantity=wanted, time_in_force=TimeInForce.IOC
        )
        (outcome,) = await desk.submit(order)
        assert isinstance(outcome, Executed)
        assert (outcome.quantity, outcome.average_price) == (there, desk.below_ask(3))
        await desk.fills(order, there)
        report = await desk.report(order, OrderStatus.CANCELED)
        assert (report.quantity, report.remaining) == (wanted, wanted - there)
        assert desk.live() == []


async def test_tc022_an_immediate_order_that_matches_nothing_is_refused(
    open_venue: OpenVenue,
) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order = desk.bid(time_in_force=TimeInForce.IOC)
        (outcome,) = await desk.submit(order)
        assert isinstance(outcome, Refused)
        assert outcome.code == "ioc_unmatched"
        await desk.line.settled()
        assert (desk.live(), desk.line.fills()) == ([], [])


async def test_tc023_a_market_order_takes_what_is_within_its_price(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        venue.rest(Side.SELL, desk.below_ask(2), venue.quantity)
        worst = venue.ask.price
        order = desk.order(
            Side.BUY, worst, quantity=venue.quantity * 2, order_type=OrderType.MARKET
        )
        (outcome,) = await desk.submit(order)
        assert isinstance(outcome, Executed)
        assert outcome.quantity == venue.quantity * 2
        assert outcome.average_price == (desk.below_ask(2) + worst) / 2
        fills = await desk.fills(order, venue.quantity * 2)
        assert [fill.price for fill in fills] == [desk.below_ask(2), worst]
        assert len({fill.trade_id for fill in fills}) == 2
        out_of_reach = desk.order(Side.BUY, desk.below_ask(1), order_type=OrderType.MARKET)
        (outcome,) = await desk.submit(out_of_reach)
        assert isinstance(outcome, Refused)
        assert desk.live() == []
        assert 0 < venue.adapter.market_slippage_bps < 10_000


async def test_tc024_a_post_only_order_that_would_trade_is_refused(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order = desk.order(Side.BUY, venue.ask.price, post_only=True)
        (outcome,) = await desk.submit(order)
        assert isinstance(outcome, Refused)
        assert outcome.code == "post_only_crossed"
        assert outcome.text
        await desk.line.settled()
        assert (desk.live(), desk.line.fills()) == ([], [])


async def test_tc025_a_post_only_order_that_would_not_trade_rests(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order = desk.bid(1, post_only=True)
        assert await desk.rest(order) == desk.live()[0].venue_order_id
        await desk.report(order, OrderStatus.ACCEPTED)


async def test_tc026_a_reduce_only_order_without_a_position_is_refused(
    open_venue: OpenVenue,
) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        for side in Side:
            (outcome,) = await desk.submit(desk.order(side, desk.below_ask(5), reduce_only=True))
            assert isinstance(outcome, Refused)
            assert outcome.code == "reduce_only"
        assert desk.live() == []


async def test_tc027_a_reduce_only_order_never_turns_the_position(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        await desk.submit(desk.order(Side.BUY, venue.ask.price, time_in_force=TimeInForce.IOC))
        terms = {"time_in_force": TimeInForce.IOC, "reduce_only": True}
        larger = desk.order(Side.SELL, venue.bid.price, quantity=venue.quantity * 3, **terms)
        await desk.submit(larger)
        await desk.fills(larger, venue.quantity)
        await desk.line.settled()
        report = await venue.adapter.load_account()
        assert [held for held in report.positions if held.quantity] == []


async def test_tc028_an_order_under_the_minimum_notional_is_refused(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        price = desk.below_ask(5)
        small = desk.instrument.round_quantity(desk.instrument.min_notional / price)
        assert 0 < small * price < desk.instrument.min_notional
        (outcome,) = await desk.submit(desk.order(Side.BUY, price, quantity=small))
        assert isinstance(outcome, Refused)
        assert outcome.code == "min_notional"
        enough = small + desk.instrument.quantity_step
        await desk.rest(desk.order(Side.BUY, price, quantity=enough))


async def test_tc029_a_price_off_the_tick_is_refused(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        price = desk.below_ask(5)
        wrong = price + desk.instrument.price_step(price) / 2
        (outcome,) = await desk.submit(desk.order(Side.BUY, wrong))
        assert isinstance(outcome, Refused)
        assert outcome.code == "tick"
        assert desk.live() == []


async def test_tc030_a_quantity_off_the_lot_is_refused(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        wrong = venue.quantity + desk.instrument.quantity_step / 2
        (outcome,) = await desk.submit(desk.bid(quantity=wrong))
        assert isinstance(outcome, Refused)
        assert outcome.code == "invalid_quantity"
        assert desk.live() == []


async def test_tc031_an_order_beyond_the_margin_is_refused(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        price = desk.below_ask(5)
        reach = venue.equity() * desk.instrument.max_leverage
        beyond = desk.instrument.round_quantity(reach * 2 / price)
        (outcome,) = await desk.submit(desk.order(Side.BUY, price, quantity=beyond))
        assert isinstance(outcome, Refused)
        assert outcome.code == "margin"
        assert desk.live() == []


async def test_tc032_what_the_protocol_cannot_express_is_a_value_error(
    open_venue: OpenVenue,
) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        impossible = [
            desk.order(Side.BUY, None),
            desk.order(Side.BUY, Decimal(0)),
            desk.order(Side.BUY, Decimal("NaN")),
            desk.bid(quantity=Decimal(-1)),
            desk.bid(instrument_id=InstrumentId(f"{venue.adapter.venue}.nowhere")),
            desk.bid(post_only=True, time_in_force=TimeInForce.IOC),
        ]
        for order in impossible:
            with pytest.raises(ValueError):
                desk.entry.prepare_submit([desk.bid(), order])
        order = desk.bid()
        with pytest.raises(ValueError):
            desk.entry.prepare_modify([Modification(order, Decimal(-1), order.quantity)])
        assert venue.orders() == []


async def test_tc033_a_request_names_its_orders_and_preparing_it_sends_nothing(
    open_venue: OpenVenue,
) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        first, second = desk.bid(), desk.bid(6)
        named = (first.client_order_id, second.client_order_id)
        submit = desk.entry.prepare_submit([first, second])
        cancel = desk.entry.prepare_cancel([first, second])
        modify = desk.entry.prepare_modify([Modification(first, desk.below_ask(7), first.quantity)])
        assert submit.client_order_ids == cancel.client_order_ids == named
        assert modify.client_order_ids == named[:1]
        assert len({each.action_hash for each in (submit, cancel, modify)}) == 3
        assert len({each.kind for each in (submit, cancel, modify)}) == 3
        for each in (submit, cancel, modify):
            assert each.expires_ns is None or each.expires_ns > venue.clock.now_ns()
        await trio.sleep(venue.answer_timeout_s * 2)
        assert venue.orders() == []


async def test_tc034_a_batch_gets_one_outcome_each_in_order(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        rests = desk.bid(8)
        small = desk.bid(quantity=desk.instrument.quantity_step)
        fills = desk.order(Side.BUY, venue.ask.price, time_in_force=TimeInForce.IOC)
        crosses = desk.order(Side.BUY, venue.ask.price, post_only=True)
        also_rests = desk.order(Side.SELL, desk.below_ask(1))
        orders = (rests, small, fills, crosses, also_rests)
        first, second, third, fourth, fifth = await desk.submit(*orders)
        assert isinstance(first, Acknowledged)
        assert isinstance(second, Refused)
        assert isinstance(third, Executed)
        assert isinstance(fourth, Refused)
        assert isinstance(fifth, Acknowledged)
        assert (second.code, fourth.code) == ("min_notional", "post_only_crossed")
        live = {order.client_order_id: order.venue_order_id for order in desk.live()}
        assert live == {
            rests.client_order_id: first.venue_order_id,
            also_rests.client_order_id: fifth.venue_order_id,
        }
        (fill,) = await desk.fills(fills, venue.quantity)
        assert fill.venue_order_id == third.venue_order_id


async def test_tc035_a_cancel_names_the_client_order_id(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        kept, order = desk.bid(6), desk.bid()
        await desk.rest(kept)
        venue_order_id = await desk.rest(order)
        (outcome,) = await desk.cancel(order)
        assert isinstance(outcome, Acknowledged)
        assert [each.client_order_id for each in desk.live()] == [kept.client_order_id]
        report = await desk.report(order, OrderStatus.CANCELED)
        assert report.venue_order_id == venue_order_id


async def test_tc036_cancelling_what_is_not_live_is_refused(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        filled = desk.order(Side.BUY, venue.ask.price, time_in_force=TimeInForce.IOC)
        canceled = desk.bid()
        await desk.submit(filled, canceled)
        await desk.cancel(canceled)
        for order in (filled, canceled, desk.bid()):
            (outcome,) = await desk.cancel(order)
            assert isinstance(outcome, Refused), outcome
            assert outcome.code == "missing_order"


async def test_tc037_a_batch_of_cancels_gets_one_outcome_each(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        first, unknown, second = desk.bid(4), desk.bid(5), desk.bid(6)
        await desk.submit(first, second)
        outcomes = await desk.cancel(first, unknown, second)
        kinds = [type(outcome) for outcome in outcomes]
        assert kinds == [Acknowledged, Refused, Acknowledged]
        assert desk.live() == []
        for order in (first, second):
            await desk.report(order, OrderStatus.CANCELED)


async def test_tc038_a_modified_order_keeps_its_client_order_id(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order = desk.bid(6)
        first = await desk.rest(order)
        outcome = await desk.modify(order, desk.below_ask(3), venue.quantity * 2)
        assert isinstance(outcome, Acknowledged)
        (truth,) = desk.live()
        assert truth.client_order_id == order.client_order_id
        assert truth.venue_order_id == outcome.venue_order_id != first
        assert (truth.price, truth.remaining) == (desk.below_ask(3), venue.quantity * 2)
        closed = await desk.report(order, OrderStatus.CANCELED)
        assert closed.venue_order_id == first
        opened = await desk.report(order, OrderStatus.ACCEPTED, remaining=venue.quantity * 2)
        assert opened.venue_order_id == truth.venue_order_id
        assert (opened.price, opened.quantity) == (desk.below_ask(3), venue.quantity * 2)
        (outcome,) = await desk.cancel(order)
        assert isinstance(outcome, Acknowledged)
        assert desk.live() == []


async def test_tc039_a_modified_quantity_includes_what_is_filled(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order = desk.bid(quantity=venue.quantity * 3)
        await desk.rest(order)
        venue.take(Side.SELL, desk.below_ask(5), venue.quantity)
        await desk.fills(order, venue.quantity)
        known = _filled(order, venue.quantity)
        outcome = await desk.modify(known, desk.below_ask(4), venue.quantity * 5)
        assert isinstance(outcome, Acknowledged)
        (truth,) = desk.live()
        assert truth.remaining == venue.quantity * 4
        with pytest.raises(ValueError):
            desk.entry.prepare_modify([Modification(known, desk.below_ask(4), venue.quantity)])


async def test_tc040_modifying_what_is_not_live_is_refused(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        canceled = desk.bid()
        await desk.rest(canceled)
        await desk.cancel(canceled)
        for order in (canceled, desk.bid()):
            outcome = await desk.modify(order, desk.below_ask(3), venue.quantity)
            assert isinstance(outcome, Refused), outcome
            assert outcome.code == "missing_order"
        assert desk.live() == []


async def test_tc041_a_modify_that_trades_at_once_is_executed(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order = desk.bid()
        await desk.rest(order)
        outcome = await desk.modify(order, venue.ask.price, venue.quantity)
        assert isinstance(outcome, Executed)
        assert outcome.quantity == venue.quantity
        (fill,) = await desk.fills(order, venue.quantity)
        assert fill.venue_order_id == outcome.venue_order_id
        assert desk.live() == []


async def test_tc042_answers_find_their_requests_in_any_order(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        slow, small = desk.bid(6), desk.bid(quantity=desk.instrument.quantity_step)
        venue.delay_answers(venue.answer_timeout_s / 3)
        async with sending(desk.entry, desk.entry.prepare_submit([slow])) as late:
            assert len(desk.live()) == 1
            venue.behave()
            (early,) = await desk.submit(small)
            assert isinstance(early, Refused)
            assert late == []
        assert late == [Acknowledged(venue_order_id=desk.live()[0].venue_order_id)]


def _filled(order: Order, quantity: Decimal) -> Order:
    """As the daemon knows *order* once *quantity* is filled."""
    return evolve(order, filled_quantity=quantity)
