"""What the system's disk does in its threads: blocking file operations that end durable.

Owns fsync, file locks and modes; new folders are private to the user (0700), so are new files
(0600). Called by `SystemDisk` only, never from the trading thread. Everything may raise OSError.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

_CHUNK = 1 << 19
"""Zeros made durable at a time: whoever syncs another file meanwhile waits for no more."""


def create(path: Path, size: int) -> int:
    """A new file of *size* zeros, opened; nothing is left behind when there is no space."""
    _make_folder(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _allocate(descriptor, size)
        os.fsync(descriptor)
        _sync_folder(path.parent)
    except OSError:
        os.close(descriptor)
        os.unlink(path)
        raise
    return descriptor


def _allocate(descriptor: int, size: int) -> None:
    try:
        os.posix_fallocate(descriptor, 0, max(size, 1))
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
    os.ftruncate(descriptor, size)
    for offset in range(0, size, _CHUNK):
        commit(descriptor, offset, bytes(min(_CHUNK, size - offset)))


def commit(descriptor: int, offset: int, data: bytes) -> None:
    """Write all of *data* and make it durable, and no more than it.

    One call of the system for both: after each a thread waits for its turn at the interpreter.
    """
    write_at(descriptor, offset, data, os.RWF_DSYNC)


def write_at(descriptor: int, offset: int, data: bytes, flags: int = 0) -> None:
    """Write all of *data*, however little the kernel takes at a time."""
    left = memoryview(data)
    while left:
        written = os.pwritev(descriptor, (left,), offset, flags)
        left, offset = left[written:], offset + written


def remove(path: Path) -> None:
    """Unlink, durably."""
    path.unlink()
    _sync_folder(path.parent)


def rename(path: Path, to: Path) -> None:
    """Rename, durably, over nothing: FileExistsError."""
    if to.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(to))
    _make_folder(to.parent)
    path.rename(to)
    for folder in {path.parent, to.parent}:
        _sync_folder(folder)


def replace(path: Path, data: bytes) -> None:
    """Let *path* hold *data*, or what it held before."""
    _make_folder(path.parent)
    beside = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = os.open(beside, flags, 0o600)
    try:
        write_at(descriptor, 0, data)
        os.fsync(descriptor)
    except OSError:
        beside.unlink()
        raise
    finally:
        os.close(descriptor)
    beside.replace(path)
    _sync_folder(path.parent)


def lock(path: Path) -> int:
    """An open lock file that is locked; BlockingIOError names who holds it."""
    _make_folder(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        if not isinstance(error, BlockingIOError):
            raise
        whose = f"process {holder}" if holder else "another process"
        raise BlockingIOError(error.errno, f"held by {whose}", str(path)) from None
    # The text is for people: a full disk must not keep anybody from what is written already.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        write_at(descriptor, 0, f"{os.getpid()}\n".encode())
    return descriptor


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


def list_files(folder: Path) -> tuple[str, ...]:
    """Names of files, sorted; folders are left out."""
    if not folder.is_dir():
        return ()
    with os.scandir(folder) as entries:
        return tuple(sorted(entry.name for entry in entries if entry.is_file()))
