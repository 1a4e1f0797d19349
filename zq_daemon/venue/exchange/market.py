"""A market out of nothing: seeded makers and takers around a random-walk fair value.

Owns the background orders of each listed asset. Everything goes through `core.matching`, so
users' orders meet the flow by price-time priority, and the same seed on the same clock makes the
same market. Prices are integers of ticks inside.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal

from attrs import define, frozen

from zq_daemon.core.matching import Execution, Incoming, MatchingBook
from zq_daemon.model.market import Side
from zq_daemon.ports.clock import NS_PER_MS
from zq_daemon.ports.rng import seeded_rng
from zq_daemon.venue.exchange.listing import LISTED, PAIRS, TRADED, Asset, Perp, SpotPair
from zq_daemon.venue.exchange.source import Desk

STEP_NS = 100 * NS_PER_MS
_CATCH_UP_STEPS = 50
_FINE = 64
"""The fair value moves in 1/64 of a tick."""
_DEEPEST = 24
_FIRST_ID = 1 << 48
"""Background order ids never meet the users'."""


@frozen(kw_only=True)
class Listing:
    """How one asset starts: its price, the tick it keeps, taker orders per thousand steps."""

    asset: Asset
    price: Decimal
    tick: Decimal
    takers: int


_ASSETS: tuple[Asset, ...] = (*TRADED, *PAIRS)

LISTINGS = tuple(
    Listing(asset=asset, price=Decimal(price), tick=Decimal(tick), takers=takers)
    for asset, (price, tick, takers) in zip(
        _ASSETS,
        (
            ("64000", "1", 200),
            ("3200", "0.1", 150),
            ("150", "0.01", 100),
            ("0.012", "0.000001", 50),
            ("0.2", "0.00001", 50),
            ("25", "0.001", 80),
        ),
        strict=True,
    )
)


class SyntheticMarket:
    """Assets whose prices wander within a quarter of where they started; a delisted one is idle."""

    def __init__(self, seed: int) -> None:
        self._rng = seeded_rng(seed)
        self._makers = [f"0x{self._rng.randbytes(20).hex()}" for _ in range(8)]
        self._takers = [f"0x{self._rng.randbytes(20).hex()}" for _ in range(16)]
        self._flows = {each.asset.name: _Flow(each) for each in LISTINGS}
        self._idle = {perp.name: MatchingBook() for perp in LISTED if perp.delisted}
        self._next_id = _FIRST_ID
        self._due_ns: int | None = 0

    @property
    def universe(self) -> Sequence[Perp]:
        """The perpetuals."""
        return LISTED

    @property
    def pairs(self) -> Sequence[SpotPair]:
        """The spot pairs."""
        return PAIRS

    @property
    def recorded(self) -> Collection[tuple[str, str]]:
        """Nothing is recorded."""
        return ()

    @property
    def is_lossless(self) -> bool:
        """A client that is too slow is cut off."""
        return False

    def matcher(self, coin: str) -> MatchingBook:
        """The book of *coin*."""
        return self._idle[coin] if coin in self._idle else self._flows[coin].book

    def oracle(self, coin: str) -> Decimal | None:
        """The fair value, in whole ticks; None of what is delisted."""
        flow = self._flows.get(coin)
        if flow is None:
            return None
        return flow.fair // _FINE * flow.listing.tick

    def listened(self, channel: str, coin: str, now_ns: int) -> Sequence[str]:
        """The market does not wait for listeners."""
        return ()

    def delay_ns(self, coins: Collection[str]) -> int:
        """Orders are here at once."""
        return 0

    def next_due_ns(self) -> int | None:
        """The next step of the flow."""
        return self._due_ns

    def advance(self, now_ns: int, desk: Desk) -> None:
        """Do all steps that are due, a bounded number; a clock far ahead skips the rest."""
        due = self._due_ns or now_ns
        for _ in range(min((now_ns - due) // STEP_NS + 1, _CATCH_UP_STEPS)):
            for flow in self._flows.values():
                self._step(flow, desk)
        self._due_ns = max(due + STEP_NS, now_ns - now_ns % STEP_NS + STEP_NS)

    def _step(self, flow: _Flow, desk: Desk) -> None:
        flow.forget_gone()
        self._walk(flow)
        self._withdraw(flow, desk)
        for side in (Side.BUY, Side.SELL):
            self._quote(flow, side, desk)
        if self._rng.randrange(1000) < flow.listing.takers:
            self._take(flow, desk)

    def _walk(self, flow: _Flow) -> None:
        """A uniform step with a drift that turns now and then, and always back into the band."""
        reach = max(flow.start * 35 // 1_000_000, 1)
        if not self._rng.randrange(200):
            flow.drift = self._rng.randint(-reach // 4, reach // 4)
        if abs(flow.fair - flow.start) * 4 > flow.start:
            flow.drift = reach // 4 + 1 if flow.fair < flow.start else -(reach // 4) - 1
        flow.fair += self._rng.randint(-reach, reach) + flow.drift

    def _withdraw(self, flow: _Flow, desk: Desk) -> None:
        """Makers leave prices the fair value has passed or left far behind, and some at random."""
        middle = flow.fair // _FINE
        for order_id, (side, ticks) in list(flow.resting.items()):
            distance = (middle - ticks) * side.sign
            if 0 < distance <= _DEEPEST and self._rng.randrange(200):
                continue
            del flow.resting[order_id]
            dropped = flow.book.cancel(order_id)
            if dropped is not None:
                desk.settle(flow.coin, dropped)

    def _quote(self, flow: _Flow, side: Side, desk: Desk) -> None:
        """Fill most gaps of the ladder, the nearest first: one order a level."""
        middle = flow.fair // _FINE
        taken = {ticks for its_side, ticks in flow.resting.values() if its_side is side}
        for distance in range(1, _DEEPEST + 1):
            ticks = middle - side.sign * distance
            if ticks in taken or not self._rng.randrange(8):
                continue
            lots = flow.unit * self._rng.randint(1, 4 + distance) + self._rng.randrange(flow.unit)
            owner = self._rng.choice(self._makers)
            self._send(flow, owner, side, ticks, lots, Execution.REST, desk)

    def _take(self, flow: _Flow, desk: Desk) -> None:
        side = self._rng.choice((Side.BUY, Side.SELL))
        ticks = flow.fair // _FINE + side.sign * self._rng.randint(3, 12)
        lots = flow.unit * self._rng.randint(1, 6) // 2 + self._rng.randrange(1, flow.unit + 1)
        owner = self._rng.choice(self._takers)
        self._send(flow, owner, side, ticks, lots, Execution.IMMEDIATE, desk)

    def _send(
        self,
        flow: _Flow,
        owner: str,
        side: Side,
        ticks: int,
        lots: int,
        execution: Execution,
        desk: Desk,
    ) -> None:
        self._next_id += 1
        order = Incoming(
            order_id=self._next_id,
            owner=owner,
            side=side,
            price=ticks * flow.listing.tick,
            quantity=lots * flow.lot,
            execution=execution,
        )
        for event in flow.book.execute(order):
            desk.settle(flow.coin, event)
        if execution is Execution.REST:
            flow.resting[order.order_id] = (side, ticks)


@define(init=False)
class _Flow:
    """One asset's book, fair value and background orders (id to side and ticks)."""

    listing: Listing
    coin: str
    book: MatchingBook
    lot: Decimal
    unit: int
    start: int
    fair: int
    drift: int
    resting: dict[int, tuple[Side, int]]

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.coin = listing.asset.name
        self.book = MatchingBook()
        self.lot = Decimal(1).scaleb(-listing.asset.size_decimals)
        # A unit of size is about 500 dollars.
        self.unit = max(int(500 / listing.price / self.lot), 1)
        self.start = self.fair = int(listing.price / listing.tick) * _FINE
        self.drift = 0
        self.resting = {}

    def forget_gone(self) -> None:
        """Drop the ids of orders that users have taken."""
        book = self.book
        self.resting = {
            order_id: place
            for order_id, place in self.resting.items()
            if book.left(order_id) is not None
        }
