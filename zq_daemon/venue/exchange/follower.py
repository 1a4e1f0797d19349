"""The connection of a market that follows another venue: what it lists, and its live messages.

Owns the link to the venue: subscriptions as the market wants them, pings, and the way back after a
loss. It understands no message beyond which stream it belongs to, and sends no order. The embedded
exchange runs it beside its server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import structlog
import trio
from attrs import field, frozen

from zq_daemon.errors import ConfigError, DecodeError, LinkError, LinkRefused
from zq_daemon.ports.http import HttpClient, Origin
from zq_daemon.ports.link import WebSocketLink, WsUrl, open_link
from zq_daemon.ports.network import Network
from zq_daemon.runtime.backoff import Backoff
from zq_daemon.venue.exchange.follow import FOLLOWED, FollowMarket
from zq_daemon.venue.exchange.listing import Listing, Perp, SpotPair, Token
from zq_daemon.venue.exchange.public_messages import parse_message

_log = structlog.get_logger("zq.exchange.follow")
_HTTP_MS = 20_000
_MAX_BYTES = 16 << 20
_CONNECT_S = 10.0
_PING_S = 30.0
_PONG_S = 10.0
_HEALTHY_S = 60.0
_PING = '{"method":"ping"}'
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_Decimals = Annotated[int, msgspec.Meta(ge=0, le=18)]
_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]


@frozen
class FollowedVenue:
    """Where a venue is: the base URL of its API, as `https://api.hyperliquid.xyz`."""

    url: str
    socket: WsUrl = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Raise ConfigError for a URL that is none."""
        try:
            origin = Origin.parse(self.url)
        except ValueError as error:
            raise ConfigError(f"cannot follow {self.url!r}: {error}") from None
        scheme = "wss" if origin.tls else "ws"
        socket = WsUrl.parse(f"{scheme}://{origin.host_header}{origin.path}/ws")
        object.__setattr__(self, "socket", socket)


async def load_listing(network: Network, venue: FollowedVenue) -> Listing:
    """What *venue* lists; raises LinkError when it cannot be asked, DecodeError for nonsense."""
    client = HttpClient(network, venue.url, timeout_ms=_HTTP_MS, max_response_bytes=_MAX_BYTES)
    try:
        perps = await _ask(client, venue, "meta", _Meta)
        spot = await _ask(client, venue, "spotMeta", _SpotMeta)
    finally:
        await client.aclose()
    try:
        return _listing(perps, spot)
    except (KeyError, ValueError) as error:
        raise DecodeError(f"{venue.url} lists something impossible: {error}") from error


class Follower:
    """Keeps *market* told of what its venue says."""

    def __init__(
        self,
        venue: FollowedVenue,
        market: FollowMarket,
        *,
        network: Network,
        backoff: Backoff,
        arrived: Callable[[], None],
    ) -> None:
        """*arrived* is called when there is something for the market to take."""
        self._venue = venue
        self._market = market
        self._network = network
        self._backoff = backoff
        self._arrived = arrived
        self._pong = trio.Event()
        self._asked = self._answered = 0

    async def run(self) -> None:
        """Connect again and again until cancelled."""
        while True:
            started = trio.current_time()
            try:
                await self._connect()
            except (LinkError, LinkRefused) as error:
                reason = str(error)
            await self._market.lose()
            self._arrived()
            if trio.current_time() - started > _HEALTHY_S:
                self._backoff.reset()
            delay_ms = self._backoff.next_delay_ms()
            _log.warning("followed venue lost", reason=reason, next_attempt_ms=delay_ms)
            await trio.sleep(delay_ms / 1000)

    async def _connect(self) -> None:
        """One connection; ends by LinkError or LinkRefused only."""
        async with (
            open_link(
                self._network,
                self._venue.socket,
                connect_timeout_s=_CONNECT_S,
                max_message_bytes=_MAX_BYTES,
            ) as link,
            trio.open_nursery() as nursery,
        ):
            _log.info("venue followed", url=self._venue.url)
            self._asked = self._answered = 0
            nursery.start_soon(self._subscribe, link)
            nursery.start_soon(self._ping, link)
            while True:
                await self._hear(await link.receive())

    async def _subscribe(self, link: WebSocketLink) -> None:
        """Ask for what is wanted, and for what will be."""
        while True:
            for channel, coin in self._market.wanted[self._asked :]:
                subscription = {"type": channel, "coin": coin} if coin else {"type": channel}
                await link.send(_text({"method": "subscribe", "subscription": subscription}))
                self._asked += 1
            await self._market.wait_wanted(self._asked)

    async def _ping(self, link: WebSocketLink) -> None:
        while True:
            asked = self._asked
            await trio.sleep(_PING_S)
            if self._answered < asked:
                raise LinkError(f"{self._venue.url}: no answer to a subscription")
            self._pong = trio.Event()
            await link.send(_PING)
            with trio.move_on_after(_PONG_S) as patience:
                await self._pong.wait()
            if patience.cancelled_caught:
                raise LinkError(f"{self._venue.url}: no pong within {_PONG_S:g} s")

    async def _hear(self, raw: str | bytes) -> None:
        message = parse_message(raw, FOLLOWED)
        if message is None:
            return
        if message.channel:
            await self._market.deliver(message)
            self._arrived()
        elif message.data == "pong":
            self._pong.set()
        elif message.data in ("subscriptionResponse", "error"):
            self._answered += 1


class _MetaPerp(msgspec.Struct, rename="camel"):
    name: _Text
    sz_decimals: _Decimals
    max_leverage: Annotated[int, msgspec.Meta(ge=1, le=1_000)]
    only_isolated: bool = False
    is_delisted: bool = False


class _Meta(msgspec.Struct):
    universe: Annotated[list[_MetaPerp], msgspec.Meta(max_length=10_000)]


class _MetaToken(msgspec.Struct, rename="camel"):
    name: _Text
    index: _Count
    sz_decimals: _Decimals
    wei_decimals: _Decimals
    token_id: _Text


class _MetaPair(msgspec.Struct, rename="camel"):
    name: _Text
    index: _Count
    tokens: tuple[_Count, _Count]


class _SpotMeta(msgspec.Struct):
    tokens: Annotated[list[_MetaToken], msgspec.Meta(max_length=10_000)]
    universe: Annotated[list[_MetaPair], msgspec.Meta(max_length=10_000)]


async def _ask(client: HttpClient, venue: FollowedVenue, kind: str, shape: type[Any]) -> Any:
    reply = await client.post_json("/info", {"type": kind}, idempotent=True)
    if reply.status != 200:
        raise LinkError(f"{venue.url}/info answers {kind} with HTTP {reply.status}")
    try:
        return msgspec.json.decode(reply.content, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"{venue.url}/info: {kind}: {error}") from error


def _listing(meta: _Meta, spot: _SpotMeta) -> Listing:
    perps = [
        Perp(
            name=each.name,
            size_decimals=each.sz_decimals,
            max_leverage=each.max_leverage,
            only_isolated=each.only_isolated,
            delisted=each.is_delisted,
        )
        for each in meta.universe
    ]
    tokens = {
        each.index: Token(
            name=each.name,
            index=each.index,
            size_decimals=each.sz_decimals,
            wei_decimals=each.wei_decimals,
            token_id=each.token_id,
        )
        for each in spot.tokens
    }
    pairs = [
        SpotPair(
            name=each.name,
            base=tokens[each.tokens[0]],
            quote=tokens[each.tokens[1]],
            index=each.index,
        )
        for each in spot.universe
    ]
    return Listing(perps, pairs)


def _text(message: Any) -> str:
    return msgspec.json.encode(message).decode()
