"""SIGTERM at bad moments: each stop ends in time, says what it knows, and sends nothing new.

Real processes and signals. What a stop left or could not verify is there for the next start, which
finds and resolves it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from attrs import evolve

from tests.harness.agreement import audit, look, wait_agreement
from tests.harness.floor import Floor, Terms, open_floor
from tests.harness.process import RunningDaemon
from zq_daemon.journal.opening import load_state
from zq_daemon.ports.disk import SystemDisk

_EVENTS, _CLOCK = 8, 42
_FIFTY = Terms(orders=_EVENTS, clock_orders=_CLOCK, offset_bps="50", on_stop="cancel")
"""Far enough from the market that nothing is filled but on purpose."""
_FEW = Terms(orders=2, offset_bps="50")
_HINDERED = "cancel_latency_ms = 400\nrefuse_cancel_count = 2\nfill_on_cancel_count = 3\n"
_UPGRADE, _INSTRUMENTS, _RECOVERY = b"Upgrade: websocket", b'"type":"meta"', b'"orderStatus"'


async def test_fifty_orders_some_of_which_do_not_go(tmp_path: Path) -> None:
    async with open_floor(tmp_path, seed=1) as floor:
        floor.configure(_FIFTY)
        async with floor.daemon() as daemon:
            await floor.wait_resting(_EVENTS, _CLOCK)
            await floor.misbehave(_HINDERED)
            with _within(_FIFTY.shutdown_grace_ms / 1000):
                assert await daemon.stop() == 3
        _check_told(daemon, "45 cancelled, 2 unverified")
        assert sum((await floor.resting()).values()) == 2
        assert len((await look(floor)).fills) == 3

        await floor.misbehave()
        floor.configure(evolve(_FIFTY, on_start="cancel", still=True))
        async with floor.daemon() as daemon:
            cancelled = await daemon.wait_event("orders of former runs cancelled")
            venue = await wait_agreement(floor)
            assert await daemon.stop() == 0
        assert (cancelled["cancelled"], cancelled["unverified"]) == (2, 0)
        assert not venue.orders
        await audit(floor)


async def test_a_second_sigterm_ends_it_at_once(tmp_path: Path) -> None:
    terms = evolve(_FIFTY, shutdown_grace_ms=60_000)
    async with open_floor(tmp_path, seed=2) as floor:
        floor.configure(terms)
        async with floor.daemon() as daemon:
            await floor.wait_resting(_EVENTS, _CLOCK)
            await floor.misbehave("cancel_latency_ms = 600000")
            daemon.send_signal(signal.SIGTERM)
            await _wait_cancels(floor, 50)
            with _within(5):
                assert await daemon.stop() == 3
        assert await daemon.wait_event("stop cut short", reason="SIGTERM")
        _check_told(daemon, "0 cancelled, 50 unverified")

        state = await load_state(SystemDisk(floor.state), closed_orders=1_000)
        assert state.cache.live_count() == 50
        await floor.misbehave()
        floor.configure(evolve(terms, on_start="cancel", still=True))
        async with floor.daemon() as daemon:
            await daemon.wait_event("orders of former runs cancelled", cancelled=50, unverified=0)
            await wait_agreement(floor)
            assert await daemon.stop() == 0
        await audit(floor)


async def test_stopped_during_start_up(tmp_path: Path) -> None:
    """Orders of a former run are at the exchange, and nobody could be asked about them."""
    async with open_floor(tmp_path, seed=3) as floor:
        floor.configure(_FEW)
        async with floor.daemon() as daemon:
            await floor.wait_resting(2)
            assert await daemon.stop() == 0
        _check_told(daemon, "0 cancelled, 4 left, 0 unverified")
        posts = len(floor.wire.posts)
        for deaf_to in (_INSTRUMENTS, _UPGRADE, _RECOVERY):
            await _stop_while_deaf(floor, deaf_to)
        await floor.wire.cut()
        async with floor.daemon() as daemon:
            await daemon.wait_event("instruments not loaded")
            with _within(5):
                assert await daemon.stop() == 3
        _check_told(daemon, "0 cancelled, 0 left, 4 unverified")
        await floor.wire.mend()
        assert len(floor.wire.posts) == posts

        floor.configure(evolve(_FEW, still=True))
        async with floor.daemon() as daemon:
            await daemon.wait_event("running")
            await wait_agreement(floor)
            assert await daemon.stop() == 0
        _check_told(daemon, "0 cancelled, 4 left, 0 unverified")
        await audit(floor)


@pytest.mark.parametrize("stopped", [False, True], ids=["refused", "no answer"])
async def test_stopped_while_reconnecting(tmp_path: Path, stopped: bool) -> None:
    """The exchange is gone, or frozen; it comes back with all its orders."""
    terms = evolve(_FEW, on_stop="cancel", shutdown_grace_ms=3_000)
    async with open_floor(tmp_path, seed=4) as floor:
        floor.configure(terms)
        async with floor.daemon() as daemon:
            await floor.wait_resting(2)
            since = len(daemon.log)
            if stopped:
                floor.exchange.send_signal(signal.SIGSTOP)
            await floor.wire.cut()
            if stopped:
                await floor.wire.mend()
            await daemon.wait_event("link backoff", since=since, endpoint="account")
            await daemon.wait_event("link connecting", since=since, endpoint="account")
            with _within(terms.shutdown_grace_ms / 1000 + 1):
                assert await daemon.stop() == 3
        _check_told(daemon, "0 cancelled, 4 unverified")

        if stopped:
            floor.exchange.send_signal(signal.SIGCONT)
        else:
            await floor.wire.mend()
        floor.configure(evolve(terms, still=True))
        async with floor.daemon() as daemon:
            await daemon.wait_event("running")
            venue = await wait_agreement(floor)
            assert len(venue.orders) == 4
            assert await daemon.stop() == 0
        _check_told(daemon, "4 cancelled, 0 unverified")
        await audit(floor)


async def test_orders_are_left_and_the_next_start_goes_on_with_them(tmp_path: Path) -> None:
    async with open_floor(tmp_path, seed=5) as floor:
        floor.configure(_FEW)
        async with floor.daemon() as daemon:
            await floor.wait_resting(2)
            before = await wait_agreement(floor)
            assert await daemon.stop() == 0
        _check_told(daemon, "0 cancelled, 4 left, 0 unverified")
        assert (await look(floor)).orders == before.orders

        floor.configure(evolve(_FEW, churn=2))
        async with floor.daemon() as daemon:
            for strategy in ("events", "clock"):
                await daemon.wait_event("ladder started", strategy=strategy, found=2)
            left = before.orders.keys()
            await floor.wire.wait_posts(
                lambda: (
                    left <= {*floor.wire.sent("cancelByCloid"), *floor.wire.sent("batchModify")}
                ),
                "a request about every order that was left",
            )
            await floor.reload(evolve(_FEW, still=True))
            await wait_agreement(floor)
            assert await daemon.stop() == 0
        await audit(floor)


async def test_stopped_while_orders_of_a_former_run_are_cancelled(tmp_path: Path) -> None:
    async with open_floor(tmp_path, seed=6) as floor:
        floor.configure(_FEW)
        async with floor.daemon() as daemon:
            await floor.wait_resting(2)
            assert await daemon.stop() == 0
        await floor.misbehave("cancel_latency_ms = 600000")
        floor.configure(evolve(_FEW, on_start="cancel", still=True, shutdown_grace_ms=60_000))
        async with floor.daemon() as daemon:
            await _wait_cancels(floor, 4)
            with _within(5):
                assert await daemon.stop() == 3
        _check_told(daemon, "0 cancelled, 0 left, 4 unverified")
        await floor.misbehave()
        async with floor.daemon() as daemon:
            await daemon.wait_event("orders of former runs cancelled", cancelled=4, unverified=0)
            await wait_agreement(floor)
            assert await daemon.stop() == 0
        await audit(floor)


async def _stop_while_deaf(floor: Floor, deaf_to: bytes) -> None:
    """SIGTERM while a start waits for an answer to what has *deaf_to* in it."""
    floor.wire.deaf_to = lambda data: deaf_to in data
    floor.wire.swallowed = trio.Event()
    async with floor.daemon() as daemon:
        await floor.wire.swallowed.wait()
        with _within(5):
            assert await daemon.stop() == 3
    floor.wire.deaf_to = lambda _: False
    _check_told(daemon, "0 cancelled, 0 left, 4 unverified")
    assert "running" not in {line["event"] for line in daemon.log}


async def _wait_cancels(floor: Floor, count: int) -> None:
    def all_asked_for() -> bool:
        return len(set(floor.wire.sent("cancelByCloid"))) == count

    await floor.wire.wait_posts(all_asked_for, f"{count} cancels")


def _check_told(daemon: RunningDaemon, orders: str) -> None:
    """The last line says what became of the orders."""
    assert daemon.log[-1]["event"] == "stopped"
    assert daemon.log[-1]["orders"] == orders


@contextmanager
def _within(limit_s: float) -> Iterator[None]:
    began = trio.current_time()
    yield
    assert trio.current_time() - began < limit_s
