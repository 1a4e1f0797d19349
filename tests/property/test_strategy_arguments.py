"""Whatever is passed: nothing reaches the bus that cannot be written down, and read again."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.oddities import ANYTHING
from tests.service.execution_rig import BTC
from tests.service.strategy_rig import Rig, config
from tests.unit.test_order_state import CLOID, new_order
from zq_daemon.core import topics
from zq_daemon.core.bus import MessageBus
from zq_daemon.errors import StrategyError
from zq_daemon.journal import codec
from zq_daemon.model.check import check_command, check_order
from zq_daemon.model.command import (
    CancelAllOrders,
    CancelOrder,
    ModifyOrder,
    SubmitBracket,
    SubmitOrder,
)
from zq_daemon.model.event import OrderInitialized
from zq_daemon.model.market import Side
from zq_daemon.model.money import EXACT, ZERO
from zq_daemon.model.order import Order
from zq_daemon.strategy.base import Strategy

PARAMETERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "submit_limit": (
        ("instrument_id", "side", "quantity", "price"),
        ("time_in_force", "post_only", "reduce_only"),
    ),
    "submit_market": (("instrument_id", "side", "quantity"), ("reduce_only",)),
    "submit_stop": (
        ("instrument_id", "side", "quantity", "trigger_price"),
        ("price", "reduce_only"),
    ),
    "submit_take_profit": (
        ("instrument_id", "side", "quantity", "trigger_price"),
        ("price", "reduce_only"),
    ),
    "submit_bracket": (
        ("instrument_id", "side", "quantity", "take_profit"),
        ("price", "post_only", "stop_loss"),
    ),
    "cancel": (("client_order_id",), ()),
    "modify": (("client_order_id",), ("price", "quantity")),
    "cancel_all": ((), ("instrument_id",)),
    "set_timer": (("delay_ms", "callback"), ()),
    "set_timer_at": (("at_ns", "callback"), ()),
    "save_state": (("version", "data"), ()),
}
RIGHT: dict[str, Any] = {
    "instrument_id": BTC,
    "side": Side.BUY,
    "quantity": 1,
    "price": 99,
    "trigger_price": 98,
    "take_profit": 102,
    "delay_ms": 5,
    "at_ns": 5,
    "callback": len,
    "version": 1,
    "data": {},
}
LARGEST, SMALLEST = Decimal("9E+29"), Decimal("1E-80")
FIELDS = [field.name for field in attrs.fields(Order)]


class Idle(Strategy):
    """Does nothing of its own."""


class Listening(Rig):
    """What is asked for is only taken down, once one order rests."""

    def _submit(self, command: SubmitOrder) -> None:
        if not self.commands:
            self.cache.put_order(command.order)
        self.commands.append(command)


def running() -> tuple[Rig, Any, Any]:
    """A rig, the context of its strategy, and the id of an order that rests."""
    rig = Listening()
    rig.load(config(Idle))
    rig.host.start()
    context = rig.strategy("mine").context
    resting = context.submit_limit(BTC, Side.BUY, 1, 99)
    rig.accept(rig.submitted[0])
    return rig, context, resting


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A method and arguments, at least one of which is anything."""
    method = draw(st.sampled_from(sorted(PARAMETERS)))
    required, optional = PARAMETERS[method]
    odd = draw(st.sets(st.sampled_from([*required, *optional]), min_size=1))
    arguments = {name: RIGHT.get(name) for name in required}
    return method, arguments | {name: draw(ANYTHING) for name in sorted(odd)}


@settings(max_examples=1_000)
@given(calls())
def test_a_wrong_argument_is_a_strategy_error_and_nothing_else(
    call: tuple[str, dict[str, Any]],
) -> None:
    method, arguments = call
    rig, context, resting = running()
    if arguments.get("client_order_id", ...) is None:
        arguments["client_order_id"] = resting
    refusal = ""
    try:
        getattr(context, method)(**arguments)
    except StrategyError as error:
        refusal = str(error)
    asked = rig.commands[1:]
    if refusal:
        assert refusal.startswith(f"strategy mine: {method}: ")
        assert len(refusal) < 500
        assert asked == rig.saved == []
    for command in asked:
        assert check_command(command) is None
        if isinstance(command, SubmitOrder):
            assert_written(command.order)
        if isinstance(command, SubmitBracket):
            for order in (command.entry, *command.exits):
                assert_written(order)
    assert rig.faults == []


@settings(max_examples=1_000)
@given(st.dictionaries(st.sampled_from(FIELDS), ANYTHING, min_size=1, max_size=3))
def test_an_order_that_is_found_sound_is_read_as_it_was_written(changes: dict[str, Any]) -> None:
    order = attrs.evolve(new_order(), **changes)
    if check_order(order) is None:
        assert_written(order)


def assert_written(order: Order) -> None:
    """It is in the journal as it is, the bus has topics for it, and it can be shown."""
    event = OrderInitialized(
        order=order,
        client_order_id=order.client_order_id,
        strategy_id=order.strategy_id,
        instrument_id=order.instrument_id,
        ts_event_ns=1,
    )
    written = codec.encode_order(event, closed=False)
    read = codec.decode(written)
    assert codec.encode_order(read, closed=False) == written
    values = zip(attrs.astuple(read.order), attrs.astuple(order), strict=True)
    assert all(type(one) is type(other) for one, other in values)
    assert len(written) < 10_000
    for amount in (order.quantity, order.price or ZERO, order.trigger_price or ZERO):
        assert len(f"{amount:f}") < 120
        EXACT.add(EXACT.add(amount, LARGEST), SMALLEST)
    MessageBus(lambda _: None).publish(topics.order(event), event)


@settings(max_examples=500)
@given(
    st.sampled_from([SubmitOrder, SubmitBracket, CancelOrder, ModifyOrder, CancelAllOrders]),
    ANYTHING,
    ANYTHING,
)
def test_any_command_is_judged_without_raising(kind: type, one: Any, other: Any) -> None:
    names = [field.name for field in attrs.fields(kind)]
    command = kind(**dict(zip(names, (one, other), strict=False)))
    problem = check_command(command)
    if problem is None:
        hash(command)
    else:
        assert len(problem) < 500


def test_what_is_no_command_is_said_to_be_none() -> None:
    assert check_command(CLOID) == f"{CLOID!r} (str): expected a command"
