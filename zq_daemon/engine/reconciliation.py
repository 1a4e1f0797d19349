"""Reconciliation when an operator asks for it: what differs from the venue now, and settling it.

Owns the questions of the look: the account's fills, the status of every live order, then a
statement. It changes nothing; what it finds is what `core.reconcile` finds in any statement.
Settling is what a start does (`engine.recovery`), once. Part of the execution engine.
"""

from __future__ import annotations

from collections.abc import Mapping

import trio
from attrs import frozen

from zq_daemon.core.reconcile import (
    Difference,
    ExternalOrder,
    MissingOrder,
    Remedy,
    UnconfirmedOrder,
    compare_status,
    remedy,
)
from zq_daemon.engine.external_orders import ExternalOrders
from zq_daemon.engine.inquiry import CONCURRENT, FILL_MARGIN_NS, OrderQueries
from zq_daemon.engine.reports import ReportReader
from zq_daemon.errors import DecodeError, LinkError, LinkRefused
from zq_daemon.journal.state import JournalState
from zq_daemon.model.ids import AccountId, ClientOrderId
from zq_daemon.model.order import Order
from zq_daemon.model.report import OrderReport


@frozen(kw_only=True)
class Finding:
    """One difference, and what is done about it."""

    account_id: AccountId
    difference: Difference
    remedy: Remedy


@frozen(kw_only=True)
class Look:
    """What a look found; not *complete*: the venue does not have all fills any more.

    *orders* live ones were asked about.
    """

    findings: tuple[Finding, ...]
    orders: int
    complete: bool


class Reconciliation:
    """Looks, and touches nothing."""

    def __init__(
        self,
        *,
        state: JournalState,
        queries: Mapping[AccountId, OrderQueries],
        reports: ReportReader,
        external: ExternalOrders,
        fills_interval_ns: int,
    ) -> None:
        """*fills_interval_ns*: how far behind the last agreement fills may be missing."""
        self._state = state
        self._queries = queries
        self._reports = reports
        self._external = external
        self._margin_ns = FILL_MARGIN_NS + fills_interval_ns
        self._places = trio.CapacityLimiter(CONCURRENT)

    async def look(self) -> Look:
        """Ask the venue about everything; LinkError, LinkRefused or DecodeError without answer."""
        findings: list[Finding] = []
        orders, complete = 0, True
        for account_id in self._queries:
            fills, is_complete = await self._missing_fills(account_id)
            live = [o for o in self._state.cache.orders_live() if o.account_id == account_id]
            told = await self._ask(live)
            statement = await self._queries[account_id].load_account()
            stated = self._reports.differences(statement)
            found = [*_untold(stated, told), *told.values(), *fills]
            findings += (self._finding(account_id, each) for each in found)
            orders, complete = orders + len(live), complete and is_complete
        return Look(findings=tuple(findings), orders=orders, complete=complete)

    def _finding(self, account_id: AccountId, found: Difference) -> Finding:
        external = Remedy.REPORT
        if isinstance(found, ExternalOrder):
            external = Remedy(self._external.policy_for(found.report))
        done = remedy(found, external)
        return Finding(account_id=account_id, difference=found, remedy=done)

    async def _missing_fills(self, account_id: AccountId) -> tuple[list[Difference], bool]:
        known_ns = self._state.known_ns(account_id)
        if known_ns is None:
            return [], True
        history = await self._queries[account_id].load_fills(known_ns - self._margin_ns)
        missing = (self._reports.missing(fill) for fill in history.fills)
        return [each for each in missing if each is not None], history.complete

    async def _ask(self, orders: list[Order]) -> dict[ClientOrderId, Difference]:
        """What the status of each order says, where that differs; the first failure is raised."""
        found: dict[ClientOrderId, Difference] = {}
        failures: list[Exception] = []
        async with trio.open_nursery() as nursery:

            async def ask(order: Order) -> None:
                try:
                    report = await self._query(order)
                except (LinkError, LinkRefused, DecodeError) as error:
                    failures.append(error)
                    nursery.cancel_scope.cancel()
                    return
                now = self._state.cache.order(order.client_order_id)
                if now is not None and not now.is_closed:
                    difference = compare_status(now, report)
                    if difference is not None:
                        found[order.client_order_id] = difference

            for order in orders:
                nursery.start_soon(ask, order)
        if failures:
            raise failures[0]
        return found

    async def _query(self, order: Order) -> OrderReport | None:
        queries = self._queries[order.account_id]
        async with self._places:
            return await queries.query_order(order.client_order_id, order.venue_order_id)


def _untold(
    stated: tuple[Difference, ...], told: Mapping[ClientOrderId, Difference]
) -> list[Difference]:
    """What the statement says beyond what the status of the same order does."""
    return [
        each
        for each in stated
        if not (
            isinstance(each, MissingOrder | UnconfirmedOrder) and each.order.client_order_id in told
        )
    ]
