"""Journals of several segments on a simulated disk, and a disk whose power goes at a given step."""

from __future__ import annotations

import random
from contextlib import aclosing

import trio

from tests.harness.journal_life import Choose, Life
from zq_daemon.journal.opening import open_journal
from zq_daemon.journal.read import read_journal
from zq_daemon.log import LogSettings
from zq_daemon.ports.disk import Disk, MemoryDisk
from zq_daemon.ports.rng import seeded_rng

SMALL = LogSettings(segment_bytes=8_192, max_payload_bytes=4_096)


class CutDisk(MemoryDisk):
    """The power goes at change number *left* (None: never), before it or after it."""

    def __init__(self) -> None:
        super().__init__()
        self.left: int | None = None
        self.after = False

    async def replace(self, path: str, data: bytes) -> None:
        self._count(after=False)
        await super().replace(path, data)
        self._count(after=True)

    async def remove(self, path: str) -> None:
        self._count(after=False)
        await super().remove(path)
        self._count(after=True)

    def _count(self, *, after: bool) -> None:
        if self.left is None or self.after is not after:
            return
        self.left -= 1
        if self.left < 0:
            self.left = None
            self.power_cut(seeded_rng(1))
            raise OSError("the power was cut")


async def write_life(disk: Disk, seed: int, steps: int, *, closed_orders: int = 3) -> Life:
    """*steps* more of a life on *disk*, all of it durable; the journal is closed again."""
    choose: Choose = random.Random(seed).randrange
    opening = open_journal(disk, closed_orders=closed_orders, settings=SMALL, rng=seeded_rng(seed))
    async with opening as opened, trio.open_nursery() as nursery:
        await nursery.start(opened.log.run)
        last = max((run.run_id for run in opened.state.runs), default=0)
        life = Life(choose, log=opened.log, state=opened.state, run_id=last + 1, digests=False)
        for _ in range(steps):
            life.step()
        await opened.log.durable()
        opened.log.close()
    return life


async def payloads_of(disk: Disk, *, after: int = 0) -> list[bytes]:
    """Every record, archived or not."""
    async with aclosing(read_journal(disk, after=after)) as batches:
        return [payload async for batch in batches for payload in batch.payloads]
