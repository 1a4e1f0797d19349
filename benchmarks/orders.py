"""From a strategy's decision to the signed bytes at the connection, the durable intent in between.

Open loop: decisions come when they come (Poisson), each is timed from when it was due, and what
waits for others to be done with has waited. All that the daemon has is there: its collector's
settings, its log lines (to a file), its journal on a real disk, and the history beside it.
"""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
)
from pathlib import Path

import trio
from attrs import frozen

from benchmarks import stores
from benchmarks.desk import Desk, open_desk
from benchmarks.measure import Scale, percentile
from benchmarks.metronome import keep_time
from benchmarks.report import Row, duration
from benchmarks.scratch import file_system, scratch_folder
from zq_daemon import daemon
from zq_daemon.journal.follow import HistoryFollower
from zq_daemon.journal.journal import Journal
from zq_daemon.journal.opening import open_journal
from zq_daemon.journal.recent import Recent
from zq_daemon.journal.state import empty_state
from zq_daemon.log import LogSettings
from zq_daemon.ports.disk import Disk, MemoryDisk, SystemDisk
from zq_daemon.ports.rng import system_rng
from zq_daemon.ports.sqlite import SystemDatabases
from zq_daemon.runtime.memory import settled_memory
from zq_daemon.telemetry.logging import configure

RATES = (10, 200, 2_000)
LIMIT_NS = 10_000_000
SETTINGS = LogSettings(linger_ms=daemon._LINGER_MS)
CLOSED_ORDERS = 10_000
_ROUNDS = 3
_WARM_UP = 100
_INTENT_BYTES = 700

OpenJournal = Callable[[Path], AbstractAsyncContextManager[Journal]]


@frozen
class Tails:
    """Of one round, in nanoseconds; *denied*: orders that found the submit queue full."""

    p50_ns: float
    p99_ns: float
    denied: int = 0

    def __str__(self) -> str:
        denied = f" and {self.denied} DENIED" if self.denied else ""
        return f"{duration(self.p50_ns)}, {duration(self.p99_ns)}{denied}"


def run(scale: Scale) -> Iterator[Row]:
    """A row for each rate."""
    for rate in RATES:
        yield _row(rate, scale)


def _row(rate: int, scale: Scale) -> Row:
    """Ours in several rounds, and between them each of the others in one."""
    count = max(int(rate * scale.paced_orders_s), scale.least_orders)
    others = dict(ALTERNATIVES)
    ours: list[Tails] = []
    told: dict[str, Tails] = {}
    for _ in range(min(_ROUNDS, scale.rounds)):
        ours.append(_measure(_as_the_daemon, rate, count))
        for name in list(others)[: -(-len(ALTERNATIVES) // min(_ROUNDS, scale.rounds))]:
            told[name] = _measure(others.pop(name), rate, count)
    with scratch_folder() as folder:
        floor = stores.bare_commits_ns(folder / "bare", min(count, 1_000), _INTENT_BYTES)
        disk = file_system(folder)
    median, least = middle(ours), min(each.p99_ns for each in ours)
    return Row(
        name=f"decision to bytes, {rate:,} orders/s, journal on {disk}: p50, p99",
        figure=f"{median} (least p99 of {len(ours)} rounds {duration(least)})",
        against="; ".join(
            [f"{name} {each}" for name, each in told.items()]
            + [f"a bare write and fdatasync {tails(floor)}"]
        ),
        limit=duration(LIMIT_NS),
        holds=median.p99_ns < LIMIT_NS and not median.denied,
    )


def tails(taken_ns: Sequence[int], denied: int = 0) -> Tails:
    """The median, and what one in a hundred exceeds."""
    return Tails(percentile(taken_ns, 0.5), percentile(taken_ns, 0.99), denied)


def middle(rounds: Sequence[Tails]) -> Tails:
    """The median of each figure, and all that was denied."""
    return Tails(
        statistics.median(each.p50_ns for each in rounds),
        statistics.median(each.p99_ns for each in rounds),
        sum(each.denied for each in rounds),
    )


def _measure(open_one: OpenJournal, rate: int, count: int) -> Tails:
    return trio.run(_pace, open_one, rate, count)


async def _pace(open_one: OpenJournal, rate: int, count: int) -> Tails:
    with scratch_folder() as folder, (folder / "log").open("w") as lines:
        configure("info", "json", lines)
        async with open_one(folder) as journal, open_desk(journal) as desk:
            with settled_memory():
                await _warm_up(desk, min(count, _WARM_UP))
                await keep_time(desk.decide, rate, count)
                await desk.wait_done()
            configure("error")
            return tails(desk.taken_ns, desk.denials.total())


async def _warm_up(desk: Desk, count: int) -> None:
    for _ in range(count):
        desk.decide(0)
        await desk.wait_done()
    desk.forget()


@asynccontextmanager
async def _on(disk: Disk, recent: Recent | None = None) -> AsyncIterator[Journal]:
    opening = open_journal(disk, closed_orders=CLOSED_ORDERS, settings=SETTINGS, rng=system_rng())
    async with opening as opened, trio.open_nursery() as nursery:
        journal = Journal(opened.log, opened.state, recent=recent)
        await nursery.start(journal.run)
        if recent is not None and isinstance(disk, SystemDisk):
            databases = SystemDatabases(disk._root)
            await nursery.start(HistoryFollower(disk, databases, opened.log, recent).run)
        yield journal
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _with(store: AbstractContextManager[stores.Commit]) -> AsyncIterator[Journal]:
    with store as commit:
        yield Journal(stores.OrderByOrder(commit), empty_state(closed_orders=CLOSED_ORDERS))


def _as_the_daemon(folder: Path) -> AbstractAsyncContextManager[Journal]:
    return _on(SystemDisk(folder), Recent())


ALTERNATIVES: dict[str, OpenJournal] = {
    "without the history": lambda folder: _on(SystemDisk(folder)),
    "in memory": lambda _: _on(MemoryDisk()),
    "one fdatasync an order": lambda folder: _with(stores.synced_file(folder / "orders")),
    "SQLite, WAL, FULL, a row an order": lambda folder: _with(
        stores.sqlite_rows(folder / "orders.sqlite")
    ),
}
