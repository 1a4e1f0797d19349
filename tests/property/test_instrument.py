"""Rounded prices are valid, on the right side, and the nearest there is."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_instrument import make
from zq_daemon.model.instrument import Instrument, PriceRounding

INSTRUMENTS = st.builds(make, st.integers(0, 8), st.sampled_from([None, 5, 3]), st.integers(0, 8))
PRICES = st.tuples(st.integers(1, 10**12), st.integers(0, 11)).map(
    lambda parts: Decimal(parts[0]).scaleb(-parts[1])
)


def is_valid_by_text(instrument: Instrument, price: Decimal) -> bool:
    """The venue's rule, read off the written number."""
    whole, _, decimals = f"{price:f}".partition(".")
    decimals = decimals.rstrip("0")
    figures = (whole + decimals).lstrip("0")
    if not decimals:
        return True
    limit = instrument.price_figures
    return len(decimals) <= instrument.price_decimals and (limit is None or len(figures) <= limit)


@settings(max_examples=100)
@given(instrument=INSTRUMENTS, price=PRICES)
def test_a_rounded_price_is_valid_and_on_its_side(instrument: Instrument, price: Decimal) -> None:
    down, up, nearest = (instrument.round_price(price, way) for way in PriceRounding)
    assert down <= price <= up
    assert nearest in (down, up)
    assert abs(nearest - price) == min(price - down, up - price)
    for rounded in (down, up, nearest):
        assert is_valid_by_text(instrument, rounded)
        assert not rounded or instrument.is_valid_price(rounded)
    if is_valid_by_text(instrument, price):
        assert down == up == price


@settings(max_examples=100)
@given(instrument=INSTRUMENTS, price=PRICES)
def test_validity_is_the_written_rule(instrument: Instrument, price: Decimal) -> None:
    assert instrument.is_valid_price(price) == is_valid_by_text(instrument, price)


@settings(max_examples=100)
@given(instrument=INSTRUMENTS, quantity=PRICES)
def test_a_cut_quantity_is_less_by_under_one_step(
    instrument: Instrument, quantity: Decimal
) -> None:
    cut = instrument.round_quantity(quantity)
    assert 0 <= quantity - cut < instrument.quantity_step
    assert instrument.is_valid_quantity(cut) == (cut > 0)
    assert instrument.is_valid_quantity(quantity) == (quantity == cut)
