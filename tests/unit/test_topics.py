"""Topic names, and that the documentation's table has all of them."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from zq_daemon.core import topics
from zq_daemon.core.bus import MessageBus
from zq_daemon.model.bar import BarSpec
from zq_daemon.model.event import (
    OrderAccepted,
    OrderCanceled,
    OrderDenied,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderHeld,
    OrderInitialized,
    OrderJournalled,
    OrderModified,
    OrderPending,
    OrderPendingRejected,
    OrderRejected,
    OrderReopened,
    OrderSubmitted,
)
from zq_daemon.model.fill import Fill, Liquidity
from zq_daemon.model.ids import (
    AccountId,
    ClientOrderId,
    InstrumentId,
    StrategyId,
    TradeId,
    VenueOrderId,
)
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderType, Pending

BTC = InstrumentId("hyperliquid.BTC")
ODD = InstrumentId("hyperliquid.a.b*%2E")
ACCOUNT = AccountId("0xab.c")
ORDER = Order(
    client_order_id=ClientOrderId("0x01"),
    strategy_id=StrategyId("maker"),
    account_id=ACCOUNT,
    instrument_id=BTC,
    side=Side.BUY,
    order_type=OrderType.LIMIT,
    quantity=Decimal(1),
)
FILL = Fill(
    trade_id=TradeId("1"),
    client_order_id=ORDER.client_order_id,
    venue_order_id=VenueOrderId("7"),
    account_id=ACCOUNT,
    instrument_id=BTC,
    side=Side.BUY,
    price=Decimal(1),
    quantity=Decimal(1),
    fee=Decimal(0),
    fee_currency="USDC",
    liquidity=Liquidity.MAKER,
    ts_event_ns=1,
    ts_recv_ns=1,
)
BASE: dict[str, Any] = {
    "client_order_id": ORDER.client_order_id,
    "strategy_id": ORDER.strategy_id,
    "instrument_id": BTC,
    "ts_event_ns": 1,
}
VENUE_ID = VenueOrderId("7")
ORDER_EVENTS: dict[str, OrderEvent] = {
    "initialized": OrderInitialized(order=ORDER, **BASE),
    "denied": OrderDenied(code="c", reason="r", **BASE),
    "journalled": OrderJournalled(nonce=1, expires_ns=None, **BASE),
    "submitted": OrderSubmitted(**BASE),
    "accepted": OrderAccepted(venue_order_id=VENUE_ID, **BASE),
    "held": OrderHeld(**BASE),
    "rejected": OrderRejected(code="c", reason="r", **BASE),
    "pending_cancel": OrderPending(pending=Pending.CANCEL, **BASE),
    "pending_modify": OrderPending(pending=Pending.MODIFY, **BASE),
    "cancel_rejected": OrderPendingRejected(pending=Pending.CANCEL, code="c", reason="r", **BASE),
    "modify_rejected": OrderPendingRejected(pending=Pending.MODIFY, code="c", reason="r", **BASE),
    "modified": OrderModified(
        venue_order_id=VENUE_ID, price=Decimal(1), quantity=Decimal(1), **BASE
    ),
    "canceled": OrderCanceled(venue_order_id=None, reason="r", **BASE),
    "expired": OrderExpired(reason="r", **BASE),
    "reopened": OrderReopened(venue_order_id="v", remaining=Decimal(1), **BASE),
    "filled": OrderFilled(fill=FILL, **BASE),
}
DOCUMENT = Path(__file__).parents[2] / "docs" / "topics.md"


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        (topics.trade(BTC), "market_data.trade.hyperliquid.BTC"),
        (topics.quote(BTC), "market_data.quote.hyperliquid.BTC"),
        (topics.mark(BTC), "market_data.mark.hyperliquid.BTC"),
        (topics.mid(BTC), "market_data.mid.hyperliquid.BTC"),
        (topics.candle(BTC, "1m"), "market_data.candle.hyperliquid.BTC.1m"),
        (topics.candles(BTC), "market_data.candle.hyperliquid.BTC.*"),
        (topics.liquidation(ACCOUNT), "liquidation.0xab%2Ec"),
        (topics.status(BTC), "market_data.status.hyperliquid.BTC"),
        (topics.bar(BTC, BarSpec.parse("1m")), "market_data.bar.hyperliquid.BTC.1m"),
        (
            topics.bar(BTC, BarSpec.parse("2.5volume")),
            "market_data.bar.hyperliquid.BTC.2%2E5volume",
        ),
        (topics.book_snapshot(BTC), "orderbook.snapshot.hyperliquid.BTC"),
        (topics.book_delta(BTC), "orderbook.delta.hyperliquid.BTC"),
        (topics.position(ACCOUNT, BTC), "position.0xab%2Ec.hyperliquid.BTC"),
        (topics.account(ACCOUNT), "account.0xab%2Ec"),
        (topics.funding(ACCOUNT, BTC), "funding.0xab%2Ec.hyperliquid.BTC"),
        (topics.strategy_call("a.b"), "strategy.call.a%2Eb"),
        (topics.link("public.1"), "system.link.public%2E1"),
        (topics.health("strategy maker"), "system.health.strategy maker"),
        (topics.trade(ODD), "market_data.trade.hyperliquid.a%2Eb%2A%252E"),
    ],
)
def test_the_name_of_each_topic(topic: str, expected: str) -> None:
    assert topic == expected


@pytest.mark.parametrize("name", ORDER_EVENTS)
def test_an_order_topic_names_event_strategy_and_instrument(name: str) -> None:
    assert topics.order(ORDER_EVENTS[name]) == f"order.{name}.maker.hyperliquid.BTC"


def test_every_class_of_order_event_has_a_name() -> None:
    assert {type(event) for event in ORDER_EVENTS.values()} == set(OrderEvent.__args__)


@pytest.mark.parametrize(
    "text", ["", "BTC", "a.b", "*", "%2E", "%", "%252A.*", "PURR/USDC", "@142"]
)
def test_escaping_is_undone(text: str) -> None:
    escaped = topics.escape(text)
    assert "." not in escaped
    assert "*" not in escaped
    assert topics.unescape(escaped) == text


def test_a_hostile_symbol_is_one_segment_for_the_bus() -> None:
    heard: list[object] = []
    bus = MessageBus(lambda fault: None)
    bus.subscribe("market_data.trade.*.*", heard.append)
    bus.subscribe("market_data.trade.hyperliquid.BTC", heard.append)
    bus.publish(topics.trade(ODD), "odd")
    assert heard == ["odd"]


def test_the_document_lists_every_topic() -> None:
    table = DOCUMENT.read_text().partition("The events of an order")[0]
    listed = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    built = {
        topics.trade(BTC),
        topics.quote(BTC),
        topics.mark(BTC),
        topics.status(BTC),
        topics.mid(BTC),
        topics.candle(BTC, "1m"),
        topics.liquidation(ACCOUNT),
        topics.bar(BTC, BarSpec.parse("1m")),
        topics.book_snapshot(BTC),
        topics.book_delta(BTC),
        topics.order(ORDER_EVENTS["filled"]),
        topics.position(ACCOUNT, BTC),
        topics.account(ACCOUNT),
        topics.funding(ACCOUNT, BTC),
        topics.strategy_call("maker"),
        topics.link("public"),
        topics.health("data"),
        topics.PROBE,
        topics.TICK,
        topics.TRADING_STATE,
    }
    assert len(listed) == len(built)
    for topic in built:
        assert len([name for name in listed if _stands_for(name, topic)]) == 1, topic


def test_the_document_lists_every_order_event() -> None:
    text = DOCUMENT.read_text()
    for name, event in ORDER_EVENTS.items():
        row = next(
            line for line in text.splitlines() if line.startswith("|") and f"`{name}`" in line
        )
        assert f"`{type(event).__name__}`" in row


def _stands_for(documented: str, topic: str) -> bool:
    pattern = re.sub(r"<[a-z]+>", "[^.]+", documented.replace(".", r"\."))
    return re.fullmatch(pattern, topic) is not None
