"""From the queue to the wire: signed, the intent durable, sent, and the outcome read.

Owns the rule the product stands on: no byte of a request leaves before its intent is durable in the
journal. It decides nothing about orders: whether one may still leave it asks the execution engine,
what an answer means it leaves to the reader of outcomes. Part of the execution engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import assert_never

import trio
from attrs import frozen

from zq_daemon.core.risk import Denial
from zq_daemon.engine.backlog import Backlog, Group
from zq_daemon.engine.in_flight import InFlight
from zq_daemon.engine.ledger import OrderLedger
from zq_daemon.engine.outcomes import OutcomeReader
from zq_daemon.journal.journal import Journal
from zq_daemon.journal.record import Intent, IntentKind
from zq_daemon.model.ids import AccountId, ClientOrderId
from zq_daemon.model.order import Order, Pending
from zq_daemon.ports.clock import Clock
from zq_daemon.venue.interface import Ambiguous, Modification, OrderEntry, Outcome, Request


@frozen
class _Prepared:
    """A signed request and what to write down before it is sent."""

    kind: IntentKind
    account_id: AccountId
    request: Request
    intents: tuple[Intent, ...]


class Departures:
    """What waits in *backlog* leaves while `run` does; *cancelling* have a cancel under way."""

    def __init__(
        self,
        *,
        journal: Journal,
        clock: Clock,
        entries: Mapping[AccountId, OrderEntry],
        ledger: OrderLedger,
        in_flight: InFlight,
        outcomes: OutcomeReader,
        limit: int,
        run_id: int,
        forbids: Callable[[Order], Denial | None],
        deny: Callable[[Order, Denial], None],
    ) -> None:
        """*forbids* says why a new order may not leave now, *deny* ends one that may not."""
        self.backlog = Backlog(limit=limit)
        self.cancelling: set[ClientOrderId] = set()
        self._is_abandoned = False
        self._waiting: set[trio.CancelScope] = set()
        self._journal = journal
        self._cache = journal.state.cache
        self._terms = journal.state.terms
        self._clock = clock
        self._entries = entries
        self._ledger = ledger
        self._in_flight = in_flight
        self._outcomes = outcomes
        self._run_id = run_id
        self._forbids = forbids
        self._deny = deny

    async def run(self) -> None:
        """Journal and send what is queued; returns after `close`, when all has an outcome."""
        async with trio.open_nursery() as sends:
            while groups := await self.backlog.take():
                await self._dispatch(groups, sends)

    def close(self) -> None:
        """Take nothing new; what is queued still leaves, and `run` returns."""
        self.backlog.close()

    def abandon(self) -> None:
        """Wait for no answer any more, and send no more: what is under way stays unknown."""
        self._is_abandoned = True
        for scope in self._waiting:
            scope.cancel()

    async def _dispatch(self, groups: Sequence[Group], sends: trio.Nursery) -> None:
        """Sign, make durable, and let go: nothing here waits for a venue."""
        prepared = [made for group in groups if (made := self._prepare(group)) is not None]
        for each in prepared:
            for intent in each.intents:
                self._journal.write_intent(intent)
        if prepared:
            await self._journal.durable()
        for each in prepared:
            denial = self._denial_of(each)
            if denial is None:
                self._depart(each)
                sends.start_soon(self._send, each)
            else:
                self._keep_back(each, denial)

    def _denial_of(self, prepared: _Prepared) -> Denial | None:
        """Why one of what was signed may not leave any more, and so none of it; None: all may."""
        if prepared.kind != "submit":
            return None
        denials = (self._forbids(order) for order in self._live(prepared.request))
        return next((denial for denial in denials if denial is not None), None)

    def _keep_back(self, prepared: _Prepared, denial: Denial) -> None:
        """It was forbidden while the intent was being written: it is in the journal, no more."""
        self.backlog.release(prepared.kind)
        for order in self._live(prepared.request):
            self._deny(order, denial)

    def _live(self, request: Request) -> Iterator[Order]:
        for client_order_id in request.client_order_ids:
            order = self._cache.order(client_order_id)
            if order is not None and not order.is_closed:
                yield order

    def _prepare(self, group: Group) -> _Prepared | None:
        orders = self._still_wanted(group)
        if group.kind == "submit" and orders and orders[0].parent_id is not None:
            self._deny_all(orders, Denial("NO_ENTRY", "the entry that it is an exit of is gone"))
            orders = []
        try:
            request = self._sign(group, orders) if orders else None
        except ValueError as error:
            orders = self._expressible(group, orders, error)
            request = self._sign(group, orders) if orders else None
        if request is None:
            self.backlog.release(group.kind)
            return None
        intents = tuple(self._intent(group.kind, order, request) for order in orders)
        return _Prepared(group.kind, group.account_id, request, intents)

    def _sign(self, group: Group, orders: Sequence[Order]) -> Request:
        entry = self._entries[group.account_id]
        match group.kind:
            case "submit":
                return entry.prepare_submit(orders)
            case "cancel":
                return entry.prepare_cancel(orders)
            case "modify":
                request = entry.prepare_modify(self._changes(orders))
                for order in orders:
                    self._terms.sign(order)
                return request
            case _:
                assert_never(group.kind)

    def _changes(self, orders: Sequence[Order]) -> list[Modification]:
        """What *orders*, of which that is asked, shall be."""
        asked = [(order, self._terms.get(order.client_order_id)) for order in orders]
        return [
            Modification(order, terms.price, terms.quantity)
            for order, terms in asked
            if terms is not None
        ]

    def _expressible(self, group: Group, orders: Sequence[Order], error: ValueError) -> list[Order]:
        """One order that the venue cannot express must not take the others of its batch along.

        But for a bracket's, of which there is all or nothing.
        """
        if group.kind == "submit" and any(order.parent_id is not None for order in orders):
            self._deny_all(orders, Denial("NOT_EXPRESSIBLE", str(error)))
            return []
        return [order for order in orders if self._is_expressible(group, order)]

    def _deny_all(self, orders: Sequence[Order], denial: Denial) -> None:
        for order in orders:
            self._deny(order, denial)

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
                self.cancelling.discard(order.client_order_id)
            return False
        return True

    def _still_wanted(self, group: Group) -> list[Order]:
        """The group's orders as they now stand, without those that ended or may not leave."""
        found = []
        for client_order_id in group.client_order_ids:
            order = self._cache.order(client_order_id)
            if order is None or order.is_closed:
                if group.kind == "cancel":
                    self.cancelling.discard(client_order_id)
            elif group.kind == "submit" and (denial := self._forbids(order)) is not None:
                self._deny(order, denial)
            elif group.kind != "modify" or self._terms.get(client_order_id) is not None:
                found.append(order)  # a modification may have been decided while it waited
        return found

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
            trigger_price=order.trigger_price,
            quantity=order.quantity if terms is None else terms.quantity,
            nonce=request.nonce,
            expires_ns=request.expires_ns,
            action_hash=request.action_hash.hex(),
            ts_event_ns=self._clock.now_ns(),
        )

    def _depart(self, prepared: _Prepared) -> None:
        """The intent is durable: from here on the venue may know more than we do."""
        request = prepared.request
        for order in self._live(request):
            if prepared.kind == "submit":
                order = self._ledger.depart(order, request.nonce, request.expires_ns)
            self._in_flight.begin(
                order,
                now_ns=self._clock.now_ns(),
                monotonic_ns=self._clock.monotonic_ns(),
                expires_ns=request.expires_ns,
                brings=prepared.kind != "cancel",
            )

    async def _send(self, prepared: _Prepared) -> None:
        request = prepared.request
        outcomes: Sequence[Outcome] = ()
        with trio.CancelScope() as scope:
            self._waiting.add(scope)
            if self._is_abandoned:
                scope.cancel()
            try:
                outcomes = await self._entries[prepared.account_id].send(request)
            finally:
                self._waiting.discard(scope)
                self.backlog.release(prepared.kind)
                if prepared.kind == "cancel":
                    self.cancelling.difference_update(request.client_order_ids)
        if scope.cancelled_caught:
            return
        asked = len(request.client_order_ids)
        if len(outcomes) != asked:
            outcomes = [Ambiguous(detail=f"{len(outcomes)} answers for {asked} orders")] * asked
        for client_order_id, outcome in zip(request.client_order_ids, outcomes, strict=True):
            self._outcomes.read(prepared.kind, client_order_id, outcome)
