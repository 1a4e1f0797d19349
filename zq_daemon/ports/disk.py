"""The disk port: append-only files that say when their bytes are durable.

Owns paths below one folder, threads and fsync. It never interprets bytes. The journal writes
through it. `SystemDisk` works in threads, as a write may block for as long as the device likes;
`MemoryDisk` has none (a thread would let a virtual clock jump ahead) and forgets at a power cut
what was not synced.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

import trio


class AppendFile(Protocol):
    """An open file that only grows."""

    async def write(self, data: bytes) -> None:
        """Append *data*, not yet durable; OSError when that fails (a part may be in the file)."""

    async def sync(self) -> None:
        """Make everything written so far durable; OSError when the device does not say so."""

    async def aclose(self) -> None:
        """Close without syncing."""


class Disk(Protocol):
    """Files below one folder, named by relative paths with `/`."""

    async def open_append(self, path: str) -> AppendFile:
        """Open *path* at its end; it and its folder are created durably where missing. OSError."""

    async def read(self, path: str) -> bytes:
        """The whole file; FileNotFoundError or another OSError."""

    async def list(self, folder: str) -> tuple[str, ...]:
        """The names in *folder*, sorted; empty when there is no such folder."""


class SystemDisk:
    """The machine's file system below *root*; each call runs in a thread and is waited for."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def open_append(self, path: str) -> AppendFile:
        """Open below the root; new folders are private to the user (0700), new files 0600."""
        file = await trio.to_thread.run_sync(_open_append, self._root / _checked(path))
        return _SystemFile(file)

    async def read(self, path: str) -> bytes:
        """The whole file at once."""
        return await trio.to_thread.run_sync((self._root / _checked(path)).read_bytes)

    async def list(self, folder: str) -> tuple[str, ...]:
        """The names in *folder*, sorted."""
        return await trio.to_thread.run_sync(_list, self._root / _checked(folder))


class MemoryDisk:
    """A disk for simulation: in memory, without threads, with a power cut and failures.

    *sync_s* is how long a sync takes, in Trio's (virtual) seconds.
    """

    def __init__(self, *, sync_s: float = 0.0) -> None:
        self.sync_s = sync_s
        self._durable: dict[str, bytearray] = {}
        self._written: dict[str, bytearray] = {}
        self._failure: OSError | None = None
        self._cuts = 0

    async def open_append(self, path: str) -> AppendFile:
        """Open *path*; an empty file is durable at once."""
        await trio.lowlevel.checkpoint()
        name = _checked(path)
        self._durable.setdefault(name, bytearray())
        self._written.setdefault(name, bytearray(self._durable[name]))
        return _MemoryFile(self, name)

    async def read(self, path: str) -> bytes:
        """What a running process reads: also what is not yet durable."""
        await trio.lowlevel.checkpoint()
        try:
            return bytes(self._written[_checked(path)])
        except KeyError:
            raise FileNotFoundError(path) from None

    async def list(self, folder: str) -> tuple[str, ...]:
        """The names in *folder*, sorted."""
        await trio.lowlevel.checkpoint()
        prefix = PurePosixPath(_checked(folder))
        paths = (PurePosixPath(name) for name in self._written)
        return tuple(sorted(path.name for path in paths if path.parent == prefix))

    def power_cut(self, *, torn: int = 0) -> None:
        """Forget what was not synced, but for the first *torn* bytes of it in each file.

        Files that were open are dead: they raise OSError from now on.
        """
        self._cuts += 1
        for name, durable in self._durable.items():
            kept = len(durable) + torn
            self._durable[name] = self._written[name][:kept]
            self._written[name] = bytearray(self._durable[name])

    def fail(self, error: OSError | None) -> None:
        """Let every write and sync raise *error* from now on; None mends the disk."""
        self._failure = error

    def durable(self, path: str) -> bytes:
        """What would be left of *path* after a power cut; empty when it does not exist."""
        return bytes(self._durable.get(_checked(path), b""))

    def _append(self, name: str, data: bytes, cuts: int) -> None:
        self._check(cuts)
        self._written[name] += data

    async def _sync(self, name: str, cuts: int) -> None:
        self._check(cuts)
        covered = len(self._written[name])
        await trio.sleep(self.sync_s)
        self._check(cuts)
        self._durable[name] = self._written[name][:covered]

    def _check(self, cuts: int) -> None:
        if cuts != self._cuts:
            raise OSError("the power was cut while this file was open")
        if self._failure is not None:
            raise self._failure


class _SystemFile:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    async def write(self, data: bytes) -> None:
        await trio.to_thread.run_sync(_write_all, self._file, data)

    async def sync(self) -> None:
        await trio.to_thread.run_sync(os.fdatasync, self._file.fileno())

    async def aclose(self) -> None:
        await trio.to_thread.run_sync(self._file.close)


class _MemoryFile:
    def __init__(self, disk: MemoryDisk, name: str) -> None:
        self._disk = disk
        self._name = name
        self._cuts = disk._cuts

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._disk._append(self._name, data, self._cuts)

    async def sync(self) -> None:
        await self._disk._sync(self._name, self._cuts)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


def _checked(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        raise ValueError(f"path {path!r}: must be relative and stay below the disk's folder")
    return str(pure)


def _open_append(path: Path) -> BinaryIO:
    _make_folder(path.parent)
    created = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    if created:
        _sync_folder(path.parent)
    return os.fdopen(descriptor, "ab", buffering=0)


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """A new name is durable only when its folder was synced."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(file: BinaryIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _list(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(os.listdir(folder))) if folder.is_dir() else ()
