"""`kill -9` and lost links, between any two steps of an order: nothing is lost, nothing sent twice.

Real processes, real sockets, state on a real disk. One exchange and one state folder live through
all lives of a daemon; each life begins still, so that what the last one left can be compared, and
then trades until it dies.
"""

from __future__ import annotations

import itertools
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
import trio
from attrs import evolve

from tests.harness.agreement import Venue, Written, ask_daemon, audit, wait_agreement
from tests.harness.floor import Floor, Terms, open_floor
from tests.harness.mortal_daemon import POINTS
from tests.harness.process import RunningDaemon

KILLS = 10
_TRADING = Terms(orders=6, offset_bps="1.2", churn=4)
_STILL = evolve(_TRADING, still=True)
_AT_REST = 2


@pytest.mark.patience(300)
async def test_killed_at_every_point_nothing_is_lost_and_nothing_sent_twice(
    tmp_path: Path,
) -> None:
    jobs = [partial(_die_again_and_again, point, seed) for seed, point in enumerate(POINTS)]
    await _at_once(tmp_path, jobs)


@pytest.mark.patience(150)
async def test_killed_amid_cancels_and_modifications(tmp_path: Path) -> None:
    await _at_once(tmp_path, [partial(_die_of_requests, point) for point in POINTS])


@pytest.mark.patience(150)
async def test_the_link_is_cut_between_an_order_and_its_answer(tmp_path: Path) -> None:
    cases = itertools.product((True, False), repeat=2)
    await _at_once(tmp_path, [partial(_lose_the_link, arrives, dies) for arrives, dies in cases])


@pytest.mark.patience(150)
async def test_daemons_that_break_the_rules_are_found_out(tmp_path: Path) -> None:
    await _at_once(tmp_path, [_send_before_writing, _send_again])


async def _at_once(folder: Path, jobs: Sequence[Callable[[Floor], Awaitable[None]]]) -> None:
    """Each on a floor of its own."""

    async def on_a_floor(seed: int, job: Callable[[Floor], Awaitable[None]]) -> None:
        place = folder / str(seed)
        place.mkdir()
        async with open_floor(place, seed=seed) as floor:
            await job(floor)
            assert await floor.exchange.stop() == 0

    async with trio.open_nursery() as nursery:
        for seed, job in enumerate(jobs):
            nursery.start_soon(on_a_floor, seed, job)


async def _die_again_and_again(point: str, seed: int, floor: Floor) -> None:
    chosen, cloids = random.Random(seed), list[str]()
    for _ in range(KILLS):
        cloids.append(await _live_and_die(floor, point, chosen.randint(1, 4), after=cloids))
    venue = await _live_on(floor)
    assert len(set(cloids)) == KILLS
    assert venue.fills
    if point in ("after_send", "after_ack"):
        assert set(cloids) & venue.statuses.keys()


async def _die_of_requests(point: str, floor: Floor) -> None:
    for request in ("cancel", "modify"):
        await _live_and_die(floor, point, 2, "--request", request)
    await _live_on(floor)


async def _live_on(floor: Floor) -> Venue:
    """The daemon as it is shipped, which finds everything in order."""
    floor.configure(_STILL)
    async with floor.daemon() as daemon:
        await daemon.wait_event("running")
        venue = await wait_agreement(floor)
        await audit(floor)
        assert await daemon.stop() == 0
    return venue


async def _lose_the_link(arrives: bool, dies: bool, floor: Floor) -> None:
    floor.configure(_TRADING)
    async with floor.daemon() as daemon:
        await floor.wait_resting(_AT_REST)
        cloid = await _cut_off(floor, daemon, arrives=arrives)
        if dies:
            daemon.process.kill()
            assert await daemon.wait_exit() == -signal.SIGKILL
        else:
            await floor.reload(_STILL)
            await _check_cut_off(floor, cloid, arrives=arrives)
            assert await daemon.stop() == 0
    floor.configure(_STILL)
    async with floor.daemon() as daemon:
        await daemon.wait_event("running")
        await _check_cut_off(floor, cloid, arrives=arrives)
        assert await daemon.stop() == 0


async def _send_before_writing(floor: Floor) -> None:
    cloid = await _live_and_die(floor, "before_commit", 2, "--mutant", "submit_first")
    assert floor.wire.sent().count(cloid) == 1
    with pytest.raises(AssertionError, match=f"{cloid}: order sent without an intent"):
        await audit(floor)
    async with floor.daemon() as daemon:
        await daemon.wait_event("running")
        with pytest.raises(AssertionError, match=f"{cloid}: .*, and not known to the daemon"):
            await wait_agreement(floor, within_s=1)


async def _send_again(floor: Floor) -> None:
    cloid = await _live_and_die(floor, "after_send", 2)
    await audit(floor)
    async with floor.mortal("--mutant", "send_again") as daemon:
        await daemon.wait_event("running")
        await floor.wire.wait_posts(lambda: floor.wire.sent().count(cloid) > 1, "it again")
        with pytest.raises(AssertionError, match=f"{cloid}: sent 2 times"):
            await audit(floor)


async def _live_and_die(
    floor: Floor, point: str, nth: int, *arguments: str, after: Sequence[str] = ()
) -> str:
    """Start, compare what there is, trade until both have orders at rest; the order it died at.

    *after* are the orders that former lives died at, at the same point.
    """
    floor.configure(_STILL)
    async with floor.mortal("--point", point, "--nth", str(nth), *arguments) as daemon:
        await daemon.wait_event("running")
        if "--mutant" not in arguments:
            venue = await wait_agreement(floor)
            _check_fates(point, after, floor, venue, await audit(floor))
        await floor.reload(_TRADING)
        await floor.wait_resting(_AT_REST)
        daemon.send_signal(signal.SIGUSR1)
        assert await daemon.wait_exit() == -signal.SIGKILL
        killed = await daemon.wait_event("killed", point=point)
    assert min((await floor.resting()).values()) > 0
    return str(killed["client_order_id"])


def _check_fates(
    point: str, cloids: Sequence[str], floor: Floor, venue: Venue, written: Written
) -> None:
    """What a kill at *point* leaves of an order is what it must be, for ever."""
    expected = {"before_commit": (0, 0), "after_commit": (1, 0)}.get(point, (1, 1))
    for cloid in cloids:
        assert (written.submits()[cloid], floor.wire.sent().count(cloid)) == expected
        assert cloid not in venue.statuses or expected == (1, 1)


async def _cut_off(floor: Floor, daemon: RunningDaemon, *, arrives: bool) -> str:
    """Lose the connection with an order on it, before or after the exchange took it; the order.

    Others may be lost with it: the answer to the one before, or the one that came next.
    """
    before, seen = set(floor.wire.sent()), len(daemon.log)
    await floor.misbehave(f"cut_{'after' if arrives else 'before'}_execute = 1")
    while True:
        line = await daemon.wait_event("order in flight: outcome unknown", since=seen)
        seen = daemon.log.index(line, seen) + 1
        cloid = str(line["client_order_id"])
        (status,) = await floor.ask("orderStatus", oid=cloid)
        if cloid not in before and (status["status"] == "order") == arrives:
            return cloid


async def _check_cut_off(floor: Floor, cloid: str, *, arrives: bool) -> None:
    """Everybody agrees, and the order that was cut off is there, or never was."""
    venue, told = await wait_agreement(floor), await ask_daemon(floor)
    written = await audit(floor)
    assert (written.submits()[cloid], floor.wire.sent().count(cloid)) == (1, 1)
    assert (cloid in venue.statuses) == arrives
    assert arrives or told.closed[cloid][0] == "expired"
    (status,) = await floor.ask("orderStatus", oid=cloid)
    assert status["status"] == ("order" if arrives else "unknownOid")
