"""Journals under test: a running log on a simulated disk, and what it holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import trio

from zq_daemon.journal import codec
from zq_daemon.journal.files import FOLDER, KIND
from zq_daemon.journal.opening import OpenJournal, open_journal
from zq_daemon.journal.read import read_journal
from zq_daemon.journal.record import Intent
from zq_daemon.journal.replay import replay
from zq_daemon.journal.state import JournalState
from zq_daemon.log import Batch, Log, LogSettings, read_log
from zq_daemon.model.ids import ClientOrderId
from zq_daemon.ports.disk import Disk, MemoryDisk
from zq_daemon.ports.rng import seeded_rng

SETTINGS = LogSettings(segment_bytes=1 << 20, max_payload_bytes=1 << 16, linger_ms=20)


@asynccontextmanager
async def open_running_journal(disk: Disk) -> AsyncIterator[OpenJournal]:
    """A journal with its writer running; left, it is cut off as a crash would."""
    opening = open_journal(disk, closed_orders=10_000, settings=SETTINGS, rng=seeded_rng(1))
    async with opening as opened, trio.open_nursery() as nursery:
        await nursery.start(opened.log.run)
        yield opened
        nursery.cancel_scope.cancel()


class CopiedLog:
    """A log, and a copy of every record: what a restart would read if all of it were durable."""

    def __init__(self, log: Log, before: Sequence[Batch]) -> None:
        """*before*: what is in the log already."""
        self._log = log
        self._before = before
        self._first = log.stats().written_sequence + 1
        self._payloads: list[bytes] = []
        self.durable, self.room = log.durable, log.room
        self.run, self.close = log.run, log.close

    @property
    def has_room(self) -> bool:
        return self._log.has_room

    def write(self, payload: bytes) -> int:
        sequence = self._log.write(payload)
        self._payloads.append(payload)
        return sequence

    def replayed(self) -> JournalState:
        """The state that all records add up to, durable or not."""
        written = Batch(first_sequence=self._first, payloads=self._payloads)
        return replay([*self._before, written], closed_orders=10_000)


async def batches_of(disk: Disk) -> list[Batch]:
    """Everything in the journal, as it is read."""
    async with aclosing(read_journal(disk)) as batches:
        return [batch async for batch in batches]


async def records_of(disk: Disk) -> list[Any]:
    """Everything in the journal, decoded, in order."""
    async with aclosing(read_log(disk, FOLDER, kind=KIND)) as batches:
        return [codec.decode(payload) async for batch in batches for payload in batch.payloads]


async def intents_of(disk: Disk) -> list[Intent]:
    """The intents in the journal."""
    return [record for record in await records_of(disk) if isinstance(record, Intent)]


def durable_bytes(disk: MemoryDisk) -> bytes:
    """All that a power cut would leave of the journal's first segment."""
    return disk.durable(f"{FOLDER}/{1:020}.log")


def intent_prefix(client_order_id: ClientOrderId, *, nonce: int) -> bytes:
    """What an intent of the run's first account begins with, and nothing else."""
    return bytes((codec.INTENT, 0)) + codec.order_key(client_order_id) + nonce.to_bytes(8, "big")
