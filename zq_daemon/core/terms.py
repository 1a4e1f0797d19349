"""The terms that modifications in flight ask for: needed to tell whether they took effect."""

from __future__ import annotations

from decimal import Decimal

from attrs import evolve, frozen

from zq_daemon.model.fill import Fill
from zq_daemon.model.ids import ClientOrderId, VenueOrderId
from zq_daemon.model.money import EXACT, ZERO
from zq_daemon.model.order import Order, Pending
from zq_daemon.model.report import OrderReport


@frozen
class Terms:
    """A price and a total quantity.

    A replacement is given what was left of *quantity* when it was signed (None: not yet); *unknown*
    is what the order was filled by until then without our knowing, which comes on top.
    """

    price: Decimal
    quantity: Decimal
    unknown: Decimal | None = None

    def total_under(self, venue_order_id: VenueOrderId, order: Order) -> Decimal:
        """The total quantity of *order* when these terms rest as *venue_order_id*."""
        if venue_order_id in order.venue_order_ids:
            return self.quantity
        return EXACT.add(self.quantity, self.unknown or ZERO)

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

    def sign(self, order: Order) -> None:
        """The modification of *order* was signed, with what is known of its fills."""
        self._asked[order.client_order_id] = evolve(
            self._asked[order.client_order_id], unknown=ZERO
        )

    def fill(self, order: Order, fill: Fill, replaces: Fill | None) -> None:
        """An id that *order* has already was filled, as becomes known now.

        It was known before as far as it *replaces* a synthetic fill.
        """
        asked = self._asked[order.client_order_id]
        if asked.unknown is not None:
            known = ZERO if replaces is None else replaces.quantity
            unknown = EXACT.add(asked.unknown, EXACT.subtract(fill.quantity, known))
            self._asked[order.client_order_id] = evolve(asked, unknown=unknown)

    def settle(self, order: Order) -> None:
        """Forget what was asked for once *order* has no modification pending."""
        if order.pending is not Pending.MODIFY:
            self._asked.pop(order.client_order_id, None)
