"""Cancels that are owed: asked for until the order has ended, through outages and refusals.

Owns which orders have to go (all live ones, when the kill switch, a fault, a halt, an operator or
the end of the daemon demanded it) and when to ask again. What asking means is the execution
engine's, which also runs this as a task of its own and tells it of links that came up.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from zq_daemon.core.cache import Cache
from zq_daemon.engine.schedule import Schedule
from zq_daemon.model.ids import AccountId, ClientOrderId
from zq_daemon.model.order import Order
from zq_daemon.ports.clock import NS_PER_S, Clock

FIRST_DELAY_NS = NS_PER_S
LAST_DELAY_NS = 60 * NS_PER_S
"""Well over a request's validity: silence about one can then be concluded before the next."""

_log = structlog.get_logger("zq.execution")


class OwedCancels:
    """The live orders that have to go; their number is bounded by that of live orders."""

    def __init__(
        self,
        cache: Cache,
        clock: Clock,
        can_cancel: Callable[[AccountId], bool],
        request: Callable[[Order], None],
    ) -> None:
        """*request* asks the venue to cancel an order whose account's link is up."""
        self._cache = cache
        self._clock = clock
        self._can_cancel = can_cancel
        self._request = request
        self._delays: dict[ClientOrderId, int] = {}
        self._schedule = Schedule[ClientOrderId]()

    def __len__(self) -> int:
        return len(self._delays)

    async def run(self) -> None:
        """Ask again whenever it is time to, until cancelled."""
        while True:
            for client_order_id in self._schedule.take_due(self._clock.monotonic_ns()):
                self._ask(client_order_id)
            await self._schedule.wait_due(self._clock.monotonic_ns())

    def owe(self, order: Order) -> None:
        """Ask for the cancel of a live *order* now, or when the link is up, and until it ended."""
        if not self._can_cancel(order.account_id):
            _log.warning(
                "cancel owed: the private link is down",
                client_order_id=order.client_order_id,
                strategy=order.strategy_id,
                instrument=order.instrument_id,
            )
        self._begin(order.client_order_id)

    def owe_soon(self, order: Order) -> None:
        """The same, for who may not be interrupted: ask when the present event has been told."""
        self._delays[order.client_order_id] = FIRST_DELAY_NS
        self._schedule.set(order.client_order_id, self._clock.monotonic_ns())

    def settle(self, order: Order) -> None:
        """Nothing is owed of an order that has ended."""
        if order.is_closed:
            self._forget(order.client_order_id)

    def on_link_up(self) -> None:
        """Ask for all that is owed: what was asked on a former link may have been lost with it."""
        for client_order_id in tuple(self._delays):
            self._begin(client_order_id)

    def _begin(self, client_order_id: ClientOrderId) -> None:
        self._delays[client_order_id] = FIRST_DELAY_NS
        self._ask(client_order_id)

    def _ask(self, client_order_id: ClientOrderId) -> None:
        order = self._cache.order(client_order_id)
        if order is None or order.is_closed:
            self._forget(client_order_id)
            return
        if not self._can_cancel(order.account_id):
            self._schedule.drop(client_order_id)
            return
        delay_ns = self._delays[client_order_id]
        self._delays[client_order_id] = min(2 * delay_ns, LAST_DELAY_NS)
        self._schedule.set(client_order_id, self._clock.monotonic_ns() + delay_ns)
        self._request(order)

    def _forget(self, client_order_id: ClientOrderId) -> None:
        self._delays.pop(client_order_id, None)
        self._schedule.drop(client_order_id)
