"""Brackets outlive the daemon: what became of entries and exits meanwhile is known afterwards."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
import trio

from tests.service.live_world import World, open_life
from tests.venue_spec.hyperliquid import open_hyperliquid
from zq_daemon.model.command import SubmitBracket
from zq_daemon.model.ids import ClientOrderId, StrategyId
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderStatus, OrderType
from zq_daemon.ports.disk import MemoryDisk

pytestmark = pytest.mark.virtual

D = Decimal
_HAND = 3
_FILLED, _CANCELED = OrderStatus.FILLED, OrderStatus.CANCELED


def bracket(world: World, number: int, price: int, quantity: str, stop: int) -> list[ClientOrderId]:
    """Buy at *price*, out at 50500 or, at a loss, at *stop*: the ids of the three."""
    parts = world.daemon.parts
    ids = [ClientOrderId(f"0x{7:016x}{number + each:016x}") for each in range(3)]

    def order(each: int, side: Side, order_type: OrderType, trigger: int | None) -> Order:
        return Order(
            client_order_id=ids[each],
            strategy_id=StrategyId("test"),
            account_id=parts.accounts[0],
            instrument_id=world.venue.instrument_id,
            side=side,
            order_type=order_type,
            quantity=D(quantity),
            price=D(price) if trigger is None else None,
            trigger_price=None if trigger is None else D(trigger),
            reduce_only=trigger is not None,
            parent_id=None if trigger is None else ids[0],
        )

    entry = order(0, Side.BUY, OrderType.LIMIT, None)
    profit = order(1, Side.SELL, OrderType.TAKE_PROFIT_MARKET, 50_500)
    loss = order(2, Side.SELL, OrderType.STOP_MARKET, stop)
    parts.bus.send("order.submit_bracket", SubmitBracket(entry=entry, exits=(profit, loss)))
    return ids


async def test_what_became_of_brackets_while_the_daemon_was_down_is_found(tmp_path: Path) -> None:
    disk = MemoryDisk(sync_s=0.0002)
    async with open_hyperliquid() as venue:
        async with open_life(venue, disk, tmp_path) as world:
            armed = bracket(world, 10, 49_900, "0.01", stop=49_000)
            fired = bracket(world, 20, 49_800, "0.02", stop=49_750)
            gone = bracket(world, 30, 49_000, "0.01", stop=48_000)
            await trio.sleep(2)
            assert all(world.now(each).is_held for each in (*armed[1:], *fired[1:], *gone[1:]))
            entry_of_gone = int(world.now(gone[0]).venue_order_id or 0)
        venue.rest(Side.BUY, D(49_400), D(1))
        venue.take(Side.SELL, D(49_800), D("1.03"))  # all that is bid above: both entries too
        cancel = {"type": "cancel", "cancels": [{"a": 0, "o": entry_of_gone}]}
        assert world.act(_HAND, cancel) == ["success"]
        await trio.sleep(2)
        async with open_life(venue, disk, tmp_path) as world:
            await trio.sleep(10)
            assert [world.now(each).status for each in fired] == [_FILLED, _CANCELED, _FILLED]
            assert [world.now(each).status for each in gone] == [_CANCELED] * 3
            assert world.now(armed[0]).status is _FILLED
            # They rested, until the daemon cancelled what no strategy looks after any more.
            assert all(world.now(each).venue_order_id for each in armed)
            assert [world.now(each).status for each in armed[1:]] == [_CANCELED] * 2
            held = world.daemon.parts.portfolio.quantity(
                world.daemon.parts.accounts[0], venue.instrument_id
            )
            assert held == D("0.01")
            assert not world.info("frontendOpenOrders")
            assert not world.daemon.parts.cache.orders_live()
