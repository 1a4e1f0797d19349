"""Too much for the feed queue, over real sockets: trades block their sender, books are conflated.

The way is the daemon's own: endpoint, session, feed queue, dispatcher, data engine, bus. Only the
start of the consumer is the test's.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import trio
import trio.testing

from tests.harness.flaky_server import Peer, Script, flaky_server
from zq_daemon.config.schema import HyperliquidConfig, StalenessConfig
from zq_daemon.core.bus import Fault, MessageBus
from zq_daemon.core.cache import Cache
from zq_daemon.engine.data import DataEngine
from zq_daemon.engine.dispatch import Dispatcher, FeedEvent, conflation_key
from zq_daemon.model.ids import InstrumentId
from zq_daemon.model.instrument import Instrument
from zq_daemon.model.market import BookLevel, BookSnapshot, Trade
from zq_daemon.ports.clock import SystemClock
from zq_daemon.ports.network import SystemNetwork
from zq_daemon.ports.rng import seeded_rng
from zq_daemon.runtime.backoff import Backoff
from zq_daemon.runtime.feed_queue import FeedQueue
from zq_daemon.venue.endpoint import Endpoint, EndpointSettings
from zq_daemon.venue.hyperliquid import wire
from zq_daemon.venue.hyperliquid.adapter import HyperliquidAdapter
from zq_daemon.venue.hyperliquid.instruments import perpetuals

BTC = InstrumentId("hyperliquid.BTC")
CAPACITY = 8
TRADES = 5_000
BOOKS = 300
BUFFER_BYTES = 8_192


class NarrowNetwork(SystemNetwork):
    """Connections whose kernel buffers are as small as they can be."""

    async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        stream = await super().connect(host, port, tls=tls)
        assert isinstance(stream, trio.SocketStream)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        return stream


class Venue:
    """Sends trades or books on demand; *sent* counts the messages that it got rid of."""

    def __init__(self) -> None:
        self.sent = 0
        self.begin = trio.Event()
        self.done = trio.Event()

    async def trades(self, peer: Peer) -> None:
        await self._send(peer, [_trade(number) for number in range(TRADES)])

    async def trades_and_books(self, peer: Peer) -> None:
        books = [_book(number) for number in range(BOOKS)]
        await self._send(peer, [_trade(number) for number in range(CAPACITY)] + books)

    async def books(self, peer: Peer) -> None:
        await self._send(peer, [_book(number) for number in range(BOOKS)])

    async def _send(self, peer: Peer, messages: list[dict[str, Any]]) -> None:
        assert isinstance(peer.stream, trio.SocketStream)
        peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        await peer.upgrade()
        await self.begin.wait()
        for message in messages:
            await peer.send(message)
            self.sent += 1
        self.done.set()
        await peer.serve()


class Daemon:
    """The parts of a daemon between the socket and the bus, and what came out of them."""

    def __init__(self) -> None:
        self.bus, self.cache, clock = MessageBus(self._on_fault), Cache(), SystemClock()
        self.cache.add_instrument(_instrument())
        self.data = DataEngine(self.bus, self.cache, clock, StalenessConfig())
        self.feed = FeedQueue[FeedEvent](CAPACITY, self._key_of)
        self.dispatcher = Dispatcher(self.feed, self.data, self.bus)
        self.adapter = HyperliquidAdapter(
            HyperliquidConfig(), NarrowNetwork(), clock, None, seeded_rng(1)
        )
        self.full, self.all_books, self.all_trades = trio.Event(), trio.Event(), trio.Event()
        self.trades: list[int] = []
        self.books: list[Decimal] = []
        self.bus.subscribe("market_data.trade.*", self._on_trade)
        self.bus.subscribe("orderbook.snapshot.*", self._on_book)

    def endpoint(self, url: str) -> Endpoint:
        settings = EndpointSettings(
            name=url,
            url=url,
            streams=("trades:BTC", "l2Book:BTC"),
            auto_reconnect=False,
            connect_timeout_ms=5_000,
            reconnect_healthy_ms=60_000,
            heartbeat_timeout_ms=60_000,
            feed_blocked_ms=60_000,
            reconcile_interval_ms=60_000,
            max_message_bytes=100_000,
        )
        return Endpoint(
            settings,
            self.adapter,
            network=NarrowNetwork(),
            clock=SystemClock(),
            backoff=Backoff(1_000, 60_000, seeded_rng(1)),
            feed=self.feed,
            reports=trio.open_memory_channel(1)[0],
            on_bad=self._on_bad,
        )

    def _key_of(self, event: FeedEvent) -> Hashable | None:
        """Asked by the queue for the events that find no room, or a state that waits."""
        if isinstance(event, BookSnapshot):
            if event.bids[0].price == _book_price(BOOKS - 1):
                self.all_books.set()
        elif self.feed.statistics().size >= CAPACITY:
            self.full.set()
        return conflation_key(event)

    def _on_trade(self, trade: Trade) -> None:
        self.trades.append(int(trade.trade_id))
        if len(self.trades) == TRADES:
            self.all_trades.set()

    def _on_book(self, snapshot: BookSnapshot) -> None:
        self.books.append(snapshot.bids[0].price)

    def _on_fault(self, fault: Fault) -> None:
        raise fault.error

    def _on_bad(self, _source: str, _message: str | bytes, problem: str) -> bool:
        raise AssertionError(problem)


@asynccontextmanager
async def _connected(venue: Venue, *scripts: Script) -> AsyncIterator[tuple[Daemon, trio.Nursery]]:
    """A daemon without a consumer, connected to each of *scripts*, which then begin."""
    paths = {f"/{number}": script for number, script in enumerate(scripts)}
    async with flaky_server(paths) as (_, port), trio.open_nursery() as nursery:
        daemon = Daemon()
        endpoints = [daemon.endpoint(f"ws://127.0.0.1:{port}{path}") for path in paths]
        for endpoint in endpoints:
            nursery.start_soon(endpoint.run)
            await endpoint.ready.wait()
        await daemon.feed.get(CAPACITY)  # connecting and up: from here on, market data only
        venue.begin.set()
        yield daemon, nursery
        nursery.cancel_scope.cancel()


async def _until_quiet(venue: Venue) -> None:
    """Until nobody has anything to do: the sender got rid of what buffers take."""
    before = -1
    while before != venue.sent:
        before = venue.sent
        await trio.testing.wait_all_tasks_blocked(0.05)


async def test_trades_block_their_sender_and_none_is_lost() -> None:
    venue = Venue()
    async with _connected(venue, venue.trades) as (daemon, nursery):
        await daemon.full.wait()
        await _until_quiet(venue)
        assert CAPACITY < venue.sent < TRADES
        assert not venue.done.is_set()
        await nursery.start(daemon.dispatcher.run)
        await daemon.all_trades.wait()
        await venue.done.wait()
    statistics = daemon.feed.statistics()
    assert daemon.trades == list(range(TRADES))
    assert (statistics.high_water, statistics.conflated) == (CAPACITY, 0)
    assert statistics.blocked_ns > 0


async def test_books_are_conflated_to_the_latest_and_block_nobody() -> None:
    venue = Venue()
    async with _connected(venue, venue.trades_and_books) as (daemon, nursery):
        await daemon.all_books.wait()
        await venue.done.wait()
        assert daemon.feed.statistics().size == CAPACITY + 1
        await nursery.start(daemon.dispatcher.run)
        await trio.testing.wait_all_tasks_blocked()
    statistics = daemon.feed.statistics()
    assert daemon.trades == list(range(CAPACITY))
    assert daemon.books == [_book_price(BOOKS - 1)]
    book = daemon.cache.book(BTC)
    assert book is not None
    assert book.best_bid == BookLevel(_book_price(BOOKS - 1), Decimal(1), 1)
    assert (statistics.conflated, statistics.blocked_ns) == (BOOKS - 1, 0)


async def test_a_blocked_sender_of_trades_holds_up_no_other_link() -> None:
    venue = Venue()
    async with _connected(venue, venue.trades, venue.books) as (daemon, nursery):
        await daemon.full.wait()
        await daemon.all_books.wait()
        assert venue.sent < TRADES + BOOKS
        await nursery.start(daemon.dispatcher.run)
        await daemon.all_trades.wait()
    assert daemon.trades == list(range(TRADES))
    assert daemon.books[-1] == _book_price(BOOKS - 1)
    assert daemon.books == sorted(daemon.books)


def _trade(number: int) -> dict[str, Any]:
    trade = {"coin": "BTC", "side": "B", "px": "100", "sz": "1", "time": number, "tid": number}
    return {"channel": "trades", "data": [trade]}


def _book(number: int) -> dict[str, Any]:
    bid, ask = ({"px": px, "sz": "1", "n": 1} for px in (str(_book_price(number)), "100000"))
    return {"channel": "l2Book", "data": {"coin": "BTC", "time": number, "levels": [[bid], [ask]]}}


def _book_price(number: int) -> Decimal:
    return Decimal(50_000 + number)


def _instrument() -> Instrument:
    (made,) = perpetuals(wire.PerpetualMeta(universe=[wire.Asset("BTC", 5)]))
    return made
