"""Reads a whole log and says what is damaged, what is torn, and where it goes on.

Owns the judgement. What was durable and is not sound is damage; what was being written when the
power went is torn, and nobody was told that it is durable. The line between them is D, the highest
sequence that any sound frame, or the start of a segment, proves to have been durable: a frame
says what was durable when it was written, and a segment begins only when all before is durable.
A last write that was durable but that no later byte confirms is above D: marks, written when
nothing more comes, keep that window short. Of an unfinished write what comes before its first hole
counts, and nothing behind it: records build on those before them, and nobody acted on any of these.

It changes nothing on disk. Called by opening, inspecting and reading.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import trio
from attrs import define, field

from zq_daemon.errors import LogError
from zq_daemon.log.report import UNCOUNTED, Damage, Opening, read_accepted
from zq_daemon.log.segment import (
    HEADER_BYTES,
    MAX_SEGMENT_BYTES,
    Batch,
    Hole,
    Scan,
    decode_header,
    first_of,
    most_records,
    resembles,
    segment_name,
)
from zq_daemon.ports.disk import Disk

OnBatch = Callable[[Batch], None]
_UNKNOWN_CAPACITY = 1 << 24


@define
class Survey:
    """All segments of a log, scanned; only the last one's bytes are kept."""

    folder: str
    scans: list[Scan] = field(factory=list)
    log_id: bytes | None = None

    @property
    def durable(self) -> int:
        """D: what is proven to have been durable."""
        return max((max(scan.durable, scan.first - 1) for scan in self.scans), default=0)

    @property
    def end(self) -> int:
        """The sequence behind all that may have been durable: the one to go on with."""
        if not self.scans:
            return 1
        return max(scan.next for scan in self.scans) + self._unknown(self.scans[-1])

    @property
    def goes_on(self) -> bool:
        """Whether the last segment can be written to."""
        return bool(self.scans) and self.end == self.scans[-1].next

    def damages(self) -> Iterator[Damage]:
        """Everything that was durable and is broken or missing, in order."""
        for scan, following in itertools.zip_longest(self.scans, self.scans[1:]):
            if scan.header is None:
                yield self._damage(
                    scan, Hole(0, HEADER_BYTES, scan.first, scan.first - 1), "header"
                )
            for hole in scan.holes:
                if hole.first <= self.durable:
                    yield self._damage(scan, hole, "no sound record")
            yield from self._behind(scan, self.end if following is None else following.first)

    def torn(self) -> Hole | None:
        """What is no part of the log of an unfinished write: all from its first hole on."""
        scan = self.scans[-1] if self.scans else None
        holes = () if scan is None else scan.holes
        first = next((hole for hole in holes if hole.first > self.durable), None)
        if scan is None or first is None:
            return None
        return Hole(first.start, scan.end, first.first, scan.next - 1)

    def torn_bytes(self) -> int:
        """How many bytes of an unfinished write are of no use."""
        tail = max(0, self.scans[-1].used - self.scans[-1].end) if self.goes_on else 0
        torn = self.torn()
        return tail if torn is None else tail + torn.end - torn.start

    def release(self) -> None:
        """Let go of the bytes that are still kept."""
        if self.scans:
            self.scans[-1].data = b""

    async def report(self, disk: Disk) -> Opening:
        """The outcome, with the accepted damages told apart. OSError."""
        known = await read_accepted(disk, self.folder)
        damages = tuple(self.damages())
        gaps = [gap for scan in self.scans for gap in scan.gaps]
        if (torn := self.torn()) is not None and torn.last >= torn.first:
            gaps.append((torn.first, torn.last))
        return Opening(
            folder=self.folder,
            segments=tuple(scan.name for scan in self.scans),
            first_sequence=self.scans[0].first if self.scans else 1,
            last_sequence=self.scans[-1].next - 1 if self.scans else 0,
            torn_bytes=self.torn_bytes(),
            gaps=tuple(sorted(gaps)),
            damages=tuple(each for each in damages if each not in known),
            accepted=tuple(each for each in damages if each in known),
        )

    def _behind(self, scan: Scan, following: int) -> Iterator[Damage]:
        """What is missing between the end of a segment and the sequence *following*."""
        short = scan.size < self._capacity(scan)
        dirty = scan.used > scan.end or self._blind(scan)
        lost = Hole(scan.end, self._capacity(scan), scan.next, following - 1)
        if scan.next > following:
            again = Hole(scan.end, scan.end, scan.next, scan.next - 1)
            yield self._damage(scan, again, f"it goes beyond the start of record {following}")
        elif scan.next < following and not scan.sealed and short:
            reason = f"cut to {scan.size} bytes; {UNCOUNTED}"
            yield self._damage(scan, lost, reason)
        elif scan.next < following and not scan.sealed and dirty:
            yield self._damage(scan, lost, "no sound record")
        elif scan.next < following:
            yield Damage(
                file=f"{self.folder}/{segment_name(scan.next)}",
                start=0,
                end=0,
                first_sequence=scan.next,
                last_sequence=following - 1,
                reason="the file is missing",
            )

    def _unknown(self, last: Scan) -> int:
        """How many records may have been lost behind the last segment's end.

        Their sequences are skipped: what was acknowledged is never numbered again. None is when
        the segment can go on; a sealed one had a successor, which is gone.
        """
        capacity = self._capacity(last)
        if last.sealed:
            return max(1, most_records(capacity))
        if last.size < capacity or self._blind(last):
            return max(1, most_records(capacity - last.end))
        return 0

    def _blind(self, scan: Scan) -> bool:
        """Whether the header is lost and no record was found: anything may have been there.

        Not so when only the header is broken and the space behind it is free.
        """
        return scan.header is None and scan.empty and not 0 < scan.used <= HEADER_BYTES

    def _capacity(self, scan: Scan) -> int:
        if scan.header is not None:
            return scan.header.capacity
        if scan.size >= HEADER_BYTES:
            return scan.size
        others = [each.header.capacity for each in self.scans if each.header]
        return max(others, default=_UNKNOWN_CAPACITY)

    def _damage(self, scan: Scan, hole: Hole, reason: str) -> Damage:
        return Damage(
            file=f"{self.folder}/{scan.name}",
            start=hole.start,
            end=hole.end,
            first_sequence=hole.first,
            last_sequence=hole.last,
            reason=reason,
        )


async def take_survey(
    disk: Disk, folder: str, *, kind: str, on_batch: OnBatch | None = None
) -> Survey:
    """Scan the log in *folder*; *on_batch* gets every record that counts once, in order.

    Raises LogError for files of another log, kind or format, and OSError.
    """
    survey, strangers, last = Survey(folder), list[str](), 0
    names = await segment_names(disk, folder)
    for name in names:
        try:
            scan = await open_scan(disk, folder, name, kind=kind)
        except FileNotFoundError:
            if survey.scans:
                raise
            continue  # old segments may be removed while somebody only looks
        _same_log(survey, scan)
        held: list[Batch] = []
        for batch in scan.batches():
            if on_batch is not None and (new := batch.behind(last)) is not None:
                held.append(new)
                if name != names[-1]:
                    on_batch(held.pop())
            last = max(last, batch.last_sequence)
            await trio.lowlevel.checkpoint()
        if scan.header is None and scan.empty and not resembles(scan.data):
            strangers.append(name)
        survey.release()
        survey.scans.append(scan)
        torn = survey.torn() if held else None
        for batch in held:
            if on_batch is not None and (torn is None or batch.first_sequence < torn.first):
                on_batch(batch)
    if strangers and all(scan.header is None and scan.empty for scan in survey.scans):
        raise LogError(f"{folder}/{strangers[0]}: is no segment of a log: move it elsewhere")
    return survey


async def segment_names(disk: Disk, folder: str) -> list[str]:
    """The segments of a log, in order; other files are none of ours. OSError."""
    return [name for name in await disk.list(folder) if first_of(name)]


async def open_scan(disk: Disk, folder: str, name: str, *, kind: str) -> Scan:
    """A segment whose header was checked; OSError, LogError when it is not of this log's kind."""
    path = f"{folder}/{name}"
    if await disk.size(path) > MAX_SEGMENT_BYTES:
        raise LogError(f"{path}: is larger than a segment can be: move it elsewhere")
    data = await disk.read(path)
    header = decode_header(data, path)
    if header is None:
        return Scan(name, data, None)
    if header.kind != kind:
        raise LogError(f"{path}: is of a {header.kind!r} log, not of a {kind!r} log: move it")
    if segment_name(header.first_sequence) != name:
        right = segment_name(header.first_sequence)
        raise LogError(f"{path}: was renamed: it is {right} by its header; rename it back")
    return Scan(name, data, header)


def _same_log(survey: Survey, scan: Scan) -> None:
    if scan.header is None:
        return
    if survey.log_id is None:
        survey.log_id = scan.header.log_id
    if survey.log_id != scan.header.log_id:
        raise LogError(
            f"{survey.folder}/{scan.name}: belongs to another log than the segments before it:"
            " move it elsewhere"
        )
