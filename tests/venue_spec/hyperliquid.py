"""Hyperliquid under test: its adapter against the embedded exchange, over streams in memory."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from typing import Any

import trio
import trio.testing
from attrs import evolve

from tests.harness.memory_network import MemoryNetwork
from tests.venue_spec.venue import Address, VenueOrder
from zq_daemon.config.schema import HyperliquidConfig
from zq_daemon.core.matching import MatchingBook
from zq_daemon.model.ids import ClientOrderId, InstrumentId, TradeId, VenueOrderId
from zq_daemon.model.market import BookLevel, Side
from zq_daemon.ports.clock import NS_PER_MS, Clock, VirtualClock
from zq_daemon.ports.network import Network
from zq_daemon.venue.exchange.account import Account, UserOrder
from zq_daemon.venue.exchange.exchange import Exchange
from zq_daemon.venue.exchange.faults import Faults
from zq_daemon.venue.exchange.perp import LISTED, Perp
from zq_daemon.venue.exchange.server import run_market, serve_exchange
from zq_daemon.venue.exchange.source import Desk
from zq_daemon.venue.hyperliquid.adapter import HyperliquidAdapter
from zq_daemon.venue.hyperliquid.sign import AgentKey, action_hash, sign_l1_action
from zq_daemon.venue.hyperliquid.trade import wire_number
from zq_daemon.venue.interface import VenueAdapter

_HOST, _PORT = "exchange", 80
_BTC, *_OTHERS = LISTED
_GONE = Perp(name="GONE", size_decimals=1, max_leverage=3)
_MASTER = "0x" + "a1" * 20
_SECRET = bytes.fromhex("4f1d" * 16)


class _QuietMarket:
    """Books in which nothing is but what participants send; one listing in between is dead."""

    universe = (_BTC, _GONE, *_OTHERS)
    recorded = ()
    is_lossless = False

    def __init__(self) -> None:
        self._books = {perp.name: MatchingBook() for perp in self.universe}

    def matcher(self, coin: str) -> MatchingBook:
        return self._books[coin]

    def oracle(self, coin: str) -> Decimal | None:
        return None

    def listened(self, now_ns: int) -> None:
        return

    def next_due_ns(self) -> int | None:
        return None

    def advance(self, now_ns: int, desk: Desk) -> None:
        raise AssertionError("nothing is ever due")


class _ListingExchange(Exchange):
    """Says of one listing that it is delisted."""

    def info(self, request: Any) -> Any:
        answer = super().info(request)
        if request.get("type") == "meta":
            for asset in answer["universe"]:
                if asset["name"] == _GONE.name:
                    asset["isDelisted"] = True
        return answer


class _Network(MemoryNetwork):
    """Can lead new connections to nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.nowhere: list[trio.abc.Stream] = []
        self.leads_nowhere = False

    async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        if not self.leads_nowhere:
            return await super().connect(host, port, tls=tls)
        await trio.lowlevel.checkpoint()
        ours, theirs = trio.testing.memory_stream_pair()
        self.nowhere.append(theirs)
        return ours


class HyperliquidUnderTest:
    """See `venue.VenueUnderTest`."""

    def __init__(self) -> None:
        self._network = _Network()
        self.network: Network = self._network
        self.clock: Clock = VirtualClock()
        self.exchange = _ListingExchange(self.clock, _QuietMarket())
        self.instrument_id = InstrumentId("hyperliquid.BTC")
        self.delisted = InstrumentId("hyperliquid.GONE")
        self.bid = BookLevel(Decimal(49_990), Decimal(1), 1)
        self.ask = BookLevel(Decimal(50_010), Decimal(1), 1)
        self.quantity = Decimal("0.01")
        self.secret = _SECRET
        self.unknown_streams: Sequence[str] = (
            "nonsense:BTC",
            "l2Book:btc",
            "trades",
            "userFills:BTC",
            "",
        )
        self.awkward_prices: Mapping[InstrumentId, Decimal] = {
            self.instrument_id: Decimal("48765.4321"),
            InstrumentId("hyperliquid.ETH"): Decimal("32.1098765"),
            InstrumentId("hyperliquid.SOL"): Decimal("0.987654321"),
            InstrumentId("hyperliquid.kPEPE"): Decimal("0.0123456789"),
        }
        url = f"ws://{_HOST}/ws"
        market = ("l2Book:BTC", "bbo:BTC", "trades:BTC", "activeAssetCtx:BTC")
        self.market = Address(url=url, streams=market)
        self.private = Address(url=url, streams=("orderUpdates", "userFills"))
        self._config = HyperliquidConfig(
            api_url=f"http://{_HOST}",
            account=_MASTER,
            order_validity_ms=4_000,
            post_timeout_ms=6_000,
            http_timeout_ms=5_000,
        )
        self.answer_timeout_s = 6.0
        key = AgentKey(_SECRET)
        self.adapter: VenueAdapter = HyperliquidAdapter(self._config, self.network, self.clock, key)
        self._account = self.exchange.open_account(_MASTER)
        self.exchange.approve_agent(key.address, _MASTER)
        self._maker, self._taker = (self._participant(number) for number in (1, 2))
        self._nonces = itertools.count(self._now_ms())

    def stranger(self) -> HyperliquidAdapter:
        return HyperliquidAdapter(
            self._config, self.network, self.clock, AgentKey(bytes(31) + b"\x07")
        )

    def anonymous(self) -> HyperliquidAdapter:
        return HyperliquidAdapter(
            evolve(self._config, account=None), self.network, self.clock, None
        )

    def rest(self, side: Side, price: Decimal, quantity: Decimal) -> None:
        status = self._place(self._maker, side, price, quantity, "Gtc")
        assert "resting" in status, status

    def take(self, side: Side, price: Decimal, quantity: Decimal) -> TradeId:
        status = self._place(self._taker, side, price, quantity, "Ioc")
        assert Decimal(status["filled"]["totalSz"]) == quantity, status
        return TradeId(str(self._holdings(self._taker).fills[-1].tid))

    def delay_answers(self, seconds: float) -> None:
        self.exchange.faults = Faults(reply_latency_ms=round(seconds * 1000))

    def drop_answers(self) -> None:
        self.exchange.faults = Faults(drop_replies=True)

    def forget_orders(self) -> None:
        self.exchange.faults = Faults(forget_orders=True)

    def behave(self) -> None:
        self.exchange.faults = Faults()

    async def cut(self) -> None:
        await self._network.partition(_HOST, _PORT)

    def heal(self) -> None:
        self._network.heal(_HOST, _PORT)

    def swallow_queries(self) -> None:
        self._network.leads_nowhere = True

    def orders(self) -> Sequence[VenueOrder]:
        closed = self.exchange.trading.orders.history(_MASTER)
        every = sorted((*self._account.orders.values(), *closed), key=lambda order: order.oid)
        return [_told(order, order.oid in self._account.orders) for order in every]

    def fees(self) -> Mapping[TradeId, Decimal]:
        return {TradeId(str(fill.tid)): fill.fee for fill in self._account.fills}

    def equity(self) -> Decimal:
        return self._account.value(self.exchange.trading.mark)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """The exchange accepts connections, and its clock runs."""
        self.rest(Side.BUY, self.bid.price, self.bid.quantity)
        self.rest(Side.SELL, self.ask.price, self.ask.quantity)
        async with trio.open_nursery() as nursery:
            listeners = await self._network.listen(_HOST, _PORT)
            await nursery.start(partial(serve_exchange, listeners, self.exchange))
            await nursery.start(partial(run_market, self.exchange, self.clock))
            yield
            await self.adapter.aclose()
            nursery.cancel_scope.cancel()

    def _participant(self, number: int) -> AgentKey:
        key = AgentKey(number.to_bytes(32, "big"))
        self.exchange.open_account(key.address, Decimal(10_000_000))
        return key

    def _holdings(self, key: AgentKey) -> Account:
        return self.exchange.account(key.address)

    def _place(self, key: AgentKey, side: Side, price: Decimal, quantity: Decimal, tif: str) -> Any:
        order = {
            "a": 0,
            "b": side is Side.BUY,
            "p": wire_number(price),
            "s": wire_number(quantity),
            "r": False,
            "t": {"limit": {"tif": tif}},
        }
        action = {"type": "order", "orders": [order], "grouping": "na"}
        nonce = next(self._nonces)
        digest = action_hash(action, nonce, None, None)
        signature = sign_l1_action(key, digest, "mainnet").to_wire()
        answer = self.exchange.action({"action": action, "nonce": nonce, "signature": signature})
        assert answer["status"] == "ok", answer
        return answer["response"]["data"]["statuses"][0]

    def _now_ms(self) -> int:
        return self.clock.now_ns() // NS_PER_MS


@asynccontextmanager
async def open_hyperliquid() -> AsyncIterator[HyperliquidUnderTest]:
    """An exchange of its own for each test."""
    venue = HyperliquidUnderTest()
    async with venue.serving():
        yield venue


def _told(order: UserOrder, is_live: bool) -> VenueOrder:
    return VenueOrder(
        client_order_id=ClientOrderId(order.cloid or ""),
        venue_order_id=VenueOrderId(str(order.oid)),
        instrument_id=InstrumentId(f"hyperliquid.{order.coin}"),
        side=order.side,
        price=order.price,
        quantity=order.size,
        remaining=order.left,
        is_live=is_live,
    )
