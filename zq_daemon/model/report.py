"""Reports: what a venue's private stream or query says of our orders, before it is believed.

The execution engine turns reports into events; they may repeat, lag and arrive in any order.
"""

from __future__ import annotations

from decimal import Decimal

from attrs import frozen

from zq_daemon.model.account import Account
from zq_daemon.model.event import AccountLiquidated, FundingPaid
from zq_daemon.model.fill import Fill
from zq_daemon.model.ids import AccountId, ClientOrderId, InstrumentId, VenueOrderId
from zq_daemon.model.market import Side
from zq_daemon.model.order import OrderStatus, TimeInForce


@frozen(kw_only=True)
class OrderReport:
    """The venue's view of one order. *status* is ACCEPTED, FILLED, CANCELED, REJECTED or EXPIRED.

    *remaining* is what still rests; *reason* the venue's own status word. *ts_event_ns* of an open
    order in a statement is when it was placed, else when it got its status.

    The last four are told by statements and queries, and None where they are not: what an order
    needs to be adopted. *is_trigger*: it waits outside of the book for a price, and is no plain
    limit order.
    """

    account_id: AccountId
    instrument_id: InstrumentId
    client_order_id: ClientOrderId | None
    venue_order_id: VenueOrderId
    side: Side
    price: Decimal
    quantity: Decimal
    remaining: Decimal
    status: OrderStatus
    reason: str
    ts_event_ns: int
    ts_recv_ns: int
    time_in_force: TimeInForce | None = None
    post_only: bool | None = None
    reduce_only: bool | None = None
    is_trigger: bool | None = None


@frozen(kw_only=True)
class PositionReport:
    """The venue's net position in one instrument."""

    account_id: AccountId
    instrument_id: InstrumentId
    quantity: Decimal
    average_entry_price: Decimal | None
    ts_event_ns: int
    ts_recv_ns: int


@frozen(kw_only=True)
class AccountReport:
    """A full statement: account figures, positions and open orders at one moment."""

    account: Account
    positions: tuple[PositionReport, ...]
    open_orders: tuple[OrderReport, ...]


@frozen(kw_only=True)
class FillHistory:
    """The account's fills from some time on, oldest first, each trade and side once.

    Not *complete*: the venue no longer has, or would not tell, all of them; those here are good.
    """

    fills: tuple[Fill, ...]
    complete: bool


@frozen(kw_only=True)
class CancelReport:
    """The venue took an order off its book by itself; it tells no more than which one."""

    account_id: AccountId
    instrument_id: InstrumentId
    venue_order_id: VenueOrderId
    reason: str
    ts_recv_ns: int


Report = OrderReport | Fill | FundingPaid | AccountReport | CancelReport | AccountLiquidated
