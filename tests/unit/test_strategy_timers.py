"""Timers: in order, once, bounded."""

from __future__ import annotations

import pytest

from zq_daemon.errors import StrategyError
from zq_daemon.strategy.timers import MAX_TIMERS, Timers


def fire(timers: Timers, now_ns: int) -> None:
    while timer := timers.pop_due(now_ns):
        timer.callback()


def test_timers_fire_once_in_the_order_they_are_due() -> None:
    timers, fired = Timers(), []
    for due_ns, name in ((30, "c"), (10, "a"), (20, "b"), (10, "a2")):
        timers.add(due_ns, lambda name=name: fired.append(name))
    fire(timers, 9)
    assert fired == []
    fire(timers, 20)
    assert fired == ["a", "a2", "b"]
    fire(timers, 100)
    fire(timers, 100)
    assert fired == ["a", "a2", "b", "c"]


def test_a_cancelled_timer_does_not_fire_and_may_be_cancelled_again() -> None:
    timers, fired = Timers(), []
    kept = [timers.add(due_ns, lambda: fired.append("kept")) for due_ns in (5, 1, 3)]
    timer = timers.add(2, lambda: fired.append("cancelled"))
    timer.cancel()
    timer.cancel()
    fire(timers, 10)
    kept[0].cancel()
    assert fired == ["kept"] * 3
    assert len(timers) == 0


def test_timers_are_bounded() -> None:
    timers = Timers()
    for _ in range(MAX_TIMERS):
        timers.add(1, lambda: None)
    with pytest.raises(StrategyError, match="1000 timers"):
        timers.add(1, lambda: None)
    timers.clear()
    timers.add(1, lambda: None)
    assert len(timers) == 1
