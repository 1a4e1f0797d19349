"""Who listens to what: subscriptions of connections, and sending to the right ones.

Owns the registry of connections and their subscriptions, and the documented answers to subscribing.
Never decides what is published: the exchange does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec
from attrs import astuple

from zq_daemon.venue.exchange.candles import INTERVALS
from zq_daemon.venue.exchange.depth import rounding
from zq_daemon.venue.exchange.faults import Faults, Misbehaviour
from zq_daemon.venue.exchange.listing import is_spot
from zq_daemon.venue.exchange.messages import Json
from zq_daemon.venue.exchange.outbox import Outbox

Stream = tuple[str, ...]
"""A channel as subscribed to, its coin or user (empty for `allMids`), and options if there are:
`nSigFigs` and `mantissa` of a book, the interval of candles, the coin of a user's asset data."""

COIN_STREAMS = frozenset({"l2Book", "bbo", "trades", "activeAssetCtx"})
USER_STREAMS = frozenset(
    {
        "orderUpdates",
        "userFills",
        "userEvents",
        "userFundings",
        "userNonFundingLedgerUpdates",
        "notification",
        "webData2",
        "activeAssetData",
    }
)
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
        self.misbehaviour = Misbehaviour(Faults())

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

    def drop_all(self, reason: str, code: int | None = None) -> None:
        """Cut all connections off; with a *code*, by a close frame."""
        for connection in self._connections:
            connection.outbox.close(reason, code)

    @property
    def connections(self) -> Collection[Connection]:
        """The connections there are."""
        return self._connections.keys()

    def has_listeners(self, stream: Stream) -> bool:
        """Whether anybody is subscribed."""
        return stream in self._listeners

    def listened(self, *kinds: str) -> Sequence[Stream]:
        """The streams of these *kinds* that somebody is subscribed to, oldest first."""
        return [stream for stream in self._listeners if stream[0] in kinds]

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
        faults = self.misbehaviour.faults
        if stream not in self._listeners or faults.freeze_data or faults.mute:
            return
        if stream[0] in USER_STREAMS:
            self._publish_private(stream, text)
            return
        for connection in self._listeners[stream]:
            connection.outbox.put(text)

    def _publish_private(self, stream: Stream, text: str) -> None:
        delay_s = self.misbehaviour.faults.private_latency_ms / 1000
        for _ in range(self.misbehaviour.copies(text)):
            for connection in self._listeners[stream]:
                connection.outbox.put_late(text, delay_s)

    def _stream(self, subscription: Any) -> Stream | None:
        """What *subscription* means; None: nothing, or a coin that is not listed."""
        match subscription:
            case {"type": "allMids"}:
                return "allMids", ""
            case {"type": "candle", "coin": str(coin), "interval": str(interval)}:
                known = coin in self._coins and interval in INTERVALS
                return ("candle", coin, interval) if known else None
            case {"type": "l2Book", "coin": str(coin)} if coin in self._coins:
                return _book(coin, subscription)
            case {"type": "activeAssetData", "user": str(user), "coin": str(coin)}:
                is_perp = coin in self._coins and not is_spot(coin)
                known = is_perp and ADDRESS.fullmatch(user) is not None
                return ("activeAssetData", user.lower(), coin) if known else None
            case {"type": str(kind), "coin": str(coin)} if kind in COIN_STREAMS:
                return (kind, coin) if coin in self._coins else None
            case {"type": str(kind), "user": str(user)} if kind in USER_STREAMS:
                plain = kind != "activeAssetData" and ADDRESS.fullmatch(user)
                return (kind, user.lower()) if plain else None
            case _:
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
    return {stream[1] for stream in streams if stream[0] in USER_STREAMS}


def _book(coin: str, subscription: Json) -> Stream | None:
    figures, mantissa = (subscription.get(name) for name in ("nSigFigs", "mantissa"))
    try:
        how = rounding(figures, mantissa)
    except ValueError:
        return None
    return ("l2Book", coin) if how is None else ("l2Book", coin, *map(str, astuple(how)))
