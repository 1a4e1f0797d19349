"""Number rules over whole universes, against their definitions in plain words."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from zq_daemon.venue.exchange.listing import (
    USDC,
    Asset,
    Perp,
    SpotPair,
    Token,
    nearest_price,
    parse_number,
    wire,
)

perps = st.builds(
    lambda decimals: Perp(name="X", size_decimals=decimals), st.integers(min_value=0, max_value=6)
)
pairs = st.builds(
    lambda decimals: SpotPair(
        name="@1",
        index=1,
        base=Token(name="X", index=1, size_decimals=decimals, wei_decimals=8, token_id="0x0"),
    ),
    st.integers(min_value=0, max_value=8),
)
assets = st.one_of(perps, pairs)
numbers = st.builds(
    lambda digits, exponent: Decimal(digits).scaleb(exponent),
    st.integers(1, 10**9),
    st.integers(-12, 4),
)


def allowed(asset: Asset, price: Decimal) -> bool:
    """The documented rule, on the number's text."""
    whole, _, decimals = f"{price:f}".partition(".")
    decimals = decimals.rstrip("0")
    figures = (whole.lstrip("0") + decimals).lstrip("0")
    most = (6 if isinstance(asset, Perp) else 8) - asset.size_decimals
    return not decimals or (len(figures) <= 5 and len(decimals) <= most)


@given(assets, numbers)
def test_prices_that_fit_are_those_of_the_rule(asset, price):
    assert asset.price_fits(price) is allowed(asset, price)


@given(assets, numbers)
def test_sizes_that_fit_have_no_more_than_the_listed_decimals(asset, size):
    assert asset.size_fits(size) is (size % Decimal(1).scaleb(-asset.size_decimals) == 0)


@given(assets, numbers)
def test_nearest_price_fits_and_none_that_fits_is_nearer(asset, price):
    nearest = nearest_price(asset, price)
    assert asset.price_fits(nearest)
    assert nearest_price(asset, nearest) == nearest
    gap = abs(nearest - price)
    for figures in range(1, 8):
        step = Decimal(1).scaleb(price.adjusted() - figures + 1)
        other = price.quantize(step)
        assert not allowed(asset, other) or not other or abs(other - price) >= gap


@given(numbers)
def test_what_is_written_is_read_as_the_same_number(number):
    assert parse_number(wire(number)) == number


def test_dollars_are_the_quote_of_every_usual_pair():
    assert (USDC.index, USDC.wei_decimals) == (0, 8)
