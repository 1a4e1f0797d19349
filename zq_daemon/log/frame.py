"""One frame of a log: its bytes, how they are checked, and where the next good one begins.

Owns the layout, little-endian, each frame at a multiple of 8 bytes:

    crc32 u32 | kind (4 bits) and payload length (28 bits) u32 | sequence u64 | durable u64
    payload, zeros up to the next multiple of 8

The checksum (zlib's) covers everything behind it, the padding too. Twenty-four zero bytes are no
frame. What *sequence* and *durable* say depends on the kind:

- RECORD: its own sequence; what was durable for certain when it was written.
- MARK, SEAL: the last record's sequence, which is durable for certain. A mark is written when
  nothing more comes for a while, a seal when the log went on in another segment.
- GAP: the last and, in *durable*, the one before the first of the sequences that a power cut tore
  and that were never durable. Its payload is whatever was found there.

It never touches a disk. Called by the segment scan and by the writer.
"""

from __future__ import annotations

import enum
import struct
import zlib

from attrs import frozen

HEAD_BYTES = 24
MAX_PAYLOAD_BYTES = (1 << 28) - 1

_HEAD = struct.Struct("<IIQQ")
_BODY = struct.Struct("<IQQ")
_CRC = struct.Struct("<I")
_KIND_SHIFT = 28
_PADDING = [bytes(-length % 8) for length in range(8)]


class Kind(enum.IntEnum):
    """What a frame is."""

    RECORD = 0
    MARK = 1
    SEAL = 2
    GAP = 3


@frozen(kw_only=True)
class Frame:
    """A frame that verified: bytes *start* to *end*.

    It follows the record with the sequence *before*; the next one follows *last*. Everything up
    to *durable* was durable when it was written (0: it says nothing of that).
    """

    kind: Kind
    start: int
    end: int
    before: int
    last: int
    durable: int


def frame_bytes(payload_bytes: int) -> int:
    """How long the frame of a payload is."""
    return (HEAD_BYTES + payload_bytes + 7) & -8


def encode_record(sequence: int, durable: int, payload: bytes) -> bytes:
    """The bytes of a record's frame."""
    return _framed(len(payload), sequence, durable, payload)


def encode_proof(kind: Kind, sequence: int) -> bytes:
    """The bytes of a MARK or SEAL: everything up to *sequence* is durable."""
    return _framed(kind.value << _KIND_SHIFT, sequence, sequence, b"")


def encode_gap(first: int, last: int, torn: bytes) -> bytes:
    """The bytes that replace *torn* ones, as many: records *first* to *last* never were durable."""
    found = torn[HEAD_BYTES:]
    return _framed(Kind.GAP.value << _KIND_SHIFT | len(found), last, first - 1, found)


def read_records(
    data: bytes, offset: int, sequence: int, at_most: int
) -> tuple[list[bytes], int, int]:
    """The payloads of the good records at *offset* that are *sequence*, *sequence* + 1, ...

    Returns them, the offset behind them, and what the last of them says is durable (0: none).
    Stops at whatever else is there. This loop is what opening and replaying a log costs.
    """
    unpack, crc32, size, durable = _HEAD.unpack_from, zlib.crc32, len(data), 0
    payloads: list[bytes] = []
    append = payloads.append
    last_head = size - HEAD_BYTES
    for expected in range(sequence, sequence + at_most):
        if offset > last_head:
            break
        crc, length, found, durable_then = unpack(data, offset)
        stop = offset + HEAD_BYTES + length  # far beyond the end for any kind but a record
        end = (stop + 7) & -8
        # Copying the bytes is faster than a view of them as long as records are small.
        if found != expected or end > size or crc32(data[offset + 4 : end]) != crc:
            break
        append(data[offset + HEAD_BYTES : stop])
        durable = durable_then
        offset = end
    return payloads, offset, min(durable, sequence + len(payloads) - 1)


def decode(data: bytes, offset: int) -> Frame | None:
    """The frame at *offset*, of any kind; None when what is there does not verify."""
    if offset + HEAD_BYTES > len(data):
        return None
    crc, tagged, sequence, durable = _HEAD.unpack_from(data, offset)
    kind, length = tagged >> _KIND_SHIFT, tagged & MAX_PAYLOAD_BYTES
    end = offset + frame_bytes(length)
    if kind > Kind.GAP or durable > sequence or end > len(data):
        return None
    if zlib.crc32(memoryview(data)[offset + 4 : end]) != crc:
        return None
    before = {Kind.RECORD: sequence - 1, Kind.GAP: durable}.get(kind, sequence)
    known = 0 if kind == Kind.GAP else durable
    return Frame(
        kind=Kind(kind), start=offset, end=end, before=before, last=sequence, durable=known
    )


def find_frame(data: bytes, offset: int, expected: int, stop: int) -> Frame | None:
    """The first good frame at *offset* or behind that can follow the record before *expected*.

    It starts before *stop*. A frame that claims more lost records than fit into the bytes in
    between is none of ours.
    """
    unpack, low = _HEAD.unpack_from, expected - 1
    for start in range(offset, min(stop, len(data) - HEAD_BYTES + 1), 8):
        crc, _, sequence, durable = unpack(data, start)
        high = low + (start - offset) // HEAD_BYTES
        if sequence < low or durable > high or not (crc or sequence):
            continue
        frame = decode(data, start)
        if frame is not None and low <= frame.before <= high:
            return frame
    return None


def _framed(tagged_length: int, sequence: int, durable: int, payload: bytes) -> bytes:
    padding = _PADDING[len(payload) & 7]
    body = _BODY.pack(tagged_length, sequence, durable) + payload + padding
    return _CRC.pack(zlib.crc32(body)) + body
