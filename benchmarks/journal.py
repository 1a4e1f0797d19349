"""What a record costs the processor: to encode and queue it, and until it is on the disk.

Queued alone, each record is waited for before the next; under load thousands are written and then
waited for together. CPU time is of the whole process, its disk thread included.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import trio

from benchmarks import past, values
from benchmarks.measure import Case, Scale, nanoseconds
from benchmarks.report import Row, compared, duration
from benchmarks.scratch import scratch_folder
from zq_daemon.journal import codec
from zq_daemon.journal.journal import Journal
from zq_daemon.journal.opening import open_journal
from zq_daemon.journal.record import OrderRecord
from zq_daemon.journal.state import empty_state
from zq_daemon.log import LogSettings
from zq_daemon.log.frame import frame_bytes
from zq_daemon.model.order import OrderStatus
from zq_daemon.ports.disk import SystemDisk
from zq_daemon.ports.rng import system_rng

_BURST = 2_000
_ALONE = 20
"""The part of the records of the loaded row that is written one by one."""


def run(scale: Scale) -> Iterator[Row]:
    """Encoding and queueing; then to the disk, one by one and many at a time."""
    events = tuple(past.life(values.order(1, "few", OrderStatus.INITIALIZED)))
    yield _encoding(events, scale)
    size = sum(frame_bytes(len(codec.encode_order(each, closed=False))) for each in events)
    loaded = _until_durable(events, scale.journal_records, _BURST)
    alone = _until_durable(events, scale.journal_records // _ALONE + 1, 1)
    yield Row(
        name="journal: CPU a record until it is durable, under load",
        figure=f"{duration(loaded)}, {size / len(events):.0f} bytes on the disk",
        against=compared("each waited for alone", alone, loaded),
    )


def _encoding(events: Sequence[OrderRecord], scale: Scale) -> Row:
    state = empty_state(closed_orders=1)
    state.cache.add_instrument(values.instrument())
    names = {"write": Journal(_Nowhere(), state).write_order, "naive": _naive, "events": events}
    taken = nanoseconds(
        {
            "ours": Case("for event in events: write(event, closed=False)", names),
            "naive": Case("for event in events: naive(event)", names),
        },
        scale,
    )
    own, naive = taken["ours"] / len(events), taken["naive"] / len(events)
    return Row(
        name="journal: a record encoded and queued",
        figure=duration(own),
        against=compared("json.dumps of attrs.asdict", naive, own),
    )


class _Nowhere:
    """A log that keeps nothing."""

    has_room = True

    def write(self, payload: bytes) -> int:
        return 1

    async def durable(self, sequence: int | None = None) -> None:
        return None

    async def room(self) -> None:
        return None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()

    def close(self) -> None:
        return None


def _naive(event: OrderRecord) -> bytes:
    return json.dumps(attrs.asdict(event, recurse=True), default=str).encode()


def _until_durable(events: Sequence[OrderRecord], count: int, burst: int) -> float:
    """Nanoseconds of CPU time a record, *burst* of them waited for at once."""
    with scratch_folder() as folder:
        return trio.run(_write, folder, events, count, burst)


async def _write(folder: Path, events: Sequence[OrderRecord], count: int, burst: int) -> float:
    opening = open_journal(
        SystemDisk(folder), closed_orders=1, settings=LogSettings(), rng=system_rng()
    )
    async with opening as opened, trio.open_nursery() as nursery:
        opened.state.cache.add_instrument(values.instrument())
        journal = Journal(opened.log, opened.state)
        await nursery.start(journal.run)
        used, written = time.process_time_ns(), 0
        while written < count:
            for number in range(min(burst, count - written)):
                journal.write_order(events[(written + number) % len(events)], closed=False)
            written += min(burst, count - written)
            await journal.durable()
        taken = time.process_time_ns() - used
        journal.close()
    return taken / count
