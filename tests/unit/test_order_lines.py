"""Which events of orders have a line in the log, and how many there are at most."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from structlog.testing import capture_logs

from zq_daemon.engine.order_lines import LINES_A_SECOND, OrderLines
from zq_daemon.model.event import OrderAccepted, OrderDenied, OrderInitialized, OrderSubmitted
from zq_daemon.model.ids import AccountId, ClientOrderId, InstrumentId, StrategyId, VenueOrderId
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderType
from zq_daemon.ports.clock import NS_PER_S, VirtualClock
from zq_daemon.telemetry.logging import set_level

ABOUT = {
    "client_order_id": ClientOrderId("0x" + "0" * 32),
    "strategy_id": StrategyId("maker"),
    "instrument_id": InstrumentId("hyperliquid.BTC"),
    "ts_event_ns": 1,
}
ORDER = Order(
    client_order_id=ABOUT["client_order_id"],
    strategy_id=ABOUT["strategy_id"],
    instrument_id=ABOUT["instrument_id"],
    account_id=AccountId("hyperliquid.a"),
    side=Side.BUY,
    order_type=OrderType.LIMIT,
    quantity=Decimal(1),
    price=Decimal(100),
)
ACCEPTED = OrderAccepted(venue_order_id=VenueOrderId("1"), **ABOUT)
DENIED = OrderDenied(code="GATE_CLOSED", reason="stopping", **ABOUT)
SUBMITTED = OrderSubmitted(**ABOUT)


class Seconds(VirtualClock):
    """Says the time it is told."""

    now = 0

    def monotonic_ns(self) -> int:
        return self.now


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    set_level("info")
    yield
    set_level("info")


def test_an_order_is_told_from_being_asked_for_on_but_not_its_inner_steps() -> None:
    lines = OrderLines(Seconds())
    with capture_logs() as logged:
        lines.tell(OrderInitialized(order=ORDER, **ABOUT), ORDER)
        lines.tell(SUBMITTED, ORDER)
        lines.tell(ACCEPTED, ORDER)
    assert [line["event"] for line in logged] == ["order initialized", "order accepted"]
    assert logged[0]["price"] == "100"


def test_routine_beyond_the_limit_is_left_out_said_at_once_and_counted_later() -> None:
    clock = Seconds()
    lines = OrderLines(clock)
    with capture_logs() as logged:
        for _ in range(LINES_A_SECOND + 5):
            lines.tell(ACCEPTED, ORDER)
        assert len(logged) == LINES_A_SECOND + 1
        assert logged[-1]["event"] == "more orders than lines: see the journal"
        clock.now = NS_PER_S
        lines.tell(ACCEPTED, ORDER)
    assert [line["event"] for line in logged[-2:]] == [
        "order lines were left out",
        "order accepted",
    ]
    assert logged[-2]["lines"] == 5


def test_routine_takes_no_place_of_refusals() -> None:
    lines = OrderLines(Seconds())
    with capture_logs() as logged:
        for _ in range(LINES_A_SECOND + 5):
            lines.tell(ACCEPTED, ORDER)
        lines.tell(DENIED, ORDER)
    assert logged[-1]["event"] == "order denied"
    assert logged[-1]["reason"] == "stopping"


def test_at_debug_level_nothing_is_left_out() -> None:
    lines = OrderLines(Seconds())
    set_level("debug")
    with capture_logs() as logged:
        for _ in range(LINES_A_SECOND + 5):
            lines.tell(ACCEPTED, ORDER)
        lines.tell(SUBMITTED, ORDER)
    assert len(logged) == LINES_A_SECOND + 6
    assert logged[-1]["log_level"] == "debug"
