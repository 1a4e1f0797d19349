"""A two-sided market maker: one bid and one offer around the mid, looked after on every tick.

The quotes are post-only and never reach the other side. They lean against the inventory, and a side
that would take the position over its bound is not quoted. Stale or missing market data, or a quote
that is off by more than the threshold, makes it cancel or move; a refused quote makes it wait. A
quote that may not be moved (what a fill left of it can be worth too little) is cancelled and made
afresh, and so is one that a newer quote took the place of because it was thought closed. Quotes of
a former run are taken over where they are what would be quoted now, but for the price; whatever
else that run left is cancelled. They wait a few seconds for the first prices.
"""

from __future__ import annotations

from decimal import Decimal

from attrs import Factory, define, frozen

from zq_daemon.model.event import (
    OrderAccepted,
    OrderDenied,
    OrderEvent,
    OrderPendingRejected,
    OrderRejected,
    Tick,
)
from zq_daemon.model.ids import ClientOrderId, InstrumentId
from zq_daemon.model.instrument import Instrument, PriceRounding
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, Pending
from zq_daemon.ports.clock import NS_PER_S
from zq_daemon.strategy.base import Strategy
from zq_daemon.strategy.pause import Pause

_BPS = Decimal(10_000)
_FIRST_PRICES_NS = 10 * NS_PER_S
"""How long quotes of a former run rest without a market to be seen."""


class MarketMaker(Strategy):
    """Quotes every instrument it is given; needs `tick_interval_ms`, and a book or quotes."""

    @frozen(kw_only=True)
    class Params:
        """*quantity* and *max_position* are in base units, of each instrument.

        *spread_bps* is the distance from bid to offer; *skew_bps* how far both are moved against a
        full position; *requote_bps* by how much a quote may be off before it is moved.
        """

        quantity: Decimal
        max_position: Decimal
        spread_bps: Decimal = Decimal(10)
        skew_bps: Decimal = Decimal(5)
        requote_bps: Decimal = Decimal(2)

        def __attrs_post_init__(self) -> None:
            """Refuse what cannot mean anything."""
            if self.quantity <= 0 or self.max_position <= 0 or self.spread_bps <= 0:
                raise ValueError("quantity, max_position and spread_bps must be positive")
            if self.skew_bps < 0 or self.requote_bps < 0:
                raise ValueError("skew_bps and requote_bps must not be negative")

    params: Params

    def on_start(self) -> None:
        """One slot for each instrument and side, with the quote a former run left there."""
        self._slots = {
            (iid, side): _Slot()
            for iid in self.context.instruments
            for side in (Side.BUY, Side.SELL)
        }
        self._strays = {iid: _Slot() for iid in self.context.instruments}
        self._unseen = {iid for iid in self.context.instruments if self._adopt_quotes(iid)}
        self._began_ns = self.context.now_ns()

    def on_tick(self, tick: Tick) -> None:
        """Bring every quote to where it should be."""
        for instrument_id in self.context.instruments:
            best = self._best(instrument_id)
            if best is None and self._awaits_prices(instrument_id):
                continue
            for side in (Side.BUY, Side.SELL):
                self._look_after(instrument_id, side, best)
            self._clear_strays(instrument_id)

    def on_order_event(self, event: OrderEvent) -> None:
        """A refused quote is not repeated at once: each time in a row doubles the pause."""
        if event.instrument_id not in self._strays:
            return  # of an instrument that it had in a former run
        slot = self._slot_of(event)
        match event:
            case OrderPendingRejected(pending=Pending.MODIFY):
                slot.pause.begin()
                slot.is_spent = True
            case OrderDenied() | OrderRejected() | OrderPendingRejected():
                slot.pause.begin()
            case OrderAccepted():
                slot.pause.forget()
            case _:
                pass

    def _adopt_quotes(self, instrument_id: InstrumentId) -> bool:
        """Take over what may stay, the newest of each side; the rest will be cleared as strays."""
        quantity = self.context.instrument(instrument_id).round_quantity(self.params.quantity)
        adopted = False
        for order in self.context.live_orders(instrument_id):
            if order.post_only and not order.reduce_only and order.quantity == quantity:
                self._slots[instrument_id, order.side].order = order.client_order_id
                adopted = True
        return adopted

    def _best(self, instrument_id: InstrumentId) -> tuple[Decimal, Decimal] | None:
        """Best bid and ask, if they can be relied on."""
        best = self.context.best_prices(instrument_id)
        if best is None or best[0] >= best[1] or not self.context.is_current(instrument_id):
            return None
        self._unseen.discard(instrument_id)
        return best

    def _awaits_prices(self, instrument_id: InstrumentId) -> bool:
        """Whether adopted quotes may rest on: the first prices since the start are still due."""
        if instrument_id not in self._unseen or not self.context.is_current(instrument_id):
            return False
        return self.context.now_ns() - self._began_ns < _FIRST_PRICES_NS

    def _slot_of(self, event: OrderEvent) -> _Slot:
        for side in (Side.BUY, Side.SELL):
            slot = self._slots[event.instrument_id, side]
            if slot.order == event.client_order_id:
                return slot
        return self._strays[event.instrument_id]

    def _look_after(
        self, instrument_id: InstrumentId, side: Side, best: tuple[Decimal, Decimal] | None
    ) -> None:
        slot = self._slots[instrument_id, side]
        if slot.pause.passes():
            return
        order = self._resting(slot)
        if best is None or (order is not None and slot.is_spent):
            self._withdraw(order)
        else:
            self._quote(instrument_id, side, *best)

    def _quote(self, instrument_id: InstrumentId, side: Side, bid: Decimal, ask: Decimal) -> None:
        slot = self._slots[instrument_id, side]
        order = self._resting(slot)
        position = self.context.position(instrument_id).quantity
        if side.sign * position + self.params.quantity > self.params.max_position:
            self._withdraw(order)
            return
        instrument = self.context.instrument(instrument_id)
        price = self._price(instrument, side, bid, ask, position)
        if order is None:
            slot.is_spent = False
            slot.order = self.context.submit_limit(
                instrument_id, side, self.params.quantity, price, post_only=True
            )
        elif not order.is_in_flight and self._is_off(order, price):
            self.context.modify(order.client_order_id, price=price)

    def _price(
        self, instrument: Instrument, side: Side, bid: Decimal, ask: Decimal, position: Decimal
    ) -> Decimal:
        """Half the spread from the leaning mid, and at least a step away from the other side."""
        params = self.params
        lean = params.skew_bps * position / params.max_position
        away = lean + side.sign * params.spread_bps / 2
        wanted = (bid + ask) / 2 * (1 - away / _BPS)
        if side is Side.BUY:
            wanted = min(wanted, ask - instrument.price_step(ask))
            return instrument.round_price(wanted, PriceRounding.DOWN)
        wanted = max(wanted, bid + instrument.price_step(bid))
        return instrument.round_price(wanted, PriceRounding.UP)

    def _is_off(self, order: Order, price: Decimal) -> bool:
        if order.price is None or order.price == price:
            return False
        return abs(order.price - price) * _BPS > self.params.requote_bps * price

    def _clear_strays(self, instrument_id: InstrumentId) -> None:
        """Cancel what rests beside the quotes: orders held closed until the venue knew better."""
        quotes = {self._slots[instrument_id, side].order for side in (Side.BUY, Side.SELL)}
        strays = [
            order
            for order in self.context.open_orders(instrument_id)
            if order.client_order_id not in quotes
        ]
        if strays and not self._strays[instrument_id].pause.passes():
            for order in strays:
                self._withdraw(order)

    def _withdraw(self, order: Order | None) -> None:
        if order is not None and order.pending is None:
            self.context.cancel(order.client_order_id)

    def _resting(self, slot: _Slot) -> Order | None:
        """The side's order, unless it is closed."""
        order = None if slot.order is None else self.context.order(slot.order)
        return None if order is None or order.is_closed else order


@define
class _Slot:
    """The quote of one side of one instrument, and its pause, in ticks.

    *is_spent* says that the quote could not be moved and has to go.
    """

    order: ClientOrderId | None = None
    is_spent: bool = False
    pause: Pause = Factory(Pause)
