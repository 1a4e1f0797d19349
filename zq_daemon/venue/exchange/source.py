"""What makes the market of an embedded exchange: the interface that all kinds of it share.

A market owns one matcher for each listed asset and moves them when time passes. It never sees
accounts: what its movement did to users' orders is in the matching events it returns.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Protocol

from attrs import frozen

from zq_daemon.core.matching import Matcher, MatchEvent
from zq_daemon.model.market import Side
from zq_daemon.venue.exchange.listing import Listing, Perp, SpotPair
from zq_daemon.venue.exchange.messages import PublicTrade


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

    def traded(self, trade: PublicTrade) -> None:
        """A trade of others, which a recorded message tells: candles are made of it."""


class MarketSource(Protocol):
    """A synthetic, replayed or followed market."""

    @property
    def universe(self) -> Sequence[Perp]:
        """The perpetuals that are listed; an asset id is a place in it."""

    @property
    def pairs(self) -> Sequence[SpotPair]:
        """The spot pairs that are listed."""

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

    def listened(self, channel: str, coin: str, now_ns: int) -> Sequence[str]:
        """Somebody has subscribed to *channel* of *coin*; the messages that open a recorded one."""

    def delay_ns(self, coins: Collection[str]) -> int:
        """How long an action about orders in *coins* takes to get to the market."""

    def next_due_ns(self) -> int | None:
        """When to call `advance` next; None: not before something else happens, or never."""

    def advance(self, now_ns: int, desk: Desk) -> None:
        """Do what is due."""


def listing_of(market: MarketSource) -> Listing:
    """All that *market* lists."""
    return Listing(market.universe, market.pairs)


def mark_price(market: MarketSource, coin: str) -> Decimal:
    """Middle of the book, else the oracle, else the one side there is, else 0."""
    book = market.matcher(coin)
    bid, ask = book.best(Side.BUY), book.best(Side.SELL)
    if bid is not None and ask is not None:
        return (bid + ask) / 2
    return market.oracle(coin) or bid or ask or Decimal(0)
