"""Instruments: what can be traded, and how the venue wants prices and quantities written."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from enum import Enum
from functools import lru_cache

from attrs import frozen

from zq_daemon.model.ids import InstrumentId, Venue
from zq_daemon.model.money import ROUNDED

_LARGEST_ADJUSTED = 30
"""Numbers of more than this many integer digits are no price and no quantity of anything."""


class InstrumentKind(Enum):
    """What kind of contract an instrument is."""

    PERPETUAL = "perpetual"
    SPOT = "spot"


class PriceRounding(Enum):
    """Which way a price is moved to become valid."""

    DOWN = ROUND_FLOOR
    UP = ROUND_CEILING
    NEAREST = ROUND_HALF_EVEN


@frozen(kw_only=True)
class Instrument:
    """One tradable instrument.

    A price is valid when it has at most *price_decimals* decimals and at most *price_figures*
    significant figures (None: no such limit); integers are always valid. A quantity is valid when
    it is a multiple of 10^-*quantity_decimals*. *asset_id* is the venue's own number.
    """

    id: InstrumentId
    venue: Venue
    symbol: str
    kind: InstrumentKind
    base_currency: str
    quote_currency: str
    asset_id: int
    price_decimals: int
    price_figures: int | None
    quantity_decimals: int
    min_notional: Decimal
    max_leverage: int = 1
    delisted: bool = False

    @property
    def is_spot(self) -> bool:
        """Whether what is traded is owned, not a contract: never short, and without leverage."""
        return self.kind is InstrumentKind.SPOT

    def price_exponent(self, price: Decimal) -> int:
        """The power of ten of the smallest valid step near *price* (0 or negative)."""
        exponent = -self.price_decimals
        if self.price_figures is not None and price:
            exponent = max(exponent, price.adjusted() - self.price_figures + 1)
        return min(exponent, 0)

    def round_price(self, price: Decimal, rounding: PriceRounding) -> Decimal:
        """The nearest valid price in the direction of *rounding*."""
        return price.quantize(self.price_step(price), rounding=rounding.value, context=ROUNDED)

    def round_quantity(self, quantity: Decimal) -> Decimal:
        """*quantity* cut (never rounded up) to a valid one; may be zero."""
        return quantity.quantize(self.quantity_step, rounding=ROUND_DOWN, context=ROUNDED)

    def is_valid_price(self, price: Decimal) -> bool:
        """Whether *price* is positive and can be sent as it is; false for what is no number."""
        if not _is_plausible(price):
            return False
        return self.round_price(price, PriceRounding.NEAREST) == price

    def is_valid_quantity(self, quantity: Decimal) -> bool:
        """Whether *quantity* is positive and can be sent as it is; false for what is no number."""
        return _is_plausible(quantity) and self.round_quantity(quantity) == quantity

    def price_step(self, price: Decimal) -> Decimal:
        """The smallest valid price increment near *price*."""
        return _power_of_ten(self.price_exponent(price))

    @property
    def quantity_step(self) -> Decimal:
        """The smallest valid quantity increment."""
        return _power_of_ten(-self.quantity_decimals)


@lru_cache(maxsize=64)
def _power_of_ten(exponent: int) -> Decimal:
    return Decimal((0, (1,), exponent))


def _is_plausible(number: Decimal) -> bool:
    return number.is_finite() and number > 0 and number.adjusted() <= _LARGEST_ADJUSTED
