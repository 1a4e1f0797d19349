"""Asks the venue: about every order in flight that is overdue, and for statements that are due.

Owns the questions and what their answers prove. One "not found" proves nothing, as venues say it of
orders that live: both sources, the order's status and the list of open orders, have to deny it
repeatedly, over a span of time. Then an order that was never seen expires, if its validity is over;
without a validity bound it never expires by silence. One that was seen has left the book; so it has
without the span of time, if the venue itself refused a request about it for that reason. A fill may
still come, and counts. Fills that an order is said to have and that the private stream has not told
are fetched; what follows where the venue has none of them either is `engine.shortfalls`'.
Statements settle whether positions differ. The execution engine runs this as a task of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import structlog
import trio
from attrs import frozen

from zq_daemon.core.reconcile import ENDED
from zq_daemon.engine.brackets import Brackets
from zq_daemon.engine.in_flight import FIRST_DELAY_NS, InFlight, Watch
from zq_daemon.engine.ledger import OrderLedger
from zq_daemon.engine.positions import PositionCheck
from zq_daemon.engine.reports import ReportReader
from zq_daemon.engine.shortfalls import NEGATIVES, Shortfalls
from zq_daemon.errors import DecodeError, LinkError, LinkRefused
from zq_daemon.journal.state import JournalState
from zq_daemon.model.ids import AccountId, ClientOrderId, VenueOrderId
from zq_daemon.model.order import Order, OrderStatus
from zq_daemon.model.report import AccountReport, FillHistory, OrderReport
from zq_daemon.ports.clock import NS_PER_S, Clock

FILL_MARGIN_NS = 60 * NS_PER_S
"""Fills are asked for from this long before the last known one: venues publish late."""
CONCURRENT = 8
"""So many orders are asked about at a time."""

_log = structlog.get_logger("zq.inquiry")


@frozen
class _Lacking:
    """An order that may lack fills; *report* called it filled, None of one that ended, or rests."""

    watch: Watch
    report: OrderReport | None


class OrderQueries(Protocol):
    """What can be asked of a venue about an account; every `VenueAdapter` answers."""

    async def query_order(
        self, client_order_id: ClientOrderId, venue_order_id: VenueOrderId | None = None
    ) -> OrderReport | None:
        """What the venue knows of one order; None is "not found"."""

    async def load_fills(self, since_ns: int) -> FillHistory:
        """The account's fills since *since_ns*."""

    async def load_account(self) -> AccountReport:
        """The account's figures, positions and open orders."""


class Inquiry:
    """The questions about orders in flight and about positions."""

    def __init__(
        self,
        *,
        queries: Mapping[AccountId, OrderQueries],
        state: JournalState,
        clock: Clock,
        ledger: OrderLedger,
        in_flight: InFlight,
        reports: ReportReader,
        positions: PositionCheck,
        brackets: Brackets,
        not_found_span_ns: int,
    ) -> None:
        """*not_found_span_ns*: over how long the negative answers of an order must be spread."""
        self.span_ns = not_found_span_ns
        self._queries = queries
        self._state = state
        self._cache = state.cache
        self._clock = clock
        self._ledger = ledger
        self._in_flight = in_flight
        self._reports = reports
        self._positions = positions
        self._brackets = brackets
        self._shortfalls = Shortfalls(
            cache=state.cache,
            portfolio=state.portfolio,
            clock=clock,
            ledger=ledger,
            in_flight=in_flight,
            reports=reports,
            span_ns=not_found_span_ns,
        )
        self._places = trio.CapacityLimiter(CONCURRENT)
        self.asked = 0
        self.failed = 0
        self._unreached = 0

    async def run(self) -> None:
        """Ask whenever something is due, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ask_about_orders)
            nursery.start_soon(self._ask_for_statements)

    async def ask_about(self, orders: Iterable[Order]) -> int:
        """Ask about each of *orders* that is watched, once; how often the venue was not reached.

        An answer that makes no sense is one all the same: that order stays in flight.
        """
        before = self._unreached
        found = (self._in_flight.get(order.client_order_id) for order in orders)
        await self._sweep([watch for watch in found if watch is not None])
        return self._unreached - before

    def in_doubt(self) -> int:
        """About how many orders the venue has not said what became of them, or denies them."""
        return self._in_flight.in_doubt()

    def lacks_fills(self, order: Order) -> bool:
        """Whether the venue said that *order* was filled more than we have heard of."""
        watch = self._in_flight.get(order.client_order_id)
        return watch is not None and order.filled_quantity < watch.expected_filled

    async def load_statement(self, account_id: AccountId) -> AccountReport | None:
        """A statement of the account, read like any other; None when the venue gives none."""
        statement = await self._load_statement(account_id)
        if statement is not None:
            self._reports.read(statement)
        return statement

    async def fetch_fills(self, account_id: AccountId, since_ns: int) -> FillHistory:
        """The account's fills from *since_ns* on, each read like any other; raises LinkError."""
        history = await self._queries[account_id].load_fills(since_ns)
        for fill in history.fills:
            self._reports.read(fill)
        known_ns = self._state.known_ns(account_id)
        if known_ns is not None and since_ns <= known_ns:
            self._positions.on_history(account_id)
        return history

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
                if not await self._look_again(account_id):
                    self._positions.retry(account_id)
            await due.wait_due(self._clock.monotonic_ns())

    async def _look_again(self, account_id: AccountId) -> bool:
        """Fetch what may explain that positions differ, and compare; False without an answer."""
        known_ns = self._state.known_ns(account_id)
        try:
            if known_ns is not None and self._positions.wants_history(account_id):
                await self.fetch_fills(account_id, known_ns - FILL_MARGIN_NS)
        except (LinkError, LinkRefused, DecodeError) as error:
            self._unanswered(error, account_id)
            return False
        return await self.load_statement(account_id) is not None

    async def _load_statement(self, account_id: AccountId) -> AccountReport | None:
        try:
            return await self._queries[account_id].load_account()
        except (LinkError, LinkRefused, DecodeError) as error:
            self._unanswered(error, account_id)
            return None

    async def _sweep(self, due: Iterable[Watch]) -> None:
        absent: dict[AccountId, list[Watch]] = {}
        lacking: dict[AccountId, list[_Lacking]] = {}
        async with trio.open_nursery() as nursery:
            for watch in due:
                nursery.start_soon(self._ask, watch, absent, lacking)
        async with trio.open_nursery() as nursery:
            for account_id, watches in absent.items():
                nursery.start_soon(self._ask_second_source, account_id, watches)
            for account_id, found in lacking.items():
                nursery.start_soon(self._seek_fills, account_id, found)

    async def _ask(
        self,
        watch: Watch,
        absent: dict[AccountId, list[Watch]],
        lacking: dict[AccountId, list[_Lacking]],
    ) -> None:
        """The first source: the order's own status, unless nothing but its fills is missing."""
        async with self._places:
            order = self._cache.order(watch.client_order_id)
            if order is None:  # it ended so long ago that it was forgotten
                self._in_flight.drop(watch.client_order_id)
                return
            watch.asked += 1
            if watch.only_lacks_fills(order):
                lacking.setdefault(watch.account_id, []).append(_Lacking(watch, None))
                return
            lapsed = watch.lapsed(self._clock.now_ns())
            queries = self._queries[watch.account_id]
            try:
                self.asked += 1
                report = await queries.query_order(order.client_order_id, order.venue_order_id)
            except (LinkError, LinkRefused, DecodeError) as error:
                self._unanswered(error, watch.account_id)
                return
        if report is not None:
            self._answered(watch, report, lapsed=lapsed)
        elif not watch.may_appear(self._clock.now_ns()):
            absent.setdefault(watch.account_id, []).append(watch)
        elif watch.bounded:
            self._ask_when_lapsed(watch)
        filled = report if report is not None and report.status is OrderStatus.FILLED else None
        if filled is not None or self._lacks_at_rest(watch):
            lacking.setdefault(watch.account_id, []).append(_Lacking(watch, filled))

    def _lacks_at_rest(self, watch: Watch) -> bool:
        """Whether it lacks fills that it has although it may rest."""
        order = self._cache.order(watch.client_order_id)
        return order is not None and order.filled_quantity < watch.filled_at_rest

    def _ask_when_lapsed(self, watch: Watch) -> None:
        """Not found proves nothing before its validity is over, but soon after that it may."""
        left_ns = watch.appears_until_ns - self._clock.now_ns()
        lapses_ns = self._clock.monotonic_ns() + left_ns + FIRST_DELAY_NS
        watch.next_ns = min(watch.next_ns, lapses_ns)

    def _answered(self, watch: Watch, report: OrderReport, *, lapsed: bool) -> None:
        watch.negatives = 0
        self._reports.read(report)
        order = self._cache.order(watch.client_order_id)
        if order is None or order.is_closed:
            return
        if report.status is OrderStatus.ACCEPTED:
            watch.doubted = watch.disowned = False
        if report.status in ENDED and report.venue_order_id not in order.venue_order_ids:
            # It was replaced, which nobody heard of, and what replaced it is gone.
            reason = f"{report.reason}: what replaced it has ended"
            order = self._ledger.cancel(order, reason)
        # The request's validity is over and the order stands as before: it had no effect.
        lapsed = lapsed and watch.begun and watch.lapsed(self._clock.now_ns())
        if lapsed and order.pending is not None:
            reason = f"the venue has the order {report.status.value} after the request's validity"
            order = self._ledger.refuse(order, order.pending, "NOT_EFFECTIVE", reason)
        self._in_flight.settle(order)

    async def _seek_fills(self, account_id: AccountId, found: Iterable[_Lacking]) -> None:
        """Fetch what orders lack; the private stream had its time to tell it.

        One history and one statement are for all of them: both cost the venue's budget.
        """
        if not any(self._lacking(each) for each in found):
            return
        try:
            since_ns = min(self._lacks_since_ns(each) for each in found) - FILL_MARGIN_NS
            await self.fetch_fills(account_id, since_ns)
        except (LinkError, LinkRefused, DecodeError) as error:
            self._unanswered(error, account_id)
            return
        if not any(self._lacking(each) for each in found):
            return
        # A history that lacks the oldest fills may lack these, which is no reason to wait for them.
        statement = await self.load_statement(account_id)
        if statement is None:
            return
        # One moves the position that the next is judged by: always in the same order.
        for each in sorted(found, key=lambda lacking: lacking.watch.client_order_id):
            if (order := self._lacking(each)) is not None:
                self._shortfalls.count(order, each.watch, each.report, statement)
                self._in_flight.settle(self._cache.order(order.client_order_id) or order)

    def _lacks_since_ns(self, found: _Lacking) -> int:
        """From when on its fills may be missing: a list agreed with us as late as the positions."""
        order, known_ns = self._lacking(found), self._state.known_ns(found.watch.account_id)
        if order is None:
            return self._clock.now_ns()
        if found.watch.listed is None or known_ns is None:
            return order.ts_init_ns
        return max(order.ts_init_ns, known_ns)

    def _lacking(self, found: _Lacking) -> Order | None:
        """The order, if it still lacks fills."""
        order = self._cache.order(found.watch.client_order_id)
        return order if order is not None and self.lacks_fills(order) else None

    async def _ask_second_source(self, account_id: AccountId, watches: Iterable[Watch]) -> None:
        """The second source: the open orders of the account."""
        statement = await self.load_statement(account_id)
        if statement is None:
            return
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
        if self._brackets.may_be_held(order) and not watch.disowned:
            watch.doubted = False
            self._in_flight.settle(order)
            return
        seen = bool(order.venue_order_ids or order.filled_quantity or order.is_held)
        if not (seen or watch.bounded) or watch.may_appear(self._clock.now_ns()):
            return
        if order.filled_quantity < watch.expected_filled:
            return  # it was at the venue, which owes us fills
        now_ns = self._clock.monotonic_ns()
        if watch.negatives == 0:
            watch.first_negative_ns = now_ns
        watch.negatives += 1
        watch.next_ns = min(watch.next_ns, now_ns + self.span_ns // (NEGATIVES - 1))
        span_ns = now_ns - watch.first_negative_ns
        certain = span_ns >= self.span_ns or (seen and watch.disowned)
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

    def _unanswered(self, error: Exception, account_id: AccountId) -> None:
        self.failed += 1
        self._unreached += isinstance(error, LinkError)
        _log.warning("no answer about an account's orders", account=account_id, detail=str(error))
