"""The records written last, in memory: who reads along needs no file for them.

Owns a bounded queue between the journal and one reader. When that is too slow the oldest are
dropped: then it reads the files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from zq_daemon.log import Batch

LIMIT_BYTES = 33_554_432


class Recent:
    """Consecutive records, the last ones, *limit_bytes* at most."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._bytes = 0
        self._first = 0
        self._payloads: deque[bytes] = deque()

    def add(self, sequence: int, payload: bytes) -> None:
        """A record was written."""
        if sequence != self._first + len(self._payloads):
            self._payloads.clear()
            self._bytes = 0
            self._first = sequence
        self._payloads.append(payload)
        self._bytes += len(payload)
        while self._bytes > self._limit:
            self._drop()

    def take(self, after: int, up_to: int, most: int) -> Batch | None:
        """The records behind *after*, at most *most* and none behind *up_to*; they are forgotten.

        None when they are not here (any more).
        """
        while self._payloads and self._first <= after:
            self._drop()
        if not self._payloads or self._first != after + 1 or up_to <= after:
            return None
        count = min(most, up_to - after, len(self._payloads))
        first, taken = self._first, self._taken(count)
        return Batch(first_sequence=first, payloads=list(taken))

    def _taken(self, count: int) -> Sequence[bytes]:
        return [self._drop() for _ in range(count)]

    def _drop(self) -> bytes:
        payload = self._payloads.popleft()
        self._bytes -= len(payload)
        self._first += 1
        return payload
