"""Runs `async def` tests under Trio, for a minute at most; `patience` gives them so many seconds.

The `virtual` marker gives them an autojumping clock instead. Which of the runnable tasks comes
first is Trio's choice, and drawn from the seed `ZQ_SCHEDULE` (0 where it is not set).
"""

from __future__ import annotations

import functools
import inspect
import os
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, settings

from tests.harness.determinism import run_virtual, seeded_schedule

settings.register_profile(
    "default", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "virtual: run on an autojumping virtual clock")
    config.addinivalue_line("markers", "patience(seconds): may take longer than a minute")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    test = functools.partial(pyfuncitem.obj, **{name: pyfuncitem.funcargs[name] for name in names})
    schedule = int(os.environ.get("ZQ_SCHEDULE", "0"))
    if pyfuncitem.get_closest_marker("virtual"):
        run_virtual(schedule, test)
    else:
        patience = pyfuncitem.get_closest_marker("patience")
        with seeded_schedule(schedule):
            trio.run(_bounded, test, 60 if patience is None else patience.args[0])
    return True


async def _bounded(test: functools.partial[object], limit_s: float) -> None:
    with trio.fail_after(limit_s):
        await test()  # type: ignore[misc]


@pytest.fixture
def captures() -> Path:
    """The folder of real captures; skips the test where there is none."""
    folder = os.environ.get("ZQ_CAPTURES")
    if not folder:
        pytest.skip("ZQ_CAPTURES is not set: no real captures on this machine")
    return Path(folder)
