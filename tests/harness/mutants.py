"""Daemons that are wrong on purpose, to show that tests notice: each breaks one rule of the engine.

Called by `mortal_daemon`, in the process under test. They replace methods of the engine by what a
careless author might have written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import trio

from zq_daemon.engine.backlog import Group
from zq_daemon.engine.departures import Departures
from zq_daemon.engine.execution import ExecutionEngine
from zq_daemon.engine.recovery import Delays, Recovered
from zq_daemon.engine.restore import Restored
from zq_daemon.model.order import Order, OrderStatus
from zq_daemon.ports import files


def submit_first() -> None:
    """Send, and write down what was sent: it will be durable soon enough."""

    async def dispatch(self: Departures, groups: Sequence[Group], sends: trio.Nursery) -> None:
        prepared = [made for group in groups if (made := self._prepare(group)) is not None]
        for each in prepared:
            for intent in each.intents:
                self._journal.write_intent(intent)
            self._depart(each)
            sends.start_soon(self._send, each)
        await trio.lowlevel.checkpoint()

    Departures._dispatch = dispatch  # type: ignore[method-assign]


def commit_without_sync() -> None:
    """Write, and say that it is durable: whoever reads the file finds it there."""
    files.commit = files.write_at


def send_again() -> None:
    """After a restart, send again what may not have arrived, as soon as there is a link."""
    restore, recover = ExecutionEngine.restore, ExecutionEngine.recover
    doubtful: list[Order] = []

    def restore_and_note(self: ExecutionEngine) -> Restored:
        restored = restore(self)
        doubtful.extend(o for o in self._cache.orders_live() if o.status is OrderStatus.SUBMITTED)
        return restored

    async def send_and_recover(self: ExecutionEngine, delays: Delays) -> Recovered:
        for order in doubtful:
            self._departures.backlog.add("submit", order.account_id, order.client_order_id)
        return await recover(self, delays)

    ExecutionEngine.restore = restore_and_note  # type: ignore[method-assign]
    ExecutionEngine.recover = send_and_recover  # type: ignore[method-assign]


MUTANTS: Mapping[str, Callable[[], None]] = {
    "submit_first": submit_first,
    "commit_without_sync": commit_without_sync,
    "send_again": send_again,
}
