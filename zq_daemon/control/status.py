"""What `status` answers: one plain dictionary, built on request from what the parts know.

A part that is not there (yet, or in this configuration) has no entry: nothing is made up for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from attrs import asdict

from zq_daemon.control.amounts import text_of
from zq_daemon.control.positions import position_rows
from zq_daemon.model.ids import InstrumentId

if TYPE_CHECKING:
    from zq_daemon.assembly import Assembly

_BAD_SHOWN = 5
_Section = Mapping[str, Any]


def status_of(
    parts: Assembly | None,
    about: _Section,
    *,
    journal: _Section | None = None,
    recovery: _Section | None = None,
    history: _Section | None = None,
    watchdog: _Section | None = None,
) -> dict[str, Any]:
    """The whole daemon as JSON-ready values; amounts are decimal strings.

    *about* describes the daemon itself; *parts* is None while it has none yet. The other sections
    are those of parts that stand outside of it. They are passed on as they are, and left out where
    they are None; what the command line knows how to show of them is in `cli.durability`.
    """
    told: dict[str, Any] = {"daemon": {"pid": os.getpid(), **about}}
    sections = {
        "journal": journal,
        "recovery": recovery,
        "history": history,
        "watchdog": watchdog,
    }
    told |= {name: dict(section) for name, section in sections.items() if section is not None}
    if parts is None:
        return told
    told["daemon"]["trading_state"] = parts.risk.state.value
    told["daemon"]["trading_reason"] = parts.risk.state_reason
    return told | _parts(parts)


def _parts(parts: Assembly) -> dict[str, Any]:
    return {
        "links": [endpoint.status() for endpoint in parts.links.endpoints],
        "budgets": dict(parts.adapter.budgets),
        "dead_mans_switch": None if parts.switch is None else dict(parts.switch.status()),
        "strategies": parts.strategies.status(),
        "orders": {
            "open": len(parts.cache.orders_open()),
            "in_flight": len(parts.cache.orders_in_flight()),
            "closed": len(parts.cache.orders_closed()),
        },
        "positions": list(_positions(parts)),
        "account": _accounts(parts),
        "credentials": parts.credentials.status(),
        "market": [_market(parts, one) for one in parts.instruments],
        "queues": list(_queues(parts)),
        "bus": {
            "published": sum(parts.bus.counters().values()),
            "deliveries": parts.bus.deliveries,
            "faults": parts.bus.faults,
        },
        "data": asdict(parts.data.stats()),
        "execution": parts.execution.stats(),
        "bad_messages": {
            "count": parts.bad_messages.count,
            "by_problem": dict(parts.bad_messages.by_problem),
            "recent": [str(one) for one in list(parts.bad_messages.recent())[-_BAD_SHOWN:]],
        },
    }


def _positions(parts: Assembly) -> Iterable[dict[str, Any]]:
    """Without the flat ones of accounts that the daemon does not trade for (any more)."""
    for row in position_rows(parts):
        if row["quantity"] != "0" or row["account"] in parts.accounts:
            yield row


def _accounts(parts: Assembly) -> list[dict[str, Any]]:
    found = []
    now_ns = parts.ports.clock.now_ns()
    for account_id in parts.accounts:
        account = parts.cache.account(account_id)
        if account is not None:
            found.append(
                {
                    "account": account_id,
                    "equity": text_of(parts.portfolio.equity(account_id)),
                    "day_pnl": text_of(parts.portfolio.day_pnl(account_id, now_ns)),
                    "margin_used": text_of(account.margin_used),
                }
            )
    return found


def _market(parts: Assembly, instrument_id: InstrumentId) -> dict[str, Any]:
    quote = parts.cache.quote(instrument_id)
    book = parts.cache.book(instrument_id)
    trade = parts.cache.trade(instrument_id)
    bid = book.best_bid if book is not None else None
    ask = book.best_ask if book is not None else None
    return {
        "instrument": instrument_id,
        "bid": text_of(quote.bid_price if quote else (bid.price if bid else None)),
        "ask": text_of(quote.ask_price if quote else (ask.price if ask else None)),
        "last": text_of(trade.price if trade else None),
        "stale": parts.data.is_stale(instrument_id),
    }


def _queues(parts: Assembly) -> Iterable[dict[str, Any]]:
    feed = parts.feed.statistics()
    yield {
        "name": "feed",
        "size": feed.size,
        "capacity": feed.capacity,
        "high_water": feed.high_water,
        "conflated": feed.conflated,
        "blocked_s": round(feed.blocked_ns / 1e9, 3),
    }
    reports = parts.reports.statistics()
    yield {
        "name": "reports",
        "size": reports.current_buffer_used,
        "capacity": int(reports.max_buffer_size),
        "conflated": 0,
        "blocked_s": 0,
    }
