"""The journal's port: what the execution engine needs of it, and nothing of how it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from zq_daemon.journal.record import Record


class Journal(Protocol):
    """An append-only log of records."""

    async def append(self, records: Sequence[Record]) -> None:
        """Return when *records* are durable, in their order; JournalError is fatal.

        A caller that is cancelled while it waits may find its records in the log all the same.
        """
