"""The dead man's switch: the venue cancels our orders when we have not spoken for a while.

Owns when it is wound up and how it is told that it is not. It is fed by the trading loop itself, so
that a loop that hangs lets it fire as a machine that is gone does; a graceful stop takes it back,
whether orders are left at the venue or not. A service of the daemon, one for all accounts.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog
import trio

from zq_daemon.core.bus import MessageBus
from zq_daemon.engine.health import tell_health
from zq_daemon.model.ids import AccountId
from zq_daemon.ports.clock import NS_PER_S, Clock
from zq_daemon.venue.interface import (
    Acknowledged,
    Ambiguous,
    NotSent,
    OrderEntry,
    Outcome,
    Refused,
)

CHANCES = 3
"""How often it is wound up within its own time: one or two of them may fail."""

_log = structlog.get_logger("zq.switch")


class DeadMansSwitch:
    """Wound up while `run` does: *after_ns* after the last time, all orders are cancelled."""

    def __init__(
        self,
        *,
        bus: MessageBus,
        clock: Clock,
        entries: Mapping[AccountId, OrderEntry],
        after_ns: int,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._entries = entries
        self._after_ns = after_ns
        self._closing = trio.Event()
        self._problems: dict[AccountId, str] = {}

    def status(self) -> Mapping[str, str | None]:
        """By account why it is not wound up; None: it is."""
        return {account_id: self._problems.get(account_id) for account_id in self._entries}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Wind it up, again and again, until closed; then take it back."""
        task_status.started()
        while not self._closing.is_set():
            await self._set(self._after_ns)
            with trio.move_on_after(self._after_ns / CHANCES / NS_PER_S):
                await self._closing.wait()
        await self._set(None)

    def close(self) -> None:
        """Let `run` take it back and end."""
        self._closing.set()

    async def _set(self, after_ns: int | None) -> None:
        async with trio.open_nursery() as nursery:
            for account_id, entry in self._entries.items():
                nursery.start_soon(self._set_one, account_id, entry, after_ns)

    async def _set_one(
        self, account_id: AccountId, entry: OrderEntry, after_ns: int | None
    ) -> None:
        at_ns = None if after_ns is None else self._clock.now_ns() + after_ns
        outcomes = await entry.send(entry.prepare_schedule_cancel(at_ns))
        problem = "".join(_said(each) for each in outcomes)
        if after_ns is None and problem:
            _log.warning("dead man's switch not taken back", account=account_id, detail=problem)
        if problem != self._problems.get(account_id, ""):
            self._tell(account_id, problem)

    def _tell(self, account_id: AccountId, problem: str) -> None:
        if problem:
            self._problems[account_id] = problem
            _log.error("dead man's switch not set", account=account_id, detail=problem)
        else:
            del self._problems[account_id]
            _log.info("dead man's switch set again", account=account_id)
        component = f"dead_mans_switch:{account_id}"
        tell_health(self._bus, self._clock, component, problem or "set", healthy=not problem)


def _said(outcome: Outcome) -> str:
    match outcome:
        case Acknowledged():
            return ""
        case Refused():
            return outcome.text
        case NotSent() | Ambiguous():
            return outcome.detail
        case _:
            return str(outcome)
