"""The disk port: the same promises of the system's files and of those in memory."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from zq_daemon.ports import files
from zq_daemon.ports.disk import Disk, MemoryDisk, SystemDisk
from zq_daemon.ports.rng import seeded_rng


@pytest.fixture(params=["memory", "system"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return MemoryDisk() if request.param == "memory" else SystemDisk(tmp_path)


class TestFiles:
    async def test_a_created_file_is_zeros_of_its_size(self, disk: Disk) -> None:
        file = await disk.create("a/b/x", 3_000_000)
        await file.aclose()
        assert await disk.read("a/b/x") == bytes(3_000_000)
        assert await disk.size("a/b/x") == 3_000_000

    async def test_a_file_is_created_once(self, disk: Disk) -> None:
        await (await disk.create("x", 8)).aclose()
        with pytest.raises(FileExistsError):
            await disk.create("x", 16)
        assert await disk.size("x") == 8

    async def test_an_empty_file_can_be_created(self, disk: Disk) -> None:
        await (await disk.create("x", 0)).aclose()
        assert await disk.read("x") == b""

    async def test_writes_land_at_their_offsets(self, disk: Disk) -> None:
        file = await disk.create("x", 8)
        await file.write(2, b"ab")
        await file.commit(6, b"cdef")
        await file.sync()
        assert await disk.read("x") == b"\0\0ab\0\0cdef"
        await file.aclose()

    async def test_a_file_is_opened_again_and_writes_leave_the_rest(self, disk: Disk) -> None:
        file = await disk.create("x", 4)
        await file.commit(0, b"abcd")
        await file.aclose()
        file = await disk.open("x")
        await file.write(1, b"XY")
        await file.aclose()
        assert await disk.read("x") == b"aXYd"

    async def test_a_file_is_cut_and_grown(self, disk: Disk) -> None:
        file = await disk.create("x", 0)
        await file.write(0, b"abcdef")
        await file.truncate(2)
        await file.truncate(4)
        await file.sync()
        assert await disk.read("x") == b"ab\0\0"
        await file.aclose()

    async def test_closing_again_is_harmless(self, disk: Disk) -> None:
        file = await disk.create("x", 0)
        await file.aclose()
        await file.aclose()

    async def test_what_is_missing_is_told(self, disk: Disk) -> None:
        for call in (disk.open, disk.read, disk.size, disk.remove):
            with pytest.raises(FileNotFoundError):
                await call("nowhere/x")
        with pytest.raises(FileNotFoundError):
            await disk.rename("nowhere/x", "y")
        assert await disk.list("nowhere") == ()


class TestNames:
    async def test_files_are_listed_without_folders(self, disk: Disk) -> None:
        for path in ("a/2", "a/1", "a/deep/3", "4"):
            await disk.replace(path, b"")
        assert await disk.list("a") == ("1", "2")

    async def test_a_removed_file_is_gone(self, disk: Disk) -> None:
        await disk.replace("a/x", b"1")
        await disk.remove("a/x")
        assert await disk.list("a") == ()

    async def test_a_renamed_file_is_written_on_by_who_has_it_open(self, disk: Disk) -> None:
        file = await disk.create("a/x", 2)
        await disk.rename("a/x", "b/y")
        await file.commit(0, b"hi")
        await file.aclose()
        assert await disk.list("a") == ()
        assert await disk.read("b/y") == b"hi"

    async def test_a_rename_overwrites_nothing(self, disk: Disk) -> None:
        await disk.replace("x", b"1")
        await disk.replace("y", b"2")
        with pytest.raises(FileExistsError):
            await disk.rename("x", "y")
        assert (await disk.read("x"), await disk.read("y")) == (b"1", b"2")

    async def test_replace_leaves_one_file(self, disk: Disk) -> None:
        await disk.replace("a/x", b"long before")
        await disk.replace("a/x", b"now")
        assert await disk.read("a/x") == b"now"
        assert await disk.list("a") == ("x",)

    @pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../../b"])
    async def test_a_disk_stays_below_its_folder(self, disk: Disk, path: str) -> None:
        with pytest.raises(ValueError, match="below"):
            await disk.create(path, 1)
        with pytest.raises(ValueError, match="below"):
            await disk.rename("x", path)


class TestLocks:
    async def test_one_holds_it_and_the_other_is_told_who(self, disk: Disk) -> None:
        lock = await disk.lock("a/lock")
        with pytest.raises(BlockingIOError, match=f"held by process {os.getpid()}"):
            await disk.lock("a/lock")
        await lock.aclose()
        again = await disk.lock("a/lock")
        await again.aclose()
        await again.aclose()
        assert await disk.list("a") == ("lock",)

    async def test_a_process_that_died_holds_nothing(self, tmp_path: Path) -> None:
        program = (
            "import fcntl, os, sys\n"
            "file = open(sys.argv[1], 'w')\n"
            "fcntl.flock(file, fcntl.LOCK_EX)\n"
            "file.write(str(os.getpid()))\n"
            "file.flush()\n"
            "print('held', flush=True)\n"
            "sys.stdin.read()\n"
        )
        command = [sys.executable, "-c", program, str(tmp_path / "lock")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(BlockingIOError, match=f"process {holder.pid}"):
                await SystemDisk(tmp_path).lock("lock")
            holder.kill()
        lock = await SystemDisk(tmp_path).lock("lock")
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
        await lock.aclose()


class TestSystemDisk:
    async def test_what_is_made_is_private(self, tmp_path: Path) -> None:
        disk = SystemDisk(tmp_path)
        await (await disk.create("a/b/x", 8)).aclose()
        await disk.replace("a/b/y", b"")
        await (await disk.lock("a/b/lock")).aclose()
        for name in ("x", "y", "lock"):
            assert stat.S_IMODE((tmp_path / "a/b" / name).stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o700

    async def test_the_space_is_taken(self, tmp_path: Path) -> None:
        await (await SystemDisk(tmp_path).create("x", 1 << 20)).aclose()
        assert (tmp_path / "x").stat().st_blocks * 512 >= 1 << 20

    @pytest.mark.parametrize("refusal", [errno.EOPNOTSUPP, errno.EINVAL])
    async def test_a_file_system_that_does_not_allocate_is_written_to(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
    ) -> None:
        def refuse(*_: int) -> None:
            raise OSError(refusal, os.strerror(refusal))

        monkeypatch.setattr(os, "posix_fallocate", refuse)
        await (await SystemDisk(tmp_path).create("x", 1 << 20)).aclose()
        assert (tmp_path / "x").stat().st_blocks * 512 >= 1 << 20

    async def test_a_full_disk_leaves_nothing_behind(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space left"):
            await SystemDisk(tmp_path).create("x", 4096)
        monkeypatch.setattr(os, "pwritev", full)
        with pytest.raises(OSError, match="No space left"):
            await SystemDisk(tmp_path).replace("y", b"1")
        assert list(tmp_path.iterdir()) == []
        await (await SystemDisk(tmp_path).lock("lock")).aclose()  # without its text

    def test_short_writes_are_continued(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pwritev = os.pwritev

        def short(descriptor: int, parts: Sequence[memoryview], *rest: int) -> int:
            return pwritev(descriptor, [parts[0][:3]], *rest)

        monkeypatch.setattr(os, "pwritev", short)
        files.replace(tmp_path / "x", b"0123456789")
        assert (tmp_path / "x").read_bytes() == b"0123456789"


class TestMemoryDisk:
    async def test_unsynced_bytes_are_lost(self) -> None:
        disk = MemoryDisk()
        file = await disk.create("x", 8)
        await file.commit(0, b"abcd")
        await file.write(2, b"XYZ")
        assert await disk.read("x") == b"abXYZ\0\0\0"
        disk.power_cut()
        assert await disk.read("x") == b"abcd\0\0\0\0" == disk.durable("x")

    async def test_a_commit_makes_nothing_else_durable(self) -> None:
        disk = MemoryDisk()
        file = await disk.create("x", 8)
        await file.write(0, b"ab")
        await file.commit(4, b"ef")
        assert disk.durable("x") == b"\0\0\0\0ef\0\0"
        await file.sync()
        assert disk.durable("x") == b"ab\0\0ef\0\0"

    async def test_only_the_first_unsynced_bytes_may_be_kept(self) -> None:
        disk = MemoryDisk()
        file = await disk.create("x", 8)
        await file.write(0, b"abcd")
        await file.write(4, b"efgh")
        disk.power_cut(torn=6)
        assert disk.durable("x") == b"abcdef\0\0"

    async def test_a_cut_size_is_durable_when_synced(self) -> None:
        disk = MemoryDisk()
        file = await disk.create("x", 8)
        await file.truncate(2)
        disk.power_cut()
        assert await disk.size("x") == 8
        file = await disk.open("x")
        await file.truncate(2)
        await file.sync()
        disk.power_cut()
        assert await disk.size("x") == 2

    async def test_sectors_survive_one_by_one_and_one_in_part(self) -> None:
        seen: set[tuple[int, ...]] = set()
        for seed in range(300):
            disk = MemoryDisk()
            file = await disk.create("x", 4 * 512)
            await file.write(0, b"\1" * 4 * 512)
            disk.power_cut(seeded_rng(seed))
            content = disk.durable("x")
            assert len(content) == 4 * 512
            seen.add(tuple(content.count(1, 512 * n, 512 * n + 512) for n in range(4)))
        assert (0, 512, 0, 512) in {tuple(512 * (n == 512) for n in each) for each in seen}
        assert any(0 < count < 512 for each in seen for count in each)
        assert max(sum(0 < count < 512 for count in each) for each in seen) == 1

    async def test_a_sync_covers_what_was_written_before_it(self) -> None:
        disk = MemoryDisk()
        file = await disk.create("x", 4)
        await file.write(0, b"ab")
        await file.sync()
        await file.write(1, b"ab")
        disk.power_cut()
        assert disk.durable("x") == b"ab\0\0"

    async def test_a_power_cut_kills_files_and_frees_locks(self) -> None:
        disk = MemoryDisk()
        file = await disk.create("x", 4)
        lock = await disk.lock("lock")
        disk.power_cut()
        for call in (file.write(0, b"1"), file.sync(), file.commit(0, b"1"), file.truncate(1)):
            with pytest.raises(OSError, match="power was cut"):
                await call
        await disk.lock("lock")
        await lock.aclose()
        with pytest.raises(BlockingIOError):
            await disk.lock("lock")

    async def test_a_killed_process_leaves_what_it_wrote_but_not_durable(self) -> None:
        disk = MemoryDisk()
        file = await disk.create("x", 2)
        await file.write(0, b"ab")
        disk.kill()
        assert await disk.read("x") == b"ab"
        await disk.lock("lock")
        disk.power_cut()
        assert await disk.read("x") == b"\0\0"

    async def test_a_full_disk_refuses_growth_only(self) -> None:
        disk = MemoryDisk(capacity=10)
        file = await disk.create("x", 8)
        await file.write(4, b"1234")
        for call in (disk.create("y", 3), disk.replace("y", b"123"), file.write(7, b"1234")):
            with pytest.raises(OSError, match="No space left") as refused:
                await call
            assert refused.value.errno == errno.ENOSPC
        await file.write(8, b"12")
        assert await disk.list("") == ("x",)

    async def test_a_broken_disk_refuses_every_change(self) -> None:
        disk = MemoryDisk()
        file = await disk.create("x", 8)
        disk.fail(OSError(errno.EIO, "broken"))
        for call in (
            disk.create("y", 3),
            disk.replace("y", b""),
            disk.remove("x"),
            disk.rename("x", "y"),
            file.commit(0, b"1"),
        ):
            with pytest.raises(OSError, match="broken"):
                await call
        disk.fail(None)
        await file.commit(0, b"1")

    async def test_bytes_can_be_damaged_behind_everybodys_back(self) -> None:
        disk = MemoryDisk()
        await disk.replace("x", b"abcdef")
        disk.damage("x", 1, b"XY")
        disk.shorten("x", 4)
        assert await disk.read("x") == disk.durable("x") == b"aXYd"
