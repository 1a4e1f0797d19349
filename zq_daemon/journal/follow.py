"""Keeps `history.sqlite` up with the journal, beside the trading day, and builds it anew.

Owns the pace. What is durable is applied every second in small pieces with rests in between: the
database's thread and the trading loop take turns at one interpreter, and trading comes first. The
history is derived, so that nothing that is wrong with it stops the daemon: it is told, tried again
later, and built again where it is corrupt or of another version. One thing only is an error of the
journal: a history that is ahead of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import aclosing, suppress

import structlog
import trio

from zq_daemon.errors import (
    JournalDamagedError,
    JournalError,
    JournalUnavailableError,
    LogError,
)
from zq_daemon.journal.consumers import register
from zq_daemon.journal.files import HISTORY, HISTORY_LOCK
from zq_daemon.journal.history import History
from zq_daemon.journal.read import read_journal, read_up_to
from zq_daemon.journal.recent import Recent
from zq_daemon.log import Batch, Log
from zq_daemon.ports.disk import Disk, Lock
from zq_daemon.ports.sqlite import Database, Databases

CONSUMER = "history"
_EVERY_S = 1.0
_PIECE = 16
"""Records applied at once: half a millisecond."""
_REST = 10.0
_HASTY_REST = 3.0
"""How much longer than a piece took the trading loop has the interpreter to itself."""
_FAR_BEHIND = 50_000
"""Records from which on rests are short: soon those written last are no longer in memory."""
_RETRY_S = 60.0
_REGISTER_S = 60.0
_DRAINED = 20_000

_log = structlog.get_logger("zq.history")


class HistoryFollower:
    """Follows one journal; a service: `run` until `close`, then what is durable is applied."""

    def __init__(self, disk: Disk, databases: Databases, log: Log, recent: Recent) -> None:
        """*recent* gets every record that is written to *log*."""
        self._disk = disk
        self._databases = databases
        self._journal = log
        self._recent = recent
        self._closing = trio.Event()
        self._lock: Lock | None = None
        self._database: Database | None = None
        self._history: History | None = None
        self._position = self._registered = 0
        self._register_at = 0.0
        self._corrupt = False
        self._told = ""

    @property
    def sequence(self) -> int | None:
        """The last record in the history; None while there is none."""
        return None if self._history is None else self._history.sequence

    def status(self) -> dict[str, object]:
        """For people: how far the history is, and how many records it is *behind* the journal."""
        durable = self._journal.durable_sequence
        return {
            "path": HISTORY,
            "sequence": self.sequence,
            "behind": durable - self._position,
            "problem": self._told or None,
        }

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow until closed. JournalError at the start when the history is ahead."""
        try:
            if await self._try_open():
                check_history(self.sequence, self._journal.durable_sequence)
            task_status.started()
            while not self._closing.is_set():
                pause_s = _EVERY_S if await self._catch_up() else _RETRY_S
                with trio.move_on_after(pause_s):
                    await self._closing.wait()
            await self._finish()
        finally:
            await self._aclose()

    def close(self) -> None:
        """Take what is durable by then, and end."""
        self._closing.set()

    async def _catch_up(self) -> bool:
        """Apply what is durable; False when something is wrong with the history."""
        if self._history is None and not await self._try_open():
            return False
        wanted = self._journal.durable_sequence
        try:
            await self._apply_recent(wanted)
            if self._position < wanted:
                await self._apply_files(wanted)
            await self._register()
        except (sqlite3.Error, OSError, JournalError) as error:
            self._corrupt = type(error) is sqlite3.DatabaseError
            self._tell("the history cannot be kept up", error)
            await self._aclose()
            return False
        self._told = ""
        return True

    async def _finish(self) -> None:
        """Take the rest, unless it is much: a stop does not wait for what the next start can do."""
        with suppress(LogError):  # whoever writes the journal tells
            await self._journal.durable()
        if self._journal.durable_sequence - self._position <= _DRAINED:
            await self._catch_up()

    async def _register(self) -> None:
        """Rarely: it only tells compaction, and its syncs are in the way of the journal's."""
        is_due = self._closing.is_set() or trio.current_time() >= self._register_at
        if is_due and self._position != self._registered:
            await register(self._disk, CONSUMER, self._position)
            self._registered = self._position
            self._register_at = trio.current_time() + _REGISTER_S

    async def _apply_recent(self, wanted: int) -> None:
        while (batch := self._recent.take(self._position, wanted, _PIECE)) is not None:
            await self._apply(batch)
            self._position = batch.last_sequence

    async def _apply_files(self, wanted: int) -> None:
        batches = read_up_to(read_journal(self._disk, after=self._position), wanted)
        async with aclosing(batches):
            async for batch in batches:
                for piece in _pieces(batch, _PIECE):
                    await self._apply(piece)
        self._position = wanted  # also where records are missing at the end

    async def _apply(self, batch: Batch) -> None:
        if self._database is None or self._history is None:
            raise OSError("the history is closed")
        began = trio.current_time()
        await _apply(self._database, self._history, batch)
        if not self._closing.is_set():
            behind = self._journal.durable_sequence - batch.last_sequence
            rest = _REST if behind < _FAR_BEHIND else _HASTY_REST
            await trio.sleep(rest * (trio.current_time() - began))

    async def _try_open(self) -> bool:
        try:
            await self._open()
        except (sqlite3.Error, OSError) as error:
            self._tell("the history cannot be opened", error)
            await self._aclose()
        return self._history is not None

    async def _open(self) -> None:
        if self._lock is None:
            self._lock = await self._disk.lock(HISTORY_LOCK)
        try:
            if self._corrupt:
                raise sqlite3.DatabaseError("it was found corrupt")
            await self._connect()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # locked, or the disk is full
                raise
            self._tell("the history is built again from the journal", error)
            await self._disconnect()
            await self._databases.remove(HISTORY)
            await self._connect()
        self._corrupt = False

    async def _connect(self) -> None:
        self._database = await self._databases.open(HISTORY)
        self._history = await self._database.run(History)
        self._position = self._history.sequence

    async def _disconnect(self) -> None:
        database, self._database, self._history = self._database, None, None
        if database is not None:
            await database.aclose()

    async def _aclose(self) -> None:
        with trio.CancelScope(shield=True):
            await self._disconnect()
            lock, self._lock = self._lock, None
            if lock is not None:
                await lock.aclose()

    def _tell(self, what: str, error: Exception) -> None:
        """Once, until it is something else."""
        text = f"{what}: {error}"
        if text != self._told:
            self._told = text
            _log.warning(what, file=HISTORY, error=str(error))


def check_history(history: int | None, journal: int) -> None:
    """JournalError when the history has records that the journal has not: they were lost there."""
    if history is not None and history > journal:
        raise JournalDamagedError(
            f"{HISTORY} goes to record {history}, and the journal ends at {journal}: the end of "
            "the journal is lost, or the journal was replaced by an older one. Put the right one "
            f"back; or move {HISTORY} away if it belongs to another journal."
        )


async def rebuild_history(disk: Disk, databases: Databases) -> int:
    """Build the history anew beside the old one and put it in its place; the last record in it.

    JournalError, also when somebody writes to the old one: a daemon that runs. OSError,
    sqlite3.Error.
    """
    try:
        lock = await disk.lock(HISTORY_LOCK)
    except BlockingIOError as error:
        raise JournalUnavailableError(
            f"{HISTORY_LOCK} is {error.strerror}: a daemon that runs keeps {HISTORY} up itself; "
            "stop it first"
        ) from error
    try:
        return await _rebuild(disk, databases)
    finally:
        await lock.aclose()


async def _rebuild(disk: Disk, databases: Databases) -> int:
    fresh = f"{HISTORY}.new"
    await databases.remove(fresh)
    database = await databases.open(fresh)
    try:
        history = await database.run(History)
        async with aclosing(read_journal(disk)) as batches:
            async for batch in batches:
                await _apply(database, history, batch)
    finally:
        await database.aclose()
    await databases.replace(HISTORY, by=fresh)
    await register(disk, CONSUMER, history.sequence)
    return history.sequence


async def _apply(database: Database, history: History, batch: Batch) -> None:
    await database.run(lambda _: history.apply(batch.first_sequence, batch.payloads))


def _pieces(batch: Batch, size: int) -> Iterator[Batch]:
    for start in range(0, len(batch.payloads), size):
        yield Batch(
            first_sequence=batch.first_sequence + start,
            payloads=batch.payloads[start : start + size],
        )
