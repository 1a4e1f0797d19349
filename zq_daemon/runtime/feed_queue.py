"""The bounded queue between the socket tasks and the bus, with one policy for each kind of event.

Lossless events (trades, deltas, link changes) block the sender when the queue is full, which stops
its socket. State events (books, quotes, marks, ticks), of which only the latest counts, are
conflated to the latest a key; what was conflated is delivered after all that waited when conflating
began, so that senders who never let up cannot keep it back. One consumer takes batches.

Who closes it: the daemon, after every sender has ended; the consumer then drains what is left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

import trio
from attrs import frozen

T = TypeVar("T")


@frozen(kw_only=True)
class FeedQueueStatistics:
    """What a queue has seen; *blocked_ns* sums the time senders had to wait (Trio's clock)."""

    size: int
    capacity: int
    high_water: int
    accepted: int
    conflated: int
    blocked_ns: int


class FeedQueue(Generic[T]):
    """A queue of at most *capacity* events plus one pending event for each conflation key."""

    def __init__(self, capacity: int, key_of: Callable[[T], Hashable | None]) -> None:
        """*key_of* gives the conflation key of an event; None makes it lossless."""
        self._capacity = capacity
        self._key_of = key_of
        self._waiting: deque[T] = deque()
        self._latest: dict[Hashable, T] = {}
        self._ahead = 0
        self._data = trio.Event()
        self._room = trio.Event()
        self._closed = False
        self._high_water = self._accepted = self._conflated = self._blocked_ns = 0

    async def put(self, events: Iterable[T]) -> None:
        """Queue *events* in order; waits only while a lossless one finds no room.

        No checkpoint when there is room: a socket task has just waited for its message. Raises
        trio.ClosedResourceError once the queue is closed.
        """
        for event in events:
            while not self.offer(event):
                began = trio.current_time()
                await self._room.wait()
                self._blocked_ns += round((trio.current_time() - began) * 1e9)

    def offer(self, event: T) -> bool:
        """Queue one event without waiting; False: it is lossless and there is no room."""
        if self._closed:
            raise trio.ClosedResourceError
        full = len(self._waiting) >= self._capacity
        # While an older state of a key is pending, a newer one must not overtake it in the queue.
        key = self._key_of(event) if full or self._latest else None
        if key is not None and (full or key in self._latest):
            if not self._latest:
                self._ahead = len(self._waiting)
            self._conflated += self._latest.pop(key, None) is not None
            self._latest[key] = event
        elif full:
            self._room = trio.Event() if self._room.is_set() else self._room
            return False
        else:
            self._waiting.append(event)
            self._high_water = max(self._high_water, len(self._waiting))
        self._accepted += 1
        self._data.set()
        return True

    async def get(self, at_most: int) -> list[T]:
        """Up to *at_most* events, oldest first; trio.EndOfChannel when closed and drained."""
        while not self._waiting and not self._latest:
            if self._closed:
                raise trio.EndOfChannel
            self._data = trio.Event()
            await self._data.wait()
        waiting = self._waiting
        batch = [waiting.popleft() for _ in range(min(at_most, len(waiting)))]
        self._ahead -= len(batch)
        if self._latest and self._ahead <= 0:
            batch.extend(self._latest.values())
            self._latest.clear()
        self._room.set()
        return batch

    def close(self) -> None:
        """No more events are taken; what waits can still be got."""
        self._closed = True
        self._data.set()
        self._room.set()

    def statistics(self) -> FeedQueueStatistics:
        """A snapshot for status and metrics."""
        return FeedQueueStatistics(
            size=len(self._waiting) + len(self._latest),
            capacity=self._capacity,
            high_water=self._high_water,
            accepted=self._accepted,
            conflated=self._conflated,
            blocked_ns=self._blocked_ns,
        )
