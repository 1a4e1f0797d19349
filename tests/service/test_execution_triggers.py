"""Trigger orders on the order path: rounded to trigger later, priced from the trigger, denied when
the mark is there already."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve

from tests.harness.journal import intents_of
from tests.service.execution_rig import BTC, later, open_rig, open_risk
from zq_daemon.model.event import OrderDenied, OrderPendingRejected
from zq_daemon.model.instrument import InstrumentKind
from zq_daemon.model.market import Side
from zq_daemon.model.order import OrderType, TimeInForce

pytestmark = pytest.mark.virtual

D = Decimal
BUY, SELL = Side.BUY, Side.SELL


@pytest.mark.parametrize(
    ("side", "order_type", "trigger", "rounded", "worst"),
    [
        (BUY, OrderType.STOP_MARKET, "101.01", "101.1", "102.1"),
        (SELL, OrderType.STOP_MARKET, "98.99", "98.9", "98.0"),
        (BUY, OrderType.TAKE_PROFIT_MARKET, "98.99", "98.9", "99.8"),
        (SELL, OrderType.TAKE_PROFIT_MARKET, "101.01", "101.1", "100.1"),
    ],
)
async def test_a_trigger_at_market_is_rounded_to_trigger_later_and_priced_from_there(
    side: Side, order_type: OrderType, trigger: str, rounded: str, worst: str
) -> None:
    async with open_rig() as rig:
        cloid = rig.submit(side=side, order_type=order_type, trigger_price=D(trigger), price=None)
        order = rig.now(cloid)
        assert (order.trigger_price, order.price) == (D(rounded), D(worst))  # 1 % of slippage
        await later(1)
        assert rig.now(cloid).is_open
        (record,) = await intents_of(rig.disk)
        assert (record.order_type, record.trigger_price) == (order_type, D(rounded))


async def test_a_trigger_with_a_limit_keeps_its_own_price() -> None:
    async with open_rig() as rig:
        cloid = rig.submit(
            side=SELL, order_type=OrderType.STOP_LIMIT, trigger_price=D(95), price=D("94.03")
        )
        assert rig.now(cloid).price == D("94.1")


@pytest.mark.parametrize(
    ("side", "order_type", "trigger"),
    [
        (BUY, OrderType.STOP_MARKET, "100"),
        (SELL, OrderType.STOP_LIMIT, "100"),
        (BUY, OrderType.TAKE_PROFIT_LIMIT, "100.1"),
        (SELL, OrderType.TAKE_PROFIT_MARKET, "99.9"),
    ],
)
async def test_a_trigger_that_the_mark_has_reached_is_denied(
    side: Side, order_type: OrderType, trigger: str
) -> None:
    async with open_rig() as rig:
        price = None if order_type.is_market else D(100)
        rig.submit(side=side, order_type=order_type, trigger_price=D(trigger), price=price)
        assert rig.last(OrderDenied).code == "TRIGGER_PRICE"


async def test_the_collar_of_a_trigger_order_is_around_its_trigger_price() -> None:
    risk = open_risk(price_collar_bps=500)
    async with open_rig(risk=risk) as rig:
        terms: dict[str, Any] = {"side": SELL, "order_type": OrderType.STOP_LIMIT}
        near = rig.submit(**terms, trigger_price=D(80), price=D(78))
        rig.submit(**terms, trigger_price=D(80), price=D(75))
        assert not rig.now(near).is_closed
        assert rig.last(OrderDenied).code == "PRICE_COLLAR"


@pytest.mark.parametrize(
    "odd", [{"post_only": True}, {"time_in_force": TimeInForce.IOC}, {"trigger_price": D("0.01")}]
)
async def test_what_no_trigger_order_can_be_is_denied(odd: dict[str, Any]) -> None:
    async with open_rig() as rig:
        terms = {"trigger_price": D(95), "price": D(94), "side": SELL} | odd
        rig.submit(order_type=OrderType.STOP_LIMIT, **terms)
        assert rig.last(OrderDenied).code in ("INVALID_ORDER", "INVALID_TRIGGER_PRICE")


@pytest.mark.parametrize(
    "terms",
    [
        {"order_type": OrderType.STOP_LIMIT, "trigger_price": D(95), "price": D(94)},
        {"reduce_only": True},
    ],
)
async def test_a_spot_market_has_no_triggers_and_nothing_to_reduce(terms: dict[str, Any]) -> None:
    async with open_rig() as rig:
        instrument = rig.cache.instrument(BTC)
        assert instrument is not None
        rig.cache.add_instrument(evolve(instrument, kind=InstrumentKind.SPOT))
        rig.submit(side=SELL, **terms)
        assert rig.last(OrderDenied).code == "NOT_ON_SPOT"


async def test_a_trigger_order_is_not_modified() -> None:
    async with open_rig() as rig:
        cloid = rig.submit(
            side=SELL, order_type=OrderType.STOP_LIMIT, trigger_price=D(95), price=D(94)
        )
        await later(1)
        rig.modify(cloid, price=D(93))
        assert rig.last(OrderPendingRejected).code == "NOT_OPEN"


async def test_a_trigger_price_belongs_to_trigger_orders_only() -> None:
    async with open_rig() as rig:
        for terms in (
            {"order_type": OrderType.LIMIT, "price": D(99), "trigger_price": D(95)},
            {"order_type": OrderType.STOP_LIMIT, "price": D(99)},
        ):
            cloid = rig.submit(**terms)
            assert rig.cache.order(cloid) is None
        assert rig.cache.instrument(BTC) is not None
