"""The fewest faults: found whatever they are, within so many runs."""

from __future__ import annotations

from collections.abc import Collection

from hypothesis import given
from hypothesis import strategies as st

from tests.simulation.plan import Fault, Plan, draw_plan
from tests.simulation.shrink import kinds, shrink


def _plan(count: int) -> Plan:
    return Plan(seed=1, faults=tuple(Fault(kind="cut", at_s=float(at)) for at in range(count)))


def _needs(wanted: Collection[int], plan: Plan) -> bool:
    return {float(each) for each in wanted} <= {fault.at_s for fault in plan.faults}


@given(count=st.integers(1, 16), data=st.data())
def test_what_matters_is_kept_and_nothing_else(count: int, data: st.DataObject) -> None:
    wanted = data.draw(st.sets(st.integers(0, count - 1), max_size=3))
    found = shrink(_plan(count), lambda plan: _needs(wanted, plan), most_runs=1_000)
    assert {fault.at_s for fault in found.faults} == {float(each) for each in wanted}


@given(most=st.integers(0, 10))
def test_no_more_runs_than_allowed(most: int) -> None:
    runs = 0

    def fails(_plan: Plan) -> bool:
        nonlocal runs
        runs += 1
        return runs % 3 == 0

    shrink(_plan(12), fails, most_runs=most)
    assert runs <= most


def test_complaints_of_one_kind_are_alike() -> None:
    first = kinds(["3.5 s, life 2: order 0xab1 was sent before its intent was durable"])
    assert first == kinds(["99.1 s, life 1: order 0xff was sent before its intent was durable"])
    assert first != kinds(["3.5 s, life 2: nonce 17 is used again, first in life 1"])


def test_plans_are_drawn_from_their_seed() -> None:
    assert draw_plan(5) == draw_plan(5)
    assert draw_plan(5) != draw_plan(6)
    assert len(draw_plan(5).faults) >= 8
