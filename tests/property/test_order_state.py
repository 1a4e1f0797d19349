"""Any arrival of one true history ends in one state, and the sums are those of the fills."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

from attrs import evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_order_state import (
    A,
    accepted,
    at,
    canceled,
    filled,
    modified,
    new_order,
    pending,
    refused,
    rejected,
)
from zq_daemon.core.order_state import apply
from zq_daemon.model.event import (
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderJournalled,
    OrderModified,
    OrderSubmitted,
)
from zq_daemon.model.ids import VenueOrderId
from zq_daemon.model.order import Order, OrderStatus, Pending

QUANTITY = 6
LOCAL: tuple[OrderEvent, ...] = (
    OrderJournalled(**at(), nonce=1, expires_ns=None),
    OrderSubmitted(**at()),
)


@frozen
class History:
    """A life of an order at the venue: what it says, how it truly ended, how the last modify did.

    *chain* is what the venue says of modifications, which keeps its order.
    """

    venue: tuple[OrderEvent, ...]
    chain: tuple[OrderModified, ...]
    modify_refused: bool
    status: OrderStatus
    venue_order_id: VenueOrderId
    filled: int


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Accept, then fills and modifications by cancel-replace, then perhaps an end."""
    current, traded, quantity = A, 0, QUANTITY
    venue: list[OrderEvent] = [accepted(A)]
    chain: list[OrderModified] = []
    steps = draw(st.lists(st.sampled_from(["fill", "modify"]), max_size=6))
    for number, step in enumerate(steps, start=1):
        if step == "fill":
            size = draw(st.integers(1, quantity - traded))
            traded += size
            venue.append(filled(f"t{number}", str(size), current))
            if traded == quantity:
                break
        else:
            replaced, current = current, VenueOrderId(f"v{number}")
            quantity = traded + draw(st.integers(1, QUANTITY))
            chain.append(modified(current, str(100 + number), str(quantity), ts=10 + number))
            venue.append(canceled(replaced))
    end = draw(st.sampled_from(["none", "cancel", "reject"])) if traded < quantity else "filled"
    status = OrderStatus.FILLED
    if end == "none":
        status = OrderStatus.PARTIALLY_FILLED if traded else OrderStatus.ACCEPTED
    elif end == "cancel":
        venue.append(canceled(current))
        status = OrderStatus.CANCELED
    elif end == "reject":
        venue.append(rejected(current))
        status = OrderStatus.REJECTED
    return History(tuple(venue), tuple(chain), draw(st.booleans()), status, current, traded)


@st.composite
def arrivals(draw: st.DrawFn, history: History) -> list[OrderEvent]:
    """The venue's words in any order, some twice; the modifications in theirs, each requested."""
    repeats = draw(st.lists(st.sampled_from(history.venue), max_size=4))
    events: list[OrderEvent] = list(draw(st.permutations((*history.venue, *repeats))))
    place = 0
    for modification in history.chain:
        for event in (pending(Pending.MODIFY), modification):
            place = draw(st.integers(place, len(events)))
            events.insert(place, event)
            place += 1
        events.insert(draw(st.integers(place, len(events))), modification)
    if history.modify_refused:
        place = draw(st.integers(place, len(events)))
        events.insert(place, pending(Pending.MODIFY))
        events.insert(draw(st.integers(place + 1, len(events))), refused(Pending.MODIFY))
    return [*LOCAL, *events]


def run(events: list[OrderEvent]) -> Order:
    order = new_order(str(QUANTITY))
    for event in events:
        order = apply(order, event)
    return order


@settings(max_examples=100)
@given(data=st.data(), history=histories())
def test_every_arrival_of_a_history_ends_as_the_venue_has_it(
    data: st.DataObject, history: History
) -> None:
    order = run(data.draw(arrivals(history)))
    assert order.status is history.status
    assert order.venue_order_id == history.venue_order_id
    assert order.pending is None
    assert order.filled_quantity == history.filled
    if history.chain:
        assert order.price == history.chain[-1].price
        assert order.quantity == history.chain[-1].quantity


@settings(max_examples=60)
@given(data=st.data(), history=histories())
def test_a_second_delivery_of_everything_changes_nothing(
    data: st.DataObject, history: History
) -> None:
    order = run(data.draw(arrivals(history)))
    for event in (*LOCAL, *history.venue, *history.chain):
        assert apply(order, event) is order


RANK = {
    OrderStatus.INITIALIZED: 0,
    OrderStatus.JOURNALLED: 1,
    OrderStatus.SUBMITTED: 2,
    OrderStatus.ACCEPTED: 3,
    OrderStatus.PARTIALLY_FILLED: 4,
    OrderStatus.REJECTED: 5,
    OrderStatus.EXPIRED: 5,
    OrderStatus.CANCELED: 5,
    OrderStatus.FILLED: 6,
}

ANY_EVENT: st.SearchStrategy[OrderEvent] = st.one_of(
    st.sampled_from([*LOCAL, accepted(), canceled(), canceled(None), rejected(A)]),
    st.sampled_from(list(Pending)).map(pending),
    st.sampled_from(list(Pending)).map(refused),
    st.just(OrderExpired(**at(), reason="late", venue_order_id=A)),
    st.builds(filled, st.sampled_from("abcdef"), st.sampled_from(["1", "0.000001", "2.5"])),
)


@settings(max_examples=100)
@given(events=st.lists(ANY_EVENT, max_size=25))
def test_without_modification_no_status_ever_moves_back(events: list[Any]) -> None:
    order = new_order(str(QUANTITY))
    for event in events:
        before, order = order, apply(order, event)
        assert RANK[order.status] >= RANK[before.status]
        assert order.ts_last_ns >= before.ts_last_ns
        assert not (order.is_closed and order.is_in_flight)


@settings(max_examples=100)
@given(events=st.lists(ANY_EVENT, max_size=25), digits=st.integers(1, 40))
def test_the_sums_are_exactly_those_of_the_distinct_fills(events: list[Any], digits: int) -> None:
    price = Decimal("100." + "3" * digits)  # more digits than the default context has
    order, seen = new_order(str(QUANTITY)), {}
    for event in events:
        if isinstance(event, OrderFilled):
            event = evolve(event, fill=evolve(event.fill, price=price))
            seen.setdefault(event.fill.trade_id, event.fill)
        order = apply(order, event)
    quantity = sum((Fraction(fill.quantity) for fill in seen.values()), Fraction(0))
    assert Fraction(order.filled_quantity) == quantity
    assert Fraction(order.filled_notional) == quantity * Fraction(price)
    assert Fraction(order.fees) == Fraction(len(seen), 100)
