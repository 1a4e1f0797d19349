"""What the journal holds: intents, everything needed to ask the venue about an order after a crash.

Pure values; written by the execution engine, read back by recovery.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from attrs import frozen

from zq_daemon.model.ids import (
    AccountId,
    ClientOrderId,
    InstrumentId,
    StrategyId,
    VenueOrderId,
)
from zq_daemon.model.market import Side
from zq_daemon.model.order import OrderType, TimeInForce

IntentKind = Literal["submit", "cancel", "modify"]


@frozen(kw_only=True)
class Intent:
    """We are about to ask the venue for *kind* about one order; nothing of it has left yet.

    *price* and *quantity* are what is asked for (of a cancel: what the order has). *action_hash* is
    hexadecimal; *expires_ns* and *ts_event_ns* are wall time; *run_id* names the daemon's run.
    """

    kind: IntentKind
    run_id: int
    account_id: AccountId
    strategy_id: StrategyId
    instrument_id: InstrumentId
    client_order_id: ClientOrderId
    venue_order_id: VenueOrderId | None
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    post_only: bool
    reduce_only: bool
    price: Decimal | None
    quantity: Decimal
    nonce: int
    expires_ns: int | None
    action_hash: str
    ts_event_ns: int


Record = Intent
"""Everything that may be in a journal."""
