"""Reads what came of a request that was sent: each outcome becomes evidence for the ledger.

Owns what a definite answer proves and what an unknown one leaves open. It sends nothing; the
execution engine calls it when a send has ended.
"""

from __future__ import annotations

from collections import Counter
from typing import assert_never

import structlog

from zq_daemon.core.cache import Cache
from zq_daemon.core.terms import TermsInFlight
from zq_daemon.engine.in_flight import InFlight
from zq_daemon.engine.ledger import OrderLedger
from zq_daemon.engine.reports import ReportReader
from zq_daemon.journal.record import IntentKind
from zq_daemon.model.ids import ClientOrderId
from zq_daemon.model.order import Order, Pending, TimeInForce
from zq_daemon.ports.clock import Clock
from zq_daemon.venue.interface import (
    MISSING_ORDER,
    Acknowledged,
    Ambiguous,
    Executed,
    Held,
    NotSent,
    Outcome,
    Refused,
)

_log = structlog.get_logger("zq.orders")


class OutcomeReader:
    """Concludes requests; an order that changed meanwhile is read afresh from the cache."""

    def __init__(
        self,
        *,
        cache: Cache,
        clock: Clock,
        ledger: OrderLedger,
        in_flight: InFlight,
        terms: TermsInFlight,
        reports: ReportReader,
    ) -> None:
        self._cache = cache
        self._clock = clock
        self._ledger = ledger
        self._in_flight = in_flight
        self._terms = terms
        self._reports = reports
        self.early_cancels: set[ClientOrderId] = set()
        self.counts: Counter[str] = Counter()

    def read(self, kind: IntentKind, client_order_id: ClientOrderId, outcome: Outcome) -> None:
        """Take the outcome of a request of *kind* about one order."""
        self.counts[f"{kind}_{type(outcome).__name__.lower()}"] += 1
        order = self._cache.order(client_order_id)
        if order is None:
            return
        match kind:
            case "submit":
                self._submitted(order, outcome)
            case "cancel":
                self._cancelled(order, outcome)
            case "modify":
                self._modified(order, outcome)
            case _:
                assert_never(kind)

    def _submitted(self, order: Order, outcome: Outcome) -> None:
        match outcome:
            case Acknowledged():
                if outcome.venue_order_id is None:
                    self._unknown(order, "acknowledged without an id")
                else:
                    self._ledger.accept(order, outcome.venue_order_id)
            case Held():
                self._held(order)
            case Executed():
                self._executed(order, outcome)
            case Refused():
                self._ledger.reject(order, outcome.code, outcome.text)
            case NotSent():
                self._ledger.reject(order, "NOT_SENT", outcome.detail)
            case Ambiguous():
                self._unknown(order, outcome.detail)
            case _:
                assert_never(outcome)

    def _held(self, order: Order) -> None:
        """The entry's fills, or its end, may have been heard of before this: ask then."""
        updated = self._ledger.hold(order)
        entry = None if order.parent_id is None else self._cache.order(order.parent_id)
        if updated.is_open and (entry is None or entry.is_closed):
            why = "held for an entry that has ended"
            self._in_flight.doubt(updated, self._clock.monotonic_ns(), why=why)

    def _executed(self, order: Order, outcome: Executed) -> None:
        """The fills come by the private stream, before or after this; ask if they do not."""
        updated = self._ledger.accept(order, outcome.venue_order_id)
        if updated.is_closed or updated.filled_quantity >= updated.quantity:
            return
        watch = self._in_flight.hasten(updated, self._clock.monotonic_ns())
        watch.answered, watch.answered_id = outcome.quantity, outcome.venue_order_id
        watch.average_price = outcome.average_price
        if order.time_in_force is TimeInForce.IOC:
            watch.executed = outcome.quantity
            updated = self._reports.complete_immediate(updated)
        self._in_flight.settle(updated)

    def _cancelled(self, order: Order, outcome: Outcome) -> None:
        match outcome:
            case Acknowledged() | Executed() | Held():
                self._ledger.cancel(order, "as requested")
            case Refused():
                self._cancel_refused(order, outcome)
            case NotSent():
                self._ledger.refuse(order, Pending.CANCEL, "NOT_SENT", outcome.detail)
            case Ambiguous():
                self._unknown(order, outcome.detail)
            case _:
                assert_never(outcome)

    def _cancel_refused(self, order: Order, outcome: Refused) -> None:
        if order.is_closed:
            return
        if order.venue_order_ids or order.filled_quantity or order.is_held:
            # Mostly: already filled or cancelled, and we have not heard of it yet.
            order = self._ledger.refuse(order, Pending.CANCEL, outcome.code, outcome.text)
            self._doubt(order, outcome)
            return
        # The cancel was faster than the order: it is repeated when the order is acknowledged.
        self.early_cancels.add(order.client_order_id)
        self._unknown(order, f"cancel came before the order: {outcome.text}")

    def _modified(self, order: Order, outcome: Outcome) -> None:
        match outcome:
            case Held():
                self._unknown(order, "held, after a modification")
            case Acknowledged() | Executed():
                self._replaced(order, outcome)
            case Refused():
                order = self._ledger.refuse(order, Pending.MODIFY, outcome.code, outcome.text)
                self._doubt(order, outcome)  # it may have cost the original its life
            case NotSent():
                self._ledger.refuse(order, Pending.MODIFY, "NOT_SENT", outcome.detail)
            case Ambiguous():
                self._unknown(order, outcome.detail)
            case _:
                assert_never(outcome)

    def _replaced(self, order: Order, outcome: Acknowledged | Executed) -> None:
        asked = self._terms.get(order.client_order_id)
        venue_order_id = outcome.venue_order_id or order.venue_order_id
        if asked is None or order.pending is not Pending.MODIFY:
            return  # the private stream was faster
        if outcome.venue_order_id in order.venue_order_ids[1:]:
            return  # so it was with a former modification, whose answer this is
        if venue_order_id is None:
            self._unknown(order, "modified without an id")
            return
        total = asked.total_under(venue_order_id, order)
        updated = self._ledger.modify(order, venue_order_id, asked.price, total)
        if isinstance(outcome, Executed) and not updated.is_closed:
            now_ns, why = self._clock.monotonic_ns(), "executed at once when it was modified"
            self._in_flight.hasten(updated, now_ns, why=why, doubted=True)

    def _doubt(self, order: Order, outcome: Refused) -> None:
        """A request about a resting order was refused: whether it rests is not sure any more."""
        if order.is_closed:
            return
        now_ns, why = self._clock.monotonic_ns(), f"a request was refused: {outcome.text}"
        if outcome.code == MISSING_ORDER:
            self._in_flight.disown(order, now_ns, why=why)
        else:
            self._in_flight.hasten(order, now_ns, why=why, doubted=True)

    def _unknown(self, order: Order, detail: str) -> None:
        """What became of the request is not known: ask the venue soon, and until it is."""
        if not order.is_in_flight:
            return
        self._in_flight.hasten(order, self._clock.monotonic_ns(), why=detail)
        _log.warning(
            "order in flight: outcome unknown",
            client_order_id=order.client_order_id,
            strategy=order.strategy_id,
            instrument=order.instrument_id,
            detail=detail,
        )
