"""What is in flight: every order about which the venue may know more than we do, and when to ask.

Owns the schedule of questions and the evidence collected by them. It asks nobody (the inquiry does)
and concludes nothing about an order. The execution engine begins a watch with each request, and the
ledger's changes end it.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import trio
from attrs import define, field

from zq_daemon.model.ids import AccountId, ClientOrderId
from zq_daemon.model.money import ZERO
from zq_daemon.model.order import Order
from zq_daemon.ports.clock import NS_PER_MS, NS_PER_S

PATIENCE_NS = 15 * NS_PER_S
"""How long a request may be under way before the venue is asked what became of it."""
FIRST_DELAY_NS = 500 * NS_PER_MS
LAST_DELAY_NS = 60 * NS_PER_S
_UNBOUNDED_NS = 60 * NS_PER_S
"""How long a cancel or modification without a validity of its own is given to take effect."""


@define(kw_only=True)
class Watch:
    """One order being watched; `*_ns` are monotonic but for *valid_until_ns*, which is wall time.

    *expected_filled* is what the venue says was filled; *executed* the same of an order that leaves
    no rest, and so ends with that; *doubted*: whether it still rests is not known; *disowned*: the
    venue refused a request as it has no such order. *negatives* counts complete answers of "not
    there" since *first_negative_ns*.
    """

    client_order_id: ClientOrderId
    account_id: AccountId
    next_ns: int
    valid_until_ns: int
    bounded: bool
    delay_ns: int = FIRST_DELAY_NS
    expected_filled: Decimal = ZERO
    executed: Decimal | None = None
    doubted: bool = False
    disowned: bool = False
    negatives: int = 0
    first_negative_ns: int = field(default=0)

    def lapsed(self, now_ns: int) -> bool:
        """Whether the last request can no longer take effect at wall time *now_ns*."""
        return now_ns > self.valid_until_ns


class InFlight:
    """All watches; there is at most one for each live order."""

    def __init__(self) -> None:
        self._watches: dict[ClientOrderId, Watch] = {}
        self._changed = trio.Event()

    def __len__(self) -> int:
        return len(self._watches)

    def get(self, client_order_id: ClientOrderId) -> Watch | None:
        """The watch of an order."""
        return self._watches.get(client_order_id)

    def begin(
        self, order: Order, *, now_ns: int, monotonic_ns: int, expires_ns: int | None
    ) -> Watch:
        """A request about *order* is about to leave, valid until *expires_ns* (wall)."""
        watch = self._watch(order, monotonic_ns)
        watch.next_ns = monotonic_ns + PATIENCE_NS
        watch.delay_ns = FIRST_DELAY_NS
        watch.bounded = expires_ns is not None
        watch.valid_until_ns = now_ns + _UNBOUNDED_NS if expires_ns is None else expires_ns
        if not watch.disowned:
            watch.negatives = 0
        self._changed.set()
        return watch

    def hasten(self, order: Order, monotonic_ns: int, *, doubted: bool = False) -> Watch:
        """Ask about *order* soon; *doubted* keeps it watched until the venue says it rests."""
        watch = self._watch(order, monotonic_ns)
        watch.doubted |= doubted
        watch.delay_ns = FIRST_DELAY_NS
        watch.next_ns = min(watch.next_ns, monotonic_ns + FIRST_DELAY_NS)
        self._changed.set()
        return watch

    def doubt(self, order: Order, monotonic_ns: int) -> None:
        """Whether *order* still rests is not known: ask soon, unless that is asked already."""
        watch = self._watches.get(order.client_order_id)
        if watch is None or not watch.doubted:
            self.hasten(order, monotonic_ns, doubted=True)

    def disown(self, order: Order, monotonic_ns: int) -> None:
        """The venue has no such order and so refused the request about it: none is under way."""
        watch = self.hasten(order, monotonic_ns, doubted=True)
        watch.disowned = True
        watch.valid_until_ns = 0

    def settle(self, order: Order) -> None:
        """Stop watching *order* if nothing about it is unknown any more."""
        watch = self._watches.get(order.client_order_id)
        if watch is None:
            return
        missing = order.filled_quantity < watch.expected_filled
        waits = order.is_in_flight or watch.doubted or missing or watch.executed is not None
        if order.is_closed or not waits:
            del self._watches[order.client_order_id]

    def due(self, monotonic_ns: int) -> tuple[Watch, ...]:
        """The watches to ask about now; each is put off, twice as long as last time."""
        found = tuple(each for each in self._watches.values() if each.next_ns <= monotonic_ns)
        for watch in found:
            watch.delay_ns = min(2 * watch.delay_ns, LAST_DELAY_NS)
            watch.next_ns = monotonic_ns + watch.delay_ns
        return found

    async def wait_due(self, monotonic_ns: int) -> None:
        """Return when a watch may have become due."""
        self._changed = trio.Event()
        next_ns = min(_next_times(self._watches.values()), default=None)
        if next_ns is None:
            await self._changed.wait()
            return
        with trio.move_on_after(max(next_ns - monotonic_ns, 0) / NS_PER_S):
            await self._changed.wait()

    def _watch(self, order: Order, monotonic_ns: int) -> Watch:
        watch = self._watches.get(order.client_order_id)
        if watch is None:
            watch = self._watches[order.client_order_id] = Watch(
                client_order_id=order.client_order_id,
                account_id=order.account_id,
                next_ns=monotonic_ns + PATIENCE_NS,
                valid_until_ns=0,
                bounded=False,
            )
        return watch


def _next_times(watches: Iterable[Watch]) -> Iterable[int]:
    return (watch.next_ns for watch in watches)
