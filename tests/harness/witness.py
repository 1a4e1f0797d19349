"""Writes down which bytes a process has had synced: after the synced write returned, not before.

Installed in the process under test, below everything the daemon is made of: in `os`. The page cache
hides a missing sync from whoever reads the file; this does not. Synced writes are slow, except for
the large ones that make a file: who does not wait for them is far ahead. The test reads the
witness's file with `synced`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from attrs import frozen

_SLOW_S = 0.05
_LARGE = 1 << 17


@frozen
class Synced:
    """Bytes *start* to *end* of *file*; *digest* is of what was written there."""

    file: str
    start: int
    end: int
    digest: str

    def read(self) -> bytes:
        """What is there now; empty when it is something else than was synced, or elsewhere."""
        try:
            with open(self.file, "rb") as file:
                file.seek(self.start)
                data = file.read(self.end - self.start)
        except FileNotFoundError:
            return b""
        return data if _digest(data) == self.digest else b""


def install(path: Path) -> None:
    """From now on, write a line to *path* for every synced piece of a file."""
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    write_at = os.pwritev

    def pwritev(descriptor: int, parts: Sequence[Any], offset: int, flags: int = 0) -> int:
        if not flags & os.RWF_DSYNC:
            return write_at(descriptor, parts, offset, flags)
        data = b"".join(parts)
        if len(data) < _LARGE:
            time.sleep(_SLOW_S)
        written = write_at(descriptor, parts, offset, flags)
        data = data[:written]
        file = os.readlink(f"/proc/self/fd/{descriptor}")
        line = json.dumps([file, offset, offset + written, _digest(data)]) + "\n"
        os.write(out, line.encode())
        return written

    os.pwritev = pwritev  # type: ignore[assignment]


def _digest(data: Any) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def synced(witness: bytes) -> list[Synced]:
    """What the lines of *witness*, the file or the beginning of it, say."""
    return [Synced(*json.loads(line)) for line in witness.splitlines()]
