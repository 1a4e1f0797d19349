"""Our clock against the venue's: by its own time, or by the date of its answer."""

from __future__ import annotations

import pytest

from zq_daemon.venue.hyperliquid import decode, wire
from zq_daemon.venue.interface import ClockSkew

MS = 1_000_000
NOW = 1_700_000_000_000 * MS


def test_the_venues_time_is_of_the_middle_of_the_question() -> None:
    told = wire.ExchangeStatus(time=1_700_000_000_000)
    skew = decode.clock_skew(NOW + 300 * MS, NOW + 500 * MS, told, "")
    assert skew == ClockSkew(ahead_ns=400 * MS, error_ns=101 * MS)
    late = decode.clock_skew(NOW - 300 * MS, NOW - 300 * MS, told, "")
    assert late == ClockSkew(ahead_ns=-300 * MS, error_ns=MS)


def test_a_date_is_good_to_half_a_second() -> None:
    skew = decode.clock_skew(
        NOW + 500 * MS, NOW + 700 * MS, wire.ExchangeStatus(), "Tue, 14 Nov 2023 22:13:20 GMT"
    )
    assert skew == ClockSkew(ahead_ns=100 * MS, error_ns=600 * MS)


@pytest.mark.parametrize("date", ["", "yesterday", "Tue, 99 Nov 2023 22:13:20 GMT"])
def test_without_any_time_there_is_none(date: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode.clock_skew(NOW, NOW, wire.ExchangeStatus(), date)
