"""Checkpoints and archives that are not what they should be, and what verification says of them."""

from __future__ import annotations

import pytest

from tests.harness.journal_disk import CutDisk, payloads_of, write_life
from zq_daemon.errors import JournalDamagedError, JournalError
from zq_daemon.journal.checkpoint import (
    decode_checkpoint,
    encode_checkpoint,
    find_checkpoint,
    save_checkpoint,
)
from zq_daemon.journal.compact import compact
from zq_daemon.journal.digest import differences
from zq_daemon.journal.files import ARCHIVE, FOLDER, checkpoint_name, checkpoint_names
from zq_daemon.journal.opening import load_state
from zq_daemon.journal.verify import verify
from zq_daemon.log.survey import segment_names

pytestmark = pytest.mark.virtual


async def a_checkpoint() -> tuple[str, bytes]:
    disk = CutDisk()
    life = await write_life(disk, 1, 60)
    last = life.state.sequence
    return checkpoint_name(last), encode_checkpoint(life.state, sequence=last, closed_orders=3)


async def test_any_byte_of_a_checkpoint_may_be_wrong() -> None:
    name, image = await a_checkpoint()
    decode_checkpoint(name, image)
    for offset in range(0, len(image), 37):
        broken = bytearray(image)
        broken[offset] ^= 0x10
        if offset in range(12, 16):  # reserved
            continue
        with pytest.raises(JournalDamagedError, match=f"{FOLDER}/{name}: "):
            decode_checkpoint(name, bytes(broken))
    for length in range(0, len(image), 101):
        with pytest.raises(JournalDamagedError, match="is damaged"):
            decode_checkpoint(name, image[:length])
    with pytest.raises(JournalDamagedError, match="is damaged at byte"):
        decode_checkpoint(name, image + b"more")


async def test_a_checkpoint_of_another_version_or_name() -> None:
    name, image = await a_checkpoint()
    newer = image[:8] + (2).to_bytes(4, "little") + image[12:]
    with pytest.raises(JournalDamagedError, match="has format version 2, this program reads"):
        decode_checkpoint(name, newer)
    with pytest.raises(JournalDamagedError, match="was renamed: it is of record"):
        decode_checkpoint(checkpoint_name(3), image)


class LyingDisk(CutDisk):
    """Writes something else than it was given, to files whose name has *where* in it."""

    where = "nowhere"
    instead = b""

    async def replace(self, path: str, data: bytes) -> None:
        await super().replace(path, self.instead if self.where in path else data)


async def test_a_checkpoint_that_does_not_read_back_is_removed_and_nothing_archived() -> None:
    disk = LyingDisk()
    life = await write_life(disk, 1, 100)
    records, segments = await payloads_of(disk), await segment_names(disk, FOLDER)
    ends = int(segments[-1][:20]) - 1
    for image in (b"", encode_checkpoint(life.state, sequence=ends, closed_orders=3)[:-8]):
        disk.where, disk.instead = "checkpoint", image
        with pytest.raises(JournalDamagedError, match=r"checkpoint-.*: is damaged"):
            await compact(disk, closed_orders=3)
        assert await checkpoint_names(disk) == []
        assert await segment_names(disk, FOLDER) == segments
    disk.where = "archive"
    with pytest.raises(JournalError, match=r"archive/0.*: does not hold what was written to it"):
        await compact(disk, closed_orders=3)
    assert await segment_names(disk, FOLDER) == segments
    disk.where = "nowhere"
    await compact(disk, closed_orders=3)
    assert await payloads_of(disk) == records


async def test_a_state_that_does_not_come_back_is_no_checkpoint() -> None:
    """An intent of an order that the cache does not have is in no checkpoint."""
    disk = CutDisk()
    state = (await write_life(disk, 1, 60)).state
    some = next(iter(state.intents.values()))
    state.intents[type(some.client_order_id)("0x" + "f" * 32)] = some
    with pytest.raises(JournalDamagedError, match="does not hold the state that was written"):
        await save_checkpoint(disk, state, sequence=state.sequence, closed_orders=3)
    assert (await find_checkpoint(disk)).newest is None


async def test_an_archived_segment_that_is_broken_is_written_again() -> None:
    """As long as the segment itself is there: the power went before it was removed."""
    disk = CutDisk()
    await write_life(disk, 1, 100)
    name = (await segment_names(disk, FOLDER))[0]
    for broken in (b"", b"not packed at all", (await disk.read(f"{FOLDER}/{name}"))):
        await disk.replace(f"{ARCHIVE}/{name}.gz", broken)
        assert await payloads_of(disk)
    await compact(disk, closed_orders=3)
    found = await verify(disk, closed_orders=3)
    assert found.problems == []


async def test_verification_compares_with_what_the_checkpoint_remembers() -> None:
    disk = CutDisk()
    await write_life(disk, 1, 150)
    await compact(disk, closed_orders=1)
    found = await verify(disk, closed_orders=50)
    assert found.problems == []
    assert found.remarks == ["replay from the checkpoint leads to the same as the whole history"]
    assert found.state is not None
    assert differences(found.state, await load_state(disk, closed_orders=50)) == []


async def test_a_checkpoint_of_another_journal_differs() -> None:
    disk, other = CutDisk(), CutDisk()
    await write_life(disk, 1, 150)
    await write_life(other, 2, 150)
    await compact(disk, closed_orders=3)
    (name,) = await checkpoint_names(disk)
    stranger = await load_state(other, closed_orders=3)
    sequence = int(name.removeprefix("checkpoint-")[:20])
    image = encode_checkpoint(stranger, sequence=sequence, closed_orders=3)
    await disk.replace(f"{FOLDER}/{name}", image)
    (problem,) = (await verify(disk, closed_orders=3)).problems
    assert problem.startswith("replay from the checkpoint differs from the whole history")
