"""What a stop asks last: whether the venue's list of open orders says what we believe.

Owns what counts as confirmed: what was cancelled and is listed no more, what was left and is. It
cancels nothing and waits for no order; the execution engine does both before.
"""

from __future__ import annotations

import structlog
import trio
from attrs import frozen

from zq_daemon.core.cache import Cache
from zq_daemon.engine.brackets import Brackets
from zq_daemon.engine.inquiry import Inquiry
from zq_daemon.model.ids import AccountId, ClientOrderId, VenueOrderId
from zq_daemon.model.order import Order

_log = structlog.get_logger("zq.execution")


@frozen(kw_only=True)
class CancelResult:
    """What became of the orders to be cancelled: *unverified* ones may still rest at the venue.

    Orders that turned out filled, refused or expired are in neither.
    """

    cancelled: tuple[ClientOrderId, ...]
    unverified: tuple[ClientOrderId, ...]


@frozen(kw_only=True)
class StopResult:
    """What became of the orders at a stop: *left* ones rest at the venue, as was asked for.

    *unverified*: nobody knows, or the venue still lists what it said it had cancelled.
    """

    cancelled: int
    left: int
    unverified: int


class Confirmation:
    """Asks for statements of the accounts, once, and compares."""

    def __init__(self, cache: Cache, inquiry: Inquiry, brackets: Brackets) -> None:
        self._cache = cache
        self._inquiry = inquiry
        self._brackets = brackets

    def unsettled(self) -> set[ClientOrderId]:
        """Live orders that do not simply rest."""
        return {
            order.client_order_id
            for order in self._cache.orders_live()
            if not order.is_open or order.pending is not None
        }

    async def run(
        self,
        gone: set[ClientOrderId],
        unverified: set[ClientOrderId],
        *,
        leaves: bool,
        deadline: float,
    ) -> StopResult:
        """What became of the orders; *gone* were cancelled, the others are left if it *leaves*."""
        resting = self._live() if leaves else set()
        confirmed: set[ClientOrderId] = set()
        with trio.move_on_at(deadline):
            confirmed = await self._confirmed(gone, resting - unverified)
        live = self._live()
        left = (resting - unverified) & confirmed & live
        # What ended while the venue was asked is known after all.
        unverified = ((unverified | resting) & live - left) | (gone - confirmed)
        return StopResult(
            cancelled=len(gone - unverified), left=len(left), unverified=len(unverified)
        )

    async def _confirmed(
        self, gone: set[ClientOrderId], resting: set[ClientOrderId]
    ) -> set[ClientOrderId]:
        """Those of *gone* that the venue lists no more, and those of *resting* that it lists."""
        found: set[ClientOrderId] = set()
        by_account: dict[AccountId, set[ClientOrderId]] = {}
        for each in gone | resting:
            if (order := self._cache.order(each)) is not None:
                by_account.setdefault(order.account_id, set()).add(each)
        for account_id, asked in by_account.items():
            statement = await self._inquiry.load_statement(account_id)
            if statement is None:
                _log.warning("orders not confirmed by a statement", account=account_id)
                continue
            ids = {each.venue_order_id for each in statement.open_orders}
            for each in asked:
                order = self._cache.order(each)
                if order is not None and self._is_among(ids, order) is (each in resting):
                    found.add(each)
        return found

    def _is_among(self, ids: set[VenueOrderId], order: Order) -> bool:
        """Whether *ids* show *order*; an exit that is held is there with its entry, if at all."""
        if order.parent_id is not None and self._brackets.may_be_held(order):
            order = self._cache.order(order.parent_id) or order
        return not ids.isdisjoint(order.venue_order_ids)

    def _live(self) -> set[ClientOrderId]:
        return {each.client_order_id for each in self._cache.orders_live()}
