"""The segment a log is written to, and the next one, made ahead.

Owns the two open files. A segment is complete (its size, zeros, a durable header) before it gets
its name, and gets it only when everything in the one before is durable; then that one is sealed.
It decides nothing about records and survives no failure: after an OSError the log is broken.
Called by the one writer.
"""

from __future__ import annotations

import structlog
import trio
from attrs import define, field, frozen

from zq_daemon.log.frame import HEAD_BYTES, Kind, encode_proof
from zq_daemon.log.segment import HEADER_BYTES, Header, Scan, segment_name
from zq_daemon.ports.disk import Disk, File

NEXT = "next.log"

_log = structlog.get_logger("zq.log")


@frozen(kw_only=True)
class Stamp:
    """What every new segment of a log says in its header."""

    kind: str
    log_id: bytes
    capacity: int


@define
class Tail:
    """Writes frames to the end of the log in *folder*."""

    disk: Disk
    folder: str
    stamp: Stamp
    made: int = field(init=False, default=0)
    _file: File | None = field(init=False, default=None)
    _offset: int = field(init=False, default=0)
    _capacity: int = field(init=False, default=0)
    _next: File | None = field(init=False, default=None)
    _making: trio.Lock = field(init=False, factory=trio.Lock)

    @property
    def room(self) -> int:
        """How many bytes of records fit; what a mark and a seal take is kept back."""
        return self._capacity - self._offset - 2 * HEAD_BYTES

    @property
    def nearly_full(self) -> bool:
        """Whether it is time to make the next segment."""
        return self._offset > self._capacity // 4 * 3

    async def resume(self, scan: Scan, start: int, image: bytes) -> None:
        """Go on where *scan* ended, once all before is durable, *image* at *start* too. OSError."""
        self._file = await self.disk.open(f"{self.folder}/{scan.name}")
        self._capacity, self._offset = scan.size, scan.end
        if image:
            await self._file.write(start, image)
        # Also a mark that a killed process left in memory: later commits do not look back.
        await self._file.sync()

    async def append(self, frames: bytes) -> None:
        """Write *frames*, which fit, durably. OSError."""
        if self._file is None:
            raise OSError("no segment is open")
        await self._file.commit(self._offset, frames)
        self._offset += len(frames)

    async def mark(self, sequence: int) -> None:
        """Say durably that everything up to *sequence* is durable, if there is room. OSError."""
        if self._offset + 2 * HEAD_BYTES <= self._capacity:
            await self.append(encode_proof(Kind.MARK, sequence))

    async def roll(self, first: int) -> None:
        """Go on in a new segment that starts with *first*; all before is durable. OSError."""
        stamp = self.stamp
        header = Header(
            kind=stamp.kind, log_id=stamp.log_id, first_sequence=first, capacity=stamp.capacity
        )
        async with self._making:
            file, self._next = self._next or await self._create(), None
            await file.commit(0, header.encode())
            await self.disk.rename(f"{self.folder}/{NEXT}", f"{self.folder}/{segment_name(first)}")
        old, self._file = self._file, file
        if old is not None:
            await old.commit(self._offset, encode_proof(Kind.SEAL, first - 1))
            await old.aclose()
        self._offset, self._capacity = HEADER_BYTES, stamp.capacity
        self.made += 1

    async def make_ahead(self) -> None:
        """Make the next segment; if that fails, `roll` will try again and fail for good."""
        try:
            async with self._making:
                if self._next is None and self.nearly_full:
                    self._next = await self._create()
        except OSError as error:
            _log.warning(
                "the next log segment cannot be made: the log fails when this one is full",
                folder=self.folder,
                bytes_left=self.room,
                error=str(error),
            )

    async def clear(self) -> None:
        """Remove a next segment that was left over. OSError."""
        if NEXT in await self.disk.list(self.folder):
            await self.disk.remove(f"{self.folder}/{NEXT}")

    async def aclose(self) -> None:
        """Close both files."""
        for file in (self._file, self._next):
            if file is not None:
                await file.aclose()
        self._file = self._next = None

    async def _create(self) -> File:
        return await self.disk.create(f"{self.folder}/{NEXT}", self.stamp.capacity)
