"""Who asks first is never refused: the adapter against an exchange whose limits are in force."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from attrs import evolve

from tests.venue_spec.desk import Desk, open_desk
from tests.venue_spec.hyperliquid import HyperliquidUnderTest
from zq_daemon.model.ids import ClientOrderId
from zq_daemon.model.order import Order
from zq_daemon.venue.exchange.limits import Meter, RateLimits
from zq_daemon.venue.interface import Acknowledged, Refused

pytestmark = pytest.mark.virtual

NOBODY = ClientOrderId("0x" + "9" * 32)


@asynccontextmanager
async def limited(
    limits: RateLimits, **changes: Any
) -> AsyncIterator[tuple[HyperliquidUnderTest, Desk]]:
    """A desk at an exchange with *limits*; the adapter is told those of a machine."""
    venue = HyperliquidUnderTest("ws")
    venue.exchange.meter = Meter(limits)
    venue._config = evolve(
        venue._config,
        weight_per_minute=limits.weight_per_minute,
        messages_per_minute=limits.messages_per_minute,
        **changes,
    )
    venue.adapter = venue.restarted()
    async with venue.serving(), open_desk(venue) as desk:
        yield venue, desk


async def keep_alive(desk: Desk) -> None:
    while True:
        await trio.sleep(30)
        await desk.line.send(desk.line.session.ping())


@pytest.mark.parametrize("way", ["ws", "http"])
async def test_a_busy_trader_that_asks_first_is_never_refused(way: str) -> None:
    limits = RateLimits(weight_per_minute=400)
    async with limited(limits, order_entry=way) as (venue, desk), trio.open_nursery() as nursery:
        nursery.start_soon(keep_alive, desk)
        resting: list[Order] = []
        placed, denied, queries = 0, 0, 0
        for step in range(1_500):
            await trio.sleep(0.1)
            if desk.entry.why_not_now("submit") is None:
                order = desk.bid(3 + step % 6)
                await desk.rest(order)
                resting.append(order)
                placed += 1
            else:
                denied += 1
            if len(resting) >= 3:
                (outcome,) = await desk.cancel(resting.pop(0))
                assert isinstance(outcome, Acknowledged)
            if step % 25 == 0:
                assert await venue.adapter.query_order(NOBODY) is None
                queries += 1
        assert venue.adapter.budgets["refused"] == 0
        assert placed > 300
        assert denied > 100
        assert queries == 60
        nursery.cancel_scope.cancel()


async def test_an_account_that_runs_out_of_actions_stops_ordering_and_still_cancels() -> None:
    limits = RateLimits(requests=40, more_cancels=100, weight_per_minute=100_000)
    async with limited(limits) as (venue, desk):
        await venue.adapter.load_account()
        placed: list[Order] = []
        while desk.entry.why_not_now("submit") is None:
            placed.append(desk.bid(3 + len(placed) % 6))
            await desk.rest(placed[-1])
        assert len(placed) == 40
        assert venue.adapter.budgets["actions_used"] == 40
        assert isinstance((await desk.submit(desk.bid()))[0], Refused)
        outcomes = await desk.cancel(*placed[:30])
        assert [type(each) for each in outcomes] == [Acknowledged] * 30
        await trio.sleep(10.1)
        assert desk.entry.why_not_now("submit") is None
        await desk.rest(desk.bid())


async def test_trading_frees_actions_as_soon_as_the_venue_says_so() -> None:
    limits = RateLimits(requests=4, weight_per_minute=100_000)
    async with limited(limits) as (venue, desk), trio.open_nursery() as nursery:
        nursery.start_soon(keep_alive, desk)
        await venue.adapter.load_account()
        for _ in range(4):
            await desk.rest(desk.bid())
        assert desk.entry.why_not_now("submit") is not None
        side, price = desk.bid().side.opposite, desk.below_ask(5)
        venue.take(side, price, venue.quantity)
        await trio.sleep(0.1)
        assert desk.entry.why_not_now("submit") is not None
        await trio.sleep(61)
        await venue.adapter.load_account()
        assert venue.adapter.budgets["actions_limit"] == 4 + int(price * venue.quantity)
        await desk.rest(desk.bid())
        assert desk.entry.why_not_now("submit") is None
        nursery.cancel_scope.cancel()
