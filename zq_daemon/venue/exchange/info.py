"""The queries of `/info`: read-only views of the exchange.

Owns no state. Unparsable requests are `Malformed`; an unknown user is an empty account, as at the
venue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from zq_daemon.venue.exchange import messages
from zq_daemon.venue.exchange.account import Account
from zq_daemon.venue.exchange.envelope import Malformed
from zq_daemon.venue.exchange.feeds import ADDRESS
from zq_daemon.venue.exchange.messages import Json, Marked
from zq_daemon.venue.exchange.perp import Perp, wire
from zq_daemon.venue.exchange.publisher import Publisher
from zq_daemon.venue.exchange.trading import Trading

MAX_FILLS = 2_000
MAX_HISTORY = 2_000


class Queried(Protocol):
    """What the queries read."""

    trading: Trading
    publisher: Publisher

    @property
    def agents(self) -> Mapping[str, str]:
        """Agents and the account each signs for."""

    @property
    def forgets_orders(self) -> bool:
        """Whether order status queries are to fail."""

    @property
    def universe(self) -> Sequence[Perp]:
        """What is listed."""

    def account(self, address: str) -> Account:
        """An account, or an empty one."""

    def now_ns(self) -> int:
        """Wall time."""


def answer(exchange: Queried, request: Any) -> Any:
    """The JSON-ready answer to an info *request*; raises Malformed."""
    if not isinstance(request, dict):
        raise Malformed
    kind = request.get("type")
    query = _QUERIES.get(kind) if isinstance(kind, str) else None
    if query is None:
        raise Malformed
    return query(exchange, request)


def _meta(exchange: Queried, _: Json) -> Any:
    return messages.meta(exchange.universe)


def _meta_and_contexts(exchange: Queried, request: Json) -> Any:
    contexts = [exchange.publisher.context(perp.name) for perp in exchange.universe]
    return [_meta(exchange, request), contexts]


def _spot_meta(_: Queried, __: Json) -> Any:
    return {"tokens": [], "universe": []}


def _clearinghouse_state(exchange: Queried, request: Json) -> Any:
    account = exchange.account(_user(request))
    trading = exchange.trading
    marked = [
        Marked(
            coin=coin,
            mark=trading.mark(coin),
            leverage=account.leverage_of(coin, trading.max_leverage(coin)),
            max_leverage=trading.max_leverage(coin),
        )
        for coin in account.positions
    ]
    return messages.account_state(account, marked, exchange.now_ns() // 1_000_000)


def _open_orders(exchange: Queried, request: Json) -> Any:
    orders = exchange.account(_user(request)).orders.values()
    return [messages.open_order(order) for order in orders]


def _frontend_open_orders(exchange: Queried, request: Json) -> Any:
    orders = exchange.account(_user(request)).orders.values()
    return [messages.frontend_order(order) for order in orders]


def _order_status(exchange: Queried, request: Json) -> Any:
    oid = request.get("oid")
    if isinstance(oid, bool) or not isinstance(oid, int | str):
        raise Malformed
    user = _user(request)
    order = exchange.trading.orders.find(user, oid.lower() if isinstance(oid, str) else oid)
    if order is None or exchange.forgets_orders:
        return {"status": "unknownOid"}
    return {"status": "order", "order": messages.order_status(order)}


def _historical_orders(exchange: Queried, request: Json) -> Any:
    user = _user(request)
    live = exchange.account(user).orders.values()
    rows = [messages.order_status(order) for order in (*live,)]
    rows += [messages.order_status(order) for order in exchange.trading.orders.history(user)]
    return rows[:MAX_HISTORY]


def _user_fills(exchange: Queried, request: Json) -> Any:
    fills = list(exchange.account(_user(request)).fills)[-MAX_FILLS:]
    return [messages.fill(fill) for fill in reversed(fills)]


def _user_fills_by_time(exchange: Queried, request: Json) -> Any:
    start, end = request.get("startTime"), request.get("endTime")
    if not isinstance(start, int) or not (end is None or isinstance(end, int)):
        raise Malformed
    fills = exchange.account(_user(request)).fills
    chosen = [
        fill for fill in fills if fill.time_ms >= start and (end is None or fill.time_ms <= end)
    ]
    return [messages.fill(fill) for fill in chosen[:MAX_FILLS]]


def _l2_book(exchange: Queried, request: Json) -> Any:
    coin = request.get("coin")
    if not isinstance(coin, str):
        raise Malformed
    if all(perp.name != coin for perp in exchange.universe):
        return None
    return exchange.publisher.book(coin, exchange.now_ns())


def _all_mids(exchange: Queried, _: Json) -> Any:
    return exchange.publisher.mids()


def _user_role(exchange: Queried, request: Json) -> Any:
    user = _user(request)
    if user in exchange.agents and exchange.agents[user] != user:
        return {"role": "agent", "data": {"user": exchange.agents[user]}}
    return {"role": "user" if user in exchange.trading.accounts else "missing"}


def _extra_agents(exchange: Queried, request: Json) -> Any:
    user = _user(request)
    never = exchange.now_ns() // 1_000_000 + 180 * 86_400_000
    return [
        {"name": "embedded", "address": agent, "validUntil": never}
        for agent, account in exchange.agents.items()
        if account == user and agent != user
    ]


def _user_rate_limit(exchange: Queried, request: Json) -> Any:
    traded = exchange.account(_user(request)).traded
    cap = 10_000 + int(traded)
    return {"cumVlm": wire(traded), "nRequestsUsed": 0, "nRequestsCap": cap}


def _exchange_status(exchange: Queried, _: Json) -> Any:
    return {"time": exchange.now_ns() // 1_000_000, "specialStatuses": None}


def _user(request: Json) -> str:
    user = request.get("user")
    if not isinstance(user, str) or not ADDRESS.fullmatch(user):
        raise Malformed
    return user.lower()


_QUERIES: Mapping[str, Callable[[Queried, Json], Any]] = {
    "meta": _meta,
    "metaAndAssetCtxs": _meta_and_contexts,
    "spotMeta": _spot_meta,
    "clearinghouseState": _clearinghouse_state,
    "openOrders": _open_orders,
    "frontendOpenOrders": _frontend_open_orders,
    "orderStatus": _order_status,
    "historicalOrders": _historical_orders,
    "userFills": _user_fills,
    "userFillsByTime": _user_fills_by_time,
    "l2Book": _l2_book,
    "allMids": _all_mids,
    "userRole": _user_role,
    "extraAgents": _extra_agents,
    "userRateLimit": _user_rate_limit,
    "exchangeStatus": _exchange_status,
}
