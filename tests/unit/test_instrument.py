"""How prices and quantities are rounded and judged, and what an instrument id may be."""

from __future__ import annotations

from decimal import Decimal

import pytest

from zq_daemon.model.ids import (
    Venue,
    client_order_id,
    instrument_id,
    parse_instrument_id,
    symbol_of,
    venue_of,
)
from zq_daemon.model.instrument import Instrument, InstrumentKind, PriceRounding


def make(
    price_decimals: int = 6, figures: int | None = 5, quantity_decimals: int = 5
) -> Instrument:
    return Instrument(
        id=instrument_id("hyperliquid", "BTC"),
        venue=Venue("hyperliquid"),
        symbol="BTC",
        kind=InstrumentKind.PERPETUAL,
        base_currency="BTC",
        quote_currency="USDC",
        asset_id=0,
        price_decimals=price_decimals,
        price_figures=figures,
        quantity_decimals=quantity_decimals,
        min_notional=Decimal(10),
    )


@pytest.mark.parametrize(
    ("decimals", "price", "down", "up", "nearest"),
    [
        (6, "1.234567", "1.2345", "1.2346", "1.2346"),
        (6, "0.00123456", "0.001234", "0.001235", "0.001235"),
        (6, "12345.6", "12345", "12346", "12346"),
        (6, "123456.7", "123456", "123457", "123457"),
        (1, "105055.25", "105055", "105056", "105055"),
        (1, "1234.56", "1234.5", "1234.6", "1234.6"),
        (6, "99999.5", "99999", "100000", "100000"),
        (6, "9.99996", "9.9999", "10", "10"),
        (6, "0.0000001", "0", "0.000001", "0"),
        (6, "0", "0", "0", "0"),
        (0, "7.5", "7", "8", "8"),
        (6, "-1.234567", "-1.2346", "-1.2345", "-1.2346"),
    ],
)
def test_prices_are_rounded_by_figures_and_decimals(
    decimals: int, price: str, down: str, up: str, nearest: str
) -> None:
    instrument = make(decimals)
    rounded = [instrument.round_price(Decimal(price), way) for way in PriceRounding]
    assert rounded == [Decimal(down), Decimal(up), Decimal(nearest)]


def test_without_a_limit_of_figures_only_decimals_count() -> None:
    instrument = make(2, None)
    price = Decimal("123456.789")
    assert instrument.round_price(price, PriceRounding.DOWN) == Decimal("123456.78")
    assert instrument.price_step(price) == Decimal("0.01")


def test_the_price_step_follows_the_magnitude() -> None:
    instrument = make()
    steps = [instrument.price_step(Decimal(price)) for price in ("0.5", "5", "50", "50000")]
    assert steps == [Decimal("0.00001"), Decimal("0.0001"), Decimal("0.001"), Decimal(1)]


def test_quantities_are_cut_never_raised() -> None:
    instrument = make()
    assert instrument.quantity_step == Decimal("0.00001")
    assert instrument.round_quantity(Decimal("0.123459")) == Decimal("0.12345")
    assert instrument.round_quantity(Decimal("0.000009")) == 0
    assert make(quantity_decimals=0).round_quantity(Decimal("2.9")) == 2


def test_a_number_longer_than_the_default_context_is_rounded_all_the_same() -> None:
    long = Decimal("12345678901234567890123456789.123456789")
    assert make().round_quantity(long) == Decimal("12345678901234567890123456789.12345")
    assert make(6, None).round_price(long, PriceRounding.UP).as_tuple().exponent == -6


@pytest.mark.parametrize(
    ("price", "valid"),
    [
        ("1.2345", True),
        ("1.23456", False),
        ("123456", True),
        ("123456.5", False),
        ("1E+3", True),
        ("1.50000000000", True),
        ("0", False),
        ("-1", False),
        ("NaN", False),
        ("sNaN", False),
        ("Infinity", False),
        ("1E+999999", False),
        ("1E-999999", False),
    ],
)
def test_which_prices_are_valid(price: str, valid: bool) -> None:
    assert make().is_valid_price(Decimal(price)) is valid


@pytest.mark.parametrize(
    ("quantity", "valid"),
    [
        ("0.00001", True),
        ("3.0000000", True),
        ("0.000011", False),
        ("0", False),
        ("-0.5", False),
        ("NaN", False),
        ("-Infinity", False),
        ("1E+500", False),
    ],
)
def test_which_quantities_are_valid(quantity: str, valid: bool) -> None:
    assert make().is_valid_quantity(Decimal(quantity)) is valid


@pytest.mark.parametrize("symbol", ["BTC", "kPEPE", "@142", "PURR/USDC", "a.b", "x*"])
def test_an_instrument_id_names_venue_and_symbol(symbol: str) -> None:
    made = parse_instrument_id(f"hyperliquid.{symbol}")
    assert made == instrument_id("hyperliquid", symbol)
    assert (venue_of(made), symbol_of(made)) == ("hyperliquid", symbol)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("BTC", "expected '<venue>.<symbol>'"),
        ("Hyper.BTC", "venue 'Hyper'"),
        (".BTC", "venue ''"),
        ("hyperliquid.", "symbol ''"),
        ("hyperliquid.A B", "symbol 'A B'"),
        ("hyperliquid." + "A" * 65, "1 to 64"),
        ("hyperliquid.A\n", "printable"),
    ],
)
def test_a_malformed_instrument_id_says_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_instrument_id(text)
    assert problem in str(caught.value)


def test_a_client_order_id_is_32_hexadecimal_digits() -> None:
    assert client_order_id(1, 255) == "0x000000000000000100000000000000ff"


@pytest.mark.parametrize(("run", "counter"), [(-1, 0), (0, -1), (1 << 64, 0), (0, 1 << 64)])
def test_a_client_order_id_out_of_range_is_refused(run: int, counter: int) -> None:
    with pytest.raises(ValueError, match="64-bit"):
        client_order_id(run, counter)
