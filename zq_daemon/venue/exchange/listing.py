"""What the exchange lists, perpetuals and spot pairs, and how it writes and accepts numbers.

Owns the listing's rules (tick, lot), the asset ids and the decimal text of the wire. Never knows a
price. Called by the whole package.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal

from attrs import field, frozen

PRICE_FIGURES = 5
PERP_DECIMALS = 6
SPOT_DECIMALS = 8
SPOT_ASSETS = 10_000
"""The asset id of a spot pair is this plus its index."""
MIN_NOTIONAL = Decimal(10)
_NUMBER = re.compile(r"[0-9]{1,18}(\.[0-9]{1,12})?")


@frozen(kw_only=True)
class Perp:
    """One listed perpetual; its asset id is its place in the listing.

    *only_isolated* forbids cross margin; a *delisted* one keeps its place and takes no order.
    """

    name: str
    size_decimals: int
    max_leverage: int = 50
    only_isolated: bool = False
    delisted: bool = False

    def price_fits(self, price: Decimal) -> bool:
        """Whether *price* is an integer, or has few enough significant figures and decimals."""
        return _price_fits(price, PERP_DECIMALS - self.size_decimals)

    def size_fits(self, size: Decimal) -> bool:
        """Whether *size* has few enough decimals."""
        return _decimals_fit(size, self.size_decimals)


@frozen(kw_only=True)
class Token:
    """A spot token: sizes have *size_decimals*, balances *wei_decimals*."""

    name: str
    index: int
    size_decimals: int
    wei_decimals: int
    token_id: str


USDC = Token(
    name="USDC",
    index=0,
    size_decimals=8,
    wei_decimals=8,
    token_id="0x6d1e7cde53ba9467b783cb7c530ce054",
)


@frozen(kw_only=True)
class SpotPair:
    """One listed spot pair; *name* is the coin on the wire: `@` and the index, or `PURR/USDC`."""

    name: str
    base: Token
    index: int
    quote: Token = USDC
    delisted: bool = False

    @property
    def is_canonical(self) -> bool:
        """Whether it goes by its tokens' names."""
        return not self.name.startswith("@")

    @property
    def size_decimals(self) -> int:
        """Decimals of a size, those of the base token."""
        return self.base.size_decimals

    def price_fits(self, price: Decimal) -> bool:
        """Whether *price* is an integer, or has few enough significant figures and decimals."""
        return _price_fits(price, SPOT_DECIMALS - self.size_decimals)

    def size_fits(self, size: Decimal) -> bool:
        """Whether *size* has few enough decimals."""
        return _decimals_fit(size, self.size_decimals)


Asset = Perp | SpotPair


@frozen
class Listing:
    """All that is listed, by name and by asset id; ValueError when two have one name."""

    perps: Sequence[Perp]
    pairs: Sequence[SpotPair] = ()
    _by_name: dict[str, Asset] = field(init=False, repr=False, eq=False)
    _by_id: dict[int, Asset] = field(init=False, repr=False, eq=False)
    _ids: dict[str, int] = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        everything: tuple[Asset, ...] = (*self.perps, *self.pairs)
        ids = {perp.name: place for place, perp in enumerate(self.perps)}
        ids |= {pair.name: SPOT_ASSETS + pair.index for pair in self.pairs}
        by_name = {each.name: each for each in everything}
        by_id = {ids[name]: each for name, each in by_name.items()}
        if not len(by_id) == len(by_name) == len(everything):
            raise ValueError("two listed assets share a name or an id")
        object.__setattr__(self, "_by_name", by_name)
        object.__setattr__(self, "_by_id", by_id)
        object.__setattr__(self, "_ids", ids)

    @property
    def coins(self) -> list[str]:
        """The names of everything listed, delisted perpetuals included."""
        return list(self._ids)

    @property
    def tokens(self) -> list[Token]:
        """The tokens of all pairs, by index; USDC is always one."""
        known = {USDC.index: USDC}
        for pair in self.pairs:
            known |= {token.index: token for token in (pair.base, pair.quote)}
        return [known[index] for index in sorted(known)]

    def find(self, asset: int) -> Asset | None:
        """What has that asset id."""
        return self._by_id.get(asset)

    def named(self, coin: str) -> Asset | None:
        """What has that name."""
        return self._by_name.get(coin)

    def token(self, text: str) -> Token | None:
        """The token named *text*, or `NAME:tokenId` as transfers have it."""
        name, _, token_id = text.partition(":")
        found = (token for token in self.tokens if token.name == name)
        return next((each for each in found if token_id in ("", each.token_id)), None)

    def asset_id(self, coin: str) -> int:
        """The asset id of a listed coin; KeyError for another."""
        return self._ids[coin]


LISTED = (
    Perp(name="BTC", size_decimals=5, max_leverage=40),
    Perp(name="ETH", size_decimals=4, max_leverage=25),
    Perp(name="MATIC", size_decimals=1, max_leverage=20, delisted=True),
    Perp(name="SOL", size_decimals=2, max_leverage=20),
    Perp(name="kPEPE", size_decimals=0, max_leverage=10),
)
TRADED = tuple(perp for perp in LISTED if not perp.delisted)

PAIRS = (
    SpotPair(
        name="PURR/USDC",
        base=Token(
            name="PURR",
            index=1,
            size_decimals=0,
            wei_decimals=5,
            token_id="0xc1fb593aeffbeb02f85e0308e9956a90",
        ),
        index=0,
    ),
    SpotPair(
        name="@107",
        base=Token(
            name="HYPE",
            index=150,
            size_decimals=2,
            wei_decimals=8,
            token_id="0x0d01dc56dcaaca66ad901c959b4011ec",
        ),
        index=107,
    ),
)


def is_spot(coin: str) -> bool:
    """Whether *coin* names a spot pair, by the way it is written."""
    return coin.startswith("@") or "/" in coin


def universe_with(names: Sequence[tuple[str, int]]) -> tuple[Perp, ...]:
    """The usual perpetuals plus those of *names* (with their size decimals) that are not listed."""
    known = {perp.name for perp in LISTED}
    added = [
        Perp(name=name, size_decimals=size)
        for name, size in names
        if name not in known and not is_spot(name)
    ]
    return (*LISTED, *added)


def pairs_with(names: Sequence[tuple[str, int]]) -> tuple[SpotPair, ...]:
    """The usual pairs plus those of *names* that are not listed, with tokens made up for them."""
    known = {pair.name for pair in PAIRS}
    added = [(name, size) for name, size in names if is_spot(name) and name not in known]
    taken = {pair.index for pair in PAIRS} | {_index(name) for name, _ in added}
    free = iter([index for index in range(1, len(taken) + len(added) + 1) if index not in taken])
    made: list[SpotPair] = []
    for number, (name, size) in enumerate(added):
        index = _index(name)
        base = _made_up(name, size, number)
        made.append(SpotPair(name=name, base=base, index=next(free) if index is None else index))
    return (*PAIRS, *made)


def parse_number(text: str) -> Decimal | None:
    """An unsigned plain decimal as the wire has it; None for anything else (exponent, NaN)."""
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def wire_mismatch(text: str) -> bool:
    """Whether a number is written with superfluous zeros, which the venue hashes differently."""
    whole, _, decimals = text.partition(".")
    return decimals.endswith("0") or (len(whole) > 1 and whole.startswith("0"))


def wire(number: Decimal) -> str:
    """*number* as the venue writes it: plain, without trailing zeros, `40.0` for an integer."""
    text = f"{number.normalize():f}"
    if "." in text:
        return text
    return "0.0" if text == "-0" else f"{text}.0"


def nearest_price(asset: Asset, price: Decimal) -> Decimal:
    """The valid price nearest to *price* (> 0), half to even."""
    limit = SPOT_DECIMALS if isinstance(asset, SpotPair) else PERP_DECIMALS
    figures = PRICE_FIGURES - 1 - price.adjusted()
    decimals = max(min(figures, limit - asset.size_decimals), 0)
    return price.quantize(Decimal(1).scaleb(-decimals))


def total(numbers: Iterable[Decimal]) -> Decimal:
    """The exact sum of *numbers*; 0 of none."""
    return sum(numbers, Decimal(0))


def _price_fits(price: Decimal, decimals: int) -> bool:
    shape = _shape(price)
    if shape is None:
        return False
    figures, places = shape
    return not places or (figures <= PRICE_FIGURES and places <= decimals)


def _decimals_fit(number: Decimal, decimals: int) -> bool:
    shape = _shape(number)
    return shape is not None and shape[1] <= decimals


def _shape(number: Decimal) -> tuple[int, int] | None:
    """Significant figures and decimals, exactly (`normalize` would round what is long)."""
    _, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        return None
    zeros = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    return len(digits) - zeros, max(-exponent - zeros, 0)


def _index(name: str) -> int | None:
    digits = name.removeprefix("@")
    return int(digits) if name.startswith("@") and digits.isascii() and digits.isdigit() else None


def _made_up(name: str, size_decimals: int, number: int) -> Token:
    return Token(
        name=name.partition("/")[0].replace("@", "T"),
        index=1_000 + number,
        size_decimals=size_decimals,
        wei_decimals=8,
        token_id=f"0x{1_000 + number:032x}",
    )
