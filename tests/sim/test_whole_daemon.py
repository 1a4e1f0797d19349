"""The whole daemon in one process on virtual time: real protocol code over streams in memory.

The embedded exchange, both strategies, journal, risk, order entry and private streams all run; only
the ports (clock, network, disk, randomness) are the simulation's. One seed replays exactly.
"""

import os
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
import trio
from attrs import evolve

from tests.harness.determinism import EventDigest, run_virtual
from tests.harness.memory_network import MemoryNetwork
from tests.harness.process import demo_config
from zq_daemon.assembly import Ports
from zq_daemon.config.load import parse_document, structure_config
from zq_daemon.config.schema import DaemonConfig
from zq_daemon.daemon import Daemon, open_daemon
from zq_daemon.model.event import OrderFilled
from zq_daemon.model.ids import InstrumentId
from zq_daemon.ports.clock import VirtualClock
from zq_daemon.ports.disk import MemoryDisk
from zq_daemon.ports.rng import seeded_rng

_PORT = 18_473
_BTC = InstrumentId("hyperliquid.BTC")
SEEDS = range(int(os.environ.get("ZQ_SIM_SEEDS", "3")))


class World:
    """What a simulated run leaves behind for the checkers."""

    def __init__(self) -> None:
        self.digest = EventDigest()
        self.events: Counter[str] = Counter()
        self.fills: list[OrderFilled] = []
        self.network = MemoryNetwork()
        self.strategies: set[str] = set()
        self.cancelled = self.unverified = 0

    def watch(self, event: object) -> None:
        self.digest.add(event)
        self.events[type(event).__name__] += 1
        if isinstance(event, OrderFilled):
            self.fills.append(event)
            self.strategies.add(event.strategy_id)


def _config(folder: Path) -> DaemonConfig:
    document = parse_document(demo_config(_PORT), "simulation")
    config = structure_config(document)
    return evolve(config, state_dir=str(folder))


async def _trade(folder: Path, seed: int, seconds: float, outage: bool) -> World:
    world = World()
    rng = seeded_rng(seed)
    disk = MemoryDisk(sync_s=0.0002)
    ports = Ports(clock=VirtualClock(), rng=rng, network=world.network, disk=disk)
    async with open_daemon(_config(folder), ports=ports) as daemon:
        daemon.parts.bus.subscribe("*", world.watch)
        await trio.sleep(seconds / 2)
        if outage:
            await world.network.partition("127.0.0.1", _PORT)
            await trio.sleep(10)
            world.network.heal("127.0.0.1", _PORT)
        await trio.sleep(seconds / 2)
        _check_agreement(daemon)
    world.cancelled, world.unverified = daemon.cancelled, daemon.unverified
    _check_after(daemon, world)
    return world


def _check_agreement(daemon: Daemon) -> None:
    """Positions are the sum of fills, for the account and for each strategy."""
    portfolio, account = daemon.parts.portfolio, daemon.parts.accounts[0]
    whole = portfolio.position(account, _BTC).quantity
    parts = sum(
        (portfolio.strategy_position(name, _BTC).quantity for name in ("trend", "maker")),
        Decimal(0),
    )
    assert whole == parts


def _check_after(daemon: Daemon, world: World) -> None:
    """The exchange and the daemon agree on what is open, filled and held."""
    assert daemon.exchange is not None
    account = daemon.parts.accounts[0]
    address = account.partition(".")[2]
    info = daemon.exchange.info
    assert info({"type": "openOrders", "user": address}) == []
    held = {
        one["position"]["coin"]: Decimal(one["position"]["szi"])
        for one in info({"type": "clearinghouseState", "user": address})["assetPositions"]
    }
    assert held.get("BTC", Decimal(0)) == daemon.parts.portfolio.position(account, _BTC).quantity
    theirs = Counter(str(fill["tid"]) for fill in info({"type": "userFills", "user": address}))
    ours = Counter(str(event.fill.trade_id) for event in world.fills)
    assert max(ours.values(), default=0) <= 1
    assert set(ours) <= set(theirs)
    assert not daemon.parts.cache.orders_live()


@pytest.mark.parametrize("seed", SEEDS)
def test_both_strategies_trade_and_all_is_accounted_for(tmp_path: Path, seed: int) -> None:
    world = run_virtual(seed, _trade, tmp_path, seed, 60, False)
    assert world.strategies == {"trend", "maker"}
    assert world.unverified == 0
    assert world.events["Tick"] >= 500
    assert world.events["OrderAccepted"] > 5


@pytest.mark.parametrize("seed", SEEDS)
def test_an_outage_loses_no_order(tmp_path: Path, seed: int) -> None:
    world = run_virtual(seed, _trade, tmp_path, seed, 60, True)
    assert world.unverified == 0
    assert world.events["LinkChanged"] > 4


def test_one_seed_gives_one_history(tmp_path: Path) -> None:
    runs = [run_virtual(11, _trade, tmp_path, 11, 30, True) for _ in range(2)]
    digests = {world.digest.hexdigest() for world in runs}
    assert len(digests) == 1
    assert runs[0].digest.count > 1_000


def test_another_seed_gives_another_history(tmp_path: Path) -> None:
    digests = {
        run_virtual(seed, _trade, tmp_path, seed, 10, False).digest.hexdigest() for seed in (1, 2)
    }
    assert len(digests) == 2


async def _stop_while_cut_off(folder: Path) -> Daemon:
    network = MemoryNetwork()
    ports = Ports(
        clock=VirtualClock(), rng=seeded_rng(5), network=network, disk=MemoryDisk(sync_s=0.0002)
    )
    async with open_daemon(_config(folder), ports=ports) as daemon:
        await trio.sleep(20)
        assert daemon.parts.cache.orders_open()
        await network.partition("127.0.0.1", _PORT)
    return daemon


def test_a_stop_without_the_venue_says_what_is_unverified(tmp_path: Path) -> None:
    daemon = run_virtual(5, _stop_while_cut_off, tmp_path)
    assert daemon.cancelled == 0
    assert daemon.unverified > 0
    assert daemon.stop_summary() == f"0 cancelled, {daemon.unverified} unverified"
