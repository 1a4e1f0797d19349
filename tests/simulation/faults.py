"""Does to a world what its plan says: one task that waits for the next fault, one for each of them.

What ends a life is done to the machine, or asked of the daemon, that there is at that moment.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import trio

from tests.simulation.plan import TROUBLE_S, Fault
from tests.simulation.world import World
from zq_daemon.ports.clock import NS_PER_MS
from zq_daemon.venue.exchange.faults import Faults

_LATE_S = 5.0
"""After so long a life ends also if the moment that was waited for does not come."""
_OUTAGES = {"refuse": "connection refused", "dns": "no address for this name"}


class _Steps(trio.abc.Instrument):
    """Calls *count* between any two steps of any tasks, which is at any await."""

    def __init__(self, count: Callable[[], object]) -> None:
        self._count = count

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._count()


class Misfortune:
    """The faults of a plan."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._exchange: list[Fault] = []

    async def run(self) -> None:
        """Until the trouble is over; then everything is healed."""
        world = self._world
        for fault in world.plan.faults:
            await trio.sleep_until(world.began_s + fault.at_s)
            if not self._is_idle(fault):
                self._note(fault)
            world.floor.start_soon(self._happen, fault)
        await trio.sleep_until(world.began_s + TROUBLE_S)
        self._heal()

    def _is_idle(self, fault: Fault) -> bool:
        """Whether there is nothing that the fault could do anything to."""
        world = self._world
        match fault.kind:
            case "kill" | "power":
                return world.machine is None or not world.machine.is_alive
            case "stop" | "stop_cut" | "cancel":
                return world.daemon is None
            case "hand":
                return not world.info("openOrders")
            case _:
                return False

    def _note(self, fault: Fault) -> None:
        world = self._world
        kind = next(iter(fault.terms)) if fault.kind == "exchange" else fault.kind
        world.injected[kind] += 1
        for state in world.states():
            world.coverage[kind, state] += 1
        world.note(f"fault: {fault}")

    async def _happen(self, fault: Fault) -> None:
        world = self._world
        match fault.kind:
            case "exchange":
                await self._misbehave(fault)
            case "kill" | "power":
                await self._die(fault)
            case "cancel":
                world.body.cancel()
            case "stop" | "stop_cut":
                await self._stop(fault)
            case "hold":
                world.network.hold()
                await trio.sleep(fault.for_s)
                world.network.release()
            case "slow":
                world.network.latency_s = 0.4
                await trio.sleep(fault.for_s)
                world.network.latency_s = 0.0
            case "swizzle":
                await world.network.swizzle(world.rng(fault), fault.for_s)
            case "cut":
                await world.network.cut()
            case "cut one":
                await world.network.cut_one(world.rng(fault))
            case "refuse" | "dns":
                await self._outage(fault)
            case "slow disk":
                world.disk.sync_s = 0.8
                await trio.sleep(fault.for_s)
                world.disk.sync_s = world.plan.sync_s
            case "disk error":
                self._fail_disk()
            case "clock":
                world.clock.offset_ns = fault.terms["by_ms"] * NS_PER_MS
            case "hand":
                world.cancel_by_hand(fault.terms["cancels"], world.rng(fault))
            case _:
                raise AssertionError(f"no such fault: {fault}")

    async def _misbehave(self, fault: Fault) -> None:
        self._exchange.append(fault)
        self._tell_exchange()
        await trio.sleep(fault.for_s)
        self._exchange.remove(fault)
        self._tell_exchange()

    def _tell_exchange(self) -> None:
        terms: dict[str, Any] = {}
        for fault in self._exchange:
            terms |= fault.terms
        if terms.get("http_error") == HTTPStatus.TOO_MANY_REQUESTS:
            # It may be another fault's; but nothing is executed that is answered by a rate limit.
            terms.pop("http_error_executes", None)
        self._world.exchange.faults = Faults(**terms)

    async def _outage(self, fault: Fault) -> None:
        """As of a cable, or of a name server: what is open breaks, what is new is refused."""
        network = self._world.network
        network.refusal = _OUTAGES[fault.kind]
        await network.cut()
        await trio.sleep(fault.for_s)
        network.refusal = None

    def _fail_disk(self) -> None:
        """The next write fails, which the daemon must not survive."""
        world = self._world
        world.disk_failed = True
        world.disk.fail(OSError(errno.EIO, os.strerror(errno.EIO)))

    async def _stop(self, fault: Fault) -> None:
        world = self._world
        daemon, machine = world.daemon, world.machine
        if daemon is None or machine is None or not machine.is_alive:
            return
        world.next_death_s = fault.terms.get("again_s")
        daemon.stop("SIGTERM")
        world.gate_is_closed = True
        if fault.kind == "stop_cut":
            await trio.sleep(0.2)
            daemon.cut("SIGTERM again")

    async def _die(self, fault: Fault) -> None:
        world, machine = self._world, self._world.machine
        if machine is None:
            return
        world.next_death_s = fault.terms.get("again_s")
        left, moment = fault.terms["nth"], fault.terms["moment"]

        def die() -> None:
            if back_ms := fault.terms["back_ms"]:
                world.clock.offset_ns = -back_ms * NS_PER_MS
            machine.die(world.rng(fault) if fault.kind == "power" else None)

        def count() -> bool:
            nonlocal left
            left -= 1
            if left == 0:
                die()
            return left != 0 or moment == "unheard"

        counting = _Steps(count)
        if moment == "sync":
            world.disk.on_sync = lambda: count() and None
        elif moment == "step":
            trio.lowlevel.add_instrument(counting)
        elif moment != "time":
            world.on_request = count
        await trio.sleep(0 if moment == "time" else _LATE_S)
        world.disk.on_sync, world.on_request = lambda: None, lambda: True
        if moment == "step":
            trio.lowlevel.remove_instrument(counting)
        die()

    def _heal(self) -> None:
        world = self._world
        self._exchange.clear()
        world.exchange.faults = Faults()
        world.network.refusal, world.network.latency_s = None, 0.0
        world.network.release()
        world.disk.sync_s = world.plan.sync_s
        world.is_healed = True
        world.note("everything is healed")
