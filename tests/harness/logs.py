"""Small logs for tests: records that are told apart, in segments that are full soon."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from zq_daemon.log import Batch, Log, LogSettings, Opening, inspect_log, open_log, read_log
from zq_daemon.ports.disk import Disk

FOLDER = "log"
KIND = "test"
SMALL = LogSettings(segment_bytes=1_024, max_payload_bytes=128, max_pending_bytes=2_048)


def payload_of(number: int) -> bytes:
    """Different for each number, of many lengths, from none up."""
    return b"%d." % number * (number % 7)


@asynccontextmanager
async def opened(
    disk: Disk, *, settings: LogSettings = SMALL, folder: str = FOLDER, seed: int = 1
) -> AsyncIterator[Log]:
    """An open log that nobody writes."""
    rng = random.Random(seed)
    async with open_log(disk, folder, kind=KIND, settings=settings, rng=rng) as log:
        yield log


@asynccontextmanager
async def written(
    disk: Disk, *, settings: LogSettings = SMALL, folder: str = FOLDER, seed: int = 1
) -> AsyncIterator[Log]:
    """An open log with its writer, drained and closed on leaving."""
    async with (
        opened(disk, settings=settings, folder=folder, seed=seed) as log,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(log.run)
        yield log
        log.close()


async def fill(disk: Disk, count: int, *, settings: LogSettings = SMALL) -> None:
    """Write *count* further records, each in a commit of its own, and close."""
    async with written(disk, settings=settings) as log:
        for _ in range(count):
            log.write(payload_of(log.stats().written_sequence + 1))
            await log.durable()


async def found(disk: Disk, *, folder: str = FOLDER, after: int | None = None) -> dict[int, bytes]:
    """What reading without the lock finds."""
    records: dict[int, bytes] = {}
    async for batch in read_log(disk, folder, kind=KIND, after=after):
        add(records, batch)
    return records


def add(records: dict[int, bytes], batch: Batch) -> None:
    """Put a batch into *records*; each sequence comes once, and in order."""
    for sequence, payload in enumerate(batch.payloads, batch.first_sequence):
        assert sequence > max(records, default=0)
        records[sequence] = payload


async def inspected(disk: Disk) -> Opening:
    """What opening would find."""
    return await inspect_log(disk, FOLDER, kind=KIND)


async def reopened(disk: Disk) -> Opening:
    """What opening finds."""
    async with opened(disk) as log:
        return log.opening
