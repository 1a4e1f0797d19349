"""What the service manager is told and when: readiness, status, more time, signs of life.

Owns the rhythm: the watchdog is fed only on proof that the trading loop turned, and more time is
asked for only within a bound. It never decides whether the daemon is well. Driven by `daemon`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog
import trio

from zq_daemon.ports.notify import Notify

_log = structlog.get_logger("zq.supervision")

STATUS_CHARS = 200
EXTEND_EVERY_S = 1.0
"""Often enough that the status beside it is fresh."""
EXTEND_BY_MS = 20_000
"""What one message asks for: several may be lost before the time runs out."""

_FEEDS = 3
"""Signs of life in one watchdog interval."""
_LEAST_PERIOD_S = 0.05
"""Between two signs of life: a supervisor that wants more than that is not served."""
_MOMENTARY = frozenset({"WATCHDOG", "EXTEND_TIMEOUT_USEC"})
"""Of no use later. The rest is said again with the next message when it was lost."""


class Supervision:
    """Speaks to the service manager through the port; without one, everything here is a no-op."""

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._owed: dict[str, str] = {}
        self._fed = 0
        self._fed_at = 0.0
        self._is_late = False
        for oddity in notify.oddities:
            _log.warning("service manager", oddity=oddity)

    @property
    def lost(self) -> int:
        """How many messages the service manager did not get."""
        return self._notify.lost

    def watchdog(self) -> dict[str, Any] | None:
        """For `status`: how the watchdog is fed; None when nobody expects to hear from us."""
        watchdog_us = self._notify.watchdog_us
        if watchdog_us is None:
            return None
        return {
            "interval_s": watchdog_us / 1e6,
            "fed": self._fed,
            "last_fed_s": round(trio.current_time() - self._fed_at, 3) if self._fed else None,
            "late": self._is_late,
            "lost": self.lost,
        }

    def ready(self, status: str) -> None:
        """Start-up is over: who waits for the unit may go on."""
        self._tell({"READY": "1", "STATUS": one_line(status)})

    def status(self, status: str) -> None:
        """What `systemctl status` shows."""
        self._tell({"STATUS": one_line(status)})

    def stopping(self, status: str) -> None:
        """The stop has begun, whoever asked for it."""
        self._tell({"STOPPING": "1", "STATUS": one_line(status)})

    def extend(self, ms: int, status: str | None = None) -> None:
        """Ask that a start or stop under way may take *ms* more milliseconds, from now."""
        told = {} if status is None else {"STATUS": one_line(status)}
        self._tell({"EXTEND_TIMEOUT_USEC": str(max(ms, 1) * 1000), **told})

    async def feed_watchdog(self, prove: Callable[[], Awaitable[None]]) -> None:
        """Feed the watchdog until cancelled, each time *prove* has returned; none: return at once.

        *prove* returns when the trading loop has really turned, and waits for nothing outside of
        this process. One that is late is not cancelled or asked twice: it is told once, and the
        watchdog goes unfed until it returns.
        """
        watchdog_us = self._notify.watchdog_us
        if watchdog_us is None:
            return
        period_s = max(watchdog_us / 1e6 / _FEEDS, _LEAST_PERIOD_S)
        while True:
            began = trio.current_time()
            await self._proved(prove, period_s)
            self._tell({"WATCHDOG": "1"})
            self._fed += 1
            self._fed_at = trio.current_time()
            await trio.sleep_until(began + period_s)

    async def keep_extending(self, status: Callable[[], str], *, total_s: float) -> None:
        """Ask for more time again and again, for *total_s* from now at the most, then return.

        For the start or stop under way; *total_s* is what that allows itself. *status* is what it
        does at the moment. A loop that hangs asks for nothing.
        """
        with trio.move_on_after(total_s) as scope:
            while True:
                left_ms = round((scope.deadline - trio.current_time()) * 1000)
                self.extend(min(EXTEND_BY_MS, left_ms), status())
                await trio.sleep(EXTEND_EVERY_S)

    @asynccontextmanager
    async def extending(self, status: Callable[[], str], *, total_s: float) -> AsyncIterator[None]:
        """`keep_extending` beside the body, until that is left; errors come in a group."""
        async with trio.open_nursery() as nursery:

            async def keep() -> None:
                await self.keep_extending(status, total_s=total_s)

            nursery.start_soon(keep)
            yield
            nursery.cancel_scope.cancel()

    async def _proved(self, prove: Callable[[], Awaitable[None]], period_s: float) -> None:
        async def complain() -> None:
            await trio.sleep(period_s)
            self._is_late = True
            _log.warning("the trading loop does not turn: watchdog not fed", for_s=period_s)

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(complain)
            await prove()
            nursery.cancel_scope.cancel()
        if self._is_late:
            self._is_late = False
            took_s = round(trio.current_time() - began, 3)
            _log.warning("the trading loop turns again", after_s=took_s)

    def _tell(self, assignments: dict[str, str]) -> None:
        message = self._owed | assignments
        if self._notify.send(message):
            self._owed = {}
        else:
            self._owed = {name: message[name] for name in message if name not in _MOMENTARY}


def one_line(text: str) -> str:
    """*text* as a status: its lines joined, all of it printable, at most STATUS_CHARS long."""
    joined = "; ".join(line.strip() for line in text.splitlines() if line.strip())
    shown = joined if joined.isprintable() else repr(joined)[1:-1]
    return shown if len(shown) <= STATUS_CHARS else f"{shown[: STATUS_CHARS - 1]}…"
