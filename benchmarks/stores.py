"""What one might write an order journal with instead of the log: durable, one order at a time.

Both are `journal.journal.Writer`s. A record that somebody waits for is an intent; what was written
before it and not waited for goes with it. They work in a thread, as the log does.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import trio

from zq_daemon.journal import codec
from zq_daemon.log.frame import encode_record
from zq_daemon.ports import files

_SIZE = 1 << 26

Commit = Callable[[int, Sequence[bytes]], None]
"""Makes some records durable, the first of which has the sequence given."""


class OrderByOrder:
    """Each intent, with what waits before it, is a commit of its own."""

    def __init__(self, commit: Commit) -> None:
        self._commit = commit
        self._waiting: list[bytes] = []
        self._written = self._durable = 0
        self._one = trio.Lock()
        self._closed = trio.Event()

    def write(self, payload: bytes) -> int:
        """Queue a record; its sequence."""
        self._waiting.append(payload)
        self._written += 1
        return self._written

    async def durable(self, sequence: int | None = None) -> None:
        """Return when all up to *sequence* (None: all) is durable."""
        wanted = self._written if sequence is None else sequence
        async with self._one:
            if self._durable < wanted:
                payloads, self._waiting = self._waiting, []
                await trio.to_thread.run_sync(self._commit_all, payloads)

    @property
    def has_room(self) -> bool:
        """There always is."""
        return True

    async def room(self) -> None:
        """There always is."""
        await trio.lowlevel.checkpoint_if_cancelled()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Nothing to do: who waits commits."""
        task_status.started()
        await self._closed.wait()

    def close(self) -> None:
        """Let `run` end."""
        self._closed.set()

    def _commit_all(self, payloads: Sequence[bytes]) -> None:
        begin = 0
        for end, payload in enumerate(payloads, 1):
            if payload[0] == codec.INTENT or end == len(payloads):
                self._commit(self._durable + 1, payloads[begin:end])
                self._durable += end - begin
                begin = end


@contextmanager
def synced_file(path: Path) -> Iterator[Commit]:
    """The log's frames in one file, with a write and an fdatasync a commit."""
    descriptor, offset = files.create(path, _SIZE), 0

    def commit(sequence: int, payloads: Sequence[bytes]) -> None:
        nonlocal offset
        numbered = enumerate(payloads, sequence)
        data = b"".join(encode_record(number, 0, payload) for number, payload in numbered)
        files.commit(descriptor, offset, data)
        offset = (offset + len(data)) % (_SIZE // 2)

    yield commit
    os.close(descriptor)


@contextmanager
def sqlite_rows(path: Path) -> Iterator[Commit]:
    """Rows of a table of SQLite's, with a transaction a commit; write-ahead log, full syncs."""
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE journal (sequence INTEGER PRIMARY KEY, payload BLOB)")

    def commit(sequence: int, payloads: Sequence[bytes]) -> None:
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO journal VALUES (?, ?)", list(enumerate(payloads, sequence))
        )
        connection.execute("COMMIT")

    yield commit
    connection.close()


def bare_commits_ns(path: Path, count: int, size: int) -> list[int]:
    """The floor: how long each of *count* writes of *size* bytes with an fdatasync takes."""
    descriptor, data, taken = files.create(path, _SIZE), os.urandom(size), list[int]()
    for number in range(count):
        began = time.monotonic_ns()
        files.commit(descriptor, number * size % (_SIZE // 2), data)
        taken.append(time.monotonic_ns() - began)
    os.close(descriptor)
    return taken
