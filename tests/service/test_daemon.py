"""The ladder as a whole, on virtual time with streams in memory: what makes it stop, and how."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest
import trio
from attrs import evolve
from structlog.testing import capture_logs

from tests.harness.memory_network import MemoryNetwork
from tests.harness.process import demo_config
from zq_daemon.assembly import Ports
from zq_daemon.config.load import load_config, parse_document, structure_config
from zq_daemon.config.schema import DaemonConfig, HyperliquidConfig, VenuesConfig
from zq_daemon.control.summary import log_summary
from zq_daemon.daemon import Daemon, open_daemon
from zq_daemon.embedded import EmbeddedExchange
from zq_daemon.errors import (
    ConfigError,
    ControlError,
    CredentialError,
    InvariantError,
    JournalDamagedError,
    JournalError,
    LinkError,
    StoppedDuringStartError,
    StrategyError,
)
from zq_daemon.journal.files import FOLDER, KIND
from zq_daemon.log import LogSettings, open_log
from zq_daemon.model.event import LinkState, TradingState
from zq_daemon.model.ids import InstrumentId
from zq_daemon.ports.clock import VirtualClock
from zq_daemon.ports.disk import MemoryDisk
from zq_daemon.ports.rng import seeded_rng
from zq_daemon.runtime.containment import leaves
from zq_daemon.venue.hyperliquid.sign import AgentKey

pytestmark = pytest.mark.virtual
_PORT = 18_473


class World:
    """The outside of one daemon."""

    def __init__(self, folder: Path, text: str | None = None) -> None:
        self.network = MemoryNetwork()
        self.disk = MemoryDisk(sync_s=0.0002)
        document = parse_document(text or demo_config(_PORT), "test")
        self.config: DaemonConfig = evolve(structure_config(document), state_dir=str(folder))
        self.ports = Ports(
            clock=VirtualClock(), rng=seeded_rng(3), network=self.network, disk=self.disk
        )

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[Daemon]:
        async with open_daemon(self.config, ports=self.ports) as daemon:
            yield daemon


async def _trade_for_ever(world: World) -> None:
    async with world.daemon():
        await trio.sleep_forever()


async def test_a_fault_of_the_daemons_own_part_is_fatal(tmp_path: Path) -> None:
    def fail(event: object) -> None:
        raise ZeroDivisionError("broken invariant")

    world, held = World(tmp_path), []
    with pytest.raises(ExceptionGroup) as caught:
        async with world.daemon() as daemon:
            held.append(daemon)
            await trio.sleep(20)
            daemon.parts.bus.subscribe("system.tick", fail, owner="execution")
            await trio.sleep_forever()
    (error,) = leaves(caught.value)
    assert isinstance(error, InvariantError)
    assert "execution, handling system.tick: ZeroDivisionError('broken invariant')" in str(error)
    assert held[0].unverified == 0
    assert not held[0].parts.cache.orders_live()


async def test_a_fault_of_a_subscriber_of_ones_own_is_only_reported(tmp_path: Path) -> None:
    def fail(event: object) -> None:
        raise ZeroDivisionError

    async with World(tmp_path).daemon() as daemon:
        with capture_logs() as logged:
            daemon.parts.bus.subscribe("system.tick", fail)
            await trio.sleep(1)
        assert daemon.parts.bus.faults > 5
    assert {line["topic"] for line in logged if line["event"] == "handler raised"} == {
        "system.tick"
    }


async def test_a_journal_that_cannot_be_written_is_fatal(tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(ExceptionGroup) as caught:
        async with world.daemon():
            await trio.sleep(5)
            world.disk.fail(OSError(28, "No space left on device"))
            await trio.sleep_forever()
    errors = list(leaves(caught.value))  # the writer's, and that of who waited for it
    assert all(isinstance(error, JournalError) for error in errors)
    assert len({str(error) for error in errors}) == 1
    assert "No space left" in str(errors[0])


async def test_a_journal_whose_damage_was_accepted_starts_halted_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.daemon():
        await trio.sleep(20)
    segment = f"{FOLDER}/{1:020}.log"
    world.disk.damage(segment, 600, b"\xff\xff\xff\xff")
    with pytest.RaisesGroup(JournalDamagedError, flatten_subgroups=True, allow_unwrapped=True):
        async with world.daemon():
            raise AssertionError("nothing is traded on it")
    opening = open_log(world.disk, FOLDER, kind=KIND, settings=LogSettings(), rng=seeded_rng(1))
    async with opening as log:
        await log.accept_damage()
    async with world.daemon() as daemon:
        assert daemon.parts.risk.state is TradingState.HALTED
        assert "damage of the journal was accepted" in daemon.parts.risk.state_reason
        daemon.parts.activate("operator")
    async with world.daemon() as daemon:
        assert daemon.parts.risk.state is TradingState.ACTIVE


async def test_a_journal_of_another_venue_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.daemon():
        await trio.sleep(1)
    config = world.config
    exchange = EmbeddedExchange(
        config.exchange, clock=world.ports.clock, network=world.network, rng=seeded_rng(1)
    )
    key = b"\x11" * 32
    (tmp_path / "agent.key").write_text(key.hex())
    (tmp_path / "agent.key").chmod(0o600)
    venue = evolve(
        config.venues.hyperliquid,
        account=AgentKey(key).address,
        key_file=str(tmp_path / "agent.key"),
    )
    world.config = evolve(
        config,
        venues=evolve(config.venues, hyperliquid=venue),
        exchange=evolve(config.exchange, enabled=False),
    )
    refused = pytest.RaisesExc(ConfigError, match="give each a state_dir of its own")
    async with trio.open_nursery() as nursery:
        await nursery.start(exchange.run)
        with pytest.RaisesGroup(refused, flatten_subgroups=True, allow_unwrapped=True):
            async with world.daemon():
                raise AssertionError("the journal is of the embedded exchange")
        nursery.cancel_scope.cancel()


async def test_the_daily_loss_halts_and_cancels(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.config = evolve(
        world.config, risk=evolve(world.config.risk, max_daily_loss=Decimal("0.05"))
    )
    states = []
    async with world.daemon() as daemon:
        daemon.parts.bus.subscribe("system.trading_state", states.append)
        while not states:
            await trio.sleep(1)
        await trio.sleep(5)
        assert not daemon.parts.cache.orders_live()
        assert daemon.status()["daemon"]["trading_state"] == "halted"
    assert states[0].state is TradingState.HALTED
    assert "loss" in states[0].reason


async def test_a_link_lost_for_good_halts_those_who_need_it(tmp_path: Path) -> None:
    world = World(tmp_path, demo_config(_PORT, extra="auto_reconnect = false"))
    async with world.daemon() as daemon:
        await trio.sleep(5)
        market, private = daemon.parts.links.endpoints
        market.drop("a test")
        await trio.sleep(5)
        status = daemon.status()
        assert [one["state"] for one in status["strategies"]] == ["halted", "halted"]
        assert "link market is down: a test" in status["strategies"][0]["reason"]
        assert [link["state"] for link in status["links"]] == ["down", "up"]
        assert daemon.parts.data.is_stale(market.instruments[0])
        assert private.state is LinkState.UP
        assert not daemon.parts.cache.orders_live()


async def test_many_streams_have_several_connections(tmp_path: Path) -> None:
    world = World(tmp_path)
    market, private = world.config.ws_endpoints
    market = evolve(market, max_streams=3, stale_ms={"bbo:BTC": 60_000})
    world.config = evolve(world.config, ws_endpoints=(market, private))
    async with world.daemon() as daemon:
        await trio.sleep(5)
        links = daemon.status()["links"]
        assert [link["endpoint"] for link in links] == ["market", "market-2", "private"]
        spread = [stream for link in links[:2] for stream in link["streams"]]
        assert spread == list(market.streams)
        assert all(all(link["streams"].values()) for link in links)
        daemon.parts.links.endpoint("market").drop("a test")
        await trio.sleep(0.1)
        stale = daemon.parts.data.stats().stale
        assert "since the link was lost" in stale[InstrumentId("hyperliquid.BTC")]
        await trio.sleep(10)
        assert not daemon.parts.data.stats().stale


async def test_two_connections_of_one_name_are_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    market, private = world.config.ws_endpoints
    private = evolve(private, name="market-2")
    world.config = evolve(world.config, ws_endpoints=(evolve(market, max_streams=3), private))
    with pytest.raises((ConfigError, ExceptionGroup)) as caught:
        await _trade_for_ever(world)
    assert "two connections are called 'market-2'" in str(*leaves(caught.value))


async def test_a_venue_that_cannot_be_reached_at_start(tmp_path: Path) -> None:
    world = World(tmp_path, demo_config(_PORT).replace("enabled = true", "enabled = false"))
    world.config = evolve(world.config, ws_endpoints=world.config.ws_endpoints[:1], strategies=())
    began = trio.current_time()
    with pytest.raises(ExceptionGroup) as caught:
        await _trade_for_ever(world)
    (error,) = leaves(caught.value)
    assert isinstance(error, LinkError)
    assert "loading instruments of hyperliquid: cannot connect to 127.0.0.1" in str(error)
    assert trio.current_time() - began == pytest.approx(60, abs=0.1)


async def test_a_stop_during_start_up(tmp_path: Path) -> None:
    world = World(tmp_path, demo_config(_PORT).replace("enabled = true", "enabled = false"))
    world.config = evolve(world.config, ws_endpoints=world.config.ws_endpoints[:1], strategies=())

    made: list[Daemon] = []
    remember = Daemon.__init__

    def keep(self: Daemon, *arguments: object) -> None:
        remember(self, *arguments)  # type: ignore[arg-type]
        made.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Daemon, "__init__", keep)
        with pytest.raises(ExceptionGroup) as caught:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_stop_after, 3.0, made)
                await _trade_for_ever(world)
    (error,) = leaves(caught.value)
    assert isinstance(error, StoppedDuringStartError)
    assert str(error) == "operator"
    assert "next attempt in" in made[0].detail


async def _stop_after(seconds: float, made: list[Daemon]) -> None:
    await trio.sleep(seconds)
    made[0].stop("operator")


async def test_a_private_stream_without_credentials(tmp_path: Path) -> None:
    world = World(tmp_path, demo_config(_PORT).replace("enabled = true", "enabled = false"))
    with pytest.raises(ExceptionGroup) as caught:
        await _trade_for_ever(world)
    (error,) = leaves(caught.value)
    assert isinstance(error, CredentialError)
    assert "venues.hyperliquid.key_file" in str(error)


async def test_a_key_of_the_users_own_trades_for_the_configured_account(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("0x" + "11" * 32)
    key.chmod(0o600)
    account = "0x" + "ab" * 20
    world = World(tmp_path)
    settings = HyperliquidConfig(
        api_url=f"http://127.0.0.1:{_PORT}", account=account, key_file=str(key)
    )
    world.config = evolve(world.config, venues=VenuesConfig(hyperliquid=settings))
    async with world.daemon() as daemon:
        await trio.sleep(20)
        assert daemon.parts.accounts == (f"hyperliquid.{account}",)
        assert daemon.parts.cache.orders_open()


@pytest.mark.parametrize(
    ("old", "new", "kind", "message"),
    [
        ("l2Book:BTC", "l2Book:btc", ConfigError, "ws_endpoints[0].streams"),
        ('["hyperliquid.BTC"]', '["hyperliquid.NOPE"]', ConfigError, "hyperliquid.NOPE"),
        ("ma_cross:MovingAverageCross", "ma_cross:Nope", StrategyError, "no class 'Nope'"),
        ("fast = 2", "fast = 9", ConfigError, "params"),
    ],
)
async def test_what_only_the_start_can_find_out(
    tmp_path: Path, old: str, new: str, kind: type[Exception], message: str
) -> None:
    world = World(tmp_path, demo_config(_PORT).replace(old, new))
    with pytest.raises(ExceptionGroup) as caught:
        await _trade_for_ever(world)
    (error,) = leaves(caught.value)
    assert isinstance(error, kind)
    assert message in str(error)


async def test_a_second_signal_cuts_the_stop_short(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with trio.open_nursery() as nursery:
        async with world.daemon() as daemon:
            await trio.sleep(20)
            assert daemon.parts.cache.orders_open()
            await world.network.partition("127.0.0.1", _PORT)
            began = trio.current_time()
            nursery.start_soon(_cut_after, 2.0, daemon)
        assert trio.current_time() - began == pytest.approx(2, abs=0.1)
    assert daemon.unverified > 0


async def _cut_after(seconds: float, daemon: Daemon) -> None:
    await trio.sleep(seconds)
    daemon.cut("SIGTERM")


async def test_the_summary_shows_prices_and_strategies(tmp_path: Path) -> None:
    async with World(tmp_path).daemon() as daemon:
        await trio.sleep(30)
        with capture_logs() as logged:
            log_summary(daemon.parts)
    prices, *strategies = logged
    bid, ask = prices["BTC"].split("/")
    assert float(bid) < float(ask)
    assert [line["name"] for line in strategies] == ["trend", "maker"]
    assert all("net_pnl" in line for line in strategies)


async def test_a_faulted_strategys_parameters_are_not_told_as_applied(tmp_path: Path) -> None:
    def fail(event: object) -> None:
        raise SystemExit("out of my depth")

    path, text = tmp_path / "config.toml", demo_config(_PORT)
    path.write_text(text)
    world = World(tmp_path)
    config = evolve(load_config(path), state_dir=world.config.state_dir)
    async with open_daemon(config, config_path=path, ports=world.ports) as daemon:
        daemon.parts.bus.subscribe("system.tick", fail, owner="trend")
        await trio.sleep(20)
        path.write_text(
            text.replace("fast = 2", "fast = 3").replace("interval_ms = 100", "interval_ms = 200")
        )
        with capture_logs() as logged:
            daemon.reload()
    reloaded = logged[-1]
    assert reloaded["event"] == "configuration reloaded"
    assert "tick_interval_ms" in reloaded["applied"]
    assert "strategies[0].params.fast" not in reloaded["applied"]
    assert "strategies[0].params.fast" in reloaded["needs_restart"]


async def test_the_collector_is_as_it_was_when_the_daemon_has_ended(tmp_path: Path) -> None:
    before = gc.get_threshold()
    async with World(tmp_path).daemon():
        assert gc.get_threshold() != before
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


async def test_without_a_file_there_is_nothing_to_reload(tmp_path: Path) -> None:
    async with World(tmp_path).daemon() as daemon:
        with pytest.raises(ControlError, match="without a configuration file"):
            daemon.reload()
        with capture_logs() as logged:
            daemon.reload_on_signal()
    assert "nothing to reload" in logged[0]["event"]
