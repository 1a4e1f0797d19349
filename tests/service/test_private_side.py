"""What the venue does to an account by itself, as a whole daemon on all private streams sees it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
import trio

from tests.service.live_world import MAKER, World, open_world
from zq_daemon.model.event import AccountLiquidated, FundingPaid
from zq_daemon.model.ids import InstrumentId
from zq_daemon.model.market import Side
from zq_daemon.model.order import OrderStatus

pytestmark = pytest.mark.virtual

STREAMS = ("orderUpdates", "userFills", "userEvents", "userFundings")
HYPE = InstrumentId("hyperliquid.@107")


def rest_spot(world: World, *, buys: bool, price: str, size: str) -> None:
    """Another participant rests an order on the pair of HYPE."""
    terms = {"limit": {"tif": "Gtc"}}
    order = {"a": 10_107, "b": buys, "p": price, "s": size, "r": False, "t": terms}
    action = {"type": "order", "orders": [order], "grouping": "na"}
    (status,) = world.act(MAKER, action)
    assert "resting" in status, status


async def test_funding_is_booked_once_though_two_streams_tell_it(tmp_path: Path) -> None:
    async with open_world(tmp_path, streams=STREAMS) as world:
        heard: list[FundingPaid] = []
        parts = world.daemon.parts
        parts.bus.subscribe("funding.*", heard.append)
        world.submit(1, Side.BUY, 50_010, "0.01")
        await trio.sleep(2_860)  # over the next full hour, and until the account is stated again
        paid = world.info("userFunding", startTime=0)
        assert len(heard) == len(paid) == 1
        assert sum(each.amount for each in heard) == sum(
            Decimal(each["delta"]["usdc"]) for each in paid
        )
        position = parts.portfolio.position(parts.accounts[0], world.venue.instrument_id)
        assert position.funding == sum(each.amount for each in heard) != 0
        counts = parts.execution.stats()["reports"]
        assert counts["repeated_fundings"] == 1
        world.assert_agreement()
        world.assert_same_money()


async def test_a_liquidation_is_an_alert_and_leaves_both_sides_in_agreement(
    tmp_path: Path,
) -> None:
    async with open_world(tmp_path, streams=STREAMS) as world:
        heard: list[AccountLiquidated] = []
        venue, parts = world.venue, world.daemon.parts
        parts.bus.subscribe("liquidation.*", heard.append)
        rests = world.submit(1, Side.BUY, 49_000, "0.1")
        venue.place_by_hand(Side.BUY, Decimal(49_995), Decimal(12))
        venue.take(Side.SELL, Decimal(49_995), Decimal(12))
        await trio.sleep(1)
        assert parts.portfolio.quantity(parts.accounts[0], venue.instrument_id) == 12
        venue.rest(Side.BUY, Decimal(30_000), Decimal(100))
        venue.take(Side.SELL, Decimal(49_990), Decimal(1))
        venue.take(Side.SELL, Decimal(30_000), Decimal("0.2"))
        await trio.sleep(120)
        assert heard
        assert world.now(rests).is_closed
        bad = world.daemon.status()["bad_messages"]
        assert bad["count"] == 0, bad
        assert parts.execution.stats()["reports"]["liquidations"] == len(heard)
        world.assert_agreement()
        world.assert_same_money()


async def test_what_is_bought_and_sold_on_a_spot_market_is_owned_in_both_books(
    tmp_path: Path,
) -> None:
    async with open_world(tmp_path, streams=STREAMS) as world:
        world.venue.exchange.account(world.maker_address()).credit("HYPE", Decimal(1_000))
        rest_spot(world, buys=False, price="25.5", size="10")
        rest_spot(world, buys=True, price="24.5", size="10")
        await trio.sleep(2)
        bought = world.submit(1, Side.BUY, 26, "4", HYPE)
        await trio.sleep(1)
        assert world.now(bought).status is OrderStatus.FILLED, world.now(bought).reason
        world.assert_agreement()
        sold = world.submit(2, Side.SELL, 24, "1.5", HYPE)
        rests = world.submit(3, Side.SELL, 26, "2", HYPE)
        await trio.sleep(70)
        assert world.now(sold).status is OrderStatus.FILLED
        assert world.now(rests).status is OrderStatus.ACCEPTED
        world.assert_agreement()
        world.assert_same_money()
        assert world.daemon.parts.execution.stats()["position_differences"] == {}
