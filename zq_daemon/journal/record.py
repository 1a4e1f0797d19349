"""What the journal holds: every intent, every event about orders, fills, positions and accounts.

Pure values, one sequence. The execution engine writes intents, the ledger events, the daemon its
runs; replay reads them back (`journal.replay`). How a record becomes bytes is `journal.codec`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

from attrs import frozen

from zq_daemon.core.baseline import DayMeasure
from zq_daemon.core.terms import Terms
from zq_daemon.model.event import (
    AccountUpdated,
    FundingPaid,
    OrderEvent,
    OrderPendingRejected,
    TradingStateChanged,
)
from zq_daemon.model.fill import Fill
from zq_daemon.model.ids import (
    AccountId,
    ClientOrderId,
    InstrumentId,
    StrategyId,
    VenueOrderId,
)
from zq_daemon.model.instrument import Instrument
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderType, TimeInForce
from zq_daemon.model.position import Position
from zq_daemon.model.report import PositionReport

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
    trigger_price: Decimal | None = None
    quantity: Decimal
    nonce: int
    expires_ns: int | None
    action_hash: str
    ts_event_ns: int


@frozen
class Declined:
    """A cancel or modification that was not even begun: history only, the order stays as it is."""

    event: OrderPendingRejected


@frozen
class ExternalFill:
    """A fill on our account that none of our orders explains; it moves the account's position."""

    fill: Fill


@frozen(kw_only=True)
class StatementAdopted:
    """Positions were taken over as the venue states them; fills from *ts_event_ns* on add to them.

    *positions* replace ours of the same instruments. *whole*: what is not among them is flat, and
    this is where our knowledge of the account begins. *reason* says why we took the venue's word.
    """

    account_id: AccountId
    positions: tuple[PositionReport, ...]
    whole: bool
    reason: str
    ts_event_ns: int


@frozen(kw_only=True)
class PositionsAgreed:
    """Our positions were those of the venue's statement of that time: we knew every fill."""

    account_id: AccountId
    ts_event_ns: int


@frozen
class InstrumentKnown:
    """The terms of an instrument, before the first record that needs them, and when they change."""

    instrument: Instrument


@frozen(kw_only=True)
class RunStarted:
    """A daemon began to trade for *accounts*; *embedded*: on an exchange that ends with the run.

    *venue* says which one it is and where, so that what is known of one is never taken for another.
    *ended* are accounts of a former run's embedded exchange: it ended, and what they held with it.
    *damages* counts the damages of the journal that were accepted by then.
    """

    run_id: int
    version: str
    venue: str
    accounts: tuple[AccountId, ...]
    embedded: bool
    ts_event_ns: int
    ended: tuple[AccountId, ...] = ()
    damages: int = 0


@frozen(kw_only=True)
class RunEnded:
    """A daemon stopped gracefully; *unverified* orders may still rest at the venue."""

    run_id: int
    cancelled: int
    left: int
    unverified: int
    ts_event_ns: int


@frozen(kw_only=True)
class DayPnl:
    """The net P&L of an account on a UTC day: *amount* as of the time.

    *measured* says from where, so that another run measures on from there; *accepted* is the day's
    P&L when an operator let trading go on after a daily loss (None: that was not on this day).
    """

    account_id: AccountId
    amount: Decimal
    accepted: Decimal | None
    measured: DayMeasure
    ts_event_ns: int


@frozen(kw_only=True)
class StrategySaved:
    """What a strategy wants to remember: *data* is JSON, *version* the strategy's own number."""

    strategy_id: StrategyId
    version: int
    data: Mapping[str, Any]
    ts_event_ns: int


OrderRecord = Intent | OrderEvent
"""Records about one tracked order: replay keeps them by order."""

PlainRecord = (
    Declined
    | ExternalFill
    | FundingPaid
    | StatementAdopted
    | PositionsAgreed
    | AccountUpdated
    | TradingStateChanged
    | InstrumentKnown
    | RunStarted
    | RunEnded
    | DayPnl
    | StrategySaved
)
"""Records that are not about one tracked order."""

Record = OrderRecord | PlainRecord
"""Everything that may be in a journal."""


@frozen(kw_only=True)
class OrderKept:
    """A checkpoint's order as it stood; *intent* is its last one, *terms* what it is to become.

    *venue_order_ids* are those by which it is found, oldest first.
    """

    order: Order
    intent: Intent | None
    terms: Terms | None
    venue_order_ids: tuple[VenueOrderId, ...]


@frozen(kw_only=True)
class PositionKept:
    """A checkpoint's net position: of the account (*strategy_id* None) or of one strategy."""

    position: Position
    strategy_id: StrategyId | None


@frozen(kw_only=True)
class FeesKept:
    """A checkpoint's sum of the fees of an account, by currency."""

    account_id: AccountId
    fees: Mapping[str, Decimal]


@frozen
class SeenKept:
    """Some of the fills and fundings that were taken already, oldest first."""

    keys: tuple[tuple[str, ...], ...]


@frozen(kw_only=True)
class MarksKept:
    """How far an account is known: see `JournalState`."""

    account_id: AccountId
    stated_ns: int | None
    adopted_ns: Mapping[InstrumentId, int]
    agreed_ns: int | None
    nonce: int | None


Kept = OrderKept | PositionKept | FeesKept | SeenKept | MarksKept
"""What only checkpoints hold."""
