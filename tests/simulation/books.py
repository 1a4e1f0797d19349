"""Holds every book that the daemon keeps against those that the exchange has told.

The exchange sends whole books, so that the naive one is the one it sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from attrs import Factory, define

from zq_daemon.core.book import OrderBook
from zq_daemon.model.market import BookLevel
from zq_daemon.ports.clock import NS_PER_MS

COINS = ("BTC", "ETH")
_REMEMBERED = 100
"""Longer ago than any message is under way."""


@define
class ToldBooks:
    """The last books of each coin, as the exchange has made them for anybody."""

    _told: dict[str, deque[Any]] = Factory(
        lambda: {coin: deque(maxlen=_REMEMBERED) for coin in COINS}
    )

    def add(self, book: Any) -> None:
        """The exchange sends *book*."""
        self._told[book["coin"]].append(book)

    def check(self, coin: str, book: OrderBook) -> Iterator[str]:
        """*book* was just replaced: it is one of those told at its time."""
        time_ms = book.ts_event_ns // NS_PER_MS
        told = [_sides(each) for each in self._told[coin] if each["time"] == time_ms]
        if _sides_of(book) not in told:
            yield f"book of {coin} at {time_ms}: {told} told, {_sides_of(book)} here"

    def check_last(self, coin: str, book: OrderBook | None) -> Iterator[str]:
        """When all is quiet *book* is what was told last."""
        told, held = _sides(self._told[coin][-1]), None if book is None else _sides_of(book)
        if told != held:
            yield f"book of {coin}: {told} at the exchange, {held} here"


def _sides(told: Any) -> list[list[tuple[Decimal, Decimal]]]:
    return [
        [(Decimal(each["px"]), Decimal(each["sz"])) for each in side] for side in told["levels"]
    ]


def _sides_of(book: OrderBook) -> list[list[tuple[Decimal, Decimal]]]:
    return [_levels(book.bids()), _levels(book.asks())]


def _levels(levels: Sequence[BookLevel]) -> list[tuple[Decimal, Decimal]]:
    return [(each.price, each.quantity) for each in levels]
