"""What live orders may still fill, summed by account, instrument and side as the orders change.

Owns the sums, exact and bounded by the instruments. Risk checks every order against the worst case:
to add up all live orders each time would cost most where there are most, when trading is busiest.
The cache keeps it up; risk reads it through the cache.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal

from zq_daemon.model.ids import AccountId, InstrumentId
from zq_daemon.model.market import Side
from zq_daemon.model.money import EXACT, ZERO
from zq_daemon.model.order import Order

Kind = tuple[Side, bool]
"""A side, and whether the orders only reduce: those add no exposure and are counted apart."""

_Sums = dict[Kind, Decimal]
_NONE: Mapping[Kind, Decimal] = {}
_NOWHERE: Mapping[InstrumentId, _Sums] = {}


class Commitments:
    """The sums; a kind of which there never was an order has none."""

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        self._sums: dict[AccountId, dict[InstrumentId, _Sums]] = {}

    def move(self, before: Order | None, order: Order) -> None:
        """*order* stands as it does now; *before* is how it stood, None if it was not known."""
        if before is not None:
            if _weigh_the_same(before, order):
                return
            if not before.is_closed:
                self._add(before, before.fillable_quantity.copy_negate())
        if not order.is_closed:
            self._add(order, order.fillable_quantity)

    def of(self, account_id: AccountId, instrument_id: InstrumentId) -> Mapping[Kind, Decimal]:
        """What the live orders of each kind may still fill together, as it stands."""
        return self._sums.get(account_id, _NOWHERE).get(instrument_id, _NONE)

    def instruments(self, account_id: AccountId) -> Collection[InstrumentId]:
        """The instruments of which the account has, or had, live orders."""
        return self._sums.get(account_id, _NOWHERE).keys()

    def _add(self, order: Order, quantity: Decimal) -> None:
        sums = self._sums.setdefault(order.account_id, {}).setdefault(order.instrument_id, {})
        key = order.side, order.reduce_only
        sums[key] = EXACT.add(sums.get(key, ZERO), quantity) or ZERO


def _weigh_the_same(before: Order, order: Order) -> bool:
    """Nearly all changes of an order: identical values are shared by its states."""
    if order.is_closed:
        return before.is_closed
    return (
        order.filled_quantity is before.filled_quantity
        and order.quantity is before.quantity
        and order.pending_quantity is before.pending_quantity
        and order.side is before.side
        and order.reduce_only == before.reduce_only
        and not before.is_closed
    )
