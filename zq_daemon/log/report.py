"""What opening or inspecting a log has to say, and the file that remembers accepted damage.

Owns the values `Damage` and `Opening`, and `accepted.json` in the log's folder: the damages that
an operator has taken note of. Damage is a lasting fact: it is found again at every opening, and
once accepted it is listed apart. A file that cannot be understood accepts nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from attrs import field, frozen

from zq_daemon.ports.disk import Disk

_ACCEPTED = "accepted.json"
UNCOUNTED: Final = "how many records there were is not known"
"""The end of the reason of a damage whose last record is only a bound."""


@frozen(kw_only=True)
class Damage:
    """Durable bytes that are not what was written: *start* to *end* of *file*.

    The records *first_sequence* to *last_sequence* are lost with them, at most (where bytes are
    gone nobody knows how many there were); *last_sequence* is one less when none is. A file that
    is missing has no bytes: *start* and *end* are 0.
    """

    file: str
    start: int
    end: int
    first_sequence: int
    last_sequence: int
    reason: str

    @property
    def lost(self) -> int:
        """How many records are lost at most."""
        return self.last_sequence - self.first_sequence + 1

    def __str__(self) -> str:
        where = f"{self.file}, bytes {self.start} to {self.end}: {self.reason}; "
        if self.lost == 0:
            return where + "no record is lost"
        if self.reason.endswith(UNCOUNTED):
            return where + f"records from {self.first_sequence} on are lost, {self.lost} at most"
        if self.lost == 1:
            return where + f"record {self.first_sequence} is lost"
        return where + f"records {self.first_sequence} to {self.last_sequence} are lost"


@frozen(kw_only=True)
class Opening:
    """What was found. Records *first_sequence* to *last_sequence*; the last is one less if none.

    *torn_bytes* of an unfinished write were left out: nobody was told that they are durable. *gaps*
    are the sequences torn now or at former openings, from a hole on. *accepted* are
    the damages an operator took note of, *damages* the others.
    """

    folder: str
    segments: tuple[str, ...]
    first_sequence: int
    last_sequence: int
    torn_bytes: int = 0
    gaps: tuple[tuple[int, int], ...] = field(default=())
    damages: tuple[Damage, ...] = field(default=())
    accepted: tuple[Damage, ...] = field(default=())


async def read_accepted(disk: Disk, folder: str) -> frozenset[Damage]:
    """The damages of the log in *folder* that were accepted. OSError."""
    try:
        data = await disk.read(f"{folder}/{_ACCEPTED}")
        return frozenset(msgspec.json.decode(data, type=list[Damage]))
    except (FileNotFoundError, msgspec.DecodeError):
        return frozenset()


async def write_accepted(disk: Disk, folder: str, accepted: Iterable[Damage]) -> None:
    """Remember, durably, that *accepted* are. OSError."""
    data = msgspec.json.format(msgspec.json.encode(list(accepted)))
    await disk.replace(f"{folder}/{_ACCEPTED}", data + b"\n")
