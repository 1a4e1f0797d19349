"""Compaction loses nothing, wherever the power goes: the state and every record are still there."""

from __future__ import annotations

import copy
from contextlib import suppress

import pytest

from tests.harness.journal_disk import CutDisk, payloads_of, write_life
from zq_daemon.errors import JournalError
from zq_daemon.journal.compact import compact
from zq_daemon.journal.consumers import consumers, register
from zq_daemon.journal.digest import differences, digest
from zq_daemon.journal.files import FOLDER, checkpoint_names
from zq_daemon.journal.opening import load_state
from zq_daemon.log.survey import segment_names

_STEPS = 150


async def compact_with_cut(disk: CutDisk, left: int, *, after: bool) -> bool:
    """Whether compaction came to its end before change number *left*."""
    disk.left, disk.after = left, after
    with suppress(OSError, JournalError):
        await compact(disk, closed_orders=3)
    survived = disk.left is not None
    disk.left = None
    return survived


@pytest.mark.virtual
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_power_cut_at_any_change_loses_nothing(seed: int, after: bool) -> None:
    original = CutDisk()
    life = await write_life(original, seed, _STEPS)
    await compact(original, closed_orders=3)
    life = await write_life(original, seed + 100, _STEPS)
    wanted, records = digest(life.state), await payloads_of(original)
    assert len(await segment_names(original, FOLDER)) > 3
    left = 0
    while True:
        disk = copy.deepcopy(original)
        survived = await compact_with_cut(disk, left, after=after)
        state = await load_state(disk, closed_orders=3)
        assert differences(state, life.state) == []
        assert await payloads_of(disk) == records
        await compact(disk, closed_orders=3)
        assert digest(await load_state(disk, closed_orders=3)) == wanted
        assert await payloads_of(disk) == records
        assert len(await segment_names(disk, FOLDER)) == 1
        assert len(await checkpoint_names(disk)) == 2
        if survived:
            break
        left += 1
    assert left > 6


@pytest.mark.virtual
@pytest.mark.parametrize("seed", range(4))
async def test_a_life_with_compactions_in_between_is_the_life_without(seed: int) -> None:
    plain, compacted = CutDisk(), CutDisk()
    for part in range(4):
        one = await write_life(plain, seed * 10 + part, 40)
        other = await write_life(compacted, seed * 10 + part, 40)
        assert differences(one.state, other.state) == []
        await compact(compacted, closed_orders=3)
    assert await payloads_of(plain) == await payloads_of(compacted)


@pytest.mark.virtual
@pytest.mark.parametrize("beyond", [-1, 0, 1])
@pytest.mark.parametrize("number", [0, 2])
async def test_a_consumer_is_never_passed(number: int, beyond: int) -> None:
    """A segment goes when its very last record was read, and not before."""
    disk = CutDisk()
    await write_life(disk, 5, _STEPS)
    before = await segment_names(disk, FOLDER)
    position = int(before[number + 1][:20]) - 1 + beyond
    await register(disk, "bridge", position)
    done = await compact(disk, closed_orders=3)
    gone = number if beyond < 0 else number + 1
    assert done.segments == tuple(before[:gone])
    assert await segment_names(disk, FOLDER) == before[gone:]
    assert "consumer 'bridge' is at record" in done.limit
    assert (done.checkpoint is None) is (gone == 0)
    assert await consumers(disk) == {"bridge": position}
