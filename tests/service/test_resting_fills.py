"""Fills that orders lack which rest, or rested: what is left of them says so."""

from __future__ import annotations

from decimal import Decimal

import pytest
import trio

from tests.service.execution_rig import (
    ACCOUNT,
    BTC,
    MAKER,
    Rig,
    later,
    never,
    open_rig,
)
from tests.service.missing_fills import lists, resting, said_filled, synthetic_fills
from zq_daemon.errors import LinkError
from zq_daemon.journal.digest import differences
from zq_daemon.journal.opening import load_state
from zq_daemon.model.event import HealthChanged
from zq_daemon.model.ids import ClientOrderId, VenueOrderId
from zq_daemon.model.market import Side
from zq_daemon.model.order import OrderStatus, TimeInForce
from zq_daemon.model.report import CancelReport
from zq_daemon.ports.clock import NS_PER_S
from zq_daemon.ports.disk import MemoryDisk
from zq_daemon.venue.interface import Acknowledged, Executed

pytestmark = pytest.mark.virtual


async def test_a_fill_of_a_resting_order_is_synthesised_and_the_order_goes_on_resting() -> None:
    disk = MemoryDisk(sync_s=0.001)
    async with open_rig(disk=disk) as rig:
        cloid = await resting(rig, "4")
        lists(rig, cloid, "4", held="6")
        await later(12)
        assert len(rig.queries.fills_since) >= 3
        assert synthetic_fills(rig) == []  # not over the span yet
        await later(20)
        [fill] = synthetic_fills(rig)
        assert fill.trade_id == f"synthetic-{cloid}-4"
        assert (fill.quantity, fill.price, fill.fee) == (2, 99, 0)
        order = rig.now(cloid)
        assert (order.status, order.remaining_quantity) == (OrderStatus.PARTIALLY_FILLED, 4)
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 6
        assert rig.portfolio.strategy_position(MAKER, BTC).quantity == 6
        assert rig.last(HealthChanged).component == f"fills:{ACCOUNT}"
        told = [event for _, event in rig.events if isinstance(event, HealthChanged)]
        assert len(told) == 1
        stats = rig.engine.stats()
        assert (stats["in_flight"], stats["in_doubt"], stats["halted_accounts"]) == (0, 0, [])
        assert rig.queries.asked == []  # that it rests is known
        rig.cancel(cloid)
        await later(1)
        assert rig.now(cloid).status is OrderStatus.CANCELED
        await rig.journal.durable()
        assert differences(await load_state(disk, closed_orders=10_000), rig.journal.state) == []


async def test_what_a_resting_order_trades_after_a_synthetic_fill_is_another() -> None:
    async with open_rig() as rig:
        cloid = await resting(rig, "4")
        missed_ns = rig.clock.now_ns()
        lists(rig, cloid, "4", held="6")
        await later(30)
        rig.fill(cloid, "t1", "1")
        assert (rig.now(cloid).filled_quantity, rig.portfolio.quantity(ACCOUNT, BTC)) == (7, 7)
        rig.fill(cloid, "m1", "2", price=Decimal(98), ts_event_ns=missed_ns)
        order = rig.now(cloid)
        assert (order.filled_quantity, order.synthetic) == (7, None)
        assert order.filled_notional == 5 * 99 + 2 * 98
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 7
        assert rig.last(HealthChanged).healthy
        lists(rig, cloid, "3", held="7")
        await later(60)
        assert len(synthetic_fills(rig)) == 1
        rig.fill(cloid, "t2", "3")
        assert rig.now(cloid).status is OrderStatus.FILLED


@pytest.mark.parametrize("seconds", [0.1, 5, 12])
@pytest.mark.parametrize("by", ["the stream", "the history"])
async def test_a_fill_that_is_late_is_not_synthesised(seconds: float, by: str) -> None:
    async with open_rig() as rig:
        cloid = await resting(rig, "4")
        missed = rig.fill_of(cloid, "m1", "2")
        await later(1)
        lists(rig, cloid, "4", held="6")
        await later(seconds)
        if by == "the stream":
            rig.engine.on_report(missed)
        rig.queries.fills.append(missed)
        await later(120)
        assert synthetic_fills(rig) == []
        assert rig.now(cloid).filled_quantity == rig.portfolio.quantity(ACCOUNT, BTC) == 6
        assert rig.engine.stats()["in_flight"] == 0
        if seconds < 3 and by == "the stream":
            assert rig.queries.fills_since == []


async def test_news_of_a_resting_order_begins_the_count_anew() -> None:
    """Every 8 s a bit of what is missing comes, or more turns out to be."""
    async with open_rig() as rig:
        cloid = await resting(rig)
        missed_ns = rig.clock.now_ns()
        await later(1)
        lists(rig, cloid, "6", held="4")
        for number in range(3):
            await later(8)
            rig.fill(cloid, f"m{number}", "1", ts_event_ns=missed_ns)
        await later(8)
        lists(rig, cloid, "5", held="5")
        await later(8)
        assert synthetic_fills(rig) == []
        await later(30)
        assert [fill.quantity for fill in synthetic_fills(rig)] == [2]
        assert rig.now(cloid).remaining_quantity == 5


async def test_a_list_that_says_otherwise_takes_it_back() -> None:
    async with open_rig() as rig:
        cloid = await resting(rig, "4")
        lists(rig, cloid, "4", held="4")
        await later(8)
        assert rig.engine.stats()["in_doubt"] == 1
        lists(rig, cloid, "6", held="4")
        assert (rig.engine.stats()["in_flight"], rig.engine.stats()["in_doubt"]) == (0, 0)
        await later(120)
        assert synthetic_fills(rig) == []


async def test_what_a_later_list_says_is_what_is_missing() -> None:
    async with open_rig() as rig:
        cloid = await resting(rig, "4")
        lists(rig, cloid, "3", held="6")
        await later(5)
        lists(rig, cloid, "4", held="6")
        await later(60)
        assert [fill.quantity for fill in synthetic_fills(rig)] == [2]
        assert rig.now(cloid).remaining_quantity == 4


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("left", ["4", "6"])
async def test_no_list_takes_back_that_an_order_is_filled(left: str, *, before: bool) -> None:
    """The list was made before it was; another one had said already that less rests."""
    async with open_rig() as rig:
        cloid = await resting(rig, "4")
        if before:
            lists(rig, cloid, "5", held="5")
        said_filled(rig, cloid, held="10")
        lists(rig, cloid, left, held="10")
        rig.queries.open_orders = ()
        await later(60)
        assert [fill.quantity for fill in synthetic_fills(rig)] == [6]
        assert rig.now(cloid).status is OrderStatus.FILLED


async def test_all_that_rests_shares_the_histories_and_no_more_are_asked_for_than_needed() -> None:
    async with open_rig() as rig:
        orders = [await resting(rig, quantity="3") for _ in range(20)]
        rig.queries.open_orders = tuple(
            rig.report_of(cloid, OrderStatus.ACCEPTED, remaining=Decimal(2)) for cloid in orders
        )
        rig.queries.positions = {BTC: Decimal(20)}
        rig.fill(None, "x1", "20", venue_order_id=VenueOrderId("x"))  # booked as another's
        rig.state(BTC="20")
        await later(60)
        assert [rig.now(cloid).remaining_quantity for cloid in orders] == [2] * 20
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 20
        assert rig.portfolio.strategy_position(MAKER, BTC).quantity == 20
        assert (len(rig.queries.fills_since), rig.queries.statements) == (3, 3)


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("told", [False, True])
async def test_a_fill_of_a_cancelled_order_is_synthesised(*, listed: bool, told: bool) -> None:
    """*listed*: it was known before the cancel already that less rested."""
    async with open_rig() as rig:
        cloid = await resting(rig, "4")
        missed = rig.fill_of(cloid, "m1", "2")
        await later(1)
        if listed:
            lists(rig, cloid, "4", held="6")
            await later(1)
        rig.queries.open_orders, rig.queries.positions = (), {BTC: Decimal(6)}
        rig.report(cloid, OrderStatus.CANCELED, remaining=Decimal(4))
        if told:
            rig.queries.fills.append(missed)
        await later(60)
        assert [fill.quantity for fill in synthetic_fills(rig)] == ([] if told else [2])
        assert (rig.now(cloid).status, rig.now(cloid).filled_quantity) == (OrderStatus.CANCELED, 6)
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 6
        assert rig.portfolio.strategy_position(MAKER, BTC).quantity == 6
        assert rig.engine.stats()["in_flight"] == 0
        rig.engine.on_report(missed)
        assert (rig.now(cloid).filled_quantity, rig.now(cloid).synthetic) == (6, None)


async def test_what_was_left_at_the_end_counts_as_far_as_the_position_shows_it() -> None:
    """No list has said so, and a venue may have cut the order down."""
    async with open_rig() as rig:
        cloid = await resting(rig, "4")
        rig.queries.positions = {BTC: Decimal(5)}
        rig.report(cloid, OrderStatus.CANCELED, remaining=Decimal(0))
        await later(60)
        assert [fill.quantity for fill in synthetic_fills(rig)] == [1]
        assert rig.now(cloid).filled_quantity == rig.portfolio.quantity(ACCOUNT, BTC) == 5
        assert rig.engine.stats()["in_flight"] == 0


async def test_what_an_immediate_order_got_is_told_by_its_end_where_the_answer_was_lost() -> None:
    async with open_rig() as rig:
        await later(1)
        rig.entry.answers["submit"].append(never())
        cloid = rig.submit(quantity="5", time_in_force=TimeInForce.IOC)
        await later(1)
        rig.queries.positions = {BTC: Decimal(2)}
        rig.report(cloid, OrderStatus.CANCELED, remaining=Decimal(3))
        await later(60)
        assert [fill.venue_order_id for fill in synthetic_fills(rig)] == ["v1"]
        assert (rig.now(cloid).status, rig.now(cloid).filled_quantity) == (OrderStatus.CANCELED, 2)
        assert rig.portfolio.strategy_position(MAKER, BTC).quantity == 2


async def test_an_order_without_an_id_that_is_gone_is_asked_about_no_more() -> None:
    """What it may have got is a difference of positions, which is told."""
    async with open_rig() as rig:
        await later(1)
        rig.entry.answers["submit"].append(never())
        cloid = rig.submit(quantity="5")
        await later(1)
        rig.cancel(cloid)
        await later(1)
        assert rig.now(cloid).status is OrderStatus.CANCELED
        rig.queries.positions = {BTC: Decimal(2)}
        rig.report(cloid, OrderStatus.CANCELED, remaining=Decimal(3))
        rig.state(BTC="2")
        await later(60)
        assert synthetic_fills(rig) == []
        assert rig.engine.stats()["in_flight"] == 0
        assert rig.engine.stats()["halted_accounts"] == [ACCOUNT]


async def test_an_order_that_rests_after_all_lacks_what_the_list_says() -> None:
    async with open_rig() as rig:
        cloid = await resting(rig)
        rig.queries.history_failure = LinkError("503")
        told = rig.report_of(cloid, OrderStatus.ACCEPTED, remaining=Decimal(8))
        rig.report(cloid, OrderStatus.CANCELED, remaining=Decimal(7))
        rig.queries.orders[cloid] = told
        rig.entry.answers["cancel"].extend([never()] * 9)
        rig.queries.open_orders = (told,)
        rig.state()
        await later(10)
        assert not rig.now(cloid).is_closed
        rig.state()
        rig.queries.history_failure = None
        await later(60)
        [fill] = synthetic_fills(rig)
        assert fill.quantity == 2
        assert not rig.now(cloid).is_closed
        rig.entry.answers["cancel"].clear()
        await later(60)
        assert rig.now(cloid).status is OrderStatus.CANCELED
        assert rig.engine.stats()["in_doubt"] == 0


async def test_what_is_replaced_meanwhile_says_nothing() -> None:
    async with open_rig() as rig:
        cloid = await resting(rig, "4")
        lists(rig, cloid, "4", held="4")
        await later(5)
        rig.modify(cloid, price=Decimal(98))
        await later(1)
        assert rig.now(cloid).venue_order_ids == ("v1", "v2")
        assert rig.engine.stats()["in_flight"] == 0
        await later(60)
        assert synthetic_fills(rig) == []


async def partly_executed(rig: Rig) -> ClientOrderId:
    """An order for 5 that got 2 when it was placed, as the answer says, and rests with 3."""
    await later(1)
    executed = Executed(
        venue_order_id=VenueOrderId("v1"), quantity=Decimal(2), average_price=Decimal(98)
    )
    rig.entry.answers["submit"].append([executed])
    cloid = rig.submit(quantity="5")
    await later(0.1)
    told = rig.report_of(cloid, OrderStatus.ACCEPTED, remaining=Decimal(3))
    rig.queries.orders[cloid], rig.queries.open_orders = told, (told,)
    return cloid


async def test_what_was_executed_when_it_was_placed_is_fetched_though_positions_agree() -> None:
    async with open_rig() as rig:
        cloid = await partly_executed(rig)
        other = VenueOrderId("x")
        rig.queries.fills = [
            rig.fill_of(cloid, "m1", "2"),
            rig.fill_of(None, "x1", "2", side=Side.SELL, venue_order_id=other),
        ]
        rig.state()
        await later(60)
        assert rig.now(cloid).filled_quantity == 2
        assert rig.now(cloid).is_open
        assert rig.engine.stats()["in_flight"] == 0


async def test_what_was_executed_when_it_was_placed_is_synthesised_before_it_halts() -> None:
    async with open_rig() as rig:
        cloid = await partly_executed(rig)
        rig.queries.positions = {BTC: Decimal(2)}
        for _ in range(12):
            rig.state(BTC="2")
            await later(10)
            assert rig.engine.stats()["halted_accounts"] == []
        assert [(fill.quantity, fill.price) for fill in synthetic_fills(rig)] == [(2, 98)]
        assert rig.now(cloid).is_open
        assert rig.engine.stats()["in_flight"] == 0


async def test_the_real_fill_comes_while_a_modification_is_in_flight() -> None:
    """What it takes the place of was known when the modification was signed."""
    disk = MemoryDisk(sync_s=0.001)
    async with open_rig(disk=disk) as rig:
        cloid = await resting(rig, "4")
        missed = rig.fill_of(cloid, "m1", "2")
        await later(1)
        lists(rig, cloid, "4", held="6")
        await later(40)
        assert [fill.quantity for fill in synthetic_fills(rig)] == [2]
        rig.queries.open_orders = ()

        async def late(request: object) -> list[Acknowledged]:
            await trio.sleep(2)
            return [Acknowledged(venue_order_id=VenueOrderId("v2"))]

        rig.entry.answers["modify"].append(late)
        rig.modify(cloid, price=Decimal(98))
        await later(1)
        rig.engine.on_report(missed)
        await rig.journal.durable()
        assert differences(await load_state(disk, closed_orders=10_000), rig.journal.state) == []
        await later(3)
        assert rig.now(cloid).venue_order_ids == ("v1", "v2")
        assert rig.now(cloid).quantity == 10
        assert rig.now(cloid).filled_quantity == 6
        rig.fill(cloid, "n1", "4", venue_order_id=VenueOrderId("v2"))
        assert rig.now(cloid).status is OrderStatus.FILLED
        await rig.journal.durable()
        assert differences(await load_state(disk, closed_orders=10_000), rig.journal.state) == []


@pytest.mark.parametrize("told", [False, True])
async def test_what_it_traded_before_it_was_cancelled_is_another(*, told: bool) -> None:
    """The fill was executed after the synthetic one, and is heard of after the cancel."""
    async with open_rig() as rig:
        cloid = await resting(rig, "4")
        lists(rig, cloid, "4", held="6")
        await later(40)
        assert [fill.quantity for fill in synthetic_fills(rig)] == [2]
        rig.queries.open_orders = ()
        another = rig.fill_of(cloid, "f2", "2", price=Decimal(98))
        rig.queries.fills.append(another)
        await later(0.5)
        rig.queries.positions = {BTC: Decimal(8)}
        rig.cancel(cloid)
        await later(0.2)
        if told:
            rig.report(cloid, OrderStatus.CANCELED, remaining=Decimal(2))
        rig.engine.on_report(another)
        for _ in range(3):
            rig.state(BTC="8")
            await later(60)
        assert rig.now(cloid).filled_quantity == 8
        assert rig.now(cloid).synthetic is not None
        assert len(synthetic_fills(rig)) == 1
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 8
        assert rig.engine.stats()["halted_accounts"] == []


async def test_an_immediate_order_said_to_be_left_whole_and_filled_has_what_it_got() -> None:
    async with open_rig() as rig:
        await later(1)
        cloid = rig.submit(quantity="5", time_in_force=TimeInForce.IOC)
        await later(0.2)
        rig.queries.positions = {BTC: Decimal(2)}
        got = rig.fill_of(cloid, "t1", "2")
        rig.queries.fills.append(got)
        rig.queries.orders[cloid] = told = rig.report_of(
            cloid, OrderStatus.FILLED, remaining=Decimal(5)
        )
        rig.engine.on_report(told)
        rig.engine.on_report(got)
        await later(60)
        assert rig.now(cloid).filled_quantity == 2
        assert rig.now(cloid).is_closed
        assert synthetic_fills(rig) == []


@pytest.mark.parametrize("first", [False, True])
async def test_what_was_left_counts_also_if_another_message_told_of_the_end(*, first: bool) -> None:
    async with open_rig() as rig:
        cloid = await resting(rig, "4")
        rig.queries.positions = {BTC: Decimal(6)}
        ended = CancelReport(
            account_id=ACCOUNT,
            instrument_id=BTC,
            venue_order_id=rig.now(cloid).venue_order_ids[-1],
            reason="by the venue",
            ts_recv_ns=rig.clock.now_ns(),
        )
        left = rig.report_of(cloid, OrderStatus.CANCELED, remaining=Decimal(4))
        for report in (ended, left) if first else (left, ended):
            rig.engine.on_report(report)
        for _ in range(3):
            rig.state(BTC="6")
            await later(60)
        assert rig.now(cloid).filled_quantity == 6
        assert [fill.quantity for fill in synthetic_fills(rig)] == [2]
        assert rig.engine.stats()["halted_accounts"] == []


async def test_a_resting_order_asks_for_no_more_history_than_may_be_missing() -> None:
    """Positions and lists have agreed since it was placed."""
    async with open_rig() as rig:
        cloid = await resting(rig, "4")
        for _ in range(60):
            lists(rig, cloid, "6", held="4")
            await later(60)
        before = len(rig.queries.fills_since)
        agreed_ns = rig.clock.now_ns()
        lists(rig, cloid, "5", held="4")
        await later(30)
        since = rig.queries.fills_since[before:]
        assert since
        assert min(since) > agreed_ns - 300 * NS_PER_S


@pytest.mark.parametrize("stated", [False, True])
@pytest.mark.parametrize("given", [False, True])
async def test_what_was_executed_before_it_was_modified_is_fetched(
    *, stated: bool, given: bool
) -> None:
    """What the venue cannot give of a former id nobody makes up: the position tells it."""
    async with open_rig() as rig:
        cloid = await partly_executed(rig)
        held = "0" if given else "2"
        if given:
            other = rig.fill_of(None, "x1", "2", side=Side.SELL, venue_order_id=VenueOrderId("x"))
            rig.queries.fills = [rig.fill_of(cloid, "m1", "2"), other]
        rig.queries.positions = {BTC: Decimal(held)}
        if stated:
            rig.state(BTC=held)
        await later(0.2)
        rig.entry.answers["modify"].append([Acknowledged(venue_order_id=VenueOrderId("v2"))])
        rig.modify(cloid, price=Decimal(98))
        await later(0.2)
        told = rig.report_of(cloid, OrderStatus.ACCEPTED, venue_order_id=VenueOrderId("v2"))
        rig.queries.orders[cloid], rig.queries.open_orders = told, (told,)
        for _ in range(5):
            rig.state(BTC=held)
            await later(60)
        assert rig.engine.stats()["in_flight"] == 0
        assert rig.now(cloid).filled_quantity == (2 if given else 0)
        assert synthetic_fills(rig) == []
        assert rig.engine.stats()["halted_accounts"] == ([] if given else [ACCOUNT])


@pytest.mark.parametrize("given", [False, True])
async def test_an_immediate_order_said_to_be_left_whole_is_sought(*, given: bool) -> None:
    async with open_rig() as rig:
        await later(1)
        rig.entry.answers["submit"].append(never())
        cloid = rig.submit(quantity="5", time_in_force=TimeInForce.IOC)
        await later(0.2)
        held = "0" if given else "5"
        if given:
            other = rig.fill_of(None, "x1", "5", side=Side.SELL, venue_order_id=VenueOrderId("x"))
            rig.queries.fills = [rig.fill_of(cloid, "m1", "5"), other]
        rig.queries.positions = {BTC: Decimal(held)}
        rig.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.FILLED, remaining=Decimal(5))
        for _ in range(6):
            await later(20)
            rig.state(BTC=held)
        assert rig.now(cloid).status is OrderStatus.FILLED
        assert [fill.quantity for fill in synthetic_fills(rig)] == ([] if given else [5])
        assert rig.engine.stats()["halted_accounts"] == []
        assert rig.engine.stats()["in_flight"] == 0


async def test_a_fill_of_a_former_id_takes_no_place_of_one_of_the_present() -> None:
    async with open_rig() as rig:
        cloid = await resting(rig)
        former = rig.fill_of(cloid, "m1", "2")
        await later(0.5)
        rig.modify(cloid, price=Decimal(98))
        await later(1)
        assert rig.now(cloid).venue_order_ids == ("v1", "v2")
        present = rig.fill_of(cloid, "m2", "3", venue_order_id=VenueOrderId("v2"))
        await later(1)
        rig.queries.open_orders = (
            rig.report_of(
                cloid,
                OrderStatus.ACCEPTED,
                remaining=Decimal(7),
                venue_order_id=VenueOrderId("v2"),
            ),
        )
        rig.queries.positions = {BTC: Decimal(5)}
        rig.state(BTC="5")
        await later(40)
        assert [fill.quantity for fill in synthetic_fills(rig)] == [3]
        rig.engine.on_report(former)
        rig.engine.on_report(present)
        assert rig.now(cloid).synthetic is None
        assert rig.now(cloid).filled_quantity == 5
        assert rig.now(cloid).remaining_quantity == 7


async def test_what_an_order_trades_that_rests_after_all_is_another() -> None:
    async with open_rig() as rig:
        cloid = await resting(rig, "4")
        rig.queries.positions = {BTC: Decimal(6)}
        rig.report(cloid, OrderStatus.CANCELED, remaining=Decimal(4))
        await later(40)
        assert [fill.quantity for fill in synthetic_fills(rig)] == [2]
        rig.entry.answers["cancel"].extend([never()] * 9)
        told = rig.report_of(cloid, OrderStatus.ACCEPTED, remaining=Decimal(4))
        rig.queries.orders[cloid], rig.queries.open_orders = told, (told,)
        for _ in range(2):
            rig.state(BTC="6")
            await later(10)
        assert not rig.now(cloid).is_closed
        rig.fill(cloid, "n1", "1")
        assert rig.now(cloid).filled_quantity == 7
