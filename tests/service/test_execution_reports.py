"""What the venue reports: once, late, repeatedly, about others' orders, and statements."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.service.execution_rig import (
    ACCOUNT,
    BTC,
    ETH,
    fill,
    later,
    open_rig,
    seconds_ns,
)
from zq_daemon.core.seen import Seen
from zq_daemon.model.event import (
    AccountUpdated,
    FundingPaid,
    HealthChanged,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderRejected,
    PositionChanged,
)
from zq_daemon.model.ids import ClientOrderId, VenueOrderId
from zq_daemon.model.market import Side
from zq_daemon.model.order import OrderStatus
from zq_daemon.venue.interface import MISSING_ORDER, Refused

pytestmark = pytest.mark.virtual


async def test_a_fill_counts_once_however_often_it_comes() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        for _ in range(3):
            rig.fill(cloid, "t1", "0.4")
        assert rig.now(cloid).filled_quantity == Decimal("0.4")
        assert rig.portfolio.quantity(ACCOUNT, BTC) == Decimal("0.4")
        assert rig.count(OrderFilled) == 1
        assert rig.count(PositionChanged) == 1
        assert rig.engine.stats()["reports"]["repeated_fills"] == 2


async def test_everything_is_in_the_cache_before_it_is_published() -> None:
    async with open_rig() as rig:
        seen = []

        def look(event: OrderFilled) -> None:
            position = rig.cache.position(ACCOUNT, BTC)
            seen.append((rig.now(event.client_order_id).status, position and position.quantity))

        rig.bus.subscribe("order.filled.*", look)
        cloid = rig.submit()
        await later(0.1)
        rig.fill(cloid, "t1", "1")
        assert seen == [(OrderStatus.FILLED, Decimal(1))]
        kinds = [name for name, _ in rig.events][-2:]
        assert kinds == ["order.filled.maker.hl.BTC", "PositionChanged"]


async def test_a_fill_finds_its_order_by_the_venues_id() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        rig.fill(None, "t1", "1")
        assert rig.now(cloid).status is OrderStatus.FILLED


async def test_two_sides_of_one_trade_between_our_own_orders_both_count() -> None:
    async with open_rig() as rig:
        buy, sell = rig.submit(), rig.submit(side=Side.SELL)
        await later(0.1)
        rig.fill(buy, "t1", "1")
        rig.fill(sell, "t1", "1", venue_order_id=VenueOrderId("v2"))
        assert rig.now(buy).status is rig.now(sell).status is OrderStatus.FILLED
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 0


async def test_a_fill_before_the_acknowledgement_and_after_the_end() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.0005)  # in the journal, not sent yet
        rig.fill(cloid, "t1", "0.4")
        await later(1)
        assert rig.now(cloid).status is OrderStatus.PARTIALLY_FILLED
        rig.report(cloid, OrderStatus.CANCELED)
        assert rig.now(cloid).status is OrderStatus.CANCELED
        rig.fill(cloid, "t2", "0.1")
        assert rig.now(cloid).filled_quantity == Decimal("0.5")
        assert rig.portfolio.quantity(ACCOUNT, BTC) == Decimal("0.5")


async def test_fills_of_no_order_of_ours_change_the_position_only() -> None:
    async with open_rig() as rig:
        await later(1)
        rig.fill(None, "t1", "2")
        rig.fill(None, "t1", "2")
        event = rig.last(OrderFilled)
        assert (event.strategy_id, event.client_order_id) == ("external", "external")
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 2
        assert rig.engine.stats()["reports"]["external_fills"] == 1
        assert rig.cache.positions()[0].quantity == 2


async def test_fills_older_than_the_statement_are_in_its_positions() -> None:
    async with open_rig(stated=False) as rig:
        before = rig.clock.now_ns()
        old = fill("t1", "5", before, client_order_id=ClientOrderId("0xold"))
        new = fill("t2", "1", before + seconds_ns(2), client_order_id=ClientOrderId("0xold"))
        rig.engine.on_report(old)  # the stream's snapshot comes before the statement
        rig.engine.on_report(new)
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 0
        await later(1)
        rig.state(BTC="5")
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 6
        rig.engine.on_report(old)
        rig.engine.on_report(fill("t0", "3", before))
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 6
        reports = rig.engine.stats()["reports"]
        assert (reports["held_fills"], reports["historic_fills"]) == (2, 3)


async def test_the_first_statement_sets_positions_and_later_ones_are_compared() -> None:
    async with open_rig(stated=False) as rig:
        rig.state(BTC="2", ETH="-1")
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 2
        assert rig.cache.account(ACCOUNT) is not None
        assert rig.count(AccountUpdated) == 1
        await later(1)
        rig.state(BTC="2", ETH="-1")
        assert rig.count(HealthChanged) == 0
        await later(1)
        rig.queries.positions = {BTC: Decimal("2.5")}
        rig.state(BTC="2.5")
        assert rig.count(HealthChanged) == 0  # it may know fills that are on their way to us
        await later(4)
        unhealthy = rig.last(HealthChanged)
        assert not unhealthy.healthy
        assert "hl.BTC: ours 2, venue's 2.5" in unhealthy.reason
        assert "hl.ETH: ours -1, venue's 0" in unhealthy.reason
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 2  # told, never silently corrected
        await later(86_400)
        assert rig.count(HealthChanged) == 1
        assert rig.engine.stats()["position_differences"]
        assert 280 < rig.queries.statements < 300  # every five minutes, for as long as it lasts
        rig.queries.positions = {BTC: Decimal("2.0004"), ETH: Decimal(-1)}
        await later(301)
        assert rig.last(HealthChanged).healthy
        assert not rig.engine.stats()["position_differences"]
        statements = rig.queries.statements
        await later(86_400)
        assert rig.queries.statements == statements


async def test_a_statement_older_than_a_fill_is_not_compared() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        rig.fill(cloid, "t1", "1", ts_event_ns=rig.clock.now_ns() + seconds_ns(1))
        rig.state()
        assert rig.count(HealthChanged) == 0


async def test_an_order_missing_from_a_statement_is_asked_about() -> None:
    async with open_rig() as rig:
        gone, resting = rig.submit(), rig.submit(instrument_id=ETH)
        await later(1)
        rig.queries.orders[gone] = rig.report_of(gone, OrderStatus.CANCELED)
        rig.queries.open_orders = (rig.report_of(resting, OrderStatus.ACCEPTED),)
        rig.state()
        await later(2)
        assert rig.now(gone).status is OrderStatus.CANCELED
        assert [cloid for _, cloid in rig.queries.asked] == [gone]


async def test_an_order_in_doubt_that_rests_is_left_alone_again() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(1)
        rig.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.ACCEPTED)
        rig.state()
        await later(600)
        assert len(rig.queries.asked) == 1
        assert rig.now(cloid).is_open


async def test_an_order_in_doubt_that_nobody_knows_has_left_the_book_in_the_end() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(1)
        rig.state()
        await later(8)
        assert rig.now(cloid).is_open
        await later(20)
        assert rig.now(cloid).status is OrderStatus.CANCELED
        assert "not at the venue: 5 times" in rig.last(OrderCanceled).reason
        assert len(rig.queries.asked) == rig.queries.statements == 5
        rig.fill(cloid, "t1", "1")
        assert rig.now(cloid).status is OrderStatus.FILLED


async def test_an_order_that_the_venue_disowns_has_left_the_book_sooner() -> None:
    async with open_rig() as rig:
        rig.entry.answers["cancel"].append([Refused(code=MISSING_ORDER, text="never placed")])
        cloid = rig.submit()
        await later(1)
        rig.cancel(cloid)
        await later(1)
        assert rig.now(cloid).is_open
        await later(4)
        assert rig.now(cloid).status is OrderStatus.CANCELED
        assert len(rig.queries.asked) == 3


async def test_a_disowned_order_that_is_found_again_is_left_alone() -> None:
    async with open_rig() as rig:
        rig.entry.answers["cancel"].append([Refused(code=MISSING_ORDER, text="never placed")])
        cloid = rig.submit()
        await later(1)
        rig.cancel(cloid)
        await later(1)
        rig.queries.open_orders = (rig.report_of(cloid, OrderStatus.ACCEPTED),)
        rig.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.ACCEPTED)
        await later(600)
        assert rig.now(cloid).is_open
        assert len(rig.queries.asked) == 2


@pytest.mark.parametrize("code", [MISSING_ORDER, "busy"])
async def test_an_order_that_open_orders_list_is_not_gone_whatever_its_status_says(
    code: str,
) -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(1)
        rig.queries.open_orders = (rig.report_of(cloid, OrderStatus.ACCEPTED),)
        rig.entry.answers["cancel"].append([Refused(code=code, text="no")])
        rig.cancel(cloid)
        await later(600)
        assert rig.now(cloid).is_open
        assert rig.queries.statements > 5


async def test_an_order_is_not_gone_while_fills_of_it_are_owed() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(1)
        rig.report(cloid, OrderStatus.FILLED, remaining=Decimal(0))
        await later(600)
        assert not rig.now(cloid).is_closed
        rig.fill(cloid, "t1", "1")
        assert rig.now(cloid).status is OrderStatus.FILLED


async def test_reports_of_others_orders_are_counted() -> None:
    async with open_rig() as rig:
        rig.report(rig.order(), OrderStatus.ACCEPTED)
        assert rig.engine.stats()["reports"] == {"external_orders": 1}


async def test_reports_repeat_without_events() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        for _ in range(3):
            rig.report(cloid, OrderStatus.ACCEPTED)
        assert rig.count(OrderAccepted) == 1
        for _ in range(3):
            rig.report(cloid, OrderStatus.EXPIRED)
        assert rig.now(cloid).status is OrderStatus.EXPIRED
        assert rig.names(cloid)[-2:] == ["accepted", "expired"]


async def test_a_rejection_by_the_stream() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.0005)
        rig.report(cloid, OrderStatus.REJECTED, reason="perpMarginRejected")
        assert rig.last(OrderRejected).reason == "perpMarginRejected"
        await later(1)
        assert rig.now(cloid).is_closed


async def test_a_status_that_means_nothing_here_is_counted() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        rig.report(cloid, OrderStatus.SUBMITTED)
        assert rig.engine.stats()["reports"]["meaningless_orders"] == 1
        assert rig.now(cloid).status is OrderStatus.ACCEPTED


async def test_a_report_for_another_account_is_not_believed() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        rig.report(cloid, OrderStatus.CANCELED, account_id="0xother")
        assert rig.now(cloid).is_open


async def test_funding_counts_once() -> None:
    async with open_rig() as rig:
        await later(1)
        funding = FundingPaid(
            account_id=ACCOUNT,
            instrument_id=BTC,
            amount=Decimal("-0.5"),
            rate=Decimal("0.0001"),
            ts_event_ns=rig.clock.now_ns(),
        )
        rig.engine.on_report(funding)
        rig.engine.on_report(funding)
        assert rig.portfolio.position(ACCOUNT, BTC).funding == Decimal("-0.5")
        assert rig.count(FundingPaid) == 1
        assert rig.count(PositionChanged) == 1
        assert rig.engine.stats()["reports"]["repeated_fundings"] == 1


async def test_the_memory_of_fills_is_bounded() -> None:
    async with open_rig(seen=Seen(2)) as rig:
        await later(1)
        for trade_id in ("t1", "t2", "t3", "t2", "t3"):
            rig.fill(None, trade_id, "1")
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 3
