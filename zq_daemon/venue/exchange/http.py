"""HTTP/1.1 of the embedded exchange: `POST /info` and `POST /exchange`, by h11.

Owns the request cycle of one connection until it ends or asks for a WebSocket. Never interprets a
body: that is the exchange's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h11
import msgspec
import trio
from attrs import frozen

from zq_daemon.venue.exchange.envelope import Malformed
from zq_daemon.venue.exchange.exchange import Exchange
from zq_daemon.venue.exchange.faults import Endpoint, error_text
from zq_daemon.venue.exchange.limits import TooMany
from zq_daemon.venue.exchange.messages import Json

_RECEIVE_BYTES = 65_536
_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_ENDPOINTS: Mapping[bytes, Endpoint] = {b"/info": "info", b"/exchange": "exchange"}


@frozen
class _Answer:
    status: int
    body: bytes
    content_type: str = _TEXT


@frozen
class Upgrade:
    """The client asked for a WebSocket; *consumed* are all bytes it has sent so far."""

    consumed: bytes


class _TooLarge(Exception):
    """The body is longer than allowed."""


class HttpConnection:
    """One client's HTTP connection over any byte stream; *place* is where it comes from."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        exchange: Exchange,
        *,
        place: str,
        max_body: int,
        idle_s: float,
    ) -> None:
        self._stream = stream
        self._exchange = exchange
        self._place = place
        self._max_body = max_body
        self._idle_s = idle_s
        self._h11 = h11.Connection(h11.SERVER)
        self._raw = bytearray()
        self._is_first = True

    async def serve(self) -> Upgrade | None:
        """Answer requests until the connection ends; an Upgrade when it becomes a WebSocket."""
        while True:
            with trio.move_on_after(self._idle_s) as idle:
                request, body = await self._receive()
            if idle.cancelled_caught or request is None:
                return None
            if isinstance(request, _Answer):
                await self._send(request, close=True)
                return None
            if self._is_first and _wants_websocket(request):
                return Upgrade(bytes(self._raw))
            self._is_first = False
            answer = await self._misbehave(request, body)
            if answer is None:
                return None
            await self._send(answer)
            if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
                return None
            self._h11.start_next_cycle()

    async def _receive(self) -> tuple[h11.Request | _Answer | None, bytes]:
        """The next request and its body; None at the end, an answer when it is malformed."""
        try:
            request = await self._event()
            if not isinstance(request, h11.Request):
                return None, b""
            if self._is_first and _wants_websocket(request):
                return request, b""
            return request, await self._body()
        except h11.RemoteProtocolError as error:
            return _Answer(error.error_status_hint, f"{error}".encode()), b""
        except _TooLarge:
            return _Answer(413, b"length limit exceeded"), b""

    async def _body(self) -> bytes:
        parts = bytearray()
        while not isinstance(event := await self._event(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                raise h11.RemoteProtocolError("the request ended early")
            parts += event.data
            if len(parts) > self._max_body:
                raise _TooLarge
        return bytes(parts)

    async def _event(self) -> Any:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            if self._h11.they_are_waiting_for_100_continue:
                await self._write(h11.InformationalResponse(status_code=100, headers=[]))
            data = await self._stream.receive_some(_RECEIVE_BYTES)
            if self._is_first:
                self._raw += data
            self._h11.receive_data(bytes(data))
        return event

    async def _misbehave(self, request: h11.Request, body: bytes) -> _Answer | None:
        """The answer as the faults in force have it; None: none, and the connection is lost."""
        misbehaviour = self._exchange.misbehaviour
        path = _path(request)
        if path not in _ENDPOINTS:
            return await self._answer(request, body)
        kind = _action_type(body) if path == b"/exchange" else ""
        if misbehaviour.cuts_before(kind):
            return None
        status = misbehaviour.http_error(_ENDPOINTS[path])
        if status is not None and not misbehaviour.faults.http_error_executes:
            return _Answer(status, error_text(status).encode())
        answer = await self._answer(request, body)
        if misbehaviour.cuts_after(kind):
            return None
        if kind and misbehaviour.drops_reply():
            with trio.move_on_after(self._idle_s):
                await self._stream.receive_some(_RECEIVE_BYTES)
            return None
        if kind:
            await trio.sleep(misbehaviour.faults.reply_latency_ms / 1000)
        return answer if status is None else _Answer(status, error_text(status).encode())

    async def _answer(self, request: h11.Request, body: bytes) -> _Answer:
        path = _path(request)
        if path == b"/ws":
            return _Answer(426, b"this is a WebSocket: an upgrade is required")
        if path not in _ENDPOINTS:
            return _Answer(404, b"not found")
        if request.method != b"POST":
            return _Answer(405, b"only POST is allowed")
        try:
            return await self._call(path, msgspec.json.decode(body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _Answer(422, b"Failed to parse the request body as JSON")
        except Malformed as error:
            return _Answer(422, f"{error}".encode())
        except TooMany:
            # The venue's body is JSON without a message; its SDK looks for exactly that.
            return _Answer(429, b"null", _JSON)

    async def _call(self, path: bytes, request: Any) -> _Answer:
        if path == b"/info":
            response = self._exchange.info(request, self._place)
        else:
            response = await self._act(request)
        return _Answer(200, msgspec.json.encode(response), _JSON)

    async def _act(self, request: Any) -> Json:
        """The response to an action, which may take its time."""
        answers, answered = list[Json](), trio.Event()

        def answer(response: Json) -> None:
            answers.append(response)
            answered.set()

        self._exchange.post_action(request, answer, self._place)
        await answered.wait()
        return answers[0]

    async def _send(self, answer: _Answer, *, close: bool = False) -> None:
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        headers = [("content-type", answer.content_type), ("content-length", f"{len(answer.body)}")]
        if close:
            headers.append(("connection", "close"))
        await self._write(
            h11.Response(status_code=answer.status, headers=headers),
            h11.Data(data=answer.body),
            h11.EndOfMessage(),
        )

    async def _write(self, *events: h11.Event) -> None:
        await self._stream.send_all(b"".join(self._h11.send(event) or b"" for event in events))


def _wants_websocket(request: h11.Request) -> bool:
    upgrade = any(
        name == b"upgrade" and value.lower() == b"websocket" for name, value in request.headers
    )
    return upgrade and _path(request) == b"/ws"


def _path(request: h11.Request) -> bytes:
    return request.target.partition(b"?")[0]


def _action_type(body: bytes) -> str:
    """The type of the action in a request's body; empty when there is none."""
    try:
        return msgspec.json.decode(body, type=_Sent).action.type
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


class _SentAction(msgspec.Struct):
    type: str


class _Sent(msgspec.Struct):
    action: _SentAction
