"""Opening a journal: from a checkpoint, from the archive, beside a compaction, and not at all."""

from __future__ import annotations

import random

import pytest
import trio

from tests.harness.journal_disk import SMALL, CutDisk, payloads_of, write_life
from zq_daemon.errors import JournalDamagedError, JournalError, LogInUseError
from zq_daemon.journal.compact import compact
from zq_daemon.journal.digest import differences
from zq_daemon.journal.files import FOLDER, checkpoint_names
from zq_daemon.journal.opening import load_state, open_journal
from zq_daemon.journal.state import JournalState
from zq_daemon.log.survey import segment_names
from zq_daemon.ports.rng import seeded_rng

pytestmark = pytest.mark.virtual


async def opened_state(disk: CutDisk, *, closed_orders: int = 3) -> JournalState:
    opening = open_journal(disk, closed_orders=closed_orders, settings=SMALL, rng=seeded_rng(9))
    async with opening as opened:
        return opened.state


async def compacted(steps: int = 100) -> tuple[CutDisk, JournalState]:
    """A disk whose journal was compacted twice, and went on; and what its daemon knew."""
    disk = CutDisk()
    for seed in (1, 2, 3):
        life = await write_life(disk, seed, steps)
        if seed < 3:
            await compact(disk, closed_orders=3)
    return disk, life.state


class BusyDisk(CutDisk):
    """Something happens beside us when a file is read for the *n*-th time."""

    def __init__(self) -> None:
        super().__init__()
        self.reads_left = -1
        self.passed = False

    async def read(self, path: str) -> bytes:
        self.reads_left -= 1
        if self.reads_left == 0:
            self.passed = True
            await compact(self, closed_orders=3)
        return await super().read(path)


async def test_a_new_journal_is_empty() -> None:
    disk = CutDisk()
    state = await opened_state(disk)
    assert state.sequence == 0
    assert await payloads_of(disk) == []


async def test_from_a_checkpoint_and_the_segments_behind_it() -> None:
    disk, known = await compacted()
    assert len(await segment_names(disk, FOLDER)) > 1
    assert differences(await opened_state(disk), known) == []
    assert differences(await load_state(disk, closed_orders=3), known) == []


async def test_damaged_checkpoints_are_done_without() -> None:
    disk, known = await compacted()
    names = await checkpoint_names(disk)
    assert len(names) == 2
    for name in reversed(names):
        disk.damage(f"{FOLDER}/{name}", 700, b"\xff\xff")
        assert differences(await opened_state(disk), known) == []
        assert differences(await load_state(disk, closed_orders=3), known) == []


async def test_without_checkpoint_and_archive_nothing_can_be_trusted() -> None:
    disk, _ = await compacted()
    for name in await checkpoint_names(disk):
        await disk.remove(f"{FOLDER}/{name}")
    archived = await disk.list(f"{FOLDER}/archive")
    await disk.remove(f"{FOLDER}/archive/{archived[1]}")
    first, kept = int(archived[1][:20]), int((await segment_names(disk, FOLDER))[0][:20])
    for attempt in (opened_state(disk), load_state(disk, closed_orders=3)):
        with pytest.raises(JournalDamagedError, match=f"records {first} to {kept - 1} are neither"):
            await attempt


async def test_a_checkpoint_beyond_the_end_means_that_segments_are_gone() -> None:
    disk, _ = await compacted()
    for name in await segment_names(disk, FOLDER):
        await disk.remove(f"{FOLDER}/{name}")
    with pytest.raises(JournalDamagedError, match="the journal ends at record 0, and a checkpoint"):
        await opened_state(disk)


async def test_an_older_copy_of_the_segments_is_noticed() -> None:
    disk, old = CutDisk(), CutDisk()
    for each in (disk, old):
        await write_life(each, 1, 30)
    await write_life(disk, 2, 100)
    await compact(disk, closed_orders=3)
    for name in await segment_names(disk, FOLDER):
        await disk.remove(f"{FOLDER}/{name}")
    for name in await segment_names(old, FOLDER):
        await disk.replace(f"{FOLDER}/{name}", await old.read(f"{FOLDER}/{name}"))
    with pytest.raises(JournalDamagedError, match="were replaced by older ones"):
        await opened_state(disk)
    with pytest.raises(JournalDamagedError, match="were replaced by older ones"):
        await load_state(disk, closed_orders=3)


async def test_damage_is_refused() -> None:
    disk, _ = await compacted()
    name = (await segment_names(disk, FOLDER))[0]
    disk.damage(f"{FOLDER}/{name}", 500, b"\xff\xff\xff")
    with pytest.raises(JournalDamagedError, match=rf"{name}, bytes .*\n.*--accept-damage"):
        await opened_state(disk)


async def test_a_second_daemon_is_kept_out() -> None:
    disk, _ = await compacted(10)
    opening = open_journal(disk, closed_orders=3, settings=SMALL, rng=seeded_rng(1))
    async with opening:
        with pytest.raises(LogInUseError, match="held by process"):
            await opened_state(disk)


async def test_a_compaction_meanwhile_changes_nothing() -> None:
    """Whichever file is being read when it begins."""
    original, known = await compacted()
    files = {}
    for folder in (FOLDER, f"{FOLDER}/archive"):
        for name in await original.list(folder):
            files[f"{folder}/{name}"] = await original.read(f"{folder}/{name}")
    for function in (opened_state, lambda disk: load_state(disk, closed_orders=3)):
        passed, number = True, 0
        while passed:
            number += 1
            disk = BusyDisk()
            for path, data in files.items():
                await disk.replace(path, data)
            disk.reads_left = number
            state = await function(disk)
            assert differences(state, known) == []
            passed = disk.passed
        assert number > 3


async def test_two_compactions_at_once_are_one_too_many() -> None:
    disk, _ = await compacted(10)
    lock = await disk.lock(f"{FOLDER}/compact.lock")
    with pytest.raises(JournalError, match="another compaction runs"):
        await compact(disk, closed_orders=3)
    await lock.aclose()
    await compact(disk, closed_orders=3)


async def test_more_or_fewer_closed_orders_may_be_remembered_from_now_on() -> None:
    disk, known = await compacted(89)  # the last order that closed was not reopened
    fewer = await opened_state(disk, closed_orders=1)
    assert list(fewer.cache.orders_closed()) == list(known.cache.orders_closed())[-1:]
    assert differences(await opened_state(disk, closed_orders=100), known) != []
    assert fewer.portfolio.positions() == known.portfolio.positions()
    assert set(fewer.cache.orders_live()) == set(known.cache.orders_live())


async def test_power_cuts_while_it_is_written_lose_nothing_that_was_durable() -> None:
    choose = random.Random(1)
    disk = CutDisk()
    for seed in range(12):
        durable = 0
        opening = open_journal(disk, closed_orders=3, settings=SMALL, rng=seeded_rng(seed))
        async with opening as opened, trio.open_nursery() as nursery:
            await nursery.start(opened.log.run)
            before = opened.state.sequence
            for _ in range(choose.randrange(40)):
                opened.log.write(b"\x40\x00{}" + bytes(choose.randrange(400)))
                if choose.random() < 0.2:
                    await trio.sleep(choose.random() * 0.01)
            durable = opened.log.durable_sequence
            nursery.cancel_scope.cancel()
        disk.power_cut(seeded_rng(seed))
        records = await payloads_of(disk)
        assert len(records) >= durable >= before - 1 >= -1
