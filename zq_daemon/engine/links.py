"""All endpoints together: a task for each, and the one heartbeat task that pings them."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from zq_daemon.model.event import LinkState
from zq_daemon.model.ids import AccountId
from zq_daemon.venue.endpoint import Endpoint


class LinkGroup:
    """The endpoints of the configuration."""

    def __init__(self, endpoints: Sequence[Endpoint], heartbeat_interval_ms: int) -> None:
        self.endpoints = tuple(endpoints)
        self._heartbeat_interval_ms = heartbeat_interval_ms
        self._scope = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep all links up until `stop`; one that may not be retried ends alone."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                for endpoint in self.endpoints:
                    nursery.start_soon(endpoint.run, name=f"link {endpoint.settings.name}")
                nursery.start_soon(self._heartbeat)
                task_status.started()

    def stop(self) -> None:
        """Close every connection with a close frame and end `run`."""
        self._scope.cancel()

    async def wait_ready(self, timeout_s: float) -> list[str]:
        """Wait until every link was up once; the names of those that were not within the time."""
        with trio.move_on_after(timeout_s):
            for endpoint in self.endpoints:
                await endpoint.ready.wait()
        return [one.settings.name for one in self.endpoints if not one.ready.is_set()]

    def is_order_link_up(self, account_id: AccountId) -> bool:
        """Whether orders of *account_id* can leave now."""
        return any(
            one.private and one.state is LinkState.UP and one.adapter.account_id == account_id
            for one in self.endpoints
        )

    def endpoint(self, name: str) -> Endpoint:
        """The endpoint called *name*."""
        return next(one for one in self.endpoints if one.settings.name == name)

    async def _heartbeat(self) -> None:
        while True:
            await trio.sleep(self._heartbeat_interval_ms / 1000)
            async with trio.open_nursery() as nursery:
                for endpoint in self.endpoints:
                    nursery.start_soon(endpoint.check_alive)
