"""From the files to a journal that can be trusted: the one way a daemon comes to its state.

Owns the order of things: the newest sound checkpoint, what the archive has behind it, then the log,
which is locked, verified and replayed in one pass. Damage that nobody accepted is refused: the
daemon never trades on a journal it cannot trust. Reading alone (`load_state`) takes no lock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

from attrs import frozen

from zq_daemon.errors import JournalDamagedError, JournalError, LogError
from zq_daemon.journal.checkpoint import Found, find_checkpoint, warn_of_damaged
from zq_daemon.journal.files import FOLDER, KIND
from zq_daemon.journal.read import journal_errors, read_journal, read_up_to
from zq_daemon.journal.replay import Replay
from zq_daemon.journal.state import JournalState
from zq_daemon.log.log import Log, LogSettings
from zq_daemon.log.opening import open_log
from zq_daemon.log.report import Opening
from zq_daemon.log.segment import first_of
from zq_daemon.log.survey import segment_names
from zq_daemon.ports.disk import Disk
from zq_daemon.ports.rng import Rng

_ATTEMPTS = 3


@frozen
class OpenJournal:
    """A journal to write to: its log, whose `run` is the writer, and the state it adds up to."""

    log: Log
    state: JournalState


@asynccontextmanager
async def open_journal(
    disk: Disk, *, closed_orders: int, settings: LogSettings, rng: Rng
) -> AsyncIterator[OpenJournal]:
    """The journal on *disk*, new or found, locked for us until leaving.

    The state remembers *closed_orders*. Raises JournalError for a journal that cannot be trusted
    (damaged, cut off, of a newer version), LogInUseError when another process has it, and LogError.
    """
    async with AsyncExitStack() as stack:
        for attempts_left in reversed(range(_ATTEMPTS)):
            with journal_errors():
                found = await find_checkpoint(disk)
            try:
                replay = await _begin(disk, found, closed_orders)
                start = replay.sequence
                log = await stack.enter_async_context(
                    open_log(
                        disk,
                        FOLDER,
                        kind=KIND,
                        settings=settings,
                        rng=rng,
                        on_batch=replay.take,
                        check=refuse_damage,
                    )
                )
                break
            except (LogError, JournalError):
                if not attempts_left or not await _is_compacted(disk, found):
                    raise
        if log.opening.first_sequence > start + 1:
            # Compacted since we looked: a newer checkpoint was written first.
            state = await load_state(disk, closed_orders=closed_orders)
        else:
            _check_end(start, log.opening.last_sequence)
            state = replay.finish()
        yield OpenJournal(log, state)


async def load_state(disk: Disk, *, closed_orders: int) -> JournalState:
    """The state after the last whole record, read beside whoever writes. JournalError."""
    for attempts_left in reversed(range(_ATTEMPTS)):
        with journal_errors():
            found = await find_checkpoint(disk)
        try:
            return await replay_from(disk, found, closed_orders=closed_orders)
        except JournalError:
            if not attempts_left or not await _is_compacted(disk, found):
                raise
    raise AssertionError("unreachable")


async def replay_from(
    disk: Disk, found: Found, *, closed_orders: int, up_to: int | None = None
) -> JournalState:
    """The state after the last whole record (or record *up_to*), from a checkpoint on."""
    with journal_errors():
        replay = _from(found, closed_orders)
        start = replay.sequence
        batches = read_journal(disk, after=start)
        async with aclosing(batches if up_to is None else read_up_to(batches, up_to)) as wanted:
            async for batch in wanted:
                replay.take(batch)
        names = await segment_names(disk, FOLDER)
    if replay.sequence == start:
        _check_end(start, first_of(names[-1]) - 1 if names else 0)
    return replay.finish()


def refuse_damage(opening: Opening) -> None:
    """JournalError when records that were durable are lost, and nobody has taken note of it."""
    if opening.damages:
        told = "\n".join(f"  {damage}" for damage in opening.damages)
        raise JournalDamagedError(
            f"the journal is damaged, so that it does not say for sure what we own:\n{told}\n"
            "Restore these files from a backup; or see what is lost with "
            "`zq-daemon journal verify`, and go on without it after "
            "`zq-daemon journal verify --accept-damage` (both with the --config of this daemon)."
        )


async def _begin(disk: Disk, found: Found, closed_orders: int) -> Replay:
    """What replay begins with before the log is opened: checkpoint, and the archive behind it."""
    replay = _from(found, closed_orders)
    warn_of_damaged(found)
    with journal_errors():
        segments = await segment_names(disk, FOLDER)
    if segments and first_of(segments[0]) > replay.sequence + 1:
        before = first_of(segments[0]) - 1
        batches = read_up_to(read_journal(disk, after=replay.sequence), before)
        async with aclosing(batches) as wanted:
            async for batch in wanted:
                replay.take(batch)
    return replay


async def _is_compacted(disk: Disk, before: Found) -> bool:
    """Whether there is a newer checkpoint by now: then records may have gone behind it."""
    with journal_errors():
        now = await find_checkpoint(disk)
    return now.newest is not None and now.newest != before.newest


def _from(found: Found, closed_orders: int) -> Replay:
    checkpoint = None if found.newest is None else found.newest.checkpoint
    return Replay(closed_orders=closed_orders, checkpoint=checkpoint)


def _check_end(start: int, last: int) -> None:
    if last < start:
        raise JournalDamagedError(
            f"the journal ends at record {last}, and a checkpoint covers all up to {start}: files "
            f"of {FOLDER} are missing or were replaced by older ones: put them back together"
        )
