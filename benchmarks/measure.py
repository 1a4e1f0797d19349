"""How things are timed: statements interleaved in rounds, medians, and what /proc says."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from timeit import Timer
from typing import Any

from attrs import frozen

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@frozen(kw_only=True)
class Scale:
    """How much is measured: rounds of *round_s* each; counts of messages, orders, seconds.

    Orders are paced for *paced_orders_s*, and there are *least_orders* of them at any pace. The
    exchange is sent *exchange_orders* in all, and for *steady_s* orders at the same pace.
    """

    rounds: int
    round_s: float
    flat_out_messages: int
    paced_s: float
    paced_orders_s: float
    least_orders: int
    commit_s: float
    journal_records: int
    replay_records: int
    idle_s: float
    memory_messages: int
    exchange_orders: int
    steady_s: float


FULL = Scale(
    rounds=9,
    round_s=0.05,
    flat_out_messages=100_000,
    paced_s=10,
    paced_orders_s=3,
    least_orders=100,
    commit_s=1,
    journal_records=100_000,
    replay_records=1_000_000,
    idle_s=20,
    memory_messages=2_000_000,
    exchange_orders=20_000,
    steady_s=600,
)
QUICK = Scale(
    rounds=5,
    round_s=0.01,
    flat_out_messages=20_000,
    paced_s=2,
    paced_orders_s=1,
    least_orders=30,
    commit_s=0.3,
    journal_records=20_000,
    replay_records=100_000,
    idle_s=5,
    memory_messages=200_000,
    exchange_orders=2_000,
    steady_s=10,
)


@frozen
class Case:
    """A statement, and the names that it uses."""

    statement: str
    names: Mapping[str, Any]


def nanoseconds(cases: Mapping[str, Case], scale: Scale) -> dict[str, float]:
    """What each statement takes: the median of rounds in which all of them have their turn.

    The machine's moods then hit all alike, so that ratios within one call can be trusted. The
    garbage collector is off meanwhile, as `timeit` has it.
    """
    timers = {name: Timer(case.statement, globals=dict(case.names)) for name, case in cases.items()}
    counts = {name: _fitting_count(timer, scale.round_s) for name, timer in timers.items()}
    taken: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(scale.rounds):
        for name, timer in timers.items():
            taken[name].append(timer.timeit(counts[name]) / counts[name] * 1e9)
    return {name: statistics.median(rounds) for name, rounds in taken.items()}


def percentile(values: Sequence[int], share: float) -> int:
    """The value below which *share* (0 to 1) of *values* lie."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def resident_bytes(pid: int | str = "self") -> int:
    """The resident set of a process (VmRSS)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {pid} has ended")


def cpu_seconds(pid: int) -> float:
    """What a process has used of the processor so far, user and system."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / _TICKS_PER_S


def cpu_share(pid: int, duration_s: float) -> float:
    """Which part of one core (0 to 1) a process uses during the next *duration_s*."""
    used, began = cpu_seconds(pid), time.monotonic()
    time.sleep(duration_s)
    return (cpu_seconds(pid) - used) / (time.monotonic() - began)


def _fitting_count(timer: Timer, round_s: float) -> int:
    count = 1
    while timer.timeit(count) < round_s:
        count *= 2
    return count
