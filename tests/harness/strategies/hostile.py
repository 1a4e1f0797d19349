"""Strategies that make one mistake each, as their handlers are called by a whole daemon."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from attrs import frozen

from zq_daemon.model.event import Tick
from zq_daemon.model.market import Side
from zq_daemon.strategy.base import Strategy

_QUANTITY = Decimal("0.001")

MISTAKES: dict[str, Callable[[Any, Any, Decimal], object]] = {
    "float_price": lambda to, iid, bid: to.submit_limit(iid, Side.BUY, _QUANTITY, float(bid)),
    "float_quantity": lambda to, iid, bid: to.submit_limit(iid, Side.BUY, 0.001, bid),
    "float_market": lambda to, iid, _: to.submit_market(iid, Side.BUY, 0.001),
    "nan": lambda to, iid, _: to.submit_market(iid, Side.BUY, float("nan")),
    "no_price": lambda to, iid, _: to.submit_limit(iid, Side.BUY, _QUANTITY, None),
    "text_side": lambda to, iid, bid: to.submit_limit(iid, "buy", _QUANTITY, bid),
    "no_flag": lambda to, i, bid: to.submit_limit(i, Side.BUY, _QUANTITY, bid, post_only=None),
    "no_instrument": lambda to, _, bid: to.submit_limit(None, Side.BUY, _QUANTITY, bid),
    "empty_instrument": lambda to, _, bid: to.submit_limit("", Side.BUY, _QUANTITY, bid),
    "half_instrument": lambda to, _, bid: to.submit_limit("hl", Side.BUY, _QUANTITY, bid),
    "infinite": lambda to, iid, _: to.submit_market(iid, Side.BUY, Decimal("Infinity")),
    "long": lambda to, iid, _: to.submit_market(iid, Side.BUY, Decimal("1E+999999999")),
    "list_cancel": lambda to, *_: to.cancel(["x"]),
    "float_timer": lambda to, *_: to.set_timer(float("nan"), len),
}


class Hostile(Strategy):
    """Rests one order, and makes the mistake it is told to once that has been confirmed."""

    @frozen
    class Params:
        mistake: str

    params: Params

    def on_tick(self, tick: Tick) -> None:
        (instrument_id,) = self.context.instruments
        prices = self.context.best_prices(instrument_id)
        if prices is None:
            return
        far = prices[0] * Decimal("0.97")
        if not self.context.live_orders():
            self.context.submit_limit(instrument_id, Side.BUY, _QUANTITY, far)
        elif self.context.open_orders():
            self._err(instrument_id, far)

    def _err(self, instrument_id: Any, price: Decimal) -> None:
        if self.params.mistake == "float_modify":
            (order,) = self.context.open_orders()
            wrong: Any = float(price)
            self.context.modify(order.client_order_id, price=wrong)
        else:
            MISTAKES[self.params.mistake](self.context, instrument_id, price)


class Hoarder(Strategy):
    """Saves a large state that changes with every tick, and as it stops."""

    def on_start(self) -> None:
        self.number = 0

    def on_tick(self, tick: Tick) -> None:
        self.number += 1
        self.context.save_state(1, {"number": self.number, "ballast": "x" * 60_000})

    def on_stop(self) -> None:
        self.on_tick(None)  # type: ignore[arg-type]
