"""What waits to be signed and sent: bounded, cancels before modifications before submissions.

Owns the order in which requests leave and how many of each kind may be on their way at once, so
that slow submissions never hold up a cancel. It sends nothing; the execution engine takes from it.
"""

from __future__ import annotations

import trio
from attrs import frozen

from zq_daemon.journal.record import IntentKind
from zq_daemon.model.ids import AccountId, ClientOrderId

_BATCH = {"cancel": 40, "modify": 1, "submit": 40}
"""The most orders in one request; a modification is always alone."""


@frozen(kw_only=True)
class Group:
    """Orders of one account that go into one request of *kind*; holds one of its slots."""

    kind: IntentKind
    account_id: AccountId
    client_order_ids: tuple[ClientOrderId, ...]


class Backlog:
    """At most *limit* orders wait for each kind, and *concurrent* requests of it are under way.

    Cancels always find a place: an order waits for one at most once, so that the live orders bound
    them, and a kill switch has to reach every one.
    """

    def __init__(self, *, limit: int, concurrent: int = 16) -> None:
        self._limit = limit
        self._waiting: dict[IntentKind, dict[ClientOrderId, AccountId]] = {
            "cancel": {},
            "modify": {},
            "submit": {},
        }
        self._slots: dict[IntentKind, int] = dict.fromkeys(self._waiting, concurrent)
        self._closed = False
        self._changed = trio.Event()

    def add(self, kind: IntentKind, account_id: AccountId, client_order_id: ClientOrderId) -> bool:
        """Let an order wait for a request of *kind*; False when there is no place (or no more)."""
        waiting = self._waiting[kind]
        full = kind != "cancel" and len(waiting) >= self._limit
        if self._closed or full:
            return False
        waiting[client_order_id] = account_id
        self._changed.set()
        return True

    def withdraw(self, kind: IntentKind, client_order_id: ClientOrderId) -> bool:
        """Take an order back before it is taken; False when it is not waiting."""
        return self._waiting[kind].pop(client_order_id, None) is not None

    def waiting(self, kind: IntentKind) -> int:
        """How many orders wait for a request of *kind*."""
        return len(self._waiting[kind])

    def close(self) -> None:
        """Take nothing new; `take` ends when what waits has been taken."""
        self._closed = True
        self._changed.set()

    async def take(self) -> tuple[Group, ...]:
        """Wait for something that may leave now; empty when closed and drained.

        Every group's slot must be given back by `release`.
        """
        while True:
            self._changed = trio.Event()
            if groups := self._groups():
                return groups
            if self._closed and not any(self._waiting.values()):
                return ()
            await self._changed.wait()

    def release(self, kind: IntentKind) -> None:
        """A request of *kind* is no longer under way."""
        self._slots[kind] += 1
        self._changed.set()

    def _groups(self) -> tuple[Group, ...]:
        found = []
        for kind, waiting in self._waiting.items():
            while waiting and self._slots[kind]:
                self._slots[kind] -= 1
                found.append(self._group(kind, waiting))
        return tuple(found)

    def _group(self, kind: IntentKind, waiting: dict[ClientOrderId, AccountId]) -> Group:
        account_id = next(iter(waiting.values()))
        own = [each for each, account in waiting.items() if account == account_id]
        taken = tuple(own[: _BATCH[kind]])
        for each in taken:
            del waiting[each]
        return Group(kind=kind, account_id=account_id, client_order_ids=taken)
