"""Garbage collection while the daemon runs: rare, and not of what start-up made.

Owns nothing; it sets the collector of the whole process and puts back what it found. The ladder's
last rung, once everything that lives as long as the daemon is there.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_THRESHOLDS = (10_000, 20, 10)
"""Collections are rare, since a steady feed makes next to no cycles. What a lost connection leaves
behind is cyclic and old: full ones, which without the start-up's objects take some 15 ms, are due
often enough that a hundred flapping links do not pile up 100 MB an hour."""


@contextmanager
def settled_memory() -> Iterator[None]:
    """Take what is there out of every later collection; leaving undoes it.

    Inside another one it does nothing. A program that froze objects itself keeps them frozen.
    """
    before = gc.get_threshold()
    if before == _THRESHOLDS:
        yield
        return
    was_frozen = gc.get_freeze_count() > 0
    gc.collect()
    gc.freeze()
    gc.collect()  # of nothing: later ones are due by what has come since, not by what is frozen
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if not was_frozen:
            gc.unfreeze()
