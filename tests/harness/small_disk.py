"""A small file system in memory, in a mount namespace of its own: it goes away with its processes.

A process holds it, and commands are run inside; from outside, its files are looked at by way of
/proc. For disks that are full or read-only, which modes and quotas cannot make for root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

_HOLD = 'mount -t tmpfs -o size="$2" tmpfs "$1" && echo held && exec cat'


class SmallDisk:
    """Mounted at *folder* for who is inside."""

    def __init__(self, holder: trio.Process, folder: Path) -> None:
        self._folder = folder
        self._namespaces = f"--target={holder.pid}", "--mount", *_user_namespace("--user")
        self.outside = Path(f"/proc/{holder.pid}/root{folder}")
        """The folder, for who is not inside."""

    @property
    def inside(self) -> Sequence[str]:
        """What runs a command inside."""
        keep = _user_namespace("--preserve-credentials")
        here = ["sh", "-c", 'cd "$0" && exec "$@"', os.getcwd()]  # nsenter goes to the root
        return ["nsenter", *self._namespaces, *keep, "--", *here]

    async def remount(self, options: str) -> None:
        """Change it: `ro`, `rw`, `size=64m`."""
        command = ["mount", "-o", f"remount,{options}", str(self._folder)]
        await trio.run_process([*self.inside, *command], stdin=subprocess.DEVNULL)


@asynccontextmanager
async def open_small_disk(folder: Path, size: str) -> AsyncIterator[SmallDisk]:
    """A disk of *size* (`96k`) at *folder*; the test is skipped where none can be made."""
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        pytest.skip("no unshare or nsenter on this machine: no small disk")
    unshare = ["unshare", "--mount", *_user_namespace("--map-root-user")]
    process = await trio.lowlevel.open_process(
        [*unshare, "sh", "-c", _HOLD, "sh", str(folder), size],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with process.stdout, process.stderr:
            if not await process.stdout.receive_some(16):
                why = bytes(await process.stderr.receive_some(1_000)).decode().strip()
                pytest.skip(f"no mount namespace on this machine: {why}")
            yield SmallDisk(process, folder)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            assert process.stdin is not None
            await process.stdin.aclose()


def _user_namespace(option: str) -> tuple[str, ...]:
    """*option* where a user namespace is needed, as root does without."""
    return () if os.geteuid() == 0 else (option,)
