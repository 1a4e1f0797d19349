"""Databases without threads, for tests on a virtual clock."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import trio

T = TypeVar("T")


class InlineDatabase:
    """Runs every call at once; *failures* are raised first, one a call."""

    def __init__(self, path: Path, failures: list[Exception]) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self._failures = failures

    async def run(self, call: Callable[[sqlite3.Connection], T]) -> T:
        await trio.lowlevel.checkpoint()
        if self._failures:
            raise self._failures.pop(0)
        return call(self.connection)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.connection.close()


class InlineDatabases:
    """Files below *root*; *failures* are for the databases opened."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.failures: list[Exception] = []
        self.opened = 0

    async def open(self, path: str) -> InlineDatabase:
        await trio.lowlevel.checkpoint()
        self.opened += 1
        return InlineDatabase(self.root / path, self.failures)

    async def remove(self, path: str) -> None:
        await trio.lowlevel.checkpoint()
        (self.root / path).unlink(missing_ok=True)

    async def replace(self, path: str, by: str) -> None:
        await trio.lowlevel.checkpoint()
        (self.root / by).replace(self.root / path)
