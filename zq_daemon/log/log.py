"""A log that is written: numbered, group-committed, and broken for good by the first failure.

Owns what waits to be written and who waits for it to be durable. `write` numbers and queues;
`run`, the one writer, writes and syncs everything that waits in one go, so that the more writers
there are the fewer syncs each of them costs. A failed write or sync is never tried again: the
kernel may have dropped what it could not write, and a second sync would say that all is well.

It knows nothing of what the records mean. The journal and the market log are written through it.
"""

from __future__ import annotations

import math
from collections import deque

import trio
from attrs import evolve, frozen

from zq_daemon.errors import LogError
from zq_daemon.log.advice import advice
from zq_daemon.log.frame import HEAD_BYTES, encode_record, frame_bytes
from zq_daemon.log.report import Damage, Opening, write_accepted
from zq_daemon.log.segment import HEADER_BYTES, MAX_SEGMENT_BYTES
from zq_daemon.log.tail import Tail

_COMMIT_BYTES = 1 << 18
_MARK_AFTER_S = 0.1
_PATIENCE = 8


@frozen(kw_only=True)
class LogSettings:
    """*segment_bytes* a file, at most *max_payload_bytes* a record.

    `Log.room` waits while *max_pending_bytes* wait to be written; `Log.write` refuses at eight
    times that, when its callers do not wait for room. What nobody waits for is written after
    *linger_ms* at the latest: so it shares a sync with what somebody does wait for.
    """

    segment_bytes: int = 16_777_216
    max_payload_bytes: int = 1_048_576
    max_pending_bytes: int = 4_194_304
    linger_ms: int = 0

    def __attrs_post_init__(self) -> None:
        if not self.least_segment_bytes <= self.segment_bytes <= MAX_SEGMENT_BYTES:
            raise ValueError(
                f"segments of {self.segment_bytes} bytes: must be from {self.least_segment_bytes}"
                f" (for records of {self.max_payload_bytes} bytes) to {MAX_SEGMENT_BYTES}"
            )
        if min(self.max_payload_bytes, self.max_pending_bytes) < 1:
            raise ValueError("the largest record and what may wait must be at least 1 byte")

    @property
    def least_segment_bytes(self) -> int:
        """The segment that just holds one largest record."""
        return HEADER_BYTES + frame_bytes(self.max_payload_bytes) + 2 * HEAD_BYTES


@frozen(kw_only=True)
class LogStats:
    """What a log has done since it was opened, for status and metrics."""

    written_sequence: int
    durable_sequence: int
    commits: int
    pending_records: int
    pending_bytes: int
    high_water_bytes: int
    segments_made: int


class Log:
    """An open log; made by `open_log`."""

    def __init__(
        self, tail: Tail, settings: LogSettings, opening: Opening, *, first: int, proven: int
    ) -> None:
        """The next record gets the sequence *first*; bytes on disk prove *proven* to be durable."""
        self._tail = tail
        self._settings = settings
        self._opening = opening
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = self._high_water = 0
        self._written = self._taken = self._durable = first - 1
        self._marked = proven
        self._commits = 0
        self._wake = trio.Event()
        self._hurry = trio.Event()
        self._wanted = 0
        self._room = trio.lowlevel.ParkingLot()
        self._this_commit = trio.lowlevel.ParkingLot()
        self._next_commit = trio.lowlevel.ParkingLot()
        self._closing = self._has_writer = self._making = self._lingered = False
        self._failure: LogError | None = None

    @property
    def opening(self) -> Opening:
        """What was found when it was opened, with what was accepted since."""
        return self._opening

    @property
    def durable_sequence(self) -> int:
        """Everything up to this record is durable; 0 when there is none."""
        return self._durable

    @property
    def commits(self) -> int:
        """How many groups of records were made durable."""
        return self._commits

    def stats(self) -> LogStats:
        """A snapshot."""
        return LogStats(
            written_sequence=self._written,
            durable_sequence=self._durable,
            commits=self._commits,
            pending_records=len(self._waiting),
            pending_bytes=self._waiting_bytes,
            high_water_bytes=self._high_water,
            segments_made=self._tail.made,
        )

    def write(self, payload: bytes) -> int:
        """Queue a record; returns its sequence. It is not durable yet.

        LogError when the log is closed or broken, the record is too large, or far too much waits.
        """
        self._check()
        if self._closing:
            raise LogError(f"log {self._tail.folder}: is closed: nothing more can be written")
        size, settings = frame_bytes(len(payload)), self._settings
        if len(payload) > settings.max_payload_bytes:
            raise LogError(
                f"log {self._tail.folder}: a record of {len(payload)} bytes is over the limit of"
                f" {settings.max_payload_bytes}"
            )
        if self._waiting_bytes >= _PATIENCE * settings.max_pending_bytes:
            raise LogError(
                f"log {self._tail.folder}: {self._waiting_bytes} bytes wait to be written: the disk"
                " is too slow for what is written without waiting for room"
            )
        self._waiting.append(payload)
        self._waiting_bytes += size
        self._high_water = max(self._high_water, self._waiting_bytes)
        self._written += 1
        self._wake.set()
        return self._written

    async def durable(self, sequence: int | None = None) -> None:
        """Return when all up to *sequence* (None: all written so far) is durable, not before.

        LogError when the log broke or its writer ended before that.
        """
        wanted = self._written if sequence is None else sequence
        if wanted > self._written:
            raise ValueError(f"sequence {wanted}: only {self._written} records were written")
        if wanted <= self._durable:
            await trio.lowlevel.checkpoint()
        self._wanted = max(self._wanted, wanted)
        self._hurry.set()
        while self._durable < wanted:
            self._check()
            lot = self._this_commit if wanted <= self._taken else self._next_commit
            await lot.park()

    @property
    def has_room(self) -> bool:
        """Whether less than the limit waits to be written."""
        return self._waiting_bytes < self._settings.max_pending_bytes

    async def room(self) -> None:
        """Return when less than the limit waits to be written; LogError as `write`."""
        self._check()
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self.has_room:
            self._hurry.set()
            await self._room.park()
            self._check()

    def close(self) -> None:
        """Take no more records; `run` ends when those that wait are durable."""
        self._closing = True
        self._wake.set()
        self._hurry.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until closed and drained, or broken: LogError. There is one writer only."""
        if self._has_writer:
            raise LogError(f"log {self._tail.folder}: has a writer already")
        self._has_writer = True
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                await self._write_all(nursery)
        finally:
            self.end()
        self._check()

    def end(self) -> None:
        """Nothing is written from now on; who still waits gets a LogError."""
        self._closing = True
        if self._failure is None and self._durable < self._written:
            lost = self._written - self._durable
            self._fail(f"was stopped before {lost} records were durable", None)

    async def accept_damage(self) -> tuple[Damage, ...]:
        """Take note of all damage found, durably: later openings list it apart. LogError."""
        opening = self._opening
        accepted = (*opening.accepted, *opening.damages)
        try:
            await write_accepted(self._tail.disk, self._tail.folder, accepted)
        except OSError as error:
            raise LogError(f"log {self._tail.folder}: cannot be written: {error}") from error
        self._opening = evolve(opening, damages=(), accepted=accepted)
        return opening.damages

    async def _write_all(self, nursery: trio.Nursery) -> None:
        try:
            while self._waiting or not self._closing:
                if not self._waiting:
                    await self._idle()
                elif self._may_wait:
                    await self._linger()
                elif frame_bytes(len(self._waiting[0])) > self._tail.room:
                    await self._roll()
                else:
                    await self._commit()
                    self._make_ahead(nursery)
                    await trio.lowlevel.checkpoint_if_cancelled()
            await self._mark()
        except OSError as error:
            told = f"a write failed ({error}){advice(error)}; nothing more can be written to it"
            self._fail(told, error)

    async def _idle(self) -> None:
        """Wait for records; when none comes for a while, mark what is durable."""
        self._wake = trio.Event()
        unmarked = self._marked < self._durable
        with trio.move_on_after(_MARK_AFTER_S if unmarked else math.inf) as patience:
            await self._wake.wait()
        if patience.cancelled_caught:
            await self._mark()

    @property
    def _may_wait(self) -> bool:
        """Whether nobody waits for what is there, which has not waited itself."""
        hurried = self._lingered or self._closing or self._wanted > self._durable
        return self.has_room and not hurried and self._settings.linger_ms > 0

    async def _linger(self) -> None:
        """Let more records come."""
        self._lingered = True
        self._hurry = trio.Event()
        with trio.move_on_after(self._settings.linger_ms / 1000):
            await self._hurry.wait()

    async def _commit(self) -> None:
        frames = self._take()
        self._lingered = False
        covered = self._taken
        # What was begun is finished: a writer that is cancelled must not leave others in doubt.
        with trio.CancelScope(shield=True):
            await self._tail.append(frames)
        self._durable = covered
        self._commits += 1
        self._this_commit.unpark_all()

    def _take(self) -> bytes:
        """The frames of what waits, as much as fits; at least one."""
        room, frames, durable = min(self._tail.room, _COMMIT_BYTES), bytearray(), self._durable
        waiting = self._waiting
        while waiting:
            size = frame_bytes(len(waiting[0]))
            if frames and len(frames) + size > room:
                break
            self._taken += 1
            frames += encode_record(self._taken, durable, waiting.popleft())
        self._waiting_bytes -= len(frames)
        self._this_commit, self._next_commit = self._next_commit, self._this_commit
        self._room.unpark_all()
        return bytes(frames)

    async def _roll(self) -> None:
        with trio.CancelScope(shield=True):
            await self._tail.roll(self._taken + 1)
        self._making = False
        self._marked = self._durable

    async def _mark(self) -> None:
        if self._marked < self._durable:
            with trio.CancelScope(shield=True):
                await self._tail.mark(self._durable)
            self._marked = self._durable

    def _make_ahead(self, nursery: trio.Nursery) -> None:
        if self._tail.nearly_full and not self._making:
            self._making = True
            nursery.start_soon(self._tail.make_ahead)

    def _check(self) -> None:
        if self._failure is not None:
            raise LogError(str(self._failure)) from self._failure

    def _fail(self, reason: str, cause: OSError | None) -> None:
        self._failure = LogError(f"log {self._tail.folder}: {reason}")
        self._failure.__cause__ = cause
        for lot in (self._this_commit, self._next_commit, self._room):
            lot.unpark_all()
