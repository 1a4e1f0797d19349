"""The exchange's memory of users' orders: live ones, and a bounded past.

Owns lookup by order id and by client order id. Never matches, never decides a status.
"""

from __future__ import annotations

from collections.abc import Iterator

from zq_daemon.venue.exchange.account import UserOrder

KEPT_CLOSED = 10_000


class OrderStore:
    """Orders of all accounts by id; of the closed ones only the latest."""

    def __init__(self, kept_closed: int = KEPT_CLOSED) -> None:
        self._kept_closed = kept_closed
        self._live: dict[int, UserOrder] = {}
        self._closed: dict[int, UserOrder] = {}
        self._by_cloid: dict[tuple[str, str], int] = {}

    def add(self, order: UserOrder) -> None:
        """Remember a live order; a client order id then names this one."""
        self._live[order.oid] = order
        if order.cloid is not None:
            self._by_cloid[order.account, order.cloid] = order.oid

    def close(self, order: UserOrder) -> None:
        """An order is finished: it moves to the past, which forgets its oldest."""
        self._live.pop(order.oid, None)
        self._closed[order.oid] = order
        if len(self._closed) > self._kept_closed:
            oldest = self._closed.pop(next(iter(self._closed)))
            self._forget_cloid(oldest)

    def live(self, oid: int) -> UserOrder | None:
        """The live order of that id."""
        return self._live.get(oid)

    def find(self, account: str, oid: int | str) -> UserOrder | None:
        """An account's order, live or remembered, by order id or client order id."""
        number = self._by_cloid.get((account, oid)) if isinstance(oid, str) else oid
        if number is None:
            return None
        order = self._live.get(number) or self._closed.get(number)
        return order if order is not None and order.account == account else None

    def knows_cloid(self, account: str, cloid: str) -> bool:
        """Whether the account has used that client order id (as far as remembered)."""
        return (account, cloid) in self._by_cloid

    def history(self, account: str) -> Iterator[UserOrder]:
        """The account's remembered closed orders, latest first."""
        return (order for order in reversed(self._closed.values()) if order.account == account)

    def _forget_cloid(self, order: UserOrder) -> None:
        if order.cloid is None:
            return
        key = (order.account, order.cloid)
        if self._by_cloid.get(key) == order.oid:
            del self._by_cloid[key]
