"""The execution engine: the only way an order leaves, and the only reader of what came of it.

Owns the order path: command, normalisation, gates and risk, tracked, queued; from there
`engine.departures` signs it, makes its intent durable and sends it. An outcome that is not known is
a state: the order stays in flight and the inquiry asks about it. Orders that all have to go are
owed a cancel until they ended. It never raises for what a venue does; JournalError is fatal.

Strategies reach it by the bus (`order.submit`, `order.cancel`, `order.modify`, `order.cancel_all`).
The daemon has it `restore` what the journal says, runs `run`, has it `recover`, hands it reports
and, when it stops, calls `close_gate` and `settle_all`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import structlog
import trio
from attrs import frozen

from zq_daemon.core.bus import MessageBus
from zq_daemon.core.reconcile import HALF
from zq_daemon.core.risk import Denial, RiskEngine
from zq_daemon.core.terms import Terms
from zq_daemon.engine.admission import Admission
from zq_daemon.engine.brackets import Brackets
from zq_daemon.engine.catch_up import CatchUp
from zq_daemon.engine.confirmation import CancelResult, Confirmation, StopResult
from zq_daemon.engine.departures import Departures
from zq_daemon.engine.external_orders import ExternalOrders, ExternalPolicy
from zq_daemon.engine.in_flight import InFlight, Watch
from zq_daemon.engine.inquiry import Inquiry, OrderQueries
from zq_daemon.engine.ledger import EXTERNAL, OrderLedger
from zq_daemon.engine.outcomes import OutcomeReader
from zq_daemon.engine.owed_cancels import OwedCancels
from zq_daemon.engine.positions import PositionCheck, PositionPolicy
from zq_daemon.engine.reconciliation import Look, Reconciliation
from zq_daemon.engine.recovery import Delays, Recovered, Recovery
from zq_daemon.engine.reports import ReportReader
from zq_daemon.engine.restore import Restored, restore
from zq_daemon.errors import JournalError
from zq_daemon.journal.journal import Journal
from zq_daemon.model.check import check_command
from zq_daemon.model.command import (
    CancelAllOrders,
    CancelOrder,
    ModifyOrder,
    SubmitBracket,
    SubmitOrder,
)
from zq_daemon.model.event import TradingState
from zq_daemon.model.ids import (
    AccountId,
    ClientOrderId,
    InstrumentId,
    StrategyId,
)
from zq_daemon.model.order import Order, OrderStatus, Pending
from zq_daemon.model.report import Report
from zq_daemon.ports.clock import NS_PER_S, Clock
from zq_daemon.venue.interface import OrderEntry

OWNER = "execution"
"""Its name on the bus: a fault of this owner is a fault of the daemon."""
_CONCLUDED = (OrderStatus.EXPIRED, OrderStatus.REJECTED)
"""Ends that were concluded without the order having been seen, and can prove wrong."""

_log = structlog.get_logger("zq.execution")


@frozen(kw_only=True)
class ExecutionSettings:
    """*submit_queue*: how many orders may wait; *not_found_span_ns*: see `engine.inquiry`.

    *link_silence_ns*: for how long a link may have been dead before its loss is noticed.
    *position_tolerance*, in quantity steps: by how much more a position has to differ from the
    venue's for *on_position_difference*. *fills_interval_ns*: see `engine.catch_up`.
    """

    submit_queue: int = 256
    link_silence_ns: int = 40 * NS_PER_S
    external_orders: ExternalPolicy = "report"
    not_found_span_ns: int = 10 * NS_PER_S
    fills_interval_ns: int = 300 * NS_PER_S
    position_tolerance: Decimal = HALF
    on_position_difference: PositionPolicy = "halt"


class ExecutionEngine:
    """Takes commands and reports synchronously; `run` does the waiting."""

    def __init__(
        self,
        *,
        bus: MessageBus,
        risk: RiskEngine,
        journal: Journal,
        clock: Clock,
        entries: Mapping[AccountId, OrderEntry],
        queries: Mapping[AccountId, OrderQueries],
        slippage_bps: Mapping[AccountId, int],
        settings: ExecutionSettings,
        run_id: int,
        is_stale: Callable[[InstrumentId], bool],
        is_link_up: Callable[[AccountId], bool],
    ) -> None:
        """Register the command handlers; every account in *entries* also has *queries*.

        *slippage_bps* is how far a market order may reach through the book, 500 (5 %) if missing.
        """
        state = journal.state
        self._state = state
        self._cache = state.cache
        self._risk = risk
        self._journal = journal
        self._clock = clock
        self._entries = entries
        self._queries = queries
        self._is_link_up = is_link_up
        self._cancels_external = settings.external_orders == "cancel"
        self._denials: Counter[str] = Counter()
        self._changed = trio.lowlevel.ParkingLot()
        self._in_flight = InFlight()
        self._brackets = Brackets(state.cache)
        self._positions = PositionCheck(
            bus,
            state.cache,
            state.portfolio,
            clock,
            is_link_up,
            self._is_owed,
            tolerance=settings.position_tolerance,
            on_halt=self._on_halt if settings.on_position_difference == "halt" else None,
        )
        self._admission = Admission(
            cache=state.cache,
            risk=risk,
            clock=clock,
            brackets=self._brackets,
            entries=entries,
            queued=lambda kind: self._departures.backlog.waiting(kind),
            slippage_bps=slippage_bps,
            is_stale=is_stale,
            is_link_up=is_link_up,
            why_halted=self._positions.why_halted,
            may_reduce=self._positions.may_reduce,
        )
        self._terms = state.terms
        self._ledger = OrderLedger(bus, journal, clock)
        self._owed = OwedCancels(state.cache, clock, self._can_cancel, self._request_cancel)
        self._external = ExternalOrders(
            settings.external_orders,
            self._ledger,
            clock,
            self._owed.owe_soon,
            self._positions.ask_soon,
        )
        self._make_readers(bus, settings, run_id)
        self._ledger.on_change(self._settle)
        self._take_commands(bus)

    def restore(self) -> Restored:
        """Go on from where the journal ends; once, before `run`. Nobody is asked yet.

        Raises JournalError when the last nonce is one that the venue would not go on from.
        """
        for account_id, entry in self._entries.items():
            try:
                entry.resume(self._state.nonces.get(account_id, 0))
            except ValueError as error:
                raise JournalError(f"account {account_id}: {error}") from error
        restored = restore(self._state, self._ledger, self._in_flight, self._clock)
        self._brackets.restore()
        return restored

    async def recover(self, delays: Delays) -> Recovered:
        """Ask the venue what became of everything, until it has answered; while `run` does.

        What had to go already when the last run ended has to go now: external orders that are to
        be cancelled, and everything while trading is halted.
        """
        recovered = await self._recovery.run(delays)
        halted = self._risk.state is TradingState.HALTED
        for order in self._live(None, None):
            if halted or (self._cancels_external and order.strategy_id == EXTERNAL):
                self._owe_cancel(order)
        return recovered

    async def look(self) -> Look:
        """What differs from the venue now, and what would be done about it; nothing is changed.

        Raises LinkError, LinkRefused or DecodeError when the venue does not answer.
        """
        return await self._reconciliation.look()

    async def reconcile(self) -> Recovered:
        """Do what a start does, once: the venue's positions are taken over where they differ.

        Raises as `look` does.
        """
        return await self._recovery.repeat()

    @property
    def is_armed(self) -> bool:
        """Whether recovery is over, or was left out."""
        return self._positions.is_armed

    def doubts(self) -> tuple[Watch, ...]:
        """The orders of which it is not known what became of them, each with what is known."""
        return self._in_flight.doubts()

    def arm(self) -> None:
        """Recovery is over, or left out: an account whose position differs from now on halts."""
        self._positions.arm()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Journal and send what is queued; returns after `close`, when all of it has an outcome."""
        async with trio.open_nursery() as inquiries:
            inquiries.start_soon(self._inquiry.run)
            inquiries.start_soon(self._catch_up.run)
            inquiries.start_soon(self._owed.run)
            task_status.started()
            await self._departures.run()
            inquiries.cancel_scope.cancel()

    def close(self) -> None:
        """Take no more commands; what is queued is still sent, and `run` returns."""
        self._departures.close()

    def abandon(self) -> None:
        """Wait for no answer of the venue any more: what is under way is for the next start."""
        self._departures.abandon()

    def on_report(self, report: Report) -> None:
        """Take one report of the venue; it may be repeated, late and in any order."""
        self._reports.read(report)

    def on_link_lost(self, account_id: AccountId) -> None:
        """The private link of *account_id* is lost: what happens meanwhile is not told."""
        self._catch_up.on_link_lost(account_id)

    def on_link_up(self, account_id: AccountId) -> None:
        """The private link of *account_id* is up: what waited for it is asked for now."""
        self._catch_up.on_link_up(account_id)
        self._owed.on_link_up()
        self._positions.on_link_up()

    def close_gate(self, reason: str) -> None:
        """Let no new order leave from now on, also none that is queued; cancels still do."""
        self._admission.closed_by = reason
        _log.info("gate closed for new orders", reason=reason)

    def open_gate(self) -> None:
        """Let orders leave again."""
        self._admission.closed_by = None
        _log.info("gate opened for new orders")

    async def cancel_all(
        self,
        *,
        strategy_id: StrategyId | None = None,
        instrument_id: InstrumentId | None = None,
        timeout_s: float,
    ) -> CancelResult:
        """Cancel all live orders, narrowed as given, and wait up to *timeout_s* for the evidence.

        A cancel that came to nothing is tried again, also after that time while `run` goes on.
        """
        live = self._live(strategy_id, instrument_id)
        asked = {order.client_order_id for order in live}
        for order in live:
            self._owe_cancel(order)
        with trio.move_on_after(timeout_s):
            await self._none_live(strategy_id, instrument_id)
        asked.update(order.client_order_id for order in self._live(strategy_id, instrument_id))
        return self._cancel_result(asked)

    async def settle_all(self, *, cancel: bool, timeout_s: float) -> StopResult:
        """Bring every order to a known end or rest, and have the venue confirm it; for a stop.

        *cancel*: all of them go; else they rest where they are, and only what is in flight is
        waited for. Half the time at most is for that, the rest for the venue's statements.
        """
        deadline = trio.current_time() + timeout_s
        gone: set[ClientOrderId] = set()
        if cancel:
            result = await self.cancel_all(timeout_s=timeout_s / 2)
            gone, unverified = set(result.cancelled), set(result.unverified)
        else:
            with trio.move_on_after(timeout_s / 2):
                while self._confirmation.unsettled():
                    await self._changed.park()
            unverified = self._confirmation.unsettled()
        return await self._confirmation.run(gone, unverified, leaves=not cancel, deadline=deadline)

    def stats(self) -> dict[str, Any]:
        """Counters for `status` and telemetry."""
        return {
            "gate_closed": self._admission.closed_by,
            "queued": self._departures.backlog.waiting("submit"),
            "in_flight": len(self._in_flight),
            "in_doubt": self._in_flight.in_doubt(),
            "denials": dict(self._denials),
            "outcomes": dict(self._outcomes.counts),
            "reports": dict(self._reports.counts()),
            "queries": self._inquiry.asked,
            "failed_queries": self._inquiry.failed,
            "owed_cancels": len(self._owed),
            "external_orders": dict(self._external.counts()),
            "unknown_instruments": dict(self._reports.unknown_instruments()),
            "caught_up": self._catch_up.done,
            "catching_up": sorted(self._catch_up.missing()),
            "position_differences": dict(self._positions.told()),
            "halted_accounts": self._positions.halted(),
        }

    def _make_readers(self, bus: MessageBus, settings: ExecutionSettings, run_id: int) -> None:
        """What reads evidence, what asks for it, and what sends what it will be about."""
        self._reports = ReportReader(
            bus=bus,
            state=self._state,
            clock=self._clock,
            ledger=self._ledger,
            in_flight=self._in_flight,
            positions=self._positions,
            external=self._external,
            brackets=self._brackets,
            on_risen=self._revive,
        )
        self._outcomes = OutcomeReader(
            cache=self._cache,
            clock=self._clock,
            ledger=self._ledger,
            in_flight=self._in_flight,
            terms=self._terms,
            reports=self._reports,
        )
        self._departures = Departures(
            journal=self._journal,
            clock=self._clock,
            entries=self._entries,
            ledger=self._ledger,
            in_flight=self._in_flight,
            outcomes=self._outcomes,
            limit=settings.submit_queue,
            run_id=run_id,
            forbids=self._admission.forbids_departure,
            deny=self._deny,
        )
        self._inquiry = Inquiry(
            queries=self._queries,
            state=self._state,
            clock=self._clock,
            ledger=self._ledger,
            in_flight=self._in_flight,
            reports=self._reports,
            positions=self._positions,
            brackets=self._brackets,
            not_found_span_ns=settings.not_found_span_ns,
        )
        self._catch_up = CatchUp(
            state=self._state,
            queries=self._queries,
            inquiry=self._inquiry,
            reports=self._reports,
            clock=self._clock,
            silence_ns=settings.link_silence_ns,
            interval_ns=settings.fills_interval_ns,
        )
        self._confirmation = Confirmation(self._cache, self._inquiry, self._brackets)
        self._reconciliation = Reconciliation(
            state=self._state,
            queries=self._queries,
            reports=self._reports,
            external=self._external,
            fills_interval_ns=settings.fills_interval_ns,
        )
        self._recovery = Recovery(
            state=self._state,
            queries=self._queries,
            inquiry=self._inquiry,
            reports=self._reports,
            positions=self._positions,
            fills_interval_ns=settings.fills_interval_ns,
        )

    def _take_commands(self, bus: MessageBus) -> None:
        bus.handle("order.submit", _checked(self._on_submit), owner=OWNER)
        bus.handle("order.submit_bracket", _checked(self._on_bracket), owner=OWNER)
        bus.handle("order.cancel", _checked(self._on_cancel), owner=OWNER)
        bus.handle("order.modify", _checked(self._on_modify), owner=OWNER)
        bus.handle("order.cancel_all", _checked(self._on_cancel_all), owner=OWNER)

    def _on_submit(self, command: SubmitOrder) -> None:
        asked = command.order
        if self._cache.order(asked.client_order_id) is not None:
            _log.error("client order id used twice", client_order_id=asked.client_order_id)
            return
        order = self._admission.admit(asked)
        if isinstance(order, Denial):
            self._deny(asked, order)
        elif not self._departures.backlog.add("submit", order.account_id, order.client_order_id):
            self._deny(order, Denial("SUBMIT_QUEUE_FULL", "too many orders wait to be sent"))
        else:
            self._ledger.track(order)

    def _on_bracket(self, command: SubmitBracket) -> None:
        """All of it or nothing: an entry without its exits is another risk."""
        asked = (command.entry, *command.exits)
        if any(self._cache.order(each.client_order_id) is not None for each in asked):
            _log.error("client order id used twice", entry=command.entry.client_order_id)
            return
        admitted = self._admission.admit_bracket(command)
        if isinstance(admitted, Denial):
            for each in asked:
                self._deny(each, admitted)
            return
        entry, exits = admitted[0], tuple(each.client_order_id for each in admitted[1:])
        backlog = self._departures.backlog
        if not backlog.add_bracket(entry.account_id, entry.client_order_id, exits):
            for each in admitted:
                self._deny(each, Denial("SUBMIT_QUEUE_FULL", "too many orders wait to be sent"))
            return
        self._brackets.add(entry.client_order_id, exits)
        for each in admitted:
            self._ledger.track(each)

    def _deny(self, order: Order, denial: Denial) -> None:
        self._denials[denial.code] += 1
        self._ledger.deny(order, str(denial.code), denial.reason)

    def _on_cancel(self, command: CancelOrder) -> None:
        order = self._cache.order(command.client_order_id)
        if order is None or order.is_closed:
            _log.info("nothing to cancel", client_order_id=command.client_order_id)
        elif self._withdraw(order) or order.client_order_id in self._departures.cancelling:
            return
        elif not self._can_cancel(order.account_id):
            reason = f"the private link of {order.account_id} is down"
            self._ledger.decline(order, Pending.CANCEL, "LINK_DOWN", reason)
        else:
            self._request_cancel(order)

    def _on_cancel_all(self, command: CancelAllOrders) -> None:
        for order in self._live(command.strategy_id, command.instrument_id):
            self._owe_cancel(order)

    def _can_cancel(self, account_id: AccountId) -> bool:
        """New orders need the link that tells of them; what ends one may go another way."""
        entry = self._entries.get(account_id)
        other = entry is not None and entry.has_other_way
        return other or self._is_link_up(account_id)

    def _owe_cancel(self, order: Order) -> None:
        known = self._cache.order(order.client_order_id)  # it may have gone with its entry
        if known is not None and not known.is_closed and not self._withdraw(known):
            self._owed.owe(known)

    def _withdraw(self, order: Order) -> bool:
        """Take an order back that has not been sent, an entry with its exits; False when it has."""
        withdrawn = self._departures.backlog.withdraw("submit", order.client_order_id)
        for each in withdrawn:
            if (known := self._cache.order(each)) is not None:
                self._ledger.cancel(known, "withdrawn before it was sent")
        return bool(withdrawn)

    def _request_cancel(self, order: Order) -> None:
        client_order_id = order.client_order_id
        if client_order_id in self._departures.cancelling:
            return
        if self._departures.backlog.withdraw("modify", client_order_id):
            order = self._ledger.refuse(order, Pending.MODIFY, "CANCELED", "canceled instead")
        if self._departures.backlog.add("cancel", order.account_id, client_order_id):
            self._departures.cancelling.add(client_order_id)
            self._ledger.pend(order, Pending.CANCEL)
        else:
            self._ledger.decline(order, Pending.CANCEL, "CLOSED", "no more requests are taken")

    def _on_modify(self, command: ModifyOrder) -> None:
        order = self._cache.order(command.client_order_id)
        if order is None or order.is_closed:
            _log.info("nothing to modify", client_order_id=command.client_order_id)
            return
        cancelling = order.client_order_id in self._departures.cancelling
        is_asked = cancelling or order.pending is not None
        terms = self._admission.admit_modification(order, command, is_asked=is_asked)
        if isinstance(terms, Terms) and not self._departures.backlog.add(
            "modify", order.account_id, order.client_order_id
        ):
            terms = Denial("MODIFY_QUEUE_FULL", "too many modifications wait to be sent")
        if isinstance(terms, Denial):
            self._denials[terms.code] += 1
            self._ledger.decline(order, Pending.MODIFY, str(terms.code), terms.reason)
            return
        self._terms.ask(order, terms)
        self._ledger.pend(order, Pending.MODIFY, terms.quantity)

    def _settle(self, before: Order, order: Order) -> None:
        """An order changed, and nobody has heard of it yet."""
        self._terms.settle(order)
        self._in_flight.settle(order)
        self._owed.settle(order)
        unseen = not before.venue_order_ids and not before.filled_quantity
        if unseen and before.status in _CONCLUDED and not order.is_closed:
            self._revive(order)
        early = self._outcomes.early_cancels
        if order.client_order_id in early and (order.is_open or order.is_closed):
            early.discard(order.client_order_id)
            if order.is_open and self._departures.backlog.add(
                "cancel", order.account_id, order.client_order_id
            ):
                self._departures.cancelling.add(order.client_order_id)
        if order.is_closed and not before.is_closed:
            self._end_bracket(order)
        self._changed.unpark_all()

    def _end_bracket(self, entry: Order) -> None:
        """Exits of an entry that has filled rest now, those of another are gone: make sure of it.

        The venue need not tell of the latter, and a position is not to stand unprotected because
        what was told of the former was lost.
        """
        for order in self._brackets.end(entry.client_order_id):
            if order.is_open:
                self._in_flight.doubt(order, self._clock.monotonic_ns(), why="its entry has ended")

    def _revive(self, order: Order) -> None:
        """An order that was said to be nowhere is at the venue after all.

        Whoever ordered it has gone on without it, so that nobody looks after it: it has to go.
        """
        _log.warning(
            "order lives, though it was said to have ended: it is to be cancelled",
            client_order_id=order.client_order_id,
            strategy=order.strategy_id,
            instrument=order.instrument_id,
        )
        why = "it lives, though it was said to have ended"
        self._in_flight.doubt(order, self._clock.monotonic_ns(), why=why)
        self._owed.owe_soon(order)

    def _is_owed(self, account_id: AccountId, instrument_id: InstrumentId) -> bool:
        """Whether an order is in doubt that may have traded more of the instrument than we know."""
        orders = (self._cache.order(each.client_order_id) for each in self._in_flight.doubts())
        return any(
            order is not None
            and order.account_id == account_id
            and order.instrument_id == instrument_id
            for order in orders
        )

    def _on_halt(self, account_id: AccountId) -> None:
        """What an account holds is not known: what could add to it goes, what reduces it rests."""
        for order in self._live(None, None):
            if order.account_id == account_id and not order.reduce_only:
                self._owe_cancel(order)

    def _live(
        self, strategy_id: StrategyId | None, instrument_id: InstrumentId | None
    ) -> tuple[Order, ...]:
        live = self._cache.orders_live(strategy_id=strategy_id, instrument_id=instrument_id)
        return tuple(live)

    async def _none_live(
        self, strategy_id: StrategyId | None, instrument_id: InstrumentId | None
    ) -> None:
        while self._cache.live_count(strategy_id=strategy_id, instrument_id=instrument_id):
            await self._changed.park()

    def _cancel_result(self, asked: set[ClientOrderId]) -> CancelResult:
        orders = [self._cache.order(each) for each in sorted(asked)]
        known = [order for order in orders if order is not None]
        return CancelResult(
            cancelled=tuple(
                order.client_order_id for order in known if order.status is OrderStatus.CANCELED
            ),
            unverified=tuple(order.client_order_id for order in known if not order.is_closed),
        )


def _checked(take: Callable[[Any], None]) -> Callable[[Any], None]:
    """*take* for well-formed commands only: what could not be journalled goes no further."""

    def checked(command: Any) -> None:
        problem = check_command(command)
        if problem is None:
            take(command)
        else:
            _log.error("command not taken", problem=problem)

    return checked
