"""A venue that misbehaves: one script for each path, over any listener.

A script gets the connection before the WebSocket handshake, so that it may spoil that as well. What
it sends is bytes of its own choice: nothing here keeps it from breaking the protocol. Every HTTP
request that is no handshake is a query, answered by its type.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
from wsproto.frame_protocol import FrameProtocol, Opcode

Script = Callable[["Peer"], Awaitable[None]]

_ACCEPT_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_CHUNK = 65_536
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class Peer:
    """The server's end of one connection; *number* counts those of its path, from 0."""

    def __init__(self, stream: trio.abc.Stream, head: bytes, path: str, number: int) -> None:
        self.stream = stream
        self.path = path
        self.number = number
        self._head = head
        self._reader = FrameProtocol(client=False, extensions=[])

    async def upgrade(self) -> None:
        """Answer the handshake as it should be."""
        key = re.search(rb"sec-websocket-key: *(\S+)", self._head, re.IGNORECASE)
        assert key is not None
        accept = base64.b64encode(hashlib.sha1(key[1] + _ACCEPT_SALT).digest())
        await self.send_raw(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
        )

    async def send(self, message: Any) -> None:
        """One frame: text, bytes, or anything else as JSON."""
        if not isinstance(message, str | bytes):
            message = json.dumps(message)
        await self.send_raw(frame(message))

    async def send_raw(self, data: bytes) -> None:
        """Bytes as they are."""
        await self.stream.send_all(data)

    async def serve(self) -> None:
        """Be a good venue from now on, which confirms subscriptions and answers pings."""
        while True:
            for message in await self.receive():
                await self.answer(message)

    async def answer(self, message: Any) -> None:
        """The answer of a good venue to a subscription or a ping."""
        match message:
            case {"method": "ping"}:
                await self.send({"channel": "pong"})
            case {"method": "subscribe"}:
                await self.send({"channel": "subscriptionResponse", "data": message})

    async def receive(self) -> list[Any]:
        """What the client sends next, out of JSON; trio.BrokenResourceError when it is gone."""
        received: list[Any] = []
        while not received:
            self._reader.receive_bytes(await _read(self.stream))
            for each in self._reader.received_frames():
                if each.opcode is Opcode.CLOSE:
                    raise trio.BrokenResourceError("the client closes")
                if each.opcode is Opcode.TEXT:
                    received.append(json.loads(each.payload))
        return received


class FlakyServer:
    """Runs the script of each path; *connections* counts what came.

    *info* has the answers to queries by their type; any other is answered null.
    """

    def __init__(
        self, scripts: Mapping[str, Script], info: Mapping[str, Any] | None = None
    ) -> None:
        self._scripts = scripts
        self._info = info or {}
        self.connections: Counter[str] = Counter()
        self.open = 0

    async def serve(
        self,
        listeners: Sequence[trio.abc.Listener[Any]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(trio.serve_listeners, self._accept, list(listeners)))
            task_status.started()

    async def _accept(self, stream: trio.abc.Stream) -> None:
        self.open += 1
        try:
            head, body = await _read_head(stream)
            if head.startswith(b"GET"):
                path = head.split(b" ", 2)[1].decode()
                number = self.connections[path]
                self.connections[path] += 1
                await self._scripts[path](Peer(stream, head, path, number))
            else:
                query = json.loads(await _read_body(stream, head, body))
                told = json.dumps(self._info.get(query["type"])).encode()
                answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
                await stream.send_all(answer % (len(told), told))
        except _GONE:
            pass
        finally:
            self.open -= 1
            await trio.aclose_forcefully(stream)


def frame(message: str | bytes, *, opcode: int | None = None, final: bool = True) -> bytes:
    """*message* as one unmasked frame (RFC 6455, section 5.2), by default of its own kind."""
    payload = message.encode() if isinstance(message, str) else message
    if opcode is None:
        opcode = Opcode.TEXT if isinstance(message, str) else Opcode.BINARY
    first = bytes([(0x80 if final else 0) | opcode])
    if len(payload) < 126:
        return first + bytes([len(payload)]) + payload
    if len(payload) < 65_536:
        return first + b"\x7e" + len(payload).to_bytes(2, "big") + payload
    return first + b"\x7f" + len(payload).to_bytes(8, "big") + payload


@asynccontextmanager
async def flaky_server(scripts: Mapping[str, Script]) -> AsyncIterator[tuple[FlakyServer, int]]:
    """A server on a free port of this machine, and the port."""
    server = FlakyServer(scripts)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port: int = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, listeners)
        yield server, port
        nursery.cancel_scope.cancel()


async def _read_head(stream: trio.abc.Stream) -> tuple[bytes, bytes]:
    """The head of a request, and what came after it."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += await _read(stream)
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


async def _read_body(stream: trio.abc.Stream, head: bytes, body: bytes) -> bytes:
    """*body* to its end: closing a connection on unread bytes would reset it."""
    length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    while len(body) < int(length[1] if length else 0):
        body += await _read(stream)
    return body


async def _read(stream: trio.abc.Stream) -> bytes:
    data = await stream.receive_some(_CHUNK)
    if not data:
        raise trio.BrokenResourceError("the client left")
    return bytes(data)
