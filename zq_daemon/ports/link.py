"""The link port: one WebSocket client connection over the network port, by trio-websocket.

Owns the URL's parts, the handshake, size limits and the close frame. It knows no venue protocol
and does no reconnecting: that is `venue.endpoint`'s.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import cast
from urllib.parse import urlsplit

import h11
import trio
import trio_websocket
from attrs import frozen
from wsproto.utilities import ProtocolError

from zq_daemon.errors import LinkError, LinkRefused
from zq_daemon.ports.network import Network

_RECEIVE_BYTES = 65_536
_QUEUED_MESSAGES = 1_000
_QUEUED_BYTES = 64 << 20
_QUEUED_AT_LEAST = 16
_CLOSE_TIMEOUT_S = 2.0
_REFUSALS = frozenset({400, 401, 403, 404, 405, 410})
"""HTTP answers to an upgrade that no retry will change; 429 and 5xx pass with time."""
_TRANSPORT_ERRORS = (
    trio_websocket.HandshakeError,
    trio_websocket.ConnectionClosed,
    ProtocolError,
    h11.ProtocolError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)


@frozen
class WsUrl:
    """The parts of a `ws://` or `wss://` URL; *resource* is path and query."""

    host: str
    port: int
    resource: str
    tls: bool

    @classmethod
    def parse(cls, text: str) -> WsUrl:
        """Split *text*; ValueError says what is wrong with it."""
        parts = urlsplit(text)
        if parts.scheme not in ("ws", "wss"):
            raise ValueError(f"URL {text!r}: must begin with ws:// or wss://")
        if not parts.hostname or parts.username is not None or parts.fragment:
            raise ValueError(f"URL {text!r}: needs a host, and neither user nor fragment")
        tls = parts.scheme == "wss"
        path = parts.path or "/"
        resource = f"{path}?{parts.query}" if parts.query else path
        return cls(parts.hostname, parts.port or (443 if tls else 80), resource, tls)

    @property
    def authority(self) -> str:
        """`host` or `host:port`, as the Host header says it."""
        default = 443 if self.tls else 80
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == default else f"{host}:{self.port}"


class WebSocketLink:
    """A connected WebSocket."""

    def __init__(self, connection: trio_websocket.WebSocketConnection) -> None:
        self._connection = connection

    async def send(self, message: str) -> None:
        """Write one text message; raises LinkError when the connection is gone."""
        try:
            await self._connection.send_message(message)
        except trio_websocket.ConnectionClosed as error:
            raise LinkError(_closed(error)) from error

    async def receive(self) -> str | bytes:
        """The next message; raises LinkError when the connection is gone and all is read."""
        try:
            message: str | bytes = await self._connection.get_message()
        except trio_websocket.ConnectionClosed as error:
            raise LinkError(_closed(error)) from error
        return message


class _WatchedStream(trio.abc.Stream):
    """Tells when the far side hangs up: trio-websocket's handshake would wait for ever then."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.ended = trio.Event()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.ended.set()
            raise
        if not data:
            self.ended.set()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.ended.set()
            raise

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        self.ended.set()
        await self._stream.aclose()


@asynccontextmanager
async def open_link(
    network: Network, url: WsUrl, *, connect_timeout_s: float, max_message_bytes: int
) -> AsyncIterator[WebSocketLink]:
    """Connect, and close with a close frame (1000) on leaving, whatever the way out.

    Raises LinkError for what may pass and LinkRefused for what will not; other errors of the body
    come in an exception group, as from a nursery.
    """
    try:
        async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
            reader = ShieldedReader(nursery)
            stack.callback(reader.scope.cancel)
            with trio.move_on_after(connect_timeout_s) as patience:
                stream = _WatchedStream(await network.connect(url.host, url.port, tls=url.tls))
                # trio-websocket leaves the socket open when the far side just goes away.
                stack.push_async_callback(trio.aclose_forcefully, stream)
                connection = await _shake_hands(reader, stream, url, max_message_bytes)
            if patience.cancelled_caught:
                within = f"within {connect_timeout_s:g} s"
                raise LinkError(f"no connection to {url.authority} {within}")
            stack.push_async_callback(_say_goodbye, connection)
            yield WebSocketLink(connection)
    except BaseExceptionGroup as group:
        raise _translated(group, url) from group


def _translated(group: BaseExceptionGroup[BaseException], url: WsUrl) -> BaseException:
    """One link error where a group holds nothing else; whatever else it holds, as a group."""
    links, rest = group.split((LinkError, LinkRefused, *_TRANSPORT_ERRORS))
    if rest is not None or links is None:
        return rest or group
    found = [_translate_one(error, url) for error in _leaves(links)]
    refused = [error for error in found if isinstance(error, LinkRefused)]
    return (refused or found)[0]


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _translate_one(error: BaseException, url: WsUrl) -> BaseException:
    match error:
        case LinkError() | LinkRefused():
            return error
        case trio_websocket.ConnectionRejected():
            kind = LinkRefused if error.status_code in _REFUSALS else LinkError
            answer = f"HTTP {error.status_code}"
            return kind(f"{url.authority}{url.resource} answers {answer} to the upgrade")
        case h11.ProtocolError():
            return LinkError(f"{url.authority} answers no WebSocket handshake: {_origin(error)}")
        case _:
            return LinkError(f"{url.authority}: {error or type(error).__name__}")


def _origin(error: BaseException) -> BaseException:
    """What went wrong first: trio-websocket fails at the reply it owes to a broken handshake."""
    found, context = error, error.__context__
    while context is not None:
        if isinstance(context, (ProtocolError, h11.ProtocolError)):
            found = context
        context = context.__context__
    return found


def _closed(error: trio_websocket.ConnectionClosed) -> str:
    reason = error.reason
    if reason is None:
        return "connection closed"
    return f"connection closed: {reason.code} {reason.name} {reason.reason or ''}".rstrip()


class ShieldedReader:
    """Starts trio-websocket's reader out of a cancellation's reach until `scope` is cancelled.

    A connection that is dropped or shut down by cancellation still has to read the far side's
    close frame; it is handed to trio-websocket in place of the nursery.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.scope = trio.CancelScope(shield=True)

    def start_soon(self, reader: Callable[[], Awaitable[None]]) -> None:
        """As a nursery's, for the one task that trio-websocket starts."""
        self._nursery.start_soon(self._run, reader)

    async def _run(self, reader: Callable[[], Awaitable[None]]) -> None:
        with self.scope:
            await reader()


async def _say_goodbye(connection: trio_websocket.WebSocketConnection) -> None:
    with trio.move_on_after(_CLOSE_TIMEOUT_S, shield=True):
        await connection.aclose(1000)


def _queue_length(max_message_bytes: int) -> int:
    """How many messages may wait, so that the largest ones together stay within bounds."""
    fitting = _QUEUED_BYTES // max_message_bytes
    return min(_QUEUED_MESSAGES, max(_QUEUED_AT_LEAST, fitting))


async def _shake_hands(
    reader: ShieldedReader, stream: _WatchedStream, url: WsUrl, max_message_bytes: int
) -> trio_websocket.WebSocketConnection:
    made: list[trio_websocket.WebSocketConnection] = []
    async with trio.open_nursery() as race:

        async def handshake() -> None:
            connection = await trio_websocket.wrap_client_stream(
                cast(trio.Nursery, reader),
                # Any trio.abc.Stream works; the annotation there is narrower than the code.
                cast(trio.SocketStream, stream),
                url.authority,
                url.resource,
                max_message_size=max_message_bytes,
                message_queue_size=_queue_length(max_message_bytes),
                receive_buffer_size=_RECEIVE_BYTES,
            )
            made.append(connection)
            race.cancel_scope.cancel()

        race.start_soon(handshake)
        await stream.ended.wait()
        race.cancel_scope.cancel()
    if not made:
        raise LinkError(f"{url.authority} hung up during the WebSocket handshake")
    return made[0]
