"""An embedded exchange that follows another one over a network in memory: paper trading whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
import trio
import trio.testing
import trio_websocket

from tests.harness.memory_network import MemoryNetwork
from tests.service.exchange_rig import Client
from tests.unit.exchange_rig import Listener, Rig, StillMarket, wire_order
from zq_daemon.config.schema import ExchangeConfig
from zq_daemon.embedded import EmbeddedExchange, open_embedded
from zq_daemon.errors import ConfigError, DecodeError, LinkError
from zq_daemon.ports.clock import VirtualClock
from zq_daemon.ports.rng import seeded_rng
from zq_daemon.venue.exchange.faults import Faults
from zq_daemon.venue.exchange.market import SyntheticMarket
from zq_daemon.venue.exchange.server import run_market, serve_exchange

pytestmark = pytest.mark.virtual

VENUE, PAPER = ("venue", 80), ("paper", 81)


class World:
    """A venue whose book is what its users put there, and an exchange that follows it."""

    def __init__(self, market: Any = None) -> None:
        self.clock = VirtualClock()
        self.network = MemoryNetwork()
        self.venue = Rig(market or StillMarket(), self.clock)
        self.nursery: trio.Nursery

    async def serve_venue(self) -> None:
        listeners = await self.network.listen(*VENUE)
        await self.nursery.start(serve_exchange, listeners, self.venue.exchange)
        await self.nursery.start(run_market, self.venue.exchange, self.clock)

    async def follow(self, **settings: Any) -> EmbeddedExchange:
        config = ExchangeConfig(
            host=PAPER[0],
            port=PAPER[1],
            follow="http://venue",
            **{"order_latency_ms": 0} | settings,
        )
        paper = await open_embedded(
            config, clock=self.clock, network=self.network, rng=seeded_rng(5)
        )
        await self.nursery.start(paper.run)
        return paper

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """Somebody who is connected to the exchange that follows."""
        stream = await self.network.connect(*PAPER, tls=False)
        async with trio.open_nursery() as nursery:
            websocket = await trio_websocket.wrap_client_stream(nursery, stream, "paper", "/ws")
            await websocket.get_message()
            yield Client(websocket)
            await websocket.aclose()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def a_world(market: Any = None) -> AsyncIterator[World]:
    world = World(market)
    async with trio.open_nursery() as nursery:
        world.nursery = nursery
        await world.serve_venue()
        yield world
        nursery.cancel_scope.cancel()


class Trader:
    """Alice on paper: each request goes over a connection of its own."""

    def __init__(self, world: World, paper: EmbeddedExchange) -> None:
        self._world = world
        rig = world.venue
        self._rig = rig
        self.exchange = paper.exchange
        self._listener = Listener(paper.exchange)
        for kind, key in (("userFills", "user"), ("l2Book", "coin")):
            value = rig.alice.address if key == "user" else "BTC"
            paper.exchange.subscribe(self._listener.connection, {"type": kind, key: value})

    async def place(self, side: str, price: str, size: str, **terms: Any) -> Any:
        """An order's status, once it is answered."""
        orders = [wire_order(side, price, size, **terms)]
        action = {"type": "order", "orders": orders, "grouping": "na"}
        nonce = self._world.clock.now_ns() // 1_000_000
        async with self._world.client() as client:
            request = self._rig.envelope(self._rig.alice, action, nonce=nonce)
            answer = await client.post(1, "action", request)
        await trio.sleep(0.001)  # the next nonce
        return answer["payload"]["response"]["data"]["statuses"][0]

    async def filled(self) -> list[tuple[str, str, bool]]:
        """The fills she has been told of since last asked, once all has settled."""
        await trio.testing.wait_all_tasks_blocked()
        return [
            (fill["px"], fill["sz"], fill["crossed"])
            for told in self._listener.heard("userFills")
            if not told.get("isSnapshot")
            for fill in told["fills"]
        ]


async def trading(world: World, **settings: Any) -> Trader:
    """Alice, when the book of BTC has come."""
    trader = Trader(world, await world.follow(**settings))
    await trio.sleep(1)
    return trader


async def test_orders_meet_the_followed_book_and_trades_and_the_venue_never_hears_of_them():
    async with a_world() as world:
        venue = world.venue
        venue.rest(venue.bob, "buy", "50000", "0.02")
        venue.rest(venue.carol, "sell", "50010", "0.01")
        alice = await trading(world)
        bought = await alice.place("buy", "50020", "0.03", tif="Ioc")
        assert bought["filled"]["totalSz"] == "0.01"
        assert await alice.filled() == [("50010.0", "0.01", True)]
        assert "resting" in await alice.place("buy", "50000", "0.01")
        venue.place(venue.carol, "sell", "50000", "0.02")
        await trio.sleep(0.1)
        venue.rest(venue.bob, "buy", "50000", "0.03")
        venue.place(venue.carol, "sell", "50000", "0.005")
        assert await alice.filled() == [("50000.0", "0.005", False)]
        state = alice.exchange.info({"type": "clearinghouseState", "user": venue.alice.address})
        assert state["assetPositions"][0]["position"]["szi"] == "0.015"
        assert venue.info("userFills", user=venue.alice.address) == []
        assert venue.info("openOrders", user=venue.alice.address) == []


async def test_the_listing_is_the_venues_and_data_passes_unchanged():
    async with a_world() as world:
        venue = world.venue
        venue.rest(venue.bob, "buy", "50000", "0.02")
        paper = await world.follow()
        for query in ("meta", "spotMeta"):
            assert paper.exchange.info({"type": query}) == venue.info(query)
        async with world.client() as client:
            await client.subscribe("bbo", coin="BTC")
            await client.subscribe("trades", coin="BTC")
            told = await client.next("bbo")
            assert told["bbo"] == [{"px": "50000.0", "sz": "0.02", "n": 1}, None]
            venue.place(venue.carol, "sell", "50000", "0.005")
            (trade,) = await client.next("trades")
            assert trade["users"] == [venue.bob.address, venue.carol.address]
            (fill,) = venue.info("userFills", user=venue.bob.address)
            assert (trade["tid"], trade["hash"]) == (fill["tid"], fill["hash"])


async def test_an_order_takes_its_time_to_the_market():
    async with a_world() as world:
        venue = world.venue
        venue.rest(venue.bob, "sell", "50000", "0.02")
        alice = await trading(world, order_latency_ms=2_000)
        started = trio.current_time()
        world.nursery.start_soon(_vanish, venue)
        status = await alice.place("buy", "50000", "0.01", tif="Ioc")
        assert trio.current_time() - started == pytest.approx(2, abs=0.1)
        assert "error" in status, "it came too late"


async def _vanish(venue: Rig) -> None:
    await trio.sleep(1)
    (order,) = venue.info("openOrders", user=venue.bob.address)
    venue.cancel(venue.bob, order["oid"])


async def test_the_first_order_in_a_coin_nobody_listens_to_finds_its_book():
    async with a_world() as world:
        venue = world.venue
        venue.rest(venue.bob, "sell", "3000", "0.2", asset=1)
        alice = await trading(world)
        status = await alice.place("buy", "3000", "0.1", asset=1, tif="Ioc")
        assert status["filled"]["totalSz"] == "0.1"


async def test_while_the_venue_is_away_orders_rest_and_it_is_followed_again():
    async with a_world() as world:
        venue = world.venue
        venue.rest(venue.bob, "buy", "50000", "0.02")
        venue.rest(venue.carol, "sell", "50010", "0.02")
        alice = await trading(world)
        assert "resting" in await alice.place("buy", "50001", "0.01")
        await world.network.partition(*VENUE)
        await trio.sleep(1)
        refused = await alice.place("buy", "50010", "0.01", tif="Ioc")
        assert "could not immediately match" in refused["error"]
        assert "resting" in await alice.place("sell", "50020", "0.01")
        await trio.sleep(600)
        world.network.heal(*VENUE)
        await trio.sleep(61)
        venue.place(venue.carol, "sell", "50000", "0.005")
        assert await alice.filled() == [("50001.0", "0.005", False)]
        bought = await alice.place("buy", "50010", "0.01", tif="Ioc")
        assert bought["filled"]["totalSz"] == "0.01"


@pytest.mark.parametrize(
    "faults",
    [Faults(mute=True), Faults(close_code=1012), Faults(deaf=True)],
    ids=["mute", "closed", "deaf"],
)
async def test_a_venue_that_goes_wrong_is_followed_again(faults):
    async with a_world() as world:
        venue = world.venue
        venue.rest(venue.bob, "buy", "50000", "0.02")
        alice = await trading(world)
        connects = world.network.connects
        venue.exchange.faults = faults
        await trio.sleep(60)
        venue.exchange.faults = Faults()
        await trio.sleep(61)
        assert world.network.connects > connects
        sold = await alice.place("sell", "50000", "0.01", tif="Ioc")
        assert sold["filled"]["totalSz"] == "0.01"


async def test_a_loss_counts_at_once_and_after_a_healthy_spell_the_next_attempt_comes_soon():
    async with a_world() as world:
        venue = world.venue
        venue.rest(venue.bob, "buy", "50000", "0.02")
        alice = await trading(world)
        for away_s in (600, 0):
            await world.network.partition(*VENUE)
            await trio.testing.wait_all_tasks_blocked()
            assert "error" in await alice.place("sell", "50000", "0.01", tif="Ioc")
            await trio.sleep(away_s)
            world.network.heal(*VENUE)
            if away_s:
                await trio.sleep(130)
        await trio.sleep(1.6)
        sold = await alice.place("sell", "50000", "0.01", tif="Ioc")
        assert sold["filled"]["totalSz"] == "0.01"


async def test_a_book_that_freezes_is_not_traded_on_though_pongs_come():
    async with a_world() as world:
        venue = world.venue
        venue.rest(venue.bob, "buy", "50000", "0.02")
        alice = await trading(world)
        venue.exchange.faults = Faults(freeze_data=True)
        await trio.sleep(5)
        assert "filled" in await alice.place("sell", "50000", "0.01", tif="Ioc")
        await trio.sleep(6)
        assert "error" in await alice.place("sell", "50000", "0.01", tif="Ioc")


async def test_the_exchange_can_be_stopped_while_it_follows():
    async with a_world() as world:
        paper = await world.follow()
        async with world.client():
            await trio.sleep(1)
            assert len(world.venue.exchange.connections) == 1
            paper.stop()
        await trio.testing.wait_all_tasks_blocked()
        assert not world.venue.exchange.connections


META: Mapping[str, Any] = {"universe": [{"name": "BTC", "szDecimals": 5, "maxLeverage": 40}]}
PAIR = {"name": "@1", "index": 1, "tokens": [1, 0]}
SPOT: Mapping[str, Any] = {"tokens": [], "universe": []}


@pytest.mark.parametrize(
    ("told", "error", "says"),
    [
        ({"meta": None}, LinkError, "answers meta with HTTP 500"),
        ({"meta": {"universe": [{"name": "BTC"}]}}, DecodeError, "meta: .*szDecimals"),
        ({"meta": {"universe": META["universe"] * 2}}, DecodeError, "impossible"),
        (
            {
                "spotMeta": {
                    "tokens": [],
                    "universe": [{"name": "@1", "index": 1, "tokens": [1, 0]}],
                }
            },
            DecodeError,
            "impossible: 1",
        ),
    ],
)
async def test_a_listing_that_cannot_be_used_is_told(told, error, says, monkeypatch):
    async with a_world() as world:
        answers = {"meta": META, "spotMeta": SPOT} | told

        def info(request: Any, *_: Any) -> Any:
            answer = answers[request["type"]]
            if answer is None:
                world.venue.exchange.faults = Faults()
            return answer

        if told == {"meta": None}:
            world.venue.exchange.faults = Faults(http_error=500, http_error_count=1)
        monkeypatch.setattr(world.venue.exchange, "info", info)
        with pytest.raises(error, match=says):
            await world.follow()


async def test_a_venue_that_is_not_there_and_a_url_that_is_none_are_told():
    world = World()
    with pytest.raises(LinkError, match="cannot connect to venue:80"):
        await world.follow()
    config = ExchangeConfig(follow="ftp://venue", account_balance=Decimal(1))
    with pytest.raises(ConfigError, match=r"cannot follow 'ftp://venue': .*http://host"):
        await open_embedded(config, clock=world.clock, network=world.network, rng=seeded_rng(5))


class Wild:
    """Alice sends whatever comes to a seeded mind, and what she hears is kept."""

    def __init__(self, world: World, paper: EmbeddedExchange, coin: str, asset: int) -> None:
        self._rng = seeded_rng(11)
        self._rig = world.venue
        self._paper = paper.exchange
        self.coin, self._asset = coin, asset
        self._listener = Listener(paper.exchange)
        for subscription in (
            {"type": "userFills", "user": self._rig.alice.address},
            {"type": "trades", "coin": coin},
            {"type": "l2Book", "coin": coin},
        ):
            paper.exchange.subscribe(self._listener.connection, subscription)
        self.orders: dict[str, dict[str, Any]] = {}
        self.fills: list[dict[str, Any]] = []
        self.traded = Decimal(0)

    async def rage(self, rounds: int, *, price: float, step: float, size: float) -> None:
        for number in range(rounds):
            await trio.sleep(self._rng.random())
            middle = float(self._paper.publisher.mids().get(self.coin, price))
            figures = f"{middle + self._rng.randint(-4, 4) * step:.5g}"
            order = wire_order(
                self._rng.choice(["buy", "sell"]),
                f"{Decimal(figures).normalize():f}",
                f"{Decimal(str(self._rng.randint(1, 9) * size)).normalize():f}",
                asset=self._asset,
                tif=self._rng.choice(["Gtc", "Gtc", "Ioc", "Alo"]),
                cloid=number + 1,
            )
            self.orders[order["c"]] = order
            self._send({"type": "order", "orders": [order], "grouping": "na"})
            if self._rng.random() < 0.3:
                cloid = self._rng.choice(list(self.orders))
                cancels = [{"asset": self._asset, "cloid": cloid}]
                self._send({"type": "cancelByCloid", "cancels": cancels})
            self.hear()

    def hear(self) -> None:
        for message in self._listener.heard():
            if message["channel"] == "userFills" and not message["data"].get("isSnapshot"):
                self.fills += message["data"]["fills"]
            elif message["channel"] == "trades":
                self.traded += sum(Decimal(trade["sz"]) for trade in message["data"])

    def _send(self, action: dict[str, Any]) -> None:
        answers: list[Any] = []
        self._paper.post_action(self._rig.envelope(self._rig.alice, action), answers.append)


@pytest.mark.parametrize("queue", ["front", "back", "proportional"])
async def test_whatever_is_sent_fills_keep_to_their_orders(queue):
    async with a_world(SyntheticMarket(5)) as world:
        paper = await world.follow(queue=queue, order_latency_ms=40)
        wild = Wild(world, paper, "SOL", 3)
        await trio.sleep(2)
        await wild.rage(250, price=150, step=0.01, size=0.3)
        await trio.sleep(1)
        wild.hear()
        exchange, alice = paper.exchange, world.venue.alice.address
        live = exchange.info({"type": "openOrders", "user": alice})
        position = exchange.info({"type": "clearinghouseState", "user": alice})["assetPositions"]
    done: dict[str, Decimal] = {}
    for fill in wild.fills:
        order = wild.orders[fill["cloid"]]
        done[fill["cloid"]] = done.get(fill["cloid"], Decimal(0)) + Decimal(fill["sz"])
        better = (Decimal(order["p"]) - Decimal(fill["px"])) * (1 if order["b"] else -1)
        assert better >= 0
        assert fill["crossed"] or not better, "what rests is filled at its price"
        assert Decimal(fill["sz"]) % Decimal("0.01") == 0
    assert all(size <= Decimal(wild.orders[cloid]["s"]) for cloid, size in done.items())
    assert {wild.orders[order["cloid"]]["t"]["limit"]["tif"] for order in live} <= {"Gtc", "Alo"}
    for order in live:
        left = Decimal(order["origSz"]) - done.get(order["cloid"], Decimal(0))
        assert Decimal(order["sz"]) == left
    signed = sum(
        (Decimal(f["sz"]) * (1 if f["side"] == "B" else -1) for f in wild.fills), Decimal(0)
    )
    held = [Decimal(each["position"]["szi"]) for each in position]
    assert held == ([signed] if signed else [])
    makers = [Decimal(fill["sz"]) for fill in wild.fills if not fill["crossed"]]
    assert len(makers) > 5
    assert len(wild.fills) - len(makers) > 5
    assert wild.traded > 0


async def test_spot_is_followed_too():
    async with a_world(SyntheticMarket(5)) as world:
        paper = await world.follow()
        listener = Listener(paper.exchange)
        for kind in ("l2Book", "activeAssetCtx"):
            paper.exchange.subscribe(listener.connection, {"type": kind, "coin": "@107"})
        await trio.sleep(3)
        heard = listener.heard()
        book = [each["data"] for each in heard if each["channel"] == "l2Book"][-1]
        assert book["coin"] == "@107"
        assert book["levels"][0]
        assert paper.exchange.market.oracle("@107") is not None
        assert "activeSpotAssetCtx" in {each["channel"] for each in heard}
        mids = paper.exchange.info({"type": "allMids"})
        assert mids.keys() == world.venue.info("allMids").keys()
