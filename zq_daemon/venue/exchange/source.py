"""What makes the market of an embedded exchange: the interface its two kinds share.

A market owns one matcher for each listed perpetual and moves them when time passes. It never sees
accounts: what its movement did to users' orders is in the matching events it returns.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Protocol

from attrs import frozen

from zq_daemon.core.matching import Matcher, MatchEvent
from zq_daemon.model.market import Side
from zq_daemon.venue.exchange.perp import Perp


@frozen
class Message:
    """A recorded message, to be sent verbatim to who subscribed to *channel* of *coin*."""

    channel: str
    coin: str
    text: str


class Desk(Protocol):
    """Where a market delivers what happens, in order, while it moves."""

    def settle(self, coin: str, event: MatchEvent) -> None:
        """A matching event of *coin*."""

    def broadcast(self, message: Message) -> None:
        """A recorded message."""


class MarketSource(Protocol):
    """Synthetic or replayed market."""

    @property
    def universe(self) -> Sequence[Perp]:
        """What is listed; an asset id is a place in it."""

    @property
    def recorded(self) -> Collection[tuple[str, str]]:
        """(channel, coin) pairs that come as recorded messages: the exchange makes none of them."""

    @property
    def is_lossless(self) -> bool:
        """Whether it must wait for clients that have no room, instead of cutting them off."""

    def matcher(self, coin: str) -> Matcher:
        """The book of *coin*."""

    def oracle(self, coin: str) -> Decimal | None:
        """The outside price of *coin*; None while unknown."""

    def listened(self, now_ns: int) -> None:
        """Somebody has subscribed to market data: a replay may start."""

    def next_due_ns(self) -> int | None:
        """When to call `advance` next; None: not before something else happens, or never."""

    def advance(self, now_ns: int, desk: Desk) -> None:
        """Do what is due."""


def mark_price(market: MarketSource, coin: str) -> Decimal:
    """Middle of the book, else the oracle, else the one side there is, else 0."""
    book = market.matcher(coin)
    bid, ask = book.best(Side.BUY), book.best(Side.SELL)
    if bid is not None and ask is not None:
        return (bid + ask) / 2
    return market.oracle(coin) or bid or ask or Decimal(0)
