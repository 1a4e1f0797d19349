"""The clearinghouse: accounts, marks, and the booking of whatever changes them.

Owns the accounts and the house. Every amount that moves, moves here, with its other side; it never
matches and never decides on orders. Called by `trading`, `transfers`, `funding` and `liquidation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Protocol

from zq_daemon.model.market import Side
from zq_daemon.venue.exchange.account import (
    Account,
    FundingPayment,
    LedgerUpdate,
    Liquidation,
    LiquidationMark,
    UserFill,
    UserOrder,
    direction,
    unopened_account,
)
from zq_daemon.venue.exchange.fees import CENTS, DOCUMENTED, FeeRates, charged
from zq_daemon.venue.exchange.house import House
from zq_daemon.venue.exchange.listing import USDC, Perp, SpotPair, total
from zq_daemon.venue.exchange.margin import Reach, held_spot, leverage_of, reach_of
from zq_daemon.venue.exchange.messages import Json, PublicTrade
from zq_daemon.venue.exchange.source import MarketSource, listing_of, mark_price

_ZERO = Decimal(0)


class Tape(Protocol):
    """Where it is told what happened."""

    def order_changed(self, order: UserOrder) -> None:
        """An account's order has a new status or less left."""

    def filled(self, account: Account, fill: UserFill) -> None:
        """An account's order traded."""

    def traded(self, trade: PublicTrade) -> None:
        """A trade for everybody."""

    def withdrawn(self, order: UserOrder) -> None:
        """An account's order was cancelled by the venue, not by its owner."""

    def funded(self, account: Account, payment: FundingPayment) -> None:
        """An account paid or got funding."""

    def noted(self, account: Account, update: LedgerUpdate) -> None:
        """Money of an account came or went without a trade."""

    def liquidated(self, account: Account, liquidation: Liquidation) -> None:
        """An account's positions were liquidated."""


class Clearinghouse:
    """All accounts on one market, at these *rates*. Ids begin behind *last_id*.

    *holders* are the accounts with a position, by coin; *stirred* are those whose worth something
    else than a mark has changed, until the liquidator has looked at them.
    """

    def __init__(
        self, market: MarketSource, tape: Tape, *, last_id: int, rates: FeeRates = DOCUMENTED
    ) -> None:
        self.market = market
        self.tape = tape
        self.listing = listing_of(market)
        self.house = House()
        self.accounts: dict[str, Account] = {}
        self.last_trade: dict[str, Decimal] = {}
        self.holders: dict[str, dict[str, Account]] = {}
        self.stirred: dict[str, Account] = {}
        self.now_ms = 0
        self.rates = rates
        self._last_id = last_id
        self._pairs: Mapping[str, SpotPair] = {pair.name: pair for pair in self.listing.pairs}
        self._perps: Mapping[str, Perp] = {perp.name: perp for perp in self.listing.perps}

    def new_id(self) -> int:
        """An id unused so far, for an order, a trade or a liquidation."""
        self._last_id += 1
        return self._last_id

    def mark(self, coin: str) -> Decimal:
        """Mark price: `source.mark_price`, else the price last traded at, else 0."""
        return mark_price(self.market, coin) or self.last_trade.get(coin, _ZERO)

    def oracle(self, coin: str) -> Decimal:
        """The outside price, else the mark."""
        return self.market.oracle(coin) or self.mark(coin)

    def open_interest(self, coin: str) -> Decimal:
        """The size of all long positions: as much is short, of users or of the outside."""
        sizes = [account.position_size(coin) for account in self.accounts.values()]
        sizes.append(self.house.insurance.position_size(coin))
        longs, shorts = (total(max(sign * size, _ZERO) for size in sizes) for sign in (1, -1))
        return max(longs, shorts)

    def perp(self, coin: str) -> Perp:
        """A listed perpetual; KeyError for anything else."""
        return self._perps[coin]

    def pair(self, coin: str) -> SpotPair | None:
        """A listed spot pair; None for anything else."""
        return self._pairs.get(coin)

    def open_account(self, address: str, balance: Decimal) -> Account:
        """A new account with *balance* USDC in the perpetuals' wallet, and as much in spot."""
        account = self.accounts[address] = unopened_account(address, balance)
        self.house.deposited[USDC.name] += 2 * balance
        return account

    def spot_holds(self, account: Account, without: UserOrder | None = None) -> dict[str, Decimal]:
        """What the account's spot orders, but *without*, may still spend, by token."""
        orders = (order for order in account.orders.values() if order is not without)
        return held_spot(orders, self._pairs)

    def reach(self, account: Account, without: UserOrder | None = None) -> Reach:
        """How far the account's orders, but *without*, may take its positions.

        An armed order takes no margin until it is triggered, a reduce-only one never does.
        """
        orders = (
            order
            for order in account.orders.values()
            if order is not without
            and order.coin in self._perps
            and not (order.reduce_only or order.is_armed)
        )
        return reach_of(account, orders)

    def available(self, account: Account, token: str, without: UserOrder | None = None) -> Decimal:
        """A spot balance less what orders hold of it."""
        return account.token(token) - self.spot_holds(account, without).get(token, _ZERO)

    def book_fill(
        self,
        order: UserOrder,
        price: Decimal,
        size: Decimal,
        *,
        tid: int,
        taker: bool,
        liquidation: LiquidationMark | None = None,
    ) -> UserFill:
        """Book an execution of *order*: progress, position or balances, fee; kept as a fill."""
        account, change = self.accounts[order.account], order.side.sign * size
        pair = self._pairs.get(order.coin)
        if pair is None:
            start, closed, fee, token = self._trade_perp(account, order.coin, change, price, taker)
            words = direction(start, start + change)
        else:
            start, closed, fee, token = self._trade_spot(account, pair, change, price, taker)
            words = "Buy" if change > 0 else "Sell"
        order.left -= size
        order.filled += size
        order.notional += price * size
        account.traded += price * size
        fill = UserFill(
            coin=order.coin,
            price=price,
            size=size,
            side=order.side,
            time_ms=self.now_ms,
            start_position=start,
            direction=words,
            closed_pnl=closed,
            oid=order.oid,
            cloid=order.cloid,
            crossed=taker,
            fee=fee,
            tid=tid,
            fee_token=token,
            liquidation=liquidation,
        )
        account.fills.append(fill)
        self.tape.filled(account, fill)
        return fill

    def book_outside(self, coin: str, side: Side, price: Decimal, size: Decimal) -> None:
        """Somebody who is no account traded."""
        pair = self._pairs.get(coin)
        if pair is None:
            self.house.meet_perp(coin, side.sign * size, price)
        else:
            self.house.meet_spot(pair.base.name, pair.quote.name, side.sign * size, price)

    def take_over(self, account: Account, coin: str, mark: Decimal, *, oid: int, kind: str) -> None:
        """The insurance takes a position over at *mark*, without a fee; the account has a fill.

        *kind* is `Cross` or `Isolated`.
        """
        size = account.position_size(coin)
        start, closed = self._change(account, coin, -size, mark)
        insurance = self.house.insurance
        insurance.trade_perp(coin, size, mark, leverage_of(insurance, coin, self))
        method = LiquidationMark(user=account.address, mark=mark, method="backstop")
        fill = UserFill(
            coin=coin,
            price=mark,
            size=abs(size),
            side=Side.SELL if size > 0 else Side.BUY,
            time_ms=self.now_ms,
            start_position=start,
            direction=f"Liquidated {kind} {'Long' if size > 0 else 'Short'}",
            closed_pnl=closed,
            oid=oid,
            cloid=None,
            crossed=True,
            fee=_ZERO,
            tid=self.new_id(),
            liquidation=method,
        )
        account.fills.append(fill)
        self.tape.filled(account, fill)

    def cover(self, account: Account, amount: Decimal) -> None:
        """The insurance pays *amount* into an account's wallet."""
        self.house.insurance.balance -= amount
        account.balance += amount

    def pay_funding(self, account: Account, payment: FundingPayment) -> None:
        """Book a funding payment between an account and, at first, the outside."""
        account.payments.append(payment)
        self.stirred[account.address] = account
        position = account.positions[payment.coin]
        if position.margin is None:
            account.balance += payment.usdc
        else:
            position.margin += payment.usdc
        paid = account.funding_paid.get(payment.coin, _ZERO) - payment.usdc
        account.funding_paid[payment.coin] = paid
        position.funding_since_open -= payment.usdc
        position.funding_since_change -= payment.usdc
        self.house.outside[USDC.name] -= payment.usdc
        self.tape.funded(account, payment)

    def note(self, account: Account, delta: Json) -> None:
        """Remember money that came or went without a trade."""
        update = LedgerUpdate(time_ms=self.now_ms, number=self.new_id(), delta=delta)
        account.updates.append(update)
        self.tape.noted(account, update)

    def imbalances(self) -> dict[str, Decimal]:
        """What does not add up over all accounts and the house: nothing, always."""
        return self.house.imbalances(self.accounts.values())

    def _trade_perp(
        self, account: Account, coin: str, change: Decimal, price: Decimal, taker: bool
    ) -> tuple[Decimal, Decimal, Decimal, str]:
        fee = charged(abs(change) * price, self.rates.perp(taker=taker), CENTS)
        start, closed = self._change(account, coin, change, price)
        account.balance -= fee
        self.house.fees[USDC.name] += fee
        return start, closed, fee, USDC.name

    def _change(
        self, account: Account, coin: str, change: Decimal, price: Decimal
    ) -> tuple[Decimal, Decimal]:
        """Trade a perpetual, and keep who holds it."""
        result = account.trade_perp(coin, change, price, leverage_of(account, coin, self))
        holders = self.holders.setdefault(coin, {})
        if coin in account.positions:
            holders[account.address] = account
        else:
            holders.pop(account.address, None)
        self.stirred[account.address] = account
        return result

    def _trade_spot(
        self, account: Account, pair: SpotPair, change: Decimal, price: Decimal, taker: bool
    ) -> tuple[Decimal, Decimal, Decimal, str]:
        token = pair.base if change > 0 else pair.quote
        amount = change if change > 0 else -change * price
        fee = charged(amount, self.rates.spot(taker=taker), token.wei_decimals)
        start, closed = account.trade_spot(pair, change, price, fee)
        self.house.fees[token.name] += fee
        return start, closed, fee, token.name
