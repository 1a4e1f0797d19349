"""Leverage, isolated margin, and money that moves without a trade.

Owns the rules of these; amounts are exact and bounded by what may leave. Each returns what is
wrong, or None when it is done. Never touches orders. Called by `trading`.
"""

from __future__ import annotations

from decimal import Decimal

from zq_daemon.venue.exchange.account import Account, Leverage
from zq_daemon.venue.exchange.clearinghouse import Clearinghouse
from zq_daemon.venue.exchange.fees import CENTS
from zq_daemon.venue.exchange.listing import USDC, Perp, wire
from zq_daemon.venue.exchange.margin import (
    cross_value,
    initial_margin,
    leverage_of,
    needed_margin,
    reach_of,
    removable,
    withdrawable,
)

NOT_LISTED = "Asset is not listed."
TOO_LITTLE = "Insufficient balance for transfer."
BAD_AMOUNT = "Invalid amount."


class Transfers:
    """Moves within one clearinghouse."""

    def __init__(self, clearing: Clearinghouse) -> None:
        self._clearing = clearing

    def set_leverage(
        self, account: Account, asset: int, leverage: int, is_cross: bool
    ) -> str | None:
        """Choose the leverage of a perpetual, and whether the whole wallet backs it."""
        perp = self._clearing.listing.find(asset)
        if not isinstance(perp, Perp) or perp.delisted:
            return NOT_LISTED
        if not 1 <= leverage <= perp.max_leverage:
            return f"Invalid leverage value: at most {perp.max_leverage}"
        if is_cross and perp.only_isolated:
            return "Cross margin is not allowed for this asset."
        now = leverage_of(account, perp.name, self._clearing)
        if perp.name in account.positions and is_cross is not now.is_cross:
            return "Cannot switch leverage type with open position."
        return self._choose(account, perp.name, now, Leverage(value=leverage, is_cross=is_cross))

    def add_isolated_margin(self, account: Account, asset: int, amount: Decimal) -> str | None:
        """Put USDC into an isolated position; a negative *amount* takes some out."""
        perp = self._clearing.listing.find(asset)
        position = account.positions.get(perp.name) if isinstance(perp, Perp) else None
        if perp is None or position is None or position.margin is None:
            return "No isolated position to change the margin of."
        if not _fits(abs(amount), CENTS):
            return BAD_AMOUNT
        if amount > withdrawable(account, self._clearing):
            return "Insufficient margin to add."
        if amount < 0 and -amount > removable(account, perp.name, self._clearing):
            return "Cannot remove that much margin from the position."
        position.margin += amount
        account.balance -= amount
        return None

    def transfer_class(self, account: Account, amount: Decimal, to_perp: bool) -> str | None:
        """Move USDC between the account's two wallets."""
        if not _fits(amount, CENTS):
            return BAD_AMOUNT
        if amount > (self._free(account) if to_perp else self._withdrawable(account)):
            return TOO_LITTLE
        sign = 1 if to_perp else -1
        account.balance += sign * amount
        account.credit(USDC.name, -sign * amount)
        delta = {"type": "accountClassTransfer", "usdc": wire(amount), "toPerp": to_perp}
        self._clearing.note(account, delta)
        return None

    def send_usd(
        self,
        account: Account,
        destination: Account,
        amount: Decimal,
        kind: str = "internalTransfer",
    ) -> str | None:
        """Give USDC of the perpetuals' wallet to another account; *kind* is what it is told as."""
        if not _fits(amount, CENTS):
            return BAD_AMOUNT
        if amount > self._withdrawable(account):
            return TOO_LITTLE
        account.balance -= amount
        destination.balance += amount
        delta = {
            "type": kind,
            "usdc": wire(amount),
            "user": account.address,
            "destination": destination.address,
            "fee": "0.0",
        }
        self._note_both(account, destination, delta)
        return None

    def send_spot(
        self, account: Account, destination: Account, token: str, amount: Decimal
    ) -> str | None:
        """Give a spot token (`NAME:tokenId`, or its name alone) to another account."""
        found = self._clearing.listing.token(token)
        if found is None:
            return f"Unknown token {token[:80]}."
        if not _fits(amount, found.wei_decimals):
            return BAD_AMOUNT
        if amount > self._clearing.available(account, found.name):
            return TOO_LITTLE
        destination.credit(found.name, amount, account.debit(found.name, amount))
        delta = {
            "type": "spotTransfer",
            "token": found.name,
            "amount": wire(amount),
            "usdcValue": wire(amount if found is USDC else Decimal(0)),
            "user": account.address,
            "destination": destination.address,
            "fee": "0.0",
            "nativeTokenFee": "0.0",
        }
        self._note_both(account, destination, delta)
        return None

    def _choose(self, account: Account, coin: str, now: Leverage, wanted: Leverage) -> str | None:
        """A lower leverage needs more margin, which must be there."""
        held = account.positions.get(coin)
        before = account.leverage.get(coin)
        account.leverage[coin] = wanted
        if held is None or wanted.value >= now.value:
            return None
        if held.margin is None:
            needed, there = (
                needed_margin(account, self._clearing, reach_of(account, ())),
                self._value(account),
            )
        else:
            mark = self._clearing.mark(coin)
            needed = initial_margin(abs(held.size) * mark, wanted.value)
            there = held.margin + held.profit(mark)
        if needed <= there:
            return None
        account.leverage.pop(coin)
        if before is not None:
            account.leverage[coin] = before
        return "Insufficient margin to decrease leverage."

    def _value(self, account: Account) -> Decimal:
        return cross_value(account, self._clearing)

    def _withdrawable(self, account: Account) -> Decimal:
        return withdrawable(account, self._clearing)

    def _free(self, account: Account) -> Decimal:
        return self._clearing.available(account, USDC.name)

    def _note_both(self, account: Account, destination: Account, delta: dict[str, str]) -> None:
        self._clearing.note(account, delta)
        if destination is not account:
            self._clearing.note(destination, delta)


def _fits(amount: Decimal, decimals: int) -> bool:
    """Whether it is a positive amount without more decimals than there are."""
    return amount > 0 and amount == amount.quantize(Decimal(1).scaleb(-decimals))
