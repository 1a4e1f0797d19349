"""The matching book against a naive engine that searches a list; and what always holds."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from zq_daemon.core.matching import (
    Dropped,
    DropReason,
    Execution,
    Incoming,
    Matched,
    MatchingBook,
    Rested,
)
from zq_daemon.core.replay_matching import QueuePosition, ReplayBook
from zq_daemon.model.market import BookLevel, Side

numbers = st.integers(1, 6)
submits = st.tuples(
    st.just("submit"),
    st.sampled_from("ABC"),
    st.sampled_from(Side),
    numbers,
    numbers,
    st.sampled_from(Execution),
)
cancels = st.tuples(st.just("cancel"), st.integers(0, 30))
reduces = st.tuples(st.just("reduce"), st.integers(0, 30), numbers)


class NaiveBook:
    """A list of orders in arrival order; every question is answered by searching all of it."""

    def __init__(self) -> None:
        self.orders: list[dict] = []

    def submit(self, new: Incoming) -> list:
        events, left = [], new.quantity
        candidates = self._candidates(new)
        if new.execution is Execution.POST_ONLY and candidates:
            return [("drop", new.order_id, left, DropReason.WOULD_MATCH)]
        for maker in candidates:
            if not left:
                break
            if maker["owner"] == new.owner:
                self.orders.remove(maker)
                events.append(("drop", maker["id"], maker["left"], DropReason.SELF_TRADE))
                continue
            quantity = min(left, maker["left"])
            left -= quantity
            maker["left"] -= quantity
            if not maker["left"]:
                self.orders.remove(maker)
            events.append(("match", maker["id"], new.order_id, maker["price"], quantity))
        if left and new.execution is Execution.IMMEDIATE:
            events.append(("drop", new.order_id, left, DropReason.UNFILLED))
        elif left:
            self.orders.append(
                {
                    "id": new.order_id,
                    "owner": new.owner,
                    "side": new.side,
                    "price": new.price,
                    "left": left,
                }
            )
            events.append(("rest", new.order_id, left))
        return events

    def _candidates(self, new: Incoming) -> list[dict]:
        others = [
            order
            for order in self.orders
            if order["side"] is not new.side and (order["price"] - new.price) * new.side.sign <= 0
        ]
        return sorted(others, key=lambda order: order["price"] * new.side.sign)

    def depth(self, side: Side) -> list[BookLevel]:
        mine = [order for order in self.orders if order["side"] is side]
        prices = sorted({order["price"] for order in mine}, reverse=side is Side.BUY)
        at = {price: [o["left"] for o in mine if o["price"] == price] for price in prices}
        return [BookLevel(price, sum(at[price]), len(at[price])) for price in prices]


def plain(event) -> tuple:
    match event:
        case Matched():
            return ("match", event.maker_id, event.taker_id, event.price, event.quantity)
        case Dropped():
            return ("drop", event.order_id, event.quantity, event.reason)
        case Rested():
            return ("rest", event.order_id, event.quantity)


def incoming(number: int, operation: tuple) -> Incoming:
    _, owner, side, price, quantity, execution = operation
    return Incoming(
        order_id=number,
        owner=owner,
        side=side,
        price=Decimal(price),
        quantity=Decimal(quantity),
        execution=execution,
    )


@settings(max_examples=100)
@given(st.lists(st.one_of(submits, submits, submits, cancels, reduces), max_size=40))
def test_book_does_what_a_naive_engine_does(operations):
    book, naive = MatchingBook(), NaiveBook()
    for number, operation in enumerate(operations):
        match operation:
            case ("submit", *_):
                new = incoming(number, operation)
                assert [plain(event) for event in book.submit(new)] == naive.submit(new)
            case ("cancel", order_id):
                found = [order for order in naive.orders if order["id"] == order_id]
                naive.orders = [order for order in naive.orders if order["id"] != order_id]
                assert (book.cancel(order_id) is not None) == bool(found)
            case ("reduce", order_id, quantity):
                found = [o for o in naive.orders if o["id"] == order_id and o["left"] > quantity]
                for order in found:
                    order["left"] = Decimal(quantity)
                assert book.reduce(order_id, Decimal(quantity)) == bool(found)
        for side in Side:
            assert book.depth(side, 99) == naive.depth(side)
        assert len(book) == len(naive.orders)
        bid, ask = book.best(Side.BUY), book.best(Side.SELL)
        assert bid is None or ask is None or bid < ask


snapshots = st.tuples(
    st.just("snapshot"),
    st.integers(2, 8),
    st.lists(numbers, max_size=3),
    st.lists(numbers, max_size=3),
)
prints = st.tuples(st.just("trade"), st.sampled_from(Side), st.integers(1, 9), numbers)


def sides(operation: tuple) -> tuple[list[BookLevel], list[BookLevel]]:
    _, middle, bids, asks = operation
    return (
        [BookLevel(Decimal(middle - 1 - i), Decimal(q)) for i, q in enumerate(bids)],
        [BookLevel(Decimal(middle + i), Decimal(q)) for i, q in enumerate(asks)],
    )


@settings(max_examples=100)
@given(st.lists(st.one_of(submits, snapshots, prints, cancels), max_size=40))
def test_replay_conserves_quantities_and_never_fills_worse_than_the_limit(operations):
    book = ReplayBook()
    limits: dict[int, Incoming] = {}
    filled: dict[int, Decimal] = {}
    for number, operation in enumerate(operations):
        match operation:
            case ("submit", *_):
                limits[number] = incoming(number, operation)
                events = book.submit(limits[number])
            case ("snapshot", *_):
                events = list(book.apply_snapshot(*sides(operation)))
            case ("trade", side, price, quantity):
                events = list(book.apply_trade(side, Decimal(price), Decimal(quantity)))
            case ("cancel", order_id):
                events = [event] if (event := book.cancel(order_id)) else []
        for event in events:
            if isinstance(event, Matched):
                # Order 0 exists too, as maker or taker: the recorded side has an empty owner.
                ours = event.taker_id if event.taker_owner else event.maker_id
                left = event.taker_left if event.taker_owner else event.maker_left
                filled[ours] = filled.get(ours, Decimal(0)) + event.quantity
                order = limits[ours]
                assert (event.price - order.price) * order.side.sign <= 0
                assert filled[ours] + left == order.quantity
            elif isinstance(event, Dropped):
                order = limits[event.order_id]
                assert filled.get(event.order_id, 0) + event.quantity == order.quantity
        if operation[0] == "snapshot":
            assert (book.depth(Side.BUY, 9), book.depth(Side.SELL, 9)) == sides(operation)


quotes = st.tuples(
    st.just("quote"),
    st.integers(2, 8),
    st.none() | st.integers(1, 9),
    st.none() | st.integers(1, 9),
)


def apply(book: ReplayBook, operation: tuple, number: int) -> list:
    """Carry *operation* out; what happened."""
    match operation:
        case ("submit", *_):
            return book.submit(incoming(number, operation))
        case ("snapshot", *_):
            return list(book.apply_snapshot(*sides(operation)))
        case ("trade", side, price, quantity):
            return list(book.apply_trade(side, Decimal(price), Decimal(quantity)))
        case ("quote", middle, bid, ask):
            best = [
                None if quantity is None else BookLevel(Decimal(price), Decimal(quantity))
                for price, quantity in ((middle - 1, bid), (middle, ask))
            ]
            return list(book.apply_quote(*best))
        case ("cancel", order_id):
            return [event] if (event := book.cancel(order_id)) else []
    raise AssertionError(operation)


@settings(max_examples=150)
@given(
    st.sampled_from(QueuePosition),
    st.lists(st.one_of(submits, snapshots, prints, cancels, quotes), max_size=40),
)
def test_makers_are_filled_at_their_price_by_no_more_than_was_there(queue, operations):
    book = ReplayBook(queue)
    rested: dict[int, Incoming] = {}
    for number, operation in enumerate(operations):
        events = apply(book, operation, number)
        makers = [each for each in events if isinstance(each, Matched) and each.maker_owner]
        for fill in makers:
            assert fill.price == rested[fill.maker_id].price, "never better than its price"
        told = sum((fill.quantity for fill in makers), Decimal(0))
        match operation:
            case ("submit", *_):
                order = incoming(number, operation)
                rests = [each for each in events if isinstance(each, Rested)]
                assert not rests or order.execution is not Execution.IMMEDIATE
                assert not makers, "our orders do not trade with one another"
                if rests:
                    rested[number] = order
            case ("trade", side, price, quantity):
                assert told <= quantity
                for fill in makers:
                    assert fill.taker_side is side
                    assert (fill.price - price) * side.sign <= 0
            case ("snapshot" | "quote", *_):
                shown = {side: book.depth(side, 99) for side in Side}
                for side in Side:
                    there = sum((level.quantity for level in shown[side]), Decimal(0))
                    taken = [each.quantity for each in makers if each.taker_side is side]
                    assert sum(taken, Decimal(0)) <= there
            case ("cancel", _):
                assert not makers
    assert len(book) <= len(rested)


@settings(max_examples=150)
@given(
    st.integers(0, 9),
    st.integers(1, 9),
    st.lists(st.one_of(st.tuples(st.just("level"), st.integers(0, 9)), prints), max_size=30),
)
def test_at_the_back_nothing_is_filled_before_what_was_ahead(shown, size, operations):
    """A bid at 5, the best of its side: of what is traded there, others get theirs first."""
    book = ReplayBook(QueuePosition.BACK)
    bids = [BookLevel(Decimal(5), Decimal(shown))] if shown else []
    list(book.apply_snapshot(bids, [BookLevel(Decimal(99), Decimal(1))]))
    order = Incoming(
        order_id=1, owner="us", side=Side.BUY, price=Decimal(5), quantity=Decimal(size)
    )
    book.submit(order)
    ahead, filled, traded = shown, Decimal(0), 0
    for operation in operations:
        match operation:
            case ("level", quantity):
                left = [BookLevel(Decimal(5), Decimal(quantity))] if quantity else []
                list(book.apply_snapshot(left, [BookLevel(Decimal(99), Decimal(1))]))
                ahead = min(ahead, quantity)
            case ("trade", side, price, quantity):
                events = list(book.apply_trade(side, Decimal(price), Decimal(quantity)))
                fills = sum((each.quantity for each in events), Decimal(0))
                if side is Side.BUY or price > 5 or filled == size:
                    assert not fills
                    continue
                if price < 5:
                    ahead = 0
                expected = min(max(quantity - ahead, 0), size - filled)
                ahead = max(ahead - quantity, 0)
                assert fills == expected
                filled += fills
                traded += quantity
    assert filled <= traded
