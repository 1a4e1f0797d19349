"""Frames: what verifies, what does not, and where the next good one is found."""

from __future__ import annotations

import random
import struct
import zlib

import pytest

from zq_daemon.log.frame import (
    HEAD_BYTES,
    Frame,
    Kind,
    decode,
    encode_gap,
    encode_proof,
    encode_record,
    find_frame,
    frame_bytes,
    read_records,
)

PAYLOADS = [b"", b"1", b"12345678", b"x" * 200, b"\0" * 13]
RECORDS = [encode_record(7 + n, 6, payload) for n, payload in enumerate(PAYLOADS)]
DATA = b"".join(RECORDS)


def test_records_are_read_as_they_were_written() -> None:
    assert read_records(DATA + bytes(64), 0, 7, 100) == (PAYLOADS, len(DATA), 6)


def test_frames_start_at_multiples_of_eight_and_say_how_long_they_are() -> None:
    for payload, frame in zip(PAYLOADS, RECORDS, strict=True):
        assert len(frame) == frame_bytes(len(payload))
        assert len(frame) % 8 == 0


def test_no_more_are_read_than_asked_for() -> None:
    payloads, end, _ = read_records(DATA, 0, 7, 2)
    assert payloads == PAYLOADS[:2]
    assert read_records(DATA, end, 9, 100)[0] == PAYLOADS[2:]


@pytest.mark.parametrize("sequence", [6, 8, 0])
def test_another_sequence_is_not_read(sequence: int) -> None:
    assert read_records(DATA, 0, sequence, 100)[0] == []


def test_every_flipped_bit_of_a_record_is_noticed() -> None:
    frame = encode_record(7, 6, b"payload of 20 bytes.")
    for bit in range(len(frame) * 8):
        broken = bytearray(frame)
        broken[bit // 8] ^= 1 << bit % 8
        assert read_records(bytes(broken), 0, 7, 1)[0] == []
        assert decode(bytes(broken), 0) is None


@pytest.mark.parametrize("left", range(0, 48, 5))
def test_a_frame_cut_short_is_none(left: int) -> None:
    frame = encode_record(1, 0, b"payload of 20 bytes.")
    assert read_records(frame[:left], 0, 1, 1)[0] == []
    assert decode(frame[:left], 0) is None


def test_zeros_are_no_frame() -> None:
    assert read_records(bytes(4096), 0, 0, 1)[0] == []
    assert decode(bytes(4096), 0) is None
    assert find_frame(bytes(4096), 0, 1, 4096) is None


@pytest.mark.parametrize("kind", [Kind.MARK, Kind.SEAL])
def test_a_proof_follows_the_record_it_names(kind: Kind) -> None:
    frame = encode_proof(kind, 5)
    assert decode(frame, 0) == Frame(kind=kind, start=0, end=24, before=5, last=5, durable=5)
    assert read_records(frame, 0, 5, 1)[0] == []


@pytest.mark.parametrize("size", [24, 32, 240])
def test_a_gap_replaces_what_was_torn(size: int) -> None:
    torn = random.Random(1).randbytes(size)
    frame = encode_gap(5, 9, torn)
    assert len(frame) == size
    assert frame[HEAD_BYTES:] == torn[HEAD_BYTES:]
    found = decode(frame, 0)
    assert found == Frame(kind=Kind.GAP, start=0, end=size, before=4, last=9, durable=0)


@pytest.mark.parametrize("kind", range(16))
def test_an_unknown_kind_is_none(kind: int) -> None:
    body = struct.pack("<IQQ", kind << 28, 5, 0)
    frame = struct.pack("<I", zlib.crc32(body)) + body
    assert (decode(frame, 0) is not None) == (kind in set(Kind))


def test_the_next_good_frame_is_found_behind_broken_bytes() -> None:
    junk = random.Random(2).randbytes(96)
    frame = find_frame(junk + DATA, 0, 5, 8192)
    assert frame is not None
    assert (frame.start, frame.before, frame.last) == (96, 6, 7)


def test_a_frame_that_claims_more_than_can_be_lost_is_none_of_ours() -> None:
    junk = random.Random(3).randbytes(48)
    for sequence, plausible in ((5, False), (6, True), (8, True), (9, False)):
        data = junk + encode_record(sequence, 0, b"")
        assert (find_frame(data, 0, 6, 8192) is not None) == plausible, sequence


def test_a_frame_is_looked_for_before_the_stop_only() -> None:
    assert find_frame(bytes(24) + DATA, 0, 7, 24) is None
    assert find_frame(bytes(24) + DATA, 0, 7, 25) is not None
