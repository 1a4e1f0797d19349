"""Matching against a recorded market: our orders meet what the recording shows, and only that.

Owns our resting orders and what of the shown liquidity we have used up; never changes or mixes into
the recording. Called by the embedded exchange when it replays a capture.

The model, and its assumptions:
- An incoming order takes the shown levels at their prices, best first. What it took is gone until
  the next snapshot, which shows the recorded market again (we leave no lasting impact).
- A resting order joins the queue behind everything shown at its price. A recorded trade at that
  price first uses up the queue ahead, then fills us; a smaller level in a later snapshot shortens
  the queue (the missing part is taken to have stood ahead of us).
- A recorded trade through our price, or a snapshot whose other side reaches it, fills us at our
  price: by price priority the recorded aggressor would have met us first.
- Our orders do not trade with one another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from attrs import define

from zq_daemon.core.matching import (
    Dropped,
    DropReason,
    Execution,
    Incoming,
    Matched,
    MatchEvent,
    Rested,
    reaches,
)
from zq_daemon.model.market import BookLevel, Side


@define
class _Queued:
    order_id: int
    owner: str
    side: Side
    price: Decimal
    left: Decimal
    ahead: Decimal


class ReplayBook:
    """One instrument of a recorded market, and our orders in it."""

    def __init__(self) -> None:
        self._shown: dict[Side, list[BookLevel]] = {Side.BUY: [], Side.SELL: []}
        self._used: dict[tuple[Side, Decimal], Decimal] = {}
        self._orders: dict[int, _Queued] = {}

    def apply_snapshot(
        self, bids: Sequence[BookLevel], asks: Sequence[BookLevel]
    ) -> Iterator[MatchEvent]:
        """Replace the shown book (best level first); yields fills of orders it reaches.

        Like `execute`, the iterator must be exhausted.
        """
        self._shown = {Side.BUY: list(bids), Side.SELL: list(asks)}
        self._used.clear()
        self._shorten_queues()
        for order in _by_priority(self._orders.values()):
            other = self._shown[order.side.opposite]
            if other and reaches(order.side, order.price, other[0].price):
                yield from self._fill(order, self._take(order))

    def apply_trade(
        self, aggressor: Side, price: Decimal, quantity: Decimal
    ) -> Iterator[MatchEvent]:
        """A recorded trade: yields fills of our orders on the other side; must be exhausted."""
        left, passed = quantity, Decimal(0)
        for order in self._resting(aggressor.opposite):
            if price != order.price:
                if reaches(aggressor, price, order.price):
                    yield from self._fill(order, order.left)
                continue
            queue = min(max(order.ahead - passed, Decimal(0)), left)
            passed += queue
            left -= queue
            order.ahead -= min(passed, order.ahead)
            if left and not order.ahead:
                filled = min(left, order.left)
                left -= filled
                yield from self._fill(order, filled)

    def submit(self, order: Incoming) -> list[MatchEvent]:
        """Match *order* at once and return all that happened."""
        return list(self.execute(order))

    def execute(self, order: Incoming) -> Iterator[MatchEvent]:
        """Take shown liquidity, then rest, step by step; the iterator must be exhausted."""
        if order.order_id in self._orders:
            raise ValueError(f"order {order.order_id} rests already")
        crosses = reaches(order.side, order.price, self.best(order.side.opposite))
        if order.execution is Execution.POST_ONLY and crosses:
            yield _dropped(order, order.quantity, DropReason.WOULD_MATCH)
            return
        left = order.quantity
        for price, available in self._within(order.side, order.price):
            if not left:
                break
            quantity = min(left, available)
            left -= quantity
            self._use(order.side.opposite, price, quantity)
            yield _taken(order, price, quantity, left)
        if not left:
            return
        if order.execution is Execution.IMMEDIATE:
            yield _dropped(order, left, DropReason.UNFILLED)
            return
        ahead = self._shown_at(order.side, order.price)
        self._orders[order.order_id] = _Queued(
            order.order_id, order.owner, order.side, order.price, left, ahead
        )
        yield Rested(order_id=order.order_id, owner=order.owner, quantity=left)

    def cancel(self, order_id: int) -> Dropped | None:
        """Take our resting order out; None when there is none of that id."""
        order = self._orders.pop(order_id, None)
        if order is None:
            return None
        return Dropped(
            order_id=order_id,
            owner=order.owner,
            quantity=order.left,
            reason=DropReason.CANCELED,
        )

    def reduce(self, order_id: int, quantity: Decimal) -> bool:
        """Shrink our resting order to *quantity* left, in its place; False when that cannot be."""
        order = self._orders.get(order_id)
        if order is None or not 0 < quantity < order.left:
            return False
        order.left = quantity
        return True

    def best(self, side: Side) -> Decimal | None:
        """The best shown price on *side* of which something is left to take."""
        for level in self._shown[side]:
            if level.quantity > self._used.get((side, level.price), 0):
                return level.price
        return None

    def depth(self, side: Side, levels: int) -> list[BookLevel]:
        """The recorded levels of *side*, best first, without our orders and what we took."""
        return self._shown[side][:levels]

    def __len__(self) -> int:
        return len(self._orders)

    def _resting(self, side: Side) -> list[_Queued]:
        return _by_priority(order for order in self._orders.values() if order.side is side)

    def _within(self, side: Side, price: Decimal) -> list[tuple[Decimal, Decimal]]:
        other = side.opposite
        return [
            (level.price, left)
            for level in self._shown[other]
            if reaches(side, price, level.price)
            and (left := level.quantity - self._used.get((other, level.price), Decimal(0))) > 0
        ]

    def _take(self, order: _Queued) -> Decimal:
        """Use up what is shown within the order's price; returns how much that was."""
        left = order.left
        for price, available in self._within(order.side, order.price):
            quantity = min(left, available)
            self._use(order.side.opposite, price, quantity)
            left -= quantity
        return order.left - left

    def _use(self, side: Side, price: Decimal, quantity: Decimal) -> None:
        self._used[side, price] = self._used.get((side, price), Decimal(0)) + quantity

    def _shown_at(self, side: Side, price: Decimal) -> Decimal:
        levels = self._shown[side]
        return next((level.quantity for level in levels if level.price == price), Decimal(0))

    def _shorten_queues(self) -> None:
        for order in self._orders.values():
            if order.ahead:
                order.ahead = min(order.ahead, self._shown_at(order.side, order.price))

    def _fill(self, order: _Queued, limit: Decimal) -> Iterator[MatchEvent]:
        """Fill at most *limit* of an order that may meanwhile be cancelled or shrunk."""
        quantity = min(limit, order.left)
        if not quantity or order.order_id not in self._orders:
            return
        order.left -= quantity
        order.ahead = Decimal(0)
        if not order.left:
            del self._orders[order.order_id]
        yield Matched(
            price=order.price,
            quantity=quantity,
            taker_side=order.side.opposite,
            taker_id=0,
            taker_owner="",
            taker_left=Decimal(0),
            maker_id=order.order_id,
            maker_owner=order.owner,
            maker_left=order.left,
        )


def _by_priority(orders: Iterable[_Queued]) -> list[_Queued]:
    return sorted(orders, key=lambda order: -order.side.sign * order.price)


def _taken(order: Incoming, price: Decimal, quantity: Decimal, left: Decimal) -> Matched:
    return Matched(
        price=price,
        quantity=quantity,
        taker_side=order.side,
        taker_id=order.order_id,
        taker_owner=order.owner,
        taker_left=left,
        maker_id=0,
        maker_owner="",
        maker_left=Decimal(0),
    )


def _dropped(order: Incoming, quantity: Decimal, reason: DropReason) -> Dropped:
    return Dropped(order_id=order.order_id, owner=order.owner, quantity=quantity, reason=reason)
