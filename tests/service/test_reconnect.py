"""A whole daemon whose connections break while its account goes on: afterwards it knows it all."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
import trio

from tests.service.live_world import open_world, outage
from zq_daemon.errors import CredentialError
from zq_daemon.model.market import Side
from zq_daemon.model.order import OrderStatus
from zq_daemon.runtime.containment import leaves
from zq_daemon.venue.exchange.faults import Faults

pytestmark = pytest.mark.virtual


async def test_what_happened_during_an_outage_is_known_after_it(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        venue = world.venue
        filled = world.submit(1, Side.BUY, 49_995, "0.01")
        part = world.submit(2, Side.SELL, 50_005, "0.02")
        canceled = world.submit(3, Side.BUY, 49_000, "0.01")
        rests = world.submit(4, Side.BUY, 48_000, "0.01")
        await trio.sleep(2)
        venue.exchange.faults = Faults(drop_replies=True, drop_private=True)
        accepted = world.submit(5, Side.BUY, 48_500, "0.01")
        await trio.sleep(0.5)
        async with outage(world):
            assert world.now(accepted).is_in_flight
            venue.behave()
            venue.take(Side.SELL, Decimal(49_995), Decimal("0.01"))
            venue.take(Side.BUY, Decimal(50_005), Decimal("0.005"))
            world.cancel_by_hand(canceled)
            external = venue.place_by_hand(Side.BUY, Decimal(47_000), Decimal("0.01"))
        statuses = [world.now(each).status for each in (filled, part, canceled, rests, accepted)]
        assert statuses == [
            OrderStatus.FILLED,
            OrderStatus.PARTIALLY_FILLED,
            OrderStatus.CANCELED,
            OrderStatus.ACCEPTED,
            OrderStatus.ACCEPTED,
        ]
        open_ids = {each.venue_order_id for each in world.daemon.parts.cache.orders_open()}
        assert external in open_ids
        world.assert_agreement()
        assert world.daemon.parts.execution.stats()["caught_up"] == 1


async def test_more_fills_than_a_snapshot_tells_are_all_fetched(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await trio.sleep(120)
        async with outage(world):
            # They add up to nothing: no position tells that they are missing.
            world.venue.trade_often(2_500)
        assert len(world.fills) == 2_500
        world.assert_agreement()


@pytest.mark.parametrize("breakage", ["forget_orders", "drop_answers"])
async def test_a_venue_that_answers_badly_at_first_is_asked_until_all_is_known(
    tmp_path: Path, breakage: str
) -> None:
    async with open_world(tmp_path) as world:
        venue = world.venue
        breaks: Callable[[], None] = getattr(venue, breakage)
        filled = world.submit(1, Side.BUY, 49_995, "0.01")
        await trio.sleep(2)
        async with outage(world):
            breaks()
            venue.take(Side.SELL, Decimal(49_995), Decimal("0.01"))
        venue.behave()
        await trio.sleep(60)
        assert world.now(filled).status is OrderStatus.FILLED
        world.assert_agreement()


async def test_a_key_the_venue_does_not_know_ends_the_start_with_what_to_change(
    tmp_path: Path,
) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with open_world(tmp_path, "07" * 32):
            raise AssertionError("it started")
    (error,) = leaves(caught.value)
    assert isinstance(error, CredentialError)
    assert f"is no agent of venues.hyperliquid.account 0x{'a1' * 20}" in str(error)


async def test_who_signs_is_in_the_status(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        found = world.daemon.status()["credentials"]
        assert (found["account"], found["relation"]) == ("0x" + "a1" * 20, "agent")
        assert found["problem"] == ""
