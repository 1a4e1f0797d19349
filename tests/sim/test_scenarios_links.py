"""Links that lie, and what they hide, where daemons were bitten: one named test for each bite."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import trio
from attrs import evolve

from tests.service.live_world import World, outage
from tests.sim.scene import Scene, scenario
from zq_daemon.config.schema import DaemonConfig
from zq_daemon.errors import LinkError
from zq_daemon.model.event import LinkChanged, LinkState, OrderDenied
from zq_daemon.model.market import Side
from zq_daemon.ports.notify import MemoryNotify

BUY, SELL = Side.BUY, Side.SELL
D = Decimal


def patient(config: DaemonConfig) -> DaemonConfig:
    """Reconnects at most once a minute, as is usual."""
    return evolve(config, reconnect_max_ms=60_000)


def denials(world: World) -> list[str]:
    """The codes of orders that will not have been let out."""
    codes: list[str] = []

    def note(event: OrderDenied) -> None:
        codes.append(event.code)

    world.daemon.parts.bus.subscribe("order.denied.*", note)
    return codes


def changes(world: World) -> list[LinkState]:
    """What will have become of links."""
    states: list[LinkState] = []

    def note(event: LinkChanged) -> None:
        states.append(event.state)

    world.daemon.parts.bus.subscribe("system.link.*", note)
    return states


@scenario
async def test_names_that_do_not_resolve_lose_no_order(scene: Scene) -> None:
    """A DNS outage counted as "order lost": six live orders were dropped, a short was untracked."""
    network: Any = scene.venue.network
    connect = network.connect

    async def cannot_resolve(host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise LinkError(f"cannot connect to {host}:{port}: [Errno -3] Temporary failure")

    async with scene.life(patient) as world:
        cloids = [scene.submit(SELL, 50_005 + number) for number in range(6)]
        await trio.sleep(2)
        network.connect = cannot_resolve
        await world.venue.cut()
        world.venue.heal()
        denied = denials(world)
        for _ in range(6):
            await trio.sleep(100)
            scene.submit(BUY, 49_000)
            assert {scene.status(each) for each in cloids} == {"accepted"}
        scene.venue.take(BUY, D(50_005), D("0.01"))
        world.cancel_by_hand(cloids[1])
        await trio.sleep(60)
        network.connect = connect
        await trio.sleep(120)
        states = [scene.status(each) for each in cloids]
        assert states == ["filled", "canceled", *["accepted"] * 4]
        assert (scene.position(), denied) == (D("-0.01"), ["LINK_DOWN"] * 6)
        scene.check()


@scenario
async def test_updates_missed_while_reconnecting_are_caught_up(scene: Scene) -> None:
    """What happened between two connections was never told, and orders stayed open for ever."""
    async with scene.life() as world:
        filled, partly, canceled, kept = (
            scene.submit(side, price, size)
            for side, price, size in (
                (BUY, 49_997, "0.01"),
                (BUY, 49_995, "0.02"),
                (BUY, 49_000, "0.01"),
                (BUY, 48_000, "0.01"),
            )
        )
        await trio.sleep(2)
        async with outage(world):
            scene.venue.take(SELL, D(49_997), D("0.01"))
            scene.venue.take(SELL, D(49_995), D("0.005"))
            world.cancel_by_hand(canceled)
        states = [scene.status(each) for each in (filled, partly, canceled, kept)]
        assert states == ["filled", "partially_filled", "canceled", "accepted"]
        assert (scene.position(), len(scene.fills)) == (D("0.015"), 2)
        async with outage(world):
            scene.venue.trade_often(2_010)  # more than a subscription tells; it adds up to nothing
        assert (scene.position(), len(scene.fills)) == (D("0.015"), 2_012)
        scene.check()


@scenario
async def test_a_socket_that_is_open_and_silent_for_hours_is_given_up(scene: Scene) -> None:
    """The socket stayed open and said nothing, and nobody noticed for hours."""
    async with scene.life(patient) as world:
        resting = scene.submit(BUY, 49_995)
        await trio.sleep(2)
        denied, states = denials(world), changes(world)
        scene.misbehave(mute=True)
        await trio.sleep(60)
        assert LinkState.BACKOFF in states
        scene.submit(BUY, 49_000)
        scene.venue.take(SELL, D(49_995), D("0.01"))
        await trio.sleep(1_200)
        assert denied in (["LINK_DOWN"], ["STALE_MARKET_DATA"])
        scene.misbehave()
        await trio.sleep(180)
        assert (scene.status(resting), scene.position()) == ("filled", D("0.01"))
        scene.check()


@scenario
async def test_a_market_that_is_frozen_while_pongs_come_is_stale(scene: Scene) -> None:
    """Data stood still while pongs came, and the daemon went on trading on the old book."""
    async with scene.life() as world:
        resting = scene.submit(BUY, 49_995)
        await trio.sleep(2)
        denied = denials(world)
        scene.misbehave(freeze_data=True)
        await trio.sleep(120)
        book = world.daemon.parts.data.is_stale(scene.venue.instrument_id)
        cloid = scene.submit(BUY, 49_000)
        assert (book, scene.status(cloid), denied) == (True, "denied", ["STALE_MARKET_DATA"])
        scene.cancel(resting)  # what ends an order is let out nevertheless
        await trio.sleep(60)
        assert scene.open_at_venue() == []
        scene.misbehave()
        scene.venue.rest(BUY, D(49_980), D(1))
        await trio.sleep(120)
        later = scene.submit(BUY, 49_000)
        await trio.sleep(2)
        assert [scene.status(each) for each in (resting, later)] == ["canceled", "accepted"]
        scene.check()


@scenario
async def test_the_watchdog_is_not_fed_when_nothing_is_traded_on_any_more(scene: Scene) -> None:
    """A timer of its own fed the watchdog while the loop that trades had stopped turning."""
    notify = MemoryNotify(watchdog_us=30_000_000)

    def fed() -> int:
        return sum("WATCHDOG" in each for each in notify.sent)

    async with scene.life(notify=notify) as world:
        await trio.sleep(60)
        assert fed() >= 6
        queue: Any = world.daemon.parts.feed
        take, turns = queue.get, trio.Event()

        async def stuck(at_most: int) -> Any:
            await turns.wait()
            return await take(at_most)

        queue.get = stuck
        await trio.sleep(30)
        before = fed()
        await trio.sleep(300)
        assert fed() == before
        turns.set()
        await trio.sleep(30)
        assert fed() > before
        scene.check()
