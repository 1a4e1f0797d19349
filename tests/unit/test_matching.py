"""The rules of price-time priority, one by one; and those of matching against a recording."""

from __future__ import annotations

from decimal import Decimal

import pytest

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

BUY, SELL = Side.BUY, Side.SELL


def order(
    order_id: int,
    side: Side,
    price: str,
    quantity: str,
    execution: Execution = Execution.REST,
    owner: str | None = None,
) -> Incoming:
    return Incoming(
        order_id=order_id,
        owner=owner or f"owner-{order_id}",
        side=side,
        price=Decimal(price),
        quantity=Decimal(quantity),
        execution=execution,
    )


def trades(events) -> list[tuple[int, int, str, str]]:
    return [
        (event.maker_id, event.taker_id, str(event.price), str(event.quantity))
        for event in events
        if isinstance(event, Matched)
    ]


def level(price: str, quantity: str, orders: int = 1) -> BookLevel:
    return BookLevel(Decimal(price), Decimal(quantity), orders)


def test_best_price_first_then_earliest_at_the_makers_price():
    book = MatchingBook()
    book.submit(order(1, SELL, "101", "1"))
    book.submit(order(2, SELL, "100", "1"))
    book.submit(order(3, SELL, "100", "2"))
    events = book.submit(order(4, BUY, "101", "3.5"))
    assert trades(events) == [(2, 4, "100", "1"), (3, 4, "100", "2"), (1, 4, "101", "0.5")]
    assert book.left(1) == Decimal("0.5")
    assert book.left(4) is None
    assert len(book) == 1


def test_rest_of_a_limit_order_rests_and_says_so():
    book = MatchingBook()
    book.submit(order(1, SELL, "100", "1"))
    events = book.submit(order(2, BUY, "100", "3"))
    assert events[-1] == Rested(order_id=2, owner="owner-2", quantity=Decimal(2))
    assert book.best(BUY) == Decimal(100)
    assert book.best(SELL) is None


def test_immediate_order_leaves_nothing_behind():
    book = MatchingBook()
    book.submit(order(1, SELL, "100", "1"))
    events = book.submit(order(2, BUY, "100", "3", Execution.IMMEDIATE))
    assert events[-1] == Dropped(
        order_id=2, owner="owner-2", quantity=Decimal(2), reason=DropReason.UNFILLED
    )
    assert len(book) == 0


def test_post_only_order_that_would_trade_is_dropped_and_the_book_unchanged():
    book = MatchingBook()
    book.submit(order(1, SELL, "100", "1"))
    (event,) = book.submit(order(2, BUY, "100", "1", Execution.POST_ONLY))
    assert isinstance(event, Dropped)
    assert event.reason is DropReason.WOULD_MATCH
    assert book.left(1) == 1
    (rested,) = book.submit(order(3, BUY, "99", "1", Execution.POST_ONLY))
    assert isinstance(rested, Rested)


def test_self_trade_cancels_the_resting_order_and_goes_on():
    book = MatchingBook()
    book.submit(order(1, SELL, "100", "1", owner="me"))
    book.submit(order(2, SELL, "100", "1"))
    events = book.submit(order(3, BUY, "100", "1", owner="me"))
    assert events[0] == Dropped(
        order_id=1, owner="me", quantity=Decimal(1), reason=DropReason.SELF_TRADE
    )
    assert trades(events) == [(2, 3, "100", "1")]


def test_cancel_takes_out_once():
    book = MatchingBook()
    book.submit(order(1, BUY, "100", "1"))
    dropped = book.cancel(1)
    assert dropped is not None
    assert dropped.reason is DropReason.CANCELED
    assert book.cancel(1) is None
    assert book.best(BUY) is None


def test_reduce_keeps_the_place_in_the_queue():
    book = MatchingBook()
    book.submit(order(1, BUY, "100", "5"))
    book.submit(order(2, BUY, "100", "5"))
    assert book.reduce(1, Decimal(1))
    assert trades(book.submit(order(3, SELL, "100", "2"))) == [
        (1, 3, "100", "1"),
        (2, 3, "100", "1"),
    ]
    assert not book.reduce(2, Decimal(5)), "an order cannot be reduced to more than it has"
    assert not book.reduce(2, Decimal(0)), "nothing left is a cancel"
    assert not book.reduce(99, Decimal(1))


def test_depth_adds_up_orders_of_a_level_best_first():
    book = MatchingBook()
    for number, (price, quantity) in enumerate([("99", "1"), ("100", "2"), ("100", "3")], 1):
        book.submit(order(number, BUY, price, quantity))
    assert book.depth(BUY, 5) == [level("100", "5", 2), level("99", "1")]
    assert book.depth(BUY, 1) == [level("100", "5", 2)]
    assert book.depth(SELL, 5) == []


def test_an_id_that_rests_cannot_come_again():
    for book in (MatchingBook(), ReplayBook()):
        book.submit(order(1, BUY, "100", "1"))
        with pytest.raises(ValueError, match="rests already"):
            book.submit(order(1, BUY, "99", "1"))


def test_caller_may_cancel_between_two_steps():
    book = MatchingBook()
    book.submit(order(1, SELL, "100", "1"))
    book.submit(order(2, SELL, "100", "1"))
    steps = book.execute(order(3, BUY, "100", "2", Execution.IMMEDIATE))
    assert isinstance(next(steps), Matched)
    book.cancel(2)
    (last,) = list(steps)
    assert isinstance(last, Dropped)
    assert last.quantity == 1


def replayed(bids: list[BookLevel], asks: list[BookLevel]) -> ReplayBook:
    book = ReplayBook()
    assert list(book.apply_snapshot(bids, asks)) == []
    return book


def test_replay_taker_uses_up_shown_levels_until_the_next_snapshot():
    book = replayed([level("99", "1")], [level("100", "1"), level("101", "2")])
    assert trades(book.submit(order(1, BUY, "101", "2", Execution.IMMEDIATE))) == [
        (0, 1, "100", "1"),
        (0, 1, "101", "1"),
    ]
    assert book.best(SELL) == Decimal(101)
    assert trades(book.submit(order(2, BUY, "101", "2", Execution.IMMEDIATE))) == [
        (0, 2, "101", "1")
    ]
    assert book.best(SELL) is None
    assert book.depth(SELL, 2) == [level("100", "1"), level("101", "2")], "shown as recorded"
    list(book.apply_snapshot([], [level("100", "1")]))
    assert book.best(SELL) == Decimal(100)


def test_replay_resting_order_waits_for_the_queue_ahead():
    book = replayed([level("99", "2")], [level("100", "1")])
    book.submit(order(1, BUY, "99", "1"))
    assert list(book.apply_trade(SELL, Decimal(99), Decimal("1.5"))) == []
    (fill,) = book.apply_trade(SELL, Decimal(99), Decimal("0.75"))
    assert (fill.maker_id, fill.price, fill.quantity) == (1, Decimal(99), Decimal("0.25"))
    (fill,) = book.apply_trade(SELL, Decimal(99), Decimal(5))
    assert fill.quantity == Decimal("0.75")
    assert fill.maker_left == 0
    assert len(book) == 0


def test_replay_own_orders_at_one_price_share_the_queue_in_order():
    book = replayed([level("99", "2")], [])
    book.submit(order(1, BUY, "99", "1"))
    book.submit(order(2, BUY, "99", "1"))
    fills = list(book.apply_trade(SELL, Decimal(99), Decimal("3.5")))
    assert [(fill.maker_id, str(fill.quantity)) for fill in fills] == [(1, "1"), (2, "0.5")]


def test_replay_smaller_level_shortens_the_queue():
    book = replayed([level("99", "5")], [])
    book.submit(order(1, BUY, "99", "1"))
    list(book.apply_snapshot([level("99", "1")], []))
    list(book.apply_snapshot([level("99", "9")], []))
    (fill,) = book.apply_trade(SELL, Decimal(99), Decimal("1.5"))
    assert fill.quantity == Decimal("0.5")


def test_replay_trade_through_the_price_fills_at_our_price_as_much_as_was_traded():
    book = replayed([level("99", "5")], [level("100", "5")])
    book.submit(order(1, BUY, "99", "3"))
    book.submit(order(2, SELL, "100", "3"))
    book.submit(order(3, BUY, "99", "1"))
    (fill,) = book.apply_trade(SELL, Decimal(98), Decimal("0.1"))
    assert (fill.maker_id, fill.price, fill.quantity) == (1, Decimal(99), Decimal("0.1"))
    fills = list(book.apply_trade(SELL, Decimal(98), Decimal("3.5")))
    assert [(fill.maker_id, str(fill.quantity)) for fill in fills] == [(1, "2.9"), (3, "0.6")]
    assert list(book.apply_trade(BUY, Decimal("99.5"), Decimal(9))) == []


def test_replay_one_trade_fills_the_better_price_first_and_only_once():
    book = replayed([level("98", "5")], [])
    book.submit(order(1, BUY, "98", "3"))
    book.submit(order(2, BUY, "99", "3"))
    fills = list(book.apply_trade(SELL, Decimal(98), Decimal(9)))
    assert [(fill.maker_id, str(fill.quantity)) for fill in fills] == [(2, "3"), (1, "1")]


@pytest.mark.parametrize(
    ("queue", "filled"),
    [("front", ["2", "0.5"]), ("proportional", ["0.5"]), ("back", [])],
)
def test_replay_queue_position_is_chosen(queue, filled):
    book = ReplayBook(QueuePosition(queue))
    for shown in ("4", "6", "3"):
        list(book.apply_snapshot([level("99", shown)], []))
        if shown == "4":
            book.submit(order(1, BUY, "99", "3"))
    # Of the four ahead, and two behind, half went: two are ahead then, or as many as there are.
    fills = [
        *book.apply_trade(SELL, Decimal(99), Decimal(2)),
        *book.apply_trade(SELL, Decimal(99), Decimal("0.5")),
    ]
    assert [str(fill.quantity) for fill in fills] == filled


def test_replay_what_was_traded_does_not_count_as_withdrawn():
    book = ReplayBook(QueuePosition.PROPORTIONAL)
    list(book.apply_snapshot([level("99", "4.0")], []))
    book.submit(order(1, BUY, "99", "3"))
    list(book.apply_snapshot([level("99", "8.0")], []))
    list(book.apply_trade(SELL, Decimal(99), Decimal(2)))
    list(book.apply_snapshot([level("99", "6.0")], []))
    (fill,) = book.apply_trade(SELL, Decimal(99), Decimal("2.5"))
    assert fill.quantity == Decimal("0.5")


def test_replay_a_share_of_the_queue_is_rounded_up_to_lots():
    book = ReplayBook(QueuePosition.PROPORTIONAL)
    list(book.apply_snapshot([level("99", "1.0")], []))
    book.submit(order(1, BUY, "99", "3"))
    list(book.apply_snapshot([level("99", "3.0")], []))
    list(book.apply_snapshot([level("99", "1.0")], []))
    (fill,) = book.apply_trade(SELL, Decimal(99), Decimal("0.5"))
    assert fill.quantity == Decimal("0.1"), "0.4 of 1/3 are ahead"


def test_replay_an_order_below_all_that_is_shown_learns_of_its_queue_later():
    deep = [level(str(120 - each), "1") for each in range(20)]
    book = replayed(deep, [])
    book.submit(order(1, BUY, "90", "3"))
    assert list(book.apply_trade(SELL, Decimal(90), Decimal(50))) == []
    list(book.apply_snapshot([level("90", "2"), *deep[:3]][:1], []))
    (fill,) = book.apply_trade(SELL, Decimal(90), Decimal(3))
    assert fill.quantity == 1


def test_replay_a_trade_of_before_the_order_does_not_fill_it():
    now = [1_000]
    book = ReplayBook(time_ms=lambda: now[0])
    list(book.apply_snapshot([level("98", "1")], []))
    book.submit(order(1, BUY, "99", "3"))
    assert list(book.apply_trade(SELL, Decimal(98), Decimal(1), 999)) == []
    (fill,) = book.apply_trade(SELL, Decimal(98), Decimal(1), 1_000)
    assert fill.quantity == 1


def test_replay_a_quote_replaces_the_best_and_drops_what_was_better():
    book = replayed([level("99", "2"), level("98", "3")], [level("101", "2"), level("102", "1")])
    book.submit(order(1, BUY, "100", "3"))
    (fill,) = book.apply_quote(level("98", "1"), level("100", "2"))
    assert (fill.maker_id, fill.price, fill.quantity) == (1, Decimal(100), Decimal(2))
    assert book.depth(BUY, 9) == [level("98", "1")]
    assert book.depth(SELL, 9) == [level("100", "2"), level("101", "2"), level("102", "1")]
    assert list(book.apply_quote(level("98", "1"), None)) == []
    assert book.depth(SELL, 9) == []


def test_replay_nothing_is_taken_while_out_of_sight_and_orders_rest():
    book = replayed([level("99", "2")], [level("100", "2")])
    book.submit(order(1, BUY, "99", "3"))
    book.lose_sight()
    (dropped,) = book.submit(order(2, BUY, "100", "1", Execution.IMMEDIATE))
    assert dropped.reason is DropReason.UNFILLED
    (rested,) = book.submit(order(3, BUY, "101", "1"))
    assert rested.quantity == 1
    (fill,) = book.apply_snapshot([level("99", "2")], [level("100", "2")])
    assert (fill.maker_id, fill.price) == (3, Decimal(101))
    (fill,) = book.apply_trade(SELL, Decimal(99), Decimal(3))
    assert (fill.maker_id, fill.quantity) == (1, 1), "its place in the queue is what it was"


def test_replay_snapshot_that_reaches_an_order_fills_what_it_shows():
    book = replayed([level("97", "5")], [level("100", "5")])
    book.submit(order(1, BUY, "99", "3"))
    (fill,) = book.apply_snapshot([level("96", "1")], [level("98", "1"), level("99", "0.5")])
    assert (fill.price, fill.quantity, fill.maker_left) == (99, Decimal("1.5"), Decimal("1.5"))
    assert book.best(SELL) is None, "what filled us cannot be taken again"


def test_replay_immediate_and_post_only():
    book = replayed([], [level("100", "1")])
    (dropped,) = book.submit(order(1, BUY, "99", "1", Execution.IMMEDIATE))
    assert dropped.reason is DropReason.UNFILLED
    (dropped,) = book.submit(order(2, BUY, "100", "1", Execution.POST_ONLY))
    assert dropped.reason is DropReason.WOULD_MATCH
    (rested,) = book.submit(order(3, BUY, "99", "1", Execution.POST_ONLY))
    assert rested.quantity == 1


def test_replay_cancel_and_reduce():
    book = replayed([], [])
    book.submit(order(1, BUY, "99", "3"))
    assert book.reduce(1, Decimal(1))
    assert not book.reduce(1, Decimal(1))
    assert not book.reduce(7, Decimal(1))
    dropped = book.cancel(1)
    assert dropped is not None
    assert dropped.quantity == 1
    assert book.cancel(1) is None
    assert list(book.apply_trade(SELL, Decimal(90), Decimal(1))) == []


def test_replay_order_cancelled_between_two_fills_of_one_trade_stays_cancelled():
    book = replayed([], [])
    book.submit(order(1, BUY, "99", "1"))
    book.submit(order(2, BUY, "98", "1"))
    fills = book.apply_trade(SELL, Decimal(90), Decimal(5))
    assert next(fills).maker_id == 1
    book.cancel(2)
    assert list(fills) == []
