"""Margin: what positions and orders need, what an account is worth, and where it is liquidated.

Pure functions of an account, the marks and the listing; they own no state and change nothing. The
formulas are the venue's documented ones: initial margin is notional / leverage, maintenance margin
half the initial margin at the highest leverage, and the liquidation price
`mark - side * available / size / (1 - l * side)` with `l` the maintenance fraction.

All is exact but what is quantised here: margins to six decimals (half to even), liquidation price
and return on equity to eight, the entry price to ten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from attrs import frozen

from zq_daemon.model.market import Side
from zq_daemon.venue.exchange.account import UNIT, Account, Leverage, Position, UserOrder
from zq_daemon.venue.exchange.listing import Perp, SpotPair, total

TRANSFER_SHARE = Decimal("0.1")
"""Money may leave only while this share of the open notional stays."""
_EIGHT = Decimal("0.00000001")
_TEN = Decimal("0.0000000001")
_ZERO = Decimal(0)
Reach = dict[str, tuple[Decimal, Decimal]]
"""The lowest and the highest position by coin."""


class Marks(Protocol):
    """Prices and listing."""

    def mark(self, coin: str) -> Decimal:
        """Mark price; 0 while unknown."""

    def perp(self, coin: str) -> Perp:
        """A listed perpetual."""


@frozen(kw_only=True)
class PositionSummary:
    """One position at its mark, as `clearinghouseState` documents it."""

    coin: str
    size: Decimal
    leverage: Leverage
    raw_usd: Decimal
    entry_price: Decimal
    value: Decimal
    profit: Decimal
    return_on_equity: Decimal
    liquidation_price: Decimal | None
    margin_used: Decimal
    maintenance: Decimal
    max_leverage: int
    funding_all_time: Decimal
    funding_since_open: Decimal
    funding_since_change: Decimal

    @property
    def signed_value(self) -> Decimal:
        """Value with the position's sign."""
        return self.value if self.size > 0 else -self.value


@frozen(kw_only=True)
class AccountSummary:
    """An account's worth (*value*) and needs; cross is all but the isolated positions."""

    value: Decimal
    cross_value: Decimal
    cross_maintenance: Decimal
    withdrawable: Decimal
    positions: Sequence[PositionSummary]

    @property
    def cross_positions(self) -> list[PositionSummary]:
        """Positions that the whole wallet backs."""
        return [each for each in self.positions if each.leverage.is_cross]


def account_summary(account: Account, marks: Marks) -> AccountSummary:
    """Everything `clearinghouseState` tells of *account*."""
    cross = cross_value(account, marks)
    maintenance = cross_maintenance(account, marks)
    positions = [_position(account, coin, marks, cross - maintenance) for coin in account.positions]
    return AccountSummary(
        value=account.value(marks.mark),
        cross_value=cross,
        cross_maintenance=maintenance,
        withdrawable=withdrawable(account, marks),
        positions=positions,
    )


def leverage_of(account: Account, coin: str, marks: Marks) -> Leverage:
    """The leverage in force: of an open position its own kind, whatever was chosen."""
    perp = marks.perp(coin)
    chosen = account.leverage_of(coin, perp.max_leverage, only_isolated=perp.only_isolated)
    held = account.positions.get(coin)
    if held is None:
        return chosen
    return Leverage(value=chosen.value, is_cross=held.margin is None)


def initial_margin(notional: Decimal, leverage: int) -> Decimal:
    """Margin that opening *notional* takes."""
    return (notional / leverage).quantize(UNIT)


def maintenance_margin(notional: Decimal, max_leverage: int) -> Decimal:
    """Margin under which a position of *notional* is liquidated."""
    return (notional / (2 * max_leverage)).quantize(UNIT)


def cross_value(account: Account, marks: Marks) -> Decimal:
    """Worth of the wallet without the isolated positions."""
    return account.balance + total(
        held.profit(marks.mark(coin)) for coin, held in _cross(account).items()
    )


def cross_maintenance(account: Account, marks: Marks) -> Decimal:
    """Maintenance margin of all cross positions."""
    return total(
        maintenance_margin(abs(held.size) * marks.mark(coin), marks.perp(coin).max_leverage)
        for coin, held in _cross(account).items()
    )


def withdrawable(account: Account, marks: Marks) -> Decimal:
    """What may leave the wallet: the cross positions' initial margin stays, and a tenth of them."""
    sizes = {coin: abs(held.size) * marks.mark(coin) for coin, held in _cross(account).items()}
    needed = total(
        initial_margin(notional, leverage_of(account, coin, marks).value)
        for coin, notional in sizes.items()
    )
    kept = max(needed, total(sizes.values()) * TRANSFER_SHARE)
    return max(cross_value(account, marks) - kept, _ZERO)


def removable(account: Account, coin: str, marks: Marks) -> Decimal:
    """How much margin may be taken out of an isolated position."""
    held, mark = account.positions[coin], marks.mark(coin)
    notional = abs(held.size) * mark
    needed = initial_margin(notional, leverage_of(account, coin, marks).value)
    kept = max(needed, notional * TRANSFER_SHARE)
    return max(held.set_aside + held.profit(mark) - kept, _ZERO)


def reach_of(account: Account, orders: Iterable[UserOrder]) -> Reach:
    """How short and how long each coin's position gets if all bids or all asks were filled."""
    reach = {coin: (held.size, held.size) for coin, held in account.positions.items()}
    for order in orders:
        bounds = reach.get(order.coin, (_ZERO, _ZERO))
        reach[order.coin] = extended(bounds, order.side, order.left)
    return reach


def extended(bounds: tuple[Decimal, Decimal], side: Side, size: Decimal) -> tuple[Decimal, Decimal]:
    """The bounds of a position with one more order."""
    low, high = bounds
    return (low, high + size) if side is Side.BUY else (low - size, high)


def needed_margin(account: Account, marks: Marks, reach: Reach) -> Decimal:
    """Initial margin the wallet must carry for *reach*; an isolated position has its own."""
    return total(
        _reach_margin(account, coin, max(abs(low), abs(high)), marks)
        for coin, (low, high) in reach.items()
    )


def held_spot(orders: Iterable[UserOrder], pairs: Mapping[str, SpotPair]) -> dict[str, Decimal]:
    """What live spot orders may still spend, by token: quote of buys, base of sells."""
    holds: dict[str, Decimal] = {}
    for order in orders:
        pair = pairs.get(order.coin)
        if pair is None:
            continue
        if order.side is Side.BUY:
            token, amount = pair.quote.name, order.left * order.price
        else:
            token, amount = pair.base.name, order.left
        holds[token] = holds.get(token, _ZERO) + amount
    return holds


def _cross(account: Account) -> dict[str, Position]:
    return {coin: held for coin, held in account.positions.items() if held.margin is None}


def _reach_margin(account: Account, coin: str, size: Decimal, marks: Marks) -> Decimal:
    leverage = leverage_of(account, coin, marks)
    held = account.position_size(coin)
    counted = size if leverage.is_cross else max(size - abs(held), _ZERO)
    return initial_margin(counted * marks.mark(coin), leverage.value)


def _position(
    account: Account, coin: str, marks: Marks, cross_available: Decimal
) -> PositionSummary:
    held, mark, perp = account.positions[coin], marks.mark(coin), marks.perp(coin)
    leverage = leverage_of(account, coin, marks)
    value, profit = abs(held.size) * mark, held.profit(mark)
    maintenance = maintenance_margin(value, perp.max_leverage)
    own = held.set_aside + profit
    at_entry = initial_margin(abs(held.cost), leverage.value)
    available = cross_available if leverage.is_cross else own - maintenance
    return PositionSummary(
        coin=coin,
        size=held.size,
        leverage=leverage,
        raw_usd=held.raw_usd,
        entry_price=(held.entry_price or _ZERO).quantize(_TEN),
        value=value,
        profit=profit,
        return_on_equity=(profit / at_entry).quantize(_EIGHT) if at_entry else _ZERO,
        liquidation_price=_liquidation_price(held.size, mark, available, perp.max_leverage),
        margin_used=initial_margin(value, leverage.value) if leverage.is_cross else own,
        maintenance=maintenance,
        max_leverage=perp.max_leverage,
        funding_all_time=account.funding_paid.get(coin, _ZERO),
        funding_since_open=held.funding_since_open,
        funding_since_change=held.funding_since_change,
    )


def _liquidation_price(
    size: Decimal, mark: Decimal, available: Decimal, max_leverage: int
) -> Decimal | None:
    """The documented formula; None where no positive price liquidates."""
    side = 1 if size > 0 else -1
    fraction = Decimal(1) / (2 * max_leverage)
    price = mark - side * available / abs(size) / (1 - fraction * side)
    return price.quantize(_EIGHT) if price > 0 else None
