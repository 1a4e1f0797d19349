"""Fills that the venue owes and cannot give: made up from what is known, and replaced if they come.

Owns what a synthetic fill looks like and what a real one takes the place of. Pure; when one is due
is the inquiry's judgement, and everything about it is marked (`Fill.is_synthetic`). Its trade id
follows from the order and from what was filled before, so that the same evidence gives the same
fill in every run, and no restart books it twice.
"""

from __future__ import annotations

from decimal import Decimal

from attrs import evolve

from zq_daemon.model.event import OrderFilled
from zq_daemon.model.fill import Fill, Liquidity
from zq_daemon.model.ids import TradeId, VenueOrderId
from zq_daemon.model.instrument import Instrument
from zq_daemon.model.money import EXACT, ZERO
from zq_daemon.model.order import Order, Synthesised


def synthesise(
    order: Order,
    quantity: Decimal,
    price: Decimal,
    *,
    venue_order_id: VenueOrderId,
    instrument: Instrument,
    ts_event_ns: int,
    ts_recv_ns: int,
) -> Fill:
    """The fill of *quantity* that *order* lacks; *ts_event_ns* is when the venue had it filled."""
    before = order.filled_quantity.normalize(EXACT)
    return Fill(
        trade_id=TradeId(f"synthetic-{order.client_order_id}-{before:f}"),
        client_order_id=order.client_order_id,
        venue_order_id=venue_order_id,
        account_id=order.account_id,
        instrument_id=order.instrument_id,
        side=order.side,
        price=price,
        quantity=quantity,
        fee=ZERO,
        fee_currency=instrument.quote_currency,
        liquidity=Liquidity.MAKER if order.post_only else Liquidity.TAKER,
        ts_event_ns=ts_event_ns,
        ts_recv_ns=ts_recv_ns,
        is_synthetic=True,
    )


def best_price(order: Order, average: Decimal | None, mark: Decimal | None) -> Decimal | None:
    """What *order* was most likely filled at: *average* is what the venue said of it, if anything.

    The price of a market order is the worst one accepted, so that its *mark* is nearer.
    """
    if order.synthetic is not None:
        return order.synthetic.price
    if average is not None:
        return average
    if not order.order_type.is_market:
        return order.price
    return order.trigger_price or mark or order.price


def replaced_by(order: Order, fill: Fill) -> Fill | None:
    """What of *order*'s synthetic fill a real *fill* takes the place of; None: nothing.

    Of one that was made up while the order rested, what was executed later is another; and so is
    what was executed under another id.
    """
    known = order.synthetic
    if known is None or fill.is_synthetic:
        return None
    if known.until_ns is not None and fill.ts_event_ns > known.until_ns:
        return None
    if known.venue_order_id not in (None, fill.venue_order_id):
        return None
    return evolve(
        fill,
        trade_id=known.trade_id,
        side=order.side,
        price=known.price,
        quantity=min(known.quantity, fill.quantity),
        fee=ZERO,
        is_synthetic=True,
    )


def synthetic_after(order: Order, event: OrderFilled) -> Synthesised | None:
    """What of the fills of *order* is synthetic once that of *event* is booked."""
    known, fill, replaced = order.synthetic, event.fill, event.replaces
    before = ZERO if known is None else known.quantity
    if fill.is_synthetic:
        quantity = EXACT.add(before, fill.quantity)
        is_same = known is None or known.venue_order_id == fill.venue_order_id
        return Synthesised(
            trade_id=fill.trade_id,
            quantity=quantity,
            price=fill.price,
            stated=event.stated,
            venue_order_id=fill.venue_order_id if is_same else None,
            until_ns=fill.ts_event_ns if event.rests else None,
        )
    if known is None or replaced is None:
        return known
    left = EXACT.subtract(before, replaced.quantity)
    return evolve(known, quantity=left) if left > ZERO else None


def undone(fill: Fill) -> Fill:
    """The fill that takes *fill* back."""
    return evolve(fill, side=fill.side.opposite)
