"""What trades in the simulation: a strategy that does anything a strategy can do, at random.

`EventTrader` acts on books and fills, `ClockTrader` on ticks; both now and then in bursts. What
they do follows from their seed and what they are told. The maker that is shipped trades beside
them. `heard_late` collects what any of them was told when it had been stopped.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from functools import wraps

from attrs import frozen

from zq_daemon.core.book import OrderBook
from zq_daemon.model.event import OrderDenied, OrderEvent, OrderRejected, Tick
from zq_daemon.model.fill import Fill
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, TimeInForce
from zq_daemon.strategy.base import Strategy
from zq_daemon.strategy.market_maker import MarketMaker

heard_late: list[str] = []
_MOST_OPEN = 12
_HANDLERS = [name for name in vars(Strategy) if name.startswith("on_") and name != "on_stop"]


class Watched(Strategy):
    """Notes what it is told after its stop: every handler that the class has does that first."""

    _is_stopped = False

    def __init_subclass__(cls) -> None:
        """A handler that it has not gets none: it would be told what it did not ask for."""
        for name in _HANDLERS:
            handler = getattr(cls, name)
            if handler is not getattr(Strategy, name) and not hasattr(handler, "__wrapped__"):
                setattr(cls, name, _noting(handler))

    def on_stop(self) -> None:
        self._is_stopped = True

    def note(self, what: object) -> None:
        """It is told *what*."""
        if self._is_stopped:
            heard_late.append(f"{self.context.strategy_id} was stopped, and is told {what}")


def _noting(handler: Callable[..., None]) -> Callable[..., None]:
    @wraps(handler)
    def noting(self: Watched, *told: object) -> None:
        self.note((handler.__name__, *told))
        handler(self, *told)

    return noting


class WatchedMaker(Watched, MarketMaker):
    """The maker that is shipped."""


class Trader(Watched):
    """Limit, post-only, immediate and market orders, stops and brackets; cancels, modifies."""

    @frozen(kw_only=True)
    class Params:
        """It acts in *share* of its turns; a *burst* is of so many orders."""

        seed: int
        quantity: Decimal
        share: Decimal = Decimal("0.5")
        burst: int = 8

    params: Params

    def on_start(self) -> None:
        self._rng = random.Random(f"{self.params.seed} {self.context.strategy_id}")
        self._pause = 0
        self.fills = 0
        saved = self.context.saved_state
        if saved is not None:
            self.fills = saved.data["fills"]

    def on_order_event(self, event: OrderEvent) -> None:
        if isinstance(event, OrderDenied | OrderRejected):
            self._pause = 4

    def on_fill(self, fill: Fill) -> None:
        self.fills += 1
        self.context.save_state(1, {"fills": self.fills})

    def turn(self) -> None:
        """Do one thing or none."""
        self._pause -= 1
        if self._pause > 0 or self._rng.random() >= self.params.share:
            return
        prices = self.context.best_prices(self.context.instruments[0])
        if prices is None or not self.context.is_current(self.context.instruments[0]):
            return
        live = self.context.live_orders()
        if len(live) >= _MOST_OPEN:
            self._cancel(self._rng.choice(live))
            return
        acts = (self._limit, self._limit, self._limit, self._immediate, self._market, self._change)
        acts += (self._change, self._change, self._stop, self._bracket)
        if self._rng.random() < 0.02:
            for _ in range(self.params.burst):
                self._limit(prices)
        elif self._rng.random() < 0.01:
            self.context.cancel_all()
        else:
            self._rng.choice(acts)(prices)

    def _side(self) -> Side:
        """Mostly towards a flat position, so that it stays small."""
        held = self.context.position(self.context.instruments[0]).quantity
        if held and self._rng.random() < 0.6:
            return Side.SELL if held > 0 else Side.BUY
        return self._rng.choice((Side.BUY, Side.SELL))

    def _quantity(self) -> Decimal:
        return self.params.quantity * self._rng.randint(1, 4)

    def _limit(self, prices: tuple[Decimal, Decimal]) -> None:
        side, step = self._side(), (prices[0] + prices[1]) / 20_000
        price = prices[0 if side is Side.BUY else 1] - side.sign * step * self._rng.randint(0, 3)
        instrument_id, post_only = self.context.instruments[0], self._rng.random() < 0.4
        self.context.submit_limit(instrument_id, side, self._quantity(), price, post_only=post_only)

    def _immediate(self, prices: tuple[Decimal, Decimal]) -> None:
        side = self._side()
        self.context.submit_limit(
            self.context.instruments[0],
            side,
            self._quantity() * 30,
            prices[1 if side is Side.BUY else 0],
            time_in_force=TimeInForce.IOC,
        )

    def _market(self, prices: tuple[Decimal, Decimal]) -> None:
        held = self.context.position(self.context.instruments[0]).quantity
        self.context.submit_market(
            self.context.instruments[0],
            self._side(),
            self._quantity(),
            reduce_only=bool(held) and self._rng.random() < 0.3,
        )

    def _stop(self, prices: tuple[Decimal, Decimal]) -> None:
        held = self.context.position(self.context.instruments[0]).quantity
        if not held:
            return
        side = Side.SELL if held > 0 else Side.BUY
        trigger = prices[0] * (1 - side.opposite.sign * Decimal("0.0004"))
        self.context.submit_stop(self.context.instruments[0], side, abs(held), trigger)

    def _bracket(self, prices: tuple[Decimal, Decimal]) -> None:
        side = self._rng.choice((Side.BUY, Side.SELL))
        price = prices[0 if side is Side.BUY else 1]
        self.context.submit_bracket(
            self.context.instruments[0],
            side,
            self._quantity(),
            price=price,
            take_profit=price * (1 + side.sign * Decimal("0.0006")),
            stop_loss=price * (1 - side.sign * Decimal("0.0006")),
        )

    def _change(self, prices: tuple[Decimal, Decimal]) -> None:
        resting = [each for each in self.context.open_orders() if each.pending is None]
        if not resting:
            return
        order = self._rng.choice(resting)
        if self._rng.random() < 0.5 or order.price is None or order.trigger_price is not None:
            self._cancel(order)
        else:
            step = (prices[0] + prices[1]) / 20_000
            price = prices[0 if order.side is Side.BUY else 1] - order.side.sign * step
            self.context.modify(order.client_order_id, price=price)

    def _cancel(self, order: Order) -> None:
        self.context.cancel(order.client_order_id)


class EventTrader(Trader):
    """Acts on books, and at once on some fills."""

    def on_book(self, book: OrderBook) -> None:
        self.turn()

    def on_fill(self, fill: Fill) -> None:
        super().on_fill(fill)
        if self._rng.random() < 0.3:
            self.turn()


class ClockTrader(Trader):
    """Acts on ticks."""

    def on_tick(self, tick: Tick) -> None:
        self.turn()
