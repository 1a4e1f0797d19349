"""Orders about whose fills the venue says more than it gives."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.service.execution_rig import BTC, Rig, later
from zq_daemon.model.event import OrderFilled
from zq_daemon.model.fill import Fill
from zq_daemon.model.ids import ClientOrderId
from zq_daemon.model.order import OrderStatus


def said_filled(rig: Rig, cloid: ClientOrderId, *, held: str | None) -> None:
    """The venue calls the order filled and holds *held*, but has no fill of it."""
    rig.queries.orders[cloid] = told = rig.report_of(
        cloid, OrderStatus.FILLED, remaining=Decimal(0)
    )
    if held is not None:
        rig.queries.positions = {BTC: Decimal(held)}
    rig.engine.on_report(told)


def synthetic_fills(rig: Rig) -> list[Fill]:
    filled = [event.fill for _, event in rig.events if isinstance(event, OrderFilled)]
    return [fill for fill in filled if fill.is_synthetic]


async def resting(rig: Rig, *known: str, quantity: str = "10", **terms: Any) -> ClientOrderId:
    """An order that rests, and was filled by *known*, which the venue's history has."""
    await later(1)
    cloid = rig.submit(quantity=quantity, **terms)
    await later(1)
    for number, part in enumerate(known):
        rig.fill(cloid, f"t{number}", part)
        rig.queries.fills.append(rig.fill_of(cloid, f"t{number}", part))
    await later(1)
    return cloid


def lists(rig: Rig, cloid: ClientOrderId, remaining: str, *, held: str) -> None:
    """The venue states that so much of the order rests, and that it holds *held*."""
    report = rig.report_of(cloid, OrderStatus.ACCEPTED, remaining=Decimal(remaining))
    rig.queries.open_orders = (report,)
    rig.queries.positions = {BTC: Decimal(held)}
    rig.state(BTC=held)
