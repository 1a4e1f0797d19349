"""Strategies that err in a whole daemon: they stop, the others trade on, the journal replays."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from attrs import evolve

from tests.harness.strategies.hostile import MISTAKES
from tests.service.test_daemon import World
from zq_daemon.config.schema import StrategyConfig
from zq_daemon.journal.opening import load_state
from zq_daemon.model.event import OrderAccepted
from zq_daemon.model.ids import StrategyId

pytestmark = pytest.mark.virtual
_HOSTILE = "tests.harness.strategies.hostile"
_ALL = (*MISTAKES, "float_modify")


def _joined_by(world: World, *strategies: StrategyConfig) -> None:
    world.config = evolve(world.config, strategies=(*strategies, *world.config.strategies))


def _hostile(name: str, kind: str, **params: str) -> StrategyConfig:
    return StrategyConfig(
        name=name, use=f"{_HOSTILE}:{kind}", instruments=("hyperliquid.BTC",), params=params
    )


async def test_mistakes_stop_their_strategies_and_nothing_else(tmp_path: Path) -> None:
    world = World(tmp_path)
    accepted: list[OrderAccepted] = []
    _joined_by(world, *(_hostile(each, "Hostile", mistake=each) for each in _ALL))
    risk = evolve(world.config.risk, max_orders_per_second=None)  # they all begin at once
    world.config = evolve(world.config, risk=risk)
    async with world.daemon() as daemon:
        daemon.parts.bus.subscribe("order.accepted.maker.*", accepted.append)
        with trio.fail_after(600):
            while {each["state"] for each in daemon.parts.strategies.status()[:-2]} != {"faulted"}:
                await trio.sleep(0.1)
        accepted.clear()
        await trio.sleep(60)
        *erring, trend, maker = daemon.parts.strategies.status()
        assert [one["state"] for one in (trend, maker)] == ["running", "running"]
        for one in erring:
            assert f"system.tick: StrategyError: strategy {one['name']}: " in one["reason"]
            assert one["faults"] == 1
            assert one["live_orders"] == 0
        assert len(accepted) > 5
    assert daemon.unverified == 0
    state = await load_state(world.disk, closed_orders=10_000)
    assert not state.cache.orders_live()
    for name in _ALL:
        (order,) = state.cache.orders_closed(strategy_id=StrategyId(name))
        assert order.venue_order_ids
    async with world.daemon() as again:
        assert again.state == "running"


async def test_a_disk_that_stalls_is_not_flooded_with_states(tmp_path: Path) -> None:
    world = World(tmp_path)
    limits = evolve(world.config.limits, journal_pending_bytes=300_000)
    world.config = evolve(world.config, limits=limits, strategies=())
    _joined_by(world, *(_hostile(f"hoarder {number}", "Hoarder") for number in range(3)))
    async with world.daemon() as daemon:
        await trio.sleep(2)
        world.disk.sync_s = 20
        await trio.sleep(60)
        assert daemon.log is not None
        assert daemon.log.stats().pending_bytes < 600_000
        world.disk.sync_s = 0.0002
        await trio.sleep(30)
        assert daemon.parts.strategies.write_saved()
        world.disk.sync_s = 3
        await trio.sleep(5)
        assert not daemon.parts.strategies.write_saved()
        hoarders = daemon.parts.strategies.strategies()
    state = await load_state(world.disk, closed_orders=100)
    for name, hoarder in hoarders.items():
        saved = hoarder.context.saved_state
        assert saved is not None
        assert state.saved[name].data == saved.data
        assert saved.data["number"] > 900
