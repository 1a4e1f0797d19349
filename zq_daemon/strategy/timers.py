"""Timers of one strategy: bounded, fired by the host, in the order in which they are due."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from zq_daemon.errors import StrategyError

MAX_TIMERS = 1_000


class Timer:
    """A call to come; `cancel` may be repeated and comes too late once it was made."""

    __slots__ = ("callback", "due_ns", "number", "timers")

    def __init__(
        self, timers: Timers, due_ns: int, number: int, callback: Callable[[], None]
    ) -> None:
        self.timers = timers
        self.due_ns = due_ns
        self.number = number
        self.callback = callback

    def __lt__(self, other: Timer) -> bool:
        return (self.due_ns, self.number) < (other.due_ns, other.number)

    def cancel(self) -> None:
        """Do not make the call."""
        self.timers.discard(self)


class Timers:
    """At most `MAX_TIMERS` that wait, on one clock."""

    def __init__(self) -> None:
        self._waiting: list[Timer] = []
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, due_ns: int, callback: Callable[[], None]) -> Timer:
        """Call *callback* once when *due_ns* has come; StrategyError when too many wait."""
        if len(self._waiting) >= MAX_TIMERS:
            raise StrategyError(f"{MAX_TIMERS} timers wait already: are they set in a loop?")
        self._numbers += 1
        timer = Timer(self, due_ns, self._numbers, callback)
        heapq.heappush(self._waiting, timer)
        return timer

    def discard(self, timer: Timer) -> None:
        """Take a timer out, if it still waits."""
        if timer in self._waiting:
            self._waiting.remove(timer)
            heapq.heapify(self._waiting)

    def pop_due(self, now_ns: int) -> Timer | None:
        """The first timer that is due, taken out."""
        if self._waiting and self._waiting[0].due_ns <= now_ns:
            return heapq.heappop(self._waiting)
        return None

    def clear(self) -> None:
        """Forget all."""
        self._waiting.clear()
