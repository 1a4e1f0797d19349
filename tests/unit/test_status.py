"""What `status` answers: amounts as text."""

from __future__ import annotations

import os
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zq_daemon.control.amounts import text_of
from zq_daemon.control.status import status_of


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "0"),
        ("-0.000000001", "0"),
        ("1.50", "1.5"),
        ("100", "100"),
        ("1E+3", "1000"),
        ("0.123456785", "0.12345678"),
        ("-12345678901234567890.123456789012345678", "-12345678901234567890.12345679"),
        ("152415787532388367501905199875019052100.5", "152415787532388367501905199875019052100.5"),
        ("1e99", "1" + 99 * "0"),
        ("1.25e100", "1.25000000E+100"),
        ("-1e999999", "-1.00000000E+999999"),
    ],
)
def test_amounts_are_written_to_eight_decimals(amount: str, text: str) -> None:
    assert text_of(Decimal(amount)) == text


def test_what_is_not_known_is_no_amount() -> None:
    assert text_of(None) is None


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_every_amount_can_be_shown(amount: Decimal) -> None:
    text = text_of(amount)
    assert text is not None
    assert abs(Decimal(text) - amount) <= max(Decimal("5e-9"), abs(amount) * Decimal("1e-8"))


def test_a_part_that_is_not_there_has_no_entry() -> None:
    told = status_of(None, {"state": "starting"})
    assert told == {"daemon": {"pid": os.getpid(), "state": "starting"}}


def test_parts_that_stand_outside_are_told_as_they_are_also_during_a_start() -> None:
    told = status_of(None, {}, journal={"commits": 1}, history={}, watchdog=None)
    assert told["journal"] == {"commits": 1}
    assert told["history"] == {}
    assert not {"watchdog", "recovery"} & set(told)
