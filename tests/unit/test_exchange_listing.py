"""What is listed: names, asset ids, and which prices and sizes fit."""

from __future__ import annotations

from decimal import Decimal

import pytest

from zq_daemon.venue.exchange.listing import (
    LISTED,
    PAIRS,
    USDC,
    Listing,
    Perp,
    SpotPair,
    pairs_with,
    universe_with,
)

LISTING = Listing(LISTED, PAIRS)


def test_asset_ids_count_the_delisted_and_spot_begins_at_ten_thousand():
    ids = {coin: LISTING.asset_id(coin) for coin in LISTING.coins}
    assert ids == {
        "BTC": 0,
        "ETH": 1,
        "MATIC": 2,
        "SOL": 3,
        "kPEPE": 4,
        "PURR/USDC": 10_000,
        "@107": 10_107,
    }
    for coin, asset in ids.items():
        assert LISTING.find(asset) is LISTING.named(coin)
    assert LISTING.find(5) is None
    assert LISTING.named("btc") is None


def test_tokens_are_those_of_the_pairs():
    assert [token.name for token in LISTING.tokens] == ["USDC", "PURR", "HYPE"]
    assert Listing(LISTED).tokens == [USDC]


@pytest.mark.parametrize("pair", [PAIRS[0], SpotPair(name="BTC", base=USDC, index=1)])
def test_names_and_ids_are_unique(pair):
    with pytest.raises(ValueError, match="share"):
        Listing(LISTED, (*PAIRS, pair))


@pytest.mark.parametrize(
    ("price", "fits"),
    [
        ("0.20123", True),
        ("0.201234", False),
        ("0.00123456", False),
        ("0.00012345", True),
        ("0.000012345", False),
        ("1234567", True),
        ("12345.6", False),
        ("1234.5", True),
        ("12.300000000000", True),
    ],
)
def test_spot_prices_have_five_figures_and_eight_decimals_less_those_of_the_size(price, fits):
    assert PAIRS[0].price_fits(Decimal(price)) is fits


def test_numbers_too_long_for_a_context_are_not_rounded_into_fitting():
    perp = Perp(name="X", size_decimals=0)
    assert not perp.size_fits(Decimal("999999999999999999.000000000001"))
    assert not perp.price_fits(Decimal("999999999999999999.000000000001"))
    assert not perp.price_fits(Decimal("NaN"))


def test_captures_coins_become_perpetuals_or_pairs_by_the_way_they_are_written():
    seen = [("WIF", 2), ("@5", 1), ("@107", 2), ("JEFF/USDC", 0), ("BTC", 5), ("@", 0)]
    perps, pairs = universe_with(seen), pairs_with(seen)
    assert [perp.name for perp in perps[len(LISTED) :]] == ["WIF"]
    added = {pair.name: pair for pair in pairs[len(PAIRS) :]}
    assert set(added) == {"@5", "JEFF/USDC", "@"}
    assert added["@5"].index == 5
    assert (added["@5"].is_canonical, added["JEFF/USDC"].is_canonical) == (False, True)
    assert Listing(perps, pairs).find(10_005) is added["@5"]
