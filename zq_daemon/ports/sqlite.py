"""The database port: SQLite files below one folder, one connection each, worked in a thread.

Owns connections, threads and how a file is put in another's place. It knows no tables: callers hand
it functions of a connection. Only what is derived and may be lost is kept in a database (the
history); there is none in simulation, where threads would let the virtual clock jump ahead.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

import trio

T = TypeVar("T")
_COMPANIONS = ("-wal", "-shm", "-journal")


class Database(Protocol):
    """An open database, used by one task."""

    async def run(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """What *call* returns or raises; sqlite3.Error. It is finished even when cancelled."""

    async def aclose(self) -> None:
        """Close it; again is harmless."""


class Databases(Protocol):
    """Database files named by relative paths."""

    async def open(self, path: str) -> Database:
        """The database *path*, made where missing (0600). OSError, sqlite3.Error."""

    async def remove(self, path: str) -> None:
        """Delete the file, if there is one, and what belongs to it; it is open nowhere. OSError."""

    async def replace(self, path: str, by: str) -> None:
        """Let the closed database *by* take the place of *path*. OSError."""


class SystemDatabases:
    """The machine's files below *root*."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def open(self, path: str) -> Database:
        """A write-ahead log lets people read while it is written; its syncs are few."""
        return _SystemDatabase(await trio.to_thread.run_sync(_connect, self._root / path))

    async def remove(self, path: str) -> None:
        """The file, its write-ahead log and its index."""
        await trio.to_thread.run_sync(_remove, self._root / path)

    async def replace(self, path: str, by: str) -> None:
        """Without a moment in which there is none."""
        await trio.to_thread.run_sync(_replace, self._root / path, self._root / by)


class _SystemDatabase:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def run(self, call: Callable[[sqlite3.Connection], T]) -> T:
        return await trio.to_thread.run_sync(call, self._connection)

    async def aclose(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._connection.close)


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    # Each call may run in another thread, but there is one call at a time.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _remove(path: Path) -> None:
    for each in (path, *(path.with_name(path.name + suffix) for suffix in _COMPANIONS)):
        with suppress(FileNotFoundError):
            each.unlink()


def _replace(path: Path, by: Path) -> None:
    # A write-ahead log of the old file would be taken for one of the new.
    for suffix in _COMPANIONS:
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()
    by.replace(path)
