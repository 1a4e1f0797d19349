"""Books with fewer figures: which prices become one level, and what is asked for wrongly."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zq_daemon.model.market import BookLevel, Side
from zq_daemon.venue.exchange.depth import Rounding, rounded, rounding

PRICES = st.lists(st.integers(1, 2_000_000), unique=True, max_size=40)
HOWS = st.sampled_from(
    [Rounding(2), Rounding(3), Rounding(4), Rounding(5), Rounding(5, 2), Rounding(5, 5)]
)


def levels(side: Side, *prices: str) -> list[BookLevel]:
    best_first = sorted(map(Decimal, prices), reverse=side is Side.BUY)
    return [BookLevel(price, Decimal(1), 2) for price in best_first]


def test_bids_are_rounded_down_and_asks_up():
    bids = levels(Side.BUY, "64012", "64003", "63999.5")
    assert rounded(bids, Side.BUY, Rounding(4), 20) == [
        BookLevel(Decimal(64010), Decimal(1), 2),
        BookLevel(Decimal(64000), Decimal(1), 2),
        BookLevel(Decimal(63990), Decimal(1), 2),
    ]
    asks = levels(Side.SELL, "64012", "64019.9", "64020", "64021")
    assert rounded(asks, Side.SELL, Rounding(4), 20) == [
        BookLevel(Decimal(64020), Decimal(3), 6),
        BookLevel(Decimal(64030), Decimal(1), 2),
    ]
    assert rounded(asks, Side.SELL, Rounding(4), 1) == [BookLevel(Decimal(64020), Decimal(3), 6)]


def test_the_mantissa_steps_the_last_figure():
    asks = levels(Side.SELL, "64011", "64012", "64014", "64015")
    shown = [level.price for level in rounded(asks, Side.SELL, Rounding(5, 5), 20)]
    assert shown == [64015]
    shown = [level.price for level in rounded(asks, Side.SELL, Rounding(5, 2), 20)]
    assert shown == [64012, 64014, 64016]


@given(PRICES, HOWS, st.sampled_from(Side))
def test_nothing_is_lost_and_no_price_gets_better(prices, how, side):
    book = levels(side, *[str(Decimal(price) / 100) for price in prices])
    shown = rounded(book, side, how, 1_000)
    assert sum(level.orders for level in shown) == 2 * len(book)
    assert sum(level.quantity for level in shown) == len(book)
    prices_shown = [level.price for level in shown]
    assert prices_shown == sorted(set(prices_shown), reverse=side is Side.BUY)
    if book:
        assert (shown[0].price - book[0].price) * side.sign <= 0


@pytest.mark.parametrize(
    ("figures", "mantissa"),
    [
        (1, None),
        (6, None),
        ("5", None),
        (True, None),
        (4, 2),
        (5, 3),
        (5, True),
        (None, 2),
        (5.0, 1),
    ],
)
def test_other_options_than_the_documented_ones_are_refused(figures, mantissa):
    with pytest.raises(ValueError):
        rounding(figures, mantissa)


def test_no_option_means_no_rounding():
    assert rounding(None, None) is None
    assert rounding(5, 2) == Rounding(5, 2)
    assert rounding(3, None) == Rounding(3)
