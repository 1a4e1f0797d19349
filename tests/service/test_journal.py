"""The journal and the disks: durable before append returns, whatever happens to the power."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from attrs import evolve

from tests.unit.test_journal import INTENT
from zq_daemon.errors import JournalError
from zq_daemon.journal.lines import open_journal, read_journal
from zq_daemon.journal.record import Record
from zq_daemon.model.ids import ClientOrderId
from zq_daemon.ports.disk import Disk, MemoryDisk, SystemDisk

PATH = "journal/run.jsonl"


def records(*numbers: int) -> Sequence[Record]:
    return [evolve(INTENT, client_order_id=ClientOrderId(f"0x{number}")) for number in numbers]


def numbers_of(found: Sequence[Record]) -> list[str]:
    return [record.client_order_id for record in found]


@pytest.mark.parametrize("kind", ["memory", "system"])
async def test_what_was_appended_is_read_again(kind: str, tmp_path: Path) -> None:
    disk: Disk = MemoryDisk() if kind == "memory" else SystemDisk(tmp_path)
    async with open_journal(disk, PATH) as journal:
        await journal.append(records(1, 2))
    async with open_journal(disk, PATH) as journal:
        await journal.append(records(3))
        assert journal.records == 1
    assert numbers_of(await read_journal(disk, PATH)) == ["0x1", "0x2", "0x3"]
    assert await disk.list("journal") == ("run.jsonl",)
    assert await disk.list("nowhere") == ()


async def test_the_files_are_private(tmp_path: Path) -> None:
    async with open_journal(SystemDisk(tmp_path), "a/b/run.jsonl"):
        pass
    assert stat.S_IMODE((tmp_path / "a/b/run.jsonl").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o700


@pytest.mark.virtual
async def test_append_returns_when_durable_and_not_before() -> None:
    disk = MemoryDisk(sync_s=1)
    async with open_journal(disk, PATH) as journal, trio.open_nursery() as nursery:
        nursery.start_soon(journal.append, records(1))
        await trio.sleep(0.5)
        assert disk.durable(PATH) == b""
        assert await disk.read(PATH) != b""
        await trio.sleep(0.6)
        assert disk.durable(PATH).count(b"\n") == 1


@pytest.mark.virtual
async def test_what_waits_is_committed_together_in_order() -> None:
    disk = MemoryDisk(sync_s=1)
    async with open_journal(disk, PATH, max_waiting=50) as journal:
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(journal.append, records(number))
                await trio.lowlevel.checkpoint()
        assert journal.commits == 2  # the first alone, then all that waited meanwhile
        assert trio.current_time() == pytest.approx(2, abs=0.01)
    assert numbers_of(await read_journal(disk, PATH)) == [f"0x{number}" for number in range(40)]


@pytest.mark.virtual
async def test_waiting_is_bounded() -> None:
    disk = MemoryDisk(sync_s=1)
    async with open_journal(disk, PATH, max_waiting=2) as journal:
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(journal.append, records(number))
                await trio.lowlevel.checkpoint()
            await trio.sleep(0.5)
            assert (await disk.read(PATH)).count(b"\n") <= 2
        assert journal.records == 5
        assert journal.commits >= 3


@pytest.mark.virtual
async def test_a_cancelled_caller_does_not_tear_the_others_lines() -> None:
    disk = MemoryDisk(sync_s=1)
    async with open_journal(disk, PATH) as journal:
        with trio.move_on_after(0.5) as scope:
            await journal.append(records(1))
        assert not scope.cancelled_caught or disk.durable(PATH)
        await journal.append(records(2))
    assert numbers_of(await read_journal(disk, PATH)) == ["0x1", "0x2"]


@pytest.mark.virtual
async def test_a_failed_write_breaks_the_journal_for_good() -> None:
    disk = MemoryDisk(sync_s=1)
    async with open_journal(disk, PATH) as journal:
        await journal.append(records(1))
        disk.fail(OSError(28, "No space left on device"))
        failures = []

        async def append(number: int) -> None:
            try:
                await journal.append(records(number))
            except JournalError as error:
                failures.append(str(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(append, 2)
            nursery.start_soon(append, 3)
        disk.fail(None)
        await append(4)
        assert len(failures) == 3
        assert all("No space left" in failure and PATH in failure for failure in failures)
        assert journal.records == 1
    assert numbers_of(await read_journal(disk, PATH)) == ["0x1"]


@pytest.mark.virtual
@pytest.mark.parametrize("torn", [0, 1, 40])
async def test_a_power_cut_loses_only_what_was_not_acknowledged(torn: int) -> None:
    disk = MemoryDisk(sync_s=1)
    async with open_journal(disk, PATH) as journal:
        await journal.append(records(1))

        async def cut() -> None:
            await trio.sleep(0.5)
            disk.power_cut(torn=torn)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut)
            with pytest.raises(JournalError, match="power was cut"):
                await journal.append(records(2))
    assert len(disk.durable(PATH).splitlines()) == (1 if torn == 0 else 2)
    assert numbers_of(await read_journal(disk, PATH)) == ["0x1"]


async def test_a_damaged_line_in_the_middle_is_named() -> None:
    disk = MemoryDisk()
    async with open_journal(disk, PATH) as journal:
        await journal.append(records(1))
        file = await disk.open_append(PATH)
        await file.write(b'{"kind": "submit"\n')
        await file.sync()
        await journal.append(records(2))
    with pytest.raises(JournalError, match=r"journal/run\.jsonl, line 2"):
        await read_journal(disk, PATH)


async def test_unusable_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be read"):
        await read_journal(SystemDisk(tmp_path), "missing.jsonl")
    with pytest.raises(JournalError, match="cannot be read"):
        await read_journal(MemoryDisk(), "missing.jsonl")
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot be opened"):
        async with open_journal(SystemDisk(tmp_path), "file/run.jsonl"):
            pass


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../../b"])
async def test_a_disk_stays_below_its_folder(path: str, tmp_path: Path) -> None:
    for disk in (SystemDisk(tmp_path), MemoryDisk()):
        with pytest.raises(ValueError, match="below"):
            await disk.read(path)


async def test_a_file_that_was_open_at_a_power_cut_is_dead() -> None:
    disk = MemoryDisk()
    file = await disk.open_append("x")
    disk.power_cut()
    with pytest.raises(OSError, match="power"):
        await file.write(b"1")
    fresh = await disk.open_append("x")
    await fresh.write(b"2")
    await fresh.sync()
    assert disk.durable("x") == b"2"
    assert disk.durable("y") == b""
