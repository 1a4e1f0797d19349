"""Two strategies of a user's own that always have orders resting, for daemons that get killed.

Both keep at most `orders` limit orders around the mid, in one instrument, and replace those that
were filled; of a spot pair they sell only what they own. What is filled rested, unless they `take`.
`EventLadder` acts on book events and fills, `ClockLadder` on ticks. What they do follows from what
they are told and from nothing else. After a restart they go on with the orders they find, and with
the counts they saved (version 1): orders asked for, fills heard of, moves and cancels.
"""

from __future__ import annotations

from decimal import Decimal

from attrs import frozen

from zq_daemon.core.book import OrderBook
from zq_daemon.model.event import OrderDenied, OrderEvent, OrderPendingRejected, OrderRejected, Tick
from zq_daemon.model.fill import Fill
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, TimeInForce
from zq_daemon.strategy.base import Strategy
from zq_daemon.strategy.pause import Pause

VERSION = 1
_BPS = Decimal(10_000)


class Ladder(Strategy):
    """What both have in common; a turn is a book event of the one, a tick of the other."""

    @frozen(kw_only=True)
    class Params:
        """New orders rest 1, 2 … times *offset_bps* from the mid, in turn, so that some are filled.

        Every *churn* turns (0: never) one order is moved or, the next time, cancelled. Every *take*
        turns (0: never) there is one more that crosses the book at once. A *still* one takes no
        turns: what rests, rests; a reload lets it go.
        """

        orders: int = 4
        offset_bps: Decimal = Decimal(5)
        quantity: Decimal = Decimal("0.001")
        churn: int = 0
        take: int = 0
        still: bool = False

        def __attrs_post_init__(self) -> None:
            """Refuse what cannot mean anything."""
            if self.orders < 1 or self.quantity <= 0 or min(self.churn, self.take) < 0:
                raise ValueError(
                    "orders and quantity must be positive, churn and take not negative"
                )
            if not 0 < self.offset_bps * self.orders < _BPS:
                raise ValueError("offset_bps times orders must be between 0 and 10000")

    params: Params

    def on_start(self) -> None:
        """Find the orders and counts of the former run; what is too many now is cancelled."""
        self.instrument_id = self.context.instruments[0]
        self.counts = {"asked": 0, "fills": 0, "moved": 0, "cancelled": 0}
        saved = self.context.saved_state
        if saved is not None and saved.version == VERSION:
            self.counts |= saved.data
        self.turns = 0
        self._pause = Pause()
        found = self.context.live_orders()
        for order in found[self.params.orders :]:
            self.context.cancel(order.client_order_id)
        self.context.log.info("ladder started", found=len(found), **self.counts)

    def on_fill(self, fill: Fill) -> None:
        """Count it; the next turn replaces what was filled."""
        self._count("fills")

    def on_order_event(self, event: OrderEvent) -> None:
        """A refusal is not answered at once."""
        if isinstance(event, OrderDenied | OrderRejected | OrderPendingRejected):
            self._pause.begin()

    def turn(self) -> None:
        """Move or cancel an order if it is time to, else ask for one if there are too few."""
        if self.params.still:
            return
        self.turns += 1
        best = self.context.best_prices(self.instrument_id)
        if best is None or not self.context.is_current(self.instrument_id) or self._pause.passes():
            return
        mid = (best[0] + best[1]) / 2
        live = self.context.live_orders()
        if self._is_time(self.params.take):
            self._take(live, mid)
        elif self._is_time(self.params.churn):
            self._churn(live, mid)
        elif len(live) < self.params.orders:
            self._ask(live, mid)

    def _is_time(self, every: int) -> bool:
        return bool(every) and self.turns % every == 0

    def _ask(self, live: tuple[Order, ...], mid: Decimal) -> None:
        bids = sum(order.side is Side.BUY for order in live)
        asks = len(live) - bids
        is_long = self.context.position(self.instrument_id).quantity > 0
        sells = asks < bids or (asks == bids and is_long)
        side = Side.SELL if sells and self._may_sell(live) else Side.BUY
        rungs = (self.params.orders + 1) // 2
        price = self._price(mid, side, 1 + self.counts["asked"] // 2 % rungs)
        self.context.submit_limit(self.instrument_id, side, self.params.quantity, price)
        self._count("asked")

    def _take(self, live: tuple[Order, ...], mid: Decimal) -> None:
        """Towards a flat position; from there, buy."""
        is_long = self.context.position(self.instrument_id).quantity > 0
        side = Side.SELL if is_long and self._may_sell(live) else Side.BUY
        price = self._price(mid, side.opposite, self.params.orders)
        ioc = TimeInForce.IOC
        self.context.submit_limit(
            self.instrument_id, side, self.params.quantity, price, time_in_force=ioc
        )
        self._count("asked")

    def _may_sell(self, live: tuple[Order, ...]) -> bool:
        """Whether one more sale is of what is owned; only spot pairs ask for that."""
        if not self.context.instrument(self.instrument_id).is_spot:
            return True
        offered = sum(order.remaining_quantity for order in live if order.side is Side.SELL)
        owned = self.context.position(self.instrument_id).quantity
        return owned - offered >= self.params.quantity

    def _churn(self, live: tuple[Order, ...], mid: Decimal) -> None:
        """The oldest order that nothing is under way about: move it, or cancel it."""
        order = next((each for each in live if each.is_open and each.pending is None), None)
        if order is None:
            return
        if self.turns // self.params.churn % 2:
            price = self._price(mid, order.side, self.params.orders)
            self.context.modify(order.client_order_id, price=price)
            self._count("moved")
        else:
            self.context.cancel(order.client_order_id)
            self._count("cancelled")

    def _price(self, mid: Decimal, side: Side, steps: int) -> Decimal:
        return mid * (1 - side.sign * steps * self.params.offset_bps / _BPS)

    def _count(self, what: str) -> None:
        self.counts[what] += 1
        self.context.save_state(VERSION, self.counts)


class EventLadder(Ladder):
    """Takes its turn with every book, and with every fill."""

    def on_book(self, book: OrderBook) -> None:
        """A turn."""
        self.turn()

    def on_fill(self, fill: Fill) -> None:
        """A turn, so that what was filled is replaced at once."""
        super().on_fill(fill)
        self.turn()


class ClockLadder(Ladder):
    """Takes its turn on every tick: needs `tick_interval_ms`."""

    def on_tick(self, tick: Tick) -> None:
        """A turn."""
        self.turn()
