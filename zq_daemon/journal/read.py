"""Reads the whole journal, archived segments too, without a lock and without changing anything.

Owns nothing. Replay, verification, dumps, compaction and the history read through it.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing, contextmanager

import trio

from zq_daemon.errors import JournalDamagedError, JournalError, LogError, LogVersionError
from zq_daemon.journal.files import (
    ARCHIVE,
    FOLDER,
    KIND,
    archived_names,
    sequence_of,
)
from zq_daemon.log.read import read_log
from zq_daemon.log.report import Damage, read_accepted
from zq_daemon.log.segment import MAX_SEGMENT_BYTES, Batch, Scan, decode_header, first_of
from zq_daemon.log.survey import segment_names
from zq_daemon.ports.disk import Disk


async def read_journal(
    disk: Disk, *, after: int = 0, archive: bool = True
) -> AsyncGenerator[Batch, None]:
    """The records after *after* in order, a few thousand at a time; *archive*: archived ones too.

    What was damaged and accepted is left out: the next batch's first sequence then jumps. Exhaust
    it, or close it. Raises JournalError for files that cannot be read, and when records after
    *after* are missing, which a compaction beside the reader may cause as well.
    """
    with journal_errors():
        segments = await segment_names(disk, FOLDER)
        first = first_of(segments[0]) if segments else 1
        if archive and after + 1 < first:
            async with aclosing(_archived(disk, after, first)) as batches:
                async for batch in batches:
                    yield batch
            after = first - 1
        async with aclosing(read_log(disk, FOLDER, kind=KIND, after=after)) as batches:
            async for batch in batches:
                yield batch


async def read_up_to(
    batches: AsyncGenerator[Batch, None], sequence: int
) -> AsyncGenerator[Batch, None]:
    """*batches*, which are closed, without the records behind *sequence*."""
    async with aclosing(batches):
        async for batch in batches:
            if batch.last_sequence <= sequence:
                yield batch
                continue
            wanted = max(0, sequence + 1 - batch.first_sequence)
            if wanted:
                yield Batch(first_sequence=batch.first_sequence, payloads=batch.payloads[:wanted])
            return


@contextmanager
def journal_errors() -> Iterator[None]:
    """What the log or the disk says becomes a JournalError; a newer version stays what it is."""
    try:
        yield
    except LogVersionError:
        raise
    except LogError as error:
        raise JournalError(f"the journal cannot be read: {error}") from error
    except OSError as error:
        raise JournalError(f"the journal cannot be read: {FOLDER}: {error}") from error


def unpack_segment(name: str, packed: bytes) -> bytes:
    """The bytes of the archived segment *name*; JournalError when they are damaged."""
    try:
        unpacker = zlib.decompressobj(wbits=31)
        data = unpacker.decompress(packed, MAX_SEGMENT_BYTES)
    except zlib.error as error:
        raise _damaged(name, str(error)) from error
    if not unpacker.eof:
        raise _damaged(name, "it is cut short, or larger than a segment can be")
    return data


def pack_segment(data: bytes) -> bytes:
    """A segment as it is archived; the same bytes give the same file."""
    return gzip.compress(data, compresslevel=6, mtime=0)


async def _archived(disk: Disk, after: int, stop: int) -> AsyncGenerator[Batch, None]:
    """The archived records behind *after* and before *stop*."""
    names = [name for name in await archived_names(disk) if sequence_of(name) < stop]
    accepted = await read_accepted(disk, FOLDER)
    known = after
    following = [*(sequence_of(each) for each in names), stop][1:]
    for name, end in zip(names, following, strict=True):
        if end <= known + 1:
            continue
        if sequence_of(name) > known + 1:
            break
        scan = _scan(name, await disk.read(f"{ARCHIVE}/{name}"))
        for batch in scan.batches():
            await trio.lowlevel.checkpoint()
            if (new := batch.behind(known)) is not None:
                known = new.last_sequence
                yield new
        if known + 1 < end and not _explains(scan, accepted, end - 1):
            break
        known = end - 1
    if known + 1 < stop:
        raise JournalDamagedError(
            f"the journal cannot be read: records {known + 1} to {stop - 1} are neither in "
            f"{FOLDER} nor in {ARCHIVE}: put the files that are missing back"
        )


def _explains(scan: Scan, accepted: Iterable[Damage], last: int) -> bool:
    """Whether it is known why a segment does not reach to *last*."""
    return scan.next > last or any(each.last_sequence >= last for each in accepted)


def _scan(name: str, packed: bytes) -> Scan:
    segment = name.removesuffix(".gz")
    data = unpack_segment(name, packed)
    header = decode_header(data, f"{ARCHIVE}/{name}")
    if header is not None and header.kind != KIND:
        raise LogError(f"{ARCHIVE}/{name}: is of a {header.kind!r} log: move it elsewhere")
    return Scan(segment, data, header)


def _damaged(name: str, reason: str) -> JournalDamagedError:
    return JournalDamagedError(
        f"{ARCHIVE}/{name}: is damaged ({reason}): restore it from a backup; replay needs it only "
        "where checkpoints are missing"
    )
