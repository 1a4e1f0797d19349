"""The stage of the scenarios: a whole daemon on a Hyperliquid in memory, and what may not happen.

One exchange and one disk, over any number of lives. All that the daemon asks for is noted as it
arrives. `Scene.check` is what matters to who owns the account: both sides have the same orders,
fills and positions, nothing was sent twice, nothing is in doubt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import trio
from attrs import evolve

from tests.harness.determinism import run_virtual
from tests.harness.order_watch import OrderWatch
from tests.service.live_world import World, open_life
from tests.venue_spec.hyperliquid import UNIVERSE, HyperliquidUnderTest, open_hyperliquid
from zq_daemon.config.schema import DaemonConfig, StrategyConfig
from zq_daemon.model.command import CancelOrder, ModifyOrder
from zq_daemon.model.event import OrderFilled
from zq_daemon.model.ids import ClientOrderId
from zq_daemon.ports.clock import NS_PER_MS
from zq_daemon.ports.disk import MemoryDisk
from zq_daemon.runtime.containment import leaves
from zq_daemon.strategy.base import Strategy
from zq_daemon.venue.exchange.faults import Faults
from zq_daemon.venue.exchange.listing import Perp

MASTER = "0x" + "a1" * 20
Revise = Callable[[DaemonConfig], DaemonConfig]


class Passive(Strategy):
    """Does nothing by itself: the scenario asks for the orders, in its name."""


_OWNER = StrategyConfig(
    name="test", use="tests.sim.scene:Passive", instruments=("hyperliquid.BTC",)
)


class Scene:
    """What outlives every daemon; *world* is the life of now, or the last one."""

    def __init__(self, venue: HyperliquidUnderTest, folder: Path) -> None:
        self.venue = venue
        self.disk = MemoryDisk(sync_s=0.0002)
        self.world: World
        self.watch: OrderWatch
        self.fills: list[OrderFilled] = []
        self.events: Counter[str] = Counter()
        self.placed: Counter[str] = Counter()
        self.nonces: list[int] = []
        self.arrived_ms: list[int] = []
        self.asked_about: Counter[tuple[str, str]] = Counter()
        self.wrong: list[str] = []
        self._folder = folder
        self._number = 0
        self._read_along()

    @asynccontextmanager
    async def life(
        self,
        revise: Revise = lambda config: config,
        streams: Sequence[str] = ("orderUpdates", "userFills"),
        **ports: Any,
    ) -> AsyncIterator[World]:
        """A daemon of this configuration, as long as the body runs."""

        def seldom(config: DaemonConfig) -> DaemonConfig:
            log = evolve(config.log, summary_interval_ms=0)
            return revise(evolve(config, tick_interval_ms=1_000, log=log, strategies=(_OWNER,)))

        lived = open_life(
            self.venue, self.disk, self._folder, streams=streams, revise=seldom, **ports
        )
        async with lived as world:
            self.world = world
            world.fills = self.fills
            world.daemon.parts.bus.subscribe("order.filled.*", self.fills.append)
            self.watch = OrderWatch(world.daemon.parts.cache, world.daemon.parts.portfolio)
            self.watch.wrong = self.wrong
            world.daemon.parts.bus.subscribe("*", self.watch)
            world.daemon.parts.bus.subscribe("*", self._count)
            yield world

    def misbehave(self, **faults: Any) -> None:
        """The exchange does so from now on."""
        self.venue.exchange.faults = Faults(**faults)

    def submit(self, side: Any, price: Any, quantity: Any = "0.01", **terms: Any) -> ClientOrderId:
        """Ask the daemon for one more order; its id."""
        self._number += 1
        return self.world.submit(self._number, side, price, quantity, **terms)

    def cancel(self, client_order_id: ClientOrderId) -> None:
        """Ask the daemon to cancel it."""
        command = CancelOrder(client_order_id=client_order_id)
        self.world.daemon.parts.bus.send("order.cancel", command)

    def modify(self, client_order_id: ClientOrderId, price: int) -> None:
        """Ask the daemon for another price."""
        command = ModifyOrder(client_order_id=client_order_id, price=Decimal(price))
        self.world.daemon.parts.bus.send("order.modify", command)

    def status(self, client_order_id: ClientOrderId) -> str:
        """What the daemon says of it, in a word."""
        return self.world.now(client_order_id).status.value

    def position(self) -> Decimal:
        """What the daemon says it holds of the first instrument."""
        parts = self.world.daemon.parts
        return parts.portfolio.position(parts.accounts[0], self.venue.instrument_id).quantity

    def open_at_venue(self) -> list[Any]:
        """The account's orders that rest at the exchange."""
        found: list[Any] = self.venue.exchange.info({"type": "openOrders", "user": MASTER})
        return found

    def check(self) -> None:
        """Nothing lost, nothing doubled, nothing in doubt, and both sides have the same."""
        self.world.assert_agreement()
        self.check_rules()
        stats = self.world.daemon.parts.execution.stats()
        assert (stats["in_flight"], stats["in_doubt"]) == (0, 0)
        assert stats["position_differences"] == {}

    def check_rules(self) -> None:
        """What holds whatever the moment."""
        assert self.wrong == [], self.wrong[:3]
        assert max(self.placed.values(), default=0) <= 1
        assert len(set(self.nonces)) == len(self.nonces)

    def _count(self, event: object) -> None:
        self.events[type(event).__name__] += 1

    def _read_along(self) -> None:
        exchange: Any = self.venue.exchange
        take, answer = exchange.post_action, exchange.info

        def post_action(request: Any, *rest: Any) -> None:
            self.nonces.append(request["nonce"])
            self.arrived_ms.append(self.venue.clock.now_ns() // NS_PER_MS)
            for order in request["action"].get("orders", ()):
                self.placed[order["c"]] += 1
            take(request, *rest)

        def info(request: Any, *rest: Any) -> Any:
            if rest:  # from outside: tests ask without a place
                self.asked_about[request["type"], request.get("user", "")] += 1
            return answer(request, *rest)

        exchange.post_action, exchange.info = post_action, info


def scenario(
    program: Callable[[Scene], Awaitable[None]], universe: Sequence[Perp] = UNIVERSE
) -> Callable[[Path], None]:
    """A test of *program*, which replays exactly."""

    def test(tmp_path: Path) -> None:
        run_virtual(1, _play, tmp_path, program, universe)

    test.__name__ = test.__qualname__ = program.__name__  # type: ignore[attr-defined]
    test.__doc__, test.__module__ = program.__doc__, program.__module__
    return test


async def _play(
    folder: Path, program: Callable[[Scene], Awaitable[None]], universe: Sequence[Perp]
) -> None:
    async with open_hyperliquid(universe) as venue:
        failure = await _failure_of(program, Scene(venue, folder))
    if failure is not None:
        raise failure


async def _failure_of(
    program: Callable[[Scene], Awaitable[None]], scene: Scene
) -> BaseException | None:
    """What *program* failed with, out of the groups that the daemon's ladder makes of it."""
    try:
        with trio.fail_after(30 * 86_400):
            await program(scene)
    except (ExceptionGroup, AssertionError) as error:
        first, *others = leaves(error)
        return error if others else first
    return None
