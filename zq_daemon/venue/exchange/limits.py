"""What a client may ask for: weights by where it comes from, requests by account.

Owns the counting. It refuses only where limits are in force, and counts an account's requests
always, so that what `userRateLimit` tells is true. Called by the exchange for queries and actions.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from attrs import define, frozen

from zq_daemon.ports.clock import NS_PER_S
from zq_daemon.venue.exchange.envelope import ActionError

MAX_PLACES = 1_000
"""So many addresses of clients are remembered, the latest seen."""
_MINUTE_NS = 60 * NS_PER_S
CANCELS = frozenset({"cancel", "cancelByCloid"})
_LIGHT = 2
_USUAL = 20
_WEIGHTS: Mapping[str, int] = {
    "l2Book": _LIGHT,
    "allMids": _LIGHT,
    "clearinghouseState": _LIGHT,
    "orderStatus": _LIGHT,
    "spotClearinghouseState": _LIGHT,
    "exchangeStatus": _LIGHT,
    "userRole": 60,
}
_ITEMS: Mapping[str, int] = {
    "historicalOrders": 20,
    "userFills": 20,
    "userFillsByTime": 20,
    "fundingHistory": 20,
    "userFunding": 20,
    "userNonFundingLedgerUpdates": 20,
    "candleSnapshot": 60,
}
"""One more for so many items that are answered."""
_BATCH = {"order": "orders", "cancel": "cancels", "cancelByCloid": "cancels"} | {
    "batchModify": "modifies"
}


@frozen(kw_only=True)
class RateLimits:
    """The venue's numbers: weight a minute by place of origin, and requests of an account.

    An account may make *requests*, and one more for each dollar it has traded; when they are used
    up, one every *spent_interval_ms*. Of cancels it may make *more_cancels* more, up to twice its
    requests.
    """

    weight_per_minute: int = 1_200
    requests: int = 10_000
    more_cancels: int = 100_000
    spent_interval_ms: int = 10_000
    messages_per_minute: int = 2_000


class TooMany(Exception):
    """Too many requests from one place: HTTP 429."""


@define
class Bucket:
    """So many a minute, which flow back evenly."""

    per_minute: int
    _used: int = 0
    """In units that flow back by *per_minute* each nanosecond."""
    _at_ns: int = 0

    def take(self, amount: int, now_ns: int) -> bool:
        """Whether there was room for *amount*, which is used then."""
        self._flow(now_ns)
        if self._used + amount * _MINUTE_NS > self.per_minute * _MINUTE_NS:
            return False
        self._used += amount * _MINUTE_NS
        return True

    def owe(self, amount: int, now_ns: int) -> None:
        """Use *amount* whether there is room or not: what an answer turned out to weigh."""
        self._flow(now_ns)
        self._used += amount * _MINUTE_NS

    def _flow(self, now_ns: int) -> None:
        passed = max(now_ns - self._at_ns, 0)
        self._used = max(self._used - passed * self.per_minute, 0)
        self._at_ns = now_ns


@define
class _Spent:
    requests: int = 0
    last_ms: int = 0


class Meter:
    """Counts for all clients of an exchange; *limits* None refuses nothing."""

    def __init__(self, limits: RateLimits | None) -> None:
        self.limits = limits
        self._places: OrderedDict[str, Bucket] = OrderedDict()
        self._accounts: dict[str, _Spent] = {}

    def weigh(self, place: str, weight: int, now_ns: int) -> None:
        """A request of *weight* from *place*; raises TooMany."""
        if self.limits is not None and not self._place(place).take(weight, now_ns):
            raise TooMany

    def weigh_answer(self, place: str, request: Any, answer: Any, now_ns: int) -> None:
        """What the length of an answer adds."""
        if self.limits is not None and (more := _answer_weight(request, answer)):
            self._place(place).owe(more, now_ns)

    def count(self, account: str, action: Any, traded: Decimal, now_ms: int) -> None:
        """The requests of an action of *account*; ActionError when it may make none now."""
        spent = self._accounts.setdefault(account, _Spent())
        is_cancel = isinstance(action, dict) and action.get("type") in CANCELS
        cap = self.cap(traded)
        limit = min(cap + self._numbers.more_cancels, 2 * cap) if is_cancel else cap
        requests = batch_size(action)
        over = spent.requests + requests > limit
        if over and self.limits is not None and self._is_early(spent, now_ms):
            raise ActionError(
                f"Too many cumulative requests sent ({spent.requests + requests} > {limit}) for "
                f"cumulative volume traded ${traded:.2f}. Place taker orders to free up 1 request "
                "per USDC traded."
            )
        spent.requests += requests
        spent.last_ms = now_ms

    def requests(self, account: str) -> int:
        """How many requests the account has made."""
        spent = self._accounts.get(account)
        return spent.requests if spent else 0

    def cap(self, traded: Decimal) -> int:
        """How many requests who traded so many dollars may make."""
        return self._numbers.requests + int(traded)

    @property
    def _numbers(self) -> RateLimits:
        return self.limits or RateLimits()

    def _is_early(self, spent: _Spent, now_ms: int) -> bool:
        return now_ms - spent.last_ms < self._numbers.spent_interval_ms

    def _place(self, place: str) -> Bucket:
        bucket = self._places.setdefault(place, Bucket(self._numbers.weight_per_minute))
        self._places.move_to_end(place)
        if len(self._places) > MAX_PLACES:
            self._places.popitem(last=False)
        return bucket


def query_weight(request: Any) -> int:
    """What a query weighs before its answer is known."""
    kind = request.get("type") if isinstance(request, dict) else None
    return _WEIGHTS.get(kind, _USUAL) if isinstance(kind, str) else _USUAL


def action_weight(action: Any) -> int:
    """What an action weighs."""
    return 1 + batch_size(action) // 40


def batch_size(action: Any) -> int:
    """How many orders, cancels or changes an action has; 1 for one of another kind."""
    kind = action.get("type") if isinstance(action, dict) else None
    batch = action.get(_BATCH[kind]) if isinstance(kind, str) and kind in _BATCH else None
    return max(len(batch), 1) if isinstance(batch, list) else 1


def _answer_weight(request: Any, answer: Any) -> int:
    kind = request.get("type") if isinstance(request, dict) else None
    items = _ITEMS.get(kind, 0) if isinstance(kind, str) else 0
    return len(answer) // items if items and isinstance(answer, list) else 0
