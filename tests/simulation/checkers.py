"""What has to be true when all is quiet: both sides have the same books, and so has the journal."""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

import trio
from attrs import evolve

from tests.harness.agreement import (
    differences,
    differences_of_cash,
    fill_differences,
    told_of,
    venue_of,
    written_of,
)
from tests.harness.journal import records_of
from tests.harness.machine import Machine
from tests.simulation.books import COINS
from tests.simulation.invariants import positions
from tests.simulation.world import World
from zq_daemon.control.verbs import handlers
from zq_daemon.daemon import Daemon
from zq_daemon.journal.checkpoint import find_checkpoint
from zq_daemon.journal.digest import digest
from zq_daemon.journal.opening import replay_from
from zq_daemon.model.ids import InstrumentId


async def check_agreement(world: World, daemon: Daemon) -> list[str]:
    """Orders, fills, positions, fees and cash are the exchange's, and nothing is in doubt."""
    kinds = ("frontendOpenOrders", "historicalOrders", "userFills", "clearinghouseState")
    answers: list[Any] = [world.info(kind) for kind in kinds]
    spot, payments = world.info("spotClearinghouseState"), world.info("userFunding", startTime=0)
    verbs = handlers(daemon)
    live = await verbs["orders"]({})
    # An exit whose answer was lost: the exchange calls it open, and lists it with its entry only.
    held = {child["cloid"] for listed in answers[0] for child in listed["children"]}
    held |= {each["client_order_id"] for each in live["orders"] if _is_held(daemon, each)}
    live["orders"] = [each for each in live["orders"] if each["client_order_id"] not in held]
    closed = await verbs["orders"]({"kind": "closed", "limit": 10_000})
    closed["orders"] = [each for each in closed["orders"] if not _was_withdrawn(world, each)]
    told = told_of(live, closed, verbs["positions"]({}))
    venue = venue_of(*answers, spot, payments)
    statuses = {cloid: each for cloid, each in venue.statuses.items() if cloid not in held}
    venue = evolve(venue, statuses=statuses)
    await daemon.parts.journal.durable()
    written = written_of(await records_of(world.disk))
    found = list(differences(venue, told))
    found += fill_differences(venue, written)
    found += differences_of_cash(venue, written)
    found += positions(daemon)
    found += _books(world, daemon)
    found += _doubts(daemon)
    return found


def _is_held(daemon: Daemon, row: Any) -> bool:
    """An exit is there with its entry, and listed nowhere until that has filled."""
    cache = daemon.parts.cache
    order = cache.order(row["client_order_id"])
    entry = None if order is None or order.parent_id is None else cache.order(order.parent_id)
    return order is not None and order.is_held and entry is not None and not entry.is_closed


def _was_withdrawn(world: World, row: Any) -> bool:
    """An order that was taken back before it was sent has never been anywhere else."""
    return row["status"] == "canceled" and row["client_order_id"] not in world.placed


def _books(world: World, daemon: Daemon) -> Iterator[str]:
    """The books are what the exchange told last."""
    for coin in COINS:
        book = daemon.parts.cache.book(InstrumentId(f"hyperliquid.{coin}"))
        yield from world.told_books.check_last(coin, book)


def _doubts(daemon: Daemon) -> Iterator[str]:
    execution = daemon.parts.execution.stats()
    for name in ("in_flight", "in_doubt", "queued", "owed_cancels"):
        if execution[name]:
            yield f"{execution[name]} orders are still {name}"
    for name in ("position_differences", "external_orders", "catching_up"):
        if execution[name]:
            yield f"{name}: {execution[name]}"


async def check_replay(world: World, daemon: Daemon) -> list[str]:
    """Up to the last record of now, the disk adds up to the state of now."""
    journal = daemon.parts.journal
    now, sequence = digest(journal.state), journal.state.sequence
    await journal.durable()
    found = await find_checkpoint(world.disk)
    closed_orders = daemon.config.limits.closed_orders
    replayed = await replay_from(world.disk, found, closed_orders=closed_orders, up_to=sequence)
    return [] if digest(replayed) == now else ["the journal does not add up to the cache"]


def check_end(
    world: World, machine: Machine, daemon: Daemon | None, tasks: Set[str], *, stopped: bool
) -> None:
    """A daemon that has ended by itself, however it did, has left nothing on its machine.

    One that was *stopped*, and had its time, has worked off all it was told before.
    """
    if left := tasks_living(world.floor) - tasks:
        world.complain(f"tasks are left: {sorted(left)}")
    if held := machine.left_open():
        world.complain(f"left open: {held}")
    if daemon is None:
        return
    for problem in _channels(daemon, drained=stopped and not daemon.cutter.was_cut):
        world.complain(problem)


def _channels(daemon: Daemon, *, drained: bool) -> Iterator[str]:
    """What its parts told each other is closed, nobody waits for more, and all was read."""
    reports, feed = daemon.parts.reports.statistics(), daemon.parts.feed
    if reports.open_send_channels or reports.tasks_waiting_send or reports.tasks_waiting_receive:
        yield f"the channel of reports is left in use: {reports}"
    if not feed._closed:
        yield "the feed is left open"
    waiting = {"reports": reports.current_buffer_used, "events": feed.statistics().size}
    for name, count in waiting.items() if drained else ():
        if count:
            yield f"{count} {name} were taken and never worked off"


def tasks_living(floor: trio.Nursery) -> Set[str]:
    """All tasks but those of *floor*, with names that tell them apart."""
    found, nurseries = set(), [trio.lowlevel.current_root_task()]
    while nurseries:
        task = nurseries.pop()
        if task is not None:
            found.add(f"{task.name} {id(task)}")
            nurseries += [
                each for one in task.child_nurseries if one is not floor for each in one.child_tasks
            ]
    return found
