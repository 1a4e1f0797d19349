"""Liquidation: what happens to positions that their margin no longer carries.

Owns the decision and its steps. Called by `trading` after everything that can move a mark or a
balance. When the wallet is worth less than the maintenance margin of its cross positions (or an
isolated position less than its own), the orders that need that margin are cancelled, positions are
sold to the book, the largest first and only until the wallet is healthy, as immediate orders no
worse than the maintenance fraction away from the mark; what is left goes to the insurance at the
mark. A wallet (or an isolated position) that ends below nothing is made whole by the insurance.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Protocol

from zq_daemon.model.market import Side
from zq_daemon.venue.exchange.account import Account, Liquidation, LiquidationMark, UserOrder
from zq_daemon.venue.exchange.checks import Terms
from zq_daemon.venue.exchange.clearinghouse import Clearinghouse
from zq_daemon.venue.exchange.house import INSURANCE
from zq_daemon.venue.exchange.listing import nearest_price
from zq_daemon.venue.exchange.margin import (
    AccountSummary,
    PositionSummary,
    account_summary,
    cross_maintenance,
    cross_value,
)
from zq_daemon.venue.exchange.messages import liquidation_delta

_ZERO = Decimal(0)


class Floor(Protocol):
    """Where orders live: see `trading.Trading`."""

    def make(self, account: Account, terms: Terms) -> UserOrder:
        """A new live order."""

    def run(self, order: UserOrder) -> Any:
        """Match a live order."""

    def withdraw(self, order: UserOrder, status: str) -> None:
        """Take a live order away."""


class Liquidator:
    """Liquidates accounts of one clearinghouse."""

    def __init__(self, clearing: Clearinghouse, floor: Floor) -> None:
        self._clearing = clearing
        self._floor = floor
        self._marks: dict[str, Decimal] = {}

    def liquidate(self) -> bool:
        """Liquidate whatever must be; whether there was anything.

        Only those are looked at whose worth can have changed since the last time.
        """
        found = False
        for account in self._concerned():
            if account.positions and self._is_priced(account):
                found = self._check(account) or found
        return found

    def _concerned(self) -> list[Account]:
        concerned, self._clearing.stirred = self._clearing.stirred, {}
        for coin, holders in self._clearing.holders.items():
            mark = self._clearing.mark(coin) if holders else _ZERO
            if holders and mark != self._marks.get(coin):
                concerned |= holders
            self._marks[coin] = mark
        return list(concerned.values())

    def _check(self, account: Account) -> bool:
        found = False
        for coin in [coin for coin, held in account.positions.items() if held.margin is not None]:
            summary = account_summary(account, self._clearing)
            position = next(each for each in summary.positions if each.coin == coin)
            if position.margin_used < position.maintenance:
                self._liquidate_isolated(account, position)
                found = True
        if self._is_unhealthy(account):
            self._liquidate_cross(account)
            found = True
        return found

    def _is_priced(self, account: Account) -> bool:
        """Without a price nobody is liquidated."""
        return all(self._clearing.mark(coin) for coin in account.positions)

    def _is_unhealthy(self, account: Account) -> bool:
        maintenance = cross_maintenance(account, self._clearing)
        return bool(maintenance) and cross_value(account, self._clearing) < maintenance

    def _liquidate_cross(self, account: Account) -> None:
        summary = account_summary(account, self._clearing)
        self._tell(account, summary, summary.cross_positions)
        self._cancel(account, account.orders.values())
        largest = sorted(summary.cross_positions, key=lambda each: -each.value)
        for position in largest:
            if not self._is_unhealthy(account):
                return
            self._close(account, position)
        if account.balance < 0:
            self._clearing.cover(account, -account.balance)

    def _liquidate_isolated(self, account: Account, position: PositionSummary) -> None:
        summary = account_summary(account, self._clearing)
        self._tell(account, summary, [position])
        coins_orders = [each for each in account.orders.values() if each.coin == position.coin]
        self._cancel(account, coins_orders)
        before = account.balance
        self._close(account, position)
        if account.balance < before:
            self._clearing.cover(account, before - account.balance)

    def _cancel(self, account: Account, orders: Iterable[UserOrder]) -> None:
        for order in list(orders):
            if self._clearing.pair(order.coin) is None:
                self._floor.withdraw(order, "liquidatedCanceled")

    def _close(self, account: Account, position: PositionSummary) -> None:
        """Sell to the book; the rest goes to the insurance."""
        coin, perp = position.coin, self._clearing.perp(position.coin)
        mark = self._clearing.mark(coin)
        side = Side.SELL if position.size > 0 else Side.BUY
        limit = mark * (1 + side.sign / Decimal(2 * perp.max_leverage))
        order = self._floor.make(
            account,
            Terms(
                asset=perp,
                side=side,
                price=nearest_price(perp, limit),
                size=abs(account.position_size(coin)),
                tif="LiquidationMarket",
                reduce_only=True,
                cloid=None,
            ),
        )
        order.liquidation = LiquidationMark(user=account.address, mark=mark, method="market")
        self._floor.run(order)
        if account.position_size(coin):
            kind = "Cross" if position.leverage.is_cross else "Isolated"
            self._clearing.take_over(account, coin, mark, oid=order.oid, kind=kind)

    def _tell(
        self, account: Account, summary: AccountSummary, positions: Iterable[PositionSummary]
    ) -> None:
        notional = sum((each.value for each in positions), _ZERO)
        liquidation = Liquidation(
            lid=self._clearing.new_id(),
            liquidator=INSURANCE,
            user=account.address,
            notional=notional,
            account_value=summary.value,
            coins=tuple((each.coin, each.size) for each in positions),
            is_cross=all(each.leverage.is_cross for each in positions),
        )
        self._clearing.tape.liquidated(account, liquidation)
        self._clearing.note(account, liquidation_delta(liquidation))
