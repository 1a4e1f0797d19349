"""The embedded exchange on byte streams: one port for HTTP and WebSocket, and the market's clock.

Owns accepting, containing and bounding connections. A connection starts as HTTP; when its first
request asks for a WebSocket on `/ws`, the bytes read so far are given to trio-websocket again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

import structlog
import trio
import trio_websocket
from attrs import frozen
from wsproto.utilities import ProtocolError

from zq_daemon.ports.clock import NS_PER_S, Clock
from zq_daemon.ports.link import ShieldedReader
from zq_daemon.runtime.containment import contained
from zq_daemon.venue.exchange.exchange import Exchange
from zq_daemon.venue.exchange.http import HttpConnection
from zq_daemon.venue.exchange.websocket import WebSocketClient

_log = structlog.get_logger("zq.exchange")
_HANDSHAKE_S = 10.0
_HALF_OPEN_S = 3_600.0
_RECEIVE_BYTES = 65_536
_QUEUED_MESSAGES = 64
_GONE = (
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio_websocket.ConnectionClosed,
    ProtocolError,
)
"""What a client that leaves, or breaks the protocol, looks like: nothing to report."""


@frozen(kw_only=True)
class ServerLimits:
    """Bounds of the server: connections at once, bytes of a message or body, idle HTTP seconds."""

    max_connections: int = 256
    max_message_bytes: int = 1 << 20
    http_idle_s: float = 60.0


async def serve_exchange(
    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
    exchange: Exchange,
    *,
    limits: ServerLimits | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept and serve until cancelled. The market does not move by itself: see `run_market`.

    A connection that fails takes nothing else along; one too many is closed at once.
    """
    bounds = limits or ServerLimits()
    served = 0

    async def handle(stream: trio.abc.Stream) -> None:
        nonlocal served
        if served >= bounds.max_connections or exchange.faults.refuse_connections:
            _log.warning("connection refused", connections=served, limit=bounds.max_connections)
            await trio.aclose_forcefully(stream)
            return
        served += 1
        try:
            if exchange.misbehaviour.is_half_open():
                await trio.sleep(_HALF_OPEN_S)
                return
            await contained(
                "exchange connection", partial(serve_stream, stream, exchange, limits=bounds)
            )
        finally:
            served -= 1

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, handle, list(listeners)))
        task_status.started()


async def serve_stream(
    stream: trio.abc.Stream, exchange: Exchange, *, limits: ServerLimits | None = None
) -> None:
    """Serve one connection over any byte stream, until it ends; the stream is closed then."""
    bounds = limits or ServerLimits()
    try:
        http = HttpConnection(
            stream,
            exchange,
            place=_place(stream),
            max_body=bounds.max_message_bytes,
            idle_s=bounds.http_idle_s,
        )
        upgrade = await http.serve()
        if upgrade is not None:
            replayed = _Replayed(stream, upgrade.consumed)
            await _serve_websocket(replayed, exchange, bounds, _place(stream))
    except* _GONE:
        pass
    finally:
        await trio.aclose_forcefully(stream)


async def run_market(
    exchange: Exchange,
    clock: Clock,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Move the market of *exchange* on Trio's clock until cancelled.

    *clock* is the wall clock the exchange was made with. A lossless replay goes on only when every
    client has room for more.
    """
    exchange.step(clock.now_ns())
    task_status.started()
    while True:
        if exchange.market.is_lossless:
            for connection in list(exchange.connections):
                await connection.outbox.wait_room()
        wait_ns = exchange.next_due_ns() - clock.now_ns()
        with trio.move_on_after(max(wait_ns, 0) / NS_PER_S):
            await exchange.wait_sooner()
        exchange.step(clock.now_ns())


async def _serve_websocket(
    stream: trio.abc.Stream, exchange: Exchange, limits: ServerLimits, place: str
) -> None:
    async with trio.open_nursery() as nursery:
        reader = ShieldedReader(nursery)
        try:
            websocket = await _accept(reader, stream, limits)
            if websocket is not None:
                await _converse(websocket, exchange, nursery, place)
        finally:
            nursery.cancel_scope.cancel()
            reader.scope.cancel()


async def _accept(
    reader: ShieldedReader, stream: trio.abc.Stream, limits: ServerLimits
) -> trio_websocket.WebSocketConnection | None:
    """The connection after its handshake; None when that takes too long."""
    with trio.move_on_after(_HANDSHAKE_S):
        request = await trio_websocket.wrap_server_stream(
            cast(trio.Nursery, reader),
            # Any trio.abc.Stream works; the annotation there is narrower than the code.
            cast(trio.SocketStream, stream),
            message_queue_size=_QUEUED_MESSAGES,
            max_message_size=limits.max_message_bytes,
            receive_buffer_size=_RECEIVE_BYTES,
        )
        return await request.accept()
    return None


def _place(stream: trio.abc.Stream) -> str:
    """Where a client comes from, for the limits of one place: its IP address; empty in memory."""
    if not isinstance(stream, trio.SocketStream):
        return ""
    try:
        return str(stream.socket.getpeername()[0])
    except OSError:  # it is gone already
        return ""


async def _converse(
    websocket: trio_websocket.WebSocketConnection,
    exchange: Exchange,
    nursery: trio.Nursery,
    place: str,
) -> None:
    connection = exchange.connect()
    try:
        await WebSocketClient(websocket, exchange, connection, nursery, place).serve()
    finally:
        exchange.disconnect(connection)
        connection.outbox.close("gone")


class _Replayed(trio.abc.Stream):
    """A stream whose already consumed beginning is received again."""

    def __init__(self, stream: trio.abc.Stream, consumed: bytes) -> None:
        self._stream = stream
        self._consumed = consumed

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if not self._consumed:
            return await self._stream.receive_some(max_bytes)
        await trio.lowlevel.checkpoint()
        size = len(self._consumed) if max_bytes is None else max_bytes
        data, self._consumed = self._consumed[:size], self._consumed[size:]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()
