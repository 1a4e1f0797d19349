"""A daemon and a journal that is not as it left it: repaired or refused, and never traded on.

Real daemons start on real files that were damaged behind their backs, next to an exchange that
would take their orders. What is refused is named with its exit code, and changes nothing.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from attrs import evolve

from tests.harness.agreement import audit, wait_agreement
from tests.harness.floor import Floor, Terms, open_floor
from tests.harness.process import RunningDaemon, daemon_command
from tests.harness.small_disk import SmallDisk, open_small_disk
from zq_daemon.journal import codec
from zq_daemon.journal.record import StrategySaved
from zq_daemon.log.frame import HEAD_BYTES, Frame, decode, encode_record
from zq_daemon.log.segment import HEADER_BYTES
from zq_daemon.model.ids import StrategyId

_SEGMENT_BYTES = 32_768
_PATIENCE_S = 40
_TRADING = Terms(churn=3)
_STILL = evolve(_TRADING, still=True)
_APART = 'control_socket = "daemon.sock"'
"""Out of the state folder, which then holds nothing but state."""
_READ_ONLY = "Read-only file system"
_ADVICE = "`zq-daemon journal verify --accept-damage`"

Damage = Callable[[Path], str]
"""Harms the journal in a folder; what has to be said about it."""


def _flipped_bit(journal: Path) -> str:
    return _flip(_segments(journal)[1], _SEGMENT_BYTES // 2)


def _flipped_bit_near_the_end(journal: Path) -> str:
    last = _segments(journal)[-1]
    first = next(_frames(last))
    return _flip(last, first.start + HEAD_BYTES)


def _cut_in_the_middle(journal: Path) -> str:
    return _cut(_segments(journal)[1])


def _cut_at_the_end(journal: Path) -> str:
    return _cut(_segments(journal)[-1])


def _missing(journal: Path) -> str:
    gone = _segments(journal)[1]
    gone.unlink()
    return f"journal/{gone.name}, bytes 0 to 0: the file is missing; records"


def _missing_last(journal: Path) -> str:
    gone = _segments(journal)[-1]
    gone.unlink()
    return f"journal/{gone.name}, bytes 0 to 0: the file is missing; records"


def _missing_first(journal: Path) -> str:
    first, second = _segments(journal)[:2]
    first.unlink()
    last = int(second.name[:20]) - 1
    return f"records 1 to {last} are neither in journal nor in journal/archive: put the files"


def _emptied(journal: Path) -> str:
    return _cut(_segments(journal)[1], 0)


def _newer(journal: Path) -> str:
    segment = _segments(journal)[-1]
    head = bytearray(segment.read_bytes()[: HEADER_BYTES - 8])
    head[8:12] = struct.pack("<I", 2)
    _overwrite(segment, 0, bytes(head) + struct.pack("<Q", zlib.crc32(head)))
    return (
        f"journal/{segment.name}: has format version 2, this program reads version 1: "
        "nothing was changed; run the program that wrote it, or a newer one"
    )


DAMAGES: Mapping[Damage, str] = {
    _flipped_bit: _ADVICE,
    _flipped_bit_near_the_end: _ADVICE,
    _cut_in_the_middle: _ADVICE,
    _cut_at_the_end: _ADVICE,
    _missing: _ADVICE,
    _missing_last: _ADVICE,
    _missing_first: "put the files that are missing back",
    _emptied: _ADVICE,
    _newer: "run the program that wrote it, or a newer one",
}


@pytest.mark.patience(150)
async def test_damage_is_named_and_a_backup_mends_it(tmp_path: Path) -> None:
    """Nothing is sent before the very files are back."""
    async with open_floor(tmp_path, seed=2) as floor:
        await _trade_and_die(floor, segments=4)
        journal, backup = floor.state / "journal", tmp_path / "backup"
        shutil.copytree(journal, backup)
        posts = len(floor.wire.posts)
        for damage, advice in DAMAGES.items():
            named = damage(journal)
            await _check_refused(floor, 65, named, advice)
            for segment in _segments(backup):
                shutil.copy(segment, journal)
        assert await _journal_command(floor, "verify") == (0, "")
        assert len(floor.wire.posts) == posts
        await _go_on(floor)


async def test_a_torn_tail_is_repaired_and_trading_goes_on(tmp_path: Path) -> None:
    """What a write that never returned may have left behind the last record: each of these."""
    async with open_floor(tmp_path, seed=3) as floor:
        for torn in (_half_a_record, _noise, _a_record_behind_a_hole):
            await _trade_and_die(floor, segments=1)
            _tear(floor.state / "journal", torn)
            await _go_on(floor)
        assert await _journal_command(floor, "verify") == (0, "")


async def test_damage_that_is_accepted_is_made_good_by_the_venue(tmp_path: Path) -> None:
    """A fill is lost; nobody goes on without being told to, and then it is fetched again."""
    async with open_floor(tmp_path, seed=4) as floor:
        await _trade_and_die(floor, segments=2, fills=2)
        trade_id, named = _lose_a_fill(floor.state / "journal")
        await _check_refused(floor, 65, named, _ADVICE)
        code, told = await _journal_command(floor, "verify")
        assert (code, named in told) == (65, True)

        assert await _journal_command(floor, "verify", "--accept-damage") == (0, "")
        floor.configure(_STILL)
        async with floor.daemon() as daemon:
            await daemon.wait_event("running")
            await wait_agreement(floor)
            assert await daemon.stop() == 0
        assert await daemon.wait_event("order filled", trade_id=trade_id)
        await audit(floor)


async def test_a_second_daemon_is_kept_out(tmp_path: Path) -> None:
    async with open_floor(tmp_path, seed=5) as floor:
        floor.configure(_TRADING)
        async with floor.daemon() as first:
            await floor.wire.wait_posts(lambda: bool(floor.wire.sent()), "an order")
            for extra, named in {
                "": "another daemon is listening at",
                _APART: f"journal/lock is held by process {first.process.pid}",
            }.items():
                floor.configure(evolve(_TRADING, extra=extra))
                async with floor.daemon() as second:
                    assert await second.wait_exit() == 69
                assert named in _fatal(second)
            since = len(floor.wire.posts)
            await floor.wire.wait_posts(lambda: len(floor.wire.posts) > since, "one more")
            assert await first.stop() == 0
        assert len({cloid[:18] for cloid in floor.wire.sent()}) == 1


async def test_a_disk_that_fills_up_ends_it_and_space_brings_it_back(tmp_path: Path) -> None:
    async with _floor_on_a_small_disk(tmp_path, "300k") as (floor, disk):
        floor.configure(evolve(_TRADING, extra=_APART))
        async with floor.mortal("--segment-bytes", str(2 * _SEGMENT_BYTES)) as daemon:
            assert await daemon.wait_exit() == 70
        warned = await daemon.wait_event(
            "the next log segment cannot be made: the log fails when this one is full"
        )
        assert "No space left on device" in warned["error"]
        assert "the journal cannot be written" in _fatal(daemon)
        assert "No space left on device" in _fatal(daemon)
        assert floor.wire.sent()
        await audit(floor)

        await disk.remount("size=64m")
        floor.configure(evolve(_STILL, extra=_APART))
        async with floor.daemon() as daemon:
            await daemon.wait_event("running")
            await wait_agreement(floor)
            assert await daemon.stop() == 0
        await audit(floor)


async def test_a_disk_that_is_full_at_the_start(tmp_path: Path) -> None:
    async with _floor_on_a_small_disk(tmp_path, "64k") as (floor, _):
        floor.configure(evolve(_TRADING, extra=_APART))
        await _check_refused(floor, 70, "log journal: cannot be opened", "No space left on device")


async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    async with open_floor(tmp_path, seed=7) as floor:
        await _trade_and_die(floor, segments=1)
        floor.socket.unlink()
        async with open_small_disk(floor.state, "64m") as disk:
            shutil.copytree(floor.state, disk.outside, dirs_exist_ok=True)
            await disk.remount("ro")
            floor.inside = disk.inside
            floor.configure(evolve(_TRADING, extra=_APART))
            await _check_refused(floor, 70, "log journal: cannot be opened", _READ_ONLY)
            floor.configure(_TRADING)
            await _check_refused(floor, 69, "var/control.sock", _READ_ONLY)


@asynccontextmanager
async def _floor_on_a_small_disk(folder: Path, size: str) -> AsyncIterator[tuple[Floor, SmallDisk]]:
    """A floor whose state folder is a disk of *size*, which is looked at from outside."""
    state = folder / "var"
    state.mkdir()
    async with open_floor(folder, seed=6) as floor, open_small_disk(state, size) as disk:
        floor.inside, floor.state = disk.inside, disk.outside
        floor.socket = folder / "daemon.sock"
        yield floor, disk


async def _trade_and_die(floor: Floor, *, segments: int, fills: int = 0) -> None:
    """Trade until there are orders at rest, fills, and so many segments since; then `kill -9`."""
    floor.configure(_TRADING)
    async with floor.mortal("--segment-bytes", str(_SEGMENT_BYTES)) as daemon:
        await daemon.wait_event("running")
        await floor.wait_resting(1)
        with trio.fail_after(_PATIENCE_S):
            while len((await floor.ask("userFills"))[0]) < fills:
                await trio.sleep(0.05)
            journal = floor.state / "journal"
            wanted = len(_segments(journal)) - 1 + segments
            while len(_segments(journal)) < wanted or not _is_proven(_segments(journal)[-1]):
                await trio.sleep(0.05)
        daemon.process.kill()
        await daemon.wait_exit()


async def _go_on(floor: Floor) -> None:
    """A start that finds everything in order, and trades."""
    floor.configure(_STILL)
    async with floor.daemon() as daemon:
        await daemon.wait_event("running")
        await wait_agreement(floor)
        sent = len(floor.wire.sent())
        await floor.reload(_TRADING)
        await floor.wire.wait_posts(lambda: len(floor.wire.sent()) > sent, "a new order")
        assert await daemon.stop() == 0
    await audit(floor)


async def _check_refused(floor: Floor, code: int, *named: str) -> None:
    """The next start fails, and says so; nothing is sent, no record is changed."""
    posts, before = len(floor.wire.posts), _digests(floor.state / "journal")
    async with floor.daemon() as daemon:
        assert await daemon.wait_exit() == code
    for each in named:
        assert each in _fatal(daemon)
    assert len(floor.wire.posts) == posts
    assert _digests(floor.state / "journal") == before


def _fatal(daemon: RunningDaemon) -> str:
    """What it died of, the last thing it says."""
    assert daemon.log[-1]["event"] == "fatal", daemon.log
    assert "exception" not in daemon.log[-1]
    return str(daemon.log[-1]["error"])


async def _journal_command(floor: Floor, *arguments: str) -> tuple[int, str]:
    """The exit code of `zq-daemon journal`, and what it says on stderr."""
    command = daemon_command("journal", *arguments, "--config", str(floor.config))
    done = await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True)
    return done.returncode, done.stderr.decode()


def _segments(journal: Path) -> list[Path]:
    return sorted(journal.glob("[0-9]*.log"))


def _digests(journal: Path) -> Mapping[str, str]:
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in _segments(journal)}


def _frames(segment: Path) -> Iterator[Frame]:
    data, offset = segment.read_bytes(), HEADER_BYTES
    while (frame := decode(data, offset)) is not None and frame.last:
        yield frame
        offset = frame.end


def _is_proven(segment: Path) -> bool:
    """Whether a later frame says that the first one was durable: else it may have been torn."""
    frames = list(_frames(segment))
    return any(each.durable >= frames[0].last for each in frames[1:])


def _flip(segment: Path, offset: int) -> str:
    (frame,) = [each for each in _frames(segment) if each.start <= offset < each.end]
    byte = segment.read_bytes()[offset]
    _overwrite(segment, offset, bytes([byte ^ 4]))
    return (
        f"journal/{segment.name}, bytes {frame.start} to {frame.end}: no sound record; "
        f"record {frame.last} is lost"
    )


def _cut(segment: Path, size: int = _SEGMENT_BYTES // 3) -> str:
    os.truncate(segment, size)
    return f"to {_SEGMENT_BYTES}: cut to {size} bytes; how many records there were is not known"


def _overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def _tear(journal: Path, torn: Callable[[int, bytes], bytes]) -> None:
    """Put behind the last frame what *torn* makes of the next sequence and of a record's bytes."""
    segment = _segments(journal)[-1]
    *_, last = _frames(segment)
    saved = StrategySaved(strategy_id=StrategyId("gone"), version=1, data={}, ts_event_ns=1)
    record = codec.encode(saved)
    _overwrite(segment, last.end, torn(last.last + 1, record))


def _half_a_record(sequence: int, record: bytes) -> bytes:
    return encode_record(sequence, 0, record)[:40]


def _noise(_: int, __: bytes) -> bytes:
    return random.Random(7).randbytes(700)


def _a_record_behind_a_hole(sequence: int, record: bytes) -> bytes:
    """A later sector of one write survived, an earlier one did not."""
    return bytes(512) + encode_record(sequence + 2, 0, record)


def _lose_a_fill(journal: Path) -> tuple[str, str]:
    """Flip a bit in the first record of a fill: its trade id, and what has to be said of it."""
    for segment in _segments(journal)[:-1]:
        data = segment.read_bytes()
        for frame in _frames(segment):
            start = frame.start + HEAD_BYTES
            if data[start] == codec.FILLED:
                event = codec.decode(data[start : frame.end].rstrip(b"\0"))
                return event.fill.trade_id, _flip(segment, start + 40)
    raise AssertionError("no fill in the journal")
