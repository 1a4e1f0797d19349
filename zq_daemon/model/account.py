"""Accounts and balances as the venue states them."""

from __future__ import annotations

from decimal import Decimal

from attrs import frozen

from zq_daemon.model.ids import AccountId


@frozen(kw_only=True)
class Balance:
    """What an account holds of one currency; *free* is what is not tied up.

    *is_spot*: of the spot wallet; else it is the margin of the contracts.
    """

    currency: str
    total: Decimal
    free: Decimal
    is_spot: bool = False


@frozen(kw_only=True)
class Account:
    """The venue's last statement of an account, in the quote currency.

    *equity* is that of the contracts: margin and unrealised P&L, nothing of the spot wallet.
    """

    account_id: AccountId
    balances: tuple[Balance, ...]
    equity: Decimal
    margin_used: Decimal
    ts_event_ns: int
    ts_recv_ns: int
