"""Group commit: how many durable records a second many writers get of one disk, and at what syncs.

Every writer writes a record and waits until it is durable, again and again. Alone it pays for a
sync each time; together they share them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import trio
from attrs import frozen

from benchmarks.measure import Scale
from benchmarks.report import Row, duration, times
from benchmarks.scratch import file_system, scratch_folder
from zq_daemon.log import Log, LogSettings, open_log
from zq_daemon.ports.disk import File, SystemDisk
from zq_daemon.ports.rng import system_rng

WRITERS = (1, 10, 64, 256)
PAYLOAD = os.urandom(500)


@frozen
class Rate:
    """Durable records a second, records a sync, nanoseconds of CPU time a record."""

    records: float
    shared: float
    cpu_ns: float


def run(scale: Scale) -> Iterator[Row]:
    """A row for each number of writers, each beside as many that sync for themselves."""
    with scratch_folder() as folder:
        disk = file_system(folder)
        for writers in WRITERS:
            own = trio.run(_grouped, folder / f"grouped-{writers}", writers, scale.commit_s)
            other = trio.run(_one_by_one, folder / f"each-{writers}", writers, scale.commit_s)
            yield Row(
                name=f"group commit, {disk}, {writers} at once: durable records a second",
                figure=f"{own.records:,.0f}, {own.shared:.3g} a sync, CPU {duration(own.cpu_ns)}",
                against=f"a sync a record {other.records:,.0f} "
                f"({times(own.records, other.records)}), CPU {duration(other.cpu_ns)}",
            )


async def _grouped(folder: Path, writers: int, duration_s: float) -> Rate:
    settings = LogSettings()
    opening = open_log(SystemDisk(folder), "log", kind="bench", settings=settings, rng=system_rng())
    async with opening as log, trio.open_nursery() as nursery:
        await nursery.start(log.run)
        commits, used, began = log.commits, time.process_time_ns(), time.monotonic_ns()
        async with trio.open_nursery() as writing:
            until = trio.current_time() + duration_s
            for _ in range(writers):
                writing.start_soon(_write, log, until)
        await log.durable()
        records = log.durable_sequence
        taken = _rate(records, log.commits - commits, used, began)
        log.close()
    return taken


async def _write(log: Log, until: float) -> None:
    """At least one record, however long the disk takes for it."""
    while True:
        await log.durable(log.write(PAYLOAD))
        if trio.current_time() >= until:
            return


async def _one_by_one(folder: Path, writers: int, duration_s: float) -> Rate:
    """The same file and the same thread hop; whoever has the file writes and syncs one record."""
    file = await SystemDisk(folder).create("each", LogSettings().segment_bytes)
    turn, count = trio.Lock(), [0]
    used, began = time.process_time_ns(), time.monotonic_ns()
    async with trio.open_nursery() as writing:
        until = trio.current_time() + duration_s
        for _ in range(writers):
            writing.start_soon(_sync_each, file, turn, count, until)
    taken = _rate(count[0], count[0], used, began)
    await file.aclose()
    return taken


async def _sync_each(file: File, turn: trio.Lock, count: list[int], until: float) -> None:
    room = LogSettings().segment_bytes // len(PAYLOAD)
    while True:
        async with turn:
            await file.commit(count[0] % room * len(PAYLOAD), PAYLOAD)
            count[0] += 1
        if trio.current_time() >= until:
            return


def _rate(records: int, commits: int, used_ns: int, began_ns: int) -> Rate:
    taken_s = (time.monotonic_ns() - began_ns) / 1e9
    cpu_ns = (time.process_time_ns() - used_ns) / max(records, 1)
    return Rate(records / taken_s, records / max(commits, 1), cpu_ns)
