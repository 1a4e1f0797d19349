"""One WebSocket client of the embedded exchange: `/ws`.

Owns the conversation: subscriptions, pings, posts and their answers. One task reads, one writes
from the outbox, one waits for the client to be cut off; a post's answer may be delayed by a fault.
Never touches market or accounts but through the exchange.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import trio
import trio_websocket

from zq_daemon.venue.exchange.envelope import Malformed
from zq_daemon.venue.exchange.exchange import Exchange
from zq_daemon.venue.exchange.faults import Faults, error_text
from zq_daemon.venue.exchange.feeds import Connection, encode, error
from zq_daemon.venue.exchange.limits import Bucket, TooMany
from zq_daemon.venue.exchange.messages import Json

GREETING = "Websocket connection established."
SILENCE_S = 60.0
MAX_POSTS = 100
_CLOSE_S = 2.0
_NORMAL = 1000
_GOING_AWAY = 1001


class WebSocketClient:
    """The far side is a client from *place*; *connection* is what the exchange knows it by."""

    def __init__(
        self,
        websocket: trio_websocket.WebSocketConnection,
        exchange: Exchange,
        connection: Connection,
        nursery: trio.Nursery,
        place: str,
    ) -> None:
        self._websocket = websocket
        self._exchange = exchange
        self._connection = connection
        self._nursery = nursery
        self._place = place
        self._posts = 0
        limits = exchange.meter.limits
        self._messages = None if limits is None else Bucket(limits.messages_per_minute)

    async def serve(self) -> None:
        """Talk until the client leaves, is silent for 60 s, is cut off, or the exchange closes."""
        self._connection.outbox.put(GREETING)
        self._nursery.start_soon(self._write)
        self._nursery.start_soon(self._cut_off)
        if self._exchange.faults.close_after_ms:
            self._nursery.start_soon(self._close_later, self._exchange.faults)
        code = _GOING_AWAY
        try:
            await self._read()
            code = _NORMAL
        finally:
            # A client that is cut off gets no close frame: it would not take it, or must not.
            outbox = self._connection.outbox
            code = outbox.close_code or code
            if outbox.closed_because is None or outbox.close_code is not None:
                with trio.move_on_after(_CLOSE_S, shield=True):
                    await self._websocket.aclose(code)

    async def _read(self) -> None:
        while True:
            with trio.move_on_after(SILENCE_S) as silence:
                message = await self._websocket.get_message()
            if silence.cancelled_caught:
                return
            self._handle(message)

    async def _write(self) -> None:
        outbox = self._connection.outbox
        while batch := await outbox.take():
            if self._exchange.faults.mute:
                continue
            for message in batch:
                await self._websocket.send_message(message)

    async def _cut_off(self) -> None:
        await self._connection.outbox.wait_closed()
        self._nursery.cancel_scope.cancel()

    async def _close_later(self, faults: Faults) -> None:
        await trio.sleep(faults.close_after_ms / 1000)
        self._connection.outbox.close("closed on purpose", faults.close_code or None)

    def _handle(self, message: str | bytes) -> None:
        if self._exchange.faults.deaf:
            return
        try:
            request = msgspec.json.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            request = None
        if not self._may_speak():
            self._silence(request)
            return
        match request:
            case {"method": "ping"}:
                self._connection.send({"channel": "pong"})
            case {"method": "subscribe", "subscription": subscription}:
                self._exchange.subscribe(self._connection, subscription)
            case {"method": "unsubscribe", "subscription": subscription}:
                self._exchange.unsubscribe(self._connection, subscription)
            case {"method": "post", "id": int(number), "request": payload}:
                self._post(number, payload)
            case _:
                text = message if isinstance(message, str) else "binary message"
                shortened = text[:200]
                self._connection.send(
                    error(f"Error parsing JSON into valid websocket request: {shortened}")
                )

    def _may_speak(self) -> bool:
        """Whether the client keeps to its number of messages a minute."""
        return self._messages is None or self._messages.take(1, self._exchange.now_ns())

    def _silence(self, request: Any) -> None:
        """A message too many is not looked into; a post is answered as one over HTTP."""
        match request:
            case {"method": "post", "id": int(number)}:
                self._posts += 1
                self._answer(number, {"type": "error", "payload": error_text(429)})
            case _:
                self._connection.send(error("Too many messages."))

    def _post(self, number: int, payload: Any) -> None:
        if self._posts >= MAX_POSTS:
            self._connection.send(error(f"too many pending post requests id={number}"))
            return
        misbehaviour, kind = self._exchange.misbehaviour, _action_type(payload)
        if misbehaviour.cuts_before(kind):
            self._connection.outbox.close("cut on purpose before the action")
            return
        self._posts += 1
        answer = partial(self._answer, number)
        status = misbehaviour.http_error("exchange" if kind else "info")
        if status is not None:
            self._fail(payload, status, answer)
        else:
            self._respond(payload, answer)
        if misbehaviour.cuts_after(kind):
            self._connection.outbox.close("cut on purpose after the action")

    def _fail(self, payload: Any, status: int, answer: Callable[[Json], None]) -> None:
        if self._exchange.faults.http_error_executes:
            self._respond(payload, lambda _: None)
        answer({"type": "error", "payload": error_text(status)})

    def _answer(self, number: int, response: Json) -> None:
        faults = self._exchange.faults
        delay_s = faults.reply_latency_ms / 1000
        gone = self._connection.outbox.closed_because is not None
        if gone or self._exchange.misbehaviour.drops_reply():
            self._posts -= 1
            return
        text = encode({"channel": "post", "data": {"id": number, "response": response}})
        if delay_s:
            self._nursery.start_soon(self._reply_later, text, delay_s)
        else:
            self._reply(text)

    async def _reply_later(self, text: str, delay_s: float) -> None:
        await trio.sleep(delay_s)
        self._reply(text)

    def _reply(self, text: str) -> None:
        self._posts -= 1
        self._connection.outbox.put(text)

    def _respond(self, payload: Any, answer: Callable[[Json], None]) -> None:
        def answer_action(response: Json) -> None:
            answer({"type": "action", "payload": response})

        try:
            match payload:
                case {"type": "info", "payload": {"type": str(kind)} as query}:
                    data = self._exchange.info(query, self._place)
                    answer({"type": "info", "payload": {"type": kind, "data": data}})
                case {"type": "action", "payload": action}:
                    self._exchange.post_action(action, answer_action, self._place)
                case _:
                    raise Malformed
        except Malformed as malformed:
            answer({"type": "error", "payload": f"422 Unprocessable Entity: {malformed}"})
        except TooMany:
            answer({"type": "error", "payload": error_text(429)})


def _action_type(payload: Any) -> str:
    """The type of the action a post carries; empty when it carries none."""
    match payload:
        case {"type": "action", "payload": {"action": {"type": str(kind)}}}:
            return kind
        case _:
            return ""
