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

from zq_daemon.model.ids import AccountId, ClientOrderId, VenueOrderId
from zq_daemon.model.money import ZERO
from zq_daemon.model.order import Order, OrderStatus, Pending
from zq_daemon.ports.clock import NS_PER_MS, NS_PER_S

PATIENCE_NS = 15 * NS_PER_S
"""How long a request may be under way before the venue is asked what became of it."""
FIRST_DELAY_NS = 500 * NS_PER_MS
LAST_DELAY_NS = 60 * NS_PER_S
LATE_DELAY_NS = 3 * NS_PER_S
"""What is left of an order is told before its fills are, which come within this."""
_UNBOUNDED_NS = 60 * NS_PER_S
"""How long a cancel or modification without a validity of its own is given to take effect."""
_SILENCE = f"no outcome within {PATIENCE_NS // NS_PER_S} s"


@define(kw_only=True)
class Watch:
    """One order being watched; `*_ns` are monotonic but for the two `*_until_ns`, wall times.

    *valid_until_ns* is the last request's; *appears_until_ns* that of the last one which can bring
    an order to the venue that is not there, *bounded* whether that one had any. A cancel cannot,
    however long it is valid.

    What the venue says was filled: *answered* by the answer to its placement, under *answered_id*;
    *told* by calling it filled, with *untold* although it also calls all of it left; *by_rest* by
    what is left of it. With *listed* that rests under this id, and another list may say otherwise;
    with *by_end* it was left when the order ended. What is *untold* or *by_end* counts as far as
    the position shows it. *executed* is how much of an order that leaves no rest was filled, so
    that it ends with that; *doubted*: whether it still rests is not known;
    *disowned*: the venue refused a request as it has no such order; *begun*: the pending request
    has left, which one that waits for the journal has not. *negatives* counts complete answers of
    "not there" since *first_negative_ns*, *shortfalls* histories without the *missing* fills since
    *first_shortfall_ns*. *average_price* is what the venue said of all it filled at once. *why* it
    is in doubt since *since_ns*, empty where it is not; *asked* is how often the venue was.
    """

    client_order_id: ClientOrderId
    account_id: AccountId
    next_ns: int
    valid_until_ns: int
    appears_until_ns: int = 0
    bounded: bool = False
    delay_ns: int = FIRST_DELAY_NS
    answered: Decimal = ZERO
    answered_id: VenueOrderId | None = None
    told: Decimal = ZERO
    untold: bool = False
    by_rest: Decimal = ZERO
    listed: VenueOrderId | None = None
    by_end: bool = False
    executed: Decimal | None = None
    doubted: bool = False
    disowned: bool = False
    begun: bool = False
    negatives: int = 0
    first_negative_ns: int = field(default=0)
    shortfalls: int = 0
    missing: Decimal = ZERO
    first_shortfall_ns: int = 0
    average_price: Decimal | None = None
    why: str = ""
    since_ns: int = 0
    asked: int = 0

    @property
    def filled_at_rest(self) -> Decimal:
        """What was filled though the order may rest."""
        return max(self.answered, self.by_rest)

    @property
    def expected_filled(self) -> Decimal:
        """What the venue says was filled."""
        return max(self.filled_at_rest, self.told)

    def expect_no_more(self) -> None:
        """All that it was said to be filled is known, or given up."""
        self.answered = self.told = self.by_rest = ZERO
        self.listed, self.by_end, self.untold = None, False, False

    @property
    def in_doubt(self) -> bool:
        """Nothing told yet what became of it, and not for want of time only."""
        return self.doubted or bool(self.why)

    def lapsed(self, now_ns: int) -> bool:
        """Whether the last request can no longer take effect at wall time *now_ns*."""
        return now_ns > self.valid_until_ns

    def may_appear(self, now_ns: int) -> bool:
        """Whether an order that is not at the venue at wall time *now_ns* can still get there."""
        return now_ns <= self.appears_until_ns

    def only_lacks_fills(self, order: Order) -> bool:
        """Whether nothing else is unknown of *order*, which has ended or rests as it should."""
        if order.is_closed:
            return True
        return self.listed is not None and not (
            order.is_in_flight or self.doubted or self.executed is not None
        )


class InFlight:
    """All watches; there is at most one for each order, live or lacking fills."""

    def __init__(self) -> None:
        self._watches: dict[ClientOrderId, Watch] = {}
        self._changed = trio.Event()
        self._wakes_ns: int | None = None

    def __len__(self) -> int:
        return len(self._watches)

    def in_doubt(self) -> int:
        """How many orders the venue is being asked about, as nothing told what became of them."""
        return sum(watch.in_doubt for watch in self._watches.values())

    def doubts(self) -> tuple[Watch, ...]:
        """The watches of those orders."""
        return tuple(watch for watch in self._watches.values() if watch.in_doubt)

    def get(self, client_order_id: ClientOrderId) -> Watch | None:
        """The watch of an order."""
        return self._watches.get(client_order_id)

    def begin(
        self,
        order: Order,
        *,
        now_ns: int,
        monotonic_ns: int,
        expires_ns: int | None,
        brings: bool,
    ) -> Watch:
        """A request about *order* is about to leave, valid until *expires_ns* (wall).

        *brings*: it can bring the order to the venue, as all but a cancel can.
        """
        watch = self._watch(order, monotonic_ns)
        watch.next_ns = monotonic_ns + PATIENCE_NS
        watch.delay_ns = FIRST_DELAY_NS
        watch.begun = True
        if not watch.doubted:
            watch.why, watch.asked = "", 0
        watch.valid_until_ns = now_ns + _UNBOUNDED_NS if expires_ns is None else expires_ns
        if brings:
            watch.bounded = expires_ns is not None
            watch.appears_until_ns = watch.valid_until_ns
            if not watch.disowned:
                watch.negatives = 0
        self._wake_by(watch.next_ns)
        return watch

    def hasten(
        self, order: Order, monotonic_ns: int, *, why: str = "", doubted: bool = False
    ) -> Watch:
        """Ask about *order* soon; *doubted* keeps it watched until the venue says it rests."""
        watch = self._watch(order, monotonic_ns)
        watch.doubted |= doubted
        watch.delay_ns = FIRST_DELAY_NS
        watch.next_ns = min(watch.next_ns, monotonic_ns + FIRST_DELAY_NS)
        if why:
            watch.since_ns = watch.since_ns if watch.why else monotonic_ns
            watch.why = why
        self._wake_by(watch.next_ns)
        return watch

    def doubt(self, order: Order, monotonic_ns: int, *, why: str) -> None:
        """Whether *order* still rests is not known: ask soon, unless that is asked already."""
        watch = self._watches.get(order.client_order_id)
        if watch is None or not watch.doubted:
            self.hasten(order, monotonic_ns, why=why, doubted=True)

    def disown(self, order: Order, monotonic_ns: int, *, why: str) -> None:
        """The venue has no such order and so refused the request about it: none is under way."""
        watch = self.hasten(order, monotonic_ns, why=why, doubted=True)
        watch.disowned = True
        watch.valid_until_ns = watch.appears_until_ns = 0

    def expect(
        self, order: Order, monotonic_ns: int, filled: Decimal, *, listed: VenueOrderId | None
    ) -> None:
        """*order* was filled by *filled*, as what is left of it says; *listed*: it rests as that.

        The fills may be on their way. Only news is asked about soon: the interval grows else.
        """
        watch = self._watch(order, monotonic_ns)
        known, may_fall = watch.by_rest, listed is not None and watch.listed is not None
        if filled == known or (filled < known and not may_fall):
            return
        watch.by_rest, watch.listed, watch.by_end = filled, listed, listed is None
        late_ns = monotonic_ns + LATE_DELAY_NS
        if late_ns < watch.next_ns:
            watch.next_ns, watch.delay_ns = late_ns, LATE_DELAY_NS
        self._wake_by(watch.next_ns)

    def withdraw(self, order: Order, listed: VenueOrderId) -> None:
        """A statement lists *order* under that id as we know it: none of its fills is missing."""
        watch = self._watches.get(order.client_order_id)
        if watch is None or watch.listed != listed or order.pending is Pending.MODIFY:
            return
        watch.by_rest, watch.listed = ZERO, None
        self.settle(order)

    def expecting(self, account_id: AccountId) -> Iterable[Watch]:
        """The watches of the account's orders of which the venue has said what was filled."""
        watches = self._watches.values()
        return (w for w in watches if w.expected_filled and w.account_id == account_id)

    def settle(self, order: Order) -> None:
        """Stop watching *order* if nothing about it is unknown any more.

        One that was cancelled may still lack fills that the venue has said it has.
        """
        watch = self._watches.get(order.client_order_id)
        if watch is None:
            return
        watch.begun &= order.pending is not None
        is_replaced = watch.listed is not None and order.venue_order_ids[-1:] != (watch.listed,)
        if is_replaced or (watch.by_end and not order.is_closed):  # what was left says nothing now
            watch.by_rest, watch.listed, watch.by_end = ZERO, None, False
        missing = order.filled_quantity < watch.expected_filled
        if order.is_closed:
            watch.doubted = False
            waits = missing and order.status is not OrderStatus.FILLED
        else:
            waits = order.is_in_flight or watch.doubted or missing or watch.executed is not None
        if not waits:
            self.drop(order.client_order_id)

    def drop(self, client_order_id: ClientOrderId) -> None:
        """Stop watching an order, whatever is unknown about it."""
        self._watches.pop(client_order_id, None)

    def due(self, monotonic_ns: int) -> tuple[Watch, ...]:
        """The watches to ask about now; each is put off, twice as long as last time."""
        found = tuple(each for each in self._watches.values() if each.next_ns <= monotonic_ns)
        for watch in found:
            watch.delay_ns = min(2 * watch.delay_ns, LAST_DELAY_NS)
            watch.next_ns = monotonic_ns + watch.delay_ns
            if not watch.why:
                missing = watch.expected_filled
                watch.why = f"filled by {missing}, as the venue says" if missing else _SILENCE
                watch.since_ns = monotonic_ns
        return found

    async def wait_due(self, monotonic_ns: int) -> None:
        """Return when a watch may have become due."""
        self._changed = trio.Event()
        next_ns = self._wakes_ns = min(_next_times(self._watches.values()), default=None)
        if next_ns is None:
            await self._changed.wait()
            return
        with trio.move_on_after(max(next_ns - monotonic_ns, 0) / NS_PER_S):
            await self._changed.wait()

    def _wake_by(self, monotonic_ns: int) -> None:
        """Wake who waits, unless that will be awake by then: most requests end long before."""
        if self._wakes_ns is None or monotonic_ns < self._wakes_ns:
            self._changed.set()

    def _watch(self, order: Order, monotonic_ns: int) -> Watch:
        watch = self._watches.get(order.client_order_id)
        if watch is None:
            watch = self._watches[order.client_order_id] = Watch(
                client_order_id=order.client_order_id,
                account_id=order.account_id,
                next_ns=monotonic_ns + PATIENCE_NS,
                valid_until_ns=0,
            )
        return watch


def _next_times(watches: Iterable[Watch]) -> Iterable[int]:
    return (watch.next_ns for watch in watches)
