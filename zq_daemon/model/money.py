"""Exact decimal arithmetic for the order and accounting path.

Owns the two decimal contexts; holds no values and never touches the thread's default context, whose
28 digits round silently. Called by the order state machine, the portfolio and the risk engine.
"""

from __future__ import annotations

from decimal import (
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
)

_DIGITS = 120

EXACT = Context(prec=_DIGITS, traps=[InvalidOperation, DivisionByZero, Overflow, Inexact])
"""Sums and products that must not lose a digit: `EXACT.add(a, b)`; raises Inexact if one would."""

ROUNDED = Context(
    prec=_DIGITS, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow]
)
"""Divisions and roundings that are meant."""

ZERO = Decimal(0)
