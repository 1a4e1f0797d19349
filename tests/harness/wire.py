"""A wire between a daemon and its exchange: it carries bytes, reads along, and can be cut.

Everything a daemon sends goes through it, over any number of lives: `posts` are the actions that
left, in the order in which they arrived here. Owns the socket the daemon connects to; knows of the
protocol only what it takes to see an action in a WebSocket frame.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import field, frozen

from tests.harness.frames import Frame

_CHUNK = 65_536
_TEXT = 1
_PATIENCE_S = 30
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)

Look = Callable[[], Any]
"""What the test wants to know as of the moment when bytes arrive."""


@frozen(kw_only=True)
class Post:
    """An action on its way to the exchange; *seen* is what `Wire.look` said at its first byte.

    *number* is the post's own, by which it is answered.
    """

    number: int
    kind: str
    nonce: int
    cloids: tuple[str, ...]
    seen: Any = field(repr=False)


class Wire:
    """Listens at *port* and passes on to *upstream*, both on this machine."""

    def __init__(self, port: int, upstream: int) -> None:
        self.port = port
        self.upstream = upstream
        self.posts: list[Post] = []
        self.look: Look = lambda: None
        self.deaf_to: Callable[[bytes], bool] = lambda _: False
        """Bytes that are not passed on to the exchange."""
        self.swallowed = trio.Event()
        self._grown = trio.Event()
        self._scope = trio.CancelScope()
        self._is_up, self._is_down, self._mended = trio.Event(), trio.Event(), trio.Event()

    def sent(self, kind: str = "order") -> list[str]:
        """The client order ids of all posts of *kind* so far: twice if sent twice."""
        return [cloid for post in self.posts if post.kind == kind for cloid in post.cloids]

    async def wait_posts(self, wanted: Callable[[], bool], what: str) -> None:
        """Return when *wanted* holds of what was sent so far; AssertionError when it never does."""
        with trio.move_on_after(_PATIENCE_S):
            while not wanted():
                await self._grown.wait()
            return
        raise AssertionError(f"never sent: {what}; {len(self.posts)} posts were")

    async def run(self) -> None:
        """Listen whenever it is not cut, until cancelled."""
        while True:
            with trio.CancelScope() as self._scope:
                listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
                self._is_up.set()
                await trio.serve_listeners(self._carry, listeners)
            self._is_down.set()
            await self._mended.wait()

    async def wait_up(self) -> None:
        """Return when it takes connections."""
        await self._is_up.wait()

    async def cut(self) -> None:
        """Lose all connections, and refuse others from now on."""
        self._is_down, self._mended = trio.Event(), trio.Event()
        self._scope.cancel()
        await self._is_down.wait()

    async def mend(self) -> None:
        """Take connections again."""
        self._is_up = trio.Event()
        self._mended.set()
        await self._is_up.wait()

    def _note(self, posts: list[Post]) -> None:
        self.posts += posts
        if posts:
            self._grown.set()
            self._grown = trio.Event()

    async def _carry(self, client: trio.SocketStream) -> None:
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self.upstream)
        except OSError:
            return
        async with server, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass, client, server, Sent(self.look))
            nursery.start_soon(self._pass, server, client, None)

    async def _pass(
        self, source: trio.SocketStream, sink: trio.SocketStream, sent: Sent | None
    ) -> None:
        """Bytes of one direction, until either side is gone; then both are."""
        try:
            while data := bytes(await source.receive_some(_CHUNK)):
                if sent is not None:
                    self._note(sent.feed(data))
                    if self.deaf_to(data):
                        self.swallowed.set()
                        continue
                await sink.send_all(data)
            await sink.send_eof()
        except _GONE:
            await trio.aclose_forcefully(source)
            await trio.aclose_forcefully(sink)


class Sent:
    """Reads along what one client sends."""

    def __init__(self, look: Look = lambda: None) -> None:
        """*look* is asked whenever bytes arrive, see `Post`."""
        self._look = look
        self._since: Any = None
        self._frames = Frames(b"GET")

    def feed(self, data: bytes) -> list[Post]:
        """The posts that are whole with *data*."""
        now, found = self._look(), []
        for frame in self._frames.feed(data):
            since, self._since = now if self._since is None else self._since, None
            if frame.opcode == _TEXT and (post := _post_in(frame.payload, since)) is not None:
                found.append(post)
        if self._frames.pending and self._since is None:
            self._since = now
        return found


class Answered:
    """Reads along what one client is sent."""

    def __init__(self) -> None:
        self._frames = Frames(b"HTTP/1.1 101")

    def feed(self, data: bytes) -> list[int]:
        """The numbers of the posts whose answers are whole with *data*."""
        return [
            json.loads(frame.payload)["data"]["id"]
            for frame in self._frames.feed(data)
            if b'"channel":"post"' in frame.payload
        ]


class Frames:
    """Whole frames out of bytes in pieces (RFC 6455, section 5.2); no message is fragmented."""

    def __init__(self, head: bytes) -> None:
        """They come behind an HTTP head that begins with *head*; behind others there are none."""
        self._begins = head
        self._behind_head = False
        self._buffer = bytearray()

    @property
    def pending(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._behind_head and bool(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now."""
        self._buffer += data
        if not self._behind_head:
            self._pass_head()
        found = []
        while self._behind_head and (frame := self._next()) is not None:
            found.append(frame)
        return found

    def _pass_head(self) -> None:
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not head.startswith(self._begins):
            self._buffer.clear()
        elif end:
            self._behind_head, self._buffer = True, rest

    def _next(self) -> Frame | None:
        data = self._buffer
        if len(data) < 2:
            return None
        assert data[0] & 0x80, "a fragmented message"
        masked, length = bool(data[1] & 0x80), data[1] & 0x7F
        start = {126: 4, 127: 10}.get(length, 2)
        if len(data) < start + 4 * masked:
            return None
        if start > 2:
            length = int.from_bytes(data[2:start], "big")
        mask = bytes(data[start : start + 4]) if masked else b""
        start += len(mask)
        if len(data) < start + length:
            return None
        payload = _unmasked(bytes(data[start : start + length]), mask)
        frame = Frame(data[0] & 0x0F, masked, payload)
        del data[: start + length]
        return frame


def _post_in(text: bytes, seen: Any) -> Post | None:
    """The action that a client's message posts; None when it posts none."""
    message = json.loads(text)
    if message.get("method") != "post" or message["request"]["type"] != "action":
        return None
    payload = message["request"]["payload"]
    action = payload["action"]
    match action["type"]:
        case "order":
            cloids = [order["c"] for order in action["orders"]]
        case "cancelByCloid":
            cloids = [each["cloid"] for each in action["cancels"]]
        case "batchModify":
            cloids = [each["order"]["c"] for each in action["modifies"]]
        case _:
            cloids = []
    return Post(
        number=message["id"],
        kind=action["type"],
        nonce=payload["nonce"],
        cloids=tuple(cloids),
        seen=seen,
    )


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    if not mask or not payload:
        return payload
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    number = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return number.to_bytes(len(payload), "big")


@asynccontextmanager
async def open_wire(port: int, upstream: int) -> AsyncIterator[Wire]:
    """A wire that is up."""
    wire = Wire(port, upstream)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.run)
        await wire.wait_up()
        yield wire
        nursery.cancel_scope.cancel()
