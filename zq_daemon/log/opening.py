"""Opens a log for its one writer: lock, survey, quarantine, mend, and the end to write on at.

Owns what opening changes on disk, and its order: raw bytes of damage are copied aside; then, in one
synced write, everything at the end that nothing proves to be durable is written again (a killed
process may have left it in memory only), all from a torn hole on becomes a gap frame that says
which sequences never were durable, and a torn end becomes zeros. No record that counts is ever
touched, and no damaged byte: damage is found again at the next opening. Where a segment cannot be
written on (it was cut, or its successor is gone) a new one begins, past every sequence that may
have been used.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import trio

from zq_daemon.errors import LogError, LogInUseError
from zq_daemon.log.frame import encode_gap
from zq_daemon.log.log import Log, LogSettings
from zq_daemon.log.read import disk_errors
from zq_daemon.log.report import Damage, Opening
from zq_daemon.log.segment import ID_BYTES
from zq_daemon.log.survey import OnBatch, Survey, take_survey
from zq_daemon.log.tail import Stamp, Tail
from zq_daemon.ports.disk import Disk, Lock
from zq_daemon.ports.rng import Rng

_LOCK = "lock"
_QUARANTINE = "quarantine"


@asynccontextmanager
async def open_log(
    disk: Disk,
    folder: str,
    *,
    kind: str,
    settings: LogSettings,
    rng: Rng,
    on_batch: OnBatch | None = None,
    check: Callable[[Opening], None] | None = None,
) -> AsyncIterator[Log]:
    """The log in *folder*, new or found, to be written by its `run`; closed on leaving.

    *on_batch* gets every sound record once, in order, before the log is there: one pass verifies
    and replays. Damage is reported in `Log.opening`, never raised; *check* may refuse what was
    found, by raising, before anything is written behind it: files that are then put back fit.
    Raises LogError: in use, of another kind or a newer format, or a disk that cannot be read or
    written.
    """
    lock = await _lock(disk, folder)
    try:
        with disk_errors(folder, "cannot be opened"):
            survey = await take_survey(disk, folder, kind=kind, on_batch=on_batch)
            opening = await survey.report(disk)
            await _quarantine(disk, folder, opening.damages)
        if check is not None:
            check(opening)
        log_id = survey.log_id or rng.randbytes(ID_BYTES)
        stamp = Stamp(kind=kind, log_id=log_id, capacity=settings.segment_bytes)
        async with _open_tail(Tail(disk, folder, stamp), survey) as tail:
            log = Log(tail, settings, opening, first=survey.end, proven=survey.durable)
            try:
                yield log
            finally:
                log.end()
    finally:
        await _close(lock)


@asynccontextmanager
async def _open_tail(tail: Tail, survey: Survey) -> AsyncIterator[Tail]:
    try:
        with disk_errors(tail.folder, "cannot be opened"):
            await tail.clear()
            start, image = _mended(survey)
            if survey.goes_on:
                await tail.resume(survey.scans[-1], start, image)
            else:
                await _write(tail, survey, start, image)
                await tail.roll(survey.end)
        survey.release()
        yield tail
    finally:
        await _close(tail)


def _mended(survey: Survey) -> tuple[int, bytes]:
    """What to write where in the last segment before the log goes on."""
    if not survey.scans:
        return 0, b""
    scan = survey.scans[-1]
    start = scan.offset_behind(survey.durable)
    image = bytearray(scan.data[start : scan.end])
    if (torn := survey.torn()) is not None:
        gap = encode_gap(torn.first, torn.last, scan.data[torn.start : torn.end])
        image[torn.start - start : torn.end - start] = gap
    if survey.goes_on:
        image += bytes(max(0, scan.used - scan.end))
    return start, bytes(image)


async def _write(tail: Tail, survey: Survey, start: int, image: bytes) -> None:
    """Write into a segment that ends here."""
    if image:
        file = await tail.disk.open(f"{tail.folder}/{survey.scans[-1].name}")
        try:
            await file.commit(start, image)
        finally:
            await _close(file)


async def _quarantine(disk: Disk, folder: str, damages: tuple[Damage, ...]) -> None:
    """Copy the bytes of each damage aside, once."""
    there = await disk.list(f"{folder}/{_QUARANTINE}")
    for damage in damages:
        stem = damage.file.removeprefix(f"{folder}/").removesuffix(".log")
        name = f"{stem}-{damage.start}.bin"
        if damage.start < damage.end and name not in there:
            data = await disk.read(damage.file)
            await disk.replace(f"{folder}/{_QUARANTINE}/{name}", data[damage.start : damage.end])


async def _lock(disk: Disk, folder: str) -> Lock:
    path = f"{folder}/{_LOCK}"
    try:
        return await disk.lock(path)
    except BlockingIOError as error:
        raise LogInUseError(
            f"log {folder}: {path} is {error.strerror}: one process writes to a log at a time"
        ) from error
    except OSError as error:
        raise LogError(f"log {folder}: cannot be opened: {error}") from error


async def _close(what: Lock | Tail) -> None:
    """What matters is durable by now: a failing close changes nothing."""
    with trio.CancelScope(shield=True), suppress(OSError):
        await what.aclose()
