"""What admitted actions do to accounts: agents, sub-accounts, and money that moves.

Owns nothing: accounts and ties are the register's, money is moved by `transfers`. Never touches an
order. Called by `perform.Performer`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import assert_never

from zq_daemon.venue.exchange import actions as wire
from zq_daemon.venue.exchange.account import UNIT, Account
from zq_daemon.venue.exchange.envelope import ActionError
from zq_daemon.venue.exchange.listing import USDC, parse_number
from zq_daemon.venue.exchange.messages import Json
from zq_daemon.venue.exchange.register import Register
from zq_daemon.venue.exchange.trading import Trading

DEFAULT: Json = {"type": "default"}
_OF_SUB_ACCOUNT = re.compile(r"(?P<amount>\S+) subaccount:(?P<address>0x[0-9a-fA-F]{40})")
_PERP = ""


class Administrator:
    """Executes what is about accounts."""

    def __init__(self, trading: Trading, register: Register) -> None:
        self._trading = trading
        self._transfers = trading.transfers
        self._register = register

    def perform(self, account: Account, action: wire.Administration) -> Json:
        """The response to *action*; raises ActionError when it is refused."""
        match action:
            case wire.CreateSubAccount():
                ward = self._register.open_sub_account(account.address, action.name)
                return {"type": "createSubAccount", "data": ward.address}
            case wire.ApproveAgent():
                self._approve(account, action)
            case wire.UpdateIsolatedMargin():
                amount = action.ntli * UNIT
                _done(self._transfers.add_isolated_margin(account, action.asset, amount))
            case wire.Withdraw():
                raise ActionError("Withdrawals are not supported: there is no other chain.")
            case _:
                self._move(account, action)
        return DEFAULT

    def _move(self, account: Account, action: wire.Movement) -> None:
        transfers = self._transfers
        match action:
            case wire.UsdClassTransfer():
                amount, holder = self._class_amount(account, action.amount)
                _done(transfers.transfer_class(holder, amount, action.to_perp))
            case wire.UsdSend():
                taker = self._register.receiver(action.destination)
                _done(transfers.send_usd(account, taker, _amount(action.amount)))
            case wire.SpotSend():
                taker = self._register.receiver(action.destination)
                _done(transfers.send_spot(account, taker, action.token, _amount(action.amount)))
            case wire.SendAsset():
                self._send_asset(account, action)
            case wire.SubAccountTransfer():
                pair = self._direction(account, action.sub_account_user, action.is_deposit)
                _done(transfers.send_usd(*pair, action.usd * UNIT, "subAccountTransfer"))
            case wire.SubAccountSpotTransfer():
                pair = self._direction(account, action.sub_account_user, action.is_deposit)
                _done(transfers.send_spot(*pair, action.token, _amount(action.amount)))
            case _:
                assert_never(action)

    def _approve(self, account: Account, action: wire.ApproveAgent) -> None:
        agent, name = action.agent_address.lower(), action.agent_name or ""
        if agent in self._trading.accounts:  # else its own signature would count for another
            raise ActionError("Extra agent already used.")
        ties = self._register.ties
        ties.approve(agent, account.address, name, self._trading.now_ms)

    def _send_asset(self, account: Account, action: wire.SendAsset) -> None:
        """From wallet to wallet; between unlike ones only USDC, and only of one account."""
        giver = self._ward(account, action.from_sub_account) if action.from_sub_account else account
        taker, amount = self._register.receiver(action.destination), _amount(action.amount)
        is_usdc = self._trading.listing.token(action.token) is USDC
        match action.source_dex, action.destination_dex:
            case "spot", "spot":
                _done(self._transfers.send_spot(giver, taker, action.token, amount))
            case "", "" if is_usdc:
                _done(self._transfers.send_usd(giver, taker, amount))
            case ("" | "spot", "" | "spot") if is_usdc and giver is taker:
                to_perp = action.destination_dex == _PERP
                _done(self._transfers.transfer_class(giver, amount, to_perp))
            case _:
                raise ActionError("This kind of transfer is not supported.")

    def _class_amount(self, account: Account, text: str) -> tuple[Decimal, Account]:
        """The amount, and whose it is: the signer's, or a sub-account's named behind it."""
        named = _OF_SUB_ACCOUNT.fullmatch(text)
        if named is None:
            return _amount(text), account
        return _amount(named["amount"]), self._ward(account, named["address"])

    def _direction(
        self, account: Account, address: str, is_deposit: bool
    ) -> tuple[Account, Account]:
        ward = self._ward(account, address)
        return (account, ward) if is_deposit else (ward, account)

    def _ward(self, account: Account, address: str) -> Account:
        ward = self._register.ties.ward(address.lower())
        if ward is None or ward.is_vault or ward.owner != account.address:
            raise ActionError(f"Invalid sub-account: {address.lower()[:80]}")
        return self._register.account(ward.address)


def _done(problem: str | None) -> None:
    if problem is not None:
        raise ActionError(problem)


def _amount(text: str) -> Decimal:
    amount = parse_number(text)
    if not amount:
        raise ActionError(f"Invalid amount: {text}")
    return amount
