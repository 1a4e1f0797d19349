"""What a command may hold: exactly the types that its class names, so that it can be written down.

Owns what is wrong with one, in words. Pure, and cheap enough for every command; it knows no market:
an order for an unknown instrument or at a price below zero is well-formed, and denied elsewhere.
Whoever takes commands from code that is not the daemon's own asks here before anything else looks
at them. A denied order is journalled as it was asked for, and after a crash just then it comes back
as one that lives: so what cannot be added up, like NaN, must not get as far as a denial.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter, is_
from typing import Any

from attrs import fields_dict

from zq_daemon.model.command import (
    CancelAllOrders,
    CancelOrder,
    ModifyOrder,
    SubmitBracket,
    SubmitOrder,
)
from zq_daemon.model.ids import InstrumentId, parse_instrument_id
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderType, TimeInForce

MAX_INTEGER_DIGITS = 30
MAX_DECIMALS = 80
"""Sums of such numbers lose no digit (`model.money.EXACT`), as all live orders are summed up."""
_MAX_TEXT = 200
_MOST_EXITS = 2
"""A take profit and a stop."""
_MAX_INT = (1 << 63) - 1
_SHOWN = 60
_SHOWABLE = (bool, int, float, str, Decimal)

_TYPES: dict[str, type] = {
    "client_order_id": str,
    "strategy_id": str,
    "account_id": str,
    "instrument_id": str,
    "side": Side,
    "order_type": OrderType,
    "quantity": Decimal,
    "time_in_force": TimeInForce,
    "post_only": bool,
    "reduce_only": bool,
    "ts_init_ns": int,
    "ts_last_ns": int,
}
_HISTORY = (
    "is_held",
    "status",
    "pending",
    "pending_quantity",
    "venue_order_id",
    "venue_order_ids",
    "closings",
    "filled_quantity",
    "filled_notional",
    "fees",
    "trade_ids",
    "synthetic",
    "ts_modified_ns",
    "reason",
)
"""What only events change: an order that is asked for has the defaults."""
_KINDS = tuple(_TYPES.values())
_DEFAULTS = tuple(fields_dict(Order)[name].default for name in _HISTORY)
_asked = attrgetter(*_TYPES)
_history = attrgetter(*_HISTORY)
_is_order_id = re.compile(r"0x[0-9a-f]{32}").fullmatch


def check_command(command: object) -> str | None:
    """What is wrong with the types of *command* (any of `model.command`'s); None: nothing is."""
    match command:
        case SubmitOrder():
            return check_order(command.order) or _check_single(command.order)
        case SubmitBracket():
            return _check_bracket(command)
        case CancelOrder():
            return _check_order_id(command.client_order_id)
        case ModifyOrder():
            return (
                _check_order_id(command.client_order_id)
                or _check_price("price", command.price)
                or _check_price("quantity", command.quantity)
            )
        case CancelAllOrders():
            return _check_scope("strategy_id", command.strategy_id) or _check_scope(
                "instrument_id", command.instrument_id
            )
        case _:
            return f"{told(command)}: expected a command"


def check_order(order: object) -> str | None:
    """What is wrong with *order* as one that is asked for; None: it can be journalled and replayed.

    Types, ids that are ids, numbers that can be written out, and no history yet.
    """
    if type(order) is not Order:
        return f"{told(order)}: expected an Order"
    return (
        _check_types(order)
        or _check_order_id(order.client_order_id)
        or _check_text("strategy_id", order.strategy_id, least=1)
        or _check_text("account_id", order.account_id, least=0)
        or _check_text("instrument_id", order.instrument_id, least=1)
        or _check_instrument_id(order.instrument_id)
        or _check_price("quantity", order.quantity)
        or _check_price("price", order.price)
        or _check_price("trigger_price", order.trigger_price)
        or _check_trigger(order)
        or _check_parent(order.parent_id)
        or _check_time("ts_init_ns", order.ts_init_ns)
        or _check_time("ts_last_ns", order.ts_last_ns)
        or _check_history(order)
    )


def _check_single(order: Order) -> str | None:
    if order.parent_id is None:
        return None
    return f"parent_id: {told(order.parent_id)}: an exit is submitted with its entry"


def _check_bracket(command: SubmitBracket) -> str | None:
    entry, exits = command.entry, command.exits
    problem = check_order(entry) or _check_single(entry)
    if problem is not None:
        return f"entry: {problem}"
    if type(exits) is not tuple or not 1 <= len(exits) <= _MOST_EXITS:
        return f"exits: {told(exits)}: expected a tuple of 1 to {_MOST_EXITS} orders"
    ids = {entry.client_order_id}
    for each in exits:
        problem = check_order(each) or _check_exit(entry, each)
        if problem is None and each.client_order_id in ids:
            problem = f"client_order_id: {told(each.client_order_id)}: is another order's too"
        if problem is not None:
            return f"exit: {problem}"
        ids.add(each.client_order_id)
    return None


def _check_exit(entry: Order, order: Order) -> str | None:
    """An exit does nothing but close, when its price comes, what its entry has opened."""
    if order.parent_id != entry.client_order_id:
        return f"parent_id: {told(order.parent_id)}: expected the entry's client order id"
    if not (order.order_type.is_trigger and order.reduce_only and not entry.reduce_only):
        return "expected a reduce-only trigger order, of an entry that is not reduce-only"
    same = ("strategy_id", "account_id", "instrument_id")
    if order.side is entry.side or any(getattr(order, n) != getattr(entry, n) for n in same):
        return "expected the entry's strategy, account and instrument, and the other side"
    return None


def check_amount(number: object) -> str | None:
    """What is wrong with the type or size of a price or quantity; zero and less are numbers."""
    if type(number) is not Decimal:
        return f"{told(number)}: expected a Decimal"
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int):
        return f"{told(number)}: expected a finite number"
    if exponent < -MAX_DECIMALS or number.adjusted() >= MAX_INTEGER_DIGITS:
        most = f"{MAX_INTEGER_DIGITS} digits and {MAX_DECIMALS} decimals"
        return f"{told(number)}: expected at most {most}"
    return None


def told(value: object) -> str:
    """*value* for people, however large or odd it is: code of its own is not run."""
    kind = type(value)
    if value is None:
        return "None"
    if kind not in _SHOWABLE or (isinstance(value, int) and value.bit_length() > _SHOWN):
        return f"a value of type {kind.__name__[:_SHOWN]}"
    text = repr(value[:_SHOWN]) if isinstance(value, str) else str(value)[:_SHOWN]
    return f"{text} ({kind.__name__})"


def _check_types(order: Order) -> str | None:
    values = _asked(order)
    if tuple(map(type, values)) == _KINDS:
        return None
    for name, value, kind in zip(_TYPES, values, _KINDS, strict=True):
        if type(value) is not kind:
            return f"{name}: {told(value)}: expected {kind.__name__}"
    return None


def _check_history(order: Order) -> str | None:
    values = _history(order)
    if all(map(is_, values, _DEFAULTS)):
        return None
    for name, value, default in zip(_HISTORY, values, _DEFAULTS, strict=True):
        if not (value is default or _both_empty(value, default)):
            return f"{name}: {told(value)}: expected {default!r}, as nothing happened to it yet"
    return None


def _both_empty(value: Any, default: object) -> bool:
    return type(value) is type(default) and not default and not value


def _check_price(name: str, number: object) -> str | None:
    problem = None if number is None else check_amount(number)
    return None if problem is None else f"{name}: {problem}"


def _check_parent(parent_id: object) -> str | None:
    problem = None if parent_id is None else _check_order_id(parent_id)
    return None if problem is None else f"parent_id: {problem}"


def _check_trigger(order: Order) -> str | None:
    if order.order_type.is_trigger is (order.trigger_price is not None):
        return None
    wanted = "one" if order.order_type.is_trigger else "none"
    return (
        f"trigger_price: {told(order.trigger_price)}: a {order.order_type.value} order has {wanted}"
    )


def _check_scope(name: str, value: object) -> str | None:
    if value is None or type(value) is str:
        return None
    return f"{name}: {told(value)}: expected a str or None"


def _check_order_id(value: object) -> str | None:
    if type(value) is str and _is_order_id(value):
        return None
    return f"client_order_id: {told(value)}: expected 0x and 32 lower-case hexadecimal digits"


@lru_cache(4_096)
def _check_instrument_id(value: InstrumentId) -> str | None:
    try:
        parse_instrument_id(value)
    except ValueError as error:
        return f"instrument_id: {error}"
    return None


def _check_text(name: str, value: str, *, least: int) -> str | None:
    """Short, and Unicode."""
    if not least <= len(value) <= _MAX_TEXT:
        return f"{name}: {told(value)}: expected {least} to {_MAX_TEXT} characters"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"{name}: {told(value)} is no Unicode text"
    return None


def _check_time(name: str, time_ns: int) -> str | None:
    if 0 <= time_ns <= _MAX_INT:
        return None
    return f"{name}: {told(time_ns)}: expected nanoseconds since 1970"
