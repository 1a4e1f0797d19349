"""The naive order book, kept for ever as the oracle: two dicts, sorted anew for every question."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction

from zq_daemon.model.market import BookDelta, BookLevel, BookSnapshot, Side

Level = tuple[Decimal, Decimal]


class NaiveBook:
    """A book in the fewest words; it knows the levels and nothing of sequence numbers."""

    def __init__(self) -> None:
        self.bid_quantities: dict[Decimal, Decimal] = {}
        self.ask_quantities: dict[Decimal, Decimal] = {}

    def apply_snapshot(self, snapshot: BookSnapshot) -> None:
        self.bid_quantities = {level.price: level.quantity for level in snapshot.bids}
        self.ask_quantities = {level.price: level.quantity for level in snapshot.asks}

    def apply_delta(self, delta: BookDelta) -> None:
        for known, levels in (
            (self.bid_quantities, delta.bids),
            (self.ask_quantities, delta.asks),
        ):
            for level in levels:
                known[level.price] = level.quantity
                if level.quantity == 0:
                    del known[level.price]

    def bids(self) -> list[Level]:
        return sorted(self.bid_quantities.items(), reverse=True)

    def asks(self) -> list[Level]:
        return sorted(self.ask_quantities.items())

    def mid(self) -> Fraction | None:
        if not self.bid_quantities or not self.ask_quantities:
            return None
        return (Fraction(max(self.bid_quantities)) + Fraction(min(self.ask_quantities))) / 2

    def spread(self) -> Decimal | None:
        if not self.bid_quantities or not self.ask_quantities:
            return None
        return min(self.ask_quantities) - max(self.bid_quantities)

    def is_crossed(self) -> bool:
        return any(bid >= ask for bid in self.bid_quantities for ask in self.ask_quantities)

    def average_price(self, side: Side, quantity: Decimal) -> Fraction | None:
        levels = self.asks() if side is Side.BUY else self.bids()
        if sum(resting for _, resting in levels) < quantity:
            return None
        cost, left = Fraction(0), Fraction(quantity)
        for price, resting in levels:
            taken = min(left, Fraction(resting))
            cost, left = cost + taken * Fraction(price), left - taken
        return cost / Fraction(quantity)


def pairs(levels: Iterable[BookLevel]) -> list[Level]:
    """Levels as (price, quantity), to compare with the oracle's."""
    return [(level.price, level.quantity) for level in levels]
