"""What waits to be sent to one client: bounded, with a wake-up for the writer and for who waits.

Owns the queue only. The exchange puts into it synchronously; the connection's writer takes from it.
"""

from __future__ import annotations

import math
from collections import deque

import trio


class Outbox:
    """A bounded queue of text messages to one client; full means that the client is too slow."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queue: deque[str] = deque()
        self._late: deque[tuple[float, str]] = deque()
        self._filled = trio.Event()
        self._drained = trio.Event()
        self._closed = trio.Event()
        self.closed_because: str | None = None
        self.close_code: int | None = None

    def put(self, message: str) -> None:
        """Queue a message; a client that lets the queue fill up is cut off instead."""
        if self._has_place():
            self._queue.append(message)
            self._filled.set()

    def put_late(self, message: str, delay_s: float) -> None:
        """`put` after *delay_s*, and never before what was put late earlier."""
        if not (delay_s or self._late):
            self.put(message)
        elif self._has_place():
            due = trio.current_time() + delay_s
            self._late.append((max(due, self._late[-1][0]) if self._late else due, message))
            self._filled.set()

    def close(self, reason: str, code: int | None = None) -> None:
        """Take nothing more; the writer sees it at once and what is queued is lost.

        With a *code* the client is told so by a close frame, else it is just cut off.
        """
        if self.closed_because is None:
            self.closed_because, self.close_code = reason, code
            self._queue.clear()
            self._late.clear()
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
        while self.closed_because is None:
            self._release()
            if self._queue:
                break
            self._filled = trio.Event()
            with trio.move_on_at(self._late[0][0] if self._late else math.inf):
                await self._filled.wait()
        return self.drain()

    def drain(self) -> list[str]:
        """Everything queued, now; may be nothing."""
        taken = list(self._queue)
        self._queue.clear()
        self._drained.set()
        return taken

    def _has_place(self) -> bool:
        if self.closed_because is None and len(self._queue) + len(self._late) >= self._limit:
            self.close("too slow: its messages were not taken")
        return self.closed_because is None

    def _release(self) -> None:
        while self._late and self._late[0][0] <= trio.current_time():
            self._queue.append(self._late.popleft()[1])
