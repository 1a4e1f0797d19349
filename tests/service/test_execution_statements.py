"""Statements of the account against what we know: ahead of us, behind us, of coins unknown."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.service.execution_rig import (
    ACCOUNT,
    BTC,
    ETH,
    Rig,
    fill,
    later,
    open_rig,
    seconds_ns,
    statement,
)
from zq_daemon.engine.execution import ExecutionSettings
from zq_daemon.errors import LinkError
from zq_daemon.model.event import FundingPaid, HealthChanged, OrderFilled
from zq_daemon.model.ids import InstrumentId, VenueOrderId
from zq_daemon.model.order import OrderStatus

pytestmark = pytest.mark.virtual


def states(rig: Rig, **positions: str) -> None:
    """Let the venue hold *positions*, and state it."""
    held = {InstrumentId(f"hl.{key}"): Decimal(value) for key, value in positions.items()}
    rig.queries.positions = held
    rig.engine.on_report(statement(rig.clock.now_ns(), held, rig.queries.open_orders))


async def test_a_statement_ahead_of_the_fills_is_no_difference() -> None:
    async with open_rig() as rig:
        await later(1)
        before = rig.clock.now_ns()
        await later(1)
        states(rig, BTC="3")
        await later(1)
        for trade in range(3):
            rig.engine.on_report(fill(f"t{trade}", "1", before))
        await later(60)
        assert rig.count(HealthChanged) == 0
        assert rig.queries.statements == 0  # the fills themselves have settled it


async def test_a_difference_that_a_newer_statement_does_not_repeat_is_none() -> None:
    async with open_rig() as rig:
        states(rig, BTC="3")
        rig.queries.positions = {}
        await later(60)
        assert rig.count(HealthChanged) == 0
        assert rig.queries.statements == 1


async def test_a_difference_is_withdrawn_by_the_fill_that_was_missing() -> None:
    async with open_rig() as rig:
        await later(1)
        before = rig.clock.now_ns()
        await later(1)
        states(rig, BTC="3", ETH="1")
        await later(4)
        assert "hl.BTC: ours 0, venue's 3; hl.ETH" in rig.last(HealthChanged).reason
        rig.engine.on_report(fill("t1", "3", before))
        assert rig.last(HealthChanged).reason == "hl.ETH: ours 0, venue's 1"
        rig.engine.on_report(fill("t2", "1", before, instrument_id=ETH))
        assert rig.last(HealthChanged).healthy
        assert rig.engine.stats()["position_differences"] == {}


async def test_the_fill_that_settles_a_difference_leaves_an_external_order_to_be_looked_at() -> (
    None
):
    async with open_rig(settings=ExecutionSettings(external_orders="adopt")) as rig:
        await later(1)
        before = rig.clock.now_ns()
        await later(1)
        told = rig.report_of(
            rig.order(),
            OrderStatus.ACCEPTED,
            client_order_id=None,
            venue_order_id=VenueOrderId("x1"),
        )
        rig.engine.on_report(told)
        states(rig, ETH="1")
        rig.engine.on_report(fill("t1", "1", before, instrument_id=ETH))
        await later(4)
        assert rig.queries.statements == 1


async def test_the_fill_that_settles_a_difference_leaves_late_fills_to_be_fetched() -> None:
    async with open_rig() as rig:
        cloid = rig.submit(quantity="3")
        await later(1)
        before = rig.clock.now_ns()
        await later(1)
        rig.queries.open_orders = (
            rig.report_of(cloid, OrderStatus.ACCEPTED, remaining=Decimal(1)),
        )
        states(rig, ETH="1")
        rig.engine.on_report(fill("t1", "1", before, instrument_id=ETH))
        await later(4)
        assert len(rig.queries.fills_since) == 1


async def test_a_fill_newer_than_the_statement_has_the_venue_asked_again() -> None:
    async with open_rig() as rig:
        states(rig, BTC="3")
        await later(60)
        statements = rig.queries.statements
        rig.engine.on_report(fill("t1", "3", rig.clock.now_ns()))
        assert not rig.last(HealthChanged).healthy  # it may hold 6 now
        await later(4)
        assert rig.queries.statements == statements + 1
        assert rig.last(HealthChanged).healthy


async def test_nothing_is_judged_while_the_link_is_down() -> None:
    async with open_rig() as rig:
        await later(1)
        before = rig.clock.now_ns()
        await later(1)
        rig.down.add(ACCOUNT)
        states(rig, BTC="3")
        await later(600)
        assert rig.count(HealthChanged) == 0
        rig.down.clear()
        rig.engine.on_link_up(ACCOUNT)
        await later(1)
        rig.engine.on_report(fill("t1", "3", before))
        await later(600)
        assert rig.count(HealthChanged) == 0


async def test_a_difference_that_lasts_when_the_link_is_back_is_told() -> None:
    async with open_rig() as rig:
        rig.down.add(ACCOUNT)
        states(rig, BTC="3")
        await later(600)
        rig.down.clear()
        rig.engine.on_link_up(ACCOUNT)
        await later(4)
        assert not rig.last(HealthChanged).healthy


async def test_a_difference_that_keeps_changing_is_told_in_the_end() -> None:
    async with open_rig() as rig:
        for held in range(1, 200):
            rig.queries.positions = {BTC: Decimal(held)}
            if held == 1:
                rig.state(BTC="1")
            await later(1)
        assert rig.count(HealthChanged) >= 1
        assert not rig.last(HealthChanged).healthy


async def test_a_venue_that_states_nothing_is_asked_again() -> None:
    async with open_rig() as rig:
        states(rig, BTC="3")
        rig.queries.failure = LinkError("down")
        await later(600)
        assert rig.count(HealthChanged) == 0
        assert 5 < rig.engine.stats()["failed_queries"] < 10
        rig.queries.failure = None
        await later(300)
        assert not rig.last(HealthChanged).healthy


async def test_a_missed_close_is_found_whatever_the_clocks_say() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(1)
        rig.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.CANCELED)
        behind = rig.clock.now_ns() - seconds_ns(3600)  # the venue's clock, or ours is ahead
        rig.engine.on_report(statement(behind, {}))
        await later(2)
        assert rig.now(cloid).status is OrderStatus.CANCELED


async def test_an_order_filled_in_an_outage_is_complete_when_the_snapshot_brings_its_fills() -> (
    None
):
    async with open_rig() as rig:
        cloid = rig.submit(quantity="2")
        await later(1)
        missed = [rig.fill_of(cloid, f"t{number}", "1") for number in range(2)]
        filled = rig.report_of(cloid, OrderStatus.FILLED, remaining=Decimal(0))
        rig.queries.orders[cloid] = filled
        await later(10)
        rig.engine.on_report(filled)
        assert not rig.now(cloid).is_closed
        await later(5)
        for each in (*missed, *missed):
            rig.engine.on_report(each)
        assert rig.now(cloid).status is OrderStatus.FILLED
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 2
        assert rig.count(OrderFilled) == 2
        asked = len(rig.queries.asked)
        await later(600)
        assert len(rig.queries.asked) == asked


def of_coin(number: int, rig: Rig, **changes: Any) -> Any:
    return fill(
        f"t{number}",
        "1",
        rig.clock.now_ns(),
        instrument_id=InstrumentId(f"hl.@{number}"),
        venue_order_id=VenueOrderId(f"x{number}"),
        **changes,
    )


@pytest.mark.parametrize("stated", [True, False])
async def test_a_flood_of_unknown_coins_costs_nothing(stated: bool) -> None:
    async with open_rig(stated=stated) as rig:
        await later(1)
        events = len(rig.events)
        with capture_logs() as logs:
            for number in range(70_000):
                rig.engine.on_report(of_coin(number, rig))
        assert len(rig.events) == events
        assert len(logs) == 32
        assert logs[0]["instrument"] == "hl.@0"
        stats = rig.engine.stats()
        assert stats["reports"]["unknown_instruments"] == 70_000
        assert len(stats["unknown_instruments"]) == 32
        assert rig.cache.positions() == rig.portfolio.positions() == ()
        rig.fill(None, "t1", "1")
        rig.state(BTC="1")
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 1


async def test_statements_and_fundings_of_unknown_coins_are_ignored() -> None:
    async with open_rig(stated=False) as rig:
        states(rig, PURR="5", BTC="1")
        states(rig, PURR="6", BTC="1")
        funding = FundingPaid(
            account_id=ACCOUNT,
            instrument_id=InstrumentId("hl.PURR"),
            amount=Decimal(1),
            rate=Decimal(0),
            ts_event_ns=rig.clock.now_ns(),
        )
        rig.engine.on_report(funding)
        await later(60)
        assert rig.count(HealthChanged) == 0
        assert rig.count(FundingPaid) == 0
        assert [each.instrument_id for each in rig.portfolio.positions()] == [BTC]
        assert rig.engine.stats()["unknown_instruments"] == {"hl.PURR": 2}


async def test_fills_are_asked_for_less_and_less_often_while_the_venue_gives_no_history() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(1)
        filled = rig.report_of(cloid, OrderStatus.FILLED, remaining=Decimal(0))
        rig.queries.orders[cloid] = filled
        rig.queries.history_failure = LinkError("503")
        rig.engine.on_report(filled)
        await later(600)
        assert 10 < len(rig.queries.asked) < 20
        assert not rig.now(cloid).is_closed
