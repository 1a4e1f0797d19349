"""A restart: what the former run left is taken over, by the host and by both strategies."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.service.execution_rig import ACCOUNT, BTC, ETH, book
from tests.service.strategy_rig import Rig, config
from zq_daemon.core.book import OrderBook
from zq_daemon.model.command import CancelAllOrders, CancelOrder, ModifyOrder
from zq_daemon.model.event import OrderFilled
from zq_daemon.model.ids import StrategyId
from zq_daemon.model.market import InstrumentStatus, Side, TradingStatus
from zq_daemon.model.order import Order, OrderStatus, OrderType, TimeInForce
from zq_daemon.strategy.base import Strategy
from zq_daemon.strategy.hosted import StrategyState
from zq_daemon.strategy.ma_cross import MovingAverageCross
from zq_daemon.strategy.market_maker import MarketMaker

MAKER: dict[str, Any] = {"quantity": 1, "max_position": 3, "spread_bps": 20, "skew_bps": 0}


class Watcher(Strategy):
    """Looks at what there is when it starts, and writes down what it hears."""

    def on_start(self) -> None:
        self.heard: list[Any] = []
        self.orders = self.context.live_orders()
        self.position = self.context.position(BTC).quantity

    def on_order_event(self, event: Any) -> None:
        self.heard.append(event)


def started(*configs: Any, former: Rig | None = None) -> Rig:
    rig = Rig(former)
    rig.load(*configs)
    rig.host.start()
    return rig


def left(rig: Rig, side: Side, price: str, name: str = "mine", **terms: Any) -> Order:
    """An open order of the former run *rig*."""
    context = rig.strategy(name).context
    quantity = terms.pop("quantity", Decimal(1))
    iid = terms.pop("instrument_id", BTC)
    context.submit_limit(iid, side, quantity, Decimal(price), **{"post_only": True} | terms)
    order = rig.submitted[-1]
    rig.accept(order)
    return order


def cancelled(rig: Rig) -> set[str]:
    return {str(command.client_order_id) for command in rig.asked(CancelOrder)}


def ids(*orders: Order) -> set[str]:
    return {str(order.client_order_id) for order in orders}


def test_orders_and_position_are_there_before_the_start() -> None:
    former = started(config(Watcher))
    order = left(former, Side.BUY, "99")
    former.fill(order, "0.4")
    with capture_logs() as logged:
        rig = started(config(Watcher), former=former)
    watcher = rig.strategy("mine")
    assert [each.client_order_id for each in watcher.orders] == [order.client_order_id]
    assert watcher.position == Decimal("0.4")
    assert watcher.heard == []
    (line,) = [line for line in logged if line["event"] == "strategy takes over"]
    assert (line["strategy"], line["live_orders"]) == ("mine", 1)
    assert line["positions"] == {BTC: "0.4"}
    rig.fill(order, "0.6")
    assert isinstance(watcher.heard[0], OrderFilled)


def test_a_first_start_takes_nothing_over() -> None:
    with capture_logs() as logged:
        started(config(Watcher))
    assert logged == []


def test_orders_that_nobody_looks_after_are_cancelled() -> None:
    both = (BTC, ETH)
    former = started(
        config(Watcher, instruments=both), config(Watcher, name="gone"), config(Watcher, name="off")
    )
    kept = left(former, Side.BUY, "99")
    left(former, Side.BUY, "98", instrument_id=ETH)
    for name in ("gone", "gone", "off"):
        left(former, Side.BUY, "97", name)
    former.cache.put_order(by_hand())
    with capture_logs() as logged:
        rig = started(config(Watcher), config(Watcher, name="off", enabled=False), former=former)
    assert rig.asked(CancelAllOrders) == [
        CancelAllOrders(strategy_id=StrategyId("mine"), instrument_id=ETH),
        CancelAllOrders(strategy_id=StrategyId("gone"), instrument_id=BTC),
        CancelAllOrders(strategy_id=StrategyId("off"), instrument_id=BTC),
    ]
    told = [line for line in logged if line["log_level"] == "warning"]
    assert [(line["strategy"], line["orders"]) for line in told] == [
        ("mine", 1),
        ("gone", 2),
        ("off", 1),
    ]
    assert ids(kept) < ids(*rig.strategy("mine").orders)
    assert cancelled(rig) == set()


def by_hand() -> Order:
    """An order at the venue that was adopted: what becomes of it is configured elsewhere."""
    return Order(
        client_order_id="0x" + "0" * 32,  # type: ignore[arg-type]
        strategy_id=StrategyId("external"),
        account_id=ACCOUNT,
        instrument_id=BTC,
        side=Side.BUY,
        order_type=OrderType.LIMIT,
        quantity=Decimal(1),
        price=Decimal(90),
        time_in_force=TimeInForce.GTC,
        status=OrderStatus.ACCEPTED,
    )


def test_the_maker_goes_on_with_its_quotes() -> None:
    former = started(config(MarketMaker, params=MAKER))
    former.tick()
    bid, ask = former.submitted
    former.accept(bid)
    former.accept(ask)
    former.fill(bid, "0.4")
    rig = started(config(MarketMaker, params=MAKER), former=former)
    for _ in range(3):
        rig.tick()
    assert rig.commands == []
    rig.cache.put_book(BTC, book(BTC, "100.9", "101.1"))
    rig.tick()
    assert {str(each.client_order_id) for each in rig.asked(ModifyOrder)} == ids(bid, ask)
    rig.fill(bid, "0.6")
    rig.tick()
    (fresh,) = rig.submitted
    assert (fresh.side, fresh.quantity) == (Side.BUY, Decimal(1))


def test_the_maker_keeps_one_quote_a_side_and_clears_the_rest() -> None:
    former = started(config(MarketMaker, params=MAKER))
    old, bid = left(former, Side.BUY, "99.8"), left(former, Side.BUY, "99.9")
    ask = left(former, Side.SELL, "100.1")
    strays = [
        left(former, Side.SELL, "100.2", post_only=False),
        left(former, Side.SELL, "100.3", reduce_only=True),
        left(former, Side.SELL, "100.4", quantity=Decimal(2)),
    ]
    rig = started(config(MarketMaker, params=MAKER), former=former)
    rig.tick()
    assert cancelled(rig) == ids(old, *strays)
    for order in (old, *strays):
        rig.cancel(order)
    for _ in range(5):
        rig.tick()
    assert cancelled(rig) == ids(old, *strays)
    assert ids(*rig.cache.orders_live()) == ids(bid, ask)
    assert rig.submitted == []


def test_the_maker_waits_for_a_quote_that_is_in_flight() -> None:
    former = started(config(MarketMaker, params=MAKER))
    former.tick()  # nothing was heard of either order
    bid, ask = former.submitted
    rig = started(config(MarketMaker, params=MAKER), former=former)
    rig.tick()
    assert rig.commands == []
    rig.expire(bid)
    rig.accept(ask)
    rig.tick()
    assert [order.side for order in rig.submitted] == [Side.BUY]
    assert rig.faults == []


def test_the_maker_quotes_in_its_new_size_after_a_change_of_it() -> None:
    former = started(config(MarketMaker, params=MAKER))
    bid, ask = left(former, Side.BUY, "99.9"), left(former, Side.SELL, "100.1")
    rig = started(config(MarketMaker, params=MAKER | {"quantity": "1.5"}), former=former)
    rig.tick()
    assert cancelled(rig) == ids(bid, ask)
    assert [order.quantity for order in rig.submitted] == [Decimal("1.5")] * 2


def test_the_maker_keeps_to_its_bound_with_the_position_it_had() -> None:
    former = started(config(MarketMaker, params=MAKER))
    bid, ask = left(former, Side.BUY, "99.9"), left(former, Side.SELL, "100.1")
    for order in (bid, left(former, Side.BUY, "99.8"), left(former, Side.BUY, "99.7")):
        former.fill(order, "1")
    rig = started(config(MarketMaker, params=MAKER), former=former)
    for _ in range(3):
        rig.tick()
    assert ids(*rig.cache.orders_live()) == ids(ask)


def test_the_makers_quotes_wait_for_the_first_prices() -> None:
    rig = without_prices()
    for _ in range(5):
        rig.tick()
        rig.clock.move_ms(1_000)
    assert rig.commands == []
    rig.cache.put_book(BTC, book(BTC))
    rig.tick()
    assert rig.commands == []
    rig.cache.put_book(BTC, OrderBook(BTC))  # now it is known that there is none
    rig.tick()
    assert len(cancelled(rig)) == 2


@pytest.mark.parametrize("trouble", ["stale", "too long"])
def test_but_they_do_not_wait_for_ever(trouble: str) -> None:
    rig = without_prices()
    if trouble == "stale":
        rig.cache.put_status(
            InstrumentStatus(
                instrument_id=BTC,
                status=TradingStatus.STALE,
                reason="silent",
                ts_event_ns=1,
                ts_recv_ns=1,
            )
        )
    else:
        rig.clock.move_ms(9_900)
        rig.tick()
        assert rig.commands == []
        rig.clock.move_ms(100)
    rig.tick()
    assert len(cancelled(rig)) == 2


def without_prices() -> Rig:
    """A market maker that was restarted, and has seen no market yet."""
    former = started(config(MarketMaker, params=MAKER))
    left(former, Side.BUY, "99.9")
    left(former, Side.SELL, "100.1")
    rig = Rig(former)
    rig.cache.put_book(BTC, OrderBook(BTC))
    rig.load(config(MarketMaker, params=MAKER))
    rig.host.start()
    return rig


CROSS: dict[str, Any] = {"fast": 2, "slow": 3, "quantity": 1}


def crossing(former: Rig | None = None, **changes: Any) -> Rig:
    return started(config(MovingAverageCross, params=CROSS, **changes), former=former)


def trade(rig: Rig, *closes: str) -> list[tuple[Side, Decimal, bool]]:
    """Bars with these closes; what was submitted is filled at once."""
    before = len(rig.submitted)
    for close in closes:
        done = len(rig.submitted)
        rig.publish_bar(close)
        for order in rig.submitted[done:]:
            rig.fill(order, str(order.quantity), close)
    return [(each.side, each.quantity, each.reduce_only) for each in rig.submitted[before:]]


def test_the_cross_goes_on_from_the_position_it_had() -> None:
    former = crossing()
    assert trade(former, "1", "2", "3") == [(Side.BUY, Decimal(1), False)]
    rig = crossing(former)
    assert trade(rig, "4", "5", "6") == []  # long, as it should be
    assert trade(rig, "1") == [(Side.SELL, Decimal(2), False)]
    again = crossing(rig)
    assert trade(again, "1", "2") == []  # short still, and warming up
    assert trade(again, "3") == [(Side.BUY, Decimal(2), False)]


def test_the_cross_waits_for_an_order_in_flight() -> None:
    former = crossing()
    for close in ("1", "2", "3"):
        former.publish_bar(close)
    (order,) = former.submitted
    rig = crossing(former)
    assert trade(rig, "4", "5", "6", "7") == []
    assert cancelled(rig) == set()
    rig.fill(order, "1")
    assert trade(rig, "8") == []
    assert rig.strategy("mine").context.position(BTC).quantity == 1


def test_the_cross_does_not_wait_for_what_rests() -> None:
    former = crossing()
    resting = left(former, Side.BUY, "90")
    rig = crossing(former)
    assert cancelled(rig) == ids(resting)
    rig.cancel(resting)
    assert trade(rig, "1", "2", "3") == [(Side.BUY, Decimal(1), False)]


@pytest.mark.parametrize(
    ("cls", "params"), [(MarketMaker, MAKER), (MovingAverageCross, CROSS)], ids=["maker", "cross"]
)
def test_orders_of_an_instrument_it_has_no_more_do_no_harm(
    cls: type[Strategy], params: dict[str, Any]
) -> None:
    former = started(config(cls, params=params, instruments=(BTC, ETH)))
    orders = [left(former, Side.BUY, price, instrument_id=ETH) for price in ("97", "98")]
    rig = started(config(cls, params=params), former=former)
    former.strategy("mine").context.submit_market(ETH, Side.BUY, Decimal(1))
    rig.deny(former.submitted[-1])
    rig.fill(orders[0], "1")
    rig.cancel_rejected(orders[1])
    rig.cancel(orders[1])
    rig.tick()
    assert rig.host.state("mine") is StrategyState.RUNNING
