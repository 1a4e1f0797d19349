"""Two lives of the engine over one disk: what the second knows, asks, and never sends again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TypeVar

import pytest
import trio

from tests.harness.journal import records_of
from tests.service.execution_rig import (
    ACCOUNT,
    BTC,
    ETH,
    RUN_ID,
    Rig,
    ScriptedEntry,
    ScriptedQueries,
    fill,
    later,
    never,
    open_rig,
)
from zq_daemon.engine.execution import ExecutionSettings
from zq_daemon.engine.ledger import EXTERNAL
from zq_daemon.errors import LinkError
from zq_daemon.journal.digest import differences
from zq_daemon.journal.opening import load_state
from zq_daemon.journal.record import ExternalFill, Intent, StatementAdopted
from zq_daemon.model.event import OrderFilled, OrderInitialized, OrderPending
from zq_daemon.model.ids import ClientOrderId, VenueOrderId, external_client_order_id
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderStatus, Pending, TimeInForce
from zq_daemon.model.report import OrderReport
from zq_daemon.ports.clock import NS_PER_S, VirtualClock
from zq_daemon.ports.disk import MemoryDisk
from zq_daemon.venue.interface import Acknowledged, Ambiguous

_T = TypeVar("_T")
pytestmark = pytest.mark.virtual


class Lives:
    """One disk and one venue, which outlive the engine."""

    def __init__(self) -> None:
        clock = VirtualClock()
        self.disk = MemoryDisk(sync_s=0.001)
        self.entry = ScriptedEntry(clock)
        self.queries = ScriptedQueries(clock)
        self.runs = 0

    def open(self, **changes: object):  # noqa: ANN201: the rig's own context manager
        """Another life; the first one also gets the account's first statement."""
        self.runs += 1
        return open_rig(
            disk=self.disk,
            entry=self.entry,
            queries=self.queries,
            run_id=RUN_ID + self.runs,
            stated=self.runs == 1,
            **changes,  # type: ignore[arg-type]
        )

    def rests(self, rig: Rig, cloid: ClientOrderId, **changes: object) -> None:
        """The venue has the order, and says so when asked."""
        report = rig.report_of(cloid, OrderStatus.ACCEPTED, **changes)
        self.queries.orders[cloid] = report
        self.queries.open_orders = (*self.queries.open_orders, report)

    def sent(self, kind: str = "submit") -> list[ClientOrderId]:
        return [
            cloid
            for _, request in self.entry.sent
            if request.kind == kind
            for cloid in request.client_order_ids
        ]


class Delays:
    def next_delay_ms(self) -> int:
        return 1_000


async def test_an_order_whose_intent_is_not_durable_never_left() -> None:
    lives = Lives()
    with pytest.raises(ExceptionGroup):
        async with lives.open() as rig:
            await rig.journal.durable()
            lives.disk.sync_s = 60
            cloid = rig.submit()
            await later(1)
            lives.disk.power_cut()
            await later(100)
    lives.disk.sync_s = 0.001
    async with lives.open() as rig:
        assert lives.sent() == []
        assert rig.cache.order(cloid) is None
        assert (rig.restored.live, rig.restored.never_sent) == (0, 0)


async def test_an_order_that_was_only_asked_for_is_closed_as_never_sent() -> None:
    lives = Lives()
    async with lives.open() as rig:
        order = rig.order()
        rig.engine.close_gate("test")  # as far as the first record, no further
        rig.journal.write_order(_initialized(rig, order), closed=False)
        await rig.journal.durable()
    async with lives.open() as rig:
        assert rig.now(order.client_order_id).status is OrderStatus.REJECTED
        assert rig.now(order.client_order_id).reason == "the daemon ended before it left"
        assert (rig.restored.live, rig.restored.never_sent) == (0, 1)


async def test_an_order_that_may_have_left_is_asked_about_and_never_sent_again() -> None:
    lives = Lives()
    async with lives.open() as rig:
        lives.entry.answers["submit"].append(never())
        cloid = rig.submit()
        await later(1)
    assert lives.sent() == [cloid]
    lives.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.ACCEPTED, venue_order_id="v9")
    lives.queries.open_orders = (lives.queries.orders[cloid],)
    async with lives.open() as rig:
        assert rig.now(cloid).status is OrderStatus.SUBMITTED
        assert rig.now(cloid).is_in_flight
        recovered = await rig.engine.recover(Delays())
        assert (recovered.asked, recovered.unresolved) == (1, 0)
        assert rig.now(cloid).status is OrderStatus.ACCEPTED
        assert rig.now(cloid).venue_order_id == "v9"
        await later(120)
    assert lives.sent() == [cloid]


async def test_an_order_that_was_lost_expires_when_both_sources_have_denied_it_for_long() -> None:
    lives = Lives()
    async with lives.open() as rig:
        lives.entry.answers["submit"].append(never())
        cloid = rig.submit()
        await later(1)
    async with lives.open() as rig:
        recovered = await rig.engine.recover(Delays())
        assert recovered.unresolved == 1
        await later(15 + 10 + 1)  # its validity, and the time over which it has to be denied
        assert rig.now(cloid).status is OrderStatus.EXPIRED
    assert lives.sent() == [cloid]


async def test_what_filled_meanwhile_is_fetched_and_booked_once() -> None:
    lives = Lives()
    async with lives.open() as rig:
        cloid = rig.submit(quantity="3")
        await later(1)
        rig.fill(cloid, "t1", "1")
        await rig.journal.durable()
    missed = rig.fill_of(rig.now(cloid), "t2", "2", ts_event_ns=rig.clock.now_ns() + NS_PER_S)
    lives.queries.fills = [rig.fill_of(rig.now(cloid), "t1", "1"), missed]
    lives.queries.orders[cloid] = rig.report_of(
        cloid, OrderStatus.FILLED, remaining=Decimal(0), quantity=Decimal(3)
    )
    lives.queries.positions = {BTC: Decimal(3)}
    async with lives.open() as rig:
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 1
        recovered = await rig.engine.recover(Delays())
        assert (recovered.fills, recovered.adjusted, recovered.resolved) == (1, (), 1)
        assert rig.now(cloid).status is OrderStatus.FILLED
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 3
        for each in lives.queries.fills:  # the private stream's snapshot repeats them
            rig.engine.on_report(each)
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 3
        assert rig.portfolio.strategy_position(rig.now(cloid).strategy_id, BTC).quantity == 3
    first_asked = lives.queries.fills_since[0]
    assert first_asked <= missed.ts_event_ns


async def test_a_trade_of_somebody_else_meanwhile_is_booked_as_external() -> None:
    lives = Lives()
    async with lives.open() as rig:
        ours = rig.submit()
        await later(1)
        rig.fill(ours, "t1", "1")
        await rig.journal.durable()
    later_ns = rig.clock.now_ns() + 5 * NS_PER_S
    lives.queries.fills = [fill("x1", "2", later_ns, client_order_id=None, venue_order_id="v77")]
    lives.queries.positions = {BTC: Decimal(3)}
    async with lives.open() as rig:
        await later(10)
        recovered = await rig.engine.recover(Delays())
        assert (recovered.fills, recovered.adjusted) == (1, ())
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 3
        await rig.journal.durable()
    assert [each.fill.trade_id for each in await _of(lives, ExternalFill)] == ["x1"]


async def test_a_position_that_no_fill_explains_is_taken_over_when_it_is_stated_twice() -> None:
    lives = Lives()
    async with lives.open() as rig:
        await later(1)
    lives.queries.positions = {BTC: Decimal(7)}
    async with lives.open() as rig:
        await later(10)
        before = lives.queries.statements
        recovered = await rig.engine.recover(Delays())
        assert recovered.adjusted == ("hl.BTC: ours 0, venue's 7",)
        assert lives.queries.statements >= before + 2
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 7
        await rig.journal.durable()
    adopted = await _of(lives, StatementAdopted)
    assert adopted[-1].reason == "recovery: hl.BTC: ours 0, venue's 7"
    async with lives.open() as rig:
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 7


async def test_recovery_goes_on_asking_while_the_venue_does_not_answer() -> None:
    lives = Lives()
    async with lives.open() as rig:
        cloid = rig.submit()
        await later(1)
    lives.rests(rig, cloid)
    async with lives.open() as rig:
        lives.queries.failure = LinkError("down")
        began = rig.clock.monotonic_ns()
        async with _mended(lives, after_s=5):
            recovered = await rig.engine.recover(Delays())
        assert rig.clock.monotonic_ns() - began >= 5 * NS_PER_S
        assert (recovered.asked, recovered.unresolved) == (1, 0)


async def test_nonces_go_on_where_the_journal_ends() -> None:
    lives = Lives()
    async with lives.open() as rig:
        rig.submit()
        await later(1)
    lives.entry = ScriptedEntry(VirtualClock())
    async with lives.open() as rig:
        rig.submit()
        await later(1)
    nonces = [each.nonce for each in await _of(lives, Intent)]
    assert nonces == [1, 2]


async def test_a_cancel_and_a_modification_without_intents_never_left() -> None:
    lives = Lives()
    async with lives.open() as rig:
        cancelled, modified = rig.submit(), rig.submit()
        await later(1)
        rig.journal.write_order(_pending(rig, cancelled, Pending.CANCEL), closed=False)
        rig.journal.write_order(_pending(rig, modified, Pending.MODIFY), closed=False)
        await rig.journal.durable()  # the crash comes before the intents
    async with lives.open() as rig:
        assert [rig.now(each).pending for each in (cancelled, modified)] == [None, None]
        assert [rig.now(each).status for each in (cancelled, modified)] == [
            OrderStatus.ACCEPTED,
            OrderStatus.ACCEPTED,
        ]
    assert lives.sent("cancel") == lives.sent("modify") == []


async def test_a_modification_that_may_have_left_keeps_its_terms() -> None:
    lives = Lives()
    async with lives.open() as rig:
        cloid = rig.submit()
        await later(1)
        lives.entry.answers["modify"].append(never())
        rig.modify(cloid, price=Decimal(98))
        await later(1)
    moved = rig.report_of(cloid, OrderStatus.ACCEPTED, venue_order_id="v2", price=Decimal(98))
    lives.queries.orders[cloid] = moved
    lives.queries.open_orders = (moved,)
    async with lives.open() as rig:
        assert rig.now(cloid).pending is Pending.MODIFY
        await rig.engine.recover(Delays())
        order = rig.now(cloid)
        assert (order.price, order.pending, order.venue_order_id) == (Decimal(98), None, "v2")


async def test_the_second_life_has_the_state_of_the_first() -> None:
    lives = Lives()
    async with lives.open() as rig:
        cloids = [rig.submit(quantity="2") for _ in range(5)]
        await later(1)
        rig.fill(cloids[0], "t1", "1")
        rig.fill(cloids[1], "t2", "2")
        rig.fill(None, "x1", "1", ts_event_ns=rig.clock.now_ns() + NS_PER_S)
        rig.cancel(cloids[2])
        lives.entry.answers["modify"].append([Ambiguous(detail="lost")])
        rig.modify(cloids[3], price=Decimal(98))
        rig.state(BTC="4")
        await later(1)
        await rig.journal.durable()
        replayed = await load_state(lives.disk, closed_orders=10_000)
        assert differences(rig.journal.state, replayed) == []


@pytest.mark.parametrize("policy", ["adopt", "cancel", "report"])
async def test_orders_that_the_journal_does_not_know(policy: str) -> None:
    lives = Lives()
    lives.queries.open_orders = (_strange(),)
    settings = ExecutionSettings(external_orders=policy)  # type: ignore[arg-type]
    async with lives.open(settings=settings) as rig:
        await rig.engine.recover(Delays())
        await later(1)
        cloid = external_client_order_id(ACCOUNT, VenueOrderId("777"))
        order = rig.cache.order(cloid)
        assert rig.engine.stats()["external_orders"] == {policy: 1}
        if policy == "report":
            assert order is None
            assert lives.sent("cancel") == []
            return
        assert order is not None
        assert (order.strategy_id, order.quantity) == (EXTERNAL, Decimal(3))
        assert order.reduce_only
        assert lives.sent("cancel") == ([cloid] if policy == "cancel" else [])
        if policy == "adopt":
            await rig.journal.durable()
    if policy == "adopt":
        lives.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.ACCEPTED)
        async with lives.open(settings=settings) as rig:
            await rig.engine.recover(Delays())
            assert rig.engine.stats()["external_orders"] == {}  # it is known by its id
            rig.fill(None, "t9", "3", side=Side.SELL, venue_order_id="777")
            assert rig.now(cloid).status is OrderStatus.FILLED


async def test_stopping_says_what_the_venue_still_lists() -> None:
    lives = Lives()
    async with lives.open() as rig:
        gone, ghost = rig.submit(), rig.submit()
        await later(1)
        lives.rests(rig, ghost)  # the venue acknowledges both cancels, but lists one on
        result = await rig.engine.settle_all(cancel=True, timeout_s=10)
        assert (result.cancelled, result.left, result.unverified) == (1, 0, 1)
        assert rig.now(gone).status is OrderStatus.CANCELED


async def test_stopping_can_leave_orders_where_they_are() -> None:
    lives = Lives()
    async with lives.open() as rig:
        cloids = [rig.submit() for _ in range(3)]
        await later(1)
        for each in cloids:
            lives.rests(rig, each)
        lives.entry.answers["submit"].append(never())
        rig.submit()
        result = await rig.engine.settle_all(cancel=False, timeout_s=4)
        assert (result.cancelled, result.left, result.unverified) == (0, 3, 1)
        assert all(rig.now(each).status is OrderStatus.ACCEPTED for each in cloids)
    assert lives.sent("cancel") == []


async def test_what_is_late_but_known_in_the_end_counts_as_known() -> None:
    lives = Lives()
    async with lives.open() as rig:

        async def slowly(_: object) -> Sequence[Acknowledged]:
            await later(3)
            return [Acknowledged(venue_order_id=None)]

        cloid = rig.submit()
        await later(1)
        lives.entry.answers["cancel"].append(slowly)
        result = await rig.engine.settle_all(cancel=True, timeout_s=10)
        assert (result.cancelled, result.unverified) == (1, 0)
        assert rig.now(cloid).status is OrderStatus.CANCELED


async def test_a_halt_of_a_former_run_still_cancels_its_orders() -> None:
    lives = Lives()
    async with lives.open() as rig:
        cloid = rig.submit()
        await later(1)
    lives.rests(rig, cloid)
    async with lives.open() as rig:
        rig.risk.kill("operator, before the restart")
        await rig.engine.recover(Delays())
        await later(1)
        assert rig.now(cloid).status is OrderStatus.CANCELED
    assert lives.sent("cancel") == [cloid]


async def test_an_order_that_is_listed_after_its_end_is_open_again_and_cancelled() -> None:
    lives = Lives()
    async with lives.open() as rig:
        cloid = rig.submit(quantity="2")
        await later(1)
        rig.cancel(cloid)
        await later(1)
        assert rig.now(cloid).status is OrderStatus.CANCELED
        ghost = rig.report_of(cloid, OrderStatus.ACCEPTED, remaining=Decimal(2))
        lives.queries.open_orders = (ghost,)
        rig.state()  # one statement may be older than the cancel
        assert rig.now(cloid).status is OrderStatus.CANCELED
        await later(5)  # the next one is asked for
        assert rig.names(cloid)[-3:] == ["reopened", "pending_cancel", "canceled"]
        lives.queries.open_orders = ()
        await later(60)
        assert rig.names(cloid).count("reopened") == 1
    assert lives.sent("cancel") == [cloid, cloid]


async def test_what_a_stop_could_not_verify_is_taken_up_by_the_next_start() -> None:
    lives = Lives()
    async with lives.open() as rig:
        cloid = rig.submit()
        await later(1)
        lives.rests(rig, cloid)  # the venue acknowledges the cancel, and lists the order on
        result = await rig.engine.settle_all(cancel=True, timeout_s=10)
        assert (result.cancelled, result.unverified) == (0, 1)
        await rig.journal.durable()
    async with lives.open() as rig:
        await rig.engine.recover(Delays())
        await later(5)
        assert "reopened" in rig.names(cloid)


async def test_without_a_statement_nothing_is_verified() -> None:
    lives = Lives()
    async with lives.open() as rig:
        rig.submit()
        await later(1)
        lives.queries.failure = LinkError("503")
        result = await rig.engine.settle_all(cancel=True, timeout_s=10)
        assert (result.cancelled, result.unverified) == (0, 1)


async def test_a_fill_heard_before_recovery_hides_no_older_one() -> None:
    lives = Lives()
    async with lives.open() as rig:
        first, second = rig.submit(), rig.submit()
        await later(1)
        await rig.journal.durable()
    old_ns = rig.clock.now_ns() + NS_PER_S
    missed = rig.fill_of(rig.now(first), "t1", "0.5", ts_event_ns=old_ns)
    heard = rig.fill_of(rig.now(second), "t2", "0.5", ts_event_ns=old_ns + 600 * NS_PER_S)
    lives.queries.fills = [missed, heard]
    lives.queries.positions = {BTC: Decimal(1)}
    lives.rests(rig, first, remaining=Decimal("0.5"))
    lives.rests(rig, second, remaining=Decimal("0.5"))
    async with lives.open() as rig:
        await later(700)
        rig.engine.on_report(heard)  # the private stream is faster than recovery
        recovered = await rig.engine.recover(Delays())
        assert (recovered.fills, recovered.adjusted) == (2, ())
        assert rig.now(first).filled_quantity == Decimal("0.5")
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 1


async def test_what_an_adopted_order_was_filled_before_is_history() -> None:
    lives = Lives()
    lives.queries.open_orders = (_strange(remaining="1.5"),)
    lives.queries.positions = {BTC: Decimal("-0.5")}
    settings = ExecutionSettings(external_orders="adopt")
    async with lives.open(settings=settings) as rig:
        rig.state(BTC="-0.5")
        cloid = external_client_order_id(ACCOUNT, VenueOrderId("777"))
        before_ns = rig.clock.now_ns() - NS_PER_S
        old = fill(
            "t1", "0.5", before_ns, client_order_id=None, side=Side.SELL, venue_order_id="777"
        )
        await later(1)
        rig.engine.on_report(old)
        assert rig.now(cloid).filled_quantity == 0
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 0  # of the first statement, which was flat


async def test_only_what_differs_is_taken_over_and_nothing_newer_is_overwritten() -> None:
    lives = Lives()
    async with lives.open() as rig:
        cloid = rig.submit()
        await later(1)
        rig.fill(cloid, "t1", "0.4")
        await rig.journal.durable()
    lives.rests(rig, cloid, remaining=Decimal("0.6"))
    lives.queries.positions = {BTC: Decimal("0.4"), ETH: Decimal(3)}
    async with lives.open() as rig:
        await later(10)
        recovered = await rig.engine.recover(Delays())
        assert recovered.adjusted == ("hl.ETH: ours 0, venue's 3",)
        await rig.journal.durable()
    (*_, adopted) = await _of(lives, StatementAdopted)
    assert [each.instrument_id for each in adopted.positions] == [ETH]
    async with lives.open() as rig:
        late = rig.fill_of(rig.now(cloid), "t2", "0.6", ts_event_ns=rig.clock.now_ns())
        rig.engine.on_report(late)  # BTC was not taken over: its fills go on counting
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 1


async def test_external_orders_to_be_cancelled_are_so_after_a_restart_too() -> None:
    lives = Lives()
    lives.queries.open_orders = (_strange(),)
    settings = ExecutionSettings(external_orders="cancel")
    cloid = external_client_order_id(ACCOUNT, VenueOrderId("777"))
    async with lives.open(settings=settings) as rig:
        rig.down.add(ACCOUNT)
        await later(1)
        assert rig.now(cloid).is_open
        await rig.journal.durable()
    async with lives.open(settings=settings) as rig:
        await rig.engine.recover(Delays())
        await later(1)
        assert rig.now(cloid).status is OrderStatus.CANCELED


@pytest.mark.parametrize(("complete", "is_closed"), [(True, False), (False, True)])
async def test_lost_fills_that_added_up_to_nothing_keep_no_order_alive(
    complete: bool, is_closed: bool
) -> None:
    lives = Lives()
    async with lives.open() as rig:
        cloid = rig.submit()
        await later(1)
        await rig.journal.durable()
    lives.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.FILLED, remaining=Decimal(0))
    lives.queries.complete = complete
    async with lives.open() as rig:
        await later(10)
        recovered = await rig.engine.recover(Delays())
        assert (recovered.adjusted, recovered.complete) == ((), complete)
        assert rig.now(cloid).is_closed is is_closed


async def test_fills_that_are_not_to_be_had_are_synthesised_before_anything_is_taken_over() -> None:
    lives = Lives()
    async with lives.open() as rig:
        cloid = rig.submit()
        await later(1)
        await rig.journal.durable()
    lives.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.FILLED, remaining=Decimal(0))
    lives.queries.positions = {BTC: Decimal(1), ETH: Decimal(2)}
    async with lives.open() as rig:
        recovered = await rig.engine.recover(Delays())
        # The order explains its own instrument; what is left is taken over as ever.
        assert recovered.adjusted == ("hl.ETH: ours 0, venue's 2",)
        assert rig.now(cloid).status is OrderStatus.FILLED
        assert rig.last(OrderFilled).fill.is_synthetic
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 1
        assert rig.portfolio.strategy_position(rig.now(cloid).strategy_id, BTC).quantity == 1


async def test_the_gate_is_asked_again_when_the_intent_is_durable() -> None:
    lives = Lives()
    async with lives.open() as rig:
        await rig.journal.durable()
        lives.disk.sync_s = 2
        cloid = rig.submit()
        await later(1)
        rig.engine.close_gate("test")
        await later(5)
        lives.disk.sync_s = 0.001
        assert rig.now(cloid).status is OrderStatus.DENIED
    assert lives.sent() == []


def _strange(*, remaining: str = "3") -> OrderReport:
    """An order that somebody placed by hand."""
    return OrderReport(
        account_id=ACCOUNT,
        instrument_id=BTC,
        client_order_id=None,
        venue_order_id=VenueOrderId("777"),
        side=Side.SELL,
        price=Decimal(105),
        quantity=Decimal(5),
        remaining=Decimal(remaining),
        status=OrderStatus.ACCEPTED,
        reason="open",
        ts_event_ns=1,
        ts_recv_ns=1,
        time_in_force=TimeInForce.GTC,
        post_only=False,
        reduce_only=True,
        is_trigger=False,
    )


def _initialized(rig: Rig, order: Order) -> OrderInitialized:
    return OrderInitialized(
        client_order_id=order.client_order_id,
        strategy_id=order.strategy_id,
        instrument_id=order.instrument_id,
        ts_event_ns=rig.clock.now_ns(),
        order=order,
    )


def _pending(rig: Rig, cloid: ClientOrderId, pending: Pending) -> OrderPending:
    order = rig.now(cloid)
    return OrderPending(
        client_order_id=cloid,
        strategy_id=order.strategy_id,
        instrument_id=order.instrument_id,
        ts_event_ns=rig.clock.now_ns(),
        pending=pending,
    )


@asynccontextmanager
async def _mended(lives: Lives, *, after_s: float) -> AsyncIterator[None]:
    """The venue answers again after *after_s*."""

    async def mend() -> None:
        await later(after_s)
        lives.queries.failure = None

    async with trio.open_nursery() as nursery:
        nursery.start_soon(mend)
        yield


async def _of(lives: Lives, kind: type[_T]) -> list[_T]:
    return [each for each in await records_of(lives.disk) if isinstance(each, kind)]
