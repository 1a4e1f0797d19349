"""From what the journal says to an engine that goes on from there: before anybody is asked.

Owns what follows from the journal alone. A request whose intent is not in it never left; one whose
intent is may have, and is in flight again until the venue is asked (`engine.recovery`). An exchange
that was embedded in a former run ended with it, and took its orders along. Called once by the
execution engine, before it runs.
"""

from __future__ import annotations

from attrs import frozen

from zq_daemon.engine.in_flight import InFlight
from zq_daemon.engine.ledger import OrderLedger
from zq_daemon.journal.record import Intent
from zq_daemon.journal.state import JournalState
from zq_daemon.model.order import Order, OrderStatus, Pending
from zq_daemon.ports.clock import Clock

_UNSENT = "the daemon ended before it left"
_ENDED = "the embedded exchange ended with its daemon"


@frozen(kw_only=True)
class Restored:
    """How many orders of former runs *live*, and how many turned out to have never left."""

    live: int
    never_sent: int


def restore(
    state: JournalState, ledger: OrderLedger, in_flight: InFlight, clock: Clock
) -> Restored:
    """Settle what the journal settles, and watch every order that is then still live."""
    if state.runs and state.runs[-1].embedded:
        _end_embedded(state, ledger)
    never_sent = 0
    for order in tuple(state.cache.orders_live()):
        intent = state.intents.get(order.client_order_id)
        settled = _settle(order, intent, state, ledger)
        if settled.is_closed:
            never_sent += 1
        else:
            _watch(settled, intent, in_flight, clock)
    return Restored(live=state.cache.live_count(), never_sent=never_sent)


def _settle(order: Order, intent: Intent | None, state: JournalState, ledger: OrderLedger) -> Order:
    if order.status in (OrderStatus.INITIALIZED, OrderStatus.JOURNALLED):
        if intent is None:
            return ledger.reject(order, "NOT_SENT", _UNSENT)
        order = ledger.depart(order, intent.nonce, intent.expires_ns)
    if order.pending is Pending.CANCEL and (intent is None or intent.kind != "cancel"):
        return ledger.refuse(order, Pending.CANCEL, "NOT_SENT", _UNSENT)
    if order.pending is Pending.MODIFY and state.terms.get(order.client_order_id) is None:
        return ledger.refuse(order, Pending.MODIFY, "NOT_SENT", _UNSENT)
    return order


def _watch(order: Order, intent: Intent | None, in_flight: InFlight, clock: Clock) -> None:
    now_ns, monotonic_ns = clock.now_ns(), clock.monotonic_ns()
    expires_ns = None if intent is None else intent.expires_ns
    if order.is_in_flight:
        in_flight.begin(
            order,
            now_ns=now_ns,
            monotonic_ns=monotonic_ns,
            expires_ns=expires_ns,
            # Of an order only the last intent is known: a cancel came after what brings it.
            brings=True,
        )
    in_flight.hasten(order, monotonic_ns, why="of a former run", doubted=True)


def _end_embedded(state: JournalState, ledger: OrderLedger) -> None:
    accounts = state.ended_accounts()
    for order in tuple(state.cache.orders_live()):
        if order.account_id in accounts:
            ledger.cancel(order, _ENDED)
