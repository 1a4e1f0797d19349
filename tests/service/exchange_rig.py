"""Clients of an embedded exchange over memory streams, and over TCP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
import trio.testing
import trio_websocket

from zq_daemon.venue.exchange.exchange import Exchange
from zq_daemon.venue.exchange.server import ServerLimits, serve_stream


@asynccontextmanager
async def served(
    exchange: Exchange, limits: ServerLimits | None = None
) -> AsyncIterator[trio.abc.Stream]:
    """The client's end of a connection that the exchange serves."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve_stream, theirs, exchange, limits=limits))
        yield ours
        nursery.cancel_scope.cancel()


class Client:
    """A WebSocket client that speaks JSON."""

    def __init__(self, websocket: trio_websocket.WebSocketConnection) -> None:
        self.websocket = websocket

    async def send(self, message: Any) -> None:
        await self.websocket.send_message(json.dumps(message))

    async def subscribe(self, kind: str, **fields: str) -> None:
        await self.send({"method": "subscribe", "subscription": {"type": kind, **fields}})

    async def next(self, channel: str) -> Any:
        """The data of the next message of *channel*; others are passed over."""
        while True:
            message = json.loads(await self.websocket.get_message())
            if message["channel"] == channel:
                return message.get("data")

    async def post(self, number: int, kind: str, payload: Any) -> Any:
        request = {"type": kind, "payload": payload}
        await self.send({"method": "post", "id": number, "request": request})
        answer = await self.next("post")
        assert answer["id"] == number
        return answer["response"]


@asynccontextmanager
async def connected(exchange: Exchange, **options: Any) -> AsyncIterator[Client]:
    """A WebSocket client; the greeting is read already."""
    async with served(exchange, **options) as stream, trio.open_nursery() as nursery:
        websocket = await trio_websocket.wrap_client_stream(
            nursery, stream, "exchange", "/ws", max_message_size=1 << 24
        )
        greeting = await websocket.get_message()
        assert greeting == "Websocket connection established."
        yield Client(websocket)
        await websocket.aclose()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected_over_tcp(port: int) -> AsyncIterator[Client]:
    """A WebSocket client of an exchange on this machine; the greeting is read already."""
    # Not open_websocket: it leaves the socket open when the server breaks off.
    async with (
        await trio.open_tcp_stream("127.0.0.1", port) as stream,
        trio.open_nursery() as nursery,
    ):
        websocket = await trio_websocket.wrap_client_stream(nursery, stream, "exchange", "/ws")
        assert (await websocket.get_message()).startswith("Websocket connection")
        yield Client(websocket)
        await websocket.aclose()


async def http(stream: trio.abc.Stream, path: str, body: bytes, method: str = "POST") -> bytes:
    """Send one request and read until its whole answer has come; the raw answer."""
    await stream.send_all(
        b"%b %b HTTP/1.1\r\nHost: exchange\r\nContent-Length: %d\r\n\r\n%b"
        % (method.encode(), path.encode(), len(body), body)
    )
    return await read_answer(stream)


async def read_answer(stream: trio.abc.Stream) -> bytes:
    """One raw HTTP answer with a content length; b"" when the connection ended without one."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = await stream.receive_some()
        if not data:
            return answer
        answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += await stream.receive_some()
    return head + b"\r\n\r\n" + body
