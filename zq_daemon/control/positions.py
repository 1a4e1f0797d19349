"""What `positions` answers: what the accounts hold, what each strategy made of it, and the sums.

An account's positions are all fills on it; a strategy's are its own fills alone, without funding.
So the two add up only where nobody else trades on the account. An account's balances are those of
the venue's last statement; its fees are what was paid in each currency.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from zq_daemon.control.amounts import exact_text_of, text_of
from zq_daemon.control.arguments import Arguments
from zq_daemon.control.names import find_strategy, strategy_names
from zq_daemon.core.portfolio import Pnl
from zq_daemon.model.account import Balance
from zq_daemon.model.money import EXACT, ZERO
from zq_daemon.model.position import Position

if TYPE_CHECKING:
    from zq_daemon.assembly import Assembly
    from zq_daemon.model.ids import AccountId, StrategyId

TAKES = ("strategy",)
MOST = 1_000
"""Rows of an account, and of the strategies; there are as many as instruments were ever held."""


def list_positions(parts: Assembly, asked: Arguments) -> dict[str, Any]:
    """Positions as JSON-ready rows, held ones first; *total* counts the rows that were left out."""
    strategy = find_strategy(parts, asked.text("strategy"))
    told: dict[str, Any] = {}
    if strategy is None:
        told["accounts"] = [_account(parts, each) for each in parts.portfolio.account_ids()]
    names = strategy_names(parts) if strategy is None else (strategy,)
    own = [row for name in names for row in _strategy_rows(parts, name)]
    pnl = _added(parts.portfolio.strategy_pnl(name) for name in names)
    told["strategies"] = _listed(own, pnl)
    return told


def position_rows(parts: Assembly, account_id: AccountId | None = None) -> list[dict[str, Any]]:
    """A row for every position, flat ones too, of one account or of all."""
    return [
        {"account": position.account_id, **_row(parts, position)}
        for position in parts.portfolio.positions(account_id)
    ]


def _account(parts: Assembly, account_id: AccountId) -> dict[str, Any]:
    listed = _listed(position_rows(parts, account_id), parts.portfolio.pnl(account_id))
    statement = parts.portfolio.account(account_id)
    balances = () if statement is None else statement.balances
    paid = parts.portfolio.fees(account_id)
    return {
        "account": account_id,
        **listed,
        "balances": [_balance(each) for each in balances],
        "fees": {currency: exact_text_of(fee) for currency, fee in paid.items()},
    }


def _balance(balance: Balance) -> dict[str, Any]:
    return {
        "currency": balance.currency,
        "wallet": "spot" if balance.is_spot else "contracts",
        "total": exact_text_of(balance.total),
        "free": exact_text_of(balance.free),
    }


def _strategy_rows(parts: Assembly, name: StrategyId) -> Iterator[dict[str, Any]]:
    for position in parts.portfolio.strategy_positions(name):
        yield {"strategy": name, **_row(parts, position)}


def _row(parts: Assembly, position: Position) -> dict[str, Any]:
    mark = parts.cache.mid_or_mark(position.instrument_id)
    # What is flat is worth nothing at any price.
    price = mark if position.quantity else ZERO
    return {
        "instrument": position.instrument_id,
        "quantity": text_of(position.quantity),
        "average_entry_price": text_of(position.average_entry_price),
        "mark": text_of(mark),
        "unrealized_pnl": text_of(None if price is None else position.unrealized_pnl(price)),
        "realized_pnl": text_of(position.realized_pnl),
        "fees": text_of(position.fees),
        "funding": text_of(position.funding),
        "net_pnl": text_of(None if price is None else position.net_pnl(price)),
    }


def _listed(rows: Collection[dict[str, Any]], pnl: Pnl) -> dict[str, Any]:
    held_first = sorted(rows, key=lambda row: row["quantity"] == "0")
    sums = {
        "unrealized_pnl": text_of(pnl.unrealized),
        "realized_pnl": text_of(pnl.realized),
        "fees": text_of(pnl.fees),
        "funding": text_of(pnl.funding),
        "net_pnl": text_of(pnl.net),
    }
    return {"rows": list(islice(held_first, MOST)), "total": len(rows), "sums": sums}


def _added(several: Iterable[Pnl]) -> Pnl:
    total = Pnl()
    for each in several:
        total = Pnl(
            realized=EXACT.add(total.realized, each.realized),
            unrealized=EXACT.add(total.unrealized, each.unrealized),
            fees=EXACT.add(total.fees, each.fees),
            funding=EXACT.add(total.funding, each.funding),
        )
    return total
