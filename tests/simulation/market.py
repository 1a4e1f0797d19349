"""A cheap market for simulation: two perpetuals, a few levels, takers that reach users' orders.

One step in two seconds, so that ten minutes cost little; one seed makes one market.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from decimal import Decimal

from attrs import define, frozen

from zq_daemon.core.matching import Execution, Incoming, MatchingBook
from zq_daemon.model.market import Side
from zq_daemon.ports.clock import NS_PER_MS
from zq_daemon.venue.exchange.listing import TRADED
from zq_daemon.venue.exchange.source import Desk

STEP_NS = 2_000 * NS_PER_MS
_LEVELS = 3
_FIRST_ID = 1 << 48
_MAKER, _TAKER = f"0x{'aa' * 20}", f"0x{'bb' * 20}"


@frozen(kw_only=True)
class Asset:
    """One that is traded: where its price starts, its tick, the size of a level."""

    coin: str
    price: int
    tick: Decimal
    lot: Decimal


ASSETS = (
    Asset(coin="BTC", price=64_000, tick=Decimal(1), lot=Decimal("0.05")),
    Asset(coin="ETH", price=32_000, tick=Decimal("0.1"), lot=Decimal("0.8")),
)
"""Prices are in ticks."""


@define
class _Walk:
    middle: int
    resting: list[int]


class SimMarket:
    """A `MarketSource`; what is not among the assets is listed and never moves."""

    universe = TRADED
    pairs = ()
    recorded = ()
    is_lossless = False

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._books = {each.name: MatchingBook() for each in TRADED}
        self._walks = {each.coin: _Walk(each.price, []) for each in ASSETS}
        self._ticks = {each.coin: each.tick for each in ASSETS}
        self._next_id = _FIRST_ID
        self._due_ns = 0

    def matcher(self, coin: str) -> MatchingBook:
        return self._books[coin]

    def oracle(self, coin: str) -> Decimal | None:
        walk = self._walks.get(coin)
        return None if walk is None else walk.middle * self._ticks[coin]

    def listened(self, channel: str, coin: str, now_ns: int) -> Sequence[str]:
        return ()

    def delay_ns(self, coins: Collection[str]) -> int:
        return 0

    def next_due_ns(self) -> int | None:
        return self._due_ns

    def advance(self, now_ns: int, desk: Desk) -> None:
        for asset in ASSETS:
            self._step(asset, self._walks[asset.coin], desk)
        self._due_ns = now_ns + STEP_NS

    def _step(self, asset: Asset, walk: _Walk, desk: Desk) -> None:
        rng = self._rng
        for order_id in walk.resting:
            dropped = self._books[asset.coin].cancel(order_id)
            if dropped is not None:
                desk.settle(asset.coin, dropped)
        walk.resting.clear()
        home = (asset.price - walk.middle) // 200
        walk.middle += rng.randint(-4, 4) + home
        for side in (Side.BUY, Side.SELL):
            for level in range(1, _LEVELS + 1):
                self._send(asset, walk, side, walk.middle - side.sign * level, desk)
        if rng.random() < 0.7:
            side = rng.choice((Side.BUY, Side.SELL))
            reach = walk.middle + side.sign * rng.randint(1, 12)
            self._send(asset, walk, side, reach, desk, Execution.IMMEDIATE)

    def _send(
        self,
        asset: Asset,
        walk: _Walk,
        side: Side,
        ticks: int,
        desk: Desk,
        execution: Execution = Execution.REST,
    ) -> None:
        self._next_id += 1
        rests = execution is Execution.REST
        order = Incoming(
            order_id=self._next_id,
            owner=_MAKER if rests else _TAKER,
            side=side,
            price=ticks * asset.tick,
            quantity=asset.lot * self._rng.randint(1, 4),
            execution=execution,
        )
        for event in self._books[asset.coin].execute(order):
            desk.settle(asset.coin, event)
        if rests:
            walk.resting.append(order.order_id)
