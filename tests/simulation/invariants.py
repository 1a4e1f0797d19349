"""What has to hold at any time, also in the middle of trouble: looked at every few seconds.

Both sides may know different things, but never contradict each other: what the exchange has open is
an order of ours that has not ended, and no more of it is filled for us than at the exchange.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from attrs import Factory, define

from tests.simulation.books import COINS
from tests.simulation.world import World
from zq_daemon.daemon import Daemon
from zq_daemon.model.ids import InstrumentId
from zq_daemon.model.order import Order


@define
class Invariants:
    """Those of one world."""

    _world: World
    _unwatched: set[tuple[object, ...]] = Factory(set)

    def look(self) -> None:
        """Complain of what does not hold now."""
        world, daemon = self._world, self._world.daemon
        world.hear_strategies()
        if daemon is None or daemon.made is None:
            return
        for order in daemon.parts.cache.orders_live():
            world.check_filled(order)
        for problem in (*_overfull(daemon), *_contradictions(world, daemon)):
            world.complain(problem)
        for problem in () if world.was_withheld else positions(daemon):
            world.complain(problem)  # else a start may have taken over what no fill explains yet
        self._look_at_watches(daemon)

    def _look_at_watches(self, daemon: Daemon) -> None:
        """An order in flight that nobody asks about, and that is the same at the next look."""
        watches = daemon.parts.execution._in_flight
        in_flight = tuple(daemon.parts.cache.orders_in_flight())
        unwatched = [each for each in in_flight if not watches.get(each.client_order_id)]
        for order in unwatched:
            if _version(order) in self._unwatched:
                self._world.complain(f"in flight, and nobody will ask about it: {order}")
        self._unwatched = {_version(each) for each in unwatched}


def _version(order: Order) -> tuple[object, ...]:
    """What changes whenever something becomes known of *order*."""
    return order.client_order_id, order.status, order.pending, order.ts_last_ns


def _overfull(daemon: Daemon) -> Iterator[str]:
    """What is bounded holds no more than it may."""
    parts, limits = daemon.parts, daemon.config.limits
    feed, reports = parts.feed.statistics(), parts.reports.statistics()
    live, closed = len(parts.cache.orders_live()), len(parts.cache.orders_closed())
    for name, held, most in (
        ("feed", feed.size, feed.capacity),
        ("reports", reports.current_buffer_used, reports.max_buffer_size),
        ("submits", parts.execution.stats()["queued"], limits.submit_queue),
        ("closed orders", closed, limits.closed_orders),
        ("watches", len(parts.execution._in_flight), live + limits.closed_orders),
    ):
        if held > most:
            yield f"{name}: there are {held}, and may be {most}"


def _contradictions(world: World, daemon: Daemon) -> Iterator[str]:
    """Where the daemon takes for true what the exchange shows to be false."""
    for row in world.info("openOrders"):
        order = daemon.parts.cache.order(row["cloid"])
        if order is None:
            yield f"the exchange has an order open that nobody knows: {row}"
        elif order.is_closed:
            yield f"open at the exchange, and ended here: {order}"


def positions(daemon: Daemon) -> Iterator[str]:
    """The account's positions are those of the strategies together."""
    parts, account = daemon.parts, daemon.parts.accounts[0]
    names = [one["name"] for one in parts.strategies.status()]
    for coin in COINS:
        instrument_id = InstrumentId(f"hyperliquid.{coin}")
        whole = parts.portfolio.position(account, instrument_id).quantity
        shares = sum(
            (parts.portfolio.strategy_position(name, instrument_id).quantity for name in names),
            Decimal(0),
        )
        if whole != shares:
            yield f"position of {coin}: {whole} of the account, {shares} of its strategies"
