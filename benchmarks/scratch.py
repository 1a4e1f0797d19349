"""Where benchmarks keep files: on the disk that is measured, and which one that is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder on the checkout's file system, or in the folder BENCH_DIR; removed again."""
    within = os.environ.get("BENCH_DIR", ROOT)
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=within) as folder:
        yield Path(folder)


def file_system(folder: Path) -> str:
    """The kind of file system *folder* is on and its device, as `ext4 on /dev/vda`."""
    device = os.stat(folder).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == number:
            kind, source, *_ = after.split()
            return f"{kind} on {source}"
    return "an unknown file system"
