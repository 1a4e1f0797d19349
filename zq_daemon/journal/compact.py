"""Compaction: what a checkpoint covers goes to the archive, compressed, so that starts stay quick.

Owns the order of things, in which nothing is ever lost, whatever happens in between: the checkpoint
is written and read back first, then each segment is written to the archive, read back and compared,
and only then removed. It touches complete segments only, never the one that is written to, and
none that a registered consumer has not read; so it may run beside a daemon. Done again after a
crash it goes on where it was. Live orders are in the checkpoint. Called by the command line.
"""

from __future__ import annotations

from attrs import frozen

from zq_daemon.errors import JournalError, JournalUnavailableError
from zq_daemon.journal.checkpoint import Found, find_checkpoint, save_checkpoint
from zq_daemon.journal.consumers import consumers
from zq_daemon.journal.files import (
    ARCHIVE,
    COMPACT_LOCK,
    FOLDER,
    KIND,
    archived_name,
    archived_names,
    checkpoint_names,
    require_journal,
)
from zq_daemon.journal.opening import refuse_damage, replay_from
from zq_daemon.journal.read import journal_errors, pack_segment, unpack_segment
from zq_daemon.log.read import inspect_log
from zq_daemon.log.segment import first_of
from zq_daemon.log.survey import open_scan, segment_names
from zq_daemon.ports.disk import Disk

_CHECKPOINTS = 2
"""How many are kept: the one before the newest is there if that gets damaged."""


@frozen(kw_only=True)
class Compacted:
    """What was done: *checkpoint* is the new one (None: none), *segments* went to the archive.

    *limit* says what kept the rest from it; *damaged* what is wrong with older checkpoints.
    """

    checkpoint: str | None
    segments: tuple[str, ...]
    removed: tuple[str, ...]
    limit: str
    damaged: tuple[str, ...]


async def compact(disk: Disk, *, closed_orders: int) -> Compacted:
    """Write a checkpoint that remembers *closed_orders*, and archive what it covers.

    JournalError when the journal is damaged, another compaction runs, or what was written does not
    read back; nothing is lost then.
    """
    with journal_errors():
        await require_journal(disk)
        try:
            lock = await disk.lock(COMPACT_LOCK)
        except BlockingIOError as error:
            raise JournalUnavailableError(
                f"{COMPACT_LOCK} is {error.strerror}: another compaction runs; wait for its end"
            ) from error
        try:
            return await _compact(disk, closed_orders)
        finally:
            await lock.aclose()


async def _compact(disk: Disk, closed_orders: int) -> Compacted:
    refuse_damage(await inspect_log(disk, FOLDER, kind=KIND))
    segments = await segment_names(disk, FOLDER)
    upto, limit = await _limit(disk, segments)
    found = await find_checkpoint(disk)
    made = None
    if found.newest is None or upto > found.newest.checkpoint.sequence:
        made = await _checkpoint(disk, found, upto, closed_orders) if upto else None
    moved = [name for name, end in _ends(segments) if end <= upto]
    for name in moved:
        await _archive(disk, name)
    return Compacted(
        checkpoint=made,
        segments=tuple(moved),
        removed=await _prune(disk) if made else (),
        limit=limit,
        damaged=found.damaged,
    )


def _ends(segments: list[str]) -> list[tuple[str, int]]:
    """Each segment but the last with the last sequence it may hold."""
    followers = (first_of(name) for name in segments[1:])
    return [(name, first - 1) for name, first in zip(segments, followers, strict=False)]


async def _limit(disk: Disk, segments: list[str]) -> tuple[int, str]:
    """Up to which record segments may go, and what keeps the next one."""
    upto = 0
    positions = await consumers(disk)
    slowest = min(positions, key=lambda name: positions[name], default=None)
    for name, end in _ends(segments):
        if slowest is not None and positions[slowest] < end:
            return upto, (
                f"consumer {slowest!r} is at record {positions[slowest]}, and {name} goes to {end}"
            )
        # The writer seals a segment right after it began the next one.
        is_last_full = name == segments[-2]
        if is_last_full and not await _is_sealed(disk, name):
            return upto, f"{name} is not sealed yet"
        upto = end
    return (
        upto,
        f"{segments[-1]} is the last segment and stays" if segments else "there is no segment",
    )


async def _is_sealed(disk: Disk, name: str) -> bool:
    scan = await open_scan(disk, FOLDER, name, kind=KIND)
    for _ in scan.batches():
        pass
    return scan.sealed


async def _checkpoint(disk: Disk, found: Found, upto: int, closed_orders: int) -> str:
    state = await replay_from(disk, found, closed_orders=closed_orders, up_to=upto)
    saved = await save_checkpoint(disk, state, sequence=upto, closed_orders=closed_orders)
    return saved.name


async def _archive(disk: Disk, name: str) -> None:
    """Move a segment: it is in both places for a while, never in none."""
    data = await disk.read(f"{FOLDER}/{name}")
    packed_name = archived_name(name)
    path = f"{ARCHIVE}/{packed_name}"
    if packed_name not in await archived_names(disk) or await _unpacked(disk, packed_name) != data:
        await disk.replace(path, pack_segment(data))
        if await _unpacked(disk, packed_name) != data:
            raise JournalError(f"{path}: does not hold what was written to it: {name} stays")
    await disk.remove(f"{FOLDER}/{name}")


async def _unpacked(disk: Disk, name: str) -> bytes | None:
    try:
        return unpack_segment(name, await disk.read(f"{ARCHIVE}/{name}"))
    except JournalError:
        return None


async def _prune(disk: Disk) -> tuple[str, ...]:
    """Remove all but the newest checkpoints; the one just made was verified."""
    old = (await checkpoint_names(disk))[:-_CHECKPOINTS]
    for name in old:
        await disk.remove(f"{FOLDER}/{name}")
    return tuple(old)
