"""What `status` answers: one plain dictionary, built on request from what the parts know."""

from __future__ import annotations

import os
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from attrs import asdict

from zq_daemon.model.ids import InstrumentId
from zq_daemon.model.money import ROUNDED
from zq_daemon.model.position import Position

if TYPE_CHECKING:
    from zq_daemon.assembly import Assembly

_BAD_SHOWN = 5
_SHOWN = Decimal("1e-8")
_MOST_DIGITS = 99
"""Of a number that is written out: no amount that is meant has more."""


def status_of(parts: Assembly | None, about: dict[str, Any]) -> dict[str, Any]:
    """The whole daemon as JSON-ready values; amounts are decimal strings.

    *about* describes the daemon itself; *parts* is None while it has none yet.
    """
    daemon = {"pid": os.getpid(), **about}
    if parts is None:
        return {"daemon": daemon}
    state = {"trading_state": parts.risk.state.value, "trading_reason": parts.risk.state_reason}
    return {
        "daemon": daemon | state,
        "links": [endpoint.status() for endpoint in parts.links.endpoints],
        "strategies": parts.strategies.status(),
        "orders": {
            "open": len(parts.cache.orders_open()),
            "in_flight": len(parts.cache.orders_in_flight()),
            "closed": len(parts.cache.orders_closed()),
        },
        "positions": [_position(parts, one) for one in parts.portfolio.positions()],
        "account": _accounts(parts),
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


def _position(parts: Assembly, position: Position) -> dict[str, Any]:
    mark = parts.cache.mid_or_mark(position.instrument_id)
    return {
        "account": position.account_id,
        "instrument": position.instrument_id,
        "quantity": _text(position.quantity),
        "average_entry_price": _text(position.average_entry_price),
        "mark": _text(mark),
        "unrealized_pnl": _text(None if mark is None else position.unrealized_pnl(mark)),
        "realized_pnl": _text(position.realized_pnl),
        "fees": _text(position.fees),
    }


def _accounts(parts: Assembly) -> list[dict[str, Any]]:
    found = []
    now_ns = parts.ports.clock.now_ns()
    for account_id in parts.accounts:
        account = parts.cache.account(account_id)
        if account is not None:
            found.append(
                {
                    "account": account_id,
                    "equity": _text(parts.portfolio.equity(account_id)),
                    "day_pnl": _text(parts.portfolio.day_pnl(account_id, now_ns)),
                    "margin_used": _text(account.margin_used),
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
        "bid": _text(quote.bid_price if quote else (bid.price if bid else None)),
        "ask": _text(quote.ask_price if quote else (ask.price if ask else None)),
        "last": _text(trade.price if trade else None),
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


def _text(value: Decimal | None) -> str | None:
    if value is None:
        return None
    if value.adjusted() > _MOST_DIGITS:
        return f"{value:.8E}"
    rounded = value.quantize(_SHOWN, context=ROUNDED)
    return f"{rounded.normalize(ROUNDED):f}" if rounded else "0"
