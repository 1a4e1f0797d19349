"""Starts, stops and what is asked of whom, where daemons were bitten: a test for each bite."""

from __future__ import annotations

import random
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
import trio
from attrs import evolve

from tests.service.live_world import MAKER, TAKER
from tests.sim.scene import MASTER, Scene, scenario
from zq_daemon.config.schema import DaemonConfig
from zq_daemon.errors import CredentialError
from zq_daemon.model.ids import InstrumentId
from zq_daemon.model.market import Side
from zq_daemon.model.order import OrderType
from zq_daemon.runtime.containment import leaves
from zq_daemon.venue.exchange.actions import LimitTerms, OrderTerms, WireOrder
from zq_daemon.venue.exchange.envelope import ActionError
from zq_daemon.venue.exchange.limits import Meter, RateLimits
from zq_daemon.venue.exchange.listing import Perp
from zq_daemon.venue.hyperliquid.action import wire_number
from zq_daemon.venue.hyperliquid.sign import AgentKey

BUY, SELL = Side.BUY, Side.SELL
D = Decimal


def hold(scene: Scene, quantity: str = "0.02") -> None:
    """The account comes to hold that much, of which no daemon has heard."""
    scene.venue.place_by_hand(BUY, D(49_995), D(quantity))
    scene.venue.take(SELL, D(49_995), D(quantity))


def cancelling(config: DaemonConfig) -> DaemonConfig:
    """Cancels what is open when it stops, as is usual."""
    return evolve(config, on_stop="cancel")


@scenario
async def test_no_order_leaves_once_the_stop_has_begun(scene: Scene) -> None:
    """A strategy replaced the orders that the shutdown cancelled, and left them behind."""
    async with scene.life(cancelling) as world:
        denied: list[Any] = []
        bus = world.daemon.parts.bus
        bus.subscribe("order.denied.*", denied.append)
        cloids = [scene.submit(BUY, 49_000 - number) for number in range(4)]
        await trio.sleep(2)
        bus.subscribe("order.canceled.*", lambda _: scene.submit(BUY, 48_000))
        before = set(scene.placed)
    assert set(scene.placed) == before
    assert [each.code for each in denied] == ["GATE_CLOSED"] * 4
    assert {scene.status(each) for each in cloids} == {"canceled"}
    assert scene.open_at_venue() == []
    assert (world.daemon.cancelled, world.daemon.unverified) == (4, 0)
    scene.check_rules()


@scenario
async def test_a_stop_leaves_no_order_at_the_venue_or_says_so(scene: Scene) -> None:
    """A stop asked for cancels, did not look what became of them, and left orders at the venue."""
    async with scene.life(cancelling) as world:
        for number in range(4):
            scene.submit(BUY, 49_000 - number)
        await trio.sleep(2)
        scene.misbehave(drop_reply_count=1, cut_after_execute=1, cut_action="cancel")
    assert (scene.open_at_venue(), world.daemon.unverified) == ([], 0)
    async with scene.life(cancelling) as world:
        stubborn = scene.submit(BUY, 49_000)
        await trio.sleep(2)
        scene.misbehave(refuse_cancel_count=1)
    assert len(scene.open_at_venue()) == world.daemon.unverified == 1
    scene.misbehave()
    async with scene.life(cancelling) as world:
        await trio.sleep(10)
        assert scene.status(stubborn) == "accepted"
        scene.check()
    assert (scene.open_at_venue(), world.daemon.unverified) == ([], 0)


@scenario
async def test_a_restart_takes_over_position_and_orders(scene: Scene) -> None:
    """After a restart the position was not known: the daemon was flat, the account was not."""
    hold(scene)
    async with scene.life():
        assert scene.position() == D("0.02")
        resting = scene.submit(BUY, 49_995, "0.03")
        await trio.sleep(2)
        scene.venue.take(SELL, D(49_995), D("0.01"))
        await trio.sleep(2)
        assert scene.position() == D("0.03")
    scene.venue.take(SELL, D(49_995), D("0.01"))  # while nobody was there
    async with scene.life() as world:
        await trio.sleep(10)
        assert (scene.status(resting), scene.position()) == ("partially_filled", D("0.04"))
        assert world.now(resting).filled_quantity == D("0.02")
        scene.misbehave()
        scene.venue.take(SELL, D(49_995), D("0.01"))
        await trio.sleep(2)
        assert (scene.status(resting), scene.position()) == ("filled", D("0.05"))
        assert not world.daemon.parts.execution.stats()["position_differences"]
        scene.check_rules()


class StrictMeter(Meter):
    """Counts what it had to refuse."""

    refused = 0

    def count(self, account: str, action: Any, traded: Decimal, now_ms: int) -> None:
        try:
            super().count(account, action, traded, now_ms)
        except ActionError:
            self.refused += 1
            raise


@scenario
async def test_moving_orders_about_uses_up_no_request_that_an_exit_needs(scene: Scene) -> None:
    """Stops were moved until the address had no requests left, and then nothing could be ended."""
    limits = RateLimits(requests=40, more_cancels=60, weight_per_minute=100_000)
    meter = scene.venue.exchange.meter = StrictMeter(limits)
    hold(scene, "0.001")
    async with scene.life(cancelling) as world:
        refused: list[str] = []
        bus = world.daemon.parts.bus
        bus.subscribe("order.modify_rejected.*", lambda event: refused.append(event.code))
        await trio.sleep(65)  # until the account is stated again, with what it may send
        orders = [scene.submit(BUY, 49_000) for _ in range(5)]
        for step in range(1, 150):
            await trio.sleep(0.5)
            scene.modify(orders[step % 5], 49_000 + step)
        assert set(refused) == {"RATE_LIMIT"}
        budget = world.daemon.status()["budgets"]
        assert budget["actions_used"] >= budget["actions_limit"]
        await trio.sleep(11)  # one in 10 s is let in even then
        terms = {"order_type": OrderType.STOP_MARKET, "reduce_only": True}
        exit_order = scene.submit(SELL, None, "0.001", trigger_price=D(40_000), **terms)
        await trio.sleep(1)
        assert scene.status(exit_order) == "accepted"
        scene.cancel(orders[0])
        await trio.sleep(2)
        assert scene.status(orders[0]) == "canceled"
        assert len(scene.open_at_venue()) == 5
    assert (scene.open_at_venue(), world.daemon.unverified, meter.refused) == ([], 0, 0)
    scene.check_rules()


@scenario
async def test_it_is_the_account_that_is_asked_about_not_its_agent(scene: Scene) -> None:
    """The agent's own address was asked about, and "empty" positions were believed."""
    agent = AgentKey(scene.venue.secret).address
    hold(scene)
    async with scene.life():
        scene.submit(BUY, 49_000)
        await trio.sleep(120)
        assert scene.position() == D("0.02")
        asked = {kind for kind, user in scene.asked_about if user == agent}
        assert asked <= {"userRole"}
        assert scene.asked_about["clearinghouseState", MASTER] > 1

    def as_the_agent(config: DaemonConfig) -> DaemonConfig:
        venue = evolve(config.venues.hyperliquid, account=agent)
        return evolve(config, venues=evolve(config.venues, hyperliquid=venue))

    with pytest.raises(ExceptionGroup) as caught:
        async with scene.life(as_the_agent):
            raise AssertionError("it started")
    (error,) = leaves(caught.value)
    assert isinstance(error, CredentialError)
    assert "it has neither orders nor positions" in str(error)


PERPS = (
    Perp(name="BTC", size_decimals=5),
    *(Perp(name=f"{'k' * (n % 5 == 0)}P{n}", size_decimals=n % 6) for n in range(231)),
)


def streams_of_all(config: DaemonConfig) -> DaemonConfig:
    """The best prices of everything that is listed; no limit of risk is in the way."""
    market, private = config.ws_endpoints
    streams = tuple(f"bbo:{perp.name}" for perp in PERPS)
    free = evolve(
        config.risk,
        max_orders_per_second=None,
        max_open_orders=None,
        max_gross_exposure=None,
        max_leverage=None,
        price_collar_bps=None,
    )
    market = evolve(market, streams=streams)
    staleness = evolve(config.staleness, book_ms=0, mark_ms=0)
    return evolve(config, ws_endpoints=(market, private), risk=free, staleness=staleness)


@partial(scenario, universe=PERPS)
async def test_prices_of_all_perpetuals_are_rounded_as_the_venue_has_it(scene: Scene) -> None:
    """One rounding for all: the orders of 15 of 232 perpetuals were refused for their price."""
    rng = random.Random(1)
    asked: list[tuple[Perp, Side, Decimal]] = []
    for asset, perp in enumerate(PERPS[1:], 1):
        middle = D(10) ** (perp.size_decimals - 3) * rng.randrange(10_000, 100_000) / 7
        _quote(scene, asset, perp, middle)
        side = BUY if asset % 2 else SELL
        asked.append(
            (perp, side, middle * (1 - side.sign * D(rng.randrange(2_000, 4_000)) / 10_000))
        )
    async with scene.life(streams_of_all) as world:
        for perp, side, price in asked:
            instrument = InstrumentId(f"hyperliquid.{perp.name}")
            cloid = scene.submit(side, price, 25 / price, instrument=instrument)
            await trio.sleep(0.02)
            assert scene.status(cloid) == "accepted", perp
            _check_price(perp, side, price, world.now(cloid).price)
        scene.check()


def _quote(scene: Scene, asset: int, perp: Perp, middle: Decimal) -> None:
    """Others rest a bid and an ask, well apart."""
    trading = scene.venue.exchange.trading
    trading.now_ms = scene.venue.clock.now_ns() // 1_000_000
    terms = OrderTerms(LimitTerms("Gtc"))
    size = wire_number((100 / middle).quantize(D(1).scaleb(-perp.size_decimals)))
    for side, away in ((BUY, "0.9"), (SELL, "1.1")):
        figures = 4 - (middle * D(away)).adjusted()
        decimals = max(min(figures, 6 - perp.size_decimals), 0)
        price = wire_number((middle * D(away)).quantize(D(1).scaleb(-decimals)))
        order = WireOrder(a=asset, b=side is BUY, p=price, s=size, r=False, t=terms)
        account = scene.venue.exchange.account(AgentKey(MAKER.to_bytes(32, "big")).address)
        (status,) = trading.place(account, [order])
        assert "resting" in status, (perp, price, size, status)


def _check_price(perp: Perp, side: Side, asked: Decimal, price: Decimal | None) -> None:
    """The venue's rule, spelt out: up to 5 figures and 6 decimals less those of the size."""
    assert price is not None
    whole, _, decimals = f"{price.normalize():f}".partition(".")
    figures = (whole + decimals).strip("0") if decimals else ""
    assert len(decimals) <= 6 - perp.size_decimals
    assert len(figures) <= 5
    worse = (asked - price) * side.sign
    assert 0 <= worse <= max(asked / 10_000, D(1).scaleb(perp.size_decimals - 6))


@scenario
async def test_names_keep_their_case_wherever_they_go(scene: Scene) -> None:
    """`kPEPE` was written in capitals, and so its book never came and its orders were refused."""
    pepe = InstrumentId("hyperliquid.kPEPE")

    def of_pepe(config: DaemonConfig) -> DaemonConfig:
        market, private = config.ws_endpoints
        streams = ("l2Book:kPEPE", "bbo:kPEPE", "trades:kPEPE", "activeAssetCtx:kPEPE")
        return evolve(config, ws_endpoints=(evolve(market, streams=streams), private))

    asset = [perp.name for perp in scene.venue.exchange.universe].index("kPEPE")

    def rest(key: int, buys: bool, price: str, tif: str = "Gtc") -> Any:
        terms = {"a": asset, "b": buys, "p": price, "s": "5000", "r": False}
        order = terms | {"t": {"limit": {"tif": tif}}}
        (status,) = world.act(key, {"type": "order", "orders": [order], "grouping": "na"})
        return status

    async with scene.life(of_pepe) as world:
        assert "resting" in rest(MAKER, True, "0.0099")
        assert "resting" in rest(MAKER, False, "0.0101")
        await trio.sleep(15)
        cloid = scene.submit(BUY, D("0.0100"), 5_000, instrument=pepe)
        await trio.sleep(2)
        assert scene.status(cloid) == "accepted"
        assert "filled" in rest(TAKER, False, "0.01", "Ioc")
        await trio.sleep(2)
        parts = world.daemon.parts
        assert parts.portfolio.position(parts.accounts[0], pepe).quantity == 5_000
        scene.check()
