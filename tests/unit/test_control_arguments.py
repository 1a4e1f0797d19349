"""What a client may send as arguments: whatever it is, it is taken as meant or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zq_daemon.control.amounts import exact_text_of
from zq_daemon.control.arguments import TEXT_CHARS, Arguments, BadRequest, shown

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def arguments(**given: Any) -> Arguments:
    return Arguments({"command": "x", **given}, tuple(given))


def test_what_was_not_given_is_none_or_the_default() -> None:
    asked = Arguments({"command": "x"}, ("name",))
    assert asked.text("name") is None
    assert asked.seconds("wait_s", most=5) is None
    assert asked.choice("kind", ("a", "b"), "b") == "b"
    assert asked.count("limit", most=9, default=4) == 4


def test_what_was_given_is_taken() -> None:
    asked = arguments(name="x" * TEXT_CHARS, wait_s=5, kind="a", limit=9)
    assert asked.text("name") == "x" * TEXT_CHARS
    assert asked.seconds("wait_s", most=5) == 5.0
    assert asked.choice("kind", ("a", "b"), "b") == "a"
    assert asked.count("limit", most=9, default=4) == 9


@pytest.mark.parametrize("takes", [(), ("name", "limit")])
def test_an_unknown_argument_is_refused_and_the_known_are_told(takes: tuple[str, ...]) -> None:
    with pytest.raises(BadRequest) as caught:
        Arguments({"command": "x", "nam": 1}, takes)
    told = "it takes name, limit" if takes else "it takes none"
    assert str(caught.value) == f"unknown argument 'nam'; {told}"


@given(JSON)
def test_any_value_is_taken_as_it_is_or_refused_in_few_words(value: Any) -> None:
    asked = arguments(it=value)
    readers: tuple[tuple[Callable[[], Any], tuple[type, ...]], ...] = (
        (lambda: asked.text("it"), (str, type(None))),
        (lambda: asked.count("it", most=10, default=1), (int,)),
        (lambda: asked.seconds("it", most=10), (float, type(None))),
        (lambda: asked.choice("it", ("a",), "a"), (str,)),
    )
    for read, kinds in readers:
        told, taken = said_of(read)
        if told is None:
            assert isinstance(taken, kinds)
            assert not isinstance(taken, bool)
            assert taken == value
        else:
            assert told.startswith("it: ")
            assert told.isprintable()
            assert len(told) < 200


def said_of(read: Callable[[], Any]) -> tuple[str | None, Any]:
    try:
        return None, read()
    except BadRequest as error:
        return str(error), None


def test_what_is_nested_deeply_can_be_shown() -> None:
    deepest = 1
    while True:
        try:
            value = msgspec.json.decode(b"[" * deepest + b"]" * deepest)
        except (RecursionError, msgspec.DecodeError):
            break
        assert len(shown(value)) <= 64
        deepest *= 2


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("64000.00", "64000"),
        ("0.00000000012", "0.00000000012"),
        ("1E+3", "1000"),
        ("-0", "0"),
        ("0.10", "0.1"),
        ("123456789.123456789123456789", "123456789.123456789123456789"),
        ("1E-200", "1.00000000E-200"),
        ("1" * 150, "1.11111111E+149"),
    ],
)
def test_an_orders_amounts_are_told_to_the_last_digit(amount: str, text: str) -> None:
    assert exact_text_of(Decimal(amount)) == text


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12))
def test_no_digit_is_lost(amount: Decimal) -> None:
    text = exact_text_of(amount)
    assert text is not None
    if "E" not in text:
        assert Decimal(text) == amount


def test_no_amount_is_no_text() -> None:
    assert exact_text_of(None) is None
