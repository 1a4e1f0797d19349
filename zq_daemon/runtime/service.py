"""One rung of the ladder: a child task that outlives its users and ends within a deadline.

Plain nesting is not enough: a cancellation from outside would reach producers and consumers at
once, and a producer's last order would be lost. A service is shielded from the moment it has
started; leaving the body asks it to stop (its channels close) and gives it *grace_s* to do so.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import structlog
import trio

from zq_daemon.errors import ZqError

_log = structlog.get_logger("zq.service")


class Runnable(Protocol):
    """The child's coroutine function: reports what it serves through *task_status*."""

    async def __call__(self, *, task_status: trio.TaskStatus[Any]) -> None:
        """Run until asked to stop."""


class ServiceEndedError(ZqError):
    """A service returned although nobody had asked it to stop."""


class Cutter:
    """Knows the scopes of all running services, so that a second signal can cut them short."""

    def __init__(self) -> None:
        self._scopes: set[trio.CancelScope] = set()
        self._cut = False

    def cut(self) -> None:
        """Cancel every service now, and every one that is opened later at once."""
        self._cut = True
        for scope in self._scopes:
            scope.cancel()

    @property
    def was_cut(self) -> bool:
        """Whether a stop was cut short."""
        return self._cut

    def add(self, scope: trio.CancelScope) -> None:
        """Make *scope* one of those that are cut."""
        self._scopes.add(scope)
        if self._cut:
            scope.cancel()

    def remove(self, scope: trio.CancelScope) -> None:
        """Forget a scope that was left."""
        self._scopes.discard(scope)


@asynccontextmanager
async def open_service(
    run: Runnable, *, name: str, stop: Callable[[], None], grace_s: float, cutter: Cutter
) -> AsyncIterator[Any]:
    """Start *run*, yield what it reported, and on leaving call *stop* and wait up to *grace_s*.

    A failure of the child cancels the body and is raised here; so is its return before *stop*.
    """
    scope = trio.CancelScope()
    stopping = False

    async def child(*, task_status: trio.TaskStatus[Any]) -> None:
        cutter.add(scope)
        try:
            with scope:
                await run(task_status=_Shielding(task_status, scope))
        finally:
            cutter.remove(scope)
        if scope.cancelled_caught:
            _log.warning("service cut short", service=name, grace_s=grace_s)
        elif not stopping:
            raise ServiceEndedError(f"service {name!r} ended although nobody asked it to")

    async with trio.open_nursery() as nursery:
        try:
            # Inside: what has started is to be stopped also where a cancellation comes right then.
            yield await nursery.start(child)
        finally:
            stopping = True
            stop()
            scope.deadline = min(scope.deadline, trio.current_time() + grace_s)


class _Shielding(trio.TaskStatus[Any]):
    """Shields a service's scope when it reports itself started: start-up stays cancellable."""

    def __init__(self, inner: trio.TaskStatus[Any], scope: trio.CancelScope) -> None:
        self._inner = inner
        self._scope = scope

    def started(self, value: Any = None) -> None:
        self._inner.started(value)
        if trio.current_effective_deadline() != -math.inf:  # else it is to end, and not started
            self._scope.shield = True
