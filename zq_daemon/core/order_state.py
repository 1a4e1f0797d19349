"""The order state machine: one order and one event give the order as it then stands.

Owns every rule about how an order's state follows from evidence. It never does I/O, reads no clock
and keeps nothing: the caller (the execution engine, and the replay of its journal) holds the order.

Status is a function of the evidence collected so far, not of the order in which it arrived:

| evidence                                                   | status           |
|------------------------------------------------------------|------------------|
| distinct fills reach the quantity                          | FILLED           |
| the current venue order id was closed, or a cancel of the  | CANCELED,        |
| whole client order id was confirmed                        | REJECTED, EXPIRED|
| some fill                                                  | PARTIALLY_FILLED |
| an acknowledgement (accepted, held or modified)            | ACCEPTED         |
| a denial, refusal or expiry that names no venue order id   | DENIED, …        |
| nothing of the above                                       | INITIALIZED, JOURNALLED, SUBMITTED |

The first row that holds decides. So nothing moves backwards, with five exceptions in which newer
evidence disproves older:

- a refusal or expiry without a venue order id is a conclusion about something not seen; an
  acknowledgement or a fill proves that the venue did take the order, which is then open again:
  an order wrongly held open is queried and found out, one wrongly held closed is lost;
- a close of an id that turns out to have been replaced by a newer id leaves the order open;
- a confirmed modification may raise the quantity of an order whose old quantity was filled;
- a fill that arrives after the close of a part-filled order is booked, and may complete it;
- an order that statement after statement of the venue lists as resting does rest (`OrderReopened`),
  whatever spoke for its end.

Modification by cancel-replace: the venue cancels the old id and opens a new one, and the two
messages come in either order. While a modification is pending, a close of the order's id is
ambiguous (is it the replacement, or the end?), so it is remembered and *held*: the order stays open
and in flight until `OrderModified` (the new id lives) or `OrderPendingRejected` (nothing replaced
it: the held close takes effect) arrives. Fills that reach the quantity are held likewise: they may
be the replacement's, of which more rests. Whoever finds by query that no newer id exists must say
so with `OrderPendingRejected`. A cancel requested meanwhile does not hide the pending modification.
A fill that nobody knew of when the replacement was signed (`OrderFilled.outgrown`) adds to the
quantity in the same step: with half of that the order would be filled too early, or never.
Confirmations of successive modifications of one order must be applied in the order they were
requested, which holds because only one can be in flight; everything else may come in any order,
late, and repeatedly.
"""

from __future__ import annotations

from typing import Any, assert_never

from attrs import evolve

from zq_daemon.core.synthesis import synthetic_after
from zq_daemon.errors import OrderError
from zq_daemon.model.event import (
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
)
from zq_daemon.model.ids import VenueOrderId
from zq_daemon.model.money import EXACT, ZERO
from zq_daemon.model.order import TERMINAL, Closing, Order, OrderStatus, Pending

_KEPT = 32
"""Ids and closings remembered of one order: a quote that is modified all day stays small."""

_STAGES = (OrderStatus.INITIALIZED, OrderStatus.JOURNALLED, OrderStatus.SUBMITTED)
_STRENGTH = {
    OrderStatus.DENIED: 0,
    OrderStatus.REJECTED: 1,
    OrderStatus.EXPIRED: 2,
    OrderStatus.CANCELED: 3,
}

_set = object.__setattr__


def apply(order: Order, event: OrderEvent) -> Order:
    """*order* after *event*; the same object when the event tells nothing new.

    Raises OrderError when the event names another order.
    """
    if event.client_order_id != order.client_order_id:
        raise OrderError(
            f"{type(event).__name__} is for order {event.client_order_id}, "
            f"not for {order.client_order_id}"
        )
    changed = _take(order, event)
    return order if changed is order else _settle(changed, event.ts_event_ns)


def _take(order: Order, event: OrderEvent) -> Order:
    """Add the event's evidence, without drawing the conclusion."""
    match event:
        case OrderInitialized():
            return order
        case OrderJournalled():
            return _advance(order, OrderStatus.JOURNALLED)
        case OrderSubmitted():
            return _advance(order, OrderStatus.SUBMITTED)
        case OrderAccepted():
            return _accept(order, event.venue_order_id)
        case OrderDenied():
            return _close(order, Closing(None, OrderStatus.DENIED, event.reason))
        case OrderRejected():
            return _close(order, Closing(event.venue_order_id, OrderStatus.REJECTED, event.reason))
        case OrderCanceled():
            return _close(order, Closing(event.venue_order_id, OrderStatus.CANCELED, event.reason))
        case OrderExpired():
            return _close(order, Closing(event.venue_order_id, OrderStatus.EXPIRED, event.reason))
        case OrderPending():
            return _request(order, event)
        case OrderPendingRejected():
            return _request_refused(order, event)
        case OrderModified():
            return _modify(order, event)
        case OrderReopened():
            return _reopen(order, event)
        case OrderHeld():
            return order if order.is_held else _with(order, is_held=True)
        case OrderFilled():
            return _fill(order, event)
        case _:
            assert_never(event)


def _advance(order: Order, stage: OrderStatus) -> Order:
    if order.status in _STAGES and _STAGES.index(order.status) < _STAGES.index(stage):
        return _with(order, status=stage)
    return order


def _accept(order: Order, venue_order_id: VenueOrderId) -> Order:
    known = order.venue_order_ids
    if venue_order_id in known:
        return order
    if order.ts_modified_ns is not None:  # the late acknowledgement of a replaced id
        return _with(order, venue_order_ids=(venue_order_id, *known)[-_KEPT:])
    return _with(order, venue_order_ids=(*known, venue_order_id)[-_KEPT:])


def _close(order: Order, closing: Closing) -> Order:
    if closing.venue_order_id in order.venue_order_ids[:-1]:
        return order
    evidence = (closing.venue_order_id, closing.status)
    if any((known.venue_order_id, known.status) == evidence for known in order.closings):
        return order
    return _with(order, closings=(*order.closings, closing)[-_KEPT:])


def _request(order: Order, event: OrderPending) -> Order:
    if order.is_closed or order.pending in (event.pending, Pending.MODIFY):
        return order
    return _with(order, pending=event.pending, pending_quantity=event.quantity)


def _request_refused(order: Order, event: OrderPendingRejected) -> Order:
    if order.pending is not event.pending:
        return order
    return _with(order, pending=None, pending_quantity=None, reason=event.reason)


def _modify(order: Order, event: OrderModified) -> Order:
    known = order.venue_order_ids
    if known and event.venue_order_id == known[-1]:
        if _is_stale(order, event):
            return order
        ids = known
    elif event.venue_order_id in known:
        return order
    else:
        ids = (*known, event.venue_order_id)[-_KEPT:]
    decided = order.pending is Pending.MODIFY
    return _with(
        order,
        venue_order_ids=ids,
        price=order.price if event.price is None else event.price,
        quantity=event.quantity,
        pending=None if decided else order.pending,
        pending_quantity=None if decided else order.pending_quantity,
        ts_modified_ns=event.ts_event_ns,
    )


def _is_stale(order: Order, event: OrderModified) -> bool:
    """Whether a modification of the current id says nothing new (a venue that keeps the id)."""
    if order.ts_modified_ns is None:
        return False
    same = event.price in (None, order.price) and event.quantity == order.quantity
    return same or event.ts_event_ns < order.ts_modified_ns


def _fill(order: Order, event: OrderFilled) -> Order:
    fill = event.fill
    if fill.trade_id in order.trade_ids:
        return order
    grown = fill.quantity if event.outgrown else ZERO
    quantity, notional = order.filled_quantity, order.filled_notional
    if (replaced := event.replaces) is not None:
        if event.outgrown:
            grown = EXACT.subtract(grown, replaced.quantity)
        quantity = EXACT.subtract(quantity, replaced.quantity)
        notional = EXACT.subtract(notional, replaced.notional)
    if fill.is_synthetic or replaced is not None:
        synthetic = synthetic_after(order, event)
        order = _with(order, synthetic=synthetic)
    return _with(
        order,
        quantity=EXACT.add(order.quantity, grown) if grown else order.quantity,
        venue_order_id=order.venue_order_id or fill.venue_order_id,
        filled_quantity=EXACT.add(quantity, fill.quantity),
        filled_notional=EXACT.add(notional, fill.notional),
        fees=EXACT.add(order.fees, fill.fee),
        trade_ids=order.trade_ids | {fill.trade_id},
    )


def _reopen(order: Order, event: OrderReopened) -> Order:
    if not order.is_closed:
        return order
    known = order.venue_order_ids
    if event.venue_order_id not in known:
        known = (*known, event.venue_order_id)[-_KEPT:]
    total = EXACT.add(order.filled_quantity, event.remaining)
    synthetic = order.synthetic
    if synthetic is not None and synthetic.until_ns is None:
        synthetic = evolve(synthetic, until_ns=event.ts_event_ns)  # it trades on from now
    return _with(
        order,
        closings=(),
        venue_order_ids=known,
        quantity=max(order.quantity, total),
        synthetic=synthetic,
    )


def _settle(order: Order, ts_event_ns: int) -> Order:
    """Draw the conclusion from the evidence, in *order*, which nobody else has seen yet."""
    closing = _closing(order) if order.closings else None
    status = _status(order, closing)
    current = _current_id(order, closing)
    if status in TERMINAL:
        _set(order, "pending", None)
        _set(order, "pending_quantity", None)
    if closing is not None and status is closing.status:
        _set(order, "reason", closing.reason)
    if status is not order.status:
        _set(order, "status", status)
    if current is not order.venue_order_id:
        _set(order, "venue_order_id", current)
    if ts_event_ns > order.ts_last_ns:
        _set(order, "ts_last_ns", ts_event_ns)
    return order


def _status(order: Order, closing: Closing | None) -> OrderStatus:
    is_decided = order.pending is not Pending.MODIFY or closing is not None
    if is_decided and order.filled_quantity and order.filled_quantity >= order.quantity:
        return OrderStatus.FILLED
    if closing is not None:
        return closing.status
    if order.filled_quantity:
        return OrderStatus.PARTIALLY_FILLED
    if order.venue_order_ids or order.is_held:
        return OrderStatus.ACCEPTED
    return order.status


def _closing(order: Order) -> Closing | None:
    """The strongest closing that nothing speaks against (the first of equals)."""
    holding = [closing for closing in order.closings if _holds(order, closing)]
    return max(holding, key=lambda closing: _STRENGTH[closing.status], default=None)


def _holds(order: Order, closing: Closing) -> bool:
    if closing.venue_order_id is None:
        unseen = not order.venue_order_ids and not order.filled_quantity
        return unseen or closing.status is OrderStatus.CANCELED
    if order.pending is Pending.MODIFY:
        return False
    return not order.venue_order_ids or closing.venue_order_id == order.venue_order_ids[-1]


def _current_id(order: Order, closing: Closing | None) -> VenueOrderId | None:
    if order.venue_order_ids:
        return order.venue_order_ids[-1]
    if order.venue_order_id is None and closing is not None:
        return closing.venue_order_id
    return order.venue_order_id


def _with(order: Order, **changes: Any) -> Order:
    return order.with_changes(changes)
