"""The journal: every record, in one sequence, in a framed log on the disk.

Owns the writing side: what a record's bytes are, which of them say that their order is closed, and
that an instrument's terms come before the first record that needs them. The execution engine writes
intents and waits for them, the ledger writes events and does not wait: what is not durable at a
crash is asked of the venue again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import structlog
import trio

from zq_daemon.errors import JournalError, LogError
from zq_daemon.journal import codec
from zq_daemon.journal.recent import Recent
from zq_daemon.journal.record import (
    InstrumentKnown,
    Intent,
    OrderRecord,
    PlainRecord,
)
from zq_daemon.journal.state import JournalState
from zq_daemon.model.ids import AccountId, InstrumentId

_logger = structlog.get_logger("zq.journal")


class Writer(Protocol):
    """What the journal needs of the log."""

    def write(self, payload: bytes) -> int:
        """Queue a record; its sequence."""

    async def durable(self, sequence: int | None = None) -> None:
        """Return when everything up to *sequence* (None: all written so far) is durable."""

    async def room(self) -> None:
        """Return when not too much waits to be written."""

    @property
    def has_room(self) -> bool:
        """Whether `room` would return at once."""

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Write what is queued until closed and drained."""

    def close(self) -> None:
        """Queue no more."""


class Journal:
    """The one way records are written; *state* is kept up to date with them."""

    def __init__(self, log: Writer, state: JournalState, *, recent: Recent | None = None) -> None:
        """*recent* gets every record too, for somebody who reads along."""
        self._log = log
        self._recent = recent
        self.state = state

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write what is queued until closed and drained; JournalError when that fails."""
        with _journal_errors():
            try:
                await self._log.run(task_status=task_status)
            except LogError as error:
                # At once: taking everything down takes its time.
                _logger.error("the journal failed: nothing more is sent", error=str(error))
                raise

    @property
    def has_room(self) -> bool:
        """Whether the disk keeps up: what nobody needs again is not to be written where not."""
        return self._log.has_room

    def close(self) -> None:
        """Write no more; what is queued still is."""
        self._log.close()

    def write(self, record: PlainRecord) -> None:
        """Append a record, not yet durable; JournalError after the log has failed."""
        self._append(codec.encode(record))
        self.state.note(record)

    def write_intent(self, intent: Intent) -> None:
        """Append an intent, not yet durable."""
        self.know(intent.instrument_id)
        self._append(codec.encode_intent(intent, self._account_number(intent.account_id)))
        self.state.note_intent(intent)

    def write_order(self, event: OrderRecord, *, closed: bool) -> None:
        """Append an event of a tracked order, not yet durable; *closed*: it is, after the event."""
        self.know(event.instrument_id)
        self._append(codec.encode_order(event, closed=closed))
        if closed:
            self.state.note_closed(event.client_order_id)

    def know(self, instrument_id: InstrumentId) -> None:
        """Have the instrument's terms in the journal before a record that needs them."""
        instrument = self.state.cache.instrument(instrument_id)
        known = self.state.instruments.get(instrument_id)
        if instrument is None or instrument is known:
            return
        if instrument == known:  # as of a former run: the next look is quick
            self.state.instruments[instrument_id] = instrument
            return
        self.write(InstrumentKnown(instrument))

    async def durable(self) -> None:
        """Return when everything written so far is durable; JournalError if it will never be."""
        with _journal_errors():
            await self._log.durable()

    async def room(self) -> None:
        """Return when the disk keeps up; JournalError if it never will."""
        with _journal_errors():
            await self._log.room()

    def _append(self, payload: bytes) -> None:
        # As `_journal_errors`, which every record would pay for.
        try:
            sequence = self.state.sequence = self._log.write(payload)
        except LogError as error:
            raise _unwritable(error) from error
        if self._recent is not None:
            self._recent.add(sequence, payload)

    def _account_number(self, account_id: AccountId) -> int:
        """The account's number in its run; there are few of them."""
        return self.state.runs[-1].accounts.index(account_id)


@contextmanager
def _journal_errors() -> Iterator[None]:
    try:
        yield
    except LogError as error:
        raise _unwritable(error) from error


def _unwritable(error: LogError) -> JournalError:
    return JournalError(f"the journal cannot be written: {error}")
