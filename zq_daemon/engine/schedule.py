"""When to do what again: keys with a monotonic time each, and a wait for the earliest of them.

Owns the times only, and knows nothing of what is due. What owes cancels and what checks positions
keeps one each; a task of the execution engine takes what is due from it.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import trio

from zq_daemon.ports.clock import NS_PER_S

_Key = TypeVar("_Key")


class Schedule(Generic[_Key]):
    """At most one time for each key; whoever sets a key bounds how many there are."""

    def __init__(self) -> None:
        self._times: dict[_Key, int] = {}
        self._changed = trio.Event()

    def set(self, key: _Key, at_ns: int) -> None:
        """Let *key* be due at monotonic *at_ns*, and no more at any time set before."""
        self._times[key] = at_ns
        self._changed.set()

    def set_by(self, key: _Key, at_ns: int) -> None:
        """Let *key* be due at monotonic *at_ns*, or when it is due already if that is earlier."""
        self.set(key, min(at_ns, self._times.get(key, at_ns)))

    def drop(self, key: _Key) -> None:
        """Let *key* not become due."""
        self._times.pop(key, None)

    def take_due(self, monotonic_ns: int) -> tuple[_Key, ...]:
        """The keys that are due by now; none of them is again before it is set again."""
        found = tuple(key for key, at_ns in self._times.items() if at_ns <= monotonic_ns)
        for key in found:
            del self._times[key]
        return found

    async def wait_due(self, monotonic_ns: int) -> None:
        """Return when a key may have become due."""
        self._changed = trio.Event()
        next_ns = min(self._times.values(), default=None)
        if next_ns is None:
            await self._changed.wait()
            return
        with trio.move_on_after(max(next_ns - monotonic_ns, 0) / NS_PER_S):
            await self._changed.wait()
