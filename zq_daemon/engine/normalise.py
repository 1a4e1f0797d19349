"""Makes an order valid for its venue before risk looks at it: steps rounded, a market order priced.

Pure; the execution engine calls it for every submission and modification. A price moves only in the
direction that is worse for being filled (passively), a quantity only down.
"""

from __future__ import annotations

from decimal import Decimal

from zq_daemon.core.cache import Cache
from zq_daemon.core.risk import Denial
from zq_daemon.model.ids import InstrumentId
from zq_daemon.model.instrument import Instrument, PriceRounding
from zq_daemon.model.market import Side
from zq_daemon.model.money import EXACT, ROUNDED
from zq_daemon.model.order import Order, OrderType, TimeInForce

_BPS = Decimal(10_000)
_LARGEST_ADJUSTED = 30
"""Numbers with more integer digits are no price or quantity of anything, and cannot be rounded."""


def normalise(order: Order, cache: Cache, slippage_bps: int) -> Order | Denial:
    """*order* as the venue wants it, or why that cannot be.

    A market order becomes immediate-or-cancel with a protective price: the opposite best, moved by
    *slippage_bps* through the book. One that waits for a trigger price is moved from that.
    """
    instrument = cache.instrument(order.instrument_id)
    if instrument is None:
        return Denial("UNKNOWN_INSTRUMENT", f"{order.instrument_id} is not known")
    if instrument.delisted:
        return Denial("DELISTED", f"{instrument.id} is no longer traded")
    if instrument.is_spot and (order.reduce_only or order.order_type.is_trigger):
        return Denial("NOT_ON_SPOT", "a spot market has neither reduce-only orders nor triggers")
    if (foreign := _foreign_currency(order, cache, instrument)) is not None:
        return foreign
    asked = order.price
    if order.trigger_price is not None:
        return _normalise_trigger(order, order.trigger_price, instrument, slippage_bps)
    if order.order_type is OrderType.MARKET:
        if order.post_only:
            return Denial("INVALID_ORDER", "a market order cannot be post-only")
        best = opposite_best(cache, instrument.id, order.side)
        if best is None:
            return Denial("NO_MARKET_PRICE", f"no {order.side.opposite.value} side to trade with")
        order = order.with_changes({"time_in_force": TimeInForce.IOC})
        asked = protective_price(best, order.side, slippage_bps)
    elif order.post_only and order.time_in_force is TimeInForce.IOC:
        return Denial("INVALID_ORDER", "an immediate-or-cancel order cannot be post-only")
    terms = valid_terms(instrument, order.side, asked, order.quantity)
    if isinstance(terms, Denial):
        return terms
    price, quantity = terms
    return order.with_changes({"price": price, "quantity": quantity})


def _foreign_currency(order: Order, cache: Cache, instrument: Instrument) -> Denial | None:
    """Amounts of different currencies cannot be added up: limits and P&L are in the account's."""
    account = cache.account(order.account_id)
    own = account.balances[0].currency if account is not None and account.balances else None
    if own is None or instrument.quote_currency == own:
        return None
    quoted = f"{instrument.id} is quoted in {instrument.quote_currency}"
    return Denial("QUOTE_CURRENCY", f"{quoted}, the account in {own}")


def _normalise_trigger(
    order: Order, trigger_price: Decimal, instrument: Instrument, slippage_bps: int
) -> Order | Denial:
    if order.post_only or order.time_in_force is not TimeInForce.GTC:
        return Denial("INVALID_ORDER", "a trigger order is neither post-only nor immediate")
    if not _is_plausible(trigger_price):
        return Denial("INVALID_TRIGGER_PRICE", f"{trigger_price}: needs a positive number")
    # Rounded so that it triggers later, if at all: a stop away from the mark, as is a take profit.
    later = PriceRounding.UP if order.triggers_above else PriceRounding.DOWN
    trigger = instrument.round_price(trigger_price, later)
    if trigger <= 0:
        return Denial("INVALID_TRIGGER_PRICE", f"{trigger_price}: below the smallest valid price")
    asked = order.price
    if order.order_type.is_market:
        asked = protective_price(trigger, order.side, slippage_bps)
    terms = valid_terms(instrument, order.side, asked, order.quantity)
    if isinstance(terms, Denial):
        return terms
    price, quantity = terms
    changes = {"price": price, "quantity": quantity, "trigger_price": trigger}
    return order.with_changes(changes)


def valid_terms(
    instrument: Instrument, side: Side, price: Decimal | None, quantity: Decimal
) -> tuple[Decimal, Decimal] | Denial:
    """Price and quantity rounded by the instrument's rules; a denial when nothing valid is left."""
    if price is None or not _is_plausible(price):
        return Denial("INVALID_PRICE", f"price {price}: needs a positive number")
    if not _is_plausible(quantity):
        return Denial("INVALID_QUANTITY", f"quantity {quantity}: needs a positive number")
    passive = PriceRounding.DOWN if side is Side.BUY else PriceRounding.UP
    valid_price = instrument.round_price(price, passive)
    valid_quantity = instrument.round_quantity(quantity)
    if valid_price <= 0:
        return Denial("INVALID_PRICE", f"price {price}: below the smallest valid price")
    if valid_quantity <= 0:
        step = instrument.quantity_step
        return Denial("INVALID_QUANTITY", f"quantity {quantity}: below the smallest step {step}")
    return valid_price, valid_quantity


def protective_price(best: Decimal, side: Side, slippage_bps: int) -> Decimal:
    """The worst price a market order accepts: *slippage_bps* beyond the opposite *best*."""
    factor = _BPS + side.sign * slippage_bps
    return ROUNDED.divide(EXACT.multiply(best, factor), _BPS)


def opposite_best(cache: Cache, instrument_id: InstrumentId, side: Side) -> Decimal | None:
    """The best price an order of *side* could trade at: of the book, else of the last quote."""
    book = cache.book(instrument_id)
    if book is not None:
        level = book.best_ask if side is Side.BUY else book.best_bid
        if level is not None:
            return level.price
    quote = cache.quote(instrument_id)
    if quote is None:
        return None
    return quote.ask_price if side is Side.BUY else quote.bid_price


def _is_plausible(number: Decimal) -> bool:
    return number.is_finite() and number > 0 and number.adjusted() < _LARGEST_ADJUSTED
