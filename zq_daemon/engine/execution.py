"""The execution engine: the only way an order leaves, and the only reader of what came of it.

Owns the order path: command, normalisation, gates and risk, tracked, queued, signed, its intent
durable in the journal, sent, concluded. An outcome that is not known is a state: the order stays in
flight and the inquiry asks about it. Orders that all have to go are owed a cancel until they ended.
It never raises for what a venue does; JournalError is fatal.
Strategies reach it by the bus (`order.submit`, `order.cancel`, `order.modify`, `order.cancel_all`),
the daemon hands it reports, runs `run` and, when it stops, calls `close_gate` and `cancel_all`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, assert_never

import structlog
import trio
from attrs import frozen

from zq_daemon.config.schema import LimitsConfig
from zq_daemon.core.bus import MessageBus
from zq_daemon.core.cache import Cache
from zq_daemon.core.portfolio import Portfolio
from zq_daemon.core.risk import Denial, RiskEngine
from zq_daemon.engine.backlog import Backlog, Group
from zq_daemon.engine.in_flight import InFlight
from zq_daemon.engine.inquiry import Inquiry, OrderQueries
from zq_daemon.engine.ledger import OrderLedger
from zq_daemon.engine.normalise import normalise, valid_terms
from zq_daemon.engine.outcomes import OutcomeReader
from zq_daemon.engine.owed_cancels import OwedCancels
from zq_daemon.engine.positions import PositionCheck
from zq_daemon.engine.reports import ReportReader
from zq_daemon.engine.terms import Terms, TermsInFlight
from zq_daemon.journal.journal import Journal
from zq_daemon.journal.record import Intent, IntentKind
from zq_daemon.model.command import CancelAllOrders, CancelOrder, ModifyOrder, SubmitOrder
from zq_daemon.model.event import TradingState
from zq_daemon.model.ids import AccountId, ClientOrderId, InstrumentId, StrategyId
from zq_daemon.model.order import Order, OrderStatus, OrderType, Pending
from zq_daemon.model.report import Report
from zq_daemon.ports.clock import Clock
from zq_daemon.venue.interface import Ambiguous, OrderEntry, Request

OWNER = "execution"
"""Its name on the bus: a fault of this owner is a fault of the daemon."""
_CONCLUDED = (OrderStatus.EXPIRED, OrderStatus.REJECTED)
"""Ends that were concluded without the order having been seen, and can prove wrong."""
_SLIPPAGE_BPS = 500

_log = structlog.get_logger("zq.execution")


@frozen(kw_only=True)
class CancelResult:
    """What became of the orders to be cancelled: *unverified* ones may still rest at the venue.

    Orders that turned out filled, refused or expired are in neither.
    """

    cancelled: tuple[ClientOrderId, ...]
    unverified: tuple[ClientOrderId, ...]


@frozen
class _Prepared:
    """A signed request and what to write down before it is sent."""

    kind: IntentKind
    account_id: AccountId
    request: Request
    intents: tuple[Intent, ...]


class ExecutionEngine:
    """Takes commands and reports synchronously; `run` does the waiting."""

    def __init__(
        self,
        *,
        bus: MessageBus,
        cache: Cache,
        portfolio: Portfolio,
        risk: RiskEngine,
        journal: Journal,
        clock: Clock,
        entries: Mapping[AccountId, OrderEntry],
        queries: Mapping[AccountId, OrderQueries],
        slippage_bps: Mapping[AccountId, int],
        limits: LimitsConfig,
        run_id: int,
        is_stale: Callable[[InstrumentId], bool],
        is_link_up: Callable[[AccountId], bool],
    ) -> None:
        """Register the command handlers; every account in *entries* also has *queries*.

        *slippage_bps* is how far a market order may reach through the book, 500 (5 %) if missing.
        """
        self._cache = cache
        self._risk = risk
        self._journal = journal
        self._clock = clock
        self._entries = entries
        self._slippage_bps = slippage_bps
        self._run_id = run_id
        self._is_stale = is_stale
        self._is_link_up = is_link_up
        self._gate_closed: str | None = None
        self._denials: Counter[str] = Counter()
        self._closed = trio.Event()
        self._cancelling: set[ClientOrderId] = set()
        self._backlog = Backlog(limit=limits.submit_queue)
        self._in_flight = InFlight()
        self._terms = TermsInFlight()
        self._ledger = OrderLedger(bus, cache, portfolio, clock)
        self._positions = PositionCheck(bus, cache, portfolio, clock, is_link_up)
        self._reports = ReportReader(
            bus=bus,
            cache=cache,
            portfolio=portfolio,
            clock=clock,
            ledger=self._ledger,
            in_flight=self._in_flight,
            terms=self._terms,
            positions=self._positions,
        )
        self._outcomes = OutcomeReader(
            cache=cache,
            clock=clock,
            ledger=self._ledger,
            in_flight=self._in_flight,
            terms=self._terms,
            reports=self._reports,
        )
        self._inquiry = Inquiry(
            queries=queries,
            cache=cache,
            clock=clock,
            ledger=self._ledger,
            in_flight=self._in_flight,
            reports=self._reports,
            positions=self._positions,
        )
        self._owed = OwedCancels(cache, clock, is_link_up, self._request_cancel)
        self._ledger.on_change(self._settle)
        self._take_commands(bus)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Journal and send what is queued; returns after `close`, when all of it has an outcome."""
        async with trio.open_nursery() as inquiries:
            inquiries.start_soon(self._inquiry.run)
            inquiries.start_soon(self._owed.run)
            task_status.started()
            async with trio.open_nursery() as sends:
                while groups := await self._backlog.take():
                    await self._dispatch(groups, sends)
            inquiries.cancel_scope.cancel()

    def close(self) -> None:
        """Take no more commands; what is queued is still sent, and `run` returns."""
        self._backlog.close()

    def on_report(self, report: Report) -> None:
        """Take one report of the venue; it may be repeated, late and in any order."""
        self._reports.read(report)

    def on_link_up(self) -> None:
        """A private link is up again: what waited for one is asked for now."""
        self._owed.on_link_up()
        self._positions.on_link_up()

    def close_gate(self, reason: str) -> None:
        """Let no new order leave from now on, also none that is queued; cancels still do."""
        self._gate_closed = reason
        _log.info("gate closed for new orders", reason=reason)

    def open_gate(self) -> None:
        """Let orders leave again."""
        self._gate_closed = None
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

    def stats(self) -> dict[str, Any]:
        """Counters for `status` and telemetry."""
        return {
            "gate_closed": self._gate_closed,
            "queued": self._backlog.waiting("submit"),
            "in_flight": len(self._in_flight),
            "denials": dict(self._denials),
            "outcomes": dict(self._outcomes.counts),
            "reports": dict(self._reports.counts()),
            "queries": self._inquiry.asked,
            "failed_queries": self._inquiry.failed,
            "owed_cancels": len(self._owed),
            "unknown_instruments": dict(self._reports.unknown_instruments()),
            "position_differences": dict(self._positions.told()),
        }

    def _take_commands(self, bus: MessageBus) -> None:
        bus.handle("order.submit", self._on_submit, owner=OWNER)
        bus.handle("order.cancel", self._on_cancel, owner=OWNER)
        bus.handle("order.modify", self._on_modify, owner=OWNER)
        bus.handle("order.cancel_all", self._on_cancel_all, owner=OWNER)

    def _on_submit(self, command: SubmitOrder) -> None:
        asked = command.order
        if self._cache.order(asked.client_order_id) is not None:
            _log.error("client order id used twice", client_order_id=asked.client_order_id)
            return
        order = self._admit(asked)
        if isinstance(order, Denial):
            self._deny(asked, order)
        elif not self._backlog.add("submit", order.account_id, order.client_order_id):
            self._deny(order, Denial("SUBMIT_QUEUE_FULL", "too many orders wait to be sent"))
        else:
            self._ledger.track(order)

    def _admit(self, asked: Order) -> Order | Denial:
        """The order as it may be sent, or why not."""
        denial = self._forbids(asked)
        if denial is not None:
            return denial
        slippage_bps = self._slippage_bps.get(asked.account_id, _SLIPPAGE_BPS)
        order = normalise(asked, self._cache, slippage_bps)
        if isinstance(order, Denial):
            return order
        return self._risk.check(order, self._clock.now_ns()) or order

    def _forbids(self, order: Order) -> Denial | None:
        """Reasons of ours, apart from risk, to let nothing leave that adds to the exposure."""
        if self._gate_closed is not None:
            return Denial("GATE_CLOSED", self._gate_closed)
        if order.account_id not in self._entries:
            return Denial("UNKNOWN_ACCOUNT", f"no order entry for account {order.account_id!r}")
        if not self._is_link_up(order.account_id):
            return Denial("LINK_DOWN", f"the private link of {order.account_id} is down")
        if self._is_stale(order.instrument_id) and not order.reduce_only:
            return Denial("STALE_MARKET_DATA", f"market data of {order.instrument_id} is stale")
        return None

    def _deny(self, order: Order, denial: Denial) -> None:
        self._denials[denial.code] += 1
        self._ledger.deny(order, str(denial.code), denial.reason)

    def _on_cancel(self, command: CancelOrder) -> None:
        order = self._cache.order(command.client_order_id)
        if order is None or order.is_closed:
            _log.info("nothing to cancel", client_order_id=command.client_order_id)
        elif self._withdraw(order) or order.client_order_id in self._cancelling:
            return
        elif not self._is_link_up(order.account_id):
            reason = f"the private link of {order.account_id} is down"
            self._ledger.decline(order, Pending.CANCEL, "LINK_DOWN", reason)
        else:
            self._request_cancel(order)

    def _on_cancel_all(self, command: CancelAllOrders) -> None:
        for order in self._live(command.strategy_id, command.instrument_id):
            self._owe_cancel(order)

    def _owe_cancel(self, order: Order) -> None:
        if not self._withdraw(order):
            self._owed.owe(order)

    def _withdraw(self, order: Order) -> bool:
        """Take an order back that has not been sent; False when it has."""
        if not self._backlog.withdraw("submit", order.client_order_id):
            return False
        self._ledger.cancel(order, "withdrawn before it was sent")
        return True

    def _request_cancel(self, order: Order) -> None:
        client_order_id = order.client_order_id
        if client_order_id in self._cancelling:
            return
        if self._backlog.withdraw("modify", client_order_id):
            order = self._ledger.refuse(order, Pending.MODIFY, "CANCELED", "canceled instead")
        if self._backlog.add("cancel", order.account_id, client_order_id):
            self._cancelling.add(client_order_id)
            self._ledger.pend(order, Pending.CANCEL)
        else:
            self._ledger.decline(order, Pending.CANCEL, "CLOSED", "no more requests are taken")

    def _on_modify(self, command: ModifyOrder) -> None:
        order = self._cache.order(command.client_order_id)
        if order is None or order.is_closed:
            _log.info("nothing to modify", client_order_id=command.client_order_id)
            return
        terms = self._admit_modification(order, command)
        if isinstance(terms, Terms) and not self._backlog.add(
            "modify", order.account_id, order.client_order_id
        ):
            terms = Denial("MODIFY_QUEUE_FULL", "too many modifications wait to be sent")
        if isinstance(terms, Denial):
            self._denials[terms.code] += 1
            self._ledger.decline(order, Pending.MODIFY, str(terms.code), terms.reason)
            return
        self._terms.ask(order, terms)
        self._ledger.pend(order, Pending.MODIFY, terms.quantity)

    def _admit_modification(self, order: Order, command: ModifyOrder) -> Terms | Denial:
        denial = self._forbids(order)
        if denial is not None:
            return denial
        if order.pending is not None or order.client_order_id in self._cancelling:
            return Denial("PENDING", "another request about the order has no outcome yet")
        if not order.is_open or order.order_type is OrderType.MARKET:
            return Denial("NOT_OPEN", "only a resting order can be modified")
        instrument = self._cache.instrument(order.instrument_id)
        if instrument is None:
            return Denial("UNKNOWN_INSTRUMENT", f"{order.instrument_id} is not known")
        asked_price = order.price if command.price is None else command.price
        asked_quantity = order.quantity if command.quantity is None else command.quantity
        valid = valid_terms(instrument, order.side, asked_price, asked_quantity)
        if isinstance(valid, Denial):
            return valid
        price, quantity = valid
        if (price, quantity) == (order.price, order.quantity):
            return Denial("NO_CHANGE", "the order has these terms already")
        refusal = self._risk.check_modify(order, price, quantity, self._clock.now_ns())
        return refusal or Terms(price, quantity)

    async def _dispatch(self, groups: Sequence[Group], sends: trio.Nursery) -> None:
        """Sign, make durable, and let go: nothing here waits for a venue."""
        prepared = [made for group in groups if (made := self._prepare(group)) is not None]
        intents = [intent for each in prepared for intent in each.intents]
        if intents:
            await self._journal.append(intents)
        for each in prepared:
            self._depart(each)
            sends.start_soon(self._send, each)

    def _prepare(self, group: Group) -> _Prepared | None:
        orders = self._still_wanted(group)
        try:
            request = self._sign(group, orders) if orders else None
        except ValueError:
            # One order that the venue cannot express must not take the others of its batch along.
            orders = [order for order in orders if self._is_expressible(group, order)]
            request = self._sign(group, orders) if orders else None
        if request is None:
            self._backlog.release(group.kind)
            return None
        intents = tuple(self._intent(group.kind, order, request) for order in orders)
        return _Prepared(group.kind, group.account_id, request, intents)

    def _sign(self, group: Group, orders: Sequence[Order]) -> Request | None:
        """The request; None for a modification that was decided while it waited."""
        entry = self._entries[group.account_id]
        match group.kind:
            case "submit":
                return entry.prepare_submit(orders)
            case "cancel":
                return entry.prepare_cancel(orders)
            case "modify":
                (order,) = orders
                terms = self._terms.get(order.client_order_id)
                if terms is None:
                    return None
                request = entry.prepare_modify(order, terms.price, terms.quantity)
                self._terms.sign(order)
                return request
            case _:
                assert_never(group.kind)

    def _is_expressible(self, group: Group, order: Order) -> bool:
        """Whether the venue can be asked this of *order*; if not, the asking ends here."""
        try:
            self._sign(group, (order,))
        except ValueError as error:
            if group.kind == "submit":
                self._deny(order, Denial("NOT_EXPRESSIBLE", str(error)))
            else:
                pending = Pending.CANCEL if group.kind == "cancel" else Pending.MODIFY
                self._ledger.refuse(order, pending, "NOT_EXPRESSIBLE", str(error))
                self._cancelling.discard(order.client_order_id)
            return False
        return True

    def _still_wanted(self, group: Group) -> list[Order]:
        """The group's orders as they now stand, without those that ended or may not leave."""
        found = []
        for client_order_id in group.client_order_ids:
            order = self._cache.order(client_order_id)
            if order is None or order.is_closed:
                if group.kind == "cancel":
                    self._cancelling.discard(client_order_id)
            elif group.kind == "submit" and (denial := self._forbids_departure()) is not None:
                self._deny(order, denial)
            else:
                found.append(order)
        return found

    def _forbids_departure(self) -> Denial | None:
        """What may have changed while an order was queued."""
        if self._gate_closed is not None:
            return Denial("GATE_CLOSED", self._gate_closed)
        if self._risk.state is TradingState.HALTED:
            return Denial("TRADING_HALTED", self._risk.state_reason)
        return None

    def _intent(self, kind: IntentKind, order: Order, request: Request) -> Intent:
        terms = self._terms.get(order.client_order_id) if kind == "modify" else None
        return Intent(
            kind=kind,
            run_id=self._run_id,
            account_id=order.account_id,
            strategy_id=order.strategy_id,
            instrument_id=order.instrument_id,
            client_order_id=order.client_order_id,
            venue_order_id=order.venue_order_id,
            side=order.side,
            order_type=order.order_type,
            time_in_force=order.time_in_force,
            post_only=order.post_only,
            reduce_only=order.reduce_only,
            price=order.price if terms is None else terms.price,
            quantity=order.quantity if terms is None else terms.quantity,
            nonce=request.nonce,
            expires_ns=request.expires_ns,
            action_hash=request.action_hash.hex(),
            ts_event_ns=self._clock.now_ns(),
        )

    def _depart(self, prepared: _Prepared) -> None:
        """The intent is durable: from here on the venue may know more than we do."""
        request = prepared.request
        for client_order_id in request.client_order_ids:
            order = self._cache.order(client_order_id)
            if order is None or order.is_closed:
                continue
            if prepared.kind == "submit":
                order = self._ledger.submitted(self._ledger.journalled(order, request))
            self._in_flight.begin(
                order,
                now_ns=self._clock.now_ns(),
                monotonic_ns=self._clock.monotonic_ns(),
                expires_ns=request.expires_ns,
            )

    async def _send(self, prepared: _Prepared) -> None:
        request = prepared.request
        try:
            outcomes = await self._entries[prepared.account_id].send(request)
        finally:
            self._backlog.release(prepared.kind)
            if prepared.kind == "cancel":
                self._cancelling.difference_update(request.client_order_ids)
        asked = len(request.client_order_ids)
        if len(outcomes) != asked:
            outcomes = [Ambiguous(detail=f"{len(outcomes)} answers for {asked} orders")] * asked
        for client_order_id, outcome in zip(request.client_order_ids, outcomes, strict=True):
            self._outcomes.read(prepared.kind, client_order_id, outcome)

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
            if order.is_open and self._backlog.add(
                "cancel", order.account_id, order.client_order_id
            ):
                self._cancelling.add(order.client_order_id)
        if order.is_closed:
            self._closed.set()
            self._closed = trio.Event()

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
        self._in_flight.doubt(order, self._clock.monotonic_ns())
        self._owed.owe_soon(order)

    def _live(
        self, strategy_id: StrategyId | None, instrument_id: InstrumentId | None
    ) -> tuple[Order, ...]:
        live = self._cache.orders_live(strategy_id=strategy_id, instrument_id=instrument_id)
        return tuple(live)

    async def _none_live(
        self, strategy_id: StrategyId | None, instrument_id: InstrumentId | None
    ) -> None:
        while self._cache.live_count(strategy_id=strategy_id, instrument_id=instrument_id):
            await self._closed.wait()

    def _cancel_result(self, asked: set[ClientOrderId]) -> CancelResult:
        orders = [self._cache.order(each) for each in sorted(asked)]
        known = [order for order in orders if order is not None]
        return CancelResult(
            cancelled=tuple(
                order.client_order_id for order in known if order.status is OrderStatus.CANCELED
            ),
            unverified=tuple(order.client_order_id for order in known if not order.is_closed),
        )
