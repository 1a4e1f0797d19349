"""Whole universes against the venue's rules written once more, in integers.

The oracle knows no `Decimal` method and no exponent: a number is a count of units of 10^-20, and
what may be sent is a multiple of a power of ten found by counting digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zq_daemon.core.risk import Denial
from zq_daemon.engine.normalise import valid_terms
from zq_daemon.model.instrument import Instrument, InstrumentKind, PriceRounding
from zq_daemon.model.market import Side
from zq_daemon.venue.hyperliquid import wire
from zq_daemon.venue.hyperliquid.action import wire_number
from zq_daemon.venue.hyperliquid.instruments import perpetuals, spot_pairs

_PLACES = 20
_ONE = 10**_PLACES


def units(number: Decimal) -> int:
    """*number* in units of 10^-20, exactly."""
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    assert exponent >= -_PLACES
    whole = int("".join(map(str, digits))) * 10 ** (exponent + _PLACES)
    return -whole if sign else whole


def price_step(price: int, decimals: int) -> int:
    """The step of valid prices at *price*: by decimals, by 5 figures, never above an integer."""
    by_decimals = 10 ** (_PLACES - decimals)
    by_figures = 10 ** max(len(str(price)) - 5, 0)
    return min(max(by_decimals, by_figures), _ONE)


def decimals_of(instrument: Instrument) -> int:
    """How many decimals a price may have, by the documented rule."""
    most = {InstrumentKind.PERPETUAL: 6, InstrumentKind.SPOT: 8}[instrument.kind]
    return max(most - instrument.quantity_decimals, 0)


SIZE_DECIMALS = st.integers(0, 8)
PRICES = st.tuples(st.integers(1, 10**9), st.integers(-6, 9)).map(
    lambda parts: Decimal(parts[0]).scaleb(-4 - parts[1])
)
"""From 10^-13 to 10^11, with up to nine figures."""


@st.composite
def universes(draw: st.DrawFn) -> tuple[Instrument, ...]:
    """All that a venue lists: perpetuals and pairs, of every precision."""
    sizes = draw(st.lists(SIZE_DECIMALS, max_size=12))
    assets = [wire.Asset(f"P{place}", size) for place, size in enumerate(sizes)]
    tokens = draw(st.lists(SIZE_DECIMALS, min_size=2, max_size=8))
    numbers = draw(st.permutations(range(len(tokens))))
    listed = [
        wire.Token(name=f"T{number}", index=number, sz_decimals=size)
        for number, size in zip(numbers, tokens, strict=True)
    ]
    token = st.sampled_from(range(len(tokens)))
    legs = draw(st.lists(st.tuples(token, token), max_size=12))
    indices = draw(
        st.lists(st.integers(0, 900), min_size=len(legs), max_size=len(legs), unique=True)
    )
    pairs = [
        wire.SpotPair(f"@{index}", index, tokens=pair)
        for index, pair in zip(indices, legs, strict=True)
    ]
    return (
        *perpetuals(wire.PerpetualMeta(assets)),
        *spot_pairs(wire.SpotMeta(universe=pairs, tokens=listed)),
    )


@settings(max_examples=60)
@given(universe=universes())
def test_a_universe_is_numbered_and_precise_as_documented(universe: tuple[Instrument, ...]) -> None:
    assert len({each.id for each in universe}) == len({each.asset_id for each in universe})
    assert len({each.id for each in universe}) == len(universe)
    for place, each in enumerate(universe):
        if each.kind is InstrumentKind.PERPETUAL:
            assert (each.asset_id, each.symbol) == (place, f"P{place}")
        else:
            assert f"@{each.asset_id - 10_000}" == each.symbol
        assert each.price_decimals == decimals_of(each)


@settings(max_examples=150)
@given(universe=universes(), price=PRICES)
def test_prices_round_to_the_neighbouring_multiples_of_the_step(
    universe: tuple[Instrument, ...], price: Decimal
) -> None:
    asked = units(price)
    for each in universe:
        step = price_step(asked, decimals_of(each))
        below, above = asked // step * step, -(-asked // step) * step
        down, up, nearest = (each.round_price(price, way) for way in PriceRounding)
        assert (units(down), units(up)) == (below, above)
        assert abs(units(nearest) - asked) == min(asked - below, above - asked)
        assert each.is_valid_price(price) == (asked % step == 0)
        for rounded in {down, up, nearest} - {Decimal(0)}:
            assert each.is_valid_price(rounded)
            assert Decimal(wire_number(rounded)) == rounded


@settings(max_examples=150)
@given(universe=universes(), whole=st.integers(1, 10**12))
def test_every_integer_is_a_valid_price(universe: tuple[Instrument, ...], whole: int) -> None:
    for each in universe:
        assert each.is_valid_price(Decimal(whole))
        for way in PriceRounding:
            assert each.round_price(Decimal(whole), way) == whole


@settings(max_examples=150)
@given(universe=universes(), quantity=PRICES)
def test_quantities_are_cut_to_whole_lots(
    universe: tuple[Instrument, ...], quantity: Decimal
) -> None:
    asked = units(quantity)
    for each in universe:
        lot = 10 ** (_PLACES - each.quantity_decimals)
        cut = each.round_quantity(quantity)
        assert units(cut) == asked // lot * lot
        assert each.is_valid_quantity(quantity) == (asked % lot == 0)


@settings(max_examples=150)
@given(universe=universes(), price=PRICES, quantity=PRICES, side=st.sampled_from(Side))
def test_terms_are_passive_cut_and_judged_by_their_notional(
    universe: tuple[Instrument, ...], price: Decimal, quantity: Decimal, side: Side
) -> None:
    for each in universe:
        step = price_step(units(price), decimals_of(each))
        lot = 10 ** (_PLACES - each.quantity_decimals)
        worse = units(price) // step if side is Side.BUY else -(-units(price) // step)
        size = units(quantity) // lot * lot
        terms = valid_terms(each, side, price, quantity)
        if not (worse and size):
            assert isinstance(terms, Denial)
            continue
        assert not isinstance(terms, Denial)
        assert (units(terms[0]), units(terms[1])) == (worse * step, size)
        enough = worse * step * size >= 10 * _ONE * _ONE
        assert (terms[0] * terms[1] >= each.min_notional) == enough


def test_the_largest_order_that_is_too_small_and_the_smallest_that_is_not() -> None:
    for each in _every_precision():
        price = each.round_price(Decimal("3.7"), PriceRounding.UP)
        lots = -(-10 * _ONE * _ONE // (units(price) * (_ONE // 10**each.quantity_decimals)))
        enough = each.quantity_step * lots
        assert each.is_valid_quantity(enough)
        assert enough * price >= each.min_notional > (enough - each.quantity_step) * price


def test_prices_of_the_recorded_universe_round_as_documented(captures: Path) -> None:
    recorded = msgspec.json.decode((captures / "hyperliquid_rest" / "meta.json").read_bytes())
    text = msgspec.json.encode(recorded["response"])
    listed = perpetuals(wire.decoder(wire.PerpetualMeta).decode(text))
    assert len(listed) > 20
    for each in listed:
        for power in range(-9, 6):
            price = Decimal("1.23456789").scaleb(power)
            step = price_step(units(price), decimals_of(each))
            down = each.round_price(price, PriceRounding.DOWN)
            assert units(down) == units(price) // step * step


@pytest.mark.parametrize(
    ("kind", "size_decimals", "price", "valid"),
    [
        (InstrumentKind.PERPETUAL, 1, "1234.5", True),
        (InstrumentKind.PERPETUAL, 1, "1234.56", False),
        (InstrumentKind.PERPETUAL, 1, "0.001234", False),
        (InstrumentKind.PERPETUAL, 0, "0.001234", True),
        (InstrumentKind.PERPETUAL, 0, "0.0012345", False),
        (InstrumentKind.PERPETUAL, 1, "0.01234", True),
        (InstrumentKind.PERPETUAL, 1, "0.012345", False),
        (InstrumentKind.PERPETUAL, 1, "123456", True),
        (InstrumentKind.SPOT, 0, "0.0001234", True),
        (InstrumentKind.SPOT, 1, "0.0001234", True),
        (InstrumentKind.SPOT, 2, "0.0001234", False),
        (InstrumentKind.SPOT, 2, "0.000123", True),
        (InstrumentKind.SPOT, 8, "12345678", True),
        (InstrumentKind.SPOT, 8, "1234.5", False),
    ],
)
def test_the_documented_examples(
    kind: InstrumentKind, size_decimals: int, price: str, valid: bool
) -> None:
    (each,) = [
        found
        for found in _every_precision()
        if (found.kind, found.quantity_decimals) == (kind, size_decimals)
    ]
    assert each.is_valid_price(Decimal(price)) == valid


def _every_precision() -> Iterator[Instrument]:
    assets = [wire.Asset(f"P{size}", size) for size in range(9)]
    yield from perpetuals(wire.PerpetualMeta(assets))
    tokens = [wire.Token(name=f"T{size}", index=size, sz_decimals=size) for size in range(9)]
    pairs = [wire.SpotPair(f"@{size}", size, tokens=(size, 0)) for size in range(9)]
    yield from spot_pairs(wire.SpotMeta(universe=pairs, tokens=tokens))
