"""The embedded exchange on real loopback sockets: one port for HTTP and WebSocket, bounded."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
import trio_websocket

from tests.service.exchange_rig import connected_over_tcp as client
from tests.service.exchange_rig import http
from tests.unit.exchange_rig import Rig, wire_order
from zq_daemon.ports.clock import SystemClock
from zq_daemon.venue.exchange.exchange import Exchange
from zq_daemon.venue.exchange.faults import Faults
from zq_daemon.venue.exchange.market import SyntheticMarket
from zq_daemon.venue.exchange.server import ServerLimits, run_market, serve_exchange


@asynccontextmanager
async def listening(exchange: Exchange, **options: Any) -> AsyncIterator[int]:
    """Serve *exchange* on a free port, and move its market."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(partial(serve_exchange, listeners, exchange, **options))
        await nursery.start(partial(run_market, exchange, SystemClock()))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def ask(port: int) -> bytes:
    """One query on a connection of its own; nothing when the exchange hangs up."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        try:
            return await http(stream, "/info", b'{"type":"meta"}')
        except trio.BrokenResourceError:
            return b""


def signed_order(rig: Rig, exchange: Exchange) -> dict:
    ask = exchange.info({"type": "l2Book", "coin": "BTC"})["levels"][1][2]["px"]
    order = wire_order("buy", ask.removesuffix(".0"), "0.01", tif="Ioc", cloid=1)
    action = {"type": "order", "orders": [order], "grouping": "na"}
    return rig.envelope(rig.alice, action, nonce=SystemClock().now_ns() // 1_000_000)


async def test_prices_orders_and_fills_over_one_port():
    rig = Rig()
    exchange = Exchange(SystemClock(), SyntheticMarket(1))
    exchange.open_account(rig.alice.address)
    async with listening(exchange) as port, client(port) as trader:
        await trader.subscribe("l2Book", coin="BTC")
        book = await trader.next("l2Book")
        assert 15 < len(book["levels"][0]) <= 20
        await trader.subscribe("userFills", user=rig.alice.address)
        assert (await trader.next("userFills"))["isSnapshot"] is True
        answer = await trader.post(1, "action", signed_order(rig, exchange))
        (status,) = answer["payload"]["response"]["data"]["statuses"]
        assert status["filled"]["totalSz"] == "0.01"
        query = {"type": "clearinghouseState", "user": rig.alice.address}
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            raw = await http(stream, "/info", json.dumps(query).encode())
        state = json.loads(raw.partition(b"\r\n\r\n")[2])
        assert state["assetPositions"][0]["position"]["szi"] == "0.01"


async def test_connection_over_the_limit_is_closed_and_a_place_becomes_free():
    exchange = Exchange(SystemClock(), SyntheticMarket(1))
    async with listening(exchange, limits=ServerLimits(max_connections=1)) as port:
        async with client(port):
            assert await ask(port) == b""
        while exchange.connections:
            await trio.testing.wait_all_tasks_blocked()
        assert (await ask(port)).startswith(b"HTTP/1.1 200")


async def test_refused_connections_and_dropped_ones():
    exchange = Exchange(SystemClock(), SyntheticMarket(1))
    async with listening(exchange) as port, client(port) as trader:
        exchange.faults = Faults(refuse_connections=True)
        assert await ask(port) == b""
        exchange.drop_connections()
        with pytest.raises(trio_websocket.ConnectionClosed):
            await trader.next("nothing")
