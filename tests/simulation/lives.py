"""Puts daemons into a world, one after another, until one has settled everything and stopped.

Each is the whole ladder of `open_daemon`, with the simulation's ports. A life ends when its machine
is gone, when the daemon gives up (as without a venue at the start, or with a broken disk), by a
graceful stop, or at the end: then all is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio
import trio.testing
from attrs import evolve

from tests.harness.machine import LAST_WORDS, Machine
from tests.simulation.checkers import check_agreement, check_end, check_replay, tasks_living
from tests.simulation.faults import Misfortune
from tests.simulation.invariants import Invariants
from tests.simulation.plan import LEAST_ORDERS, QUIET_S, TROUBLE_S, Plan
from tests.simulation.world import ADDRESS, HOST, KEY, SimNotify, World, described
from zq_daemon.assembly import Ports
from zq_daemon.config.load import parse_document, structure_config
from zq_daemon.config.schema import DaemonConfig
from zq_daemon.control.verbs import handlers
from zq_daemon.daemon import Daemon, open_daemon
from zq_daemon.errors import LinkError, StoppedDuringStartError, ZqError
from zq_daemon.journal.digest import differences
from zq_daemon.journal.opening import load_state
from zq_daemon.ports.rng import seeded_rng
from zq_daemon.runtime.containment import leaves

_MOST_LIVES = 40
_END_S = 3 * TROUBLE_S
_LOOK_S = 5.0
_MORE_S = 400.0
"""So long it may trade on, healed, when there were not many orders before."""
_LAST_S = 10.0
"""So long after its last fill an order that was cut down is known to be over, and not before."""
_EXPECTED = (LinkError, StoppedDuringStartError)
_STRATEGIES = """
[[strategies]]
name = "events"
use = "tests.simulation.strategies:EventTrader"
instruments = ["hyperliquid.BTC"]
params = {{ seed = {seed}, quantity = "0.001", share = "0.6" }}

[[strategies]]
name = "clock"
use = "tests.simulation.strategies:ClockTrader"
instruments = ["hyperliquid.ETH"]
params = {{ seed = {seed}, quantity = "0.02", share = "0.26" }}

[[strategies]]
name = "maker"
use = "tests.simulation.strategies:WatchedMaker"
instruments = ["hyperliquid.BTC"]
params = {{ spread_bps = "3", quantity = "0.001", max_position = "0.01", requote_bps = "6" }}
"""
_CONFIG = """
state_dir = "{folder}"
tick_interval_ms = 1000
housekeeping_interval_ms = 1000
reconnect_base_ms = 500
reconnect_max_ms = 8000
heartbeat_interval_ms = 15000
heartbeat_timeout_ms = 5000
not_found_span_ms = 4000
start_timeout_ms = 30000
shutdown_grace_ms = 10000
reconcile_interval_ms = 20000
reconcile_fills_interval_ms = 75000
on_start = "{on_start}"

[log]
summary_interval_ms = 0

[venues.hyperliquid]
api_url = "http://{host}"
account = "{account}"
key_file = "{key_file}"
order_entry = "{order_entry}"

[risk]
max_daily_loss = "off"

[[ws_endpoints]]
name = "market"
url = "ws://{host}/ws"
streams = ["l2Book:BTC", "l2Book:ETH", "trades:BTC", "activeAssetCtx:BTC"]

[[ws_endpoints]]
name = "private"
url = "ws://{host}/ws"
streams = ["orderUpdates", "userFills", "userEvents"]
{strategies}
"""


async def simulate(
    plan: Plan, folder: Path, known: Callable[[World], None], *, digests: bool = False
) -> None:
    """Run *plan* in a world that is made *known* first; what was wrong is in its `wrong`."""
    async with trio.open_nursery() as floor:
        world = World(plan=plan, folder=folder, floor=floor, digests=digests)
        known(world)
        await floor.start(world.serve)
        floor.start_soon(Misfortune(world).run)
        floor.start_soon(_look_around, world)
        with trio.move_on_after(_END_S):
            while not world.settled and world.life < _MOST_LIVES:
                await _live(world)
                await trio.sleep(world.rng("pause", world.life).uniform(0.2, 2.5))
        world.hear_strategies()
        if not world.settled:
            world.complain(f"it never settled, in {world.life} lives")
        world.ended_s = world.now_s
        floor.cancel_scope.cancel()


async def _look_around(world: World) -> None:
    invariants = Invariants(world)
    while True:
        await trio.sleep(_LOOK_S)
        invariants.look()


async def _live(world: World) -> None:
    world.life += 1
    world.gate_is_closed = False
    machine = world.machine = Machine(world.network, world.disk, world.floor)
    tasks = tasks_living(world.floor)
    stopped = False
    with trio.CancelScope() as scope:
        machine.on_death(scope.cancel)
        if world.next_death_s is not None:
            world.floor.start_soon(_die_soon, machine, world.next_death_s)
            world.next_death_s = None
        try:
            await _run_daemon(world, machine)
            stopped = not world.body.cancelled_caught
        except* Exception as group:  # noqa: BLE001 whatever ends a daemon is judged
            _judge(world, machine, group)
    if machine.is_alive:
        check_end(world, machine, world.daemon, tasks, stopped=stopped)
    else:
        world.ends["machine gone"] += 1
    world.daemon = None
    machine.die(None)  # as a process that has ended leaves nothing open
    world.disk.fail(None)
    world.disk_failed = False
    await trio.testing.wait_all_tasks_blocked()


async def _die_soon(machine: Machine, after_s: float) -> None:
    await trio.sleep(after_s)
    machine.die(None)


async def _run_daemon(world: World, machine: Machine) -> None:
    config = make_config(world)
    ports = Ports(
        clock=world.clock,
        rng=seeded_rng(world.plan.seed * 1_000 + world.life),
        network=machine.network,
        disk=machine.disk,
        notify=SimNotify(world),
    )
    daemon = None
    with trio.CancelScope() as world.body:
        async with open_daemon(config, ports=ports) as daemon, trio.open_nursery() as nursery:
            machine.on_death(daemon.cutter.cut)
            world.attend(daemon, machine)
            nursery.start_soon(_operate, world, daemon)
            nursery.start_soon(_audit, world, daemon)
            nursery.start_soon(_settle, world, daemon)
            await daemon.wait_stop()
            nursery.cancel_scope.cancel()
    if daemon is None or not machine.is_alive:
        return
    _check_word(world, daemon)
    if world.settled:
        await _check_stopped(world, daemon)
    else:
        world.ends["cancelled" if world.body.cancelled_caught else "stopped"] += 1


async def _operate(world: World, daemon: Daemon) -> None:
    """Somebody who pauses trading, cancels everything, and asks questions."""
    verbs, rng = handlers(daemon), world.rng("operator", world.life)
    while not world.is_healed:
        await trio.sleep(rng.uniform(10, 60))
        match rng.randrange(4):
            case 0:
                verbs["halt"]({"reason": "simulation"})
                await trio.sleep(rng.uniform(0.5, 8))
                verbs["activate"]({"reason": "simulation"})
            case 1:
                await verbs["cancel-all"]({})
            case 2:
                await verbs["orders"]({})
            case _:
                verbs["status"]({})


async def _audit(world: World, daemon: Daemon) -> None:
    """Somebody who reads the journal of a daemon that goes on trading."""
    rng = world.rng("audit", world.life)
    while not world.is_healed:
        await trio.sleep(rng.uniform(30, 200))
        try:
            for problem in await check_replay(world, daemon):
                world.complain(problem)
        except ZqError:
            if not world.disk_failed:
                raise
            return


async def _settle(world: World, daemon: Daemon) -> None:
    """When the trouble is over: no new orders, time for what is under way, and all is compared."""
    await trio.sleep_until(world.began_s + TROUBLE_S + 0.5)
    daemon.parts.activate("simulation")
    with trio.move_on_after(_MORE_S):
        await trio.sleep(5)
        while len(world.placed) < LEAST_ORDERS:
            await trio.sleep(1)
    daemon.parts.execution.close_gate("all is to be quiet")
    world.gate_is_closed = True
    await trio.sleep(QUIET_S)
    with trio.move_on_after(_MORE_S):
        while world.now_s - world.filled_s < _LAST_S:
            await trio.sleep(1)
    await trio.testing.wait_all_tasks_blocked()
    world.settled = True
    for problem in await check_agreement(world, daemon):
        world.complain(problem)
    for problem in await check_replay(world, daemon):
        world.complain(problem)
    daemon.stop("SIGTERM")


def _check_word(world: World, daemon: Daemon) -> None:
    """A stop that says that it has left nothing unverified has left nothing."""
    if daemon.unverified or daemon.cutter.was_cut:
        return
    for row in world.info("openOrders"):
        world.complain(f"0 unverified, and order {row['cloid']} is open at the exchange")


async def _check_stopped(world: World, daemon: Daemon) -> None:
    """A graceful stop without trouble leaves nothing open, and knows it; all of it is written."""
    if daemon.unverified:
        world.complain(f"the last stop left {daemon.unverified} orders unverified")
    if left := world.info("openOrders"):
        world.complain(f"the last stop left orders at the exchange: {left}")
    state = await load_state(world.disk, closed_orders=daemon.config.limits.closed_orders)
    for difference in differences(daemon.parts.journal.state, state):
        world.complain(f"the journal says something else than the cache: {difference}")


def _judge(world: World, machine: Machine, group: BaseExceptionGroup[Any]) -> None:
    """A daemon has ended by itself: as it may without a venue at the start, or a disk."""
    for error in {str(each): each for each in leaves(group)}.values():
        if not machine.is_alive and isinstance(error, LAST_WORDS):
            continue
        started = world.daemon is not None
        expected = isinstance(error, _EXPECTED) and not started
        if expected or (world.disk_failed and isinstance(error, ZqError)):
            world.ends[type(error).__name__] += 1
            world.note(f"the daemon gave up: {error}")
        else:
            world.complain(f"the daemon ended by {described(error)}")


def make_config(world: World) -> DaemonConfig:
    """What every life of *world* is configured with."""
    key_file = world.folder / "agent.key"
    if not key_file.exists():
        key_file.touch(mode=0o600)
        key_file.write_text(KEY.hex())
    text = _CONFIG.format(
        folder=world.folder,
        host=HOST,
        account=ADDRESS,
        key_file=key_file,
        order_entry=world.plan.order_entry,
        on_start=world.plan.on_start,
        strategies=_STRATEGIES.format(seed=world.plan.seed),
    )
    config = structure_config(parse_document(text, "simulation"))
    return evolve(config, limits=evolve(config.limits, journal_segment_bytes=1 << 21))
