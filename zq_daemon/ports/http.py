"""A small HTTP/1.1 client for JSON over the network port: POST a body, get status and bytes.

Owns its connections (few, kept alive) and the bounds on time, size and concurrency. It follows no
redirect, keeps no cookie, decompresses nothing, and repeats a request only where the caller said
that it may be. Venue adapters call it.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import h11
import msgspec
import trio
from attrs import define, field, frozen

from zq_daemon.errors import LinkError, NeverSentError
from zq_daemon.ports.network import Network

_DEFAULT_PORTS = {"http": 80, "https": 443}
_READ_BYTES = 65_536
_FRESH_S = 5.0
"""A connection idle for longer may have been given up by the far side just now: what may not be
sent twice gets a new one."""


@frozen
class HttpReply:
    """An answer, whatever its status; *content* is its whole body, *date* its `Date` header."""

    status: int
    content: bytes = field(repr=False)
    date: str = ""


@frozen(kw_only=True)
class Origin:
    """A base URL taken apart; *path* has no trailing slash."""

    host: str
    port: int
    tls: bool
    path: str

    @classmethod
    def parse(cls, url: str) -> Origin:
        """Read `http[s]://host[:port][/path]`; ValueError says what is wrong with it."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"URL {url!r}: {error}") from None
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise ValueError(f"URL {url!r}: expected http://host or https://host")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError(f"URL of {parts.hostname!r}: no user, query or fragment is taken")
        return cls(
            host=parts.hostname,
            port=port or _DEFAULT_PORTS[parts.scheme],
            tls=parts.scheme == "https",
            path=parts.path.rstrip("/"),
        )

    @property
    def host_header(self) -> str:
        """The value of `Host`: with its port unless that is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = _DEFAULT_PORTS["https" if self.tls else "http"]
        return host if self.port == default else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host_header}{self.path}"


class HttpClient:
    """JSON requests to one origin over at most *max_connections* kept-alive connections."""

    def __init__(
        self,
        network: Network,
        base_url: str,
        *,
        timeout_ms: int,
        max_response_bytes: int,
        max_connections: int = 4,
    ) -> None:
        """*timeout_ms* bounds a whole call, waiting for a connection included; ValueError: URL."""
        self._network = network
        self._origin = Origin.parse(base_url)
        self._timeout_s = timeout_ms / 1000
        self._max_response_bytes = max_response_bytes
        self._slots = trio.Semaphore(max_connections)
        self._idle: list[_Connection] = []

    async def post_json(self, path: str, body: Any, *, idempotent: bool = False) -> HttpReply:
        """POST *body* as JSON to *path* below the base URL.

        Raises LinkError when no whole answer came: no connection, time-out, broken protocol, too
        long a body. An *idempotent* request is sent once more when a kept-alive connection turned
        out to be dead; any other may have reached the server when this raises, unless it raises
        NeverSentError: nothing of it was written.
        """
        request = self._request(path, msgspec.json.encode(body))
        with trio.move_on_after(self._timeout_s):
            async with self._slots:
                return await self._exchange(request, idempotent=idempotent)
        if not request.begun:
            raise NeverSentError(f"{request.url}: no connection within {self._timeout_s:g} s")
        raise LinkError(f"{request.url}: no answer within {self._timeout_s:g} s")

    async def aclose(self) -> None:
        """Close the idle connections."""
        while self._idle:
            await self._idle.pop().aclose()

    async def _take_idle(self, *, idempotent: bool) -> _Connection | None:
        """A kept-alive connection, if there is one that may be used."""
        while self._idle:
            connection = self._idle.pop()
            if idempotent or trio.current_time() - connection.idle_since <= _FRESH_S:
                return connection
            await connection.aclose()
        return None

    def _request(self, path: str, body: bytes) -> _Request:
        head = h11.Request(
            method="POST",
            target=f"{self._origin.path}{path}",
            headers=[
                ("Host", self._origin.host_header),
                ("Accept", "application/json"),
                ("Accept-Encoding", "identity"),
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
            ],
        )
        return _Request(head, body, f"{self._origin}{path}")

    async def _exchange(self, request: _Request, *, idempotent: bool) -> HttpReply:
        kept = await self._take_idle(idempotent=idempotent)
        if kept is not None:
            try:
                return await self._over(kept, request)
            except _StaleError as error:
                if not idempotent:
                    raise LinkError(str(error)) from error
        try:
            return await self._over(await self._connect(), request)
        except _StaleError as error:
            raise LinkError(str(error)) from error

    async def _connect(self) -> _Connection:
        origin = self._origin
        try:
            stream = await self._network.connect(origin.host, origin.port, tls=origin.tls)
        except LinkError as error:
            raise NeverSentError(str(error)) from error
        return _Connection(stream, self._max_response_bytes)

    async def _over(self, connection: _Connection, request: _Request) -> HttpReply:
        try:
            reply = await connection.exchange(request)
        except BaseException:
            await trio.aclose_forcefully(connection.stream)
            raise
        if connection.reusable():
            connection.idle_since = trio.current_time()
            self._idle.append(connection)
        else:
            await connection.aclose()
        return reply


class _StaleError(Exception):
    """The connection ended before a byte of the answer: a kept-alive one has probably died."""


@define
class _Request:
    head: h11.Request
    body: bytes = field(repr=False)
    url: str
    begun: bool = False


class _Connection:
    def __init__(self, stream: trio.abc.Stream, max_response_bytes: int) -> None:
        self.stream = stream
        self.idle_since = 0.0
        self._protocol = h11.Connection(h11.CLIENT)
        self._max_response_bytes = max_response_bytes
        self._answered = False

    async def exchange(self, request: _Request) -> HttpReply:
        self._answered = False
        try:
            await self._write(request)
            return await self._read(request)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise self._lost(request, "connection lost") from error
        except h11.ProtocolError as error:
            # Without a byte of an answer h11 tells of its own states only.
            why = str(error) if self._answered else "connection closed without an answer"
            raise self._lost(request, why) from error

    def reusable(self) -> bool:
        """Ready the connection for the next request, if both sides left it open."""
        if self._protocol.our_state is not h11.DONE or self._protocol.their_state is not h11.DONE:
            return False
        if self._protocol.trailing_data[0]:
            return False
        self._protocol.start_next_cycle()
        return True

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self.stream)

    async def _write(self, request: _Request) -> None:
        parts = [
            self._protocol.send(event)
            for event in (request.head, h11.Data(data=request.body), h11.EndOfMessage())
        ]
        request.begun = True
        await self.stream.send_all(b"".join(part for part in parts if part))

    async def _read(self, request: _Request) -> HttpReply:
        status, content, date = 0, bytearray(), ""
        while True:
            match await self._event():
                case h11.Response(status_code=status, headers=headers):
                    date = next((v.decode("latin-1") for n, v in headers if n == b"date"), "")
                case h11.Data(data=data):
                    content += data
                    if len(content) > self._max_response_bytes:
                        raise LinkError(
                            f"{request.url}: answer longer than {self._max_response_bytes} bytes"
                        )
                case h11.EndOfMessage():
                    return HttpReply(status, bytes(content), date)
                case h11.ConnectionClosed():
                    raise self._lost(request, "connection closed without an answer")
                case _:  # informational
                    pass

    async def _event(self) -> h11.Event:
        while True:
            event = self._protocol.next_event()
            if isinstance(event, h11.Event):
                return event
            data = await self.stream.receive_some(_READ_BYTES)
            self._answered = self._answered or bool(data)
            self._protocol.receive_data(bytes(data))

    def _lost(self, request: _Request, why: str) -> Exception:
        detail = f"{request.url}: {why}"
        return LinkError(detail) if self._answered else _StaleError(detail)
