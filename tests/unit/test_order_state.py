"""The order state machine: each rule of its docstring, one history a test."""

from __future__ import annotations

from decimal import Decimal

import pytest
from attrs import evolve

from zq_daemon.core.order_state import apply
from zq_daemon.errors import OrderError
from zq_daemon.model.event import (
    OrderAccepted,
    OrderCanceled,
    OrderDenied,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderInitialized,
    OrderJournalled,
    OrderModified,
    OrderPending,
    OrderPendingRejected,
    OrderRejected,
    OrderSubmitted,
)
from zq_daemon.model.fill import Fill, Liquidity
from zq_daemon.model.ids import (
    AccountId,
    ClientOrderId,
    InstrumentId,
    StrategyId,
    TradeId,
    VenueOrderId,
)
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderStatus, OrderType, Pending

CLOID = ClientOrderId("0x" + "0" * 31 + "1")
STRATEGY = StrategyId("maker")
BTC = InstrumentId("hyperliquid.BTC")
A, B, C = VenueOrderId("100"), VenueOrderId("200"), VenueOrderId("300")


def new_order(quantity: str = "3") -> Order:
    return Order(
        client_order_id=CLOID,
        strategy_id=STRATEGY,
        account_id=AccountId("0xacc"),
        instrument_id=BTC,
        side=Side.BUY,
        order_type=OrderType.LIMIT,
        quantity=Decimal(quantity),
        price=Decimal(100),
    )


def at(ts: int = 1) -> dict[str, object]:
    return {
        "client_order_id": CLOID,
        "strategy_id": STRATEGY,
        "instrument_id": BTC,
        "ts_event_ns": ts,
    }


def filled(trade: str, quantity: str = "1", venue_order_id: VenueOrderId = A) -> OrderFilled:
    fill = Fill(
        trade_id=TradeId(trade),
        client_order_id=CLOID,
        venue_order_id=venue_order_id,
        account_id=AccountId("0xacc"),
        instrument_id=BTC,
        side=Side.BUY,
        price=Decimal("99.5"),
        quantity=Decimal(quantity),
        fee=Decimal("0.01"),
        fee_currency="USDC",
        liquidity=Liquidity.MAKER,
        ts_event_ns=1,
        ts_recv_ns=2,
    )
    return OrderFilled(**at(), fill=fill)


def accepted(venue_order_id: VenueOrderId = A) -> OrderAccepted:
    return OrderAccepted(**at(), venue_order_id=venue_order_id)


def canceled(venue_order_id: VenueOrderId | None = A) -> OrderCanceled:
    return OrderCanceled(**at(), venue_order_id=venue_order_id, reason="canceled")


def modified(
    venue_order_id: VenueOrderId = B, price: str | None = "101", quantity: str = "3", ts: int = 5
) -> OrderModified:
    return OrderModified(
        **at(ts),
        venue_order_id=venue_order_id,
        price=None if price is None else Decimal(price),
        quantity=Decimal(quantity),
    )


def pending(kind: Pending, quantity: str | None = None) -> OrderPending:
    return OrderPending(
        **at(), pending=kind, quantity=None if quantity is None else Decimal(quantity)
    )


def refused(kind: Pending) -> OrderPendingRejected:
    return OrderPendingRejected(**at(), pending=kind, code="TOO_LATE", reason="too late")


def rejected(venue_order_id: VenueOrderId | None = None) -> OrderRejected:
    return OrderRejected(**at(), code="TICK", reason="bad tick", venue_order_id=venue_order_id)


JOURNALLED = OrderJournalled(**at(), nonce=1, expires_ns=None)
SUBMITTED = OrderSubmitted(**at())


def after(*events: OrderEvent, order: Order | None = None) -> Order:
    order = order or new_order()
    for event in events:
        order = apply(order, event)
    return order


def test_an_ordinary_life() -> None:
    order = after(OrderInitialized(**at(), order=new_order()))
    assert order.status is OrderStatus.INITIALIZED
    order = after(JOURNALLED, order=order)
    assert order.status is OrderStatus.JOURNALLED
    assert order.is_in_flight
    order = after(SUBMITTED, order=order)
    assert order.status is OrderStatus.SUBMITTED
    order = after(accepted(), order=order)
    assert (order.status, order.venue_order_id) == (OrderStatus.ACCEPTED, A)
    assert order.is_open
    assert not order.is_in_flight
    order = after(filled("t1"), order=order)
    assert order.status is OrderStatus.PARTIALLY_FILLED
    assert order.remaining_quantity == 2
    order = after(filled("t2", "2"), order=order)
    assert order.status is OrderStatus.FILLED
    assert order.filled_notional == Decimal("298.5")
    assert order.average_fill_price == Decimal("99.5")
    assert order.fees == Decimal("0.02")
    assert order.trade_ids == {"t1", "t2"}
    assert order.is_closed


def test_an_event_of_another_order_is_a_broken_invariant() -> None:
    with pytest.raises(OrderError, match="OrderSubmitted is for order 0xother, not for 0x0000"):
        apply(new_order(), evolve(SUBMITTED, client_order_id=ClientOrderId("0xother")))


@pytest.mark.parametrize(
    "event",
    [
        OrderInitialized(**at(), order=new_order()),
        JOURNALLED,
        SUBMITTED,
        accepted(),
        filled("t1"),
        modified(B),
        refused(Pending.CANCEL),
        pending(Pending.CANCEL),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_tells_nothing_new_returns_the_same_object(event: OrderEvent) -> None:
    order = after(
        JOURNALLED, SUBMITTED, accepted(), filled("t1"), modified(B), pending(Pending.CANCEL)
    )
    if isinstance(event, OrderPendingRejected):
        order = after(event, order=order)
    assert apply(order, event) is order


def test_a_denied_order_is_closed_with_its_reason() -> None:
    order = after(OrderDenied(**at(), code="MAX_LEVERAGE", reason="gross 5 of 3"))
    assert (order.status, order.reason) == (OrderStatus.DENIED, "gross 5 of 3")
    assert order.is_closed


def test_a_rejected_order_is_closed() -> None:
    order = after(JOURNALLED, SUBMITTED, rejected())
    assert (order.status, order.reason) == (OrderStatus.REJECTED, "bad tick")


def test_an_expired_order_is_closed() -> None:
    order = after(JOURNALLED, SUBMITTED, OrderExpired(**at(), reason="not taken in time"))
    assert (order.status, order.reason) == (OrderStatus.EXPIRED, "not taken in time")


def test_a_fill_comes_before_the_acknowledgement() -> None:
    order = after(JOURNALLED, SUBMITTED, filled("t1"))
    assert (order.status, order.venue_order_id) == (OrderStatus.PARTIALLY_FILLED, A)
    order = after(accepted(), order=order)
    assert order.status is OrderStatus.PARTIALLY_FILLED
    assert order.venue_order_ids == (A,)


def test_a_late_journalled_or_submitted_does_not_move_an_order_back() -> None:
    order = after(accepted())
    assert after(JOURNALLED, SUBMITTED, order=order) is order


def test_the_submission_is_not_undone_by_a_repeated_journalled() -> None:
    assert after(JOURNALLED, SUBMITTED, JOURNALLED).status is OrderStatus.SUBMITTED
    journalled = after(JOURNALLED)
    assert apply(journalled, JOURNALLED) is journalled


def test_a_fill_after_the_cancel_is_booked_and_the_order_stays_canceled() -> None:
    order = after(accepted(), canceled(), filled("t1"))
    assert order.status is OrderStatus.CANCELED
    assert order.filled_quantity == 1
    assert after(filled("t1"), order=order) is order


def test_fills_after_the_cancel_that_complete_the_order_make_it_filled() -> None:
    order = after(accepted(), filled("t1", "2"), canceled(), filled("t2"))
    assert order.status is OrderStatus.FILLED
    assert after(canceled(None), order=order).status is OrderStatus.FILLED


def test_more_than_ordered_is_booked_too() -> None:
    order = after(accepted(), filled("t1", "2"), filled("t2", "2"))
    assert order.status is OrderStatus.FILLED
    assert order.filled_quantity == 4
    assert order.remaining_quantity == 0


def test_an_acknowledgement_disproves_a_rejection_that_named_no_venue_order() -> None:
    order = after(SUBMITTED, rejected(), accepted())
    assert order.status is OrderStatus.ACCEPTED
    assert after(SUBMITTED, accepted(), rejected()).status is OrderStatus.ACCEPTED


def test_a_fill_disproves_a_rejection_and_an_expiry() -> None:
    order = after(SUBMITTED, rejected(), filled("t1"))
    assert order.status is OrderStatus.PARTIALLY_FILLED
    expired = OrderExpired(**at(), reason="late")
    assert after(SUBMITTED, expired, filled("t1", "3")).status is OrderStatus.FILLED


def test_a_rejection_of_the_very_venue_order_stands() -> None:
    assert after(SUBMITTED, accepted(), rejected(A)).status is OrderStatus.REJECTED
    assert after(SUBMITTED, rejected(A), accepted()).status is OrderStatus.REJECTED
    late = after(SUBMITTED, rejected(A), filled("t1"))
    assert (late.status, late.filled_quantity) == (OrderStatus.REJECTED, 1)


def test_a_cancel_before_the_acknowledgement_names_the_order() -> None:
    order = after(SUBMITTED, canceled(A))
    assert (order.status, order.venue_order_id) == (OrderStatus.CANCELED, A)
    assert after(accepted(), order=order).status is OrderStatus.CANCELED


def test_the_stronger_of_two_ends_is_kept_whichever_comes_first() -> None:
    assert after(accepted(), rejected(A), canceled(A)).status is OrderStatus.CANCELED
    assert after(accepted(), canceled(A), rejected(A)).status is OrderStatus.CANCELED


def test_a_pending_cancel_stays_in_flight_until_its_outcome() -> None:
    order = after(accepted(), pending(Pending.CANCEL))
    assert order.is_in_flight
    assert order.status is OrderStatus.ACCEPTED
    back = after(refused(Pending.CANCEL), order=order)
    assert (back.pending, back.reason) == (None, "too late")
    gone = after(canceled(), order=order)
    assert (gone.status, gone.pending) == (OrderStatus.CANCELED, None)
    assert not gone.is_in_flight


def test_a_request_about_a_closed_order_is_ignored() -> None:
    order = after(accepted(), canceled())
    assert after(pending(Pending.CANCEL), order=order) is order


def test_a_refused_modify_leaves_a_pending_cancel() -> None:
    order = after(accepted(), pending(Pending.CANCEL), refused(Pending.MODIFY))
    assert order.pending is Pending.CANCEL


def test_a_cancel_does_not_hide_a_pending_modification() -> None:
    order = after(accepted(), pending(Pending.MODIFY, "5"), pending(Pending.CANCEL))
    assert (order.pending, order.pending_quantity) == (Pending.MODIFY, Decimal(5))


def test_the_replaced_ids_cancel_after_the_modification_does_not_close() -> None:
    order = after(accepted(), pending(Pending.MODIFY), modified(B))
    assert (order.status, order.venue_order_id) == (OrderStatus.ACCEPTED, B)
    assert (order.price, order.pending) == (Decimal(101), None)
    assert apply(order, canceled(A)) is order
    assert after(canceled(B), order=order).status is OrderStatus.CANCELED


def test_the_replaced_ids_cancel_before_the_modification_is_held() -> None:
    held = after(accepted(), pending(Pending.MODIFY), canceled(A))
    assert (held.status, held.pending) == (OrderStatus.ACCEPTED, Pending.MODIFY)
    assert held.is_in_flight
    order = after(modified(B), order=held)
    assert (order.status, order.venue_order_id) == (OrderStatus.ACCEPTED, B)


def test_a_held_cancel_takes_effect_when_the_modification_was_refused() -> None:
    held = after(accepted(), pending(Pending.MODIFY), canceled(A))
    order = after(refused(Pending.MODIFY), order=held)
    assert (order.status, order.reason) == (OrderStatus.CANCELED, "canceled")


def test_a_cancel_of_the_whole_order_is_never_held() -> None:
    order = after(accepted(), pending(Pending.MODIFY), canceled(None))
    assert order.status is OrderStatus.CANCELED
    assert after(modified(B), order=order).status is OrderStatus.CANCELED


def test_a_modification_that_turns_up_reopens_an_order_whose_old_id_was_canceled() -> None:
    order = after(accepted(), canceled(A), modified(B))
    assert (order.status, order.venue_order_id) == (OrderStatus.ACCEPTED, B)


def test_the_new_id_is_canceled_before_the_modification_is_known() -> None:
    early = after(accepted(), canceled(B))
    assert early.status is OrderStatus.ACCEPTED
    order = after(modified(B), order=early)
    assert (order.status, order.venue_order_id) == (OrderStatus.CANCELED, B)
    assert order.price == 101


def test_the_replaced_ids_late_acknowledgement_changes_nothing() -> None:
    order = after(SUBMITTED, modified(B), accepted(A), canceled(A))
    assert (order.status, order.venue_order_id) == (OrderStatus.ACCEPTED, B)


def test_the_acknowledgement_of_the_new_id_takes_over_before_its_terms_are_known() -> None:
    order = after(accepted(A), pending(Pending.MODIFY), accepted(B))
    assert (order.venue_order_id, order.pending) == (B, Pending.MODIFY)
    order = after(modified(B), order=order)
    assert (order.price, order.pending) == (Decimal(101), None)


def test_a_repeated_modification_does_not_end_the_next_one() -> None:
    order = after(accepted(), modified(B), pending(Pending.MODIFY), modified(B))
    assert order.pending is Pending.MODIFY
    order = after(modified(C), modified(B), order=order)
    assert order.venue_order_id == C


def test_a_venue_that_keeps_the_id_modifies_in_place_and_never_back() -> None:
    first, second = modified(A, "101", ts=5), modified(A, None, "4", ts=6)
    order = after(accepted(), first, second)
    assert (order.price, order.quantity) == (Decimal(101), Decimal(4))
    assert after(first, order=order) is order
    same_moment = modified(A, "102", "4", ts=6)
    assert after(same_moment, order=order).price == 102


def test_a_raised_quantity_reopens_what_the_old_quantity_had_filled() -> None:
    order = after(accepted(), filled("t1", "3", B))
    assert order.status is OrderStatus.FILLED
    order = after(modified(B, quantity="5"), order=order)
    assert order.status is OrderStatus.PARTIALLY_FILLED
    assert order.remaining_quantity == 2


def test_a_quantity_lowered_to_what_is_filled_completes_the_order() -> None:
    order = after(accepted(), filled("t1", "2"), modified(B, quantity="2"))
    assert order.status is OrderStatus.FILLED


def test_the_history_of_ids_is_bounded_however_often_an_order_is_modified() -> None:
    order = after(accepted())
    for number in range(200):
        new = VenueOrderId(f"m{number}")
        order = after(pending(Pending.MODIFY), canceled(order.venue_order_id), order=order)
        order = after(modified(new), order=order)
    assert order.venue_order_id == "m199"
    assert order.is_open
    assert len(order.venue_order_ids) <= 32
    assert len(order.closings) <= 32


def test_the_time_of_the_last_change_never_goes_back() -> None:
    order = after(evolve(accepted(), ts_event_ns=10), evolve(filled("t1"), ts_event_ns=7))
    assert order.ts_last_ns == 10
