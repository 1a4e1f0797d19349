"""What Hyperliquid lists, as instruments: perpetuals of `meta`, spot pairs of `spotMeta`.

Owns the venue's rules of precision. A price has at most 5 significant figures and at most 6
decimals (spot: 8) less those of the size; an integer is always valid. Names are the venue's own,
whatever they look like (`kPEPE`, `@142`, `PURR/USDC`). Pure; ValueError says what is impossible.
The adapter calls it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from zq_daemon.model.ids import InstrumentId, instrument_id
from zq_daemon.model.instrument import Instrument, InstrumentKind
from zq_daemon.venue.hyperliquid import wire
from zq_daemon.venue.hyperliquid.decode import QUOTE_CURRENCY, VENUE

PRICE_FIGURES = 5
PERPETUAL_DECIMALS = 6
SPOT_DECIMALS = 8
SPOT_ASSETS = 10_000
"""The asset id of a spot pair is this and its index."""
MIN_NOTIONAL = Decimal(10)
"""In quote currency, of perpetuals and spot alike."""


def perpetuals(meta: wire.PerpetualMeta) -> tuple[Instrument, ...]:
    """The perpetuals; an asset id is a place in the universe, in which delisted ones count."""
    return tuple(_perpetual(index, asset) for index, asset in enumerate(meta.universe))


def spot_pairs(meta: wire.SpotMeta) -> tuple[Instrument, ...]:
    """The spot pairs; their size has the decimals of the base token."""
    tokens = {token.index: token for token in meta.tokens}
    if len(tokens) != len(meta.tokens):
        raise ValueError("a token index is there twice")
    return tuple(_pair(pair, tokens) for pair in meta.universe)


def pairs_of_tokens(pairs: Sequence[Instrument]) -> Mapping[str, InstrumentId]:
    """For each base token the pair in which what is owned of it counts: the first in dollars."""
    found: dict[str, InstrumentId] = {}
    for pair in pairs:
        if pair.quote_currency == QUOTE_CURRENCY:
            found.setdefault(pair.base_currency, pair.id)
    return found


def _perpetual(index: int, asset: wire.Asset) -> Instrument:
    return Instrument(
        id=instrument_id(VENUE, asset.name),
        venue=VENUE,
        symbol=asset.name,
        kind=InstrumentKind.PERPETUAL,
        base_currency=asset.name,
        quote_currency=QUOTE_CURRENCY,
        asset_id=index,
        price_decimals=max(PERPETUAL_DECIMALS - asset.sz_decimals, 0),
        price_figures=PRICE_FIGURES,
        quantity_decimals=asset.sz_decimals,
        min_notional=MIN_NOTIONAL,
        max_leverage=asset.max_leverage,
        delisted=asset.is_delisted,
    )


def _pair(pair: wire.SpotPair, tokens: dict[int, wire.Token]) -> Instrument:
    try:
        base, quote = (tokens[index] for index in pair.tokens)
    except KeyError as error:
        raise ValueError(f"pair {pair.name!r}: there is no token {error}") from None
    return Instrument(
        id=instrument_id(VENUE, pair.name),
        venue=VENUE,
        symbol=pair.name,
        kind=InstrumentKind.SPOT,
        base_currency=base.name,
        quote_currency=quote.name,
        asset_id=SPOT_ASSETS + pair.index,
        price_decimals=max(SPOT_DECIMALS - base.sz_decimals, 0),
        price_figures=PRICE_FIGURES,
        quantity_decimals=base.sz_decimals,
        min_notional=MIN_NOTIONAL,
    )
