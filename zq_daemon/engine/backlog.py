"""What waits to be signed and sent: bounded, cancels before modifications before submissions.

Owns the order in which requests leave and how many of each kind may be on their way at once, so
that slow submissions never hold up a cancel. It sends nothing; the execution engine takes from it.
"""

from __future__ import annotations

import trio
from attrs import frozen

from zq_daemon.journal.record import IntentKind
from zq_daemon.model.ids import AccountId, ClientOrderId, is_external

_BATCH = 40
"""The most orders in one request."""


@frozen(kw_only=True)
class Group:
    """Orders of one account that go into one request of *kind*; holds one of its slots.

    External orders have requests of their own: a venue may know them by other ids only. So have
    brackets, whose entry comes first.
    """

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
        self._exits: dict[ClientOrderId, tuple[ClientOrderId, ...]] = {}
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

    def add_bracket(
        self, account_id: AccountId, entry: ClientOrderId, exits: tuple[ClientOrderId, ...]
    ) -> bool:
        """Let an entry wait to be submitted in one request with its exits; False as by `add`."""
        if not self.add("submit", account_id, entry):
            return False
        self._exits[entry] = exits
        return True

    def withdraw(
        self, kind: IntentKind, client_order_id: ClientOrderId
    ) -> tuple[ClientOrderId, ...]:
        """Take an order back before it is taken, an entry with its exits; none if it does not wait.

        An exit that is taken back leaves its entry alone.
        """
        if self._waiting[kind].pop(client_order_id, None) is not None:
            exits = self._exits.pop(client_order_id, ()) if kind == "submit" else ()
            return (client_order_id, *exits)
        for entry, exits in self._exits.items() if kind == "submit" else ():
            if client_order_id in exits:
                self._exits[entry] = tuple(each for each in exits if each != client_order_id)
                return (client_order_id,)
        return ()

    def waiting(self, kind: IntentKind) -> int:
        """How many orders wait for a request of *kind*, exits too."""
        exits = sum(map(len, self._exits.values())) if kind == "submit" else 0
        return len(self._waiting[kind]) + exits

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
        first, account_id = next(iter(waiting.items()))
        if kind == "submit" and first in self._exits:
            del waiting[first]
            bracket = (first, *self._exits.pop(first))
            return Group(kind=kind, account_id=account_id, client_order_ids=bracket)
        external = is_external(first)
        own = [
            each
            for each, account in waiting.items()
            if account == account_id
            and is_external(each) == external
            and not (kind == "submit" and each in self._exits)
        ]
        taken = tuple(own[:_BATCH])
        for each in taken:
            del waiting[each]
        return Group(kind=kind, account_id=account_id, client_order_ids=taken)
