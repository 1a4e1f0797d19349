"""What the venue does by itself: liquidations, cancels nobody asked for, fundings."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve
from structlog.testing import capture_logs

from tests.service.execution_rig import ACCOUNT, BTC, Rig, fill, later, open_rig
from zq_daemon.model.event import AccountLiquidated, FundingPaid, OrderCanceled
from zq_daemon.model.ids import ClientOrderId, TradeId, VenueOrderId
from zq_daemon.model.order import OrderStatus
from zq_daemon.model.report import CancelReport

pytestmark = pytest.mark.virtual


def cancel_report(rig: Rig, cloid: ClientOrderId, **changes: Any) -> CancelReport:
    venue_order_id = rig.now(cloid).venue_order_id
    assert venue_order_id is not None
    told = CancelReport(
        account_id=ACCOUNT,
        instrument_id=BTC,
        venue_order_id=venue_order_id,
        reason="nonUserCancel",
        ts_recv_ns=rig.clock.now_ns(),
    )
    return evolve(told, **changes)


def funding(ts_event_ns: int) -> FundingPaid:
    return FundingPaid(
        account_id=ACCOUNT,
        instrument_id=BTC,
        amount=Decimal("-0.5"),
        rate=Decimal("0.0001"),
        ts_event_ns=ts_event_ns,
    )


def liquidation(rig: Rig) -> AccountLiquidated:
    return AccountLiquidated(
        account_id=ACCOUNT,
        detail="as told",
        notional=Decimal(1000),
        equity=None,
        ts_event_ns=rig.clock.now_ns(),
    )


async def test_a_cancel_of_the_venues_own_ends_the_order_once() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        told = cancel_report(rig, cloid)
        rig.engine.on_report(told)
        assert rig.now(cloid).status is OrderStatus.CANCELED
        assert rig.now(cloid).reason == "nonUserCancel"
        rig.engine.on_report(told)
        rig.report(cloid, OrderStatus.CANCELED)  # what its order update repeats
        assert rig.count(OrderCanceled) == 1
        reports = rig.engine.stats()["reports"]
        assert (reports["venue_cancels"], reports["repeated_cancels"]) == (1, 1)


async def test_a_cancel_after_a_part_was_filled_keeps_the_part() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        rig.engine.on_report(cancel_report(rig, cloid))
        rig.fill(cloid, "t1", "0.4")  # late
        order = rig.now(cloid)
        assert (order.status, order.filled_quantity) == (OrderStatus.CANCELED, Decimal("0.4"))


async def test_a_cancel_of_an_order_of_others_is_only_counted() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        rig.engine.on_report(cancel_report(rig, cloid, venue_order_id=VenueOrderId("404")))
        assert rig.now(cloid).status is OrderStatus.ACCEPTED


async def test_a_liquidation_is_published_logged_and_followed_by_a_statement() -> None:
    async with open_rig() as rig:
        heard: list[Any] = []
        rig.bus.subscribe("liquidation.*", heard.append)
        await later(1)
        asked = rig.queries.statements
        with capture_logs() as logs:
            event = liquidation(rig)
            rig.engine.on_report(event)
        assert heard == [event]
        (line,) = logs
        assert (line["log_level"], line["event"]) == ("error", "the account was liquidated")
        await later(5)
        assert rig.queries.statements > asked
        assert rig.engine.stats()["reports"]["liquidations"] == 1


async def test_a_forced_fill_is_told_as_a_liquidation_when_it_is_booked() -> None:
    async with open_rig() as rig:
        heard: list[AccountLiquidated] = []
        rig.bus.subscribe("liquidation.*", heard.append)
        await later(1)
        now_ns = rig.clock.now_ns()
        forced = fill("t1", "2", now_ns, client_order_id=None, is_liquidation=True)
        for _ in range(2):
            rig.engine.on_report(forced)
        rig.engine.on_report(evolve(forced, trade_id=TradeId("t0"), ts_event_ns=1))
        assert [each.notional for each in heard] == [forced.notional]
        assert rig.portfolio.quantity(ACCOUNT, BTC) == forced.signed_quantity


async def test_fundings_of_before_the_first_statement_are_history() -> None:
    async with open_rig(stated=False) as rig:
        await later(10)
        began_ns = rig.clock.now_ns()
        for seconds in (-5, 0, 5):
            rig.engine.on_report(funding(began_ns + seconds * 1_000_000_000))
        assert rig.count(FundingPaid) == 0  # nothing is known of the account yet
        rig.state()
        assert rig.count(FundingPaid) == 1
        assert rig.portfolio.position(ACCOUNT, BTC).funding == Decimal("-0.5")
        reports = rig.engine.stats()["reports"]
        assert (reports["held_fundings"], reports["historic_fundings"]) == (3, 2)
