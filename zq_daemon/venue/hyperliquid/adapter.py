"""Hyperliquid as a venue: instruments and account over HTTP, sessions, order entry.

Owns the queries of `POST /info` and puts the parts together. The account asked about is always
the one that owns the orders, never the agent that signs. The daemon makes one and hands it to the
endpoint tasks and the execution engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from attrs import evolve

from zq_daemon.config.schema import HyperliquidConfig
from zq_daemon.errors import ConfigError, DecodeError, LinkError, LinkRefused
from zq_daemon.model.ids import AccountId, ClientOrderId, InstrumentId, Venue, instrument_id
from zq_daemon.model.instrument import Instrument
from zq_daemon.model.report import AccountReport, OrderReport
from zq_daemon.ports.clock import Clock
from zq_daemon.ports.http import HttpClient
from zq_daemon.ports.network import Network
from zq_daemon.venue.hyperliquid import decode, wire
from zq_daemon.venue.hyperliquid.session import HyperliquidSession, Stream
from zq_daemon.venue.hyperliquid.sign import ADDRESS_PATTERN, AgentKey
from zq_daemon.venue.hyperliquid.trade import HyperliquidOrderEntry
from zq_daemon.venue.interface import StreamKind

API_URLS = {
    "mainnet": "https://api.hyperliquid.xyz",
    "testnet": "https://api.hyperliquid-testnet.xyz",
}
MAX_RESPONSE_BYTES = 16 * 1024 * 1024

_KINDS: dict[str, StreamKind] = {
    "l2Book": "book",
    "bbo": "quote",
    "trades": "trade",
    "activeAssetCtx": "mark",
}
_NAMED_IN_ACTIONS = frozenset({"subAccount", "vault"})
_RETRY_LATER = frozenset({408, 429})
_T = TypeVar("_T")
_meta = wire.decoder(wire.PerpetualMeta)
_state = wire.decoder(wire.ClearinghouseState)
_orders = wire.decoder(list[wire.Order])
_order_status = wire.decoder(wire.OrderStatus)
_user_role = wire.decoder(wire.UserRole)


class HyperliquidAdapter:
    """One account (or none) at Hyperliquid; see `venue.interface.VenueAdapter`."""

    def __init__(
        self, config: HyperliquidConfig, network: Network, clock: Clock, key: AgentKey | None
    ) -> None:
        """Without a *key* nothing can be traded; ConfigError: account or api_url is malformed."""
        self._clock = clock
        self._config = config
        self._address = _address(config.account)
        if key is not None and self._address is None:
            raise ConfigError(
                "venues.hyperliquid.account: needed beside the agent key "
                "(the address that owns the orders, not the agent's)"
            )
        self._instruments: dict[InstrumentId, Instrument] = {}
        self._role_known = False
        self._http = _client(config, network)
        self._entry: HyperliquidOrderEntry | None = None
        if key is not None:
            self._entry = HyperliquidOrderEntry(
                config=config, clock=clock, key=key, asset_of=self._asset_of
            )

    @property
    def venue(self) -> Venue:
        """`hyperliquid`."""
        return decode.VENUE

    @property
    def account_id(self) -> AccountId | None:
        """`hyperliquid.<address>`; None when the configuration names no account."""
        return None if self._address is None else AccountId(f"{decode.VENUE}.{self._address}")

    @property
    def order_entry(self) -> HyperliquidOrderEntry | None:
        """Order entry; None without an agent key."""
        return self._entry

    @property
    def market_slippage_bps(self) -> int:
        """As configured."""
        return self._config.market_slippage_bps

    async def load_instruments(self) -> Sequence[Instrument]:
        """The perpetuals of `meta`, delisted ones included (they count in the asset ids)."""
        meta = await self._info({"type": "meta"}, _meta)
        loaded = _understood("meta", lambda: decode.instruments(meta))
        by_id = {instrument.id: instrument for instrument in loaded}
        if len(by_id) != len(loaded):
            raise DecodeError("meta: a name is in the universe twice")
        self._instruments = by_id
        return loaded

    async def load_account(self) -> AccountReport:
        """Figures and positions of `clearinghouseState`, orders of `frontendOpenOrders`.

        Two queries, so not one instant: the orders are asked for last. What filled in between is
        in the private stream and is deduplicated there by trade id.
        """
        account_id, address = self.account_id, self._address
        if account_id is None:
            raise LinkRefused("venues.hyperliquid.account is not set: no account to load")
        await self._learn_role()
        state = await self._info({"type": "clearinghouseState", "user": address}, _state)
        orders = await self._info({"type": "frontendOpenOrders", "user": address}, _orders)
        now_ns = self._clock.now_ns()
        return _understood(
            "clearinghouseState",
            lambda: decode.account_report(state, orders, account_id, now_ns),
        )

    async def query_order(self, client_order_id: ClientOrderId) -> OrderReport | None:
        """`orderStatus` by client order id; None for `unknownOid`, which is no evidence."""
        account_id = self.account_id
        if account_id is None:
            raise LinkRefused("venues.hyperliquid.account is not set: no order to ask about")
        query = {"type": "orderStatus", "user": self._address, "oid": client_order_id}
        answer = await self._info(query, _order_status)
        if answer.order is None:
            return None
        update, now_ns = answer.order, self._clock.now_ns()
        report = _understood("orderStatus", lambda: decode.order_report(update, account_id, now_ns))
        if report.client_order_id not in (None, client_order_id):
            raise DecodeError(
                f"orderStatus: asked for {client_order_id}, told {report.client_order_id}"
            )
        return evolve(report, client_order_id=client_order_id)

    def session(self, streams: Sequence[str]) -> HyperliquidSession:
        """A session for one connection with *streams*."""
        made = HyperliquidSession(streams, account_id=self.account_id, address=self._address)
        for text in streams:
            coin = Stream.parse(text).coin
            if coin is not None and self._instruments and not self._has(coin):
                raise ValueError(f"stream {text!r}: hyperliquid has no {coin!r} (case matters)")
        return made

    def coverage(self, streams: Sequence[str]) -> Sequence[tuple[StreamKind, InstrumentId]]:
        """The market data *streams* carry; ValueError as in `session`."""
        parsed = (Stream.parse(text) for text in streams)
        return tuple(
            (_KINDS[each.kind], instrument_id(decode.VENUE, each.coin))
            for each in parsed
            if each.coin is not None
        )

    def is_private(self, streams: Sequence[str]) -> bool:
        """Whether any of *streams* is about the account; ValueError as in `session`."""
        return any(Stream.parse(text).private for text in streams)

    async def aclose(self) -> None:
        """Close the HTTP connections."""
        await self._http.aclose()

    async def _learn_role(self) -> None:
        """An agent's address has no positions to show; a sub-account's orders must name it."""
        if self._role_known:
            return
        role = (await self._info({"type": "userRole", "user": self._address}, _user_role)).role
        if role == "agent":
            raise LinkRefused(
                f"venues.hyperliquid.account {self._address} is an agent: "
                "give the address of the account it trades for"
            )
        if role in _NAMED_IN_ACTIONS and self._entry is not None:
            self._entry.vault_address = self._address
        self._role_known = True

    def _has(self, coin: str) -> bool:
        return instrument_id(decode.VENUE, coin) in self._instruments

    def _asset_of(self, instrument: InstrumentId) -> int:
        return self._instruments[instrument].asset_id

    async def _info(self, query: Any, decoder: msgspec.json.Decoder[_T]) -> _T:
        reply = await self._http.post_json("/info", query, idempotent=True)
        kind = query["type"]
        if reply.status != 200:
            text = f"{kind}: HTTP {reply.status}: {reply.content[:200].decode(errors='replace')}"
            transient = reply.status >= 500 or reply.status in _RETRY_LATER
            raise LinkError(text) if transient else LinkRefused(text)
        return _understood(kind, lambda: decoder.decode(reply.content))


def _understood(kind: str, read: Callable[[], _T]) -> _T:
    try:
        return read()
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"{kind}: {error}") from error


def _address(account: str | None) -> str | None:
    if account is None:
        return None
    lowered = account.lower()
    if not ADDRESS_PATTERN.fullmatch(lowered):
        raise ConfigError(
            f"venues.hyperliquid.account {account!r}: expected 0x and 40 hexadecimal digits"
        )
    return lowered


def _client(config: HyperliquidConfig, network: Network) -> HttpClient:
    try:
        return HttpClient(
            network,
            config.api_url or API_URLS[config.network],
            timeout_ms=config.http_timeout_ms,
            max_response_bytes=MAX_RESPONSE_BYTES,
        )
    except ValueError as error:
        raise ConfigError(f"venues.hyperliquid.api_url: {error}") from None
