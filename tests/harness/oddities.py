"""Values that a program may pass by mistake, or to find out what happens."""

from __future__ import annotations

from decimal import Decimal
from enum import IntEnum
from typing import Any, NoReturn

from hypothesis import strategies as st

from zq_daemon.model.market import Side
from zq_daemon.model.order import OrderStatus, OrderType, Pending, TimeInForce


class Text(str):
    """Text that no JSON encoder takes."""

    __slots__ = ()


class Number(Decimal):
    """A Decimal of somebody's own."""


class Kind(IntEnum):
    ONE = 1


class Hostile:
    """Whatever it is asked, it raises."""

    def _raise(self, *_: object) -> NoReturn:
        raise ZeroDivisionError

    __eq__ = __lt__ = __bool__ = __len__ = __iter__ = __repr__ = __str__ = _raise
    __hash__ = None  # type: ignore[assignment]


_ENUMS = [*Side, *TimeInForce, *OrderType, *OrderStatus, *Pending, Kind.ONE]
_NUMBERS = [
    Decimal(text)
    for text in (
        *("NaN", "sNaN", "-NaN123", "Infinity", "-0", "0E+5", "1E+999", "9" * 30, "9" * 31),
        *("1E+999999999999999999", "-1E-999999999999999999", "NaN" + "7" * 2_000, "1E-80", "1E-81"),
    )
]
_OTHERS: list[Any] = [
    *(Hostile(), Text("hl.BTC"), Number(1), object(), type, len, print, lambda: None, ...),
    *(10**5_000, -(10**300), 2**63, b"hl.BTC", 1j, range(3), "hl.BTC", "hl.ETH", "hl", "hl.", ""),
    *(frozenset(), (), (1,), set(), [], {}, "\ud800", "hl.\ud800", "x" * 10_000, "0x" + "0" * 32),
]

ANYTHING: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.text(st.characters(exclude_categories=[]), max_size=10),
    st.sampled_from(_ENUMS),
    st.sampled_from(_NUMBERS),
    st.sampled_from(_OTHERS),
)
