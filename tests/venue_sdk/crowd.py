"""Clients of the official SDK that trade at random beside whoever else is there, from threads.

Each has a wallet and a seed of its own: quotes, immediate orders, market orders, closes, cancels
and modifications in perpetuals and spot, some a second. What they are answered is counted.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import frozen
from hyperliquid.utils.types import Cloid

from tests.venue_sdk.sdk import PATIENCE_S, Trader

CLIENTS = range(20, 24)
GAMBLER, SELLERS = 30, (31, 32)
_MOST_PAUSE_S = 0.15
_STEPS = 10


@frozen
class Market:
    """What a client needs to know of one: the step of its prices, decimals, a small size."""

    step: float
    decimals: int
    size_decimals: int
    size: float


MARKETS: Mapping[str, Market] = {
    "BTC": Market(1, 1, 5, 0.004),
    "ETH": Market(0.1, 2, 4, 0.08),
    "@107": Market(0.001, 6, 2, 8),
}
_SPOT, _TOKEN = "@107", "HYPE"


class Client:
    """One participant; `said` counts the answers by what was asked and what was said."""

    def __init__(self, url: str, number: int, seed: int) -> None:
        self._trader = Trader(url, number)
        self._rng = random.Random(f"{seed} {number}")
        self._cloids = 0
        self.said: Counter[str] = Counter()

    def run(self, stop: threading.Event) -> None:
        """Act until *stop*, then leave no order behind."""
        acts = (self._quote, self._quote, self._quote, self._market, self._close, self._withdraw)
        try:
            while not stop.wait(self._rng.uniform(0, _MOST_PAUSE_S)):
                self._rng.choice((*acts, self._move))()
            while self._open_orders():
                self._withdraw()
        finally:
            self._trader.close()

    def _quote(self) -> None:
        coin = self._rng.choice(list(MARKETS))
        cloid = None
        if self._rng.randrange(2):
            self._cloids += 1
            cloid = Cloid.from_int(self._cloids)
        tif = self._rng.choice(("Gtc", "Gtc", "Ioc", "Alo"))
        reply = self._trader.sdk.order(
            coin, *self._terms(coin), {"limit": {"tif": tif}}, cloid=cloid
        )
        self._note(tif, reply)

    def _market(self) -> None:
        coin = self._rng.choice(list(MARKETS))
        is_buy, size, _ = self._terms(coin)
        self._note("market", self._trader.sdk.market_open(coin, is_buy, size))

    def _close(self) -> None:
        coin = self._rng.choice(list(MARKETS))
        if coin != _SPOT:
            reply = self._trader.sdk.market_close(coin)
            if reply is not None:
                self._note("close", reply)
            return
        balances = self._trader.info.spot_user_state(self._trader.address)["balances"]
        owned = sum(
            float(each["total"]) - float(each["hold"])
            for each in balances
            if each["coin"] == _TOKEN
        )
        if owned > 1:
            self._note("close", self._trader.sdk.market_open(coin, False, int(owned)))

    def _withdraw(self) -> None:
        orders = self._open_orders()
        if not orders:
            return
        order = self._rng.choice(orders)
        if order.get("cloid"):
            cloid = Cloid.from_str(order["cloid"])
            reply = self._trader.sdk.cancel_by_cloid(order["coin"], cloid)
        else:
            reply = self._trader.sdk.cancel(order["coin"], order["oid"])
        self._note("cancel", reply)

    def _move(self) -> None:
        orders = self._open_orders()
        if not orders:
            return
        order = self._rng.choice(orders)
        coin, is_buy = order["coin"], order["side"] == "B"
        _, size, price = self._terms(coin, is_buy)
        cloid = Cloid.from_str(order["cloid"]) if order.get("cloid") else None
        reply = self._trader.sdk.modify_order(
            cloid or order["oid"], coin, is_buy, size, price, {"limit": {"tif": "Gtc"}}, cloid=cloid
        )
        self._note("modify", reply)

    def _open_orders(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._trader.info.frontend_open_orders(self._trader.address)
        return found

    def _terms(self, coin: str, is_buy: bool | None = None) -> tuple[bool, float, float]:
        """A side, a size, and a price near the middle, mostly on the side where it rests."""
        market, rng = MARKETS[coin], self._rng
        side = rng.choice((True, False)) if is_buy is None else is_buy
        middle = float(self._trader.info.all_mids()[coin])
        away = market.step * (rng.randrange(_STEPS + 4) - 4)
        price = round(float(f"{middle + (-away if side else away):.5g}"), market.decimals)
        return side, round(market.size * (1 + rng.randrange(12)), market.size_decimals), price

    def _note(self, asked: str, reply: Any) -> None:
        for status in self._trader.statuses(reply):
            word = status if isinstance(status, str) else next(iter(status))
            self.said[f"{asked} {word}"] += 1


class Crowd:
    """All clients that run."""

    def __init__(self, url: str, seed: int) -> None:
        self.clients = [Client(url, number, seed) for number in CLIENTS]
        self.stop = threading.Event()
        self.ended = trio.Event()

    async def run(self) -> None:
        """Return when all have left."""
        async with trio.open_nursery() as nursery:
            for client in self.clients:
                nursery.start_soon(trio.to_thread.run_sync, client.run, self.stop)
        self.ended.set()

    async def leave(self) -> Counter[str]:
        """Have them stop and go; what all of them were told."""
        self.stop.set()
        await self.ended.wait()
        return sum((each.said for each in self.clients), Counter())


@asynccontextmanager
async def open_crowd(url: str, seed: int) -> AsyncIterator[Crowd]:
    """Clients that trade until they are told to leave, or the body ends."""
    crowd = await trio.to_thread.run_sync(Crowd, url, seed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crowd.run)
        try:
            yield crowd
        finally:
            crowd.stop.set()


def ruin(url: str) -> list[dict[str, Any]]:
    """One buys far too dear with all it has; its fills when the exchange has closed its position.

    Two others sell to it two percent above the market, so that what is left is below the
    maintenance margin as soon as makers are back.
    """
    return _with_traders(url, _ruin)


def _ruin(gambler: Trader, sellers: list[Trader]) -> list[dict[str, Any]]:
    for each in (gambler, *sellers):
        reply = each.sdk.update_leverage(40, "BTC")
        assert reply["status"] == "ok", reply
    dear = float(round(float(gambler.info.all_mids()["BTC"]) * 1.02))
    for each in sellers:
        each.rest("BTC", "sell", 28.0, dear)
    status = gambler.limit("BTC", "buy", 56.0, dear, tif="Ioc")
    assert "filled" in status, status
    deadline = time.monotonic() + PATIENCE_S
    while gambler.info.user_state(gambler.address)["assetPositions"]:
        assert time.monotonic() < deadline, "never liquidated"
    fills: list[dict[str, Any]] = gambler.info.user_fills(gambler.address)
    for each in sellers:
        for order in each.info.open_orders(each.address):
            each.sdk.cancel("BTC", order["oid"])
    return fills


def _with_traders(
    url: str, act: Callable[[Trader, list[Trader]], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    gambler, *sellers = (Trader(url, number) for number in (GAMBLER, *SELLERS))
    try:
        return act(gambler, sellers)
    finally:
        for each in (gambler, *sellers):
            each.close()


def give(url: str, number: int, amount: float, address: str) -> None:
    """The wallet of that number sends dollars of its contracts' wallet to *address*."""
    trader = Trader(url, number)
    try:
        reply = trader.sdk.usd_transfer(amount, address)
        assert reply["status"] == "ok", reply
    finally:
        trader.close()
