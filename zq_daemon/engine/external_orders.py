"""Orders at the venue that are none of ours: adopted, cancelled or reported, as configured.

They were placed by hand, by another program, or by a daemon whose journal is gone. An adopted order
is tracked like our own, in the name of `external`; one to be cancelled is adopted and then owed a
cancel. Owns the decision and what was told already; the reader of reports hands it every live order
it cannot find.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Literal

import structlog

from zq_daemon.engine.ledger import EXTERNAL, OrderLedger
from zq_daemon.model.ids import AccountId, VenueOrderId, external_client_order_id
from zq_daemon.model.money import ZERO
from zq_daemon.model.order import WORKING, Order, OrderStatus, OrderType, TimeInForce
from zq_daemon.model.report import OrderReport
from zq_daemon.ports.clock import Clock

ExternalPolicy = Literal["adopt", "cancel", "report"]
_TOLD = 4_096
"""Orders remembered as reported; one that is forgotten is told again."""

_log = structlog.get_logger("zq.external")


class ExternalOrders:
    """What becomes of live orders that the journal does not know."""

    def __init__(
        self,
        policy: ExternalPolicy,
        ledger: OrderLedger,
        clock: Clock,
        owe_cancel: Callable[[Order], None],
        ask_statement: Callable[[AccountId], None],
    ) -> None:
        """*owe_cancel* asks for a cancel until it ended, *ask_statement* for a statement soon."""
        self._ask_statement = ask_statement
        self._policy = policy
        self._ledger = ledger
        self._clock = clock
        self._owe_cancel = owe_cancel
        self._told: OrderedDict[tuple[AccountId, VenueOrderId], None] = OrderedDict()
        self._counts: Counter[str] = Counter()

    def counts(self) -> Mapping[str, int]:
        """How many were adopted, cancelled or reported."""
        return self._counts

    def policy_for(self, report: OrderReport) -> ExternalPolicy:
        """What becomes of the order.

        A trigger waits outside of the book: it can be cancelled, but not tracked as what it is.
        """
        adoptable = self._policy == "cancel" or not report.is_trigger
        return self._policy if adoptable else "report"

    def read(self, report: OrderReport) -> None:
        """Take a report of an order that is not tracked; only one that rests matters."""
        if report.status not in WORKING or report.remaining <= ZERO:
            return
        if self._policy == "adopt" and report.is_trigger is None:
            # The private stream does not say what it is; a statement does.
            self._ask_statement(report.account_id)
            return
        policy = self.policy_for(report)
        key = report.account_id, report.venue_order_id
        if policy == "report" and key in self._told:
            return
        self._counts[policy] += 1
        _log.warning(
            "external order",
            policy=policy,
            venue_order_id=report.venue_order_id,
            account=report.account_id,
            instrument=report.instrument_id,
            side=report.side.value,
            quantity=str(report.remaining),
            price=str(report.price),
        )
        if policy == "report":
            self._told[key] = None
            if len(self._told) > _TOLD:
                self._told.popitem(last=False)
            return
        order = self._adopt(report)
        if policy == "cancel":
            self._owe_cancel(order)

    def _adopt(self, report: OrderReport) -> Order:
        """Track what is left of the order: what was filled before is in the position already."""
        now_ns = self._clock.now_ns()
        order = Order(
            client_order_id=report.client_order_id
            or external_client_order_id(report.account_id, report.venue_order_id),
            strategy_id=EXTERNAL,
            account_id=report.account_id,
            instrument_id=report.instrument_id,
            side=report.side,
            order_type=OrderType.LIMIT,
            quantity=report.remaining,
            price=report.price,
            time_in_force=report.time_in_force or TimeInForce.GTC,
            post_only=bool(report.post_only),
            reduce_only=bool(report.reduce_only),
            status=OrderStatus.ACCEPTED,
            venue_order_id=report.venue_order_id,
            venue_order_ids=(report.venue_order_id,),
            ts_init_ns=now_ns,
            ts_last_ns=now_ns,
        )
        # One record, so that no crash can leave an adoption half done.
        self._ledger.track(order)
        return order
