"""A whole daemon on a Hyperliquid in memory: what tests do there, and whether both agree."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import trio
from attrs import define, evolve

from tests.harness.process import demo_config
from tests.venue_spec.hyperliquid import HyperliquidUnderTest, open_hyperliquid
from zq_daemon.assembly import Ports
from zq_daemon.config.load import parse_document, structure_config
from zq_daemon.config.schema import DaemonConfig
from zq_daemon.daemon import Daemon, open_daemon
from zq_daemon.model.command import SubmitOrder
from zq_daemon.model.event import OrderFilled
from zq_daemon.model.ids import ClientOrderId, InstrumentId, StrategyId
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderType
from zq_daemon.ports.disk import MemoryDisk
from zq_daemon.ports.rng import seeded_rng
from zq_daemon.venue.hyperliquid.sign import AgentKey, action_hash, sign_l1_action

MAKER, TAKER, _HAND = 1, 2, 3
"""The numbers of the other participants' keys, and of the owner's own."""


@define
class World:
    """A daemon without strategies, its venue, and all fills it told."""

    venue: HyperliquidUnderTest
    daemon: Daemon
    fills: list[OrderFilled]
    nonces: int = 0

    def submit(
        self,
        number: int,
        side: Side,
        price: int | Decimal | None,
        quantity: str | Decimal,
        instrument: InstrumentId | None = None,
        **terms: Any,
    ) -> ClientOrderId:
        parts = self.daemon.parts
        order = Order(
            client_order_id=ClientOrderId(f"0x{number:032x}"),
            strategy_id=StrategyId("test"),
            account_id=parts.accounts[0],
            instrument_id=instrument or self.venue.instrument_id,
            side=side,
            quantity=Decimal(quantity),
            price=None if price is None else Decimal(price),
            **{"order_type": OrderType.LIMIT} | terms,
        )
        parts.bus.send("order.submit", SubmitOrder(order=order))
        return order.client_order_id

    def now(self, client_order_id: ClientOrderId) -> Order:
        order = self.daemon.parts.cache.order(client_order_id)
        assert order is not None
        return order

    def cancel_by_hand(self, client_order_id: ClientOrderId) -> None:
        """The account's owner cancels an order with another key."""
        oid = int(self.now(client_order_id).venue_order_id or 0)
        action = {"type": "cancel", "cancels": [{"a": 0, "o": oid}]}
        assert self.act(_HAND, action) == ["success"]

    def act(self, key_number: int, action: Mapping[str, Any]) -> Any:
        """What the venue answers to an action of the participant with that key."""
        key = AgentKey(key_number.to_bytes(32, "big"))
        self.nonces += 1
        nonce = self.venue.clock.now_ns() // 1_000_000 + 50_000 + self.nonces  # others count from 0
        signature = sign_l1_action(key, action_hash(action, nonce, None, None), "mainnet")
        answer = self.venue.exchange.action(
            {"action": action, "nonce": nonce, "signature": signature.to_wire()}
        )
        return answer["response"]["data"]["statuses"]

    def maker_address(self) -> str:
        """Of the participant with the key MAKER."""
        return AgentKey(MAKER.to_bytes(32, "big")).address

    def info(self, kind: str, **fields: Any) -> Any:
        address = self.daemon.parts.accounts[0].partition(".")[2]
        return self.venue.exchange.info({"type": kind, "user": address, **fields})

    def assert_agreement(self) -> None:
        """Orders, fills and positions are what the venue's own queries say, to the last digit."""
        parts = self.daemon.parts
        ours = {
            (each.venue_order_id, each.remaining_quantity) for each in parts.cache.orders_open()
        }
        theirs = {(str(o["oid"]), Decimal(o["sz"])) for o in self.info("frontendOpenOrders")}
        assert ours == theirs
        assert not parts.cache.orders_in_flight()
        fills: Mapping[str, Any] = {str(each["tid"]): each for each in self.info("userFills")}
        told = {event.fill.trade_id: event.fill for event in self.fills}
        assert len(told) == len(self.fills)
        assert fills.keys() <= told.keys()  # the venue tells the last 2000 only
        for trade_id, fill in fills.items():
            mine = told[trade_id]  # type: ignore[index]
            assert (mine.price, mine.quantity) == (Decimal(fill["px"]), Decimal(fill["sz"]))
            assert mine.fee == Decimal(fill["fee"])
        state = self.info("clearinghouseState")
        positions = {
            f"hyperliquid.{each['position']['coin']}": Decimal(each["position"]["szi"])
            for each in state["assetPositions"]
        }
        owned = {each["coin"]: each for each in self.info("spotClearinghouseState")["balances"]}
        for pair, token in (("PURR/USDC", "PURR"), ("@107", "HYPE")):
            if token in owned:
                positions[f"hyperliquid.{pair}"] = Decimal(owned[token]["total"])
        held = parts.portfolio.positions(parts.accounts[0])
        assert {each.instrument_id: each.quantity for each in held if each.quantity} == positions

    def assert_same_money(self) -> None:
        """The last statement's figures and balances, and fundings since the start, are equal."""
        parts = self.daemon.parts
        account = parts.cache.account(parts.accounts[0])
        assert account is not None
        summary = self.info("clearinghouseState")["marginSummary"]
        assert account.equity == Decimal(summary["accountValue"])
        assert account.margin_used == Decimal(summary["totalMarginUsed"])
        spot = {each.currency: each for each in account.balances if each.is_spot}
        told = {each["coin"]: each for each in self.info("spotClearinghouseState")["balances"]}
        assert spot.keys() == told.keys()
        for currency, balance in spot.items():
            total, hold = (Decimal(told[currency][name]) for name in ("total", "hold"))
            assert (balance.total, balance.free) == (total, total - hold)


@asynccontextmanager
async def open_world(
    folder: Path,
    secret: str = "4f1d" * 16,
    streams: Sequence[str] = ("orderUpdates", "userFills"),
) -> AsyncIterator[World]:
    async with open_hyperliquid() as venue:
        disk = MemoryDisk(sync_s=0.0002)
        async with open_life(venue, disk, folder, secret, streams) as world:
            yield world


@asynccontextmanager
async def open_life(
    venue: HyperliquidUnderTest,
    disk: MemoryDisk,
    folder: Path,
    secret: str = "4f1d" * 16,
    streams: Sequence[str] = ("orderUpdates", "userFills"),
    revise: Callable[[DaemonConfig], DaemonConfig] = lambda config: config,
    **ports: Any,
) -> AsyncIterator[World]:
    """A run of the daemon at *venue*, from what *disk* holds; it leaves its orders there.

    Unless *revise* changes that, or anything else of the configuration; *ports* replace the usual.
    """
    key_file = folder / "agent.key"
    key_file.write_text(f"{secret}\n")
    key_file.chmod(0o600)
    text = (
        demo_config(80, strategies=False, extra='external_orders = "adopt"\non_stop = "leave"')
        .replace("127.0.0.1:80", "exchange:80")
        .replace("enabled = true", "enabled = false")
        .replace('["orderUpdates", "userFills"]', str(list(streams)))
        .replace('"activeAssetCtx:BTC"', '"activeAssetCtx:BTC", "allMids", "bbo:@107"')
        .replace('state_dir = "var"', f'state_dir = "{folder}"')
        .replace(
            "[venues.hyperliquid]",
            f'[venues.hyperliquid]\naccount = "0x{"a1" * 20}"\nkey_file = "{key_file}"',
        )
    )
    config = revise(structure_config(parse_document(text, "test")))
    usual = Ports(clock=venue.clock, rng=seeded_rng(3), network=venue.network, disk=disk)
    async with open_daemon(config, ports=evolve(usual, **ports)) as daemon:
        fills: list[OrderFilled] = []
        daemon.parts.bus.subscribe("order.filled.*", fills.append)
        await trio.sleep(2)  # what follows is later than the first statement
        yield World(venue, daemon, fills)


@asynccontextmanager
async def outage(world: World) -> AsyncIterator[None]:
    """No connection while the body runs; afterwards the daemon has had time to reconnect."""
    await world.venue.cut()
    await trio.sleep(5)
    yield
    await trio.sleep(5)
    world.venue.heal()
    await trio.sleep(30)
