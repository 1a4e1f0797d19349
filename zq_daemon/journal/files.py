"""Where the journal lies below the state folder, and what its files are called.

    journal/00000000000000000001.log           segments: the log itself (`zq_daemon.log`)
    journal/checkpoint-<last record>.zqc       the state so far; the last two are kept
    journal/archive/<segment>.gz               segments that a checkpoint covers, compressed
    journal/consumers/<name>.json              who reads along, and how far it is
    journal/compact.lock                       held while somebody compacts
    history.sqlite                             for people; derived, may be deleted
    history.lock                               held by who writes to it

Owns these names and nothing else.
"""

from __future__ import annotations

import re
from typing import Final

from zq_daemon.errors import JournalUnavailableError
from zq_daemon.log.survey import segment_names
from zq_daemon.ports.disk import Disk

FOLDER: Final = "journal"
KIND: Final = "journal"
"""What the headers of its segments say."""
ARCHIVE: Final = f"{FOLDER}/archive"
CONSUMERS: Final = f"{FOLDER}/consumers"
COMPACT_LOCK: Final = f"{FOLDER}/compact.lock"
HISTORY: Final = "history.sqlite"
HISTORY_LOCK: Final = "history.lock"

_ARCHIVED = re.compile(r"\d{20}\.log\.gz")
_CHECKPOINT = re.compile(r"checkpoint-\d{20}\.zqc")


def archived_name(segment: str) -> str:
    """What a segment is called in the archive."""
    return f"{segment}.gz"


def checkpoint_name(sequence: int) -> str:
    """The checkpoint that covers all records up to *sequence*."""
    return f"checkpoint-{sequence:020}.zqc"


def sequence_of(name: str) -> int:
    """The sequence in the name of a segment, archived or not, or of a checkpoint."""
    return int(name.removeprefix("checkpoint-")[:20])


async def require_journal(disk: Disk) -> None:
    """JournalUnavailableError where none is; one that lost all its segments is one. OSError."""
    if not await segment_names(disk, FOLDER) and not await disk.list(FOLDER):
        raise JournalUnavailableError(
            f"there is no journal here yet (no folder {FOLDER!r}): a daemon makes it"
        )


async def archived_names(disk: Disk) -> list[str]:
    """The archived segments, oldest first. OSError."""
    return [name for name in await disk.list(ARCHIVE) if _ARCHIVED.fullmatch(name)]


async def checkpoint_names(disk: Disk) -> list[str]:
    """The checkpoints, oldest first. OSError."""
    return [name for name in await disk.list(FOLDER) if _CHECKPOINT.fullmatch(name)]
