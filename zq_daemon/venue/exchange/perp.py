"""Perpetuals as the exchange lists them, and how it writes and accepts numbers.

Owns the listing's rules (tick, lot) and the decimal text of the wire. Called by the whole package.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

from attrs import frozen

_PRICE_FIGURES = 5
_PERP_DECIMALS = 6
_NUMBER = re.compile(r"[0-9]{1,18}(\.[0-9]{1,12})?")
MIN_NOTIONAL = Decimal(10)


@frozen(kw_only=True)
class Perp:
    """One listed perpetual; its asset id is its place in the listing."""

    name: str
    size_decimals: int
    max_leverage: int = 50

    def price_fits(self, price: Decimal) -> bool:
        """Whether *price* is an integer, or has few enough significant figures and decimals."""
        _, digits, exponent = price.normalize().as_tuple()
        if not isinstance(exponent, int):
            return False
        decimals = _PERP_DECIMALS - self.size_decimals
        return exponent >= 0 or (len(digits) <= _PRICE_FIGURES and -exponent <= decimals)

    def size_fits(self, size: Decimal) -> bool:
        """Whether *size* has few enough decimals."""
        exponent = size.normalize().as_tuple().exponent
        return isinstance(exponent, int) and -exponent <= self.size_decimals


LISTED = (
    Perp(name="BTC", size_decimals=5, max_leverage=40),
    Perp(name="ETH", size_decimals=4, max_leverage=25),
    Perp(name="SOL", size_decimals=2, max_leverage=20),
    Perp(name="kPEPE", size_decimals=0, max_leverage=10),
)


def universe_with(names: Sequence[tuple[str, int]]) -> tuple[Perp, ...]:
    """The usual listing plus *names* (with their size decimals) that are not in it."""
    known = {perp.name for perp in LISTED}
    added = [Perp(name=name, size_decimals=size) for name, size in names if name not in known]
    return (*LISTED, *added)


def parse_number(text: str) -> Decimal | None:
    """An unsigned plain decimal as the wire has it; None for anything else (exponent, NaN)."""
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def wire(number: Decimal) -> str:
    """*number* as the venue writes it: plain, without trailing zeros, `40.0` for an integer."""
    text = f"{number.normalize():f}"
    if "." in text:
        return text
    return "0.0" if text == "-0" else f"{text}.0"
