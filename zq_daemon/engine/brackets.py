"""Which exits wait for which entry: orders that the venue holds until another one has filled.

Owns the index by entry, of entries that live. It decides nothing and sends nothing: the execution
engine asks whose exits are to be looked after when an entry ends, the inquiry whether an exit that
the venue does not list may still be held there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from zq_daemon.core.cache import Cache
from zq_daemon.model.ids import ClientOrderId
from zq_daemon.model.order import Order


class Brackets:
    """The exits of all live entries."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._exits: dict[ClientOrderId, tuple[ClientOrderId, ...]] = {}

    def add(self, entry: ClientOrderId, exits: Iterable[ClientOrderId]) -> None:
        """*exits* wait for *entry*."""
        self._exits[entry] = tuple(exits)

    def restore(self) -> None:
        """Find them among the orders that live, after a replay."""
        for order in self._cache.orders_live():
            if order.parent_id is not None:
                self.add(order.parent_id, (*self.of(order.parent_id), order.client_order_id))

    def of(self, entry: ClientOrderId) -> Sequence[ClientOrderId]:
        """The exits of *entry*; none when it has none, or has ended."""
        return self._exits.get(entry, ())

    def end(self, entry: ClientOrderId) -> Sequence[Order]:
        """*entry* has ended: its exits that live, of which the venue decides now."""
        orders = [self._cache.order(each) for each in self._exits.pop(entry, ())]
        return [order for order in orders if order is not None and not order.is_closed]

    def may_be_held(self, order: Order) -> bool:
        """Whether *order* waits for an entry that lives: it need not be listed anywhere then.

        It may have an id all the same, that the venue told when it was asked about it.
        """
        parent = None if order.parent_id is None else self._cache.order(order.parent_id)
        return not order.is_closed and parent is not None and not parent.is_closed
