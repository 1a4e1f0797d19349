"""Reconciliation: our side of an account against the venue's, and what is to be done about it.

Owns what a difference is and what follows from it. Pure: values in, differences out; it asks
nobody, keeps nothing and reads no clock. The reader of reports acts on what it finds in every
statement, `zq-daemon reconcile --dry-run` shows it.

Nothing recent is overruled: a position that a fill has moved after the statement was made is not
compared (`is_newer`), an order that changed just now is asked about like any other (`is_recent`
is for people). Nothing ends by a difference either: what is missing is asked about by name, and
what that proves is the inquiry's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import assert_never

from attrs import evolve, frozen

from zq_daemon.model.account import Account, Balance
from zq_daemon.model.fill import Fill
from zq_daemon.model.ids import ClientOrderId, InstrumentId, VenueOrderId
from zq_daemon.model.money import EXACT, ZERO
from zq_daemon.model.order import Order, OrderStatus, Pending
from zq_daemon.model.position import Position
from zq_daemon.model.report import AccountReport, OrderReport

ENDED = (OrderStatus.CANCELED, OrderStatus.REJECTED, OrderStatus.EXPIRED)
"""What a venue calls an order that has ended otherwise than by fills."""
HALF = Decimal("0.5")
"""Of a quantity step: what differs by less is no difference, whatever is tolerated."""


class Remedy(Enum):
    """What is done about a difference."""

    ADOPT = "adopt"
    CANCEL = "cancel"
    REPORT = "report"
    REOPEN = "reopen and cancel"
    ASK = "ask about it"
    CONFIRM = "take it as confirmed"
    END = "take it as ended"
    FETCH_FILLS = "fetch its fills"
    BOOK = "book it"
    WAIT = "wait for a later statement"
    TOLERATE = "tolerate"
    TAKE_OVER = "fetch fills, then take it over"
    REPLACE = "take over the venue's"


@frozen(kw_only=True)
class LocalSide:
    """What we know of one account when its statement is read.

    *open_orders* should rest at the venue; *listed* says which of our orders, live or ended, each
    listed one is; *recent* ones changed just now. *steps* are the quantity steps of the instruments
    we know: what is of another is none of our business. *external* is what becomes of orders
    that are not ours.
    """

    open_orders: Sequence[Order]
    listed: Mapping[VenueOrderId, Order]
    recent: Collection[ClientOrderId]
    positions: Sequence[Position]
    account: Account | None
    steps: Mapping[InstrumentId, Decimal]


@frozen(kw_only=True)
class ExternalOrder:
    """The venue lists an open order that the journal does not know."""

    report: OrderReport


@frozen(kw_only=True)
class UnconfirmedOrder:
    """The venue lists an order of ours that is in flight: it has been taken."""

    order: Order
    report: OrderReport


@frozen(kw_only=True)
class RisenOrder:
    """The venue lists an order as open that has ended for us."""

    order: Order
    report: OrderReport


@frozen(kw_only=True)
class MissingOrder:
    """An order should rest at the venue, which does not list it."""

    order: Order
    is_recent: bool


@frozen(kw_only=True)
class LateFills:
    """The venue has filled more of a resting order than we have heard of."""

    order: Order
    report: OrderReport

    @property
    def quantity(self) -> Decimal:
        """How much more."""
        return late_quantity(self.order, self.report)


@frozen(kw_only=True)
class EndedOrder:
    """Asked about an order that lives for us, the venue says it has ended, or is filled."""

    order: Order
    report: OrderReport


@frozen(kw_only=True)
class DeniedOrder:
    """Asked about an order that lives for us, the venue has never heard of it."""

    order: Order


@frozen(kw_only=True)
class MissingFill:
    """The venue's history has a fill that we have not; *order* None: of no order of ours."""

    fill: Fill
    order: Order | None


@frozen(kw_only=True)
class PositionDifference:
    """A position is not as stated, by *amount* (stated less ours).

    *is_newer*: a fill has moved ours after the statement, so that the two cannot be compared;
    *is_tolerated*: it is less than what is configured to matter.
    """

    instrument_id: InstrumentId
    ours: Decimal
    stated: Decimal
    is_newer: bool = False
    is_tolerated: bool = False

    @property
    def amount(self) -> Decimal:
        """By how much the venue's is more."""
        return EXACT.subtract(self.stated, self.ours)


@frozen(kw_only=True)
class BalanceDifference:
    """A balance is another one than was last stated: it is the venue's figure, and replaced."""

    currency: str
    is_spot: bool
    ours: Decimal
    stated: Decimal


Difference = (
    ExternalOrder
    | UnconfirmedOrder
    | RisenOrder
    | MissingOrder
    | LateFills
    | EndedOrder
    | DeniedOrder
    | MissingFill
    | PositionDifference
    | BalanceDifference
)


def compare(
    local: LocalSide, statement: AccountReport, tolerance: Decimal
) -> tuple[Difference, ...]:
    """What differs between *local* and *statement*: orders, then positions, then balances.

    *tolerance* is by how many quantity steps a position may differ.
    """
    return (
        *_compare_listed(local, statement),
        *_compare_open(local, statement),
        *compare_positions(local.positions, local.steps, statement, tolerance),
        *_compare_balances(local.account, statement.account),
    )


def compare_positions(
    positions: Sequence[Position],
    steps: Mapping[InstrumentId, Decimal],
    statement: AccountReport,
    tolerance: Decimal,
) -> Iterator[PositionDifference]:
    """Where *positions* are not as stated; also those that cannot be told (`is_newer`)."""
    stated = {each.instrument_id: each.quantity for each in statement.positions}
    held = {each.instrument_id: each for each in positions}
    for instrument_id in sorted(stated.keys() | held.keys()):
        if instrument_id not in steps:
            continue
        position = held.get(instrument_id)
        found = PositionDifference(
            instrument_id=instrument_id,
            ours=ZERO if position is None else position.quantity,
            stated=stated.get(instrument_id, ZERO),
            is_newer=position is not None and position.ts_last_ns > statement.account.ts_event_ns,
        )
        step = steps[instrument_id]
        if found.is_newer or not tolerates(step, found.amount, tolerance):
            yield found
        elif not tolerates(step, found.amount, HALF):
            yield evolve(found, is_tolerated=True)


def tolerates(step: Decimal, amount: Decimal, tolerance: Decimal) -> bool:
    """Whether a position may differ by *amount*, as *tolerance* quantity *step*s allow."""
    return amount.copy_abs() <= EXACT.multiply(step, tolerance)


def late_quantity(order: Order, report: OrderReport) -> Decimal:
    """How much more of *order* was filled than we know, as *report* says by what is left of it.

    No more than the id it is of was filled by its own account. One that the venue may cut down
    proves nothing, nor does what is being modified, or an id that was replaced.
    """
    if order.reduce_only or order.parent_id is not None or order.pending is Pending.MODIFY:
        return ZERO
    if order.venue_order_ids and order.venue_order_ids[-1] != report.venue_order_id:
        return ZERO
    behind = EXACT.subtract(order.remaining_quantity, report.remaining)
    own = EXACT.subtract(report.quantity, report.remaining)
    return max(min(behind, own), ZERO)


def compare_status(order: Order, report: OrderReport | None) -> Difference | None:
    """What differs between live *order* and what the venue, asked about it, says; None: nothing."""
    if report is None:
        return DeniedOrder(order=order)
    if report.status is OrderStatus.FILLED or report.status in ENDED:
        return EndedOrder(order=order, report=report)
    return None if order.is_open else UnconfirmedOrder(order=order, report=report)


def remedy(difference: Difference, external: Remedy = Remedy.REPORT) -> Remedy:
    """What is done about *difference*; *external* about an external order."""
    match difference:
        case ExternalOrder():
            return external
        case UnconfirmedOrder():
            return Remedy.CONFIRM
        case RisenOrder():
            return Remedy.REOPEN
        case MissingOrder() | DeniedOrder():
            return Remedy.ASK
        case LateFills():
            return Remedy.FETCH_FILLS
        case EndedOrder():
            filled = difference.report.status is OrderStatus.FILLED
            return Remedy.FETCH_FILLS if filled else Remedy.END
        case MissingFill():
            return Remedy.BOOK
        case PositionDifference():
            if difference.is_newer:
                return Remedy.WAIT
            return Remedy.TOLERATE if difference.is_tolerated else Remedy.TAKE_OVER
        case BalanceDifference():
            return Remedy.REPLACE
        case _:
            assert_never(difference)


def _compare_listed(local: LocalSide, statement: AccountReport) -> Iterator[Difference]:
    for report in statement.open_orders:
        order = local.listed.get(report.venue_order_id)
        if order is None:
            if report.instrument_id in local.steps and report.remaining > ZERO:
                yield ExternalOrder(report=report)
        elif order.is_closed:
            if report.remaining > ZERO:
                yield RisenOrder(order=order, report=report)
        elif not order.is_open:
            yield UnconfirmedOrder(order=order, report=report)
        elif late_quantity(order, report) > ZERO:
            yield LateFills(order=order, report=report)


def _compare_open(local: LocalSide, statement: AccountReport) -> Iterator[MissingOrder]:
    """Orders that should be listed, by one of their ids, and are not."""
    named = {each.client_order_id for each in statement.open_orders}
    ids = {each.venue_order_id for each in statement.open_orders}
    for order in local.open_orders:
        if order.client_order_id not in named and order.venue_order_id not in ids:
            yield MissingOrder(order=order, is_recent=order.client_order_id in local.recent)


def _compare_balances(ours: Account | None, stated: Account) -> Iterator[BalanceDifference]:
    if ours is None or ours.ts_event_ns > stated.ts_event_ns:
        return  # nothing to compare with, or the statement is the older one
    before, now = _by_wallet(ours), _by_wallet(stated)
    for key in sorted(before.keys() | now.keys()):
        was = before[key].total if key in before else ZERO
        total = now[key].total if key in now else ZERO
        if was != total:
            yield BalanceDifference(currency=key[0], is_spot=key[1], ours=was, stated=total)


def _by_wallet(account: Account) -> Mapping[tuple[str, bool], Balance]:
    return {(each.currency, each.is_spot): each for each in account.balances}
