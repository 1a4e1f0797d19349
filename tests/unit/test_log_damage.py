"""Damage: every kind is named once and for all, everything else is kept, torn writes are none."""

from __future__ import annotations

import errno
import os
import random

import pytest

from tests.harness.logs import (
    FOLDER,
    SMALL,
    fill,
    found,
    inspected,
    opened,
    payload_of,
    reopened,
    written,
)
from zq_daemon.log import Damage, LogSettings, Opening
from zq_daemon.log.advice import advice
from zq_daemon.log.frame import Kind, encode_proof, encode_record, frame_bytes
from zq_daemon.log.segment import HEADER_BYTES, first_of
from zq_daemon.ports.disk import MemoryDisk
from zq_daemon.ports.rng import seeded_rng

COUNT = 60
CAPACITY = SMALL.segment_bytes


async def full_log() -> tuple[MemoryDisk, list[str]]:
    """A log of some segments, closed, and their paths."""
    disk = MemoryDisk()
    await fill(disk, COUNT)
    names = [name for name in await disk.list(FOLDER) if first_of(name)]
    assert len(names) >= 3
    return disk, [f"{FOLDER}/{name}" for name in names]


def first_in(path: str) -> int:
    return first_of(path.rpartition("/")[2])


async def offset_of(disk: MemoryDisk, path: str, sequence: int) -> int:
    """Where the frame of a record is."""
    data = await disk.read(path)
    frames = (
        encode_record(sequence, durable, payload_of(sequence))
        for durable in range(sequence - 1, -1, -1)
    )
    return next(offset for frame in frames if (offset := data.find(frame)) > 0)


def used(disk: MemoryDisk, path: str) -> int:
    """Where the free space of a segment begins."""
    return len(disk.durable(path).rstrip(b"\0")) + 7 & -8


def flip(disk: MemoryDisk, path: str, bit: int) -> None:
    byte = disk.durable(path)[bit // 8] ^ 1 << bit % 8
    disk.damage(path, bit // 8, bytes([byte]))


def expected_without(*lost: int) -> dict[int, bytes]:
    return {n: payload_of(n) for n in range(1, COUNT + 1) if n not in lost}


async def check_lasting(disk: MemoryDisk, damages: tuple[Damage, ...]) -> Opening:
    """Looking, opening, writing on and opening again all name the same damage."""
    assert (await inspected(disk)).damages == damages
    async with written(disk) as log:
        assert log.opening.damages == damages
        await log.durable(log.write(b"after"))
    assert (await inspected(disk)).damages == damages
    opening = await reopened(disk)
    assert opening.damages == damages
    return opening


async def test_a_sound_log_has_nothing_to_report() -> None:
    disk, paths = await full_log()
    opening = await reopened(disk)
    assert opening == Opening(
        folder=FOLDER,
        segments=tuple(path.removeprefix(f"{FOLDER}/") for path in paths),
        first_sequence=1,
        last_sequence=COUNT,
    )
    assert await inspected(disk) == opening
    assert await found(disk) == expected_without()


async def test_a_broken_record_is_named_and_the_others_are_kept() -> None:
    disk, paths = await full_log()
    lost = first_in(paths[1]) + 3
    start = await offset_of(disk, paths[1], lost)
    end = start + frame_bytes(len(payload_of(lost)))
    disk.damage(paths[1], start + 8, b"\xff")
    raw = disk.durable(paths[1])[start:end]
    damage = Damage(
        file=paths[1],
        start=start,
        end=end,
        first_sequence=lost,
        last_sequence=lost,
        reason="no sound record",
    )
    await check_lasting(disk, (damage,))
    assert await found(disk) == expected_without(lost) | {COUNT + 1: b"after"}
    assert await disk.list(f"{FOLDER}/quarantine") == (
        f"{paths[1].removeprefix(f'{FOLDER}/').removesuffix('.log')}-{start}.bin",
    )
    (name,) = await disk.list(f"{FOLDER}/quarantine")
    assert await disk.read(f"{FOLDER}/quarantine/{name}") == raw
    assert disk.durable(paths[1])[start:end] == raw
    assert str(damage) == (
        f"{paths[1]}, bytes {start} to {end}: no sound record; record {lost} is lost"
    )


async def test_a_broken_last_record_of_a_closed_log_is_named() -> None:
    disk, paths = await full_log()
    disk.damage(paths[-1], await offset_of(disk, paths[-1], COUNT) + 4, b"\xff")
    (damage,) = (await inspected(disk)).damages
    assert (damage.first_sequence, damage.last_sequence, damage.lost) == (COUNT, COUNT, 1)
    await check_lasting(disk, (damage,))


async def test_overwritten_records_are_one_damage() -> None:
    disk, paths = await full_log()
    first = first_in(paths[0]) + 2
    start, end = [await offset_of(disk, paths[0], n) for n in (first, first + 5)]
    disk.damage(paths[0], start, random.Random(1).randbytes(end - start))
    (damage,) = (await inspected(disk)).damages
    assert (damage.start, damage.end) == (start, end)
    assert (damage.first_sequence, damage.last_sequence) == (first, first + 4)
    assert await found(disk) == expected_without(*range(first, first + 5))


async def test_zeros_among_records_are_damage() -> None:
    disk, paths = await full_log()
    lost = first_in(paths[1]) + 2
    start = await offset_of(disk, paths[1], lost)
    disk.damage(paths[1], start, bytes(frame_bytes(len(payload_of(lost)))))
    (damage,) = (await inspected(disk)).damages
    assert (damage.first_sequence, damage.lost) == (lost, 1)


async def test_a_truncated_segment_is_named() -> None:
    disk, paths = await full_log()
    lost = first_in(paths[1]) + 4
    start = await offset_of(disk, paths[1], lost)
    disk.shorten(paths[1], start + 10)
    (damage,) = (await inspected(disk)).damages
    assert damage.file == paths[1]
    assert (damage.start, damage.end) == (start, CAPACITY)
    assert (damage.first_sequence, damage.last_sequence) == (lost, first_in(paths[2]) - 1)
    assert "cut to" in damage.reason
    assert str(damage).endswith(f"; records from {lost} on are lost, {damage.lost} at most")
    await check_lasting(disk, (damage,))
    assert expected_without(*range(lost, first_in(paths[2]))).items() <= (await found(disk)).items()


@pytest.mark.parametrize("left", ["nothing", "half a header", "a header", "a record", "all but 8"])
async def test_a_truncated_last_segment_is_named_and_no_sequence_is_used_again(left: str) -> None:
    disk, paths = await full_log()
    first = first_in(paths[-1])
    size = {
        "nothing": 0,
        "half a header": 40,
        "a header": HEADER_BYTES,
        "a record": HEADER_BYTES + frame_bytes(len(payload_of(first))),
        "all but 8": CAPACITY - 8,
    }[left]
    kept = {"a record": [first], "all but 8": range(first, COUNT + 1)}.get(left, [])
    disk.shorten(paths[-1], size)
    damages = (await inspected(disk)).damages
    assert damages[-1].file == paths[-1]
    assert "cut to" in damages[-1].reason
    assert damages[-1].last_sequence >= COUNT
    opening = await check_lasting(disk, damages)
    records = await found(disk)
    assert max(records) == damages[-1].last_sequence + 1
    del records[max(records)]
    assert expected_without(*(set(range(first, COUNT + 1)) - set(kept))) == records
    assert opening.torn_bytes == 0


async def test_a_missing_segment_is_named() -> None:
    disk, paths = await full_log()
    await disk.remove(paths[1])
    damage = Damage(
        file=paths[1],
        start=0,
        end=0,
        first_sequence=first_in(paths[1]),
        last_sequence=first_in(paths[2]) - 1,
        reason="the file is missing",
    )
    await check_lasting(disk, (damage,))


async def test_a_missing_last_segment_is_named_by_the_seal_of_the_one_before() -> None:
    disk, paths = await full_log()
    await disk.remove(paths[-1])
    (damage,) = (await inspected(disk)).damages
    assert damage.file == paths[-1]
    assert damage.first_sequence == first_in(paths[-1])
    assert damage.last_sequence >= COUNT
    await check_lasting(disk, (damage,))


async def test_old_segments_may_be_removed() -> None:
    disk, paths = await full_log()
    await disk.remove(paths[0])
    opening = await reopened(disk)
    assert opening.damages == ()
    assert opening.first_sequence == first_in(paths[1])
    assert await found(disk) == expected_without(*range(1, first_in(paths[1])))


@pytest.mark.parametrize("which", [0, 1, -1])
@pytest.mark.parametrize("lost", ["a bit", "everything"])
async def test_a_broken_header_costs_no_record(which: int, lost: str) -> None:
    disk, paths = await full_log()
    if lost == "a bit":
        flip(disk, paths[which], 400)
    else:
        disk.damage(paths[which], 0, bytes(HEADER_BYTES))
    (damage,) = (await inspected(disk)).damages
    assert (damage.file, damage.start, damage.end) == (paths[which], 0, HEADER_BYTES)
    assert damage.lost == 0
    assert "header" in str(damage)
    assert "no record is lost" in str(damage)
    await check_lasting(disk, (damage,))
    assert expected_without().items() <= (await found(disk)).items()


async def test_a_segment_of_which_nothing_is_left_may_have_held_anything() -> None:
    disk, paths = await full_log()
    disk.damage(paths[-1], 0, bytes(CAPACITY))
    header, content = (await inspected(disk)).damages
    assert header.lost == 0
    assert content.file == paths[-1]
    assert content.first_sequence == first_in(paths[-1])
    assert content.last_sequence >= COUNT
    await check_lasting(disk, (header, content))


async def test_a_broken_mark_costs_nothing() -> None:
    disk, paths = await full_log()
    disk.damage(paths[-1], used(disk, paths[-1]) - 4, b"\xff")
    opening = await reopened(disk)
    assert opening.damages == ()
    assert 0 < opening.torn_bytes <= 24
    assert await found(disk) == expected_without()
    assert (await reopened(disk)).torn_bytes == 0


@pytest.mark.virtual  # it computes for long, however slow or busy the machine is
async def test_one_flipped_bit_anywhere_is_named_or_costs_nothing() -> None:
    disk, paths = await full_log()
    contents = {path: disk.durable(path) for path in paths}
    rng = random.Random(4)
    for path in paths:
        for byte in range(CAPACITY):
            disk = MemoryDisk()
            for each, content in contents.items():
                await disk.replace(each, content)
            flip(disk, path, byte * 8 + rng.randrange(8))
            opening = await reopened(disk)
            lost = {
                sequence
                for damage in opening.damages
                for sequence in range(damage.first_sequence, damage.last_sequence + 1)
            }
            assert await found(disk) == expected_without(*lost), (path, byte)
            assert len(lost) <= 1
            assert opening.last_sequence == COUNT


async def test_accepted_damage_is_listed_apart_from_then_on() -> None:
    disk, paths = await full_log()
    disk.damage(paths[1], HEADER_BYTES, b"\xff\xff")
    async with opened(disk) as log:
        accepted = await log.accept_damage()
        assert len(accepted) == 1
        assert log.opening.damages == ()
        assert log.opening.accepted == accepted
    disk.power_cut()
    assert (await inspected(disk)).accepted == accepted
    flip(disk, paths[0], 400)
    opening = await reopened(disk)
    assert opening.accepted == accepted
    assert [damage.file for damage in opening.damages] == [paths[0]]
    async with opened(disk) as log:
        assert len(await log.accept_damage()) == 1
    assert len((await reopened(disk)).accepted) == 2


async def test_a_broken_list_of_accepted_damage_accepts_nothing() -> None:
    disk, paths = await full_log()
    flip(disk, paths[1], 400)
    async with opened(disk) as log:
        await log.accept_damage()
    disk.damage(f"{FOLDER}/accepted.json", 0, b"?")
    assert len((await reopened(disk)).damages) == 1


async def torn(disk: MemoryDisk, groups: list[int]) -> str:
    """Write records in one unsynced commit behind three durable ones; only *groups* survive.

    The records are a sector each or more, so that one can be lost alone.
    """
    settings = LogSettings(segment_bytes=16_384, max_payload_bytes=1_024)
    async with written(disk, settings=settings) as log:
        for _ in range(3):
            await log.durable(log.write(b"a" * 488))
    (name,) = [name for name in await disk.list(FOLDER) if first_of(name)]
    path = f"{FOLDER}/{name}"
    end = used(disk, path)
    frames = [encode_record(4 + n, 3, b"%d" % n * 488) for n in range(5)]
    for number in groups:
        disk.damage(path, end + number * 512, frames[number])
    disk.damage(path, end + 5 * 512 - 100, b"rest")
    return path


@pytest.mark.parametrize(
    ("survived", "last", "gaps"),
    [
        ([], 3, ()),
        ([0, 1], 5, ()),
        ([1, 3], 7, ((4, 7),)),
        ([0, 3], 7, ((5, 7),)),
        ([0, 1, 3], 7, ((6, 7),)),
        ([2], 6, ((4, 6),)),
    ],
)
async def test_a_torn_write_is_no_damage_and_counts_up_to_its_first_hole(
    survived: list[int], last: int, gaps: tuple[tuple[int, int], ...]
) -> None:
    disk = MemoryDisk()
    await torn(disk, survived)
    for look in (inspected, reopened):
        opening = await look(disk)
        assert opening.damages == ()
        assert opening.last_sequence == last
        assert opening.gaps == gaps
        assert opening.torn_bytes > 0
    async with written(disk) as log:
        assert log.opening.torn_bytes == 0
        assert log.opening.gaps == gaps
        assert log.write(b"after") == last + 1
        await log.durable()
    opening = await reopened(disk)
    assert (opening.damages, opening.gaps, opening.torn_bytes) == ((), gaps, 0)
    wanted = dict.fromkeys((1, 2, 3), b"a" * 488)
    first_torn = gaps[0][0] if gaps else last + 1
    wanted |= {4 + n: b"%d" % n * 488 for n in survived if 4 + n < first_torn}
    assert await found(disk) == wanted | {last + 1: b"after"}


async def test_a_reader_and_the_writer_stop_at_the_same_hole_in_an_unfinished_write() -> None:
    disk = MemoryDisk()
    await torn(disk, [0, 2])
    assert list(await found(disk)) == [1, 2, 3, 4]
    await reopened(disk)
    assert list(await found(disk)) == [1, 2, 3, 4]


async def test_what_a_killed_process_wrote_but_did_not_sync_is_made_durable() -> None:
    disk = MemoryDisk()
    await fill(disk, 3)
    (name,) = [name for name in await disk.list(FOLDER) if first_of(name)]
    path = f"{FOLDER}/{name}"
    file = await disk.open(path)
    end = used(disk, path)
    await file.write(end, encode_record(4, 3, b"unsynced"))
    disk.kill()
    assert (await reopened(disk)).last_sequence == 4
    disk.power_cut(seeded_rng(1))
    assert (await found(disk))[4] == b"unsynced"


async def test_a_mark_that_a_killed_process_did_not_sync_is_made_durable() -> None:
    disk = MemoryDisk()
    await fill(disk, 1)
    (name,) = [name for name in await disk.list(FOLDER) if first_of(name)]
    path = f"{FOLDER}/{name}"
    mark = encode_proof(Kind.MARK, 1)
    start = used(disk, path) - len(mark)
    disk.damage(path, start, bytes(len(mark)))
    file = await disk.open(path)
    await file.write(start, mark)
    disk.kill()
    await fill(disk, 1)
    disk.power_cut()
    assert (await reopened(disk)).damages == ()


async def test_segments_that_claim_the_same_records_are_named_and_read_once() -> None:
    disk, paths = await full_log()
    other = MemoryDisk()
    settings = LogSettings(segment_bytes=4_096, max_payload_bytes=128)
    await fill(other, COUNT, settings=settings)
    others = [name for name in await other.list(FOLDER) if first_of(name)]
    await disk.replace(paths[0], await other.read(f"{FOLDER}/{others[0]}"))
    opening = await reopened(disk)
    assert [damage.file for damage in opening.damages][:1] == [paths[0]]
    assert "goes beyond" in opening.damages[0].reason
    assert await found(disk) == expected_without()


async def test_the_start_of_a_segment_proves_what_was_before_it_durable() -> None:
    disk = MemoryDisk()
    async with written(disk) as log:
        for count in (3, 4, 1):
            for _ in range(count):
                log.write(b"x" * 100)
            await log.durable()
    first, second = [f"{FOLDER}/{name}" for name in await disk.list(FOLDER) if first_of(name)]
    disk.damage(second, HEADER_BYTES, bytes(CAPACITY - HEADER_BYTES))
    disk.damage(first, used(disk, first) - 24, bytes(24))
    disk.damage(first, HEADER_BYTES + 3 * 128 + 8, b"\xff")
    (damage,) = (await inspected(disk)).damages
    assert (damage.first_sequence, damage.last_sequence) == (4, 4)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, ": free space"),
        (errno.EROFS, ": mount that disk writable"),
        (errno.ENOENT, ""),
    ],
)
def test_an_error_of_the_disk_says_what_to_do(number: int, said: str) -> None:
    told = advice(OSError(number, os.strerror(number)))
    assert told.startswith(said)
    assert bool(told) is bool(said)
