"""Who reads the journal along, and how far: compaction archives nothing that somebody still needs.

Owns `journal/consumers/<name>.json`, one small file for each: `{"sequence": N}`, the last record
that consumer is done with. Anybody may register by writing such a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from zq_daemon.errors import JournalError
from zq_daemon.journal.files import CONSUMERS
from zq_daemon.ports.disk import Disk

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_SUFFIX = ".json"
_LARGEST = 4_096


class _Position(msgspec.Struct, forbid_unknown_fields=True):
    sequence: int


async def register(disk: Disk, name: str, sequence: int) -> None:
    """*name* is done with everything up to record *sequence*, durably. OSError.

    ValueError for a name other than lower-case letters, digits, `_` and `-`, and for a sequence
    below 0.
    """
    if not _NAME.fullmatch(name) or sequence < 0:
        raise ValueError(f"consumer {name!r} at {sequence}: not a name, or not a record")
    data = msgspec.json.encode(_Position(sequence=sequence))
    await disk.replace(f"{CONSUMERS}/{name}{_SUFFIX}", data + b"\n")


async def unregister(disk: Disk, name: str) -> None:
    """Forget *name*. FileNotFoundError, OSError."""
    await disk.remove(f"{CONSUMERS}/{name}{_SUFFIX}")


async def consumers(disk: Disk) -> Mapping[str, int]:
    """How far each registered consumer is. OSError; JournalError for a file that does not tell."""
    found = {}
    for file in await disk.list(CONSUMERS):
        name = file.removesuffix(_SUFFIX)
        if name != file and _NAME.fullmatch(name):
            found[name] = await _position(disk, f"{CONSUMERS}/{file}")
    return found


async def _position(disk: Disk, path: str) -> int:
    try:
        if await disk.size(path) > _LARGEST:
            raise ValueError("it is too large")
        sequence = msgspec.json.decode(await disk.read(path), type=_Position).sequence
        if sequence < 0:
            raise ValueError(f"{sequence} is no record")
    except ValueError as error:  # as are the decoder's
        raise JournalError(
            f"{path}: does not say how far its consumer has read ({error}): write "
            '{"sequence": <its last record>}, or remove the file if the consumer is gone'
        ) from error
    return sequence
