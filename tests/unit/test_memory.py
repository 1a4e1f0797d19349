"""The collector's settings while a daemon runs, and after it."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from zq_daemon.runtime.memory import settled_memory


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    before = gc.get_threshold()
    gc.unfreeze()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_it_is_set_inside_and_put_back_after_a_failure_too() -> None:
    with pytest.raises(ValueError, match="inside"), settled_memory():
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] > 700
        raise ValueError("inside")
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == (700, 10, 10)


def test_a_second_one_inside_changes_nothing() -> None:
    with settled_memory():
        inside = gc.get_threshold()
        with settled_memory():
            assert gc.get_threshold() == inside
        assert gc.get_threshold() == inside
        assert gc.get_freeze_count() > 0
    assert gc.get_threshold() == (700, 10, 10)


def test_what_was_frozen_before_stays_frozen() -> None:
    gc.freeze()
    with settled_memory():
        pass
    assert gc.get_freeze_count() > 0
