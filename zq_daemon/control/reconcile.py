"""`reconcile`: what differs from the venue now and what is done about it, as a look or for good.

Owns how a difference is worded and how long the venue may take. The execution engine asks and
acts; one client at a time, as all of it is questions to the venue, which counts them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar, assert_never

import structlog
import trio
from attrs import asdict

from zq_daemon.control.amounts import exact_text_of
from zq_daemon.control.arguments import Arguments
from zq_daemon.core.reconcile import (
    BalanceDifference,
    DeniedOrder,
    Difference,
    EndedOrder,
    ExternalOrder,
    LateFills,
    MissingFill,
    MissingOrder,
    PositionDifference,
    RisenOrder,
    UnconfirmedOrder,
)
from zq_daemon.errors import ControlError, NoRoomError
from zq_daemon.model.order import Order
from zq_daemon.model.report import OrderReport

if TYPE_CHECKING:
    from zq_daemon.assembly import Assembly
    from zq_daemon.engine.reconciliation import Finding, Look

_T = TypeVar("_T")

TAKES = ("dry_run", "wait_s")
MOST_S = 3_600.0
"""How long a client may have itself wait."""
WAIT_S = 60.0
_AGAIN_S = 5.0
_MOST_ROWS = 1_000

_log = structlog.get_logger("zq.control")


class Reconcile:
    """The verb."""

    def __init__(self) -> None:
        self._place = trio.CapacityLimiter(1)

    async def run(self, parts: Assembly, asked: Arguments) -> dict[str, Any]:
        """Look, and unless it is a dry run settle what was found; ControlError without answer."""
        is_dry = asked.flag("dry_run")
        wait_s = asked.seconds("wait_s", most=MOST_S)
        if not parts.accounts:
            raise ControlError("the daemon trades for no account: there is nothing to reconcile")
        if not parts.execution.is_armed:
            raise ControlError("the daemon is still starting, and reconciles by itself: try later")
        try:
            self._place.acquire_nowait()
        except trio.WouldBlock:
            raise ControlError("a reconciliation is under way already") from None
        limit_s = WAIT_S if wait_s is None else wait_s
        try:
            with trio.fail_after(limit_s):
                return await _reconcile(parts, is_dry=is_dry)
        except trio.TooSlowError:
            raise ControlError(f"the venue did not answer everything in {limit_s:g} s") from None
        finally:
            self._place.release()


async def _reconcile(parts: Assembly, *, is_dry: bool) -> dict[str, Any]:
    look = await _once_there_is_room(parts.execution.look)
    told = _told(look, is_dry=is_dry)
    if not is_dry:
        _log.warning("reconciling", differences=len(look.findings), by="control socket")
        done = await _once_there_is_room(parts.execution.reconcile)
        told["done"] = asdict(done)
        told["done"]["adjusted"] = list(done.adjusted)
        told["halted_accounts"] = parts.execution.stats()["halted_accounts"]
        _log.info("reconciled", **told["done"])
    return told


async def _once_there_is_room(ask: Callable[[], Awaitable[_T]]) -> _T:
    """The answer to *ask*, from the beginning again whenever the venue's limits stop it half-way.

    What the daemon asks by itself shares them, and they are counted by the minute: within the time
    that the client gives there is room again.
    """
    while True:
        try:
            return await ask()
        except NoRoomError as error:
            _log.info("reconciliation waits for the venue's limits", reason=str(error))
        await trio.sleep(_AGAIN_S)


def _told(look: Look, *, is_dry: bool) -> dict[str, Any]:
    return {
        "dry_run": is_dry,
        "orders_asked_about": look.orders,
        "fills_complete": look.complete,
        "total": len(look.findings),
        "differences": [row_of(each) for each in look.findings[:_MOST_ROWS]],
    }


def row_of(finding: Finding) -> dict[str, Any]:
    """*finding* as a JSON-ready row; `ours` and `venue` say the same thing of either side."""
    return {
        "account": finding.account_id,
        **_described(finding.difference),
        "action": finding.remedy.value,
    }


def _described(found: Difference) -> dict[str, Any]:
    match found:
        case ExternalOrder():
            return _row("external order", found.report, "unknown", _listed(found.report))
        case UnconfirmedOrder():
            return _row("unconfirmed order", found.order, _state(found.order), "has it")
        case RisenOrder():
            return _row("risen order", found.order, _state(found.order), _listed(found.report))
        case MissingOrder():
            just = ", changed just now" if found.is_recent else ""
            return _row("missing order", found.order, _state(found.order) + just, "not listed")
        case LateFills():
            venue = f"filled by {exact_text_of(found.quantity)} more"
            return _row("late fills", found.order, _state(found.order), venue)
        case EndedOrder():
            venue = f"{found.report.status.value}: {found.report.reason}"
            return _row("ended order", found.order, _state(found.order), venue)
        case DeniedOrder():
            return _row("denied order", found.order, _state(found.order), "not found")
        case MissingFill():
            return _fill_row(found)
        case PositionDifference():
            note = ", moved since" if found.is_newer else ""
            return {
                "kind": "position",
                "instrument": found.instrument_id,
                "order": None,
                "ours": f"{exact_text_of(found.ours)}{note}",
                "venue": exact_text_of(found.stated),
            }
        case BalanceDifference():
            return {
                "kind": "balance",
                "instrument": f"{found.currency} ({'spot' if found.is_spot else 'contracts'})",
                "order": None,
                "ours": exact_text_of(found.ours),
                "venue": exact_text_of(found.stated),
            }
        case _:
            assert_never(found)


def _fill_row(found: MissingFill) -> dict[str, Any]:
    fill = found.fill
    price, quantity = exact_text_of(fill.price), exact_text_of(fill.quantity)
    return {
        "kind": "missing fill" if found.order is not None else "external fill",
        "instrument": fill.instrument_id,
        "order": None if found.order is None else found.order.client_order_id,
        "ours": "unknown",
        "venue": f"{fill.side.value} {quantity} at {price}, trade {fill.trade_id}",
    }


def _row(kind: str, about: Order | OrderReport, ours: str, venue: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "instrument": about.instrument_id,
        "order": about.client_order_id or about.venue_order_id,
        "ours": ours,
        "venue": venue,
    }


def _state(order: Order) -> str:
    status = order.status.value
    return status if order.pending is None else f"{status}, {order.pending.value} asked for"


def _listed(report: OrderReport) -> str:
    quantity, price = exact_text_of(report.remaining), exact_text_of(report.price)
    return f"{report.side.value} {quantity} at {price} rests"
