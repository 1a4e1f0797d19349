"""Who listens to what: subscriptions of connections, and sending to the right ones.

Owns the registry of connections and their subscriptions, and the documented answers to subscribing.
Never decides what is published: the exchange does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from zq_daemon.venue.exchange.messages import Json
from zq_daemon.venue.exchange.outbox import Outbox

Stream = tuple[str, str]
"""A channel as subscribed to, and its coin or user (empty for `allMids`)."""

COIN_STREAMS = frozenset({"l2Book", "bbo", "trades", "activeAssetCtx"})
USER_STREAMS = frozenset({"orderUpdates", "userFills", "userEvents"})
MAX_SUBSCRIPTIONS = 1_000
MAX_USERS = 10
ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")


def encode(message: Any) -> str:
    """JSON text of *message*."""
    return msgspec.json.encode(message).decode()


class Connection:
    """One client's subscriptions and its outbox."""

    def __init__(self, outbox_limit: int) -> None:
        self.outbox = Outbox(outbox_limit)
        self.streams: dict[Stream, Json] = {}

    def send(self, message: Json) -> None:
        """Queue *message* as JSON."""
        self.outbox.put(encode(message))


class Feeds:
    """All connections and their subscriptions."""

    def __init__(self, coins: Collection[str]) -> None:
        self._coins = frozenset(coins)
        self._connections: dict[Connection, None] = {}
        self._listeners: dict[Stream, dict[Connection, None]] = {}
        self.muted = False

    def connect(self, outbox_limit: int) -> Connection:
        """A new connection."""
        connection = Connection(outbox_limit)
        self._connections[connection] = None
        return connection

    def disconnect(self, connection: Connection) -> None:
        """Forget a connection; harmless when it is forgotten already."""
        self._connections.pop(connection, None)
        for stream in connection.streams:
            self._unlisten(stream, connection)
        connection.streams.clear()

    def drop_all(self, reason: str) -> None:
        """Cut all connections off."""
        for connection in self._connections:
            connection.outbox.close(reason)

    @property
    def connections(self) -> Collection[Connection]:
        """The connections there are."""
        return self._connections.keys()

    def has_listeners(self, stream: Stream) -> bool:
        """Whether anybody is subscribed."""
        return stream in self._listeners

    def subscribe(self, connection: Connection, subscription: Any) -> Stream | None:
        """Add a subscription and confirm it; None (and an error message) when it cannot be."""
        stream = self._stream(subscription)
        if stream is None:
            connection.send(error(f"Invalid subscription {shown(subscription)}"))
            return None
        if stream in connection.streams:
            connection.send(error(f"Already subscribed: {shown(subscription)}"))
            return None
        if problem := _over_limits(connection, stream):
            connection.send(error(problem))
            return None
        connection.streams[stream] = subscription
        self._listeners.setdefault(stream, {})[connection] = None
        connection.send(_acknowledged("subscribe", subscription))
        return stream

    def unsubscribe(self, connection: Connection, subscription: Any) -> None:
        """Remove a subscription and confirm it, or say that there was none."""
        stream = self._stream(subscription)
        if stream is None:
            connection.send(error(f"Invalid subscription {shown(subscription)}"))
        elif stream not in connection.streams:
            connection.send(error(f"Already unsubscribed: {shown(subscription)}"))
        else:
            del connection.streams[stream]
            self._unlisten(stream, connection)
            connection.send(_acknowledged("unsubscribe", subscription))

    def publish(self, stream: Stream, channel: str, data: Any) -> None:
        """Send `{channel, data}` to all who subscribed to *stream*."""
        if stream in self._listeners:
            self.publish_text(stream, encode({"channel": channel, "data": data}))

    def publish_text(self, stream: Stream, text: str) -> None:
        """Send *text* as it is to all who subscribed to *stream*."""
        if self.muted:
            return
        for connection in self._listeners.get(stream, ()):
            connection.outbox.put(text)

    def _stream(self, subscription: Any) -> Stream | None:
        if not isinstance(subscription, dict):
            return None
        kind, coin, user = (subscription.get(key) for key in ("type", "coin", "user"))
        if not isinstance(kind, str):
            return None
        if kind == "allMids":
            return "allMids", ""
        if kind in COIN_STREAMS and isinstance(coin, str) and coin in self._coins:
            return kind, coin
        if kind in USER_STREAMS and isinstance(user, str) and ADDRESS.fullmatch(user):
            return kind, user.lower()
        return None

    def _unlisten(self, stream: Stream, connection: Connection) -> None:
        listeners = self._listeners.get(stream, {})
        listeners.pop(connection, None)
        if not listeners:
            self._listeners.pop(stream, None)


def error(text: str) -> Json:
    """A message on the error channel."""
    return {"channel": "error", "data": text}


def shown(value: Any) -> str:
    """*value* as JSON, shortened: what error messages quote."""
    text = encode(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _acknowledged(method: str, subscription: Json) -> Json:
    data = {"method": method, "subscription": subscription}
    return {"channel": "subscriptionResponse", "data": data}


def _over_limits(connection: Connection, stream: Stream) -> str | None:
    if len(connection.streams) >= MAX_SUBSCRIPTIONS:
        return f"Cannot subscribe to more than {MAX_SUBSCRIPTIONS} streams on a connection."
    users = _users(connection.streams) | _users([stream])
    if len(users) > MAX_USERS:
        return f"Cannot track more than {MAX_USERS} total users."
    return None


def _users(streams: Iterable[Stream]) -> set[str]:
    return {subject for kind, subject in streams if kind in USER_STREAMS}
