"""A journal of JSON lines on the disk port, with group commit.

Owns one file. Whoever appends first writes and syncs everything that waits; the others find their
records durable when their turn comes. After a failed write nothing is known of the file's end, so
that the journal stays broken: the daemon must stop and start again by reading it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import trio

from zq_daemon.errors import JournalError
from zq_daemon.journal.record import Record
from zq_daemon.ports.disk import AppendFile, Disk

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


@asynccontextmanager
async def open_journal(
    disk: Disk, path: str, *, max_waiting: int = 1_024
) -> AsyncIterator[LineJournal]:
    """The journal in the file *path* (a new one for each run), synced and closed on leaving.

    Raises JournalError when the file cannot be opened.
    """
    try:
        file = await disk.open_append(path)
    except OSError as error:
        raise JournalError(f"journal {path}: cannot be opened: {error}") from error
    try:
        yield LineJournal(file, path, max_waiting=max_waiting)
    finally:
        with trio.CancelScope(shield=True):
            await file.aclose()


class LineJournal:
    """One JSON line a record; at most *max_waiting* appends wait, further ones wait to wait."""

    def __init__(self, file: AppendFile, path: str, *, max_waiting: int = 1_024) -> None:
        self._file = file
        self._path = path
        self._waiting = bytearray()
        self._places = trio.Semaphore(max_waiting)
        self._turn = trio.Lock()
        self._enqueued = 0
        self._durable = 0
        self._failure: OSError | None = None
        self.commits = 0

    @property
    def records(self) -> int:
        """How many records are durable."""
        return self._durable

    async def append(self, records: Sequence[Record]) -> None:
        """Return when *records* are durable; JournalError, now and for ever, if they are not."""
        async with self._places:
            self._check()
            for record in records:
                self._waiting += _encoder.encode(record) + b"\n"
            self._enqueued += len(records)
            mine = self._enqueued
            async with self._turn:
                self._check()
                if self._durable < mine:
                    await self._commit()

    async def _commit(self) -> None:
        data, covered = bytes(self._waiting), self._enqueued
        self._waiting.clear()
        try:
            # What was begun is finished: a cancelled caller must not leave the others' lines torn.
            with trio.CancelScope(shield=True):
                await self._file.write(data)
                await self._file.sync()
        except OSError as error:
            self._failure = error
            self._check()
        self._durable = covered
        self.commits += 1

    def _check(self) -> None:
        if self._failure is not None:
            raise JournalError(
                f"journal {self._path}: a write failed ({self._failure}); nothing may be sent"
            ) from self._failure


async def read_journal(disk: Disk, path: str) -> tuple[Record, ...]:
    """All whole records of the file *path*; a last line cut short by a crash is left out.

    Raises JournalError, naming the line, for a damaged line before the last or an unreadable file.
    """
    try:
        data = await disk.read(path)
    except OSError as error:
        raise JournalError(f"journal {path}: cannot be read: {error}") from error
    *whole, _torn = data.split(b"\n")
    return tuple(_decode(line, path, number) for number, line in enumerate(whole, start=1))


def _decode(line: bytes, path: str, number: int) -> Record:
    try:
        return _decoder.decode(line)
    except msgspec.DecodeError as error:
        raise JournalError(f"journal {path}, line {number}: {error}") from error
