"""An hour of virtual time beside other participants: perpetuals and spot, maker and taker.

A whole daemon and random clients trade on one embedded exchange, over its real protocol in memory.
There is a funding in that hour, and one client is liquidated. At the end, orders, fills, positions,
balances and fees of the daemon are what the exchange's own queries say, to the last digit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import trio

from tests.harness.determinism import run_virtual
from tests.service.live_world import World, open_world
from zq_daemon.engine.client_order_ids import ClientOrderIds
from zq_daemon.model.command import CancelOrder, ModifyOrder, SubmitBracket, SubmitOrder
from zq_daemon.model.ids import InstrumentId, StrategyId
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderStatus, OrderType, TimeInForce
from zq_daemon.ports.rng import Rng, seeded_rng
from zq_daemon.venue.exchange.faults import Faults
from zq_daemon.venue.hyperliquid.action import wire_number
from zq_daemon.venue.hyperliquid.sign import AgentKey

STREAMS = ("orderUpdates", "userFills", "userEvents", "userFundings")
BTC, HYPE = InstrumentId("hyperliquid.BTC"), InstrumentId("hyperliquid.@107")
ASSETS: Mapping[InstrumentId, int] = {BTC: 0, HYPE: 10_107}
STEPS = {BTC: Decimal(5), HYPE: Decimal("0.01")}
SIZES = {BTC: Decimal("0.002"), HYPE: Decimal(4)}
CLIENTS, GAMBLER = range(20, 26), 30
HOUR_S = 3_600

D = Decimal


class Crowd:
    """Clients that quote around a price that wanders, and trade with each other and with us."""

    def __init__(self, world: World, rng: Rng) -> None:
        self._world = world
        self._rng = rng
        self.middle = {BTC: D(50_000), HYPE: D(25)}
        self.said: Counter[str] = Counter()
        for number in (*CLIENTS, GAMBLER):
            account = world.venue.exchange.open_account(_address(number), D(1_000_000))
            account.credit("HYPE", D(100_000))

    async def run(self, seconds: int) -> None:
        for _ in range(seconds):
            for instrument in (BTC, HYPE):
                self._act(instrument)
            if not self._rng.randrange(10):
                self._withdraw(self._rng.choice(list(CLIENTS)))
            await trio.sleep(1)

    async def ruin(self) -> None:
        """One bets all on a rise, and the price falls until nothing is left of it."""
        for number in CLIENTS:
            self._order(number, BTC, Side.SELL, self.middle[BTC], D(65), "Gtc")
        self._order(GAMBLER, BTC, Side.BUY, self.middle[BTC], D(380), "Ioc")
        for _ in range(8):
            self.middle[BTC] = (self.middle[BTC] * D("0.994")).quantize(D(10))
            for number in CLIENTS:
                self._withdraw(number)
            await self.run(15)

    def _act(self, instrument: InstrumentId) -> None:
        rng, step = self._rng, STEPS[instrument]
        self.middle[instrument] += step * (rng.randrange(5) - 2)
        side = rng.choice((Side.BUY, Side.SELL))
        price = self.middle[instrument] - side.sign * step * (rng.randrange(15) - 3)
        size = SIZES[instrument] * (1 + rng.randrange(20))
        tif = rng.choice(("Gtc", "Gtc", "Gtc", "Ioc", "Alo"))
        self._order(rng.choice(list(CLIENTS)), instrument, side, price, size, tif)

    def _order(
        self, number: int, iid: InstrumentId, side: Side, price: Decimal, size: Decimal, tif: str
    ) -> None:
        order = {
            "a": ASSETS[iid],
            "b": side is Side.BUY,
            "p": wire_number(price),
            "s": wire_number(size),
            "r": False,
            "t": {"limit": {"tif": tif}},
        }
        action = {"type": "order", "orders": [order], "grouping": "na"}
        (status,) = self._world.act(number, action)
        self.said[next(iter(status))] += 1

    def _withdraw(self, number: int) -> None:
        user = _address(number)
        resting = self._world.venue.exchange.info({"type": "openOrders", "user": user})
        assets = {iid.partition(".")[2]: asset for iid, asset in ASSETS.items()}
        cancels = [{"a": assets[each["coin"]], "o": each["oid"]} for each in resting]
        if cancels:
            self._world.act(number, {"type": "cancel", "cancels": cancels})


class Hand:
    """Asks the daemon for orders of all kinds, cancels and modifies them."""

    def __init__(self, world: World, crowd: Crowd, rng: Rng) -> None:
        self._bus = world.daemon.parts.bus
        self._cache = world.daemon.parts.cache
        self._account = world.daemon.parts.accounts[0]
        self._crowd = crowd
        self._rng = rng
        self._mint = ClientOrderIds(77)

    async def run(self, seconds: int) -> None:
        until = trio.current_time() + seconds
        while trio.current_time() < until:
            self._rng.choice((self._limit, self._limit, self._taker, self._change, self._trigger))()
            await trio.sleep(1 + self._rng.randrange(3))

    def rest(self) -> None:
        """Leave nothing that could still trade or trigger but what rests far away."""
        for order in list(self._cache.orders_live()):
            self._bus.send("order.cancel", CancelOrder(client_order_id=order.client_order_id))
        self._submit(self._order(BTC, Side.BUY, price=D(40_000), quantity=D("0.001")))
        self._submit(self._order(HYPE, Side.BUY, price=D(20), quantity=D(1)))

    def _limit(self) -> None:
        instrument, side = self._rng.choice((BTC, HYPE)), self._rng.choice((Side.BUY, Side.SELL))
        away = STEPS[instrument] * (self._rng.randrange(10) - 2)
        price = self._crowd.middle[instrument] - side.sign * away
        post_only = not self._rng.randrange(3)
        self._submit(self._order(instrument, side, price=price, post_only=post_only))

    def _taker(self) -> None:
        instrument, side = self._rng.choice((BTC, HYPE)), self._rng.choice((Side.BUY, Side.SELL))
        terms = {"order_type": OrderType.MARKET, "time_in_force": TimeInForce.IOC}
        self._submit(self._order(instrument, side, **terms))

    def _trigger(self) -> None:
        side, away = self._rng.choice((Side.BUY, Side.SELL)), 20 + self._rng.randrange(60)
        entry = self._order(BTC, side, price=self._crowd.middle[BTC] - side.sign * 20)
        exits = {
            "reduce_only": True,
            "parent_id": entry.client_order_id,
            "quantity": entry.quantity,
        }
        profit, loss = (
            self._order(
                BTC, side.opposite, order_type=kind, trigger_price=entry.price + distance, **exits
            )
            for kind, distance in (
                (OrderType.TAKE_PROFIT_MARKET, side.sign * away),
                (OrderType.STOP_MARKET, -side.sign * away),
            )
            if entry.price is not None
        )
        self._bus.send("order.submit_bracket", SubmitBracket(entry=entry, exits=(profit, loss)))

    def _change(self) -> None:
        resting = [each for each in self._cache.orders_open() if each.pending is None]
        if not resting:
            return
        order = self._rng.choice(resting)
        if self._rng.randrange(2) or order.price is None:
            command: Any = CancelOrder(client_order_id=order.client_order_id)
            self._bus.send("order.cancel", command)
        else:
            price = order.price - order.side.sign * STEPS[order.instrument_id]
            command = ModifyOrder(client_order_id=order.client_order_id, price=price)
            self._bus.send("order.modify", command)

    def _submit(self, order: Order) -> None:
        self._bus.send("order.submit", SubmitOrder(order=order))

    def _order(self, instrument: InstrumentId, side: Side, **terms: Any) -> Order:
        quantity = SIZES[instrument] * (1 + self._rng.randrange(5))
        return Order(
            **{
                "client_order_id": self._mint(),
                "strategy_id": StrategyId("hand"),
                "account_id": self._account,
                "instrument_id": instrument,
                "side": side,
                "order_type": OrderType.LIMIT,
                "quantity": quantity,
            }
            | terms
        )


def _address(number: int) -> str:
    return AgentKey(number.to_bytes(32, "big")).address


async def _an_hour(folder: Path) -> None:
    async with open_world(folder, streams=STREAMS) as world:
        rng = seeded_rng(11)
        crowd = Crowd(world, rng)
        await crowd.run(10)
        hand = Hand(world, crowd, rng)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hand.run, HOUR_S - 200)
            await crowd.run(HOUR_S - 400)
            await crowd.ruin()
            await crowd.run(80)
        hand.rest()
        await trio.sleep(180)
        world.assert_agreement()
        world.assert_same_money()
        _check_there_was_something_to_agree_on(world, crowd)


async def _a_lossy_quarter(folder: Path) -> None:
    async with open_world(folder, streams=STREAMS) as world:
        rng = seeded_rng(2)
        crowd = Crowd(world, rng)
        await crowd.run(10)
        hand = Hand(world, crowd, rng)
        world.venue.exchange.faults = Faults(drop_private_share=D("0.5"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hand.run, 900)
            await crowd.run(920)
        world.venue.exchange.faults = Faults()
        hand.rest()
        await trio.sleep(180)
        world.assert_agreement()
        world.assert_same_money()
        told = world.daemon.parts.execution.stats()
        assert told["queries"] > 20
        assert told["position_differences"] == {}


def _check_there_was_something_to_agree_on(world: World, crowd: Crowd) -> None:
    parts = world.daemon.parts
    fills = [event.fill for event in world.fills]
    assert {fill.instrument_id for fill in fills} == {BTC, HYPE}
    assert len({(fill.instrument_id, fill.liquidity, fill.side) for fill in fills}) == 8
    assert {"USDC", "HYPE"} <= {fill.fee_currency for fill in fills}
    ends = Counter(order.status for order in parts.cache.orders_closed())
    assert min(ends[OrderStatus.FILLED], ends[OrderStatus.CANCELED]) > 100
    triggered = [each for each in parts.cache.orders_closed() if each.trigger_price is not None]
    assert Counter(order.status for order in triggered)[OrderStatus.FILLED] > 10
    paid = world.info("userFunding", startTime=0)
    position = parts.portfolio.position(parts.accounts[0], BTC)
    assert position.funding == sum(D(each["delta"]["usdc"]) for each in paid)
    assert paid
    ruined = world.venue.exchange.info({"type": "userFills", "user": _address(GAMBLER)})
    assert any("liquidation" in each for each in ruined)
    assert crowd.said["filled"] > 500
    assert parts.execution.stats()["position_differences"] == {}
    assert world.daemon.status()["bad_messages"]["count"] == 0


def test_an_hour_beside_others_in_perpetuals_and_spot(tmp_path: Path) -> None:
    run_virtual(5, _an_hour, tmp_path)


def test_a_private_stream_that_loses_half_of_what_it_tells_loses_nothing(tmp_path: Path) -> None:
    """The link stays up: what is missing is noticed and asked for."""
    run_virtual(5, _a_lossy_quarter, tmp_path)
