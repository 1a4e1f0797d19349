"""Runs `async def` tests under Trio; the `virtual` marker gives them an autojumping clock."""

from __future__ import annotations

import functools
import inspect
import os
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "virtual: run on an autojumping virtual clock")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    test = functools.partial(pyfuncitem.obj, **{name: pyfuncitem.funcargs[name] for name in names})
    if pyfuncitem.get_closest_marker("virtual"):
        trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))
    else:
        trio.run(_bounded, test)
    return True


async def _bounded(test: functools.partial[object]) -> None:
    with trio.fail_after(60):
        await test()  # type: ignore[misc]


@pytest.fixture
def captures() -> Path:
    """The folder of real captures; skips the test where there is none."""
    folder = os.environ.get("ZQ_CAPTURES")
    if not folder:
        pytest.skip("ZQ_CAPTURES is not set: no real captures on this machine")
    return Path(folder)
