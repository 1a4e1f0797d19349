"""Finds the fewest faults that still make a plan fail, by leaving others out (delta debugging).

A failing simulation has some ten faults, of which one or two matter. Complaints are compared by
their kind, numbers left aside, so that another failure is not taken for this one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from attrs import evolve

from tests.simulation.plan import Fault, Plan

_VARYING = re.compile(r"0x[0-9a-f]+|[0-9][0-9.]*|life \d+")

Fails = Callable[[Plan], bool]


def kinds(wrong: Sequence[str]) -> set[str]:
    """What sort of things were wrong."""
    return {_VARYING.sub("#", problem)[:60] for problem in wrong}


def shrink(plan: Plan, fails: Fails, *, most_runs: int) -> Plan:
    """*plan* with as few of its faults as *fails* still accepts, in at most so many runs."""
    faults, size, runs = list(plan.faults), max(len(plan.faults) // 2, 1), 0
    while faults and runs < most_runs:
        for start in range(0, len(faults), size):
            if runs == most_runs:
                break
            fewer = _without(faults, start, size)
            runs += 1
            if fails(evolve(plan, faults=tuple(fewer))):
                faults = fewer
                break
        else:
            if size == 1:
                break
            size = max(size // 2, 1)
        size = min(size, max(len(faults), 1))
    return evolve(plan, faults=tuple(faults))


def _without(faults: Sequence[Fault], start: int, size: int) -> list[Fault]:
    return [*faults[:start], *faults[start + size :]]
