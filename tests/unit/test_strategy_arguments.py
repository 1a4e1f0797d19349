"""What a strategy may pass, how a mistake is told, and that it costs its strategy alone."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.service.execution_rig import BTC
from tests.service.strategy_rig import Rig, config
from zq_daemon.errors import StrategyError
from zq_daemon.model.command import ModifyOrder
from zq_daemon.model.market import Side
from zq_daemon.strategy.base import Strategy
from zq_daemon.strategy.hosted import StrategyState

ORDER: dict[str, Any] = {"instrument_id": BTC, "side": Side.BUY, "quantity": 1, "price": 99}


class Idle(Strategy):
    """Does nothing of its own."""


class Floaty(Strategy):
    """Computes with floats."""

    def on_trade(self, trade: Any) -> None:
        price: Any = float(trade.price)
        self.context.submit_limit(trade.instrument_id, Side.BUY, 1, price * 0.99)


class Counter(Strategy):
    """Counts the trades it hears of."""

    def on_start(self) -> None:
        self.heard = 0

    def on_trade(self, trade: Any) -> None:
        self.heard += 1


def running() -> tuple[Rig, Any]:
    rig = Rig()
    rig.load(config(Idle))
    rig.host.start()
    return rig, rig.strategy("mine").context


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"quantity": 0.001}, r"quantity: 0\.001 \(float\) .* such as Decimal\('0\.001'\)"),
        ({"price": float("nan")}, r"price: nan \(float\) is not taken: pass a Decimal made of"),
        ({"price": Decimal("NaN")}, r"price: NaN \(Decimal\): expected a finite number"),
        ({"price": Decimal("-Infinity")}, r"price: -Infinity \(Decimal\): expected a finite"),
        ({"price": None}, "price: None is not taken: pass a Decimal, or an int"),
        ({"quantity": "1"}, r"quantity: '1' \(str\) is not taken: pass a Decimal"),
        ({"quantity": True}, r"quantity: True \(bool\) is not taken: pass a Decimal"),
        ({"quantity": 10**30}, r"quantity: 10+ \(Decimal\): expected at most 30 digits"),
        ({"quantity": 10**9_999}, "quantity: a value of type int is not taken: pass a Decimal"),
        ({"quantity": Decimal("1E-81")}, r"quantity: 1E-81 .*: expected at most .* 80 decimals"),
        ({"side": "buy"}, r"side: 'buy' \(str\) is not taken: pass Side\.BUY or Side\.SELL"),
        ({"time_in_force": "gtc"}, r"time_in_force: .*: pass TimeInForce\.GTC or TimeInForce\.IOC"),
        ({"time_in_force": Side.BUY}, "time_in_force: a value of type Side is not taken"),
        ({"post_only": None}, "post_only: None is not taken: pass True or False"),
        ({"reduce_only": 1}, r"reduce_only: 1 \(int\) is not taken: pass True or False"),
        ({"instrument_id": "hl.NO"}, r"instrument_id: 'hl\.NO' \(str\) .* such as hl\.BTC$"),
        ({"instrument_id": ""}, r"instrument_id: '' \(str\) is not taken"),
        ({"instrument_id": None}, "instrument_id: None is not taken: pass one that is known"),
        ({"instrument_id": ["hl.BTC"]}, "instrument_id: a value of type list is not taken"),
    ],
)
def test_a_mistake_is_told_with_what_to_pass(wrong: dict[str, Any], said: str) -> None:
    rig, context = running()
    with pytest.raises(StrategyError, match=f"^strategy mine: submit_limit: {said}"):
        context.submit_limit(**ORDER | wrong)
    assert rig.commands == []
    context.submit_limit(**ORDER)
    assert rig.submitted[0].client_order_id.endswith(f"{1:016x}")


def test_an_int_becomes_the_same_decimal() -> None:
    rig, context = running()
    cloid = context.submit_limit(BTC, Side.BUY, 2, 10**29)
    (order,) = rig.submitted
    assert (order.quantity, order.price) == (Decimal(2), Decimal(10**29))
    assert type(order.quantity) is type(order.price) is Decimal
    context.modify(cloid, price=7)
    (change,) = rig.asked(ModifyOrder)
    assert type(change.price) is Decimal
    assert (change.price, change.quantity) == (Decimal(7), None)


def test_what_is_a_number_but_no_price_is_left_to_be_denied() -> None:
    rig, context = running()
    context.submit_limit(BTC, Side.BUY, Decimal(0), Decimal(-1))
    assert len(rig.submitted) == 1


@pytest.mark.parametrize(
    ("method", "arguments", "said"),
    [
        ("submit_market", (BTC, Side.BUY, 0.5), r"quantity: 0\.5 \(float\)"),
        ("cancel", (None,), "client_order_id: None is not taken: pass what submit_limit"),
        ("cancel", ([],), "client_order_id: a value of type list"),
        ("modify", (5,), r"client_order_id: 5 \(int\)"),
        ("cancel_all", ("",), r"instrument_id: '' \(str\)"),
        ("set_timer", (0.5, print), r"delay_ms: 0\.5 \(float\) is not taken: pass an int"),
        ("set_timer", (True, print), r"delay_ms: True \(bool\)"),
        ("set_timer", (5, None), "callback: None is not taken: pass a function"),
        ("set_timer_at", (float("nan"), print), r"at_ns: nan \(float\)"),
        ("set_timer_at", (5, "print"), r"callback: 'print' \(str\)"),
    ],
)
def test_the_other_methods_tell_too(method: str, arguments: tuple[Any, ...], said: str) -> None:
    rig, context = running()
    with pytest.raises(StrategyError, match=f"^strategy mine: {method}: {said}"):
        getattr(context, method)(*arguments)
    rig.pass_time(1_000)
    assert rig.commands == rig.faults == []


def test_a_modification_is_checked_though_there_is_no_such_order() -> None:
    _, context = running()
    with pytest.raises(StrategyError, match=r"modify: price: 1\.5 \(float\)"):
        context.modify("0x" + 32 * "0", price=1.5)


def test_a_mistake_faults_its_strategy_and_no_other() -> None:
    rig = Rig()
    rig.load(config(Floaty, name="floaty"), config(Counter, name="other"))
    rig.host.start()
    rig.publish_trade()
    rig.publish_trade()
    assert rig.host.state("floaty") is StrategyState.FAULTED
    assert [fault.owner for fault in rig.faults] == ["floaty"]
    assert "price: 99.0 (float) is not taken" in rig.host.status()[0]["reason"]
    assert rig.strategy("other").heard == 2
    assert rig.submitted == []


def test_timers_that_are_set_again_for_at_once_hold_nothing_up() -> None:
    rig, context = running()
    fired: list[str] = []

    def again() -> None:
        fired.append("delay")
        context.set_timer(-5, again)

    def at_once() -> None:
        fired.append("moment")
        context.set_timer_at(0, at_once)

    again()
    at_once()
    context.set_timer(1, lambda: fired.append("other"))
    fired.clear()
    rig.pass_time(1)
    assert sorted(fired) == ["delay", "moment", "other"]
    rig.pass_time(1)
    assert sorted(fired) == ["delay", "delay", "moment", "moment", "other"]
