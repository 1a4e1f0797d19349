"""A moving-average cross: long while the fast mean of closes is above the slow one, else short.

Trades every instrument it is given, on its first bar spec, by market orders. Sums are kept running
and exact, so that nothing drifts however long it runs. An order that is denied or rejected is not
repeated on the next bar: it waits for 1, 2, 4 … bars, until one goes through. After a restart it
keeps the position it had until there are enough bars again to say which one it should have.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal

from attrs import frozen

from zq_daemon.model.bar import Bar
from zq_daemon.model.event import OrderDenied, OrderEvent, OrderFilled, OrderRejected
from zq_daemon.model.ids import InstrumentId
from zq_daemon.model.market import Side
from zq_daemon.model.money import EXACT, ZERO
from zq_daemon.model.order import OrderType
from zq_daemon.strategy.base import Strategy
from zq_daemon.strategy.pause import Pause


class MovingAverageCross(Strategy):
    """Holds `quantity` in the direction of the cross, or (without `allow_short`) none below it."""

    @frozen(kw_only=True)
    class Params:
        """Periods are in bars; *quantity* is in base units, of each instrument."""

        quantity: Decimal
        fast: int = 10
        slow: int = 30
        allow_short: bool = True

        def __attrs_post_init__(self) -> None:
            """Refuse what cannot mean anything."""
            if not 0 < self.fast < self.slow:
                raise ValueError(
                    f"fast ({self.fast}) must be positive and below slow ({self.slow})"
                )
            if self.quantity <= 0:
                raise ValueError(f"quantity {self.quantity} must be positive")

    params: Params

    def on_start(self) -> None:
        """Begin to collect closes; it trades once there are `slow` of them.

        A market order of a former run that is still in flight is waited for; an order that rests is
        none of its own making, and would be waited for in vain.
        """
        self._windows = {iid: Window(self.params.slow) for iid in self.context.instruments}
        self._pauses = {iid: Pause() for iid in self.context.instruments}
        for order in self.context.live_orders():
            if order.order_type is not OrderType.MARKET:
                self.context.cancel(order.client_order_id)
        if not self.context.bars:
            self.context.log.warning("no bars are configured: it will never trade")

    def on_params(self, params: Params) -> None:
        """Keep the closes there are; a longer slow mean waits for more of them."""
        self.params = params
        for window in self._windows.values():
            window.resize(params.slow)

    def on_bar(self, bar: Bar) -> None:
        """Take the close, and trade towards the position that the means ask for."""
        if bar.spec != self.context.bars[0]:
            return
        window = self._windows[bar.instrument_id]
        window.add(bar.close)
        if not self._pauses[bar.instrument_id].passes() and window.is_full:
            self._trade_towards(bar.instrument_id, self._wanted(window))

    def on_order_event(self, event: OrderEvent) -> None:
        """Wait after a refusal; a fill ends the waiting."""
        if event.instrument_id not in self._pauses:
            return  # of an instrument that it had in a former run
        match event:
            case OrderDenied() | OrderRejected():
                self._pauses[event.instrument_id].begin()
            case OrderFilled():
                self._pauses[event.instrument_id] = Pause()
            case _:
                pass

    def _wanted(self, window: Window) -> Decimal:
        fast, slow = self.params.fast, self.params.slow
        # fast_sum / fast against slow_sum / slow, without a division that would have to round
        above = EXACT.multiply(window.sum_of_last(fast), Decimal(slow))
        below = EXACT.multiply(window.sum_of_last(slow), Decimal(fast))
        if above > below:
            return self.params.quantity
        if above < below and self.params.allow_short:
            return -self.params.quantity
        return ZERO

    def _trade_towards(self, instrument_id: InstrumentId, wanted: Decimal) -> None:
        """One order at a time: what is live may still change the position."""
        if self.context.live_orders(instrument_id):
            return
        position = self.context.position(instrument_id).quantity
        change = EXACT.subtract(wanted, position)
        quantity = self.context.instrument(instrument_id).round_quantity(abs(change))
        if not quantity:
            return
        side = Side.BUY if change > 0 else Side.SELL
        closes = bool(position) and abs(change) <= abs(position) and (change > 0) != (position > 0)
        self.context.submit_market(instrument_id, side, quantity, reduce_only=closes)


class Window:
    """The last *size* closes, with the sums that are asked for kept running."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._closes: deque[Decimal] = deque(maxlen=size)
        self._sums: dict[int, Decimal] = {}

    @property
    def is_full(self) -> bool:
        """Whether there are *size* closes."""
        return len(self._closes) == self._size

    def add(self, close: Decimal) -> None:
        """Take one more close; the oldest goes when there are too many."""
        held = len(self._closes)
        for length, total in self._sums.items():
            grown = EXACT.add(total, close)
            leaving = self._closes[-length] if held >= length else ZERO
            self._sums[length] = EXACT.subtract(grown, leaving)
        self._closes.append(close)

    def sum_of_last(self, length: int) -> Decimal:
        """The exact sum of the last *length* closes (of all, while there are fewer)."""
        if length not in self._sums:
            total = ZERO
            for close in tuple(self._closes)[-length:]:
                total = EXACT.add(total, close)
            self._sums[length] = total
        return self._sums[length]

    def resize(self, size: int) -> None:
        """Hold *size* closes from now on."""
        self._size = size
        self._closes = deque(self._closes, maxlen=size)
        self._sums.clear()
