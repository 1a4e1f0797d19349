"""Reads what the venue says of our account: reports become order events, fills, positions.

Owns what repeats (fills are taken once), what is older than we are (fills before the first account
statement are in its positions already), what is not ours, and what no instrument of the cache
explains: of that it keeps a sample only. It never asks the venue; the execution engine hands it
reports of the private stream, the inquiry the answers to its questions.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Mapping
from typing import assert_never

import structlog

from zq_daemon.core import topics
from zq_daemon.core.bus import MessageBus
from zq_daemon.core.cache import Cache
from zq_daemon.core.portfolio import Portfolio
from zq_daemon.engine.in_flight import InFlight
from zq_daemon.engine.ledger import OrderLedger
from zq_daemon.engine.positions import PositionCheck
from zq_daemon.engine.terms import TermsInFlight
from zq_daemon.model.event import AccountUpdated, FundingPaid
from zq_daemon.model.fill import Fill
from zq_daemon.model.ids import AccountId, ClientOrderId, InstrumentId, VenueOrderId
from zq_daemon.model.money import EXACT
from zq_daemon.model.order import Order, OrderStatus, Pending, TimeInForce
from zq_daemon.model.report import AccountReport, OrderReport, Report
from zq_daemon.ports.clock import Clock

_REMEMBERED = 65_536
"""Fills and fundings whose repetition is noticed: many times what a venue repeats."""
_HELD = 4_096
"""Fills that may wait for an account's first statement: twice what a venue's snapshot holds."""
_SAMPLED = 32
"""Unknown instruments whose reports are counted one by one."""

_log = structlog.get_logger("zq.reports")


class ReportReader:
    """Turns reports into evidence for the ledger; each may come again, late, in any order."""

    def __init__(
        self,
        *,
        bus: MessageBus,
        cache: Cache,
        portfolio: Portfolio,
        clock: Clock,
        ledger: OrderLedger,
        in_flight: InFlight,
        terms: TermsInFlight,
        positions: PositionCheck,
    ) -> None:
        self._bus = bus
        self._cache = cache
        self._portfolio = portfolio
        self._clock = clock
        self._ledger = ledger
        self._in_flight = in_flight
        self._terms = terms
        self._seen = _Memory(_REMEMBERED)
        self._stated_ns: dict[AccountId, int] = {}
        self._held: deque[Fill] = deque(maxlen=_HELD)
        self._positions = positions
        self._unknown: Counter[InstrumentId] = Counter()
        self._counts: Counter[str] = Counter()

    def read(self, report: Report) -> None:
        """Take one report."""
        match report:
            case OrderReport():
                self._read_order(report)
            case Fill():
                self._read_fill(report)
            case FundingPaid():
                self._read_funding(report)
            case AccountReport():
                self._read_account(report)
            case _:
                assert_never(report)

    def counts(self) -> Mapping[str, int]:
        """How often which kind of report came: repeated, historic and external ones."""
        return self._counts

    def unknown_instruments(self) -> Mapping[InstrumentId, int]:
        """Instruments the cache does not know, the first few: how often they were reported."""
        return self._unknown

    def complete_immediate(self, order: Order) -> Order:
        """An immediate order leaves no rest: it ends once the fills it is said to have are here."""
        watch = self._in_flight.get(order.client_order_id)
        if watch is None or watch.executed is None or order.is_closed:
            return order
        if order.time_in_force is TimeInForce.IOC and order.filled_quantity >= watch.executed:
            return self._ledger.cancel(order, "the rest of an immediate-or-cancel order")
        return order

    def _read_order(self, report: OrderReport) -> None:
        order = self._find(report.account_id, report.client_order_id, report.venue_order_id)
        if order is None:
            self._counts["external_orders"] += 1
            return
        match report.status:
            case OrderStatus.ACCEPTED | OrderStatus.PARTIALLY_FILLED:
                self._confirm(order, report)
            case OrderStatus.FILLED:
                self._expect_fills(self._confirm(order, report), report)
            case OrderStatus.CANCELED | OrderStatus.REJECTED | OrderStatus.EXPIRED:
                self._end(order, report)
            case _:
                self._counts["meaningless_orders"] += 1

    def _confirm(self, order: Order, report: OrderReport) -> Order:
        """The venue knows the order under this id: acknowledged, or replaced by new terms."""
        known, venue_order_id = order.venue_order_ids, report.venue_order_id
        if not known:
            return self._ledger.accept(order, venue_order_id)
        asked = self._terms.get(order.client_order_id)
        if venue_order_id in known:
            is_current = venue_order_id == known[-1]
            if asked is None or not (is_current and asked.is_shown_by(report, order)):
                return order
        if asked is not None:
            total = asked.total_under(venue_order_id, order)
            return self._ledger.modify(order, venue_order_id, asked.price, total)
        if order.ts_modified_ns is not None:  # the late acknowledgement of a former id
            return self._ledger.accept(order, venue_order_id)
        # A modification that was given up on did take effect. The replacement counts only what it
        # was itself given: the total includes earlier fills.
        total = EXACT.add(order.filled_quantity, report.remaining)
        quantity = max(report.quantity, total)
        return self._ledger.modify(order, venue_order_id, report.price, quantity)

    def _expect_fills(self, order: Order, report: OrderReport) -> None:
        if order.is_closed:
            return
        filled = EXACT.subtract(report.quantity, report.remaining)
        watch = self._in_flight.get(order.client_order_id)
        if watch is None or watch.expected_filled < filled:
            # News; the answers that repeat it leave the intervals of asking to grow.
            watch = self._in_flight.hasten(order, self._clock.monotonic_ns())
            watch.expected_filled = filled
        if order.time_in_force is TimeInForce.IOC:
            watch.executed = filled
            order = self.complete_immediate(order)
        self._in_flight.settle(order)

    def _end(self, order: Order, report: OrderReport) -> None:
        updated = self._ledger.close(order, report)
        is_news = updated is not order
        if is_news and not updated.is_closed and updated.pending is Pending.MODIFY:
            self._in_flight.hasten(updated, self._clock.monotonic_ns())

    def _read_fill(self, fill: Fill) -> None:
        if not self._is_known(fill.instrument_id):
            return
        # One trade between two orders of ours has one id and two fills.
        key = (fill.account_id, fill.instrument_id, fill.trade_id, fill.side)
        if not self._seen.add(key):
            self._counts["repeated_fills"] += 1
            return
        order = self._find(fill.account_id, fill.client_order_id, fill.venue_order_id)
        if order is not None:
            self._counts["fills"] += 1
            order = self._outgrow(order, fill)
            self.complete_immediate(self._ledger.fill(order, fill))
            self._positions.on_fill(fill)
            return
        self._read_external(fill)

    def _outgrow(self, order: Order, fill: Fill) -> Order:
        """A fill of the replaced id that was unknown when the replacement was signed adds to it.

        Otherwise the order would count as filled while that much of the replacement still rests.
        """
        known = order.venue_order_ids
        if fill.venue_order_id not in known:
            return order
        if self._terms.get(order.client_order_id) is not None:
            self._terms.fill(order, fill)
            return order
        if fill.venue_order_id == known[-1]:
            return order
        total = EXACT.add(order.quantity, fill.quantity)
        return self._ledger.modify(order, known[-1], None, total)

    def _read_external(self, fill: Fill) -> None:
        stated_ns = self._stated_ns.get(fill.account_id)
        if stated_ns is None:
            self._counts["held_fills"] += 1
            self._held.append(fill)
        elif fill.ts_event_ns <= stated_ns:
            self._counts["historic_fills"] += 1
        else:
            self._counts["external_fills"] += 1
            self._ledger.fill_external(fill)
            self._positions.on_fill(fill)

    def _is_known(self, instrument_id: InstrumentId) -> bool:
        """Whether the cache has the instrument; what it has not is neither booked nor published.

        An account may trade what the daemon has no terms of (spot, a coin listed since the start),
        and every name that is published costs a topic and a position for ever.
        """
        if self._cache.instrument(instrument_id) is not None:
            return True
        self._counts["unknown_instruments"] += 1
        if instrument_id in self._unknown or len(self._unknown) < _SAMPLED:
            if instrument_id not in self._unknown:
                _log.warning("report of an unknown instrument ignored", instrument=instrument_id)
            self._unknown[instrument_id] += 1
        return False

    def _read_funding(self, funding: FundingPaid) -> None:
        if not self._is_known(funding.instrument_id):
            return
        key = (funding.account_id, funding.instrument_id, funding.ts_event_ns)
        if self._seen.add(key):
            self._ledger.fund(funding)
        else:
            self._counts["repeated_fundings"] += 1

    def _read_account(self, report: AccountReport) -> None:
        account = report.account
        self._cache.put_account(account)
        self._portfolio.on_account(account)
        if account.account_id in self._stated_ns:
            self._positions.compare(report)
        else:
            self._begin(report)
        for order in report.open_orders:
            self._read_order(order)
        self._doubt_missing(report)
        updated = AccountUpdated(account=account, ts_event_ns=account.ts_event_ns)
        self._bus.publish(topics.account(account.account_id), updated)

    def _begin(self, report: AccountReport) -> None:
        self._stated_ns[report.account.account_id] = report.account.ts_event_ns
        for position in report.positions:
            if self._is_known(position.instrument_id):
                self._ledger.adopt_position(position)
        waiting = tuple(self._held)
        self._held.clear()
        for fill in waiting:
            self._read_external(fill)

    def _doubt_missing(self, report: AccountReport) -> None:
        """Ask about orders that should rest but are not in the statement: a close was missed.

        Or the order is newer than the statement, which costs a question: comparing the times of two
        clocks, ours and the venue's, could hide a missed close for ever.
        """
        account = report.account
        listed = {each.client_order_id for each in report.open_orders}
        listed_ids = {each.venue_order_id for each in report.open_orders}
        for order in tuple(self._cache.orders_open()):
            is_listed = order.client_order_id in listed or order.venue_order_id in listed_ids
            if order.account_id == account.account_id and not is_listed:
                self._in_flight.doubt(order, self._clock.monotonic_ns())

    def _find(
        self,
        account_id: AccountId,
        client_order_id: ClientOrderId | None,
        venue_order_id: VenueOrderId,
    ) -> Order | None:
        if client_order_id is not None:
            order = self._cache.order(client_order_id)
            if order is not None and order.account_id == account_id:
                return order
        return self._cache.order_by_venue_id(account_id, venue_order_id)


class _Memory:
    """The last *limit* keys."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._keys: OrderedDict[Hashable, None] = OrderedDict()

    def add(self, key: Hashable) -> bool:
        """Remember *key*; False if it was known."""
        if key in self._keys:
            return False
        self._keys[key] = None
        if len(self._keys) > self._limit:
            self._keys.popitem(last=False)
        return True
