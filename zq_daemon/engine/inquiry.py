"""Asks the venue: about every order in flight that is overdue, and for statements that are due.

Owns the questions and what their answers prove. One "not found" proves nothing, as venues say it of
orders that live: both sources, the order's status and the list of open orders, have to deny it
repeatedly, over a span of time. Then an order that was never seen expires, if its validity is over;
without a validity bound it never expires by silence. One that was seen has left the book; so it has
without the span of time, if the venue itself refused a request about it for that reason. A fill may
still come, and counts. Statements settle whether positions differ. The execution engine runs this
as a task of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import structlog
import trio

from zq_daemon.core.cache import Cache
from zq_daemon.engine.in_flight import InFlight, Watch
from zq_daemon.engine.ledger import OrderLedger
from zq_daemon.engine.positions import PositionCheck
from zq_daemon.engine.reports import ReportReader
from zq_daemon.errors import DecodeError, LinkError, LinkRefused
from zq_daemon.model.ids import AccountId, ClientOrderId
from zq_daemon.model.order import Order, OrderStatus
from zq_daemon.model.report import AccountReport, OrderReport
from zq_daemon.ports.clock import NS_PER_S, Clock

NEGATIVES = 3
"""How many complete negative answers, after its validity, an order needs before it expires."""
NEGATIVE_SPAN_NS = 10 * NS_PER_S
"""Over how long they must be spread."""
_CONCURRENT = 8

_log = structlog.get_logger("zq.inquiry")


class OrderQueries(Protocol):
    """What can be asked of a venue about an account; every `VenueAdapter` answers."""

    async def query_order(self, client_order_id: ClientOrderId) -> OrderReport | None:
        """What the venue knows of one order; None is "not found"."""

    async def load_account(self) -> AccountReport:
        """The account's figures, positions and open orders."""


class Inquiry:
    """The questions about orders in flight and about positions."""

    def __init__(
        self,
        *,
        queries: Mapping[AccountId, OrderQueries],
        cache: Cache,
        clock: Clock,
        ledger: OrderLedger,
        in_flight: InFlight,
        reports: ReportReader,
        positions: PositionCheck,
    ) -> None:
        self._queries = queries
        self._cache = cache
        self._clock = clock
        self._ledger = ledger
        self._in_flight = in_flight
        self._reports = reports
        self._positions = positions
        self._places = trio.CapacityLimiter(_CONCURRENT)
        self.asked = 0
        self.failed = 0

    async def run(self) -> None:
        """Ask whenever something is due, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ask_about_orders)
            nursery.start_soon(self._ask_for_statements)

    async def _ask_about_orders(self) -> None:
        while True:
            due = self._in_flight.due(self._clock.monotonic_ns())
            if due:
                await self._sweep(due)
            else:
                await self._in_flight.wait_due(self._clock.monotonic_ns())

    async def _ask_for_statements(self) -> None:
        due = self._positions.statements_due
        while True:
            for account_id in due.take_due(self._clock.monotonic_ns()):
                if (statement := await self._load_statement(account_id)) is None:
                    self._positions.retry(account_id)
                else:
                    self._reports.read(statement)
            await due.wait_due(self._clock.monotonic_ns())

    async def _load_statement(self, account_id: AccountId) -> AccountReport | None:
        try:
            return await self._queries[account_id].load_account()
        except (LinkError, LinkRefused, DecodeError) as error:
            self._unanswered(str(error), account_id)
            return None

    async def _sweep(self, due: Iterable[Watch]) -> None:
        absent: dict[AccountId, list[Watch]] = {}
        async with trio.open_nursery() as nursery:
            for watch in due:
                nursery.start_soon(self._ask, watch, absent)
        async with trio.open_nursery() as nursery:
            for account_id, watches in absent.items():
                nursery.start_soon(self._ask_second_source, account_id, watches)

    async def _ask(self, watch: Watch, absent: dict[AccountId, list[Watch]]) -> None:
        """The first source: the order's own status."""
        async with self._places:
            lapsed = watch.lapsed(self._clock.now_ns())
            queries = self._queries[watch.account_id]
            try:
                self.asked += 1
                report = await queries.query_order(watch.client_order_id)
            except (LinkError, LinkRefused, DecodeError) as error:
                self._unanswered(str(error), watch.account_id)
                return
        if report is not None:
            self._answered(watch, report, lapsed=lapsed)
        elif lapsed:
            absent.setdefault(watch.account_id, []).append(watch)

    def _answered(self, watch: Watch, report: OrderReport, *, lapsed: bool) -> None:
        watch.negatives = 0
        self._reports.read(report)
        order = self._cache.order(watch.client_order_id)
        if order is None or order.is_closed:
            return
        if report.status is OrderStatus.ACCEPTED:
            watch.doubted = watch.disowned = False
        # The request's validity is over and the order stands as before: it had no effect.
        if lapsed and watch.lapsed(self._clock.now_ns()) and order.pending is not None:
            reason = f"the venue has the order {report.status.value} after the request's validity"
            order = self._ledger.refuse(order, order.pending, "NOT_EFFECTIVE", reason)
        self._in_flight.settle(order)

    async def _ask_second_source(self, account_id: AccountId, watches: Iterable[Watch]) -> None:
        """The second source: the open orders of the account."""
        statement = await self._load_statement(account_id)
        if statement is None:
            return
        self._reports.read(statement)
        listed = {each.client_order_id for each in statement.open_orders}
        listed_ids = {each.venue_order_id for each in statement.open_orders}
        for watch in watches:
            order = self._cache.order(watch.client_order_id)
            if order is None or order.is_closed:
                continue
            if order.client_order_id in listed or order.venue_order_id in listed_ids:
                watch.negatives = 0  # it rests: its status was not found, which is no evidence
            else:
                self._count_negative(order, watch)

    def _count_negative(self, order: Order, watch: Watch) -> None:
        seen = bool(order.venue_order_ids or order.filled_quantity)
        if not (seen or watch.bounded) or not watch.lapsed(self._clock.now_ns()):
            return
        if order.filled_quantity < watch.expected_filled:
            return  # it was at the venue, which owes us fills
        now_ns = self._clock.monotonic_ns()
        if watch.negatives == 0:
            watch.first_negative_ns = now_ns
        watch.negatives += 1
        span_ns = now_ns - watch.first_negative_ns
        certain = span_ns >= NEGATIVE_SPAN_NS or (seen and watch.disowned)
        if watch.negatives >= NEGATIVES and certain:
            self._conclude(order, watch, span_ns, seen=seen)

    def _conclude(self, order: Order, watch: Watch, span_ns: int, *, seen: bool) -> None:
        reason = (
            f"not at the venue: {watch.negatives} times neither by status nor among open "
            f"orders within {span_ns // NS_PER_S} s"
        )
        if seen:
            self._ledger.cancel(order, f"{reason}, where it was before")
        else:
            self._ledger.expire(order, f"{reason} after its validity")

    def _unanswered(self, detail: str, account_id: AccountId) -> None:
        self.failed += 1
        _log.warning("no answer about an account's orders", account=account_id, detail=detail)
