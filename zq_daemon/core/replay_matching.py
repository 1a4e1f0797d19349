"""Matching against somebody else's market: our orders meet what it shows, and only that.

Owns our resting orders and what of the shown liquidity we have used up; never changes or mixes into
the market, which is a recording or a venue that is followed. Called by the embedded exchange.

The model, and its assumptions:
- An incoming order takes the shown levels at their prices, best first. What it took is gone until
  the next snapshot, which shows the market again (we leave no lasting impact).
- A resting order joins the queue at its price where `QueuePosition` says. A trade at that price
  first uses up the queue ahead, then fills us. An order below all that is shown does not know its
  queue before a snapshot shows its price.
- A trade through our price fills us at our price, by no more than was traded: by price priority its
  aggressor would have met us first.
- A snapshot whose other side reaches our price fills us at our price, by no more than it shows.
- Our orders do not trade with one another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import ROUND_CEILING, Decimal
from enum import Enum

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

SHOWN_LEVELS = 20
"""A side that shows fewer levels shows all there are."""
_ZERO = Decimal(0)


class QueuePosition(Enum):
    """Where among what is shown at its price a resting order stands.

    FRONT: ahead of all of it. BACK: behind it, and what disappears without a trade counts as having
    stood behind us, as long as it can. PROPORTIONAL: behind it, and what disappears stood ahead of
    us and behind us in proportion.
    """

    FRONT = "front"
    BACK = "back"
    PROPORTIONAL = "proportional"


@define
class _Queued:
    """*ahead* (None: not known yet) of the *level* at its price; here since *since_ms*."""

    order_id: int
    owner: str
    side: Side
    price: Decimal
    left: Decimal
    ahead: Decimal | None
    level: Decimal
    since_ms: int


class ReplayBook:
    """One instrument of a market that is not ours, and our orders in it.

    *time_ms* is asked for that market's time when an order comes to rest: a trade that is told
    later but was before does not fill it.
    """

    def __init__(
        self,
        queue: QueuePosition = QueuePosition.BACK,
        time_ms: Callable[[], int] = lambda: 0,
    ) -> None:
        self._queue = queue
        self._time_ms = time_ms
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
        for order in self._orders.values():
            self._move_up(order)
        yield from self._fill_reached()

    def apply_quote(self, bid: BookLevel | None, ask: BookLevel | None) -> Iterator[MatchEvent]:
        """Replace the best levels, and drop what was better; None: that side is empty.

        Like `execute`, the iterator must be exhausted.
        """
        for side, best in ((Side.BUY, bid), (Side.SELL, ask)):
            worse = [
                level
                for level in self._shown[side]
                if best is not None and (best.price - level.price) * side.sign > 0
            ]
            self._shown[side] = worse if best is None else [best, *worse]
        yield from self._fill_reached()

    def lose_sight(self) -> None:
        """Nothing is shown until the next snapshot: orders rest, and there is nothing to take."""
        self._shown = {Side.BUY: [], Side.SELL: []}
        self._used.clear()

    def apply_trade(
        self, aggressor: Side, price: Decimal, quantity: Decimal, time_ms: int | None = None
    ) -> Iterator[MatchEvent]:
        """A trade of that market: yields fills of our orders on the other side.

        Like `execute`, the iterator must be exhausted.
        """
        left, passed = quantity, _ZERO
        for order in self._resting(aggressor.opposite):
            if not left or (time_ms is not None and time_ms < order.since_ms):
                continue
            if price != order.price:
                if reaches(aggressor, price, order.price):
                    filled = min(left, order.left)
                    left -= filled
                    yield from self._fill(order, filled)
                continue
            order.level = max(order.level - quantity, _ZERO)
            if order.ahead is None:
                continue
            queue = min(max(order.ahead - passed, _ZERO), left)
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
        self._orders[order.order_id] = self._joined(order, left)
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
        """The shown levels of *side*, best first, without our orders and what we took."""
        return self._shown[side][:levels]

    def __len__(self) -> int:
        return len(self._orders)

    def _joined(self, order: Incoming, left: Decimal) -> _Queued:
        seen = self._sees(order.side, order.price)
        level = self._shown_at(order.side, order.price)
        ahead = _ZERO if self._queue is QueuePosition.FRONT else level if seen else None
        return _Queued(
            order_id=order.order_id,
            owner=order.owner,
            side=order.side,
            price=order.price,
            left=left,
            ahead=ahead,
            level=level,
            since_ms=self._time_ms(),
        )

    def _move_up(self, order: _Queued) -> None:
        """Learn from a new snapshot what may still be ahead of *order*."""
        if not self._sees(order.side, order.price):
            return
        shown = self._shown_at(order.side, order.price)
        if order.ahead is None:
            order.ahead = shown
        elif self._queue is QueuePosition.PROPORTIONAL and shown < order.level:
            order.ahead = _share(order.ahead, shown, order.level)
        order.ahead = min(order.ahead, shown)
        order.level = shown

    def _sees(self, side: Side, price: Decimal) -> bool:
        """Whether what is shown tells how much there is at *price*."""
        levels = self._shown[side]
        if len(levels) < SHOWN_LEVELS:
            return bool(levels) or bool(self._shown[side.opposite])
        return (price - levels[-1].price) * side.sign >= 0

    def _fill_reached(self) -> Iterator[MatchEvent]:
        for order in _by_priority(self._orders.values()):
            other = self._shown[order.side.opposite]
            if other and reaches(order.side, order.price, other[0].price):
                yield from self._fill(order, self._take(order))

    def _resting(self, side: Side) -> list[_Queued]:
        return _by_priority(order for order in self._orders.values() if order.side is side)

    def _within(self, side: Side, price: Decimal) -> list[tuple[Decimal, Decimal]]:
        other = side.opposite
        return [
            (level.price, left)
            for level in self._shown[other]
            if reaches(side, price, level.price)
            and (left := level.quantity - self._used.get((other, level.price), _ZERO)) > 0
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
        self._used[side, price] = self._used.get((side, price), _ZERO) + quantity

    def _shown_at(self, side: Side, price: Decimal) -> Decimal:
        levels = self._shown[side]
        return next((level.quantity for level in levels if level.price == price), _ZERO)

    def _fill(self, order: _Queued, limit: Decimal) -> Iterator[MatchEvent]:
        """Fill at most *limit* of an order that may meanwhile be cancelled or shrunk."""
        quantity = min(limit, order.left)
        if not quantity or order.order_id not in self._orders:
            return
        order.left -= quantity
        order.ahead = _ZERO
        if not order.left:
            del self._orders[order.order_id]
        yield Matched(
            price=order.price,
            quantity=quantity,
            taker_side=order.side.opposite,
            taker_id=0,
            taker_owner="",
            taker_left=_ZERO,
            maker_id=order.order_id,
            maker_owner=order.owner,
            maker_left=order.left,
        )


def _share(ahead: Decimal, shown: Decimal, level: Decimal) -> Decimal:
    """What of *ahead* is left when *level* shrinks to *shown*: rounded up to the market's lots."""
    exponents = (each.as_tuple().exponent for each in (ahead, shown))
    lot = min(exponent for exponent in exponents if isinstance(exponent, int))
    return (ahead * shown / level).quantize(Decimal(1).scaleb(lot), rounding=ROUND_CEILING)


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
        maker_left=_ZERO,
    )


def _dropped(order: Incoming, quantity: Decimal, reason: DropReason) -> Dropped:
    return Dropped(order_id=order.order_id, owner=order.owner, quantity=quantity, reason=reason)
