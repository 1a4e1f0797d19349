"""Whether two states are the same: a digest to compare, and words for what differs.

Owns what counts: what the journal is the truth of. Market data, the terms of instruments, from
where equity and running P&L are measured (the journal's own measure of the day counts),
modifications in flight and the sequence do not; nor do former venue order ids: one that
an order lost to another, which is itself forgotten by now, is found again by replay. Called by
`zq-daemon journal verify`, compaction (a checkpoint is read back before anything is moved), tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from zq_daemon.core.cache import Cache
from zq_daemon.core.portfolio import Portfolio
from zq_daemon.journal.state import JournalState

_encoder = msgspec.json.Encoder(order="deterministic")
_TOLD = 20
"""Differences told one by one; more of them say nothing new."""


def digest(state: JournalState) -> str:
    """32 hexadecimal digits: the same for states that are the same."""
    return blake2b(_encoder.encode(_parts(state)), digest_size=16).hexdigest()


def differences(mine: JournalState, other: JournalState) -> list[str]:
    """What differs, one line each: `part name: mine, not other`; empty when nothing does."""
    parts, others = _plain(_parts(mine)), _plain(_parts(other))
    told = [line for name in parts for line in _compare(name, parts[name], others[name])]
    if len(told) > _TOLD:
        told[_TOLD:] = [f"and {len(told) - _TOLD} more"]
    return told


def _parts(state: JournalState) -> dict[str, Any]:
    return {
        **_of_cache(state.cache),
        **_of_portfolio(state.portfolio),
        "seen": list(state.seen.keys()),
        "intents": state.intents,
        "stated_ns": state.stated_ns,
        "adopted_ns": [[*key, at] for key, at in sorted(state.adopted_ns.items())],
        "agreed_ns": state.agreed_ns,
        "nonces": state.nonces,
        "runs": list(state.runs),
        "ended": state.ended,
        "trading": state.trading,
        "day_pnl": {day.account_id: day for day in state.days()},
        "saved": state.saved,
    }


def _of_cache(cache: Cache) -> dict[str, Any]:
    closed = tuple(cache.orders_closed())
    orders = (*closed, *cache.orders_live())
    return {
        "orders": {order.client_order_id: order for order in orders},
        "closing order": [order.client_order_id for order in closed],
        "positions": {
            f"{each.account_id} {each.instrument_id}": each for each in cache.positions()
        },
        "accounts": {each.account_id: each for each in cache.accounts()},
    }


def _of_portfolio(portfolio: Portfolio) -> dict[str, Any]:
    accounts = portfolio.account_ids()
    return {
        "account positions": {
            f"{each.account_id} {each.instrument_id}": each for each in portfolio.positions()
        },
        "strategy positions": {
            f"{strategy_id} {each.instrument_id}": each
            for strategy_id in portfolio.strategy_ids()
            for each in portfolio.strategy_positions(strategy_id)
        },
        "fees": {account_id: portfolio.fees(account_id) for account_id in accounts},
        "statements": {account_id: portfolio.account(account_id) for account_id in accounts},
    }


def _plain(parts: Mapping[str, Any]) -> Any:
    """As the digest sees it."""
    return msgspec.json.decode(_encoder.encode(parts))


def _compare(name: str, mine: Any, other: Any) -> Iterator[str]:
    if mine == other:
        return
    if isinstance(mine, dict) and isinstance(other, dict):
        for key in _keys(mine, other):
            yield from _compare(f"{name} {key}", mine.get(key), other.get(key))
    elif isinstance(mine, list) and isinstance(other, list) and len(mine) == len(other):
        for number, (each, its) in enumerate(zip(mine, other, strict=True)):
            yield from _compare(f"{name} [{number}]", each, its)
    elif isinstance(mine, list) and isinstance(other, list):
        yield f"{name}: {len(mine)} of them, not {len(other)}"
    else:
        yield f"{name}: {mine!r}, not {other!r}"


def _keys(mine: Iterable[str], other: Iterable[str]) -> Iterable[str]:
    return dict.fromkeys((*mine, *other))
