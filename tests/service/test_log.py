"""The log's writer: commits in groups, in order, and fails for ever."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from attrs import evolve

from tests.harness.logs import (
    FOLDER,
    KIND,
    SMALL,
    fill,
    found,
    inspected,
    opened,
    payload_of,
    written,
)
from zq_daemon.errors import LogError, LogInUseError
from zq_daemon.log import Log, LogSettings, inspect_log, open_log, read_log
from zq_daemon.log.frame import frame_bytes
from zq_daemon.log.segment import first_of
from zq_daemon.ports.disk import Disk, MemoryDisk, SystemDisk

ROOMY = LogSettings(segment_bytes=65_536, max_payload_bytes=128, max_pending_bytes=2_048)


async def segments(disk: Disk) -> list[str]:
    return [name for name in await disk.list(FOLDER) if first_of(name)]


@pytest.fixture(params=["memory", "system"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return MemoryDisk() if request.param == "memory" else SystemDisk(tmp_path)


async def test_records_are_numbered_and_read_again(disk: Disk) -> None:
    async with written(disk) as log:
        assert [log.write(payload_of(n)) for n in (1, 2)] == [1, 2]
        await log.durable(2)
        assert log.durable_sequence == 2
    async with written(disk) as log:
        assert log.opening.last_sequence == log.durable_sequence == 2
        assert log.write(payload_of(3)) == 3
    assert await found(disk) == {n: payload_of(n) for n in (1, 2, 3)}


async def test_many_segments_are_read_from_any_record_on(disk: Disk) -> None:
    await fill(disk, 100)
    assert len(await segments(disk)) > 3
    everything = {n: payload_of(n) for n in range(1, 101)}
    assert await found(disk) == everything
    for after in (0, 1, 41, 99, 100, 500):
        wanted = {n: payload for n, payload in everything.items() if n > after}
        assert await found(disk, after=after) == wanted


@pytest.mark.virtual
async def test_durable_returns_when_it_is_and_not_before() -> None:
    disk = MemoryDisk()
    async with written(disk, settings=ROOMY) as log:
        disk.sync_s = 1
        log.write(b"first")
        began = trio.current_time()
        await log.durable()
        assert trio.current_time() - began == pytest.approx(1)
        await log.durable(1)
        assert trio.current_time() - began == pytest.approx(1)
        disk.sync_s = 0


@pytest.mark.virtual
async def test_what_nobody_waits_for_lingers_and_shares_the_sync_of_what_somebody_does() -> None:
    disk = MemoryDisk()
    async with written(disk, settings=evolve(ROOMY, linger_ms=20)) as log:
        began = trio.current_time()
        log.write(b"an event")
        await trio.sleep(0.019)
        assert log.durable_sequence == 0
        await trio.sleep(0.002)
        assert (log.durable_sequence, log.commits) == (1, 1)
        log.write(b"another")
        await trio.sleep(0.005)
        log.write(b"an intent")
        await log.durable()
        assert trio.current_time() - began == pytest.approx(0.026)
        assert (log.durable_sequence, log.commits) == (3, 2)


@pytest.mark.virtual
async def test_what_came_during_a_commit_lingers_too() -> None:
    """Between two intents there is no sync of its own for the events of the first."""
    disk = MemoryDisk()
    async with written(disk, settings=evolve(ROOMY, linger_ms=20)) as log:
        disk.sync_s = 0.005
        log.write(b"an intent")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.durable)
            await trio.sleep(0.002)
            log.write(b"an event")
        began = trio.current_time()
        await trio.sleep(0.004)
        log.write(b"an intent")
        await log.durable()
        assert trio.current_time() - began == pytest.approx(0.009)
        assert (log.durable_sequence, log.commits) == (3, 2)


@pytest.mark.virtual
async def test_who_waits_for_room_does_not_wait_for_a_linger() -> None:
    disk = MemoryDisk()
    settings = evolve(ROOMY, linger_ms=60_000, max_pending_bytes=64)
    async with written(disk, settings=settings) as log:
        log.write(b"x" * 100)
        began = trio.current_time()
        await log.room()
        assert trio.current_time() == began


@pytest.mark.virtual
async def test_lingering_ends_at_the_close() -> None:
    disk = MemoryDisk()
    async with written(disk, settings=evolve(ROOMY, linger_ms=60_000)) as log:
        log.write(b"an event")
        began = trio.current_time()
        await trio.sleep(1)
    assert trio.current_time() - began == pytest.approx(1)
    assert await found(disk) == {1: b"an event"}


@pytest.mark.virtual
async def test_what_waits_is_committed_together() -> None:
    disk = MemoryDisk()
    order: list[int] = []

    async def append(log: Log) -> None:
        sequence = log.write(b"x" * 100)
        await log.durable(sequence)
        order.append(sequence)

    async with written(disk, settings=ROOMY) as log:
        disk.sync_s = 1
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                for _ in range(10):
                    nursery.start_soon(append, log)
                await trio.sleep(0.05)
        assert log.commits == 2  # the first ten alone, then all that waited meanwhile
        assert trio.current_time() - began == pytest.approx(2, abs=0.01)
        assert sorted(order[:10]) == list(range(1, 11))
        assert sorted(order) == list(range(1, 101))
        disk.sync_s = 0


@pytest.mark.virtual
async def test_waiters_are_woken_by_their_own_commit() -> None:
    disk = MemoryDisk()
    woken: list[tuple[int, float]] = []

    async def wait(log: Log, sequence: int) -> None:
        await log.durable(sequence)
        woken.append((sequence, trio.current_time()))

    async with written(disk, settings=ROOMY) as log:
        disk.sync_s = 1
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, log, log.write(b"1"))
            await trio.sleep(0.5)
            nursery.start_soon(wait, log, log.write(b"2"))
            nursery.start_soon(wait, log, 1)
        assert sorted((n, round(at - began, 3)) for n, at in woken) == [(1, 1), (1, 1), (2, 2)]
        disk.sync_s = 0


@pytest.mark.virtual
async def test_a_cancelled_waiter_changes_nothing() -> None:
    disk = MemoryDisk()
    async with written(disk) as log:
        disk.sync_s = 1
        log.write(b"1")
        with trio.move_on_after(0.5) as scope:
            await log.durable()
        assert scope.cancelled_caught
        log.write(b"2")
        await log.durable()
        disk.sync_s = 0
    assert await found(disk) == {1: b"1", 2: b"2"}


@pytest.mark.virtual
async def test_a_failed_write_breaks_the_log_for_good() -> None:
    disk = MemoryDisk()
    failures: list[str] = []

    async def fails(log: Log) -> None:
        with pytest.raises(LogError) as failed:
            await log.durable()
        failures.append(str(failed.value))

    async with opened(disk) as log, trio.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(LogError, match=f"log {FOLDER}: a write failed .*No space left"):
                await log.run()

        nursery.start_soon(run)
        log.write(b"1")
        await log.durable()
        disk.fail(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        log.write(b"2")
        async with trio.open_nursery() as waiters:
            for _ in range(3):
                waiters.start_soon(fails, log)
        disk.fail(None)
        await fails(log)
        for call in (lambda: log.write(b"3"), log.close):
            try:
                call()
            except LogError as error:
                failures.append(str(error))
        with pytest.raises(LogError):
            await log.room()
        assert len(failures) == 5
        assert all("No space left" in failure for failure in failures)
        await log.durable(1)
        assert log.durable_sequence == 1
    assert await found(disk) == {1: b"1"}


@pytest.mark.virtual
@pytest.mark.parametrize("refused", [1, 2, 3])
async def test_a_segment_that_cannot_be_made_breaks_the_log_when_it_is_needed(refused: int) -> None:
    disk = MemoryDisk(capacity=refused * SMALL.segment_bytes)
    async with opened(disk) as log, trio.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(LogError, match="No space left"):
                await log.run()

        nursery.start_soon(run)
        with pytest.raises(LogError, match="No space left"):
            while True:
                await log.durable(log.write(b"x" * 100))
        durable = log.durable_sequence
        assert log.stats().segments_made == refused
    disk.capacity = None
    async with written(disk) as log:
        assert log.opening.last_sequence == durable
        assert log.opening.damages == ()
    assert len(await found(disk)) == durable > 0


@pytest.mark.virtual
async def test_the_next_segment_is_made_ahead_and_costs_no_commit() -> None:
    disk = MemoryDisk()
    async with written(disk) as log:
        while len(await segments(disk)) == 1:
            if "next.log" in await disk.list(FOLDER):
                break
            await log.durable(log.write(b"x" * 100))
            await trio.lowlevel.checkpoint()
        used = log.durable_sequence * frame_bytes(100)
        assert "next.log" in await disk.list(FOLDER)
        assert SMALL.segment_bytes * 0.7 < used < SMALL.segment_bytes
    await fill(disk, 20)
    assert len(await found(disk)) == log.durable_sequence + 20


@pytest.mark.virtual
async def test_room_waits_while_too_much_waits() -> None:
    disk = MemoryDisk()
    async with written(disk, settings=ROOMY) as log:
        disk.sync_s = 1
        began = trio.current_time()
        log.write(b"x")
        await trio.testing.wait_all_tasks_blocked()
        while log.stats().pending_bytes < ROOMY.max_pending_bytes:
            await log.room()
            log.write(b"x" * 100)
        assert trio.current_time() == began
        await log.room()
        assert trio.current_time() - began == pytest.approx(1)
        disk.sync_s = 0


@pytest.mark.virtual
async def test_who_does_not_wait_for_room_is_refused_in_the_end() -> None:
    async with written(MemoryDisk(), settings=ROOMY) as log:
        with pytest.raises(LogError, match="too slow"):
            for _ in range(1_000):
                log.write(b"x" * 100)
        assert log.stats().pending_bytes < 9 * ROOMY.max_pending_bytes
        accepted = log.stats().written_sequence
        await log.durable()
        assert log.write(b"y") == accepted + 1


@pytest.mark.virtual
async def test_closing_drains_and_then_refuses() -> None:
    disk = MemoryDisk()
    async with opened(disk) as log, trio.open_nursery() as nursery:
        await nursery.start(log.run)
        disk.sync_s = 1
        for n in range(1, 40):
            log.write(payload_of(n))
        log.close()
        with pytest.raises(LogError, match="closed"):
            log.write(b"late")
        await log.durable()
        disk.sync_s = 0
    assert await found(disk) == {n: payload_of(n) for n in range(1, 40)}


@pytest.mark.virtual
async def test_a_writer_that_is_cancelled_finishes_its_commit_and_fails_the_rest() -> None:
    disk = MemoryDisk()
    async with opened(disk, settings=ROOMY) as log:
        async with trio.open_nursery() as nursery:
            await nursery.start(log.run)
            disk.sync_s = 1
            log.write(b"under way")
            await trio.sleep(0.5)
            log.write(b"waits")
            nursery.cancel_scope.cancel()
        assert log.durable_sequence == 1
        await log.durable(1)
        with pytest.raises(LogError, match="stopped before 1 records were durable"):
            await log.durable(2)
        disk.sync_s = 0
    assert await found(disk) == {1: b"under way"}


@pytest.mark.virtual
async def test_leaving_without_a_writer_fails_who_waits() -> None:
    async with trio.open_nursery() as nursery, opened(MemoryDisk()) as log:
        sequence = log.write(b"1")

        async def wait() -> None:
            with pytest.raises(LogError, match="stopped"):
                await log.durable(sequence)

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()


@pytest.mark.virtual
async def test_there_is_one_writer() -> None:
    async with written(MemoryDisk()) as log:
        with pytest.raises(LogError, match="a writer already"):
            await log.run()


async def test_a_second_opener_is_told_who_has_it(disk: Disk) -> None:
    async with opened(disk):
        with pytest.raises(LogInUseError, match=f"lock is held by process {os.getpid()}"):
            async with opened(disk):
                pass
        assert (await inspected(disk)).last_sequence == 0
    async with opened(disk):
        pass


async def test_a_record_over_the_limit_is_refused_and_takes_no_sequence() -> None:
    async with written(MemoryDisk()) as log:
        with pytest.raises(LogError, match="129 bytes is over the limit of 128"):
            log.write(b"x" * 129)
        assert log.write(b"x" * 128) == 1


async def test_waiting_for_what_was_not_written_is_a_mistake() -> None:
    async with written(MemoryDisk()) as log:
        with pytest.raises(ValueError, match="sequence 1"):
            await log.durable(1)
        await log.durable()


@pytest.mark.parametrize(
    "wrong",
    [
        {"segment_bytes": 100},
        {"segment_bytes": 1 << 29},
        {"max_payload_bytes": 0},
        {"max_pending_bytes": 0},
        {"segment_bytes": 4_096, "max_payload_bytes": 4_096},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        LogSettings(**wrong)


async def test_the_largest_record_fits_the_smallest_segment() -> None:
    disk = MemoryDisk()
    least = LogSettings(segment_bytes=1_024, max_payload_bytes=128).least_segment_bytes
    settings = LogSettings(segment_bytes=least, max_payload_bytes=128)
    async with written(disk, settings=settings) as log:
        for _ in range(3):
            await log.durable(log.write(b"x" * 128))
    assert len(await segments(disk)) == 3
    assert (await inspected(disk)).damages == ()
    assert len(await found(disk)) == 3


async def test_replay_comes_with_opening() -> None:
    disk, seen = MemoryDisk(), dict[int, bytes]()
    await fill(disk, 60)
    async with open_log(
        disk,
        FOLDER,
        kind=KIND,
        settings=SMALL,
        rng=random.Random(1),
        on_batch=lambda batch: seen.update(enumerate(batch.payloads, batch.first_sequence)),
    ):
        assert seen == {n: payload_of(n) for n in range(1, 61)}


async def test_a_log_is_read_beside_its_writer() -> None:
    disk = MemoryDisk()
    async with written(disk) as log:
        for n in range(1, 80):
            await log.durable(log.write(payload_of(n)))
            assert len(await found(disk, after=max(0, n - 3))) == min(n, 3)
        assert (await inspected(disk)).damages == ()


async def test_a_segment_removed_while_reading_is_told() -> None:
    disk = MemoryDisk()
    await fill(disk, 80)
    first, second, third, *_ = await segments(disk)
    reading = read_log(disk, FOLDER, kind=KIND)
    batch = await anext(reading)
    await disk.remove(f"{FOLDER}/{first}")
    await disk.remove(f"{FOLDER}/{second}")
    with pytest.raises(LogError, match=f"after {batch.last_sequence} were removed, those from "):
        await anext(reading)
    with pytest.raises(LogError, match="start from a snapshot"):
        await found(disk, after=0)
    assert min(await found(disk, after=first_of(third) - 1)) == first_of(third)
    assert min(await found(disk)) == first_of(third)


async def test_where_there_is_no_log_nothing_is_read(tmp_path: Path) -> None:
    for disk in (MemoryDisk(), SystemDisk(tmp_path)):
        for reading in (found(disk), inspected(disk)):
            with pytest.raises(LogError, match=f"log {FOLDER}: there is none"):
                await reading
    assert list(tmp_path.iterdir()) == []


async def test_a_disk_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file")
    with pytest.raises(LogError, match=f"log {FOLDER}: cannot be opened: .*File exists"):
        async with opened(SystemDisk(tmp_path)):
            pass
    disk = MemoryDisk()
    disk.fail(OSError(errno.EROFS, "Read-only file system"))
    with pytest.raises(LogError, match=f"log {FOLDER}: cannot be opened: .*Read-only"):
        async with opened(disk):
            pass
    disk.fail(None)
    async with opened(disk):
        pass


def test_a_full_and_a_read_only_disk_lose_nothing(tmp_path: Path) -> None:
    script = (
        f"mount -t tmpfs -o size=2m,mode=700 tmpfs {tmp_path} &&"
        f" {sys.executable} -m tests.harness.full_disk fill {tmp_path} &&"
        f" mount -o remount,ro {tmp_path} &&"
        f" {sys.executable} -m tests.harness.full_disk look {tmp_path}"
    )
    probe = ["unshare", "-rm", "sh", "-c", f"mount -t tmpfs -o size=2m tmpfs {tmp_path}"]
    try:
        allowed = subprocess.run(probe, capture_output=True, text=True, timeout=30)
    except FileNotFoundError:
        pytest.skip("there is no unshare here to mount a small file system with")
    if allowed.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {allowed.stderr.strip()}")
    command = ["unshare", "-rm", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    filled, looked = [line for line in done.stdout.splitlines() if line.startswith("refused: ")]
    assert "a write failed ([Errno 28] No space left on device)" in filled
    assert "cannot be opened: [Errno 30] Read-only file system" in looked
    assert "the next log segment cannot be made" in done.stdout


async def test_inspecting_changes_nothing(disk: Disk) -> None:
    await fill(disk, 30)
    before = {name: await disk.read(f"{FOLDER}/{name}") for name in await disk.list(FOLDER)}
    await inspect_log(disk, FOLDER, kind=KIND)
    assert {name: await disk.read(f"{FOLDER}/{name}") for name in before} == before
    assert set(await disk.list(FOLDER)) == set(before)
