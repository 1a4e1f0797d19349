"""Books shown with fewer figures: levels of one side put together by rounding their prices.

Pure functions; they own nothing. Called by the publisher and the info queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from attrs import frozen

from zq_daemon.model.market import BookLevel, Side

_MANTISSAS = (1, 2, 5)


@frozen
class Rounding:
    """*figures* significant ones; with five of them, the last in steps of *mantissa*."""

    figures: int
    mantissa: int = 1


def rounding(figures: Any, mantissa: Any) -> Rounding | None:
    """The rounding that a request's `nSigFigs` and `mantissa` mean; None: none at all.

    ValueError: they have other values than the documented ones.
    """
    if figures is None and mantissa is None:
        return None
    if not _is_integer(figures) or not 2 <= figures <= 5:
        raise ValueError("nSigFigs: expected 2, 3, 4 or 5")
    if mantissa is None:
        return Rounding(figures)
    if not _is_integer(mantissa) or mantissa not in _MANTISSAS or figures != 5:
        raise ValueError("mantissa: expected 1, 2 or 5, beside nSigFigs 5")
    return Rounding(figures, mantissa)


def rounded(levels: Sequence[BookLevel], side: Side, how: Rounding, limit: int) -> list[BookLevel]:
    """The best *limit* levels of a *side* after rounding away from the other one."""
    shown: list[BookLevel] = []
    for level in levels:
        price = _round(level.price, side, how)
        if shown and shown[-1].price == price:
            last = shown[-1]
            shown[-1] = BookLevel(price, last.quantity + level.quantity, last.orders + level.orders)
        elif len(shown) == limit:
            break
        else:
            shown.append(BookLevel(price, level.quantity, level.orders))
    return shown


def _round(price: Decimal, side: Side, how: Rounding) -> Decimal:
    step = Decimal(how.mantissa).scaleb(price.adjusted() - how.figures + 1)
    towards = ROUND_FLOOR if side is Side.BUY else ROUND_CEILING
    return (price / step).to_integral_value(towards) * step


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
