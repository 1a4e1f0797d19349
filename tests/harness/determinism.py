"""Runs a Trio program so that it replays exactly: seeded scheduler, virtual time."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import trio
import trio.testing
from trio._core import _run as scheduler

T = TypeVar("T")


def run_virtual(seed: int, program: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run *program* under virtual time with the scheduler's choices drawn from *seed*."""
    with seeded_schedule(seed):
        return trio.run(program, *args, clock=trio.testing.MockClock(autojump_threshold=0))


@contextmanager
def seeded_schedule(seed: int) -> Iterator[None]:
    """Trio's choices of who runs next are drawn from *seed* meanwhile."""
    # Trio shuffles runnable tasks on purpose; its two private switches are what its own tests use.
    before = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    scheduler._r = random.Random(seed)
    try:
        yield
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r = before  # type: ignore[misc]


class EventDigest:
    """A hash over every event of a bus, in order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.count = 0

    def add(self, event: object) -> None:
        """A subscriber for the pattern `*`."""
        text = event.__qualname__ if callable(event) else repr(event)
        self._hash.update(text.encode())
        self.count += 1

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
