"""The clock port: wall time and monotonic time, both integer nanoseconds, never mixed.

Waiting is Trio's (`trio.sleep_until`, deadlines): under a virtual Trio clock both times here follow
it when a `VirtualClock` is used.
"""

from __future__ import annotations

import time
from typing import Protocol

import trio

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


class Clock(Protocol):
    """Where the daemon reads the time."""

    def now_ns(self) -> int:
        """Wall time: nanoseconds since the Unix epoch; may jump."""

    def monotonic_ns(self) -> int:
        """Monotonic time: only differences mean anything."""


class SystemClock:
    """The machine's clocks."""

    def now_ns(self) -> int:
        """Wall time from the operating system."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """Monotonic time from the operating system."""
        return time.monotonic_ns()


class VirtualClock:
    """Trio's own (mock) clock, counted from *epoch_ns*: for simulation; needs a running Trio."""

    def __init__(self, epoch_ns: int = 1_700_000_000 * NS_PER_S) -> None:
        self._epoch_ns = epoch_ns

    def now_ns(self) -> int:
        """*epoch_ns* plus Trio's time."""
        return self._epoch_ns + self.monotonic_ns()

    def monotonic_ns(self) -> int:
        """Trio's time, to the nanosecond."""
        return round(trio.current_time() * NS_PER_S)
