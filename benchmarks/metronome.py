"""Says when to decide: moments that do not wait for who hears of them, as market data does not.

They come from the kernel's timer (a timerfd), which wakes the loop as a socket would. Trio's own
sleep is a millisecond coarse; another process that told the time would take turns with the one that
is measured, and empty its caches each time.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

import trio

_NS_PER_S = 1_000_000_000
_ABSOLUTE = 1
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_SEED = 1
_libc = ctypes.CDLL(None, use_errno=True)


class _Timer(ctypes.Structure):
    """`struct itimerspec`: an interval (none here) and a moment, in seconds and nanoseconds."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns"))


async def keep_time(decide: Callable[[int], None], rate: int, count: int) -> None:
    """Call *decide* with each of *count* moments of the monotonic clock (ns), once it has come.

    *rate* a second come on average, as irregular as independent events are (Poisson).
    """
    rng, due_ns = Random(_SEED), time.monotonic_ns()
    with _timer() as timer:
        for _ in range(count):
            due_ns += int(rng.expovariate(rate) * _NS_PER_S)
            if due_ns > time.monotonic_ns():
                _set(timer, due_ns)
                await trio.lowlevel.wait_readable(timer)
            else:
                await trio.lowlevel.checkpoint()
            decide(due_ns)


@contextmanager
def _timer() -> Iterator[int]:
    timer = _libc.timerfd_create(time.CLOCK_MONOTONIC, _FLAGS)
    if timer < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    try:
        yield timer
    finally:
        trio.lowlevel.notify_closing(timer)
        os.close(timer)


def _set(timer: int, at_ns: int) -> None:
    at = _Timer(0, 0, *divmod(at_ns, _NS_PER_S))
    if _libc.timerfd_settime(timer, _ABSOLUTE, ctypes.byref(at), None):
        raise OSError(ctypes.get_errno(), "timerfd_settime")
