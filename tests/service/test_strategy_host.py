"""The host: who hears what, what a fault costs, and what halting and reloading do."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from attrs import frozen
from structlog.testing import capture_logs

from tests.service.execution_rig import ACCOUNT, BTC, ETH, book
from tests.service.strategy_rig import MINUTE, Rig, config
from zq_daemon.core import topics
from zq_daemon.core.bus import Fault
from zq_daemon.errors import ConfigError, StrategyError
from zq_daemon.model.command import CancelAllOrders, CancelOrder, ModifyOrder
from zq_daemon.model.event import OrderFilled
from zq_daemon.model.market import (
    BookSnapshot,
    InstrumentStatus,
    Levels,
    MarkPrice,
    Quote,
    Side,
    TradingStatus,
)
from zq_daemon.model.order import OrderType, TimeInForce
from zq_daemon.strategy.base import Strategy
from zq_daemon.strategy.hosted import StrategyState


class Recorder(Strategy):
    """Writes down everything it hears."""

    @frozen
    class Params:
        size: int = 1

    def on_start(self) -> None:
        self.heard: list[Any] = ["start"]

    def on_stop(self) -> None:
        self.heard.append("stop")

    def on_trade(self, trade: Any) -> None:
        self.heard.append(trade)

    def on_quote(self, quote: Any) -> None:
        self.heard.append(quote)

    def on_book(self, book: Any) -> None:
        self.heard.append(book)

    def on_mark(self, mark: Any) -> None:
        self.heard.append(mark)

    def on_bar(self, bar: Any) -> None:
        self.heard.append(bar)

    def on_tick(self, tick: Any) -> None:
        self.heard.append(tick)

    def on_order_event(self, event: Any) -> None:
        self.heard.append(event)

    def on_fill(self, fill: Any) -> None:
        self.heard.append(fill)


class Deaf(Strategy):
    """Overrides nothing."""


class Fragile(Strategy):
    """Raises on its first trade, or wherever it is told to."""

    @frozen
    class Params:
        where: str = "trade"

    def on_start(self) -> None:
        self.context.submit_limit(BTC, Side.BUY, Decimal(1), Decimal(99))
        self.heard = 0
        self._raise("start")

    def on_trade(self, trade: Any) -> None:
        self.heard += 1
        self._raise("trade")

    def on_stop(self) -> None:
        self._raise("stop")

    def on_params(self, params: Any) -> None:
        self._raise("params")
        super().on_params(params)

    def _raise(self, where: str) -> None:
        if self.params.where == where:
            raise RuntimeError(f"boom in {where}")


class Starter(Strategy):
    """Submits while it starts."""

    def on_start(self) -> None:
        self.heard: list[str] = []
        self.context.submit_market(BTC, Side.BUY, Decimal(1))
        self.heard.append("started")

    def on_order_event(self, event: Any) -> None:
        self.heard.append(type(event).__name__)


class Unmakeable(Strategy):
    def __init__(self, context: Any, params: Any) -> None:
        raise RuntimeError("not today")


def running(*configs: Any) -> Rig:
    rig = Rig()
    rig.load(*configs)
    rig.host.start()
    return rig


def test_each_handler_hears_its_own() -> None:
    rig = running(config(Recorder, instruments=(BTC, ETH)))
    recorder = rig.strategy("mine")
    terms = {"instrument_id": ETH, "ts_event_ns": 1, "ts_recv_ns": 1}
    no_quote = {"bid_price": None, "bid_quantity": None, "ask_price": None, "ask_quantity": None}
    quote = Quote(**terms, **no_quote)
    mark = MarkPrice(
        **terms, mark_price=Decimal(1), oracle_price=None, funding_rate=None, open_interest=None
    )
    empty = Levels.of(())
    rig.bus.publish(topics.quote(ETH), quote)
    rig.bus.publish(topics.mark(ETH), mark)
    snapshot = BookSnapshot(**terms, bids=empty, asks=empty)
    rig.bus.publish(topics.book_snapshot(ETH), snapshot)
    rig.publish_trade(instrument_id=BTC)
    rig.publish_bar("100")
    rig.tick()
    names = [type(each).__name__ for each in recorder.heard[1:]]
    assert names == ["Quote", "MarkPrice", "OrderBook", "Trade", "Bar", "Tick"]
    assert recorder.heard[3] is rig.cache.book(ETH)
    assert rig.bars == [(BTC, MINUTE), (ETH, MINUTE)]


def test_what_is_not_overridden_costs_nothing() -> None:
    rig = running(config(Deaf))
    for topic in (topics.trade(BTC), topics.quote(BTC), topics.book_snapshot(BTC), topics.TICK):
        assert not rig.bus.has_subscribers(topic)


def test_strategies_hear_only_of_their_own_orders() -> None:
    rig = running(config(Recorder, name="one"), config(Recorder, name="o.*%"))
    one, two = rig.strategy("one"), rig.strategy("o.*%")
    two.context.submit_limit(BTC, Side.BUY, Decimal(1), Decimal(99))
    (order,) = rig.submitted
    rig.accept(order)
    rig.fill(order, "0.4")
    assert one.heard == ["start"]
    assert [type(each).__name__ for each in two.heard[1:]] == [
        "OrderAccepted",
        "OrderFilled",
        "Fill",
    ]
    assert two.heard[-1] is two.heard[-2].fill
    assert two.context.position(BTC).quantity == Decimal("0.4")
    assert one.context.position(BTC).quantity == 0
    assert one.context.order(order.client_order_id) is None
    one.context.cancel(order.client_order_id)
    one.context.modify(order.client_order_id, price=Decimal(1))
    assert rig.asked(CancelOrder) == rig.asked(ModifyOrder) == []


def test_the_context_shows_the_market_and_asks_for_orders() -> None:
    rig = running(config(Recorder))
    context = rig.strategy("mine").context
    assert context.instrument(BTC).id == BTC
    with pytest.raises(StrategyError, match=r"hl\.DOGE"):
        context.instrument("hl.DOGE")
    assert context.best_prices(BTC) == (Decimal("99.9"), Decimal("100.1"))
    assert context.book(BTC) is rig.cache.book(BTC)
    assert context.quote(BTC) is context.trade(BTC) is context.mark(BTC) is None
    assert context.bar(BTC, MINUTE) is context.account(BTC) is None
    assert context.net_pnl() == 0
    assert context.now_ns() == rig.clock.now_ns()
    assert context.account_position(BTC).account_id == ACCOUNT
    assert context.is_current(BTC)
    rig.cache.put_status(
        InstrumentStatus(
            instrument_id=BTC,
            status=TradingStatus.STALE,
            reason="silent",
            ts_event_ns=1,
            ts_recv_ns=1,
        )
    )
    assert not context.is_current(BTC)
    cloid = context.submit_limit(
        BTC, Side.SELL, Decimal(2), Decimal(101), post_only=True, time_in_force=TimeInForce.GTC
    )
    market = context.submit_market(BTC, Side.BUY, Decimal(1), reduce_only=True)
    limit_order, market_order = rig.submitted
    assert (limit_order.client_order_id, market_order.client_order_id) == (cloid, market)
    assert (limit_order.account_id, limit_order.strategy_id) == (ACCOUNT, "mine")
    assert (limit_order.price, limit_order.post_only) == (Decimal(101), True)
    assert (market_order.order_type, market_order.price) == (OrderType.MARKET, None)
    assert (market_order.time_in_force, market_order.reduce_only) == (TimeInForce.IOC, True)
    assert len(context.live_orders()) == 2
    assert context.open_orders(BTC) == ()
    context.cancel(cloid)
    context.modify(cloid, quantity=Decimal(3))
    context.cancel_all(BTC)
    assert rig.commands[2:] == [
        CancelOrder(client_order_id=cloid),
        ModifyOrder(client_order_id=cloid, quantity=Decimal(3)),
        CancelAllOrders(strategy_id="mine", instrument_id=BTC),
    ]


def test_best_prices_fall_back_to_the_quote() -> None:
    rig = running(config(Recorder))
    context = rig.strategy("mine").context
    rig.cache.put_book(BTC, type(book(BTC))(BTC))
    assert context.best_prices(BTC) is None
    rig.cache.put_quote(
        Quote(
            instrument_id=BTC,
            bid_price=Decimal(1),
            bid_quantity=Decimal(1),
            ask_price=Decimal(2),
            ask_quantity=Decimal(1),
            ts_event_ns=1,
            ts_recv_ns=1,
        )
    )
    assert context.best_prices(BTC) == (Decimal(1), Decimal(2))


def test_a_venue_without_an_account_gives_an_order_nobody_takes() -> None:
    rig = Rig()
    rig.host._accounts = {}
    rig.load(config(Recorder))
    rig.host.start()
    rig.strategy("mine").context.submit_market(BTC, Side.BUY, Decimal(1))
    assert rig.submitted[0].account_id == ""


def test_a_fault_costs_only_its_strategy() -> None:
    rig = running(config(Fragile, name="bad"), config(Recorder, name="good"))
    rig.publish_trade()
    rig.publish_trade()
    assert rig.strategy("bad").heard == 1
    assert len(rig.strategy("good").heard) == 3
    assert rig.host.state("bad") is StrategyState.FAULTED
    assert rig.host.state("good") is StrategyState.RUNNING
    assert rig.asked(CancelAllOrders) == [CancelAllOrders(strategy_id="bad")]
    (health,) = rig.health
    assert (health.component, health.healthy) == ("strategy:bad", False)
    assert "boom in trade" in health.reason
    with pytest.raises(StrategyError, match="faulted"):
        rig.strategy("bad").context.submit_market(BTC, Side.BUY, Decimal(1))
    rig.host.stop()
    assert rig.host.state("bad") is StrategyState.FAULTED
    assert rig.host.state("good") is StrategyState.STOPPED


def test_orders_are_held_where_the_configuration_says_so() -> None:
    rig = running(config(Fragile, name="bad", on_fault="hold"), config(Recorder, name="good"))
    with capture_logs() as logged:
        rig.publish_trade()
    (line,) = logged
    assert (line["on_fault"], line["live_orders"]) == ("hold", 1)
    rig.pass_time(60_000)
    rig.host.halt_for(None, "link gone")
    assert rig.asked(CancelAllOrders) == []
    (order,) = rig.submitted
    rig.accept(order)
    rig.fill(order, "0.5")
    status, _ = rig.host.status()
    assert (status["on_fault"], status["live_orders"]) == ("hold", 1)
    assert status["positions"] == {BTC: "0.5"}
    assert status["reason"].endswith("boom in trade; its orders are held")
    assert rig.health[0].reason == status["reason"]


def test_a_halt_cancels_whatever_becomes_of_faults() -> None:
    rig = running(config(Recorder, on_fault="hold"))
    rig.strategy("mine").context.submit_limit(BTC, Side.BUY, Decimal(1), Decimal(99))
    rig.host.halt("mine", "link gone")
    assert rig.asked(CancelAllOrders) == [CancelAllOrders(strategy_id="mine")]
    assert rig.host.status()[0]["reason"] == "link gone"


@pytest.mark.parametrize("where", ["start", "stop"])
def test_raising_at_either_end_is_contained(where: str) -> None:
    rig = running(config(Fragile, name="bad", params={"where": where}), config(Recorder))
    rig.host.stop()
    assert rig.host.state("bad") is StrategyState.FAULTED
    assert rig.strategy("mine").heard == ["start", "stop"]
    assert len(rig.faults) == 1


def test_somebody_elses_fault_is_not_ours() -> None:
    rig = running(config(Recorder))
    fault = Fault(owner="execution", topic="t", event=None, error=ValueError())
    assert rig.host.on_fault(fault) is False


def test_a_second_fault_of_a_faulted_strategy_is_only_counted() -> None:
    rig = running(config(Fragile))
    fault = Fault(owner="mine", topic="t", event=None, error=ValueError("x"))
    assert rig.host.on_fault(fault)
    assert rig.host.on_fault(fault)
    assert len(rig.health) == 1
    assert rig.host.status()[0]["faults"] == 2


def test_what_on_start_causes_is_heard_after_it() -> None:
    rig = Rig()
    rig.react = rig.deny
    rig.load(config(Starter))
    rig.host.start()
    assert rig.strategy("mine").heard == ["started", "OrderDenied"]


def test_stopping_ends_all_hearing_and_submitting() -> None:
    rig = running(config(Recorder, name="one"), config(Recorder, name="two"))
    rig.host.stop()
    rig.publish_trade()
    rig.tick()
    one = rig.strategy("one")
    assert one.heard == ["start", "stop"]
    with pytest.raises(StrategyError, match="stopping"):
        one.context.submit_market(BTC, Side.BUY, Decimal(1))
    rig.host.stop()
    rig.host.start()
    assert one.heard[:2] == ["start", "stop"]


def test_before_the_start_nothing_is_submitted() -> None:
    rig = Rig()
    rig.load(config(Recorder))
    with pytest.raises(StrategyError, match="not started"):
        rig.strategy("mine").context.submit_market(BTC, Side.BUY, Decimal(1))


def test_a_lost_link_halts_who_depends_on_it() -> None:
    rig = running(config(Recorder, name="one"), config(Recorder, name="two", instruments=(ETH,)))
    one = rig.strategy("one")
    one.context.submit_limit(BTC, Side.BUY, Decimal(1), Decimal(99))
    rig.host.halt_for((BTC,), "link down")
    rig.host.halt_for((BTC,), "again")
    rig.publish_trade()
    rig.tick()
    assert one.heard == ["start"]
    assert rig.host.state("two") is StrategyState.RUNNING
    assert rig.asked(CancelAllOrders) == [CancelAllOrders(strategy_id="one")]
    with pytest.raises(StrategyError, match="halted: link down"):
        one.context.submit_market(BTC, Side.BUY, Decimal(1))
    rig.fill(rig.submitted[0], "1")
    assert isinstance(one.heard[-2], OrderFilled)  # it still hears of its orders
    assert rig.host.status()[0]["reason"] == "link down"
    rig.host.resume("one")
    rig.publish_trade()
    assert rig.host.state("one") is StrategyState.RUNNING
    assert [type(each).__name__ for each in one.heard].count("Trade") == 1
    assert one.heard.count("start") == 1
    assert [event.healthy for event in rig.health] == [False, True]


def test_only_a_halted_strategy_can_be_resumed() -> None:
    rig = Rig()
    rig.load(config(Fragile, name="bad"), config(Recorder, name="good"))
    for name, said in {
        "nobody": "no strategy 'nobody'; there are: bad, good",
        "good": "strategy good has not started yet",
    }.items():
        with pytest.raises(StrategyError, match=said):
            rig.host.resume(name)
    rig.host.start()
    with pytest.raises(StrategyError, match=r"strategy good runs: it is not halted$"):
        rig.host.resume("good")
    rig.publish_trade()
    with pytest.raises(StrategyError, match=r"cannot be resumed: correct it .*\(.*boom in trade\)"):
        rig.host.resume("bad")
    rig.host.stop()
    with pytest.raises(StrategyError, match="strategy good is stopped: the daemon is stopping"):
        rig.host.resume("good")
    with pytest.raises(StrategyError, match="there are: none"):
        Rig().host.resume("good")


def test_one_that_faults_as_it_is_resumed_is_not_well() -> None:
    rig = Rig()
    rig.load(config(Fragile, params={"where": "start"}))
    rig.host.halt("mine", "link refused")
    with pytest.raises(StrategyError, match=r"faulted as it was resumed: .*boom in start"):
        rig.host.resume("mine")
    assert [event.healthy for event in rig.health] == [False, False]


def test_halted_before_the_start_it_starts_when_resumed() -> None:
    rig = Rig()
    rig.load(config(Recorder))
    rig.host.halt_for(None, "link refused")
    rig.host.start()
    assert rig.host.state("mine") is StrategyState.HALTED
    assert not hasattr(rig.strategy("mine"), "heard")
    rig.host.resume("mine")
    assert rig.strategy("mine").heard == ["start"]


def test_a_halted_strategy_that_never_started_is_not_stopped() -> None:
    rig = Rig()
    rig.load(config(Recorder))
    rig.host.halt("mine", "link refused")
    rig.host.stop()
    assert rig.host.state("mine") is StrategyState.STOPPED
    assert rig.faults == []


def test_timers_fire_through_the_host() -> None:
    rig = running(config(Fragile, params={"where": "nowhere"}))
    strategy, fired = rig.strategy("mine"), []
    strategy.context.set_timer(250, lambda: fired.append("delay"))
    strategy.context.set_timer_at(rig.clock.now_ns() + 100_000_000, lambda: fired.append("at"))
    strategy.context.set_timer(50, lambda: fired.append("cancelled")).cancel()
    rig.pass_time(99)
    assert fired == []
    rig.pass_time(1)
    assert fired == ["at"]
    rig.pass_time(150)
    assert fired == ["at", "delay"]
    strategy.context.set_timer(1, lambda: 1 / 0)
    strategy.context.set_timer(2, lambda: fired.append("never"))
    rig.pass_time(10)
    assert rig.host.state("mine") is StrategyState.FAULTED
    assert fired == ["at", "delay"]


def test_reloading_hands_over_changed_parameters() -> None:
    rig = running(config(Recorder, name="one"), config(Recorder, name="two"))
    changed = rig.host.reload(
        [
            config(Recorder, name="one", params={"size": 5}),
            config(Recorder, name="two"),
            config(Recorder, name="new", params={"size": "not looked at"}),
        ]
    )
    assert changed == ("one",)
    assert rig.host.reload([config(Deaf, name="two", params={"other": 1})]) == ()
    assert rig.strategy("one").params.size == 5
    assert rig.strategy("two").params.size == 1
    with pytest.raises(ConfigError) as caught:
        rig.host.reload(
            [
                config(Recorder, name="one", params={"size": 6}),
                config(Recorder, name="two", params={"sise": 6}),
            ]
        )
    assert "configuration: strategies[1].params.sise" in str(caught.value)
    assert rig.strategy("one").params.size == 5


def test_a_strategy_that_hears_nothing_takes_no_parameters() -> None:
    rig = running(config(Fragile, name="bad"), config(Recorder, name="good"))
    rig.publish_trade()
    assert rig.host.deaf() == {"bad"}
    changes = [
        config(Fragile, name="bad", params={"where": "stop"}),
        config(Recorder, name="good", params={"size": 5}),
    ]
    with capture_logs() as logged:
        assert rig.host.reload(changes) == ("good",)
    assert [(line["event"], line["strategy"]) for line in logged] == [
        ("parameters need a restart", "bad")
    ]
    assert rig.strategy("bad").params.where == "trade"
    rig.host.stop()
    assert rig.host.reload([config(Recorder, name="good", params={"size": 6})]) == ()


def test_reloading_changes_what_becomes_of_a_fault_until_there_is_one() -> None:
    rig = running(config(Fragile))
    rig.host.reload([config(Fragile, on_fault="hold")])
    rig.publish_trade()
    rig.host.reload([config(Fragile, on_fault="cancel")])
    assert rig.asked(CancelAllOrders) == []
    assert rig.host.status()[0]["reason"].endswith("its orders are held")


def test_a_reload_that_is_refused_changes_nothing_of_that() -> None:
    rig = running(config(Fragile))
    with pytest.raises(ConfigError):
        rig.host.reload([config(Fragile, on_fault="hold", params={"wear": "trade"})])
    assert rig.host.status()[0]["on_fault"] == "cancel"


def test_a_strategy_that_refuses_its_parameters_has_not_taken_them() -> None:
    rig = running(config(Fragile, name="bad", params={"where": "params"}))
    assert rig.host.reload([config(Fragile, name="bad", params={"where": "stop"})]) == ()
    assert rig.host.state("bad") is StrategyState.FAULTED


def test_one_that_has_not_started_begins_with_its_new_parameters() -> None:
    rig = Rig()
    rig.load(config(Recorder))
    rig.host.halt("mine", "link main is down")
    assert rig.host.reload([config(Recorder, params={"size": 5})]) == ("mine",)
    assert rig.strategy("mine").params.size == 5
    rig.host.start()
    rig.host.resume("mine")
    assert rig.strategy("mine").heard == ["start"]


def test_all_wrong_parameters_are_told_at_once() -> None:
    rig = Rig()
    with pytest.raises(ConfigError) as caught:
        rig.load(
            config(Recorder, name="one", params={"size": "x"}),
            config(Deaf, name="off", enabled=False, params={"whatever": 1}),
            config(Deaf, name="two", params={"other": 1}),
        )
    said = str(caught.value)
    assert "strategies[0].params.size" in said
    assert "strategies[2].params.other" in said
    assert rig.host.strategies() == {}


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"instruments": ("hl.DOGE",)}, ConfigError, "no instrument 'hl.DOGE'"),
        ({"instruments": ("DOGE",)}, ConfigError, "expected '<venue>.<symbol>'"),
        ({"bars": ("soon",)}, ConfigError, "bar 'soon'"),
        ({"name": "execution"}, StrategyError, "the name is taken"),
        ({"name": "external"}, StrategyError, "the name is taken"),
    ],
)
def test_what_cannot_be_hosted_is_told(
    changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said.replace("'", ".").replace("<", ".").replace(">", ".")):
        Rig().load(config(Recorder, **changes))


def test_names_are_used_once_and_constructors_may_fail() -> None:
    with pytest.raises(StrategyError, match="taken"):
        Rig().load(config(Recorder), config(Recorder))
    with pytest.raises(StrategyError, match="making it failed: RuntimeError: not today"):
        Rig().load(config(Unmakeable))


def test_status_tells_of_each_strategy() -> None:
    rig = running(config(Recorder))
    context = rig.strategy("mine").context
    context.submit_limit(BTC, Side.BUY, Decimal(2), Decimal(99))
    rig.accept(rig.submitted[0])
    rig.fill(rig.submitted[0], "1.50", "90")
    (status,) = rig.host.status()
    assert (status["name"], status["state"], status["reason"]) == ("mine", "running", "")
    assert status["positions"] == {BTC: "1.5"}
    assert (status["open_orders"], status["live_orders"], status["closed_orders"]) == (1, 1, 0)
    assert status["unrealized_pnl"] == "15"
    assert status["net_pnl"] == "14.99"
