"""The exchange is lost and comes back, also as another one that knows nothing of us."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
import trio
from attrs import evolve, field, frozen

from tests.harness.determinism import run_virtual
from tests.harness.memory_network import MemoryNetwork
from tests.harness.process import demo_config
from zq_daemon.assembly import Ports
from zq_daemon.config.load import parse_document, structure_config
from zq_daemon.config.schema import DaemonConfig
from zq_daemon.core.reconcile import PositionDifference
from zq_daemon.daemon import Daemon, open_daemon
from zq_daemon.embedded import EmbeddedExchange
from zq_daemon.model.event import (
    HealthChanged,
    LinkState,
    OrderAccepted,
    OrderFilled,
)
from zq_daemon.model.ids import InstrumentId
from zq_daemon.model.order import OrderStatus
from zq_daemon.ports.clock import NS_PER_S, VirtualClock
from zq_daemon.ports.disk import MemoryDisk
from zq_daemon.ports.rng import seeded_rng
from zq_daemon.venue.hyperliquid.adapter import HyperliquidAdapter
from zq_daemon.venue.hyperliquid.sign import AgentKey

_PORT = 18_473
_KEY = bytes(range(1, 33))
_BTC = InstrumentId("hyperliquid.BTC")
_WEIGHTS = {
    "orderStatus": 2,
    "clearinghouseState": 2,
    "spotClearinghouseState": 2,
    "frontendOpenOrders": 20,
    "userRole": 60,
}
"""What the venue counts for a query of the type, of 1,200 a minute."""


@frozen(kw_only=True)
class World:
    """What a run stands on, and what it leaves behind for the checkers."""

    folder: Path
    network: MemoryNetwork = field(factory=MemoryNetwork)
    clock: VirtualClock = field(factory=VirtualClock)
    disk: MemoryDisk = field(factory=lambda: MemoryDisk(sync_s=0.0002))
    events: list[tuple[float, Any]] = field(factory=list)
    queries: list[tuple[float, str]] = field(factory=list)
    on_position_difference: Literal["halt", "report"] = "halt"

    def config(self) -> DaemonConfig:
        """The demo, at an exchange that is not part of the daemon."""
        key_file = self.folder / "agent.key"
        key_file.write_text(_KEY.hex())
        key_file.chmod(0o600)
        config = structure_config(parse_document(demo_config(_PORT), "simulation"))
        venue = evolve(
            config.venues.hyperliquid, account=AgentKey(_KEY).address, key_file=str(key_file)
        )
        return evolve(
            config,
            state_dir=str(self.folder),
            venues=evolve(config.venues, hyperliquid=venue),
            exchange=evolve(config.exchange, enabled=False),
            on_position_difference=self.on_position_difference,
        )

    def embedded(self, seed: int) -> EmbeddedExchange:
        config = structure_config(parse_document(demo_config(_PORT), "simulation"))
        return EmbeddedExchange(
            evolve(config.exchange, seed=seed),
            clock=self.clock,
            network=self.network,
            rng=seeded_rng(seed),
        )

    @asynccontextmanager
    async def daemon(self, seed: int) -> AsyncIterator[Daemon]:
        ports = Ports(clock=self.clock, rng=seeded_rng(seed), network=self.network, disk=self.disk)
        async with open_daemon(self.config(), ports=ports) as daemon:
            daemon.parts.bus.subscribe("*", self._watch)
            yield daemon

    def since(self, at: float, kind: type) -> list[Any]:
        return [event for when, event in self.events if when >= at and isinstance(event, kind)]

    def worst_minute(self) -> int:
        """The most weight that queries of the account cost within any minute."""
        return max(
            sum(_WEIGHTS.get(kind, 20) for at, kind in self.queries if start <= at < start + 60)
            for start, _ in self.queries
        )

    def _watch(self, event: object) -> None:
        self.events.append((trio.current_time(), event))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(folder=tmp_path)
    ask = HyperliquidAdapter._info

    async def noted(self: HyperliquidAdapter, query: dict[str, str], decoder: object) -> object:
        made.queries.append((trio.current_time(), query["type"]))
        return await ask(self, query, decoder)  # type: ignore[arg-type]

    monkeypatch.setattr(HyperliquidAdapter, "_info", noted)
    return made


async def _links_up(daemon: Daemon) -> None:
    with trio.fail_after(300):
        while not all(one.state is LinkState.UP for one in daemon.parts.links.endpoints):
            await trio.sleep(0.1)


async def _replace_exchange(world: World, seed: int) -> None:
    async with trio.open_nursery() as nursery:
        first = world.embedded(seed)
        await nursery.start(first.run)
        async with world.daemon(seed) as daemon:
            await trio.sleep(30)
            old = {each.client_order_id for each in daemon.parts.cache.orders_live()}
            assert old
            first.stop()
            await world.network.partition("127.0.0.1", _PORT)
            await trio.sleep(3)
            second = world.embedded(seed + 100)
            await nursery.start(second.run)
            world.network.heal("127.0.0.1", _PORT)
            await _links_up(daemon)
            back = trio.current_time()
            await trio.sleep(120)
            cache = daemon.parts.cache
            assert not old & {each.client_order_id for each in cache.orders_live()}
            now_ns = world.clock.now_ns()
            waiting = [now_ns - each.ts_last_ns for each in cache.orders_in_flight()]
            assert max(waiting, default=0) < 20 * NS_PER_S
            _check_trading(world, daemon, second, back)
        assert daemon.unverified == 0
        assert not daemon.parts.cache.orders_live()
        nursery.cancel_scope.cancel()


def _check_trading(world: World, daemon: Daemon, exchange: EmbeddedExchange, back: float) -> None:
    """The maker quotes, orders fill; and that the positions are gone is told, not hidden."""
    accepted = Counter(each.strategy_id for each in world.since(back, OrderAccepted))
    assert accepted["maker"] > 5
    assert world.since(back, OrderFilled)
    account = daemon.parts.accounts[0]
    ours = daemon.parts.portfolio.quantity(account, _BTC)
    differences = daemon.parts.execution.stats()["position_differences"]
    assert bool(differences) is (ours != _stated(exchange))


def _stated(embedded: EmbeddedExchange) -> Decimal:
    query = {"type": "clearinghouseState", "user": AgentKey(_KEY).address}
    held = embedded.exchange.info(query)["assetPositions"]
    return sum((Decimal(each["position"]["szi"]) for each in held), Decimal(0))


@pytest.mark.parametrize("seed", range(3))
def test_an_exchange_that_forgot_everything_leaves_nothing_stuck(world: World, seed: int) -> None:
    world = evolve(
        world, on_position_difference="report"
    )  # the second one knows no trade of the first
    run_virtual(seed, _replace_exchange, world, seed)
    assert world.worst_minute() < 720  # three fifths of what the venue takes


async def _kill_in_an_outage(world: World, seed: int, noticed: bool) -> None:
    async with trio.open_nursery() as nursery:
        exchange = world.embedded(seed)
        await nursery.start(exchange.run)
        async with world.daemon(seed) as daemon:
            await trio.sleep(20)
            assert daemon.parts.cache.open_count()
            await world.network.partition("127.0.0.1", _PORT)
            if noticed:
                await trio.sleep(2)
            daemon.parts.kill("operator")
            await trio.sleep(30)
            world.network.heal("127.0.0.1", _PORT)
            await _links_up(daemon)
            await trio.sleep(2)
            assert not daemon.parts.cache.orders_live()
            open_orders = {"type": "openOrders", "user": AgentKey(_KEY).address}
            assert exchange.exchange.info(open_orders) == []
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("noticed", [True, False])
def test_the_kill_switch_reaches_orders_through_an_outage(world: World, noticed: bool) -> None:
    run_virtual(5, _kill_in_an_outage, world, 5, noticed)


async def _fill_in_an_outage(world: World, seed: int) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(world.embedded(seed).run)
        async with world.daemon(seed) as daemon:
            await trio.sleep(30)
            await world.network.partition("127.0.0.1", _PORT)
            lost_ns = world.clock.now_ns()
            await trio.sleep(60)
            back_ns = world.clock.now_ns()
            world.network.heal("127.0.0.1", _PORT)
            await _links_up(daemon)
            await trio.sleep(20)
            missed = [
                daemon.parts.cache.order(event.client_order_id)
                for event in world.since(0, OrderFilled)
                if lost_ns < event.ts_event_ns < back_ns
            ]
            assert missed
            assert all(order and order.status is OrderStatus.FILLED for order in missed)
            told = {each.component for each in world.since(0, HealthChanged)}
            assert not any(component.startswith("positions:") for component in told)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(3))
def test_fills_of_an_outage_complete_their_orders_without_an_alarm(world: World, seed: int) -> None:
    run_virtual(seed, _fill_in_an_outage, world, seed)


async def _take_over(world: World, seed: int) -> None:
    async with trio.open_nursery() as nursery:
        first = world.embedded(seed)
        await nursery.start(first.run)
        async with world.daemon(seed) as daemon:
            account, execution = daemon.parts.accounts[0], daemon.parts.execution
            await trio.sleep(30)
            while not daemon.parts.portfolio.quantity(account, _BTC):
                await trio.sleep(0.1)
            first.stop()
            await world.network.partition("127.0.0.1", _PORT)
            await trio.sleep(3)
            second = world.embedded(seed + 100)
            await nursery.start(second.run)
            world.network.heal("127.0.0.1", _PORT)
            with trio.fail_after(600):
                while not execution.stats()["halted_accounts"]:
                    await trio.sleep(0.1)
            await trio.sleep(30)
            assert not daemon.parts.cache.orders_live()
            halted = trio.current_time()
            await trio.sleep(60)
            assert not world.since(halted, OrderAccepted)
            look = await execution.look()
            assert any(isinstance(each.difference, PositionDifference) for each in look.findings)
            done = await execution.reconcile()
            assert len(done.adjusted) == 1
            assert daemon.parts.portfolio.quantity(account, _BTC) == _stated(second)
            lifted = trio.current_time()
            await trio.sleep(60)
            assert execution.stats()["halted_accounts"] == []
            assert world.since(lifted, OrderAccepted)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(2))
def test_such_an_account_is_halted_until_its_positions_are_taken_over(
    world: World, seed: int
) -> None:
    run_virtual(seed, _take_over, world, seed)
