"""Fills that the venue owes: fetched, synthesised when it cannot give them, replaced if it does."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from copy import deepcopy
from decimal import Decimal

import pytest

from tests.harness.journal import batches_of, records_of
from tests.service.execution_rig import (
    ACCOUNT,
    BTC,
    MAKER,
    ScriptedEntry,
    ScriptedQueries,
    later,
    open_rig,
)
from tests.service.missing_fills import lists, resting, said_filled, synthetic_fills
from zq_daemon.engine.execution import ExecutionSettings
from zq_daemon.errors import LinkError
from zq_daemon.journal.digest import differences
from zq_daemon.journal.history import History
from zq_daemon.journal.history_schema import NS_PER_DAY
from zq_daemon.journal.opening import load_state
from zq_daemon.model.event import HealthChanged, OrderFilled
from zq_daemon.model.ids import ClientOrderId, VenueOrderId
from zq_daemon.model.market import Side
from zq_daemon.model.order import OrderStatus, OrderType, TimeInForce
from zq_daemon.ports.clock import NS_PER_S, VirtualClock
from zq_daemon.ports.disk import MemoryDisk
from zq_daemon.venue.interface import Executed

pytestmark = pytest.mark.virtual


_THREE = ((Side.BUY, "2"), (Side.BUY, "1"), (Side.SELL, "2"))


async def test_what_the_venue_cannot_give_is_synthesised_after_three_histories_over_the_span() -> (
    None
):
    async with open_rig() as rig:
        await later(1)
        cloid = rig.submit(quantity="10")
        await later(1)
        rig.fill(cloid, "t1", "4")
        rig.queries.fills = [rig.fill_of(cloid, "t1", "4")]
        said_filled(rig, cloid, held="10")
        filled_ns = rig.clock.now_ns()
        await later(9)
        assert rig.now(cloid).status is OrderStatus.PARTIALLY_FILLED
        assert len(rig.queries.fills_since) >= 2
        await later(20)
        [fill] = synthetic_fills(rig)
        assert fill.trade_id == f"synthetic-{cloid}-4"
        assert (fill.quantity, fill.price, fill.fee) == (6, 99, 0)
        assert fill.ts_event_ns == filled_ns
        assert rig.now(cloid).status is OrderStatus.FILLED
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 10
        assert rig.portfolio.strategy_position(MAKER, BTC).quantity == 10
        told = rig.last(HealthChanged)
        assert (told.component, told.healthy) == (f"fills:{ACCOUNT}", False)
        assert rig.engine.stats()["reports"]["synthetic_fills"] == 1
        assert rig.engine.stats()["halted_accounts"] == []
        assert rig.engine.stats()["in_flight"] == 0


async def test_a_filled_order_of_which_all_is_said_to_be_left_was_filled_whole() -> None:
    async with open_rig() as rig:
        cloid = rig.submit(quantity="10")
        await later(1)
        rig.queries.fills = [rig.fill_of(cloid, "t1", "10")]
        told = rig.report_of(cloid, OrderStatus.FILLED, remaining=Decimal(10))
        rig.queries.orders[cloid] = told
        rig.engine.on_report(told)
        await later(5)
        assert rig.now(cloid).status is OrderStatus.FILLED
        assert synthetic_fills(rig) == []


async def test_a_history_that_cannot_be_had_proves_nothing() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(1)
        said_filled(rig, cloid, held="1")
        rig.queries.history_failure = LinkError("503")
        await later(120)
        assert synthetic_fills(rig) == []
        rig.queries.history_failure = None
        rig.queries.fills = [rig.fill_of(cloid, "t1", "1")]
        await later(120)
        assert rig.now(cloid).status is OrderStatus.FILLED
        assert synthetic_fills(rig) == []


async def test_what_the_venue_said_of_the_price_is_the_price() -> None:
    async with open_rig() as rig:
        said = Executed(
            venue_order_id=VenueOrderId("v1"), quantity=Decimal(1), average_price=Decimal("98.5")
        )
        rig.entry.answers["submit"].append([said])
        cloid = rig.submit()
        await later(0.1)
        said_filled(rig, cloid, held="1")
        await later(30)
        assert [fill.price for fill in synthetic_fills(rig)] == [Decimal("98.5")]


async def test_a_market_order_was_filled_near_the_middle_rather_than_at_its_worst() -> None:
    async with open_rig() as rig:
        cloid = rig.submit(order_type=OrderType.MARKET, price=None)
        await later(1)
        said_filled(rig, cloid, held="1")
        await later(30)
        assert rig.now(cloid).price > Decimal(101)
        assert [fill.price for fill in synthetic_fills(rig)] == [Decimal(100)]


@pytest.mark.parametrize("parts", [["6"], ["2", "4"], ["5", "1"]])
async def test_real_fills_that_come_late_replace_it(parts: list[str]) -> None:
    disk = MemoryDisk(sync_s=0.001)
    async with open_rig(disk=disk) as rig:
        await later(1)
        cloid = rig.submit(quantity="10")
        await later(1)
        rig.fill(cloid, "t0", "4")
        said_filled(rig, cloid, held="10")
        await later(30)
        for number, part in enumerate(parts):
            late = rig.fill_of(cloid, f"r{number}", part, price=Decimal(98))
            rig.engine.on_report(late)
            rig.engine.on_report(late)  # and once more
            assert rig.portfolio.quantity(ACCOUNT, BTC) == 10
            assert rig.now(cloid).filled_quantity == 10
            assert rig.now(cloid).status is OrderStatus.FILLED
        order, position = rig.now(cloid), rig.portfolio.position(ACCOUNT, BTC)
        assert order.synthetic is None
        assert order.filled_notional == 4 * 99 + 6 * 98
        assert order.fees == position.fees == Decimal("0.01") * (1 + len(parts))
        assert position.realized_pnl - position.cost == -order.filled_notional
        assert rig.portfolio.strategy_position(MAKER, BTC) == position
        assert rig.last(HealthChanged).healthy
        await rig.journal.durable()
        assert differences(await load_state(disk, closed_orders=10_000), rig.journal.state) == []


async def test_what_the_position_has_already_moves_the_strategys_only() -> None:
    """Its fill was booked as another's, or the position was taken over with it."""
    async with open_rig() as rig:
        await later(1)
        cloid = rig.submit(quantity="2")
        await later(1)
        rig.fill(None, "x1", "2", venue_order_id=VenueOrderId("unheard"))
        said_filled(rig, cloid, held="2")
        await later(30)
        assert rig.now(cloid).status is OrderStatus.FILLED
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 2
        assert rig.portfolio.strategy_position(MAKER, BTC).quantity == 2
        rig.fill(cloid, "t1", "2", price=Decimal(98))
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 2
        assert rig.portfolio.strategy_position(MAKER, BTC).cost == 196


async def test_the_position_is_moved_by_no_more_than_it_shows() -> None:
    """Three orders have made it 1, and no fill of them is to be had."""
    disk = MemoryDisk(sync_s=0.001)
    async with open_rig(disk=disk) as rig:
        orders = [rig.submit(side=side, quantity=q) for side, q in _THREE]
        await later(2)
        for each in orders:
            said_filled(rig, each, held="1")
            await later(1)
        await later(60)
        assert [rig.now(each).status for each in orders] == [OrderStatus.FILLED] * 3
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 1
        assert rig.portfolio.strategy_position(MAKER, BTC).quantity == 1
        made: Counter[ClientOrderId | None] = Counter()
        for fill in synthetic_fills(rig):
            made[fill.client_order_id] += int(fill.quantity)
        assert made == dict(zip(orders, (2, 1, 2), strict=True))
        told = [event for _, event in rig.events if isinstance(event, HealthChanged)]
        assert {event.component for event in told} == {f"fills:{ACCOUNT}"}
        rig.fill(orders[0], "r1", "2", price=Decimal(98))
        assert rig.now(orders[0]).synthetic is None
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 1
        assert rig.portfolio.strategy_position(MAKER, BTC).quantity == 1
        await rig.journal.durable()
        assert differences(await load_state(disk, closed_orders=10_000), rig.journal.state) == []


async def test_an_order_that_was_cut_down_got_what_the_position_shows() -> None:
    async with open_rig() as rig:
        await later(1)
        rig.fill(None, "p1", "10")
        cloid = rig.submit(side=Side.SELL, quantity="10", reduce_only=True)
        await later(1)
        said_filled(rig, cloid, held="7")
        await later(60)
        [fill] = synthetic_fills(rig)
        assert (fill.side, fill.quantity) == (Side.SELL, 3)
        assert rig.now(cloid).status is OrderStatus.CANCELED
        assert "by 3 of 10" in rig.now(cloid).reason
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 7


@pytest.mark.parametrize(("side", "held"), [(Side.SELL, "2"), (Side.BUY, "12")])
async def test_an_order_that_was_cut_down_did_not_get_what_another_lacks(
    side: Side, held: str
) -> None:
    """It got 3 of its 10, and the other all of its 5."""
    async with open_rig() as rig:
        await later(1)
        rig.fill(None, "p1", "10")
        cut = rig.submit(side=Side.SELL, quantity="10", reduce_only=True)
        other = rig.submit(side=side, quantity="5")
        await later(1)
        said_filled(rig, cut, held="7")
        await later(5)
        said_filled(rig, other, held=held)
        await later(60)
        got = {fill.client_order_id: fill.quantity for fill in synthetic_fills(rig)}
        assert got == {cut: 3, other: 5}
        assert rig.portfolio.quantity(ACCOUNT, BTC) == Decimal(held)


@pytest.mark.parametrize("how", ["rests", "leaves no rest"])
@pytest.mark.parametrize("told", [False, True])
async def test_a_cancelled_order_is_asked_about_until_it_has_what_it_was_filled(
    how: str, *, told: bool
) -> None:
    """At once it was filled by 2 of 5, says the answer, and then its rest was cancelled."""
    async with open_rig() as rig:
        executed = Executed(
            venue_order_id=VenueOrderId("v1"), quantity=Decimal(2), average_price=Decimal(98)
        )
        rig.entry.answers["submit"].append([executed])
        tif = TimeInForce.GTC if how == "rests" else TimeInForce.IOC
        cloid = rig.submit(quantity="5", time_in_force=tif)
        await later(0.1)
        rig.report(cloid, OrderStatus.CANCELED, remaining=Decimal(3))
        assert rig.now(cloid).status is OrderStatus.CANCELED
        rig.queries.positions = {BTC: Decimal(2)}
        if told:
            rig.queries.fills = [rig.fill_of(cloid, "t1", "2", price=Decimal(98))]
        await later(60)
        assert len(synthetic_fills(rig)) == (not told)
        assert rig.now(cloid).filled_quantity == 2
        assert rig.now(cloid).status is OrderStatus.CANCELED
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 2
        assert rig.portfolio.strategy_position(MAKER, BTC).quantity == 2
        assert rig.engine.stats()["in_flight"] == 0
        assert rig.engine.stats()["halted_accounts"] == []
        assert rig.queries.asked == []  # its status is known


async def test_a_cancelled_order_that_was_cut_down_is_asked_about_no_more() -> None:
    async with open_rig() as rig:
        rig.fill(None, "p1", "5")
        executed = Executed(
            venue_order_id=VenueOrderId("v1"), quantity=Decimal(2), average_price=Decimal(98)
        )
        rig.entry.answers["submit"].append([executed])
        cloid = rig.submit(side=Side.SELL, quantity="5", reduce_only=True)
        await later(0.1)
        rig.report(cloid, OrderStatus.CANCELED, remaining=Decimal(3))
        rig.queries.positions = {BTC: Decimal(5)}
        await later(60)
        assert synthetic_fills(rig) == []
        assert rig.engine.stats()["in_flight"] == 0


@pytest.mark.parametrize("told", [False, True])
async def test_an_order_said_to_be_filled_is_settled_by_the_next_life(*, told: bool) -> None:
    disk, clock = MemoryDisk(sync_s=0.001), VirtualClock()
    entry, queries = ScriptedEntry(clock), ScriptedQueries(clock)
    async with open_rig(disk=disk, entry=entry, queries=queries) as rig:
        cloid = await resting(rig, "4")
        missed = rig.fill_of(cloid, "m1", "6")
        said_filled(rig, cloid, held="10")
        await rig.journal.durable()
    if told:
        queries.fills.append(missed)
    async with open_rig(disk=disk, entry=entry, queries=queries, stated=False, run_id=2) as rig:
        recovered = await rig.engine.recover(Delays())
        assert rig.now(cloid).status is OrderStatus.FILLED
        assert len(synthetic_fills(rig)) == (not told)
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 10
        assert rig.portfolio.strategy_position(MAKER, BTC).quantity == 10
        assert recovered.adjusted == ()


@pytest.mark.parametrize("told", [False, True])
async def test_what_a_cancelled_order_lacks_is_found_by_the_next_life(*, told: bool) -> None:
    """What the history has is booked of the order; else the position is taken over, and told."""
    disk, clock = MemoryDisk(sync_s=0.001), VirtualClock()
    entry, queries = ScriptedEntry(clock), ScriptedQueries(clock)
    async with open_rig(disk=disk, entry=entry, queries=queries) as rig:
        cloid = await resting(rig, "4")
        missed = rig.fill_of(cloid, "m1", "2")
        lists(rig, cloid, "4", held="6")
        queries.open_orders = ()
        rig.report(cloid, OrderStatus.CANCELED, remaining=Decimal(4))
        await rig.journal.durable()
    if told:
        queries.fills.append(missed)
    async with open_rig(disk=disk, entry=entry, queries=queries, stated=False, run_id=2) as rig:
        recovered = await rig.engine.recover(Delays())
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 6
        assert rig.now(cloid).filled_quantity == (6 if told else 4)
        assert rig.portfolio.strategy_position(MAKER, BTC).quantity == (6 if told else 4)
        assert recovered.adjusted == (() if told else ("hl.BTC: ours 4, venue's 6",))
        assert synthetic_fills(rig) == []


async def test_positions_that_agree_while_fills_are_missing_do_not_hide_them_from_a_restart() -> (
    None
):
    """Another's trade makes up for it, and no history can be had until the daemon is killed."""
    disk, clock = MemoryDisk(sync_s=0.001), VirtualClock()
    entry, queries = ScriptedEntry(clock), ScriptedQueries(clock)
    async with open_rig(disk=disk, entry=entry, queries=queries) as rig:
        cloid = await resting(rig)
        missed = [
            rig.fill_of(cloid, "m1", "2"),
            rig.fill_of(None, "x1", "2", side=Side.SELL, venue_order_id=VenueOrderId("x")),
        ]
        queries.history_failure = LinkError("503")
        for _ in range(20):
            lists(rig, cloid, "8", held="0")
            await later(60)
        queries.open_orders = ()
        rig.report(cloid, OrderStatus.CANCELED, remaining=Decimal(8))
        for _ in range(20):
            rig.state()
            await later(60)
        await rig.journal.durable()
    queries.history_failure, queries.fills = None, missed
    async with open_rig(disk=disk, entry=entry, queries=queries, stated=False, run_id=2) as rig:
        await rig.engine.recover(Delays())
        assert rig.now(cloid).filled_quantity == 2
        assert rig.portfolio.strategy_position(MAKER, BTC).quantity == 2
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 0


async def test_a_replaced_order_lacks_what_its_replacement_was_given() -> None:
    async with open_rig() as rig:
        await later(1)
        cloid = rig.submit(quantity="10")
        await later(1)
        rig.fill(cloid, "t1", "4")
        rig.modify(cloid, price=Decimal(98))
        await later(1)
        assert rig.now(cloid).venue_order_ids == ("v1", "v2")
        rig.queries.positions = {BTC: Decimal(10)}
        rig.queries.orders[cloid] = told = rig.report_of(
            cloid, OrderStatus.FILLED, quantity=Decimal(6), remaining=Decimal(0)
        )
        rig.engine.on_report(told)
        await later(30)
        assert [(fill.quantity, fill.price) for fill in synthetic_fills(rig)] == [(6, 98)]
        assert rig.now(cloid).status is OrderStatus.FILLED


async def test_the_same_evidence_gives_the_same_fill_in_another_life() -> None:
    """The machine went down before the synthetic fill was durable."""
    disk, clock = MemoryDisk(sync_s=0.001), VirtualClock()
    entry, queries = ScriptedEntry(clock), ScriptedQueries(clock)
    async with open_rig(disk=disk, entry=entry, queries=queries) as rig:
        await later(1)
        cloid = rig.submit(quantity="10")
        await later(1)
        rig.fill(cloid, "t1", "4")
        await rig.journal.durable()
        before = deepcopy(disk)
        before.power_cut()  # its locks are gone
        said_filled(rig, cloid, held="10")
        await later(30)
        [first] = synthetic_fills(rig)
    async with open_rig(disk=before, entry=entry, queries=queries, stated=False, run_id=2) as rig:
        await rig.engine.recover(Delays())
        [second] = synthetic_fills(rig)
        assert (second.trade_id, second.ts_event_ns) == (first.trade_id, first.ts_event_ns)
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 10


async def test_the_journal_says_that_it_is_synthetic() -> None:
    settings = ExecutionSettings(not_found_span_ns=2 * NS_PER_S)
    async with open_rig(settings=settings) as rig:
        cloid = rig.submit()
        await later(1)
        said_filled(rig, cloid, held="1")
        await later(10)
        rig.fill(cloid, "t1", "1")
        await rig.journal.durable()
        filled = [each for each in await records_of(rig.disk) if isinstance(each, OrderFilled)]
        assert [each.fill.is_synthetic for each in filled] == [True, False]
        assert filled[0].replaces is None
        assert filled[1].replaces is not None
        assert filled[1].replaces.trade_id == filled[0].fill.trade_id


@pytest.mark.parametrize("at_once", [False, True])
async def test_the_history_shows_what_was_made_up_and_taken_back(*, at_once: bool) -> None:
    """The real fill is of another day; *at_once*: both are written in one transaction."""
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(1)
        said_filled(rig, cloid, held="1")
        await later(30)
        next_day_ns = rig.clock.now_ns() + NS_PER_DAY
        rig.fill(cloid, "t1", "0.4", price=Decimal(98), ts_event_ns=next_day_ns)
        await rig.journal.durable()
        batches = await batches_of(rig.disk)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        history = History(connection)
        if at_once:
            history.apply(1, [each for batch in batches for each in batch.payloads])
        for batch in batches:
            history.apply(batch.first_sequence, batch.payloads)
        rows = connection.execute(
            "SELECT side, price + 0, quantity + 0, synthetic FROM fills "
            "ORDER BY sequence, synthetic"
        ).fetchall()
        days = connection.execute(
            "SELECT volume + 0, fills FROM pnl_by_day ORDER BY day"
        ).fetchall()
    assert rows == [("buy", 99, 1, 1), ("buy", 98, 0.4, 0), ("sell", 99, 0.4, 1)]
    assert days == [(pytest.approx(0.6 * 99), 0), (pytest.approx(0.4 * 98), 1)]


class Delays:
    def next_delay_ms(self) -> int:
        return 1_000


async def test_fills_that_add_up_to_nothing_are_missing_all_the_same() -> None:
    """One is made up for while another, which hides it from the statement, comes in the end."""
    async with open_rig() as rig:
        sold, bought = rig.submit(side=Side.SELL, quantity="2"), rig.submit(quantity="2")
        await later(1)
        another = rig.fill_of(bought, "b1", "2")
        said_filled(rig, sold, held="0")
        await later(40)
        assert [fill.client_order_id for fill in synthetic_fills(rig)] == [sold]
        assert rig.portfolio.strategy_position(MAKER, BTC).quantity == -2
        assert rig.portfolio.quantity(ACCOUNT, BTC) == -2
        rig.engine.on_report(another)
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 0
        rig.fill(sold, "s1", "2")
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 0
        assert rig.portfolio.strategy_position(MAKER, BTC).quantity == 0
        assert rig.now(sold).synthetic is None


async def test_what_is_published_long_after_is_found_by_the_next_life() -> None:
    disk, clock = MemoryDisk(sync_s=0.001), VirtualClock()
    entry, queries = ScriptedEntry(clock), ScriptedQueries(clock)
    async with open_rig(disk=disk, entry=entry, queries=queries) as rig:
        cloid = await resting(rig, "4")
        missed = rig.fill_of(cloid, "m1", "6", price=Decimal(98))
        said_filled(rig, cloid, held="10")
        await later(40)
        assert len(synthetic_fills(rig)) == 1
        for _ in range(20):
            rig.state(BTC="10")
            await later(60)
        await rig.journal.durable()
    queries.fills.append(missed)
    async with open_rig(disk=disk, entry=entry, queries=queries, stated=False, run_id=2) as rig:
        await rig.engine.recover(Delays())
        assert rig.now(cloid).synthetic is None
        assert rig.now(cloid).filled_notional == 4 * 99 + 6 * 98
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 10
