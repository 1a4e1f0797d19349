"""One segment file of a log: its name, its header, and what a scan finds in it.

Owns the layout of a segment. It is called by its first sequence (`00000000000000000001.log`) and
has its full size and a durable header before it gets that name, so that a short one or one with a
broken header was damaged later. Header, 72 bytes, little-endian:

    magic 8 | version u32 | bytes before the checksum u32 | kind 16 | log id 16
    first sequence u64 | capacity u64 | crc32 of all that u64

Frames follow at once; zeros up to the capacity are free. It never touches a disk and never decides
what is damage: that takes all segments (`survey`).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

from attrs import define, field, frozen

from zq_daemon.errors import LogError, LogVersionError
from zq_daemon.log.frame import HEAD_BYTES, Frame, Kind, decode, find_frame, read_records

VERSION = 1
HEADER_BYTES = 72
MAX_SEGMENT_BYTES = 1 << 28
KIND_BYTES = 16
ID_BYTES = 16

_MAGIC = b"zq-log\r\n"
_START = struct.Struct("<8sII")
_HEADER = struct.Struct("<8sII16s16sQQ")
_CRC = struct.Struct("<Q")
_NAME = re.compile(r"\d{20}\.log")
_RUN = 4_096
_ZEROS = bytes(65_536)


def segment_name(first_sequence: int) -> str:
    """The file name of the segment that starts with *first_sequence*."""
    return f"{first_sequence:020}.log"


def first_of(name: str) -> int:
    """The sequence in a segment's file name; 0 when it is no segment's name."""
    return int(name[:20]) if _NAME.fullmatch(name) else 0


def most_records(size: int) -> int:
    """How many records *size* bytes of frames can hold at most."""
    return max(0, size) // HEAD_BYTES


@frozen(kw_only=True)
class Batch:
    """Consecutive records, as they were written; the first has the sequence *first_sequence*."""

    first_sequence: int
    payloads: list[bytes]

    @property
    def last_sequence(self) -> int:
        """The sequence of the last one."""
        return self.first_sequence + len(self.payloads) - 1

    def behind(self, sequence: int) -> Batch | None:
        """Those of its records that come after *sequence*; None when there are none."""
        known = sequence + 1 - self.first_sequence
        if known <= 0:
            return self
        rest = self.payloads[known:]
        return Batch(first_sequence=sequence + 1, payloads=rest) if rest else None


@frozen(kw_only=True)
class Header:
    """What a segment says of itself."""

    kind: str
    log_id: bytes
    first_sequence: int
    capacity: int

    def encode(self) -> bytes:
        """Its bytes."""
        kind = self.kind.encode("ascii")
        fields = (kind, self.log_id, self.first_sequence, self.capacity)
        body = _HEADER.pack(_MAGIC, VERSION, _HEADER.size, *fields)
        return body + _CRC.pack(zlib.crc32(body))


def decode_header(data: bytes, path: str) -> Header | None:
    """The header of a segment; None when it is damaged.

    Raises LogVersionError for a newer format, LogError for a sound header of something else.
    """
    if len(data) < _START.size:
        return None
    magic, version, size = _START.unpack_from(data)
    if not _START.size <= size <= len(data) - _CRC.size:
        return None
    if _CRC.unpack_from(data, size)[0] != zlib.crc32(data[:size]):
        return None
    if magic != _MAGIC:
        raise LogError(f"{path}: is no segment of a log of this program: move it elsewhere")
    if version != VERSION or size != _HEADER.size:
        raise LogVersionError(
            f"{path}: has format version {version}, this program reads version {VERSION}:"
            " nothing was changed; run the program that wrote it, or a newer one"
        )
    _, _, _, kind, log_id, first, capacity = _HEADER.unpack_from(data)
    text = kind.rstrip(b"\0").decode("ascii", "replace")
    return Header(kind=text, log_id=log_id, first_sequence=first, capacity=capacity)


@frozen
class Hole:
    """Bytes *start* to *end* between good frames that are none; *first* to *last* are missing.

    *last* is *first* - 1 when no record is.
    """

    start: int
    end: int
    first: int
    last: int


@define
class Scan:
    """What is in a segment; complete once `batches` was exhausted.

    *end* is behind the last good frame, *used* behind the last byte that is not zero, *next* the
    sequence that would come next, *durable* what the frames prove to be durable, *gaps* the torn
    ranges that gap frames name.
    """

    name: str
    data: bytes = field(repr=False)
    header: Header | None
    size: int = field(init=False)
    next: int = field(init=False)
    end: int = field(init=False, default=HEADER_BYTES)
    used: int = field(init=False)
    durable: int = field(init=False, default=0)
    sealed: bool = field(init=False, default=False)
    holes: list[Hole] = field(init=False, factory=list)
    gaps: list[tuple[int, int]] = field(init=False, factory=list)
    _runs: list[tuple[int, int]] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        if self.header is not None:
            self.data = self.data[: self.header.capacity]
        self.size = len(self.data)
        self.next = self.first
        self.used = _used(self.data)

    @property
    def first(self) -> int:
        """The first sequence it may hold."""
        return first_of(self.name)

    @property
    def empty(self) -> bool:
        """Whether no good frame was found."""
        return self.end == HEADER_BYTES

    def batches(self) -> Iterator[Batch]:
        """Its records in order, a few thousand at a time, leaving out what is broken."""
        while True:
            payloads, end, durable = read_records(self.data, self.end, self.next, _RUN)
            if payloads:
                self._runs.append((self.next, self.end))
                batch = Batch(first_sequence=self.next, payloads=payloads)
                self.next, self.end = self.next + len(payloads), end
                self.durable = max(self.durable, durable)
                yield batch
            elif not self._step():
                break

    def offset_behind(self, sequence: int) -> int:
        """Where the frame of the first record behind *sequence* starts, or the end."""
        offset = HEADER_BYTES
        for first, start in self._runs:
            if first <= sequence + 1:
                offset = start
        while offset < self.end:
            frame = decode(self.data, offset)
            if frame is None or frame.last > sequence:
                break
            offset = frame.end
        return offset

    def _step(self) -> bool:
        """Go past what is no record: a meta frame, or broken bytes up to the next good frame."""
        frame = find_frame(self.data, self.end, self.next, self.used)
        if frame is None:
            return False
        if frame.start > self.end:
            self.holes.append(Hole(self.end, frame.start, self.next, frame.before))
        self.next, self.end = frame.before + 1, frame.start
        if frame.kind is not Kind.RECORD:
            self._pass(frame)
        return True

    def _pass(self, frame: Frame) -> None:
        if frame.kind is Kind.GAP and frame.last > frame.before:
            self.gaps.append((frame.before + 1, frame.last))
        self.sealed |= frame.kind is Kind.SEAL
        self.durable = max(self.durable, frame.durable)
        self.next, self.end = frame.last + 1, frame.end


def resembles(data: bytes) -> bool:
    """Whether this begins like a segment whose header took some damage, or was lost."""
    start = data[: len(_MAGIC)]
    same = sum(found == wanted for found, wanted in zip(start, _MAGIC, strict=False))
    return not start.strip(b"\0") or same >= len(_MAGIC) // 2


def _used(data: bytes) -> int:
    """How long *data* is without the zeros at its end."""
    end = len(data)
    while end >= len(_ZEROS) and data[end - len(_ZEROS) : end] == _ZEROS:
        end -= len(_ZEROS)
    return len(data[max(0, end - len(_ZEROS)) : end].rstrip(b"\0")) + max(0, end - len(_ZEROS))
