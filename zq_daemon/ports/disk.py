"""The disk port: files below one folder, and when what was done to them is durable.

Owns paths, threads, fsync and file locks. It never interprets bytes. The logs write through it.
`SystemDisk` works in threads, one hop a call, as a call may block for as long as the device likes;
`MemoryDisk` has none (a thread would let a virtual clock jump ahead) and does at a power cut what
real disks do: what was not synced is lost, or survives sector by sector, in any order.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar

import trio
from attrs import define, field

from zq_daemon.ports import files
from zq_daemon.ports.rng import Rng

T = TypeVar("T")
_THREADS = 8
_SECTOR = 512


class File(Protocol):
    """An open file that is written at offsets; every call may raise OSError.

    After a failed `sync` or `commit` nothing is known of what was written since the last good one,
    and asking again proves nothing.
    """

    async def write(self, offset: int, data: bytes) -> None:
        """Write all of *data* at *offset*, not yet durable."""

    async def sync(self) -> None:
        """Make everything written so far durable."""

    async def commit(self, offset: int, data: bytes) -> None:
        """Write *data* and make it durable; what was written otherwise needs `sync`."""

    async def truncate(self, size: int) -> None:
        """Cut or grow (with zeros) to *size* bytes; durable at the next sync."""

    async def aclose(self) -> None:
        """Close without syncing; again is harmless."""


class Lock(Protocol):
    """A held lock."""

    async def aclose(self) -> None:
        """Let others have it; again is harmless."""


class Disk(Protocol):
    """Files below one folder, named by relative paths with `/`; every call may raise OSError.

    What `create`, `remove`, `rename` and `replace` did is durable when they return.
    """

    async def create(self, path: str, size: int) -> File:
        """A new file of *size* zero bytes, whose space is taken; new folders where missing.

        FileExistsError; OSError(ENOSPC), which leaves nothing behind.
        """

    async def open(self, path: str) -> File:
        """An existing file, for writing; FileNotFoundError."""

    async def read(self, path: str) -> bytes:
        """The whole file; FileNotFoundError or another OSError."""

    async def size(self, path: str) -> int:
        """How many bytes it has; FileNotFoundError."""

    async def list(self, folder: str) -> tuple[str, ...]:
        """The names of the files in *folder*, sorted; empty when there is no such folder."""

    async def remove(self, path: str) -> None:
        """Delete a file; FileNotFoundError."""

    async def rename(self, path: str, to: str) -> None:
        """Give a file another name; FileNotFoundError, FileExistsError when *to* is taken."""

    async def replace(self, path: str, data: bytes) -> None:
        """Let *path*, new or not, hold *data*: all of it or what it held before, never a part."""

    async def lock(self, path: str) -> Lock:
        """Hold the lock file *path*, which says who does, until closed or the process is gone.

        BlockingIOError, naming the process where it can, when it is held already; also by us.
        """


class SystemDisk:
    """The machine's file system below *root*; each call runs in a thread and is waited for.

    New folders are private to the user (0700), so are new files (0600). The threads are counted
    apart from Trio's own limit: slow name look-ups must not hold up a commit.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._limiter = trio.CapacityLimiter(_THREADS)

    async def create(self, path: str, size: int) -> File:
        """Allocate and write zeros: a later commit then changes data only, no metadata."""
        return _SystemFile(await self._run(files.create, self._at(path), size), self._limiter)

    async def open(self, path: str) -> File:
        """Open for writing."""
        flags = os.O_RDWR | os.O_CLOEXEC
        return _SystemFile(await self._run(os.open, self._at(path), flags), self._limiter)

    async def read(self, path: str) -> bytes:
        """The whole file at once."""
        return await self._run(self._at(path).read_bytes)

    async def size(self, path: str) -> int:
        """By stat."""
        return (await self._run(os.stat, self._at(path))).st_size

    async def list(self, folder: str) -> tuple[str, ...]:
        """The names of the files in *folder*, sorted."""
        return await self._run(files.list_files, self._at(folder))

    async def remove(self, path: str) -> None:
        """Unlink, then sync the folder."""
        await self._run(files.remove, self._at(path))

    async def rename(self, path: str, to: str) -> None:
        """Rename, then sync both folders."""
        await self._run(files.rename, self._at(path), self._at(to))

    async def replace(self, path: str, data: bytes) -> None:
        """Write a new file beside, sync it, rename it over *path*, sync the folder."""
        await self._run(files.replace, self._at(path), data)

    async def lock(self, path: str) -> Lock:
        """An exclusive flock, which the kernel drops with the process; the file stays."""
        return _SystemFile(await self._run(files.lock, self._at(path)), self._limiter)

    def _at(self, path: str) -> Path:
        return self._root / _checked(path)

    async def _run(self, call: Callable[..., T], *args: Any) -> T:
        return await trio.to_thread.run_sync(call, *args, limiter=self._limiter)


@define(eq=False)
class _Change:
    """Bytes written at an offset, or (None) a new size; not yet durable."""

    offset: int
    data: bytes | None

    def apply(self, content: bytearray) -> None:
        if self.data is None:
            del content[self.offset :]
            content.extend(bytes(self.offset - len(content)))
        else:
            content.extend(bytes(max(0, self.offset - len(content))))
            content[self.offset : self.offset + len(self.data)] = self.data


@define(eq=False)
class _Inode:
    """One file: what a running process reads, and what would be left after a power cut."""

    written: bytearray = field(factory=bytearray)
    durable: bytearray = field(factory=bytearray)
    changes: list[_Change] = field(factory=list)

    def change(self, change: _Change) -> None:
        self.changes.append(change)
        change.apply(self.written)

    def persist(self, changes: Sequence[_Change]) -> None:
        """Make durable those of *changes* that are not yet, in their order."""
        for change in changes:
            if change in self.changes:
                change.apply(self.durable)
        self.changes = [change for change in self.changes if change not in changes]

    def forget(self) -> None:
        if self.changes:
            self.changes = []
            self.written = bytearray(self.durable)

    def keep_first(self, torn: int) -> None:
        for change in self.changes:
            if change.data is not None and torn > 0:
                _Change(change.offset, change.data[:torn]).apply(self.durable)
                torn -= len(change.data)

    def keep_some(self, rng: Rng) -> None:
        """Let each changed sector survive or not, and one of them in part."""
        chance = rng.random()
        for change in self.changes:
            if change.data is None and rng.random() < chance:
                change.apply(self.durable)
        sectors = sorted({sector for change in self.changes for sector in _sectors(change)})
        torn = sectors[int(rng.random() * len(sectors))] if sectors else -1
        for sector in sectors:
            start, end = sector * _SECTOR, min((sector + 1) * _SECTOR, len(self.written))
            if sector == torn:
                middle = start + int(rng.random() * (end - start + 1))
                start, end = (start, middle) if rng.random() < 0.5 else (middle, end)
            elif rng.random() >= chance:
                continue
            if start < end:
                _Change(start, bytes(self.written[start:end])).apply(self.durable)


class MemoryDisk:
    """A disk for simulation: in memory, without threads, with power cuts and failures.

    *sync_s* is how long a sync takes, in Trio's (virtual) seconds; *capacity* how many bytes all
    files may have together (None: no limit), beyond which OSError(ENOSPC) is raised.
    """

    def __init__(self, *, sync_s: float = 0.0, capacity: int | None = None) -> None:
        self.sync_s = sync_s
        self.capacity = capacity
        self._files: dict[str, _Inode] = {}
        self._locks: dict[str, _MemoryLock] = {}
        self._failure: OSError | None = None
        self._cuts = 0

    async def create(self, path: str, size: int) -> File:
        """The zeros are durable at once."""
        await trio.lowlevel.checkpoint()
        self._check(self._cuts)
        name = _checked(path)
        if name in self._files:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        self._take(size)
        self._files[name] = inode = _Inode(written=bytearray(size), durable=bytearray(size))
        return _MemoryFile(self, inode)

    async def open(self, path: str) -> File:
        """Open for writing."""
        await trio.lowlevel.checkpoint()
        return _MemoryFile(self, self._find(path))

    async def read(self, path: str) -> bytes:
        """What a running process reads: also what is not yet durable."""
        await trio.lowlevel.checkpoint()
        return bytes(self._find(path).written)

    async def size(self, path: str) -> int:
        """What a running process sees."""
        await trio.lowlevel.checkpoint()
        return len(self._find(path).written)

    async def list(self, folder: str) -> tuple[str, ...]:
        """The names in *folder*, sorted."""
        await trio.lowlevel.checkpoint()
        prefix = PurePosixPath(_checked(folder))
        paths = (PurePosixPath(name) for name in self._files)
        return tuple(sorted(path.name for path in paths if path.parent == prefix))

    async def remove(self, path: str) -> None:
        """Forget the file; who has it open may go on writing into nothing."""
        await trio.lowlevel.checkpoint()
        self._check(self._cuts)
        self._find(path)
        del self._files[_checked(path)]

    async def rename(self, path: str, to: str) -> None:
        """Who has it open writes on."""
        await trio.lowlevel.checkpoint()
        self._check(self._cuts)
        target, inode = _checked(to), self._find(path)
        if target in self._files:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), to)
        del self._files[_checked(path)]
        self._files[target] = inode

    async def replace(self, path: str, data: bytes) -> None:
        """Durable at once."""
        await trio.lowlevel.checkpoint()
        self._check(self._cuts)
        self._take(len(data))
        self._files[_checked(path)] = _Inode(written=bytearray(data), durable=bytearray(data))

    async def lock(self, path: str) -> Lock:
        """A lock until closed, or a power cut or `kill`."""
        await trio.lowlevel.checkpoint()
        name = _checked(path)
        if name in self._locks:
            raise BlockingIOError(errno.EWOULDBLOCK, f"held by process {os.getpid()}", path)
        self._files.setdefault(name, _Inode())
        self._locks[name] = lock = _MemoryLock(self, name)
        return lock

    def power_cut(self, rng: Rng | None = None, *, torn: int = 0) -> None:
        """Forget what was not synced; files that are open raise OSError from now on.

        With *rng*, each unsynced sector of 512 bytes survives or not, and one of each file in
        part. Without, only the first *torn* unsynced bytes of each file survive.
        """
        self.kill()
        for inode in self._files.values():
            inode.keep_some(rng) if rng else inode.keep_first(torn)
            inode.forget()

    def kill(self) -> None:
        """The process is gone, the machine is not: locks are free, open files are dead.

        What was written can be read, and is still not durable.
        """
        self._cuts += 1
        self._locks.clear()

    def fail(self, error: OSError | None) -> None:
        """Let every change and sync raise *error* from now on; None mends the disk."""
        self._failure = error

    def durable(self, path: str) -> bytes:
        """What would be left of *path* after a power cut; empty when it does not exist."""
        inode = self._files.get(_checked(path))
        return bytes(inode.durable) if inode else b""

    def damage(self, path: str, offset: int, data: bytes) -> None:
        """Overwrite durable bytes behind everybody's back."""
        inode = self._find(path)
        for content in (inode.written, inode.durable):
            _Change(offset, data).apply(content)

    def shorten(self, path: str, size: int) -> None:
        """Cut *path* to *size* bytes, durably, behind everybody's back."""
        inode = self._find(path)
        del inode.written[size:], inode.durable[size:]

    def _find(self, path: str) -> _Inode:
        try:
            return self._files[_checked(path)]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None

    def _take(self, size: int) -> None:
        used = sum(len(inode.written) for inode in self._files.values())
        if self.capacity is not None and used + size > self.capacity:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _change(self, inode: _Inode, change: _Change, cuts: int) -> None:
        self._check(cuts)
        end = change.offset + len(change.data or b"")
        if end > len(inode.written):
            self._take(end - len(inode.written))
        inode.change(change)

    async def _sync(self, inode: _Inode, covered: Sequence[_Change], cuts: int) -> None:
        self._check(cuts)
        await trio.sleep(self.sync_s)
        self._check(cuts)
        inode.persist(covered)

    def _check(self, cuts: int) -> None:
        if cuts != self._cuts:
            raise OSError("the power was cut while this file was open")
        if self._failure is not None:
            raise self._failure


class _SystemFile:
    """A descriptor, of a file or of a lock."""

    def __init__(self, descriptor: int, limiter: trio.CapacityLimiter) -> None:
        self._descriptor = descriptor
        self._limiter = limiter

    async def write(self, offset: int, data: bytes) -> None:
        await self._run(files.write_at, self._descriptor, offset, data)

    async def sync(self) -> None:
        await self._run(os.fdatasync, self._descriptor)

    async def commit(self, offset: int, data: bytes) -> None:
        await self._run(files.commit, self._descriptor, offset, data)

    async def truncate(self, size: int) -> None:
        await self._run(os.ftruncate, self._descriptor, size)

    async def aclose(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            await self._run(os.close, descriptor)

    async def _run(self, call: Callable[..., None], *args: Any) -> None:
        await trio.to_thread.run_sync(call, *args, limiter=self._limiter)


class _MemoryFile:
    def __init__(self, disk: MemoryDisk, inode: _Inode) -> None:
        self._disk = disk
        self._inode = inode
        self._cuts = disk._cuts

    async def write(self, offset: int, data: bytes) -> None:
        await self._write(_Change(offset, bytes(data)))

    async def sync(self) -> None:
        await self._disk._sync(self._inode, list(self._inode.changes), self._cuts)

    async def commit(self, offset: int, data: bytes) -> None:
        change = _Change(offset, bytes(data))
        await self._write(change)
        await self._disk._sync(self._inode, [change], self._cuts)

    async def truncate(self, size: int) -> None:
        await self._write(_Change(size, None))

    async def _write(self, change: _Change) -> None:
        await trio.lowlevel.checkpoint()
        self._disk._change(self._inode, change, self._cuts)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class _MemoryLock:
    def __init__(self, disk: MemoryDisk, name: str) -> None:
        self._disk = disk
        self._name = name

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._disk._locks.get(self._name) is self:
            del self._disk._locks[self._name]


def _checked(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        raise ValueError(f"path {path!r}: must be relative and stay below the disk's folder")
    return str(pure)


def _sectors(change: _Change) -> range:
    end = change.offset + len(change.data or b"")
    return range(change.offset // _SECTOR, -(-end // _SECTOR))
