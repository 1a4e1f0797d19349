"""Which orders and commands can be written down, and how it is told of the others."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve

from tests.unit.test_order_state import CLOID, new_order
from zq_daemon.model.check import check_command, check_order, told
from zq_daemon.model.command import CancelAllOrders, CancelOrder, ModifyOrder, SubmitOrder
from zq_daemon.model.order import Closing, OrderStatus, OrderType, Pending

GOOD: list[dict[str, Any]] = [
    {},
    {"price": None, "order_type": OrderType.MARKET},
    {"account_id": ""},
    {"quantity": Decimal(0), "price": Decimal("-1E+29")},
    {"quantity": Decimal("1E-80")},
    {"fees": Decimal("0.0"), "venue_order_ids": (), "trade_ids": frozenset()},
    {"ts_init_ns": 2**63 - 1},
    {"instrument_id": "hyperliquid.ü"},
    {"strategy_id": "ü.*%"},
]
BAD: list[tuple[str, Any]] = [
    ("client_order_id", None),
    ("client_order_id", CLOID.upper()),
    ("client_order_id", CLOID[:-1]),
    ("client_order_id", CLOID + "\n"),
    ("strategy_id", ""),
    ("strategy_id", "x" * 201),
    ("strategy_id", "\ud800"),
    ("account_id", None),
    ("instrument_id", "hl"),
    ("instrument_id", "hl."),
    ("instrument_id", ".BTC"),
    ("instrument_id", "hl.\ud800"),
    ("side", "buy"),
    ("order_type", None),
    ("time_in_force", "gtc"),
    ("post_only", None),
    ("reduce_only", 0),
    ("quantity", None),
    ("quantity", 1),
    ("quantity", 0.5),
    ("quantity", Decimal("NaN")),
    ("quantity", Decimal("1E+30")),
    ("price", 99.5),
    ("price", Decimal("Infinity")),
    ("price", Decimal("1E-81")),
    ("status", OrderStatus.ACCEPTED),
    ("status", None),
    ("pending", Pending.CANCEL),
    ("pending_quantity", Decimal(1)),
    ("venue_order_id", "1"),
    ("venue_order_ids", ("1",)),
    ("venue_order_ids", []),
    ("closings", (Closing(None, OrderStatus.CANCELED, ""),)),
    ("filled_quantity", Decimal(1)),
    ("filled_notional", 0.0),
    ("fees", 0),
    ("trade_ids", frozenset({"1"})),
    ("ts_modified_ns", 1),
    ("reason", "why"),
    ("reason", None),
    ("ts_init_ns", 1.0),
    ("ts_init_ns", -1),
    ("ts_last_ns", 2**63),
]


@pytest.mark.parametrize("changes", GOOD)
def test_a_new_order_is_sound(changes: dict[str, Any]) -> None:
    assert check_order(evolve(new_order(), **changes)) is None


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_wrong_field_is_named(name: str, value: Any) -> None:
    problem = check_order(evolve(new_order(), **{name: value}))
    assert problem is not None
    assert problem.startswith(f"{name}: ")
    assert "expected" in problem or "Unicode" in problem or name == "instrument_id"


def test_commands_are_checked_by_kind() -> None:
    assert check_order(None) == "None: expected an Order"
    assert check_command(SubmitOrder(order=new_order())) is None
    submit: Any = SubmitOrder
    assert check_command(submit(order=5)) == "5 (int): expected an Order"
    assert check_command(CancelOrder(client_order_id=CLOID)) is None
    cancel: Any = CancelOrder
    assert "client_order_id: None" in str(check_command(cancel(client_order_id=None)))
    assert check_command(ModifyOrder(client_order_id=CLOID, price=Decimal(1))) is None
    modify: Any = ModifyOrder
    assert "price: 1.5 (float)" in str(check_command(modify(client_order_id=CLOID, price=1.5)))
    assert "quantity: NaN" in str(
        check_command(ModifyOrder(client_order_id=CLOID, quantity=Decimal("NaN")))
    )
    assert check_command(CancelAllOrders()) is None
    cancel_all: Any = CancelAllOrders
    assert "strategy_id: a value of type list" in str(check_command(cancel_all(strategy_id=[])))
    assert "instrument_id: 5 (int)" in str(check_command(cancel_all(instrument_id=5)))


def test_values_are_told_in_a_few_words() -> None:
    assert told("x" * 1_000) == f"'{'x' * 60}' (str)"
    assert told("\ud800") == r"'\ud800' (str)"
    assert told(10**5_000) == "a value of type int"
    assert told(Decimal("1" * 100)) == f"{'1' * 60} (Decimal)"
    assert told(-1.5) == "-1.5 (float)"
    assert told(None) == "None"
