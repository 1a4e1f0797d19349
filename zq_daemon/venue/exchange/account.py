"""Accounts of the embedded exchange: perpetual wallet, positions, spot balances, fills, orders.

Owns the arithmetic of trades (entry cost, closed P&L, margin set aside). Never matches and never
sends. Amounts have a bounded number of decimals, as price times size has by the listing's rules, so
that all sums are exact. Quantised (to six decimals) are only the cost and the margin that leave
with a part of a position, and the margin set aside for an isolated one; what is quantised away
stays in the position or in the wallet, so that nothing is ever created or lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from attrs import Factory, define, frozen

from zq_daemon.model.market import Side
from zq_daemon.venue.exchange.listing import USDC, SpotPair, total

DEFAULT_LEVERAGE = 20
KEPT_FILLS = 10_000
KEPT_PAYMENTS = 10_000
UNIT = Decimal("0.000001")
"""What money is quantised to, and what the whole numbers of some actions count."""
_ZERO = Decimal(0)


@frozen(kw_only=True)
class Trigger:
    """What an order waits for: the mark price at *price*, to take a profit or to stop a loss."""

    price: Decimal
    is_market: bool
    takes_profit: bool

    def fires_above(self, side: Side) -> bool:
        """A rising price sets off the profit of a long and the stop of a short."""
        return (side is Side.SELL) is self.takes_profit

    def is_reached(self, side: Side, mark: Decimal) -> bool:
        """Whether *mark* sets off an order of *side*."""
        return mark >= self.price if self.fires_above(side) else mark <= self.price


@frozen(kw_only=True)
class LiquidationMark:
    """That a fill liquidates *user*, at which mark, and how: `market` or `backstop`."""

    user: str
    mark: Decimal
    method: str


@frozen(kw_only=True)
class Liquidation:
    """What is told when *user* is liquidated: *coins* are (coin, signed size) before it."""

    lid: int
    liquidator: str
    user: str
    notional: Decimal
    account_value: Decimal
    coins: tuple[tuple[str, Decimal], ...]
    is_cross: bool


@define(kw_only=True, eq=False)
class UserOrder:
    """An order of an account and where it stands; *status* is the venue's word.

    With a *trigger* it rests outside the book until *triggered*. *parent* is the order it waits
    for; *siblings* are cancelled when it is filled; *follows_position* keeps its size the
    position's.
    """

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
    trigger: Trigger | None = None
    triggered: bool = False
    follows_position: bool = False
    parent: UserOrder | None = None
    children: list[UserOrder] = Factory(list)
    siblings: list[UserOrder] = Factory(list)
    liquidation: LiquidationMark | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for its parent's fill."""
        return self.parent is not None

    @property
    def is_armed(self) -> bool:
        """Whether it waits for the mark price."""
        return self.trigger is not None and not self.triggered and self.parent is None


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
    fee_token: str = USDC.name
    liquidation: LiquidationMark | None = None


@frozen(kw_only=True)
class FundingPayment:
    """Funding of one interval: *usdc* is negative when it was paid; *size* is the position's."""

    coin: str
    time_ms: int
    usdc: Decimal
    size: Decimal
    rate: Decimal
    samples: int


@frozen(kw_only=True)
class LedgerUpdate:
    """Money that came or went without a trade; *delta* as the wire has it."""

    time_ms: int
    number: int
    delta: dict[str, Any]


@frozen(kw_only=True)
class Leverage:
    """A chosen leverage, and whether the whole wallet backs the position."""

    value: int
    is_cross: bool = True


@define
class Position:
    """A signed size and what it cost: *cost* has the sign of *size* (entry price = cost / size).

    *margin* is what was set aside for an isolated position; None for a cross one.
    """

    size: Decimal = _ZERO
    cost: Decimal = _ZERO
    margin: Decimal | None = None
    funding_since_open: Decimal = _ZERO
    funding_since_change: Decimal = _ZERO

    @property
    def entry_price(self) -> Decimal | None:
        """Average entry price; None when flat."""
        return self.cost / self.size if self.size else None

    @property
    def set_aside(self) -> Decimal:
        """Its own margin; 0 of a cross position."""
        return _ZERO if self.margin is None else self.margin

    @property
    def raw_usd(self) -> Decimal:
        """What it would leave behind at price 0: its own margin less its cost."""
        return self.set_aside - self.cost

    def profit(self, mark: Decimal) -> Decimal:
        """Unrealised P&L at *mark*."""
        return self.size * mark - self.cost

    def apply(self, signed_size: Decimal, price: Decimal) -> Decimal:
        """Trade *signed_size* at *price*; returns the closed P&L, before fees."""
        closing = _closing(self.size, signed_size)
        closed_cost = (self.cost * (-closing) / self.size).quantize(UNIT) if closing else _ZERO
        opening = signed_size - closing
        if not self.size or self.size == -closing:
            self.funding_since_open = _ZERO
        self.funding_since_change = _ZERO
        self.size += signed_size
        self.cost += opening * price - closed_cost
        return -closing * price - closed_cost

    def release(self, signed_size: Decimal) -> Decimal:
        """Take out the margin of what trading *signed_size* will close, before it is applied."""
        closing = _closing(self.size, signed_size)
        if self.margin is None or not closing:
            return _ZERO
        released = (self.margin * -closing / self.size).quantize(UNIT)
        self.margin -= released
        return released


@define
class Balance:
    """A spot balance and what it cost (*entry*, in the quote token; 0 for dollars)."""

    total: Decimal = _ZERO
    entry: Decimal = _ZERO


@define(kw_only=True)
class Account:
    """One account: *address* is lower-case, *balance* the cash of the perpetuals' wallet."""

    address: str
    balance: Decimal
    positions: dict[str, Position] = Factory(dict)
    leverage: dict[str, Leverage] = Factory(dict)
    spot: dict[str, Balance] = Factory(dict)
    orders: dict[int, UserOrder] = Factory(dict)
    fills: deque[UserFill] = Factory(lambda: deque(maxlen=KEPT_FILLS))
    payments: deque[FundingPayment] = Factory(lambda: deque(maxlen=KEPT_PAYMENTS))
    updates: deque[LedgerUpdate] = Factory(lambda: deque(maxlen=KEPT_PAYMENTS))
    funding_paid: dict[str, Decimal] = Factory(dict)
    traded: Decimal = _ZERO

    def position_size(self, coin: str) -> Decimal:
        """Signed position in *coin*; 0 when flat."""
        position = self.positions.get(coin)
        return position.size if position else _ZERO

    def leverage_of(self, coin: str, maximum: int, *, only_isolated: bool = False) -> Leverage:
        """The leverage chosen for *coin*, the venue's default otherwise."""
        chosen = self.leverage.get(coin)
        if chosen is not None:
            return chosen
        return Leverage(value=min(DEFAULT_LEVERAGE, maximum), is_cross=not only_isolated)

    def value(self, mark: Callable[[str], Decimal]) -> Decimal:
        """Worth of the perpetuals' wallet: cash, margin and unrealised P&L at *mark* (by coin)."""
        return self.balance + total(
            held.set_aside + held.profit(mark(coin)) for coin, held in self.positions.items()
        )

    def open_orders(self) -> Iterator[UserOrder]:
        """Live orders, but those that wait for another's fill: resting and armed ones."""
        return (order for order in self.orders.values() if not order.is_waiting)

    def token(self, name: str) -> Decimal:
        """The spot balance of a token, held or not."""
        balance = self.spot.get(name)
        return balance.total if balance else _ZERO

    def credit(self, name: str, amount: Decimal, entry: Decimal = _ZERO) -> None:
        """Add to a spot balance (or take away); an empty one is forgotten."""
        balance = self.spot.setdefault(name, Balance())
        balance.total += amount
        balance.entry += entry
        if not balance.total:
            del self.spot[name]

    def debit(self, name: str, amount: Decimal) -> Decimal:
        """Take *amount* (> 0) out of a spot balance; returns what that part had cost."""
        held = self.spot.get(name, Balance())
        cost = (held.entry * amount / held.total).quantize(UNIT) if held.total else _ZERO
        self.credit(name, -amount, -cost)
        return cost

    def trade_perp(
        self, coin: str, change: Decimal, price: Decimal, leverage: Leverage
    ) -> tuple[Decimal, Decimal]:
        """Trade a perpetual; returns the size before and the closed P&L. Fees are the caller's."""
        position = self.positions.get(coin)
        if position is None:
            margin = None if leverage.is_cross else _ZERO
            position = self.positions[coin] = Position(margin=margin)
        start = position.size
        opening = change - _closing(start, change)
        released = position.release(change)
        closed = position.apply(change, price)
        self.balance += closed + released
        if position.margin is not None and opening:
            self._set_aside(position, abs(opening) * price / leverage.value)
        if not position.size:
            # What quantising left in a closed position is cash again.
            self.balance -= position.cost
            del self.positions[coin]
        return start, closed

    def trade_spot(
        self, pair: SpotPair, change: Decimal, price: Decimal, fee: Decimal
    ) -> tuple[Decimal, Decimal]:
        """Trade a pair, *fee* in what is received; the base balance before and the closed P&L."""
        start, notional = self.token(pair.base.name), abs(change) * price
        if change > 0:
            self.credit(pair.base.name, change - fee, notional)
            self.credit(pair.quote.name, -notional)
            return start, _ZERO
        cost = self.debit(pair.base.name, -change)
        self.credit(pair.quote.name, notional - fee)
        return start, notional - cost

    def _set_aside(self, position: Position, needed: Decimal) -> None:
        """Move margin into an isolated position: no more than there is."""
        amount = max(min(needed.quantize(UNIT), self.balance), _ZERO)
        position.margin = position.set_aside + amount
        self.balance -= amount


def unopened_account(address: str, balance: Decimal) -> Account:
    """What an account is before its first use: *balance* USDC for perpetuals, and as much spot."""
    account = Account(address=address, balance=balance)
    if balance:
        account.credit(USDC.name, balance)
    return account


def direction(before: Decimal, after: Decimal) -> str:
    """The venue's words for what a fill did to a position."""
    if before * after < 0:
        return "Long > Short" if before > 0 else "Short > Long"
    side = "Long" if (before or after) > 0 else "Short"
    return f"Open {side}" if abs(after) > abs(before) else f"Close {side}"


def _closing(size: Decimal, change: Decimal) -> Decimal:
    """The part of *change* that reduces a position of *size* (signed like *change*)."""
    if not size or (size > 0) == (change > 0):
        return _ZERO
    return change if abs(change) <= abs(size) else -size
