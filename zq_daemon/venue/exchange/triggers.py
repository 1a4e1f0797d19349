"""Orders that wait: for the mark price (stops and take profits), and for another order's fill.

Owns which orders are armed, and the ties of a TP/SL group: children wait for their parent's fill,
and the fill of one of two siblings cancels the other. Never matches itself. Called by `trading`.

A parent that is filled arms its children; one that ends otherwise takes them along, also when a
part of it was filled (an immediate order counts as filled with what it got).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Protocol

from zq_daemon.venue.exchange.account import Account, UserOrder
from zq_daemon.venue.exchange.checks import (
    Checks,
    OrderRefused,
    Terms,
)
from zq_daemon.venue.exchange.clearinghouse import Clearinghouse

_IMMEDIATE = ("Ioc", "FrontendMarket")


class Floor(Protocol):
    """Where orders live: see `trading.Trading`."""

    def make(self, account: Account, terms: Terms) -> UserOrder:
        """A new live order."""

    def enter(self, order: UserOrder) -> dict[str, Any]:
        """Let a live order in."""

    def run(self, order: UserOrder) -> str | None:
        """Match a live order."""

    def changed(self, order: UserOrder, status: str) -> None:
        """A live order has a new status."""

    def finish(self, order: UserOrder, status: str) -> None:
        """An order ends."""

    def withdraw(self, order: UserOrder, status: str) -> None:
        """Take a live order away."""

    def check_cloid(self, account: Account, terms: Iterable[Terms]) -> None:
        """Client order ids are new."""

    def reject(self, account: Account, terms: Terms, refusal: OrderRefused) -> None:
        """Remember a refused order."""


class Triggers:
    """The armed orders of all accounts, by coin in the order they were armed."""

    def __init__(self, clearing: Clearinghouse, checks: Checks, floor: Floor) -> None:
        self._clearing = clearing
        self._checks = checks
        self._floor = floor
        self._armed: dict[str, dict[int, UserOrder]] = {}
        self._marks: dict[str, Decimal] = {}
        """At which mark the armed orders of a coin were looked at last."""

    def place_group(
        self, account: Account, terms: Sequence[Terms], grouping: str
    ) -> list[dict[str, Any] | str]:
        """Place a checked group; a status for each order, as the wire has it.

        A group is let in as a whole: what is wrong with one of its orders refuses all.
        """
        try:
            self._floor.check_cloid(account, terms)
            if grouping == "normalTpsl":
                return self._place_with_parent(account, terms[0], terms[1:])
            return self._place_on_position(account, terms)
        except OrderRefused as refusal:
            self._floor.reject(account, terms[0], refusal)
            return [{"error": str(refusal)} for _ in terms]

    def arm(self, order: UserOrder) -> None:
        """Let an order wait for the mark price; one that follows a position has its size."""
        if order.follows_position:
            held = self._clearing.accounts[order.account].position_size(order.coin)
            order.size = order.left = abs(held)
        self._armed.setdefault(order.coin, {})[order.oid] = order
        self._marks.pop(order.coin, None)
        self._floor.changed(order, "open")

    def fire(self) -> bool:
        """Send off every order whose trigger the mark has reached; whether there was one."""
        fired = False
        for coin in list(self._armed):
            mark = self._clearing.mark(coin)
            is_new = mark and mark != self._marks.get(coin)
            self._marks[coin] = mark
            for order in self._due(coin, mark) if is_new else ():
                if order.is_armed and order.oid in self._armed.get(coin, {}):
                    fired = True
                    self._fire(order)
        return fired

    def finished(self, order: UserOrder) -> None:
        """An order has ended: arm or cancel its children, cancel its siblings."""
        self._disarm(order)
        if order.parent is not None:
            order.parent.children.remove(order)
        children, order.children = order.children, []
        for child in children:
            child.parent = None
            if _has_filled(order):
                child.size = child.left = min(child.size, order.filled)
                self.arm(child)
            else:
                is_venues = order.status.endswith("Canceled")
                self._floor.finish(child, order.status if is_venues else "canceled")
        siblings, order.siblings = order.siblings, []
        for sibling in siblings:
            sibling.siblings = [each for each in sibling.siblings if each is not order]
            if order.status == "filled":
                self._floor.withdraw(sibling, "siblingFilledCanceled")

    def replace_waiting(
        self, account: Account, old: UserOrder, terms: Terms
    ) -> dict[str, Any] | str:
        """Replace a child that still waits for its parent."""
        parent, siblings = old.parent, old.siblings
        assert parent is not None
        if terms.trigger is None or not terms.reduce_only:
            raise OrderRefused("TP/SL orders must be reduce only.")
        self._checks.admit_child(account, terms, parent)
        old.siblings = []
        self._floor.withdraw(old, "canceled")
        new = self._floor.make(account, terms)
        new.parent = parent
        parent.children.append(new)
        self.inherit(old, new, siblings, [])
        return "waitingForFill"

    def inherit(
        self,
        old: UserOrder,
        new: UserOrder,
        siblings: list[UserOrder],
        children: list[UserOrder],
    ) -> None:
        """*new* takes *old*'s place in its group."""
        new.siblings, new.children = siblings, children
        for sibling in siblings:
            sibling.siblings = [new if each is old else each for each in sibling.siblings]
        for child in children:
            child.parent = new

    def _place_with_parent(
        self, account: Account, first: Terms, others: Sequence[Terms]
    ) -> list[dict[str, Any] | str]:
        admitted = self._checks.admit(account, first)
        for each in others:
            self._checks.admit_child(account, each, admitted)
        parent = self._floor.make(account, admitted)
        parent.children = [self._floor.make(account, each) for each in others]
        children = list(parent.children)
        for child in children:
            child.parent = parent
        _tie(children)
        status = self._floor.enter(parent)
        if "error" in status:
            return [status, *(dict(status) for _ in children)]
        return [status, *(_child_status(child) for child in children)]

    def _place_on_position(
        self, account: Account, terms: Sequence[Terms]
    ) -> list[dict[str, Any] | str]:
        for each in terms:
            self._checks.admit_child(account, each, None)
        orders = [self._floor.make(account, each) for each in terms]
        _tie(orders)
        for order in orders:
            self.arm(order)
        return ["waitingForTrigger" for _ in orders]

    def _due(self, coin: str, mark: Decimal) -> list[UserOrder]:
        return [order for order in self._armed[coin].values() if _is_due(order, mark)]

    def _fire(self, order: UserOrder) -> None:
        """An armed order becomes an order like any other."""
        self._disarm(order)
        order.triggered = True
        self._floor.changed(order, "triggered")
        account = self._clearing.accounts[order.account]
        held = account.position_size(order.coin)
        if order.reduce_only:
            if held * order.side.sign >= 0:
                self._floor.finish(order, "reduceOnlyCanceled")
                return
            order.left = min(order.left, abs(held))
        else:
            try:
                self._checks.check_margin(account, order.coin, order.side, order.left, order)
            except OrderRefused as refusal:
                self._floor.finish(order, refusal.status)
                return
        if order.trigger is not None and order.trigger.is_market:
            order.tif = "FrontendMarket"
        self._floor.run(order)

    def _disarm(self, order: UserOrder) -> None:
        armed = self._armed.get(order.coin, {})
        armed.pop(order.oid, None)
        if not armed:
            self._armed.pop(order.coin, None)


def _is_due(order: UserOrder, mark: Decimal) -> bool:
    return order.trigger is not None and order.trigger.is_reached(order.side, mark)


def _has_filled(parent: UserOrder) -> bool:
    if parent.status == "filled":
        return True
    return parent.tif in _IMMEDIATE and parent.status == "canceled" and bool(parent.filled)


def _tie(orders: Sequence[UserOrder]) -> None:
    for order in orders:
        order.siblings = [other for other in orders if other is not order]


def _child_status(child: UserOrder) -> str:
    """What it was when it was placed: one that is of no use on the position is cancelled then."""
    return "waitingForFill" if child.is_waiting else "waitingForTrigger"
