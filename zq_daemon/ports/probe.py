"""Tries a folder as the daemon will use it: how much room there is, and what a durable write costs.

Blocking, for commands of people only; a running daemon uses `ports.disk`. Leaves nothing behind.
"""

from __future__ import annotations

import errno
import os
import tempfile
import time
from pathlib import Path

from attrs import frozen

_WRITES = 20
_BYTES = 4_096


@frozen(kw_only=True)
class FolderProbe:
    """*sync_ns*: how long each of some small durable writes took, the shortest first."""

    free_bytes: int
    sync_ns: tuple[int, ...]


def probe_folder(folder: Path) -> FolderProbe:
    """Write to *folder* durably a few times; OSError where that cannot be done."""
    room = os.statvfs(folder)
    descriptor, name = tempfile.mkstemp(prefix=".probe-", dir=folder)
    times = []
    try:
        for number in range(_WRITES):
            began_ns = time.perf_counter_ns()
            os.pwrite(descriptor, bytes(_BYTES), number * _BYTES)
            os.fsync(descriptor)
            times.append(time.perf_counter_ns() - began_ns)
    finally:
        os.close(descriptor)
        os.unlink(name)
    return FolderProbe(free_bytes=room.f_bavail * room.f_frsize, sync_ns=tuple(sorted(times)))


def nearest_folder(path: Path) -> Path:
    """*path*, or the closest folder above it, where it would be made; OSError where it cannot."""
    found = next(each for each in (path, *path.parents) if each.exists())
    if not found.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(found))
    return found
