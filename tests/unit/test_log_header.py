"""Segments that are none, or none of ours: each is named, and nothing is changed."""

from __future__ import annotations

import random
import struct
import zlib

import pytest

from tests.harness.logs import FOLDER, KIND, SMALL, fill, found, inspected, opened, reopened
from zq_daemon.errors import LogError, LogVersionError
from zq_daemon.log import open_log
from zq_daemon.log.segment import (
    HEADER_BYTES,
    Header,
    decode_header,
    first_of,
    segment_name,
)
from zq_daemon.ports.disk import MemoryDisk

HEADER = Header(kind="journal", log_id=bytes(range(16)), first_sequence=7, capacity=4_096)
FIRST = f"{FOLDER}/{segment_name(1)}"


async def contents(disk: MemoryDisk) -> dict[str, bytes]:
    return {
        name: await disk.read(f"{FOLDER}/{name}")
        for name in await disk.list(FOLDER)
        if name != "lock"
    }


async def check_refused(disk: MemoryDisk, message: str, error: type[LogError] = LogError) -> None:
    """Looking and opening both refuse, by *error*, and change nothing."""
    before = await contents(disk)
    with pytest.raises(error, match=message):
        await inspected(disk)
    with pytest.raises(error, match=message):
        await reopened(disk)
    assert await contents(disk) == before


def rewritten(header: bytes, offset: int, value: bytes) -> bytes:
    """A header with other content and a checksum that fits."""
    body = header[:offset] + value + header[offset + len(value) : HEADER_BYTES - 8]
    return body + struct.pack("<Q", zlib.crc32(body))


def test_a_header_survives() -> None:
    assert len(HEADER.encode()) == HEADER_BYTES
    assert decode_header(HEADER.encode() + bytes(100), "x") == HEADER


@pytest.mark.parametrize("bit", range(HEADER_BYTES * 8))
def test_every_flipped_bit_of_a_header_is_noticed(bit: int) -> None:
    broken = bytearray(HEADER.encode() + bytes(1_000))
    broken[bit // 8] ^= 1 << bit % 8
    assert decode_header(bytes(broken), "x") is None


@pytest.mark.parametrize("size", range(HEADER_BYTES))
def test_a_part_of_a_header_is_none(size: int) -> None:
    assert decode_header(HEADER.encode()[:size], "x") is None


def test_a_segment_is_named_by_its_first_sequence() -> None:
    assert segment_name(42) == "00000000000000000042.log"
    assert first_of(segment_name(42)) == 42
    for name in ("lock", "next.log", "42.log", "0000000000000000004x.log", segment_name(0)):
        assert first_of(name) == 0


async def test_a_newer_format_is_left_alone() -> None:
    disk = MemoryDisk()
    await fill(disk, 3)
    newer = rewritten(disk.durable(FIRST), 8, struct.pack("<I", 2))
    disk.damage(FIRST, 0, newer)
    message = f"{FIRST}: has format version 2, .* version 1: nothing was changed; run the program"
    await check_refused(disk, message, LogVersionError)
    with pytest.raises(LogVersionError, match=message):
        await found(disk)


async def test_a_newer_format_with_a_longer_header_is_left_alone() -> None:
    disk = MemoryDisk()
    await fill(disk, 3)
    body = struct.pack("<8sII", b"zq-log\r\n", 3, 128) + bytes(112)
    disk.damage(FIRST, 0, body + struct.pack("<Q", zlib.crc32(body)))
    await check_refused(disk, "has format version 3", LogVersionError)


async def test_a_sound_header_of_something_else_is_refused() -> None:
    disk = MemoryDisk()
    await fill(disk, 3)
    disk.damage(FIRST, 0, rewritten(disk.durable(FIRST), 0, b"tk-table"))
    await check_refused(disk, f"{FIRST}: is no segment of a log of this program")


async def test_a_log_of_another_kind_is_refused() -> None:
    disk = MemoryDisk()
    await fill(disk, 3)
    with pytest.raises(LogError, match=f"{FIRST}: is of a 'test' log, not of a 'journal' log"):
        async with open_log(disk, FOLDER, kind="journal", settings=SMALL, rng=random.Random(1)):
            pass


async def test_a_segment_of_another_log_is_refused() -> None:
    disk, other = MemoryDisk(), MemoryDisk()
    await fill(disk, 60)
    async with opened(other, seed=2):
        pass
    last = max(name for name in await disk.list(FOLDER) if first_of(name))
    header = Header(
        kind=KIND, log_id=b"another log's id", first_sequence=first_of(last), capacity=1_024
    )
    disk.damage(f"{FOLDER}/{last}", 0, header.encode())
    await check_refused(disk, f"{last}: belongs to another log than the segments before it")


async def test_each_log_has_an_id_of_its_own_and_its_segments_share_it() -> None:
    ids = set()
    for seed in (1, 2):
        disk = MemoryDisk()
        async with opened(disk, seed=seed):
            pass
        await fill(disk, 60)
        names = [name for name in await disk.list(FOLDER) if first_of(name)]
        headers = [decode_header(await disk.read(f"{FOLDER}/{name}"), name) for name in names]
        (log_id,) = {header.log_id for header in headers if header is not None}
        assert len(headers) > 2
        ids.add(log_id)
    assert len(ids) == 2


async def test_a_renamed_segment_is_refused() -> None:
    disk = MemoryDisk()
    await fill(disk, 3)
    await disk.rename(FIRST, f"{FOLDER}/{segment_name(2)}")
    await check_refused(disk, f"was renamed: it is {segment_name(1)} by its header; rename it")


async def test_a_file_that_is_no_segment_is_refused() -> None:
    disk = MemoryDisk()
    await disk.replace(FIRST, b"Dear diary, " * 100)
    await check_refused(disk, f"{FIRST}: is no segment of a log: move it elsewhere")


async def test_a_file_too_large_for_a_segment_is_refused() -> None:
    disk = MemoryDisk()
    await (await disk.create(FIRST, (1 << 28) + 1)).aclose()
    with pytest.raises(LogError, match=f"{FIRST}: is larger than a segment can be"):
        await inspected(disk)


async def test_other_files_in_the_folder_are_left_alone() -> None:
    disk = MemoryDisk()
    for name in ("README", "00000000000000000000.log", "1.log", "accepted.json.bak"):
        await disk.replace(f"{FOLDER}/{name}", b"x")
    await fill(disk, 3)
    assert len(await found(disk)) == 3
    assert await disk.read(f"{FOLDER}/README") == b"x"


async def test_a_segment_overwritten_among_others_is_damage_and_no_error() -> None:
    disk = MemoryDisk()
    await fill(disk, 60)
    disk.damage(FIRST, 0, random.Random(1).randbytes(1_024))
    opening = await reopened(disk)
    assert {damage.file for damage in opening.damages} == {FIRST}
    assert min(await found(disk)) == opening.damages[-1].last_sequence + 1


async def test_what_was_made_ahead_and_never_used_is_no_segment() -> None:
    disk = MemoryDisk()
    await fill(disk, 3)
    await disk.replace(f"{FOLDER}/next.log", HEADER.encode() + bytes(100))
    assert (await reopened(disk)).segments == (segment_name(1),)
    assert "next.log" not in await disk.list(FOLDER)
    await fill(disk, 60)
    assert len(await found(disk)) == 63
