"""What queries read: the exchange as they see it, and the parameters of their requests.

Owns the checks of parameters that several queries share. Never answers one. Called by the modules
of `/info`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeGuard

from zq_daemon.ports.clock import NS_PER_MS
from zq_daemon.venue.exchange.account import Account, UserFill
from zq_daemon.venue.exchange.envelope import Malformed
from zq_daemon.venue.exchange.feeds import ADDRESS
from zq_daemon.venue.exchange.limits import Meter
from zq_daemon.venue.exchange.listing import Perp
from zq_daemon.venue.exchange.messages import Json
from zq_daemon.venue.exchange.publisher import Publisher
from zq_daemon.venue.exchange.register import Register
from zq_daemon.venue.exchange.trading import Trading

MAX_FILLS = 2_000
MAX_HISTORY = 2_000
MAX_ROWS = 500
"""The longest answer to a query about a time, but for fills."""


class Queried(Protocol):
    """What the queries read."""

    trading: Trading
    publisher: Publisher
    register: Register
    meter: Meter

    def forgets_order(self) -> bool:
        """Whether this order status query is to fail."""

    def told_fills(self, address: str) -> Iterable[UserFill]:
        """The fills of an account that may be told, oldest first."""

    @property
    def universe(self) -> Sequence[Perp]:
        """The perpetuals that are listed."""

    def asked(self, coin: str) -> None:
        """Somebody wants to know the market of *coin*."""

    def account(self, address: str) -> Account:
        """An account, or one that is not kept."""

    def now_ms(self) -> int:
        """Wall time."""

    def now_ns(self) -> int:
        """Wall time."""


Query = Callable[[Queried, Json], Any]


def user_of(request: Json) -> str:
    """The address asked about, in lower case; raises Malformed."""
    user = request.get("user")
    if not isinstance(user, str) or not ADDRESS.fullmatch(user):
        raise Malformed
    return user.lower()


def coin_of(request: Json) -> str:
    """The coin asked about, listed or not; raises Malformed."""
    coin = request.get("coin")
    if not isinstance(coin, str):
        raise Malformed
    return coin


def times_of(request: Json, exchange: Queried) -> tuple[int, int]:
    """The bounds asked for in milliseconds, both inclusive; without an end, now is the end."""
    start, end = request.get("startTime"), request.get("endTime")
    ends = exchange.now_ns() // NS_PER_MS if end is None else end
    if not is_integer(start) or not is_integer(ends):
        raise Malformed
    return start, ends


def is_integer(value: Any) -> TypeGuard[int]:
    """Whether it is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)
