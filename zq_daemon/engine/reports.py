"""Reads what the venue says of our account: reports become order events, fills, positions.

Owns what repeats (fills are taken once), what is older than we are (fills before the first account
statement are in its positions already), what is not ours, and what no instrument of the cache
explains: of that it keeps a sample only. It never asks the venue; the execution engine hands it
reports of the private stream, the inquiry the answers to its questions.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from decimal import Decimal
from typing import assert_never

import structlog

from zq_daemon.core import topics
from zq_daemon.core.bus import MessageBus
from zq_daemon.core.reconcile import (
    Difference,
    LateFills,
    LocalSide,
    MissingFill,
    MissingOrder,
    PositionDifference,
    RisenOrder,
    compare,
    late_quantity,
)
from zq_daemon.core.synthesis import replaced_by
from zq_daemon.engine.brackets import Brackets
from zq_daemon.engine.external_orders import ExternalOrders
from zq_daemon.engine.health import tell_health
from zq_daemon.engine.in_flight import InFlight
from zq_daemon.engine.ledger import EXTERNAL, OrderLedger
from zq_daemon.engine.order_lines import of_fill
from zq_daemon.engine.positions import PositionCheck
from zq_daemon.journal.record import StatementAdopted
from zq_daemon.journal.state import JournalState
from zq_daemon.model.event import AccountLiquidated, AccountUpdated, FundingPaid
from zq_daemon.model.fill import Fill
from zq_daemon.model.ids import AccountId, ClientOrderId, InstrumentId, VenueOrderId
from zq_daemon.model.money import EXACT, ZERO
from zq_daemon.model.order import Order, OrderStatus, Pending, TimeInForce
from zq_daemon.model.report import (
    AccountReport,
    CancelReport,
    OrderReport,
    PositionReport,
    Report,
)
from zq_daemon.ports.clock import NS_PER_S, Clock

_RISEN_NS = 2 * NS_PER_S
"""How far apart two statements must be that list an order which has ended for us."""
_HELD = 4_096
"""Fills and fundings that may wait for the first statement: twice what a snapshot of them holds."""
_RECENT_NS = 5 * NS_PER_S
"""An order that changed within this may have crossed the statement on its way."""
_PUBLISHED_NS = 86_400 * NS_PER_S
"""The venue may publish a fill so late."""
_SAMPLED = 32
"""Unknown instruments whose reports are counted one by one."""

_log = structlog.get_logger("zq.reports")


class ReportReader:
    """Turns reports into evidence for the ledger; each may come again, late, in any order."""

    def __init__(
        self,
        *,
        bus: MessageBus,
        state: JournalState,
        clock: Clock,
        ledger: OrderLedger,
        in_flight: InFlight,
        positions: PositionCheck,
        external: ExternalOrders,
        brackets: Brackets,
        on_risen: Callable[[Order], None],
    ) -> None:
        """*on_risen* gets orders that are open again, which nobody looks after any more."""
        self._on_risen = on_risen
        self._bus = bus
        self._cache = state.cache
        self._portfolio = state.portfolio
        self._clock = clock
        self._ledger = ledger
        self._in_flight = in_flight
        self._terms = state.terms
        self._seen = state.seen
        self._state = state
        self._external = external
        self._brackets = brackets
        self._risen: dict[AccountId, dict[ClientOrderId, int]] = {}
        self._held: deque[Fill | FundingPaid] = deque(maxlen=_HELD)
        self._positions = positions
        self._suspected: set[AccountId] = set()
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
            case CancelReport():
                self._read_cancel(report)
            case AccountLiquidated():
                self._read_liquidation(report)
            case _:
                assert_never(report)

    def suspect(self, account_id: AccountId) -> None:
        """Fills of the account may be missing: positions that agree do not show that all are here.

        Missed fills may add up to nothing, and a restart asks only for what is newer than that.
        """
        self._suspected.add(account_id)

    def trust(self, account_id: AccountId) -> None:
        """They are not missing any more."""
        self._suspected.discard(account_id)

    def booked(self) -> int:
        """How many fills were booked."""
        return self._counts["fills"] + self._counts["external_fills"]

    def counts(self) -> Mapping[str, int]:
        """How often which kind of report came: repeated, historic and external ones."""
        return self._counts

    def unknown_instruments(self) -> Mapping[InstrumentId, int]:
        """Instruments the cache does not know, the first few: how often they were reported."""
        return self._unknown

    def complete_immediate(self, order: Order) -> Order:
        """What leaves no rest ends once the fills it is said to have are here."""
        watch = self._in_flight.get(order.client_order_id)
        if watch is None or watch.executed is None or order.is_closed:
            return order
        reason = _no_rest(order)
        if reason is not None and order.filled_quantity >= watch.executed:
            return self._ledger.cancel(order, reason)
        return order

    def _read_order(self, report: OrderReport) -> None:
        order = self._find(report.account_id, report.client_order_id, report.venue_order_id)
        if order is None:
            self._counts["external_orders"] += 1
            if self._is_known(report.instrument_id):
                self._external.read(report)
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
            # A venue that keeps the id has given one only. Of one that does not, a report of a
            # known id is of the terms before, its quantity without what former ids were filled.
            keeps_id = len(known) == 1
            if asked is None or not (keeps_id and asked.is_shown_by(report, order)):
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
        may_rest, untold = _no_rest(order) is None, False
        watch = self._in_flight.get(order.client_order_id)
        filled = EXACT.subtract(report.quantity, report.remaining)
        if not filled:  # a history may call left what a filled order was placed with
            filled = report.quantity
            if not may_rest and watch is not None and watch.executed is not None:
                filled = watch.executed
            else:
                untold = not may_rest
        is_replacement = order.venue_order_ids[1:][-1:] == (report.venue_order_id,)
        if is_replacement and may_rest:
            filled = max(filled, order.quantity)  # a replacement counts only what it was given
        if watch is None or watch.told < filled or (watch.untold and not untold):
            # News; the answers that repeat it leave the intervals of asking to grow.
            watch = self._in_flight.hasten(order, self._clock.monotonic_ns())
            watch.told, watch.untold = filled, untold
        watch.by_rest, watch.listed = ZERO, None  # no list of what rests takes this back
        if not may_rest and not untold:
            watch.executed = filled
            order = self.complete_immediate(order)
        self._in_flight.settle(order)

    def _expect_listed(self, report: AccountReport, found: Iterable[Difference]) -> None:
        """What rests of our orders says what they were filled: the fills may be on their way."""
        late = {each.order.client_order_id: each for each in found if isinstance(each, LateFills)}
        now_ns = self._clock.monotonic_ns()
        for listed in report.open_orders:
            venue_order_id = listed.venue_order_id
            order = self._find(listed.account_id, listed.client_order_id, venue_order_id)
            if order is None or order.is_closed:
                continue
            if (behind := late.get(order.client_order_id)) is None:
                self._in_flight.withdraw(order, venue_order_id)
            elif behind.report is listed:
                filled = EXACT.add(order.filled_quantity, behind.quantity)
                self._in_flight.expect(order, now_ns, filled, listed=venue_order_id)

    def _may_miss_fills(self, account_id: AccountId) -> bool:
        """Whether the positions may agree although fills are missing, which a restart must fetch.

        They are suspected to, or an order was filled more, as the venue says, than was heard of;
        or not long ago a fill was made up, and the venue may yet publish the real one.
        """
        if account_id in self._suspected:
            return True
        after_ns = self._clock.now_ns() - _PUBLISHED_NS
        for known in (*self._cache.orders_live(), *self._cache.orders_closed()):
            is_recent = known.synthetic is not None and known.ts_last_ns > after_ns
            if is_recent and known.account_id == account_id:
                return True
        for watch in self._in_flight.expecting(account_id):
            order = self._cache.order(watch.client_order_id)
            if order is not None and order.filled_quantity < watch.expected_filled:
                return True
        return False

    def _end(self, order: Order, report: OrderReport | CancelReport) -> None:
        late = late_quantity(order, report) if isinstance(report, OrderReport) else ZERO
        updated = self._ledger.close(order, report)
        is_news = updated is not order
        is_named = updated.status is OrderStatus.CANCELED and updated.venue_order_id is not None
        if late and is_named:  # also if another message told of the end, which did not say that
            filled = EXACT.add(updated.filled_quantity, late)
            self._in_flight.expect(updated, self._clock.monotonic_ns(), filled, listed=None)
        if is_news and not updated.is_closed:
            # Of a replacement that is not known, or of the order that is being replaced.
            is_replaced = updated.pending is not Pending.MODIFY
            why = "what replaced it is not known" if is_replaced else ""
            now_ns = self._clock.monotonic_ns()
            self._in_flight.hasten(updated, now_ns, why=why, doubted=is_replaced)

    def _read_fill(self, fill: Fill) -> None:
        if not self._is_known(fill.instrument_id):
            return
        if fill in self._seen:
            self._counts["repeated_fills"] += 1
            return
        if (order := self._owner(fill)) is None:
            self._read_external(fill)
            return
        self._counts["fills"] += 1
        # Our own orders are younger than the account's first statement.
        stated, outgrown = self._state.is_adopted(fill), self._outgrows(order, fill)
        was_synthetic = order.synthetic is not None
        order = self._ledger.fill(order, fill, stated=stated, outgrown=outgrown)
        self.complete_immediate(self._leave_unmodified(order))
        self._positions.on_fill(fill)
        if was_synthetic:
            left = ZERO if order.synthetic is None else order.synthetic.quantity
            self._tell_synthetic(order, fill, left)

    def book_synthetic(self, order: Order, fill: Fill, *, stated: bool, rests: bool) -> Order:
        """A fill that the venue owes and cannot give; *stated*: the position has it already.

        *rests*: the order goes on resting with what is left of it.
        """
        self._counts["synthetic_fills"] += 1
        stated = stated or self._state.is_adopted(fill)
        order = self._ledger.fill(order, fill, stated=stated, rests=rests)
        order = self.complete_immediate(order)
        self._positions.on_fill(fill)
        left = fill.quantity if order.synthetic is None else order.synthetic.quantity
        self._tell_synthetic(order, fill, left)
        return order

    def missing(self, fill: Fill) -> MissingFill | None:
        """What there is to book of *fill*; None: it is known, or history, or of an unknown coin."""
        known = fill in self._seen or self._cache.instrument(fill.instrument_id) is None
        order = None if known else self._owner(fill)
        if known or (order is None and self._state.is_stated(fill) is not False):
            return None
        return MissingFill(fill=fill, order=order)

    def _owner(self, fill: Fill) -> Order | None:
        """The order that *fill* is of; what an adopted order had been filled before is history."""
        order = self._find(fill.account_id, fill.client_order_id, fill.venue_order_id)
        if order is not None and order.strategy_id == EXTERNAL and self._state.is_stated(fill):
            return None
        return order

    def _tell_synthetic(self, order: Order, fill: Fill, left: Decimal) -> None:
        """How much of an order's fills is made up now, after *fill*."""
        of = f"{fill.side.value} {left} of {fill.instrument_id}, order {order.client_order_id}"
        problem = f"synthetic fill, as the venue gives none: {of}" if left else ""
        _log.warning(
            "synthetic fill" if fill.is_synthetic else "a fill replaces a synthetic one",
            client_order_id=order.client_order_id,
            strategy=order.strategy_id,
            still_synthetic=str(left),
            **of_fill(fill),
        )
        reason = problem or f"the venue has given the fills of {order.client_order_id}"
        component = f"fills:{fill.account_id}"
        tell_health(self._bus, self._clock, component, reason, healthy=not problem)

    def _leave_unmodified(self, order: Order) -> Order:
        """An order that is filled before a modification of it was signed needs none any more."""
        asked = self._terms.get(order.client_order_id)
        if asked is None or asked.unknown is not None or order.remaining_quantity:
            return order
        return self._ledger.refuse(order, Pending.MODIFY, "FILLED", "filled before it was sent")

    def _outgrows(self, order: Order, fill: Fill) -> bool:
        """Whether a fill of a replaced id was unknown when the replacement was signed.

        It adds to the total then, as the order would count as filled while that much of the
        replacement still rests. Where the replacement is not confirmed yet, that is remembered.
        """
        known = order.venue_order_ids
        if fill.venue_order_id not in known:
            return False
        if self._terms.get(order.client_order_id) is not None:
            self._terms.fill(order, fill, replaced_by(order, fill))
        return fill.venue_order_id != known[-1]

    def _read_external(self, fill: Fill) -> None:
        stated = self._state.is_stated(fill)
        if stated is None:
            self._counts["held_fills"] += 1
            self._held.append(fill)
        elif stated:
            self._counts["historic_fills"] += 1
        else:
            self._counts["external_fills"] += 1
            self._ledger.fill_external(fill)
            self._positions.on_fill(fill)
            if fill.is_liquidation:
                self._read_liquidation(_liquidated(fill))

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
        stated_ns = self._state.stated_ns.get(funding.account_id)
        if funding in self._seen:
            self._counts["repeated_fundings"] += 1
        elif stated_ns is None:
            self._counts["held_fundings"] += 1
            self._held.append(funding)
        elif funding.ts_event_ns <= stated_ns:
            self._counts["historic_fundings"] += 1
        else:
            self._ledger.fund(funding)

    def _read_cancel(self, report: CancelReport) -> None:
        """The venue's own cancel of an order; its order update, which tells more, may repeat it."""
        order = self._cache.order_by_venue_id(report.account_id, report.venue_order_id)
        if order is None or order.is_closed:
            self._counts["repeated_cancels"] += 1
            return
        self._counts["venue_cancels"] += 1
        self._end(order, report)

    def _read_liquidation(self, event: AccountLiquidated) -> None:
        """Told as loudly as can be; what it did to orders and positions is reported as ever."""
        self._counts["liquidations"] += 1
        _log.error(
            "the account was liquidated",
            account=event.account_id,
            detail=event.detail,
            notional=event.notional,
            equity=event.equity,
        )
        self._bus.publish(topics.liquidation(event.account_id), event)
        if event.account_id in self._state.stated_ns:
            self._positions.ask_soon(event.account_id)

    def _read_account(self, report: AccountReport) -> None:
        """What differs is found before anything of the statement is taken, and then seen to."""
        account = report.account
        found = self.differences(report)
        self._expect_listed(report, found)
        self._ledger.state_account(account)
        if account.account_id not in self._state.stated_ns:
            self.adopt_positions(report, "the first statement of the account")
        else:
            differing = [each for each in found if isinstance(each, PositionDifference)]
            agreed = self._positions.compare(report, differing)
            if agreed and not self._may_miss_fills(account.account_id):
                self._ledger.agree(account.account_id, account.ts_event_ns)
        for order in report.open_orders:
            self._read_order(order)
        risen = [each for each in found if isinstance(each, RisenOrder)]
        self._look_for_risen(account.account_id, risen)
        for each in found:
            if isinstance(each, MissingOrder):
                self._doubt_missing(each.order)
        updated = AccountUpdated(account=account, ts_event_ns=account.ts_event_ns)
        self._bus.publish(topics.account(account.account_id), updated)

    def differences(self, report: AccountReport) -> tuple[Difference, ...]:
        """What differs between a statement and what we know now."""
        account_id, now_ns = report.account.account_id, self._clock.now_ns()
        listed = {}
        for each in report.open_orders:
            if (order := self._find(account_id, each.client_order_id, each.venue_order_id)) is None:
                continue
            listed[each.venue_order_id] = order
        should_rest = [
            each
            for each in self._cache.orders_open()
            if each.account_id == account_id and not self._brackets.may_be_held(each)
        ]
        steps = {each.id: each.quantity_step for each in self._cache.instruments()}
        local = LocalSide(
            open_orders=should_rest,
            listed=listed,
            recent={o.client_order_id for o in should_rest if now_ns - o.ts_last_ns < _RECENT_NS},
            positions=self._portfolio.positions(account_id),
            account=self._cache.account(account_id),
            steps=steps,
        )
        return compare(local, report, self._positions.tolerance)

    def adopt_positions(
        self, report: AccountReport, reason: str, only: Collection[InstrumentId] | None = None
    ) -> Collection[InstrumentId]:
        """Take the venue's positions for ours: of *only* these instruments, or (None) of all.

        Returns whose were taken.

        What we hold beside what it states is flat. A position that a fill has moved since then is
        newer than the statement, and stays.
        """
        account = report.account
        wanted = [
            each for each in (*report.positions, *self._gone(report)) if self._is_due(each, only)
        ]
        if wanted or only is None:
            self._ledger.adopt_statement(
                StatementAdopted(
                    account_id=account.account_id,
                    positions=tuple(wanted),
                    whole=only is None,
                    reason=reason,
                    ts_event_ns=account.ts_event_ns,
                )
            )
        waiting = tuple(self._held)
        self._held.clear()
        for held in waiting:
            self.read(held)
        return {each.instrument_id for each in wanted}

    def _is_due(self, report: PositionReport, only: Collection[InstrumentId] | None) -> bool:
        if only is None:
            return self._is_known(report.instrument_id)
        held = self._portfolio.position(report.account_id, report.instrument_id)
        return report.instrument_id in only and held.ts_last_ns <= report.ts_event_ns

    def _gone(self, report: AccountReport) -> Iterable[PositionReport]:
        """Positions of ours that the statement does not have."""
        account = report.account
        stated = {each.instrument_id for each in report.positions}
        for held in self._portfolio.positions(account.account_id):
            if held.quantity and held.instrument_id not in stated:
                yield PositionReport(
                    account_id=account.account_id,
                    instrument_id=held.instrument_id,
                    quantity=ZERO,
                    average_entry_price=None,
                    ts_event_ns=account.ts_event_ns,
                    ts_recv_ns=account.ts_recv_ns,
                )

    def _look_for_risen(self, account_id: AccountId, found: Iterable[RisenOrder]) -> None:
        """Find orders that have ended for us, and rest at the venue in one statement after another.

        The first may be older than the end it contradicts, so that another is asked for.
        """
        now_ns = self._clock.monotonic_ns()
        before, risen = self._risen.get(account_id, {}), {}
        for each in found:
            order = self._cache.order(each.order.client_order_id)
            if order is None or not order.is_closed:
                continue  # the statement alone has revived it
            since_ns = before.get(order.client_order_id, now_ns)
            if now_ns - since_ns < _RISEN_NS:
                risen[order.client_order_id] = since_ns
            else:
                self._rise(order, each.report)
        self._risen[account_id] = risen
        if risen:
            self._positions.ask_soon(account_id)

    def _rise(self, order: Order, listed: OrderReport) -> None:
        self._counts["reopened_orders"] += 1
        self._on_risen(self._ledger.reopen(order, listed))

    def _doubt_missing(self, missing: Order) -> None:
        """Ask about an order that should rest but is not in the statement: a close was missed.

        Or the order is newer than the statement, which costs a question: comparing the times of two
        clocks, ours and the venue's, could hide a missed close for ever.
        """
        order = self._cache.order(missing.client_order_id)
        if order is not None and order.is_open:
            why = "not among the venue's open orders"
            self._in_flight.doubt(order, self._clock.monotonic_ns(), why=why)

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


def _no_rest(order: Order) -> str | None:
    """Why nothing of *order* is left once it was executed, though it asked for more."""
    if order.time_in_force is TimeInForce.IOC:
        return "the rest of an immediate-or-cancel order"
    if order.parent_id is not None:
        return "an exit of no more than its entry got"
    return None


def _liquidated(fill: Fill) -> AccountLiquidated:
    return AccountLiquidated(
        account_id=fill.account_id,
        detail=f"{fill.side.value} {fill.quantity} of {fill.instrument_id} at {fill.price}",
        notional=fill.notional,
        equity=None,
        ts_event_ns=fill.ts_event_ns,
    )
