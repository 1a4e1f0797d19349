"""What happens because time passes: the tick of clock-driven strategies, and housekeeping.

Both are tasks of their own; a tick that finds the bus behind is counted as missed, never queued
twice.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from zq_daemon.engine.dispatch import FeedEvent
from zq_daemon.model.event import Tick
from zq_daemon.ports.clock import NS_PER_MS, Clock
from zq_daemon.runtime.feed_queue import FeedQueue


class TickTask:
    """Puts a `Tick` on the feed queue every *interval_ms*, aligned to its start; None is off."""

    def __init__(self, interval_ms: int | None, feed: FeedQueue[FeedEvent], clock: Clock) -> None:
        self._interval_ms = interval_ms
        self._feed = feed
        self._clock = clock
        self._changed = trio.Event()
        self._count = 0
        self._missed = 0

    @property
    def interval_ms(self) -> int | None:
        """The present interval."""
        return self._interval_ms

    def set_interval(self, interval_ms: int | None) -> None:
        """Change the interval (a reload); the next tick is one new interval from now."""
        self._interval_ms = interval_ms
        self._changed.set()

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            self._changed = trio.Event()
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    if self._interval_ms is not None:
                        nursery.start_soon(self._tick, self._interval_ms)
                    await self._changed.wait()
                    scope.cancel()

    async def _tick(self, interval_ms: int) -> None:
        interval_s = interval_ms / 1000
        due = trio.current_time() + interval_s
        while True:
            await trio.sleep_until(due)
            late = int((trio.current_time() - due) / interval_s)
            self._missed += late
            due += (late + 1) * interval_s
            self._emit()

    def _emit(self) -> None:
        self._count += 1
        tick = Tick(
            count=self._count,
            missed=self._missed,
            ts_event_ns=self._clock.now_ns(),
            ts_monotonic_ns=self._clock.monotonic_ns(),
        )
        self._feed.offer(tick)
        self._missed = 0


async def keep_house(clock: Clock, chores: list[Callable[[int], object]], interval_ms: int) -> None:
    """Call each chore with the wall time (ns) every *interval_ms* until cancelled.

    The chores are synchronous and cheap: closing time bars, staleness, timers, daily loss.
    """
    due_ns, interval_ns = clock.monotonic_ns(), interval_ms * NS_PER_MS
    while True:
        now_ns = clock.now_ns()
        for chore in chores:
            chore(now_ns)
        behind_ns = clock.monotonic_ns() - due_ns
        due_ns += (behind_ns // interval_ns + 1) * interval_ns
        await trio.sleep((due_ns - clock.monotonic_ns()) / 1e9)
