"""What waits to be sent to one client: bounded, with a wake-up for the writer and for who waits.

Owns the queue only. The exchange puts into it synchronously; the connection's writer takes from it.
"""

from __future__ import annotations

from collections import deque

import trio


class Outbox:
    """A bounded queue of text messages to one client; full means that the client is too slow."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queue: deque[str] = deque()
        self._filled = trio.Event()
        self._drained = trio.Event()
        self._closed = trio.Event()
        self.closed_because: str | None = None

    def put(self, message: str) -> None:
        """Queue a message; a client that lets the queue fill up is cut off instead."""
        if self.closed_because is not None:
            return
        if len(self._queue) >= self._limit:
            self.close("too slow: its messages were not taken")
            return
        self._queue.append(message)
        self._filled.set()

    def close(self, reason: str) -> None:
        """Take nothing more; the writer sees it at once and what is queued is lost."""
        if self.closed_because is None:
            self.closed_because = reason
            self._queue.clear()
            self._filled.set()
            self._drained.set()
            self._closed.set()

    def has_room(self) -> bool:
        """Whether less than half of the queue is used (or it is closed)."""
        return len(self._queue) * 2 <= self._limit

    async def wait_room(self) -> None:
        """Wait until `has_room`: the back-pressure of a replay that must lose nothing."""
        while not self.has_room():
            self._drained = trio.Event()
            await self._drained.wait()

    async def wait_closed(self) -> None:
        """Wait until the client is cut off, also while its writer is stuck."""
        await self._closed.wait()

    async def take(self) -> list[str]:
        """Everything queued, at least one message; empty once closed."""
        while not self._queue and self.closed_because is None:
            self._filled = trio.Event()
            await self._filled.wait()
        return self.drain()

    def drain(self) -> list[str]:
        """Everything queued, now; may be nothing."""
        taken = list(self._queue)
        self._queue.clear()
        self._drained.set()
        return taken
