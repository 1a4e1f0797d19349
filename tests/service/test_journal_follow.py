"""The history beside a daemon: kept up, caught up, built again, and never in the way of trading."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
import structlog
import trio
from attrs import define

from tests.harness.inline_databases import InlineDatabases
from tests.harness.journal_disk import SMALL, CutDisk, write_life
from tests.harness.journal_life import Life
from zq_daemon.errors import JournalDamagedError, JournalError
from zq_daemon.journal.compact import compact
from zq_daemon.journal.consumers import consumers, register
from zq_daemon.journal.files import HISTORY, HISTORY_LOCK
from zq_daemon.journal.follow import HistoryFollower, rebuild_history
from zq_daemon.journal.opening import OpenJournal, open_journal
from zq_daemon.journal.recent import Recent
from zq_daemon.ports.disk import Disk, SystemDisk
from zq_daemon.ports.rng import seeded_rng
from zq_daemon.ports.sqlite import Databases, SystemDatabases


@define
class Rig:
    opened: OpenJournal
    life: Life
    follower: HistoryFollower

    async def live(self, steps: int) -> int:
        """Things happen, durably; the last record."""
        for _ in range(steps):
            self.life.step()
        await self.opened.log.durable()
        return self.opened.log.durable_sequence


@asynccontextmanager
async def open_rig(
    disk: Disk, databases: Databases, *, recent_bytes: int = 1 << 20
) -> AsyncIterator[Rig]:
    opening = open_journal(disk, closed_orders=3, settings=SMALL, rng=seeded_rng(1))
    async with opening as opened, trio.open_nursery() as nursery:
        await nursery.start(opened.log.run)
        recent = Recent(recent_bytes)
        follower = HistoryFollower(disk, databases, opened.log, recent)
        last = max((run.run_id for run in opened.state.runs), default=0)
        life = Life(
            Random(1).randrange,
            log=opened.log,
            state=opened.state,
            run_id=last + 1,
            recent=recent,
        )
        await opened.log.durable()
        async with trio.open_nursery() as followers:
            await followers.start(follower.run)
            yield Rig(opened, life, follower)
            follower.close()
        opened.log.close()


def rows(path: Path) -> tuple[int, int, int]:
    """Sequence, orders and fills in the file at *path*."""
    connection = sqlite3.connect(path)
    try:
        sequence = connection.execute("SELECT value FROM meta WHERE key = 'sequence'").fetchone()
        orders = connection.execute("SELECT count(*) FROM orders").fetchone()
        fills = connection.execute("SELECT count(*) FROM fills").fetchone()
        return int(sequence[0]), orders[0], fills[0]
    finally:
        connection.close()


@pytest.mark.virtual
@pytest.mark.parametrize("recent_bytes", [1 << 20, 2_000, 0])
async def test_every_second_what_is_durable_is_in_the_history(
    tmp_path: Path, recent_bytes: int
) -> None:
    """From memory as long as that reaches, else from the files."""
    disk = CutDisk()
    async with open_rig(disk, InlineDatabases(tmp_path), recent_bytes=recent_bytes) as rig:
        await trio.sleep(2)
        last = await rig.live(60)
        assert (rig.follower.sequence or 0) < last
        await trio.sleep(1.1)
        assert rig.follower.sequence == last
        assert rig.follower.status()["behind"] == 0
        assert rows(tmp_path / HISTORY)[0] == last


@pytest.mark.virtual
async def test_closing_takes_what_is_durable_and_says_so_to_compaction(tmp_path: Path) -> None:
    disk = CutDisk()
    async with open_rig(disk, InlineDatabases(tmp_path)) as rig:
        last = await rig.live(60)
    assert rows(tmp_path / HISTORY)[0] == last
    assert await consumers(disk) == {"history": last}


@pytest.mark.virtual
async def test_a_start_catches_up_also_from_the_archive(tmp_path: Path) -> None:
    disk = CutDisk()
    await write_life(disk, 1, 200)
    await compact(disk, closed_orders=3)
    async with open_rig(disk, InlineDatabases(tmp_path)) as rig:
        await trio.sleep(5)
        assert rig.follower.sequence == rig.opened.log.durable_sequence
    incremental = rows(tmp_path / HISTORY)
    await rebuild_history(disk, InlineDatabases(tmp_path))
    assert rows(tmp_path / HISTORY) == incremental
    assert incremental[1] > 10
    assert incremental[2] > 10


@pytest.mark.virtual
@pytest.mark.parametrize("wrong", ["no database", "schema", "other tables", "no meta rows"])
async def test_a_file_that_is_no_history_is_built_again(tmp_path: Path, wrong: str) -> None:
    disk, path = CutDisk(), tmp_path / HISTORY
    await write_life(disk, 1, 40)
    await rebuild_history(disk, InlineDatabases(tmp_path))
    good = rows(path)
    if wrong == "no database":
        path.write_bytes(b"this is not a database at all, but something else " * 100)
    else:
        connection = sqlite3.connect(path)
        with connection:
            if wrong == "schema":
                connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
            elif wrong == "no meta rows":
                connection.execute("DELETE FROM meta")
            else:
                connection.execute("DROP TABLE meta")
        connection.close()
    with structlog.testing.capture_logs() as logs:
        async with open_rig(disk, InlineDatabases(tmp_path)) as rig:
            await trio.sleep(3)
            assert rig.follower.sequence == rig.opened.log.durable_sequence
    assert "the history is built again from the journal" in [each["event"] for each in logs]
    assert rows(path)[0] == good[0] + 1  # and the run of this test


@pytest.mark.virtual
async def test_a_history_ahead_of_its_journal_means_that_the_journal_was_cut(
    tmp_path: Path,
) -> None:
    long, short = CutDisk(), CutDisk()
    await write_life(long, 1, 80)
    await write_life(short, 1, 10)
    await rebuild_history(long, InlineDatabases(tmp_path))
    with pytest.raises(ExceptionGroup) as raised:
        async with open_rig(short, InlineDatabases(tmp_path)):
            pass
    assert raised.group_contains(JournalDamagedError, match=r"history\.sqlite goes to record")


@pytest.mark.virtual
@pytest.mark.parametrize(
    "failure",
    [OSError(28, "No space left on device"), sqlite3.OperationalError("disk I/O error")],
)
async def test_a_failure_is_told_once_and_tried_again_later(
    tmp_path: Path, failure: Exception
) -> None:
    databases = InlineDatabases(tmp_path)
    with structlog.testing.capture_logs() as logs:
        async with open_rig(CutDisk(), databases) as rig:
            await trio.sleep(2)
            databases.failures += [failure] * 3
            last = await rig.live(30)
            await trio.sleep(30)
            assert rig.follower.sequence is None
            assert "problem" in rig.follower.status()
            await trio.sleep(200)
            assert rig.follower.sequence == last
    told = [each for each in logs if each["log_level"] == "warning" and "history" in each["event"]]
    assert [each["event"] for each in told] == [
        "the history cannot be kept up",
        "the history cannot be opened",
    ]


@pytest.mark.virtual
async def test_a_file_found_corrupt_while_it_is_written_is_built_again(tmp_path: Path) -> None:
    databases = InlineDatabases(tmp_path)
    async with open_rig(CutDisk(), databases) as rig:
        await rig.live(30)
        await trio.sleep(2)
        databases.failures.append(sqlite3.DatabaseError("database disk image is malformed"))
        last = await rig.live(30)
        await trio.sleep(100)
        assert rig.follower.sequence == last
    assert databases.opened == 2


@pytest.mark.virtual
async def test_only_one_writes_to_the_history(tmp_path: Path) -> None:
    disk = CutDisk()
    async with open_rig(disk, InlineDatabases(tmp_path)) as rig:
        with pytest.raises(JournalError, match=r"history\.lock is held by .*stop it first"):
            await rebuild_history(disk, InlineDatabases(tmp_path))
        await rig.live(3)
    lock = await disk.lock(HISTORY_LOCK)
    async with open_rig(disk, InlineDatabases(tmp_path)) as rig:
        await trio.sleep(5)
        assert rig.follower.sequence is None
        await lock.aclose()
        await trio.sleep(60)
        assert rig.follower.sequence == rig.opened.log.durable_sequence


async def test_on_a_real_disk_with_a_real_thread(tmp_path: Path) -> None:
    disk, databases = SystemDisk(tmp_path), SystemDatabases(tmp_path)
    async with open_rig(disk, databases) as rig:
        last = await rig.live(100)
    assert rows(tmp_path / HISTORY)[0] == last
    assert (tmp_path / HISTORY).stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / f"{HISTORY}-wal").exists()
    assert await rebuild_history(disk, databases) == last
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "history.lock",
        "history.sqlite",
        "journal",
    ]


@pytest.mark.virtual
async def test_consumers_that_do_not_say_how_far_they_are() -> None:
    disk = CutDisk()
    await register(disk, "bridge", 7)
    await disk.replace("journal/consumers/notes.txt", b"not one of them")
    assert await consumers(disk) == {"bridge": 7}
    hostile = (b"", b"7", b'{"sequence": -1}', b'{"sequence": 1.5}', b'{"a": 1}', b"[" * 5_000)
    for data in hostile:
        await disk.replace("journal/consumers/bridge.json", data)
        with pytest.raises(JournalError, match=r"consumers/bridge\.json: does not say how far"):
            await consumers(disk)
    for name, sequence in (("../x", 1), ("", 1), ("A", 1), ("ok", -1)):
        with pytest.raises(ValueError, match="not a name, or not a record"):
            await register(disk, name, sequence)
