"""Accounts of the embedded exchange: balance, positions, fills, and the orders they own.

Owns the arithmetic of fills (entry cost, closed P&L, fees). Never matches and never sends.
Amounts have at most six decimals, as price times size has by the listing's rules: everything is
exact.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal

from attrs import Factory, define, frozen

from zq_daemon.model.market import Side

TAKER_FEE = Decimal("0.00045")
MAKER_FEE = Decimal("0.00015")
DEFAULT_LEVERAGE = 20
KEPT_FILLS = 10_000
_UNIT = Decimal("0.000001")
_ZERO = Decimal(0)


@define(kw_only=True)
class UserOrder:
    """An order of an account and where it stands; *status* is the venue's word."""

    oid: int
    account: str
    coin: str
    side: Side
    price: Decimal
    size: Decimal
    left: Decimal
    tif: str
    reduce_only: bool
    cloid: str | None
    time_ms: int
    status: str = "open"
    status_ms: int = 0
    filled: Decimal = _ZERO
    notional: Decimal = _ZERO


@frozen(kw_only=True)
class UserFill:
    """One execution of an account's order, in the venue's terms."""

    coin: str
    price: Decimal
    size: Decimal
    side: Side
    time_ms: int
    start_position: Decimal
    direction: str
    closed_pnl: Decimal
    oid: int
    cloid: str | None
    crossed: bool
    fee: Decimal
    tid: int


@define
class Position:
    """A signed size and what it cost: *cost* has the sign of *size* (entry price = cost / size)."""

    size: Decimal = _ZERO
    cost: Decimal = _ZERO

    @property
    def entry_price(self) -> Decimal | None:
        """Average entry price; None when flat."""
        return self.cost / self.size if self.size else None

    def apply(self, signed_size: Decimal, price: Decimal) -> Decimal:
        """Trade *signed_size* at *price*; returns the closed P&L, before fees."""
        closing = _closing(self.size, signed_size)
        closed_cost = (self.cost * (-closing) / self.size).quantize(_UNIT) if closing else _ZERO
        opening = signed_size - closing
        self.size += signed_size
        self.cost += opening * price - closed_cost
        return -closing * price - closed_cost


@define(kw_only=True)
class Account:
    """One account: *address* is lower-case."""

    address: str
    balance: Decimal
    positions: dict[str, Position] = Factory(dict)
    leverage: dict[str, int] = Factory(dict)
    orders: dict[int, UserOrder] = Factory(dict)
    fills: deque[UserFill] = Factory(lambda: deque(maxlen=KEPT_FILLS))
    traded: Decimal = _ZERO

    def position_size(self, coin: str) -> Decimal:
        """Signed position in *coin*; 0 when flat."""
        position = self.positions.get(coin)
        return position.size if position else _ZERO

    def leverage_of(self, coin: str, maximum: int) -> int:
        """The leverage chosen for *coin*, the venue's default otherwise."""
        return min(self.leverage.get(coin, DEFAULT_LEVERAGE), maximum)

    def value(self, mark: Callable[[str], Decimal]) -> Decimal:
        """Balance plus unrealised P&L at *mark* (price by coin)."""
        return self.balance + sum(
            (held.size * mark(coin) - held.cost for coin, held in self.positions.items()), _ZERO
        )

    def apply_fill(
        self, order: UserOrder, price: Decimal, size: Decimal, *, tid: int, taker: bool, now_ms: int
    ) -> UserFill:
        """Book an execution of *order*: its progress, position, fee and P&L; kept as a fill."""
        position = self.positions.setdefault(order.coin, Position())
        start = position.size
        closed = position.apply(order.side.sign * size, price)
        if not position.size:
            del self.positions[order.coin]
        notional = price * size
        rate = TAKER_FEE if taker else MAKER_FEE
        fee = (notional * rate).quantize(_UNIT, rounding=ROUND_HALF_EVEN)
        self.balance += closed - fee
        self.traded += notional
        order.left -= size
        order.filled += size
        order.notional += notional
        fill = UserFill(
            coin=order.coin,
            price=price,
            size=size,
            side=order.side,
            time_ms=now_ms,
            start_position=start,
            direction=_direction(start, start + order.side.sign * size),
            closed_pnl=closed,
            oid=order.oid,
            cloid=order.cloid,
            crossed=taker,
            fee=fee,
            tid=tid,
        )
        self.fills.append(fill)
        return fill


def _closing(size: Decimal, change: Decimal) -> Decimal:
    """The part of *change* that reduces a position of *size* (signed like *change*)."""
    if not size or (size > 0) == (change > 0):
        return _ZERO
    return change if abs(change) <= abs(size) else -size


def _direction(before: Decimal, after: Decimal) -> str:
    """The venue's words for what a fill did to a position."""
    if before * after < 0:
        return "Long > Short" if before > 0 else "Short > Long"
    side = "Long" if (before or after) > 0 else "Short"
    return f"Open {side}" if abs(after) > abs(before) else f"Close {side}"
