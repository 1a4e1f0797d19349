"""What a strategy may pass to its context: exactly the types that are asked for, never a float.

Owns which values those are, and the wording of what is refused: what was given and what to pass. A
mistake is a StrategyError in the handler that made it, so that it costs its strategy alone; nothing
of it reaches the bus. Pure; the context calls it, and names strategy and method.

A number is a finite Decimal, or an int that becomes the same Decimal; never a float, a bool or
text. What is a number but cannot be traded (zero, less, more than risk allows) is no such mistake:
the order is denied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any

from zq_daemon.errors import StrategyError
from zq_daemon.model.check import check_amount, told
from zq_daemon.model.ids import ClientOrderId
from zq_daemon.model.market import Side
from zq_daemon.model.order import TimeInForce

_LONG = 128
"""Bits of an int that is not looked at any more."""


def checked_terms(**terms: Any) -> dict[str, Any]:
    """*terms* of an order by their names, each as an order takes it; StrategyError."""
    return {name: _TERMS[name](name, value) for name, value in terms.items()}


def checked_order_id(value: Any) -> ClientOrderId:
    """A client order id, known or not; StrategyError for what is no text."""
    if type(value) is not str:
        raise _refusal("client_order_id", value, "pass what submit_limit (or its like) gave")
    return ClientOrderId(value)


def checked_time(name: str, value: Any) -> int:
    """A time or duration in whole units; StrategyError."""
    if type(value) is not int:
        raise _refusal(name, value, "pass an int")
    return value


def checked_callback(value: Any) -> Callable[[], None]:
    """Something to be called without arguments; StrategyError."""
    if not callable(value):
        raise _refusal("callback", value, "pass a function that takes no argument")
    callback: Callable[[], None] = value
    return callback


def unknown_instrument(value: Any, known: tuple[str, ...]) -> StrategyError:
    """The refusal of what is no instrument's id; *known* are the strategy's own."""
    return _refusal(
        "instrument_id", value, f"pass one that is known, such as {', '.join(known[:3])}"
    )


def _amount(name: str, value: Any) -> Decimal:
    if type(value) is float:
        raise _refusal(name, value, f"pass a Decimal made of text, such as Decimal('{value!r}')")
    number = Decimal(value) if type(value) is int and value.bit_length() < _LONG else value
    if type(number) is not Decimal:
        raise _refusal(name, value, "pass a Decimal, or an int that is not larger than any amount")
    problem = check_amount(number)
    if problem is not None:
        raise StrategyError(f"{name}: {problem}")
    return number


def _choice(kind: type[Enum], name: str, value: Any) -> Enum:
    if type(value) is not kind:
        raise _refusal(name, value, f"pass {' or '.join(str(each) for each in kind)}")
    return value


def _flag(name: str, value: Any) -> bool:
    if type(value) is not bool:
        raise _refusal(name, value, "pass True or False")
    return value


def _refusal(name: str, value: Any, instead: str) -> StrategyError:
    return StrategyError(f"{name}: {told(value)} is not taken: {instead}")


_TERMS: Mapping[str, Callable[[str, Any], Any]] = {
    "side": partial(_choice, Side),
    "quantity": _amount,
    "price": _amount,
    "trigger_price": _amount,
    "take_profit": _amount,
    "stop_loss": _amount,
    "time_in_force": partial(_choice, TimeInForce),
    "post_only": _flag,
    "reduce_only": _flag,
}
