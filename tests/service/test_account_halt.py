"""Positions that differ from the venue's for good: the account is halted, and goes on again."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.service.execution_rig import ACCOUNT, BTC, later, open_rig
from zq_daemon.engine.execution import ExecutionSettings
from zq_daemon.errors import LinkError
from zq_daemon.model.event import HealthChanged, OrderDenied
from zq_daemon.model.ids import VenueOrderId
from zq_daemon.model.market import Side
from zq_daemon.model.order import OrderStatus
from zq_daemon.ports.disk import MemoryDisk

pytestmark = pytest.mark.virtual


async def test_a_lasting_difference_halts_the_account_and_agreement_lifts_it() -> None:
    async with open_rig() as rig:
        await later(1)
        rig.fill(None, "p1", "1")
        rig.queries.positions = {BTC: Decimal(1)}
        quote = rig.submit()
        exit_ = rig.submit(side=Side.SELL, quantity="1", reduce_only=True)
        await later(1)
        rig.queries.open_orders = tuple(
            rig.report_of(each, OrderStatus.ACCEPTED) for each in (quote, exit_)
        )
        rig.queries.positions = {BTC: Decimal(4)}
        rig.state(BTC="4")
        assert rig.engine.stats()["halted_accounts"] == []  # it may be on its way
        await later(4)
        assert rig.engine.stats()["halted_accounts"] == [ACCOUNT]
        assert not rig.last(HealthChanged).healthy
        # What could add to it goes, what reduces it stays.
        assert rig.now(quote).status is OrderStatus.CANCELED
        assert rig.now(exit_).status is OrderStatus.ACCEPTED
        for changes in ({}, {"side": Side.SELL}, {"side": Side.BUY, "reduce_only": True}):
            denied = rig.submit(**changes)
            assert rig.last(OrderDenied).client_order_id == denied
            assert rig.last(OrderDenied).code == "ACCOUNT_HALTED"
            assert "hl.BTC: ours 1, venue's 4" in rig.last(OrderDenied).reason
        rig.cancel(exit_)
        await later(1)
        assert rig.now(exit_).status is OrderStatus.CANCELED
        rig.queries.open_orders = ()
        rig.queries.positions = {BTC: Decimal(1)}
        await later(60)
        assert rig.last(HealthChanged).healthy
        assert rig.engine.stats()["halted_accounts"] == []
        allowed = rig.submit()
        await later(1)
        assert rig.now(allowed).status is OrderStatus.ACCEPTED


@pytest.mark.parametrize(("stated", "passes"), [("4", True), ("0", False), ("-2", False)])
async def test_what_reduces_the_position_that_the_venue_has_passes_a_halt(
    stated: str, *, passes: bool
) -> None:
    async with open_rig() as rig:
        await later(1)
        rig.fill(None, "p1", "1")
        await later(1)
        rig.queries.positions = {BTC: Decimal(stated)}
        rig.state(BTC=stated)
        await later(4)
        assert rig.engine.stats()["halted_accounts"] == [ACCOUNT]
        exit_ = rig.submit(side=Side.SELL, reduce_only=True)
        assert rig.now(exit_).is_closed is not passes
        if passes:
            await later(1)
            rig.modify(exit_, price=Decimal(102))
            await later(1)
            assert rig.entry.kinds() == ["submit", "modify"]
        else:
            assert rig.last(OrderDenied).code == "ACCOUNT_HALTED"


@pytest.mark.parametrize("reduces", [False, True])
async def test_what_waits_for_the_disk_as_its_account_is_halted_leaves_only_if_it_reduces(
    *, reduces: bool
) -> None:
    async with open_rig(disk=MemoryDisk(sync_s=0.8)) as rig:
        await later(5)
        rig.fill(None, "p1", "1")
        await later(5)
        rig.queries.positions = {BTC: Decimal(4)}
        rig.state(BTC="4")
        await later(2.6)
        cloid = rig.submit(side=Side.SELL, reduce_only=reduces)
        await later(0.3)
        assert rig.engine.stats()["halted_accounts"] == []
        await later(0.2)
        assert rig.engine.stats()["halted_accounts"] == [ACCOUNT]
        assert rig.entry.kinds() == []
        await later(10)
        if reduces:
            assert rig.entry.kinds() == ["submit"]
            return
        assert rig.entry.kinds() == []
        assert rig.last(OrderDenied).client_order_id == cloid
        assert rig.last(OrderDenied).code == "ACCOUNT_HALTED"
        assert rig.engine.stats()["owed_cancels"] == 0


async def test_a_difference_can_be_only_reported() -> None:
    settings = ExecutionSettings(on_position_difference="report")
    async with open_rig(settings=settings) as rig:
        quote = rig.submit()
        await later(1)
        rig.queries.open_orders = (rig.report_of(quote, OrderStatus.ACCEPTED),)
        rig.queries.positions = {BTC: Decimal(4)}
        rig.state(BTC="4")
        await later(10)
        assert not rig.last(HealthChanged).healthy
        assert rig.engine.stats()["halted_accounts"] == []
        assert rig.now(quote).status is OrderStatus.ACCEPTED
        rig.submit()
        assert rig.count(OrderDenied) == 0


@pytest.mark.parametrize(("stated", "halts"), [("0.002", False), ("0.003", True)])
async def test_what_is_tolerated_is_no_difference_and_no_agreement(
    stated: str, *, halts: bool
) -> None:
    """The step of the instrument is 0.001: two of them are tolerated."""
    settings = ExecutionSettings(position_tolerance=Decimal(2))
    async with open_rig(settings=settings) as rig:
        await later(1)
        agreed_ns = rig.journal.state.agreed_ns.get(ACCOUNT)
        rig.queries.positions = {BTC: Decimal(stated)}
        rig.state(BTC=stated)
        await later(10)
        assert rig.engine.stats()["halted_accounts"] == ([ACCOUNT] if halts else [])
        # What is tolerated is a fill that is missing all the same: it is asked for from before.
        assert rig.journal.state.agreed_ns.get(ACCOUNT) == agreed_ns


async def test_the_fills_that_explain_a_difference_are_fetched_before_it_is_told() -> None:
    async with open_rig() as rig:
        await later(1)
        cloid = rig.submit(quantity="3")
        await later(1)
        rig.queries.fills = [rig.fill_of(cloid, "t1", "3")]
        await later(1)
        rig.queries.positions = {BTC: Decimal(3)}
        rig.state(BTC="3")
        await later(10)
        assert rig.now(cloid).status is OrderStatus.FILLED
        assert rig.count(HealthChanged) == 0


async def test_before_recovery_is_over_a_difference_is_told_and_halts_nothing() -> None:
    async with open_rig(stated=False) as rig:
        rig.state()
        quote = rig.submit()
        await later(1)
        rig.queries.open_orders = (rig.report_of(quote, OrderStatus.ACCEPTED),)
        rig.queries.positions = {BTC: Decimal(4)}
        rig.state(BTC="4")
        await later(10)
        assert not rig.last(HealthChanged).healthy
        assert rig.now(quote).status is OrderStatus.ACCEPTED
        rig.engine.arm()
        await later(1)
        assert rig.now(quote).status is OrderStatus.CANCELED
        assert rig.engine.stats()["halted_accounts"] == [ACCOUNT]


async def test_less_of_an_order_rests_than_we_know_and_its_fills_are_fetched() -> None:
    """Another trade makes up for it, so that no position shows it."""
    async with open_rig() as rig:
        await later(1)
        cloid = rig.submit(quantity="3")
        await later(1)
        rig.queries.fills = [
            rig.fill_of(cloid, "t1", "1"),
            rig.fill_of(None, "t2", "1", side=Side.SELL, venue_order_id=VenueOrderId("x")),
        ]
        await later(1)
        rig.queries.open_orders = (
            rig.report_of(cloid, OrderStatus.ACCEPTED, remaining=Decimal(2)),
        )
        rig.state()
        await later(10)
        assert rig.now(cloid).filled_quantity == 1
        assert rig.now(cloid).status is OrderStatus.PARTIALLY_FILLED
        assert len(rig.queries.fills_since) == 1
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 0


async def test_fills_of_a_resting_order_are_asked_for_less_and_less_often() -> None:
    """The venue has filled more of it, gives no history, and the position was taken over since."""
    async with open_rig() as rig:
        await later(1)
        cloid = rig.submit(quantity="3")
        await later(1)
        rig.queries.history_failure = LinkError("503")
        rig.queries.open_orders = (
            rig.report_of(cloid, OrderStatus.ACCEPTED, remaining=Decimal(2)),
        )
        for _ in range(15):
            rig.state()  # the same again is no news
            await later(60)
        fetched = rig.queries.fills_since
        assert 10 <= len(fetched) <= 24  # catching up at intervals among them
        assert (rig.queries.statements, rig.queries.asked) == (0, [])
        # News: more is missing, which is asked for at once.
        rig.queries.open_orders = (
            rig.report_of(cloid, OrderStatus.ACCEPTED, remaining=Decimal(1)),
        )
        before = len(fetched)
        rig.queries.history_failure = None
        rig.queries.fills = [rig.fill_of(cloid, "t1", "2")]
        rig.state()
        await later(4)
        assert len(fetched) == before + 1
        assert rig.now(cloid).filled_quantity == 2
        await later(1200)
        assert len(fetched) <= before + 1 + 4  # those of catching up


async def test_a_difference_that_lasts_costs_a_history_a_minute_at_most() -> None:
    settings = ExecutionSettings(on_position_difference="report")
    async with open_rig(settings=settings) as rig:
        await later(1)
        held = Decimal(4)
        for number in range(100):
            held += 1
            rig.queries.positions = {BTC: held}
            rig.fill(None, f"t{number}", "1")
            await later(1)
            rig.state(BTC=str(held))
            await later(2)
        assert not rig.last(HealthChanged).healthy
        assert len(rig.queries.fills_since) <= 6
