"""The one place where an event takes effect: journal, order state, cache, portfolio, then the bus.

Owns that order of things. Events are not waited for: those that a crash takes are
learnt from the venue again. It decides nothing: the execution engine, the reader of
reports and the inquiry hand it evidence. Who must know of a change before the subscribers do (what
is in flight, who waits for evidence) listens through `on_change`.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import structlog

from zq_daemon.core import topics
from zq_daemon.core.bus import MessageBus
from zq_daemon.core.order_state import apply
from zq_daemon.core.synthesis import replaced_by
from zq_daemon.engine.order_lines import OrderLines, of_fill
from zq_daemon.journal.journal import Journal
from zq_daemon.journal.record import Declined, ExternalFill, PositionsAgreed, StatementAdopted
from zq_daemon.model.account import Account
from zq_daemon.model.event import (
    AccountUpdated,
    FundingPaid,
    OrderAccepted,
    OrderCanceled,
    OrderDenied,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderHeld,
    OrderInitialized,
    OrderJournalled,
    OrderModified,
    OrderPending,
    OrderPendingRejected,
    OrderRejected,
    OrderReopened,
    OrderSubmitted,
    PositionChanged,
)
from zq_daemon.model.fill import Fill
from zq_daemon.model.ids import AccountId, ClientOrderId, StrategyId, VenueOrderId
from zq_daemon.model.order import Order, OrderStatus, Pending
from zq_daemon.model.position import Position
from zq_daemon.model.report import CancelReport, OrderReport
from zq_daemon.ports.clock import Clock

EXTERNAL = StrategyId("external")
"""Stands in events for the owner of fills that belong to no order of ours."""
_log = structlog.get_logger("zq.orders")


class OrderLedger:
    """Applies evidence; everything is journalled and in cache and portfolio before it is published.

    Every method that takes an order expects it as the cache has it, and returns it as it then
    stands. What tells nothing new is not published.
    """

    def __init__(self, bus: MessageBus, journal: Journal, clock: Clock) -> None:
        """Cache and portfolio are those of the journal's state."""
        self._bus = bus
        self._journal = journal
        self._cache = journal.state.cache
        self._portfolio = journal.state.portfolio
        self._seen = journal.state.seen
        self._clock = clock
        self._listeners: list[Callable[[Order, Order], None]] = []
        self._lines = OrderLines(clock)

    def on_change(self, listener: Callable[[Order, Order], None]) -> None:
        """Call *listener* with every order before and after a change, ahead of any subscriber."""
        self._listeners.append(listener)

    def track(self, order: Order) -> None:
        """Begin to track an order that was asked for."""
        event = OrderInitialized(order=order, **self._about(order))
        self._journal.write_order(event, closed=False)
        self._cache.put_order(order)
        self._publish(event, order)

    def deny(self, order: Order, code: str, reason: str) -> Order:
        """Our own checks stopped the order before it left, tracked already or not.

        A flood of denials that the disk cannot keep up with is told, but neither journalled nor
        remembered: a strategy gone wild must not fill the journal of the others.
        """
        event = OrderDenied(code=code, reason=reason, **self._about(order))
        if self._cache.order(order.client_order_id) is None:
            if not self._journal.has_room:
                self._publish(event, order)
                return order
            asked = OrderInitialized(order=order, **self._about(order))
            self._journal.write_order(asked, closed=False)
        return self._record(order, event)

    def depart(self, order: Order, nonce: int, expires_ns: int | None) -> Order:
        """The intent is durable and the order is about to leave: two steps at once."""
        about = self._about(order)
        steps = (
            OrderJournalled(nonce=nonce, expires_ns=expires_ns, **about),
            OrderSubmitted(**about),
        )
        updated = self._keep(order, *steps)
        if updated is not order:
            for step in steps:
                self._publish(step, updated)
        return updated

    def accept(self, order: Order, venue_order_id: VenueOrderId) -> Order:
        """The venue has the order."""
        event = OrderAccepted(venue_order_id=venue_order_id, **self._about(order))
        return self._record(order, event)

    def hold(self, order: Order) -> Order:
        """The venue has the order and holds it until its parent has filled."""
        return self._record(order, OrderHeld(**self._about(order)))

    def reject(self, order: Order, code: str, reason: str) -> Order:
        """The venue definitely refused the order, or it definitely never left."""
        return self._record(order, OrderRejected(code=code, reason=reason, **self._about(order)))

    def cancel(self, order: Order, reason: str) -> Order:
        """The order is off the book, under whatever venue order id."""
        event = OrderCanceled(venue_order_id=None, reason=reason, **self._about(order))
        return self._record(order, event)

    def expire(self, order: Order, reason: str) -> Order:
        """The order's validity ended, and nobody has ever seen it at the venue."""
        return self._record(order, OrderExpired(reason=reason, **self._about(order)))

    def close(self, order: Order, report: OrderReport | CancelReport) -> Order:
        """The venue says that its order of that id has ended, other than by fills."""
        about = self._about(order) | {"venue_order_id": report.venue_order_id}
        status = OrderStatus.CANCELED if isinstance(report, CancelReport) else report.status
        closing = _closing(status, "VENUE_REJECTED", report.reason, about)
        return self._record(order, closing)

    def pend(self, order: Order, pending: Pending, quantity: Decimal | None = None) -> Order:
        """A cancel, or a modification to a new total *quantity*, was asked for."""
        event = OrderPending(pending=pending, quantity=quantity, **self._about(order))
        return self._record(order, event)

    def decline(self, order: Order, pending: Pending, code: str, reason: str) -> None:
        """A cancel or modification was not even begun: the order, and what it waits for, stay."""
        about = self._about(order)
        event = OrderPendingRejected(pending=pending, code=code, reason=reason, **about)
        self._write_declined(event)
        self._publish(event, order)

    def refuse(self, order: Order, pending: Pending, code: str, reason: str) -> Order:
        """A cancel or modification came to nothing; always published, as somebody asked for it."""
        event = OrderPendingRejected(
            pending=pending, code=code, reason=reason, **self._about(order)
        )
        updated = self._keep(order, event)
        if updated is order:
            self._write_declined(event)
        self._publish(event, updated)
        if updated.is_closed and not order.is_closed and updated.status is not OrderStatus.FILLED:
            self._publish_held_closing(updated)
        return updated

    def modify(
        self, order: Order, venue_order_id: VenueOrderId, price: Decimal | None, quantity: Decimal
    ) -> Order:
        """The order rests under new terms; *quantity* is the total."""
        about = self._about(order)
        # Where our clock was set back: what is newer is not to look older.
        about["ts_event_ns"] = max(about["ts_event_ns"], order.ts_modified_ns or 0)
        event = OrderModified(
            venue_order_id=venue_order_id, price=price, quantity=quantity, **about
        )
        return self._record(order, event)

    def reopen(self, order: Order, report: OrderReport) -> Order:
        """The venue has the order, which was said to have ended, resting in its book."""
        event = OrderReopened(
            venue_order_id=report.venue_order_id,
            remaining=report.remaining,
            **self._about(order),
        )
        return self._record(order, event)

    def fill(
        self,
        order: Order,
        fill: Fill,
        *,
        stated: bool = False,
        outgrown: bool = False,
        rests: bool = False,
    ) -> Order:
        """An execution of *order*; the position follows, unless it was *stated* with the fill.

        *outgrown*: the total quantity grows by it, *rests*: it is a synthetic one of an order that
        rests, see `OrderFilled`. A synthetic fill that was booked for want of this one is taken
        back.
        """
        about = self._about(order) | {"ts_event_ns": fill.ts_event_ns}
        if (replaced := replaced_by(order, fill)) is not None and order.synthetic is not None:
            stated = stated or order.synthetic.stated
        event = OrderFilled(
            fill=fill, stated=stated, outgrown=outgrown, rests=rests, replaces=replaced, **about
        )
        updated = self._keep(order, event)
        if updated is not order:
            self._seen.add(fill)
            position = self._portfolio.on_fill(
                fill, order.strategy_id, stated=stated, replaces=replaced
            )
            self._cache.put_position(position)
            self._publish(event, updated)
            self._publish_position(position, fill.ts_event_ns)
        return updated

    def fill_external(self, fill: Fill) -> None:
        """An execution on our account that none of our orders explains."""
        self._journal.know(fill.instrument_id)
        self._journal.write(ExternalFill(fill))
        self._seen.add(fill)
        position = self._portfolio.on_fill(fill, None)
        self._cache.put_position(position)
        event = OrderFilled(
            client_order_id=fill.client_order_id or ClientOrderId("external"),
            strategy_id=EXTERNAL,
            instrument_id=fill.instrument_id,
            ts_event_ns=fill.ts_event_ns,
            fill=fill,
        )
        _log.warning("external fill", **of_fill(fill), venue_order_id=fill.venue_order_id)
        self._bus.publish(topics.order(event), event)
        self._publish_position(position, fill.ts_event_ns)

    def fund(self, funding: FundingPaid) -> None:
        """Funding settled on a position."""
        self._journal.know(funding.instrument_id)
        self._journal.write(funding)
        self._seen.add(funding)
        position = self._portfolio.on_funding(funding)
        self._cache.put_position(position)
        self._bus.publish(topics.funding(funding.account_id, funding.instrument_id), funding)
        self._publish_position(position, funding.ts_event_ns)

    def adopt_statement(self, adopted: StatementAdopted) -> None:
        """Take over the venue's positions."""
        for report in adopted.positions:
            self._journal.know(report.instrument_id)
        self._journal.write(adopted)
        for report in adopted.positions:
            position = self._portfolio.set_position(report)
            self._cache.put_position(position)
            self._publish_position(position, report.ts_event_ns)

    def agree(self, account_id: AccountId, stated_ns: int) -> None:
        """Our positions are those of the statement of *stated_ns*."""
        self._journal.write(PositionsAgreed(account_id=account_id, ts_event_ns=stated_ns))

    def state_account(self, account: Account) -> None:
        """The venue stated an account anew; to be published when all of the statement is read."""
        self._journal.write(AccountUpdated(account=account, ts_event_ns=account.ts_event_ns))
        self._cache.put_account(account)
        self._portfolio.on_account(account)

    def _write_declined(self, event: OrderPendingRejected) -> None:
        """It changes nothing: a flood of them is not worth a place where the disk lags behind."""
        if self._journal.has_room:
            self._journal.write(Declined(event))

    def _record(self, order: Order, event: OrderEvent) -> Order:
        updated = self._keep(order, event)
        if updated is order:
            return order
        is_closing = isinstance(event, (OrderCanceled, OrderRejected, OrderExpired))
        # A close that is held is no news yet; one more reason for an end is none any more.
        if not is_closing or (updated.is_closed and updated.status is not order.status):
            self._publish(event, updated)
        return updated

    def _keep(self, order: Order, *events: OrderEvent) -> Order:
        updated = order
        for event in events:
            before, updated = updated, apply(updated, event)
            if updated is not before:
                self._journal.write_order(event, closed=updated.is_closed)
        if updated is not order:
            self._cache.put_order(updated)
            for listener in self._listeners:
                listener(order, updated)
        return updated

    def _publish_held_closing(self, order: Order) -> None:
        about = self._about(order) | {"venue_order_id": order.venue_order_id}
        event = _closing(order.status, "VENUE_REJECTED", order.reason, about)
        self._publish(event, order)

    def _publish(self, event: OrderEvent, order: Order) -> None:
        self._lines.tell(event, order)
        self._bus.publish(topics.order(event), event)

    def _publish_position(self, position: Position, ts_event_ns: int) -> None:
        topic = topics.position(position.account_id, position.instrument_id)
        self._bus.publish(topic, PositionChanged(position=position, ts_event_ns=ts_event_ns))

    def _about(self, order: Order) -> dict[str, Any]:
        return {
            "client_order_id": order.client_order_id,
            "strategy_id": order.strategy_id,
            "instrument_id": order.instrument_id,
            "ts_event_ns": self._clock.now_ns(),
        }


def _closing(
    status: OrderStatus, code: str, reason: str, about: dict[str, Any]
) -> OrderCanceled | OrderRejected | OrderExpired:
    if status is OrderStatus.REJECTED:
        return OrderRejected(code=code, reason=reason, **about)
    if status is OrderStatus.EXPIRED:
        return OrderExpired(reason=reason, **about)
    return OrderCanceled(reason=reason, **about)
