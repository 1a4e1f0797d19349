"""One WebSocket client of the embedded exchange: `/ws`.

Owns the conversation: subscriptions, pings, posts and their answers. One task reads, one writes
from the outbox, one waits for the client to be cut off; a post's answer may be delayed by a fault.
Never touches market or accounts but through the exchange.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import trio
import trio_websocket

from zq_daemon.venue.exchange.envelope import Malformed
from zq_daemon.venue.exchange.exchange import Exchange
from zq_daemon.venue.exchange.feeds import Connection, encode, error

GREETING = "Websocket connection established."
SILENCE_S = 60.0
MAX_POSTS = 100
_CLOSE_S = 2.0


class WebSocketClient:
    """The far side is a client; *connection* is its place in the exchange."""

    def __init__(
        self,
        websocket: trio_websocket.WebSocketConnection,
        exchange: Exchange,
        connection: Connection,
        nursery: trio.Nursery,
    ) -> None:
        self._websocket = websocket
        self._exchange = exchange
        self._connection = connection
        self._nursery = nursery
        self._posts = 0

    async def serve(self) -> None:
        """Talk until the client leaves, is silent for 60 s, or is cut off."""
        self._connection.outbox.put(GREETING)
        self._nursery.start_soon(self._write)
        self._nursery.start_soon(self._cut_off)
        try:
            await self._read()
        finally:
            # A client that is cut off gets no close frame: it would not take it, or must not.
            if self._connection.outbox.closed_because is None:
                with trio.move_on_after(_CLOSE_S, shield=True):
                    await self._websocket.aclose(1000)

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

    def _handle(self, message: str | bytes) -> None:
        try:
            request = msgspec.json.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            request = None
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

    def _post(self, number: int, payload: Any) -> None:
        if self._posts >= MAX_POSTS:
            self._connection.send(error(f"too many pending post requests id={number}"))
            return
        response = self._respond(payload)
        faults = self._exchange.faults
        if faults.drop_replies:
            return
        text = encode({"channel": "post", "data": {"id": number, "response": response}})
        if not faults.reply_latency_ms:
            self._connection.outbox.put(text)
            return
        self._posts += 1
        self._nursery.start_soon(partial(self._reply_later, text, faults.reply_latency_ms / 1000))

    async def _reply_later(self, text: str, delay_s: float) -> None:
        await trio.sleep(delay_s)
        self._posts -= 1
        self._connection.outbox.put(text)

    def _respond(self, payload: Any) -> Any:
        try:
            match payload:
                case {"type": "info", "payload": {"type": str(kind)} as query}:
                    data = self._exchange.info(query)
                    return {"type": "info", "payload": {"type": kind, "data": data}}
                case {"type": "action", "payload": action}:
                    return {"type": "action", "payload": self._exchange.action(action)}
                case _:
                    raise Malformed
        except Malformed as malformed:
            return {"type": "error", "payload": f"422 Unprocessable Entity: {malformed}"}
