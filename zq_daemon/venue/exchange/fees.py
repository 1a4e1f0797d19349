"""What trading costs: rates by market and role, and the exact fee of a fill.

Owns the rates. A perpetual's fee is in USDC and quantised to six decimals; a spot buyer's is in the
base token and a spot seller's in the quote token, quantised to the token's own decimals. Rounding
is half to even. Called by the clearinghouse.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

from attrs import frozen

CENTS = 6
"""Decimals of every amount in the perpetuals' wallet."""


@frozen(kw_only=True)
class FeeRates:
    """Fractions of a fill's notional; the venue's documented rates of the lowest tier."""

    perp_taker: Decimal = Decimal("0.00045")
    perp_maker: Decimal = Decimal("0.00015")
    spot_taker: Decimal = Decimal("0.0007")
    spot_maker: Decimal = Decimal("0.0004")

    def perp(self, *, taker: bool) -> Decimal:
        """The rate of a perpetual's fill."""
        return self.perp_taker if taker else self.perp_maker

    def spot(self, *, taker: bool) -> Decimal:
        """The rate of a spot fill."""
        return self.spot_taker if taker else self.spot_maker


DOCUMENTED = FeeRates()


def charged(amount: Decimal, rate: Decimal, decimals: int) -> Decimal:
    """*rate* of *amount*, to *decimals*, half to even."""
    return (amount * rate).quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_EVEN)
