"""Price-time-priority matching of one instrument: what an exchange does with orders.

Owns the resting orders and the rules by which incoming ones meet them. Never knows the time,
accounts, fees or instruments' rules: its caller has checked the order and settles what comes out.
Called by the embedded exchange, and by anything else that plays the venue.

An incoming order trades at the resting order's price, best price first, earliest first within a
price. A resting order of the incoming order's own owner is cancelled instead of traded with (the
venue's self-trade prevention: the maker gives way).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from typing import Protocol

from attrs import define, frozen

from zq_daemon.model.market import BookLevel, Side


class Execution(Enum):
    """What becomes of the part of an order that does not trade at once."""

    REST = "rest"
    IMMEDIATE = "immediate"
    POST_ONLY = "post_only"


class DropReason(Enum):
    """Why an order (or what was left of it) left, or never entered, the book without trading."""

    CANCELED = "canceled"
    SELF_TRADE = "self_trade"
    UNFILLED = "unfilled"
    WOULD_MATCH = "would_match"


@frozen(kw_only=True)
class Incoming:
    """An order as the book sees it: *order_id* is unique for the book's life, *quantity* > 0."""

    order_id: int
    owner: str
    side: Side
    price: Decimal
    quantity: Decimal
    execution: Execution = Execution.REST


@frozen(kw_only=True)
class Matched:
    """Two orders traded; what each has left. *taker_side* is the aggressor's.

    An id of 0 with an empty owner stands for recorded liquidity that nobody here owns.
    """

    price: Decimal
    quantity: Decimal
    taker_side: Side
    taker_id: int
    taker_owner: str
    taker_left: Decimal
    maker_id: int
    maker_owner: str
    maker_left: Decimal


@frozen(kw_only=True)
class Rested:
    """*quantity* of the incoming order now rests in the book."""

    order_id: int
    owner: str
    quantity: Decimal


@frozen(kw_only=True)
class Dropped:
    """*quantity* of an order is out of the book, or was never let in, for *reason*."""

    order_id: int
    owner: str
    quantity: Decimal
    reason: DropReason


MatchEvent = Matched | Rested | Dropped


class Matcher(Protocol):
    """What takes orders for one instrument, whatever stands behind it."""

    def execute(self, order: Incoming) -> Iterator[MatchEvent]:
        """Match *order* step by step; the caller must exhaust the iterator."""

    def cancel(self, order_id: int) -> Dropped | None:
        """Take a resting order out; None when there is none of that id."""

    def reduce(self, order_id: int, quantity: Decimal) -> bool:
        """Shrink a resting order to *quantity* left, in its place; False when that cannot be."""

    def best(self, side: Side) -> Decimal | None:
        """The best price that can be traded with on *side*; None when it is empty."""

    def depth(self, side: Side, levels: int) -> list[BookLevel]:
        """At most *levels* price levels of *side*, best first."""


@define
class _Resting:
    order_id: int
    owner: str
    side: Side
    price: Decimal
    left: Decimal


class _Ladder:
    """One side: orders by price in arrival order; `prices` ascending."""

    __slots__ = ("levels", "prices", "side")

    def __init__(self, side: Side) -> None:
        self.side = side
        self.prices: list[Decimal] = []
        self.levels: dict[Decimal, dict[int, _Resting]] = {}

    def best(self) -> Decimal | None:
        if not self.prices:
            return None
        return self.prices[-1] if self.side is Side.BUY else self.prices[0]

    def first(self) -> _Resting | None:
        price = self.best()
        return None if price is None else next(iter(self.levels[price].values()))

    def add(self, order: _Resting) -> None:
        level = self.levels.get(order.price)
        if level is None:
            level = self.levels[order.price] = {}
            insort(self.prices, order.price)
        level[order.order_id] = order

    def remove(self, order: _Resting) -> None:
        level = self.levels[order.price]
        del level[order.order_id]
        if not level:
            del self.levels[order.price]
            del self.prices[bisect_left(self.prices, order.price)]

    def top(self, count: int) -> list[Decimal]:
        return self.prices[: -count - 1 : -1] if self.side is Side.BUY else self.prices[:count]


class MatchingBook:
    """The order book of one instrument with price-time priority."""

    def __init__(self) -> None:
        self._ladders = {Side.BUY: _Ladder(Side.BUY), Side.SELL: _Ladder(Side.SELL)}
        self._orders: dict[int, _Resting] = {}

    def submit(self, order: Incoming) -> list[MatchEvent]:
        """Match *order* at once and return all that happened."""
        return list(self.execute(order))

    def execute(self, order: Incoming) -> Iterator[MatchEvent]:
        """Match *order* step by step: when an event is yielded, the book already holds its effect.

        Between two events the caller may cancel or reduce other orders (a reduce-only order whose
        position is gone). The iterator must be exhausted. ValueError when the id already rests.
        """
        if order.order_id in self._orders:
            raise ValueError(f"order {order.order_id} rests already")
        if order.execution is Execution.POST_ONLY and self._crosses(order):
            yield _dropped(order, order.quantity, DropReason.WOULD_MATCH)
            return
        left = order.quantity
        while left and (maker := self._counterpart(order)) is not None:
            if maker.owner == order.owner:
                yield self._take_out(maker, DropReason.SELF_TRADE)
                continue
            event = self._trade(order, left, maker)
            left = event.taker_left
            yield event
        if not left:
            return
        if order.execution is Execution.IMMEDIATE:
            yield _dropped(order, left, DropReason.UNFILLED)
            return
        self._rest(order, left)
        yield Rested(order_id=order.order_id, owner=order.owner, quantity=left)

    def cancel(self, order_id: int) -> Dropped | None:
        """Take a resting order out; None when there is none of that id."""
        order = self._orders.get(order_id)
        return None if order is None else self._take_out(order, DropReason.CANCELED)

    def reduce(self, order_id: int, quantity: Decimal) -> bool:
        """Shrink a resting order to *quantity* left (> 0), keeping its place in the queue.

        False when the order does not rest, or would not become smaller.
        """
        order = self._orders.get(order_id)
        if order is None or not 0 < quantity < order.left:
            return False
        order.left = quantity
        return True

    def best(self, side: Side) -> Decimal | None:
        """The best price on *side*; None when it is empty."""
        return self._ladders[side].best()

    def depth(self, side: Side, levels: int) -> list[BookLevel]:
        """At most *levels* price levels of *side*, best first."""
        ladder = self._ladders[side]
        return [_level(price, ladder.levels[price]) for price in ladder.top(levels)]

    def left(self, order_id: int) -> Decimal | None:
        """How much of an order still rests; None when it does not."""
        order = self._orders.get(order_id)
        return None if order is None else order.left

    def __len__(self) -> int:
        return len(self._orders)

    def _counterpart(self, order: Incoming) -> _Resting | None:
        return self._ladders[order.side.opposite].first() if self._crosses(order) else None

    def _crosses(self, order: Incoming) -> bool:
        return reaches(order.side, order.price, self.best(order.side.opposite))

    def _trade(self, order: Incoming, left: Decimal, maker: _Resting) -> Matched:
        quantity = min(left, maker.left)
        maker.left -= quantity
        if not maker.left:
            self._forget(maker)
        return Matched(
            price=maker.price,
            quantity=quantity,
            taker_side=order.side,
            taker_id=order.order_id,
            taker_owner=order.owner,
            taker_left=left - quantity,
            maker_id=maker.order_id,
            maker_owner=maker.owner,
            maker_left=maker.left,
        )

    def _rest(self, order: Incoming, left: Decimal) -> None:
        resting = _Resting(order.order_id, order.owner, order.side, order.price, left)
        self._orders[order.order_id] = resting
        self._ladders[order.side].add(resting)

    def _take_out(self, order: _Resting, reason: DropReason) -> Dropped:
        self._forget(order)
        return Dropped(
            order_id=order.order_id, owner=order.owner, quantity=order.left, reason=reason
        )

    def _forget(self, order: _Resting) -> None:
        del self._orders[order.order_id]
        self._ladders[order.side].remove(order)


def reaches(side: Side, price: Decimal, other: Decimal | None) -> bool:
    """Whether an order of *side* at *price* can trade with the opposite price *other*."""
    if other is None:
        return False
    return price >= other if side is Side.BUY else price <= other


def _dropped(order: Incoming, quantity: Decimal, reason: DropReason) -> Dropped:
    return Dropped(order_id=order.order_id, owner=order.owner, quantity=quantity, reason=reason)


def _level(price: Decimal, orders: dict[int, _Resting]) -> BookLevel:
    total = sum((order.left for order in orders.values()), Decimal(0))
    return BookLevel(price, total, len(orders))
