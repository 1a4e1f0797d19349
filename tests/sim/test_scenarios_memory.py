"""A day of trading and more, where daemons grew until they were killed."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from typing import Any
from unittest import mock

import trio
from attrs import evolve

from tests.harness.reachable import reachable
from tests.service.live_world import World
from tests.sim.scene import Scene, scenario
from zq_daemon.config.schema import DaemonConfig
from zq_daemon.model.ids import InstrumentId
from zq_daemon.model.market import Side
from zq_daemon.ports.clock import NS_PER_S
from zq_daemon.venue.exchange import publisher

BUY, SELL = Side.BUY, Side.SELL
D = Decimal
BTC = InstrumentId("hyperliquid.BTC")


def small(config: DaemonConfig) -> DaemonConfig:
    """Remembers little, so that all that is bounded is full after the first hours."""
    market, private = config.ws_endpoints
    return evolve(
        config,
        limits=evolve(config.limits, closed_orders=20, bad_messages=5),
        staleness=evolve(config.staleness, book_ms=0, mark_ms=0),
        ws_endpoints=(evolve(market, streams=("bbo:BTC", "trades:BTC")), private),
        heartbeat_interval_ms=50_000,
        tick_interval_ms=None,
        housekeeping_interval_ms=60_000,
        reconcile_interval_ms=600_000,
    )


@scenario
async def test_a_day_of_trading_leaves_no_more_in_memory_than_hours(scene: Scene) -> None:
    """Memory grew with every order and every message, and after some days nothing was left."""
    with _slow_clocks(scene):
        async with scene.life(small) as world:
            parts: Any = world.daemon.parts
            trades = parts.data._feed(BTC).trades
            trades._limit = 20
            await _trade(scene, world, hours=4)
            before = _held(scene)
            for _ in range(2):
                await _trade(scene, world, hours=11)
                after = _held(scene)
                assert {kind: more for kind, more in (after - before).items() if more > 40} == {}
            assert len(parts.cache.orders_closed()) == len(trades._order) == 20
            assert len(scene.placed) > 500
            scene.check()


@contextmanager
def _slow_clocks(scene: Scene) -> Iterator[None]:
    """What only makes days long happens more seldom."""
    with ExitStack() as stack:
        for owner, name, value in (
            (scene.venue.exchange.publisher, "_book_interval_ns", 60 * NS_PER_S),
            (publisher, "CONTEXT_INTERVAL_NS", 60 * NS_PER_S),
        ):
            stack.enter_context(mock.patch.object(owner, name, value))
        yield


def _held(scene: Scene) -> Counter[str]:
    """All of the daemon's, but for which fills it has seen: those are 65,536 before they stop."""
    gc.collect()
    venue: Any = scene.venue
    daemon = scene.world.daemon
    seen = daemon.parts.journal.state.seen
    outside = (
        seen,
        scene,
        scene.watch,
        venue,
        venue.exchange,
        venue.network,
        scene.disk,
        scene.fills,
    )
    return reachable(daemon, *outside)


async def _trade(scene: Scene, world: World, *, hours: int) -> None:
    """Every ten minutes: one order is filled, one cancelled, one modified, one refused; an hour's
    end also loses the link and hears something that it does not understand."""
    for step in range(hours * 6):
        price = D(49_991) + step % 5
        filled, canceled = scene.submit(BUY, price, "0.001"), scene.submit(BUY, 49_000)
        scene.submit(BUY, 50_020, post_only=True)
        await trio.sleep(1)
        scene.modify(canceled, 49_001)
        scene.venue.take(SELL, price, D("0.001"))
        await trio.sleep(1)
        scene.cancel(canceled)
        scene.submit(SELL, 49_990, "0.001")
        await trio.sleep(598)
        assert (scene.status(filled), scene.status(canceled)) == ("filled", "canceled")
        if step % 6 == 5:
            scene.misbehave(strange_status_count=1)
            await world.venue.cut()
            world.venue.heal()
            await trio.sleep(10)
            scene.misbehave()
