"""The daily loss of a whole daemon over restarts: it halts, and what was accepted stays so."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest
import trio
from attrs import evolve

from tests.service.test_daemon import _PORT as PORT
from tests.service.test_daemon import World
from tests.unit.test_portfolio import fill
from zq_daemon.config.schema import HyperliquidConfig, VenuesConfig
from zq_daemon.daemon import Daemon
from zq_daemon.embedded import EmbeddedExchange
from zq_daemon.journal.record import DayPnl
from zq_daemon.model.event import TradingState
from zq_daemon.model.ids import AccountId
from zq_daemon.runtime.containment import leaves
from zq_daemon.venue.hyperliquid.sign import AgentKey

pytestmark = pytest.mark.virtual
ADDRESS = "0x" + "ab" * 20
ACCOUNT = AccountId(f"hyperliquid.{ADDRESS}")
SECRET = "0x" + "11" * 32
LIMIT = "0.01"


class CrashError(Exception):
    """Ends a daemon without the last records of a graceful stop."""


def new_world(folder: Path) -> World:
    """A daemon that trades for the same account in each of its lives."""
    key = folder / "key"
    key.write_text(SECRET)
    key.chmod(0o600)
    world = World(folder)
    settings = HyperliquidConfig(
        api_url=f"http://127.0.0.1:{PORT}", account=ADDRESS, key_file=str(key)
    )
    world.config = evolve(world.config, venues=VenuesConfig(hyperliquid=settings))
    return world


def watching(world: World, limit: str) -> None:
    """The next life has a daily loss to mind, and nothing that trades."""
    risk = evolve(world.config.risk, max_daily_loss=Decimal(limit))
    world.config = evolve(world.config, risk=risk, strategies=())


@asynccontextmanager
async def outside_exchange(world: World) -> AsyncIterator[None]:
    """The exchange, which outlives the daemons."""
    outside = EmbeddedExchange(
        world.config.exchange, clock=world.ports.clock, network=world.network, rng=world.ports.rng
    )
    world.config = evolve(world.config, exchange=evolve(world.config.exchange, enabled=False))
    outside.exchange.approve_agent(AgentKey.from_text(SECRET).address, ADDRESS)
    async with trio.open_nursery() as nursery:
        await nursery.start(outside.run)
        yield
        outside.stop()


async def lose(world: World) -> DayPnl:
    """A life that has lost more than the limit, and holds a position; the day as it ended."""
    async with world.daemon() as daemon:
        portfolio, clock = daemon.parts.portfolio, world.ports.clock
        while portfolio.day_pnl(ACCOUNT, clock.now_ns()) > -5 * Decimal(LIMIT) or not any(
            each.quantity for each in portfolio.positions(ACCOUNT)
        ):
            await trio.sleep(1)
    return daemon.parts.journal.state.day_pnl[ACCOUNT]


def is_halted(daemon: Daemon) -> bool:
    risk = daemon.parts.risk
    return risk.state is TradingState.HALTED and "daily loss" in risk.state_reason


async def test_a_loss_of_the_day_halts_the_next_life_and_goes_on_while_down(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    async with outside_exchange(world):
        ended = await lose(world)
        (held,) = ended.measured.marks
        await trio.sleep(300)
        watching(world, LIMIT)
        async with world.daemon() as daemon:
            assert is_halted(daemon)
            await trio.sleep(5)
            portfolio = daemon.parts.portfolio
            position, mark = portfolio.position(ACCOUNT, held), daemon.parts.cache.mid_or_mark(held)
            assert mark is not None
            assert mark != ended.measured.marks[held]
            moved = position.quantity * (mark - ended.measured.marks[held])
            day_pnl = portfolio.day_pnl(ACCOUNT, world.ports.clock.now_ns())
            assert position.quantity
            assert day_pnl == ended.amount + moved


async def test_an_accepted_loss_is_accepted_in_the_next_life_too(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    ended = await lose(world)
    watching(world, LIMIT)
    with pytest.raises(ExceptionGroup) as caught:
        async with world.daemon() as daemon:
            assert is_halted(daemon)
            daemon.parts.activate("operator")
            await trio.sleep(1)
            assert daemon.parts.risk.state is TradingState.ACTIVE
            raise CrashError
    assert [type(error) for error in leaves(caught.value)] == [CrashError]
    async with world.daemon() as daemon:
        await trio.sleep(120)
        assert daemon.parts.risk.state is TradingState.ACTIVE
        # The exchange of the first life ended with it: its position made nothing since.
        now_ns = world.ports.clock.now_ns()
        assert daemon.parts.portfolio.day_pnl(ACCOUNT, now_ns) == ended.amount


async def test_what_is_accepted_is_the_loss_at_that_moment(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    watching(world, "40")
    async with world.daemon() as daemon:
        daemon.parts.kill("test")
        for quantity, price in (("1", "100"), ("-1", "50")):
            daemon.parts.portfolio.on_fill(fill(quantity, price, account=ACCOUNT), None)
        daemon.parts.activate("operator")
        assert daemon.parts.journal.state.day_pnl[ACCOUNT].accepted == -50
        await trio.sleep(1)
        assert daemon.parts.risk.state is TradingState.ACTIVE


async def test_only_accounts_that_are_traded_for_can_lose(tmp_path: Path) -> None:
    world, other = new_world(tmp_path), f"{9:064x}"
    key = tmp_path / "other"
    key.touch(mode=0o600)
    key.write_text(other)
    async with outside_exchange(world):
        await lose(world)
        watching(world, LIMIT)
        settings = evolve(
            world.config.venues.hyperliquid,
            account=AgentKey.from_text(other).address,
            key_file=str(key),
        )
        world.config = evolve(world.config, venues=VenuesConfig(hyperliquid=settings))
        async with world.daemon() as daemon:
            await trio.sleep(300)
            assert daemon.parts.risk.state is TradingState.ACTIVE
