"""What `orders` tells of an order in doubt: since when, why, how often asked, what is awaited."""

from __future__ import annotations

from typing import Any

from zq_daemon.control.amounts import exact_text_of
from zq_daemon.engine.in_flight import Watch
from zq_daemon.engine.shortfalls import NEGATIVES
from zq_daemon.model.money import EXACT, ZERO
from zq_daemon.model.order import Order
from zq_daemon.ports.clock import NS_PER_S, Clock


def doubt_row(order: Order, watch: Watch, clock: Clock) -> dict[str, Any]:
    """The doubt about *order* as a JSON-ready value; seconds are from now, and never negative.

    `valid_s`: for how long what was sent may still bring it to the venue; None: that is over, or
    was never bounded.
    """
    now_ns, monotonic_ns = clock.now_ns(), clock.monotonic_ns()
    missing = max(EXACT.subtract(watch.expected_filled, order.filled_quantity), ZERO)
    is_valid = watch.bounded and watch.may_appear(now_ns)
    return {
        "since_s": _seconds(monotonic_ns - watch.since_ns),
        "why": watch.why,
        "asked": watch.asked,
        "next_s": _seconds(watch.next_ns - monotonic_ns),
        "valid_s": _seconds(watch.appears_until_ns - now_ns) if is_valid else None,
        "negatives": watch.negatives,
        "negatives_needed": NEGATIVES,
        "missing_fills": exact_text_of(missing) if missing else None,
        "histories_without": watch.shortfalls,
        "awaited": _awaited(order, watch, is_valid=is_valid, lacks_fills=bool(missing)),
    }


def _awaited(order: Order, watch: Watch, *, is_valid: bool, lacks_fills: bool) -> str:
    if lacks_fills:
        return f"its fills, or {NEGATIVES} histories without them ({watch.shortfalls} so far)"
    if is_valid and not watch.disowned:
        return "an answer of the venue, or the end of its validity"
    if not watch.bounded and not (order.venue_order_ids or order.filled_quantity):
        return "an answer of the venue: it has no validity to end"
    return (
        f"an answer of the venue, or {NEGATIVES} denials by status and open orders "
        f"({watch.negatives} so far)"
    )


def _seconds(elapsed_ns: int) -> float:
    return round(max(elapsed_ns, 0) / NS_PER_S, 3)
