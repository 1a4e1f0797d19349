"""Amounts as text for people: plain digits, never an exponent where it can be avoided."""

from __future__ import annotations

from decimal import Decimal

from zq_daemon.model.money import ROUNDED

_SHOWN = Decimal("1e-8")
_MOST_DIGITS = 99
"""Of a number that is written out: no amount that is meant has more."""


def text_of(value: Decimal | None) -> str | None:
    """*value* to eight decimals; None for what is not known."""
    if value is None:
        return None
    if value.adjusted() > _MOST_DIGITS:
        return f"{value:.8E}"
    rounded = value.quantize(_SHOWN, context=ROUNDED)
    return f"{rounded.normalize(ROUNDED):f}" if rounded else "0"


def exact_text_of(value: Decimal | None) -> str | None:
    """*value* to the last digit, as an order's price and quantity are told; None if there is none.

    One of absurdly many digits is told with an exponent.
    """
    if value is None:
        return None
    if not value:
        return "0"
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int), "an order's amounts are finite"
    if len(digits) > _MOST_DIGITS or abs(exponent) > _MOST_DIGITS:
        return f"{value:.8E}"
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
