"""Reads a log without its lock and without changing it: beside the daemon that writes it, too.

Owns nothing. Replay, verification, dumps and compaction read through it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

import trio

from zq_daemon.errors import LogError
from zq_daemon.log.advice import advice
from zq_daemon.log.report import Opening
from zq_daemon.log.segment import Batch, Scan, first_of
from zq_daemon.log.survey import open_scan, segment_names, take_survey
from zq_daemon.ports.disk import Disk


async def inspect_log(disk: Disk, folder: str, *, kind: str) -> Opening:
    """What opening the log would find; nothing is changed.

    Beside a writer, its unfinished write may be reported as torn. Raises LogError.
    """
    with disk_errors(folder, "cannot be read"):
        survey = await take_survey(disk, folder, kind=kind)
        if not survey.scans:
            raise LogError(f"log {folder}: there is none")
        return await survey.report(disk)


async def read_log(
    disk: Disk, folder: str, *, kind: str, after: int | None = None
) -> AsyncGenerator[Batch, None]:
    """The records after *after* (None: all that are kept), in order, a few thousand at a time.

    What is damaged or torn is left out: the next batch's first sequence then jumps. It ends at the
    last whole record; a hole in an unfinished write ends it as well, be the writer alive or not.
    Exhaust it, or close it. Raises LogError, also when records after *after* were removed.
    """
    with disk_errors(folder, "cannot be read"):
        names = await segment_names(disk, folder)
        if not names:
            raise LogError(f"log {folder}: there is none")
        last = first_of(names[0]) - 1 if after is None else after
        if first_of(names[0]) > last + 1:
            raise _removed(folder, last, first_of(names[0]))
        for number, name in enumerate(names):
            is_last = number + 1 == len(names)
            if not is_last and first_of(names[number + 1]) <= last + 1:
                continue
            scan = await _scan(disk, folder, name, last, kind=kind)
            held: list[Batch] = []
            for batch in scan.batches():
                await trio.lowlevel.checkpoint()
                if (new := batch.behind(last)) is None:
                    continue
                last = new.last_sequence
                if is_last:
                    held.append(new)
                else:
                    yield new
            for batch in _finished(scan, held):
                yield batch


@contextmanager
def disk_errors(folder: str, what: str) -> Iterator[None]:
    """An OSError becomes a LogError that names the log in *folder*."""
    try:
        yield
    except OSError as error:
        raise LogError(f"log {folder}: {what}: {error}{advice(error)}") from error


async def _scan(disk: Disk, folder: str, name: str, after: int, *, kind: str) -> Scan:
    try:
        return await open_scan(disk, folder, name, kind=kind)
    except FileNotFoundError:
        names = await segment_names(disk, folder)
        raise _removed(folder, after, first_of(names[0]) if names else 0) from None


def _removed(folder: str, after: int, first: int) -> LogError:
    kept = f"those from {first} on are kept" if first else "none are kept"
    return LogError(
        f"log {folder}: the records after {after} were removed, {kept}: start from a snapshot that"
        " covers what was removed"
    )


def _finished(scan: Scan, batches: list[Batch]) -> Iterator[Batch]:
    """Those before the first hole that is no damage: behind it a write may be under way."""
    durable = max(scan.durable, scan.first - 1)
    unfinished = (hole.first for hole in scan.holes if hole.first > durable)
    stop = next(unfinished, scan.next)
    for batch in batches:
        if batch.first_sequence < stop:
            yield batch
