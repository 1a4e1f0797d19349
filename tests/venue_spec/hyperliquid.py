"""Hyperliquid under test: its adapter against the embedded exchange, over streams in memory."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from typing import Any, Literal

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
from zq_daemon.ports.rng import seeded_rng
from zq_daemon.venue.exchange.account import KEPT_FILLS, Account, UserOrder
from zq_daemon.venue.exchange.actions import LimitTerms, OrderTerms, WireOrder
from zq_daemon.venue.exchange.exchange import Exchange
from zq_daemon.venue.exchange.faults import Faults
from zq_daemon.venue.exchange.listing import PAIRS, TRADED, Perp
from zq_daemon.venue.exchange.server import run_market, serve_exchange
from zq_daemon.venue.exchange.source import Desk
from zq_daemon.venue.hyperliquid.action import wire_number
from zq_daemon.venue.hyperliquid.adapter import HyperliquidAdapter
from zq_daemon.venue.hyperliquid.sign import AgentKey, action_hash, sign_l1_action
from zq_daemon.venue.interface import VenueAdapter

_HOST, _PORT = "exchange", 80
_BTC, *_OTHERS = TRADED
_GONE = Perp(name="GONE", size_decimals=1, max_leverage=3, delisted=True)
UNIVERSE = (_BTC, _GONE, *_OTHERS)
_MASTER = "0x" + "a1" * 20
_SECRET = bytes.fromhex("4f1d" * 16)


class _QuietMarket:
    """Books in which nothing is but what participants send; one listing in between is dead."""

    pairs = PAIRS
    recorded = ()
    is_lossless = False

    def __init__(self, universe: Sequence[Perp]) -> None:
        self.universe = universe
        names = (*(each.name for each in self.universe), *(each.name for each in self.pairs))
        self._books = {name: MatchingBook() for name in names}

    def matcher(self, coin: str) -> MatchingBook:
        return self._books[coin]

    def oracle(self, coin: str) -> Decimal | None:
        return None

    def listened(self, channel: str, coin: str, now_ns: int) -> Sequence[str]:
        return ()

    def delay_ns(self, coins: Collection[str]) -> int:
        return 0

    def next_due_ns(self) -> int | None:
        return None

    def advance(self, now_ns: int, desk: Desk) -> None:
        raise AssertionError("nothing is ever due")


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

    def __init__(
        self, order_entry: Literal["ws", "http"], universe: Sequence[Perp] = UNIVERSE
    ) -> None:
        self._network = _Network()
        self.network: Network = self._network
        self.clock: Clock = VirtualClock()
        self.exchange = Exchange(self.clock, _QuietMarket(universe), strict_accounts=True)
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
            InstrumentId("hyperliquid.PURR/USDC"): Decimal("0.2012345678"),
            InstrumentId("hyperliquid.@107"): Decimal("25.123456789"),
        }
        url = f"ws://{_HOST}/ws"
        market = ("l2Book:BTC", "bbo:BTC", "trades:BTC", "activeAssetCtx:BTC")
        self.market = Address(url=url, streams=market)
        self.candles, self.candle_s = Address(url=url, streams=("candle:BTC:1m",)), 60
        self.private = Address(url=url, streams=("orderUpdates", "userFills"))
        self._config = HyperliquidConfig(
            api_url=f"http://{_HOST}",
            account=_MASTER,
            order_validity_ms=4_000,
            post_timeout_ms=6_000,
            http_timeout_ms=5_000,
            order_entry=order_entry,
        )
        self.has_orders_on_line = order_entry == "ws"
        self.answer_timeout_s = 6.0
        key = AgentKey(_SECRET)
        self.adapter: VenueAdapter = self._adapter(AgentKey(_SECRET))
        self._account = self.exchange.open_account(_MASTER)
        self.exchange.approve_agent(key.address, _MASTER)
        self._hand = AgentKey((3).to_bytes(32, "big"))
        self.exchange.approve_agent(self._hand.address, _MASTER)
        self.retained_fills = KEPT_FILLS
        self._maker, self._taker = (self._participant(number) for number in (1, 2))
        self._nonces = itertools.count(self._now_ms())

    def stranger(self) -> HyperliquidAdapter:
        return self._adapter(AgentKey(bytes(31) + b"\x07"))

    def anonymous(self) -> HyperliquidAdapter:
        return self._adapter(None, account=None)

    def restarted(self) -> HyperliquidAdapter:
        return self._adapter(AgentKey(_SECRET))

    def place_by_hand(
        self,
        side: Side,
        price: Decimal,
        quantity: Decimal,
        *,
        post_only: bool = False,
        reduce_only: bool = False,
    ) -> VenueOrderId:
        tif = "Alo" if post_only else "Gtc"
        status = self._place(self._hand, side, price, quantity, tif, reduce_only=reduce_only)
        return VenueOrderId(str(status["resting"]["oid"]))

    def trade_often(self, count: int) -> None:
        # Without signatures, which would take most of the time.
        trading = self.exchange.trading
        trading.now_ms = self._now_ms()
        price, size = wire_number(self.ask.price - 1), "0.001"
        terms = OrderTerms(LimitTerms("Gtc"))
        for number in range(count):
            buys = number % 2 == 0
            maker, taker = (
                WireOrder(a=0, b=side, p=price, s=size, r=False, t=terms)
                for side in (not buys, buys)
            )
            trading.place(self._holdings(self._maker), [maker])
            (status,) = trading.place(self._account, [taker])
            assert "filled" in status, status
        self.exchange.publisher.flush(self.clock.now_ns())

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

    def refuse_requests(self) -> None:
        self.exchange.faults = Faults(
            http_error=429, http_error_path="exchange", http_error_share=Decimal(1)
        )

    def set_clock_back(self, seconds: int) -> None:
        self.exchange.faults = Faults(clock_skew_ms=-1_000 * seconds)

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

    def _adapter(self, key: AgentKey | None, **changes: Any) -> HyperliquidAdapter:
        config = evolve(self._config, **changes)
        return HyperliquidAdapter(config, self.network, self.clock, key, seeded_rng(1))

    def _participant(self, number: int) -> AgentKey:
        key = AgentKey(number.to_bytes(32, "big"))
        self.exchange.open_account(key.address, Decimal(10_000_000))
        return key

    def _holdings(self, key: AgentKey) -> Account:
        return self.exchange.account(key.address)

    def _place(
        self,
        key: AgentKey,
        side: Side,
        price: Decimal,
        quantity: Decimal,
        tif: str,
        *,
        reduce_only: bool = False,
    ) -> Any:
        order = {
            "a": 0,
            "b": side is Side.BUY,
            "p": wire_number(price),
            "s": wire_number(quantity),
            "r": reduce_only,
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
async def open_hyperliquid(
    universe: Sequence[Perp] = UNIVERSE,
) -> AsyncIterator[HyperliquidUnderTest]:
    """An exchange of its own for each test."""
    venue = HyperliquidUnderTest("ws", universe)
    async with venue.serving():
        yield venue


@asynccontextmanager
async def open_hyperliquid_by_http() -> AsyncIterator[HyperliquidUnderTest]:
    """The same, configured to send its orders by HTTP."""
    venue = HyperliquidUnderTest("http")
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
