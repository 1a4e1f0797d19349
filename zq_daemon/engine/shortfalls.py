"""Orders that the venue has filled by more than it tells: how long it is asked, and what then.

Owns that judgement, the same whether it calls the order filled, lists less of it as resting, or had
less of it left to cancel than we thought (which counts as far as the position shows it too). After
NEGATIVES histories without the same fills, over the span of time that any denial needs, the venue
cannot give them: what is missing is synthesised, marked as such, and replaced if a real fill comes
after all. An order that rests goes on resting. The position moves by it, but for what no statement
shows to be missing and the position has without any order that explains it. An order that may be
cut down (reduce-only, an exit) and is then called filled all the same got no more than the position
shows beyond what other orders are sure to lack. Part of the inquiry, which fetches fills and
statements.
"""

from __future__ import annotations

from decimal import Decimal

from zq_daemon.core.cache import Cache
from zq_daemon.core.portfolio import Portfolio
from zq_daemon.core.reconcile import PositionDifference
from zq_daemon.core.synthesis import best_price, synthesise
from zq_daemon.engine.in_flight import InFlight, Watch
from zq_daemon.engine.ledger import OrderLedger
from zq_daemon.engine.reports import ReportReader
from zq_daemon.model.fill import Fill
from zq_daemon.model.instrument import Instrument
from zq_daemon.model.market import Side
from zq_daemon.model.money import EXACT, ZERO
from zq_daemon.model.order import Order, Pending
from zq_daemon.model.report import AccountReport, OrderReport
from zq_daemon.ports.clock import NS_PER_S, Clock

NEGATIVES = 3
"""How many complete negative answers anything needs before something is concluded from them."""


class Shortfalls:
    """Counts histories without the fills that an order is said to have, and concludes."""

    def __init__(
        self,
        *,
        cache: Cache,
        portfolio: Portfolio,
        clock: Clock,
        ledger: OrderLedger,
        in_flight: InFlight,
        reports: ReportReader,
        span_ns: int,
    ) -> None:
        """*span_ns*: over how long the histories must be spread."""
        self._cache = cache
        self._portfolio = portfolio
        self._clock = clock
        self._ledger = ledger
        self._in_flight = in_flight
        self._reports = reports
        self._span_ns = span_ns

    def count(
        self, order: Order, watch: Watch, report: OrderReport | None, statement: AccountReport
    ) -> None:
        """Another history lacked fills of *order*; *statement* came after it.

        *report* is what called it filled, None of one that has ended, or rests. Concludes when it
        is time to, else has the venue asked again soon enough.
        """
        instrument = self._cache.instrument(order.instrument_id)
        towards = self._towards(order, statement)
        if instrument is None or towards is None or order.pending is Pending.MODIFY:
            return
        shown = max(towards, ZERO)
        now_ns = self._clock.monotonic_ns()
        is_over = report is not None or order.is_closed
        expected = watch.expected_filled if is_over else watch.filled_at_rest
        missing = EXACT.subtract(expected, order.filled_quantity)
        if missing <= ZERO:
            return
        if watch.shortfalls == 0 or watch.missing != missing:
            watch.shortfalls, watch.missing, watch.first_shortfall_ns = 0, missing, now_ns
        watch.shortfalls += 1
        watch.next_ns = min(watch.next_ns, now_ns + self._span_ns // (NEGATIVES - 1))
        span_ns = now_ns - watch.first_shortfall_ns
        if watch.shortfalls < NEGATIVES or span_ns < self._span_ns:
            return
        if _may_be_less(order, watch):
            beyond = EXACT.subtract(towards, self._others_lack(order))
            missing = min(missing, max(beyond, ZERO))
        if _was_replaced(order, watch):
            missing = ZERO  # of a total that is not known: the position is what tells
        stated_quantity = min(max(EXACT.subtract(missing, shown), ZERO), self._unexplained(order))
        moving = EXACT.subtract(missing, stated_quantity)
        ts_event_ns = _when(order, report, statement)
        rests = not is_over
        for quantity, stated in ((moving, False), (stated_quantity, True)):
            if quantity > ZERO:
                fill = self._synthesise(order, watch, report, instrument, quantity, ts_event_ns)
                order = self._reports.book_synthetic(order, fill, stated=stated, rests=rests)
        watch.expect_no_more()
        if report is not None and not order.is_closed:
            self._ledger.cancel(
                order,
                f"filled at the venue, by {order.filled_quantity} of {order.quantity}: all fills "
                f"within {span_ns // NS_PER_S} s",
            )

    def _towards(self, order: Order, statement: AccountReport) -> Decimal | None:
        """How much more than we the venue holds in *order*'s direction; None: it cannot be told."""
        for each in self._reports.differences(statement):
            if isinstance(each, PositionDifference) and each.instrument_id == order.instrument_id:
                towards = each.amount if order.side is Side.BUY else each.amount.copy_negate()
                return None if each.is_newer else towards
        return ZERO

    def _others_lack(self, order: Order) -> Decimal:
        """What other orders are sure to lack, in *order*'s direction: the position shows it too."""
        lacking = ZERO
        for watch in self._in_flight.expecting(order.account_id):
            other = self._cache.order(watch.client_order_id)
            if other is None or other is order or other.instrument_id != order.instrument_id:
                continue
            if not (_may_be_less(other, watch) or _was_replaced(other, watch)):
                missing = max(EXACT.subtract(watch.expected_filled, other.filled_quantity), ZERO)
                same = other.side is order.side
                lacking = EXACT.add(lacking, missing if same else missing.copy_negate())
        return lacking

    def _unexplained(self, order: Order) -> Decimal:
        """How much in the direction of *order* the position has that no order's fills explain.

        What the statement does not show to be missing may be in there: taken over, or booked as
        another's. Beyond that it is missing as well, and other missing fills make up for it.
        """
        held = self._portfolio.unexplained(order.account_id, order.instrument_id)
        return max(held if order.side is Side.BUY else held.copy_negate(), ZERO)

    def _synthesise(
        self,
        order: Order,
        watch: Watch,
        report: OrderReport | None,
        instrument: Instrument,
        quantity: Decimal,
        ts_event_ns: int,
    ) -> Fill:
        mark = self._cache.mid_or_mark(order.instrument_id)
        price = best_price(order, watch.average_price, mark)
        if price is None:
            price = ZERO if report is None else report.price
        known = order.venue_order_id or order.venue_order_ids[-1]
        return synthesise(
            order,
            quantity,
            price,
            venue_order_id=known if report is None else report.venue_order_id,
            instrument=instrument,
            ts_event_ns=ts_event_ns,
            ts_recv_ns=self._clock.now_ns(),
        )


def _when(order: Order, report: OrderReport | None, statement: AccountReport) -> int:
    """The latest time at which *order* can have been filled by what is missing."""
    if report is not None:
        return report.ts_event_ns
    return order.ts_last_ns if order.is_closed else statement.account.ts_event_ns


def _was_replaced(order: Order, watch: Watch) -> bool:
    """Whether what is missing was filled under an id that the order has no more."""
    by_answer = watch.answered > max(watch.told, watch.by_rest)
    return by_answer and order.venue_order_ids[-1:] != (watch.answered_id,)


def _may_be_less(order: Order, watch: Watch) -> bool:
    """Whether *order* may have got less than it is said to: what the position shows counts."""
    may_be_cut = order.reduce_only or order.parent_id is not None
    return may_be_cut or watch.by_end or watch.untold
