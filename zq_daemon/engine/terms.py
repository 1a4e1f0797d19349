"""The terms that modifications in flight ask for: needed to tell whether they took effect."""

from __future__ import annotations

from decimal import Decimal

from attrs import frozen

from zq_daemon.model.ids import ClientOrderId
from zq_daemon.model.order import Order, Pending
from zq_daemon.model.report import OrderReport


@frozen
class Terms:
    """A price and a total quantity."""

    price: Decimal
    quantity: Decimal

    def is_shown_by(self, report: OrderReport, order: Order) -> bool:
        """Whether *report* shows these terms, and not those *order* has had so far."""
        changed = (self.price, self.quantity) != (order.price, order.quantity)
        return changed and (report.price, report.quantity) == (self.price, self.quantity)


class TermsInFlight:
    """At most one set of terms for each live order, forgotten when its modification is decided."""

    def __init__(self) -> None:
        self._asked: dict[ClientOrderId, Terms] = {}

    def ask(self, order: Order, terms: Terms) -> None:
        """A modification of *order* was asked for."""
        self._asked[order.client_order_id] = terms

    def get(self, client_order_id: ClientOrderId) -> Terms | None:
        """What is asked for; None when nothing is."""
        return self._asked.get(client_order_id)

    def settle(self, order: Order) -> None:
        """Forget what was asked for once *order* has no modification pending."""
        if order.pending is not Pending.MODIFY:
            self._asked.pop(order.client_order_id, None)
