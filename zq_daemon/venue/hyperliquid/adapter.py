"""Hyperliquid as a venue: instruments and account over HTTP, sessions, order entry.

Owns the queries of `POST /info` and puts the parts together. The account asked about is always
the one that owns the orders, never the agent that signs. The daemon makes one and hands it to the
endpoint tasks and the execution engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import structlog
import trio
from attrs import evolve

from zq_daemon.config.schema import HyperliquidConfig
from zq_daemon.errors import ConfigError, DecodeError, LinkError, LinkRefused, NoRoomError
from zq_daemon.model.account import Balance
from zq_daemon.model.fill import Fill
from zq_daemon.model.ids import (
    AccountId,
    ClientOrderId,
    InstrumentId,
    Venue,
    VenueOrderId,
    instrument_id,
    is_external,
)
from zq_daemon.model.instrument import Instrument
from zq_daemon.model.order import OrderStatus
from zq_daemon.model.report import AccountReport, FillHistory, OrderReport
from zq_daemon.ports.clock import NS_PER_MS, NS_PER_S, Clock
from zq_daemon.ports.http import HttpClient, HttpReply
from zq_daemon.ports.network import Network
from zq_daemon.ports.rng import Rng
from zq_daemon.runtime.backoff import Backoff
from zq_daemon.venue.hyperliquid import decode, instruments, wire
from zq_daemon.venue.hyperliquid.budget import RateBudget, sleep_ns
from zq_daemon.venue.hyperliquid.history import load_history
from zq_daemon.venue.hyperliquid.pairing import Questions, check_pairing
from zq_daemon.venue.hyperliquid.posts import HttpPosts
from zq_daemon.venue.hyperliquid.session import HyperliquidSession, Stream
from zq_daemon.venue.hyperliquid.sign import ADDRESS_PATTERN, AgentKey
from zq_daemon.venue.hyperliquid.trade import HyperliquidOrderEntry
from zq_daemon.venue.interface import ClockSkew, Credentials, StreamKind

API_URLS = {
    "mainnet": "https://api.hyperliquid.xyz",
    "testnet": "https://api.hyperliquid-testnet.xyz",
}
MAX_RESPONSE_BYTES = 16 * 1024 * 1024
_MAX_ANSWER_BYTES = 1024 * 1024
_POSTS_AT_ONCE = 16
_BACKOFF_MS, _LONGEST_BACKOFF_MS = 1_000, 60_000
_ACTIONS_KNOWN_NS = 60 * NS_PER_S
"""How long what the venue told of the account's actions is good enough, with ours counted on."""
_log = structlog.get_logger("zq.venue")

_KINDS: dict[str, StreamKind] = {
    "l2Book": "book",
    "bbo": "quote",
    "trades": "trade",
    "activeAssetCtx": "mark",
    "candle": "candle",
}
_NAMED_IN_ACTIONS = frozenset({"subAccount", "vault"})
_TOO_MANY = 429
_RETRY_LATER = frozenset({408, _TOO_MANY})
_T = TypeVar("_T")
_meta = wire.decoder(wire.PerpetualMeta)
_spot_meta = wire.decoder(wire.SpotMeta)
_state = wire.decoder(wire.ClearinghouseState)
_spot_state = wire.decoder(wire.SpotState)
_orders = wire.decoder(list[wire.Order])
_fills = wire.decoder(list[wire.Fill])
_order_status = wire.decoder(wire.OrderStatus)
_user_role = wire.decoder(wire.UserRole)
_extra_agents = wire.decoder(list[wire.ExtraAgent])
_exchange_status = wire.decoder(wire.ExchangeStatus)
_vault_details = wire.decoder(wire.VaultDetails)
_rate_limit = wire.decoder(wire.UserRateLimit)


class HyperliquidAdapter:
    """One account (or none) at Hyperliquid; see `venue.interface.VenueAdapter`."""

    def __init__(
        self,
        config: HyperliquidConfig,
        network: Network,
        clock: Clock,
        key: AgentKey | None,
        rng: Rng,
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
        self._pairs: Mapping[str, InstrumentId] = {}
        self._signer = None if key is None else key.address.lower()
        self._role_known = False
        self._http = _client(config, network)
        self._exchange = _exchange_client(config, network)
        self._budget = RateBudget(
            clock=clock,
            backoff=Backoff(_BACKOFF_MS, _LONGEST_BACKOFF_MS, rng),
            weight_per_minute=config.weight_per_minute,
            messages_per_minute=config.messages_per_minute,
        )
        self._turn = trio.Lock()
        self._actions_known_ns: int | None = None
        self._entry: HyperliquidOrderEntry | None = None
        if key is not None:
            self._entry = HyperliquidOrderEntry(
                config=config,
                clock=clock,
                key=key,
                asset_of=self._asset_of,
                budget=self._budget,
                http=HttpPosts(self._exchange),
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
    def budgets(self) -> Mapping[str, Any]:
        """Weight and messages of this machine in the last minute, actions of the account."""
        return self._budget.status()

    @property
    def market_slippage_bps(self) -> int:
        """As configured."""
        return self._config.market_slippage_bps

    async def load_instruments(self) -> Sequence[Instrument]:
        """The perpetuals of `meta` and the pairs of `spotMeta`.

        Delisted perpetuals are included: they count in the asset ids.
        """
        meta = await self._info({"type": "meta"}, _meta)
        spot_meta = await self._info({"type": "spotMeta"}, _spot_meta)
        perpetuals = _understood("meta", lambda: instruments.perpetuals(meta))
        pairs = _understood("spotMeta", lambda: instruments.spot_pairs(spot_meta))
        loaded = (*perpetuals, *pairs)
        by_id = {instrument.id: instrument for instrument in loaded}
        if len(by_id) != len(loaded):
            raise DecodeError("meta, spotMeta: a name is in the universe twice")
        self._instruments = by_id
        self._pairs = instruments.pairs_of_tokens(pairs)
        return loaded

    async def check_credentials(self) -> Credentials | None:
        """By `userRole` of account and key, and for an agent's end by `extraAgents`."""
        if self._address is None:
            return None
        ask = Questions(role=self._ask_role, agents=self._ask_agents, leader=self._ask_leader)
        return await check_pairing(ask, account=self._address, signer=self._signer)

    async def measure_clock(self) -> ClockSkew:
        """By the time in `exchangeStatus`, else by the `Date` of its answer."""
        began_ns = self._clock.now_ns()
        reply = await self._ask("exchangeStatus", {"type": "exchangeStatus"})
        ended_ns = self._clock.now_ns()

        def read() -> ClockSkew:
            told = _exchange_status.decode(reply.content if reply.status == 200 else b"{}")
            return decode.clock_skew(began_ns, ended_ns, told, reply.date)

        return _understood("exchangeStatus", read)

    async def actions_left(self) -> int | None:
        """By `userRateLimit`."""
        if self._address is None:
            return None
        query = {"type": "userRateLimit", "user": self._address}
        told: wire.UserRateLimit = await self._info(query, _rate_limit)
        return told.n_requests_cap - told.n_requests_used

    async def load_account(self) -> AccountReport:
        """Figures of `clearinghouseState`, tokens of `spotClearinghouseState`, orders.

        Three queries, so not one instant: `frontendOpenOrders` is asked for last. What filled in
        between is in the private stream and is deduplicated there by trade id.

        A token counts as a position in its pair against the dollar, if there is one.
        """
        account_id, address = self.account_id, self._address
        if account_id is None:
            raise LinkRefused("venues.hyperliquid.account is not set: no account to load")
        await self._learn_role()
        await self._learn_actions()
        state = await self._info({"type": "clearinghouseState", "user": address}, _state)
        spot = await self._spot_balances()
        orders = await self._info({"type": "frontendOpenOrders", "user": address}, _orders)
        now_ns = self._clock.now_ns()
        return _understood(
            "clearinghouseState",
            lambda: decode.account_report(
                state, spot, orders, account_id, now_ns, pairs=self._pairs
            ),
        )

    async def load_fills(self, since_ns: int) -> FillHistory:
        """`userFillsByTime`, page by page; those of the same millisecond as *since_ns* too."""
        account_id = self.account_id
        if account_id is None:
            raise LinkRefused("venues.hyperliquid.account is not set: no fills to load")
        await self._learn_role()

        async def page(start_ms: int) -> Sequence[Fill]:
            query = {"type": "userFillsByTime", "user": self._address, "startTime": start_ms}
            wired = await self._info(query, _fills)
            now_ns = self._clock.now_ns()
            return _understood(
                "userFillsByTime", lambda: [decode.fill(each, account_id, now_ns) for each in wired]
            )

        return await load_history(page, max(since_ns, 0) // NS_PER_MS)

    async def query_order(
        self, client_order_id: ClientOrderId, venue_order_id: VenueOrderId | None = None
    ) -> OrderReport | None:
        """`orderStatus` by client order id; None for `unknownOid`, which is no evidence.

        An external order is asked for by its venue order id first. Where that ended or is not
        found, a modification of ours may have replaced it: that one has the client order id.
        """
        account_id = self.account_id
        if account_id is None:
            raise LinkRefused("venues.hyperliquid.account is not set: no order to ask about")
        report = None
        if is_external(client_order_id) and (oid := decode.order_number(venue_order_id)):
            report = await self._order_status(account_id, oid)
            if report is not None and report.status is OrderStatus.ACCEPTED:
                return _identified(report, client_order_id)
        named = await self._order_status(account_id, client_order_id)
        found = named or report
        return None if found is None else _identified(found, client_order_id)

    def session(self, streams: Sequence[str]) -> HyperliquidSession:
        """A session for one connection with *streams*."""
        made = HyperliquidSession(
            streams,
            account_id=self.account_id,
            address=self._address,
            listed=self._instruments.keys() if self._instruments else None,
        )
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
        await self._exchange.aclose()

    async def _spot_balances(self) -> Sequence[Balance]:
        """Nothing is asked while no spot pair is known."""
        if not any(each.is_spot for each in self._instruments.values()):
            return ()
        query = {"type": "spotClearinghouseState", "user": self._address}
        state = await self._info(query, _spot_state)
        return _understood("spotClearinghouseState", lambda: decode.spot_balances(state))

    async def _order_status(
        self, account_id: AccountId, oid: int | ClientOrderId
    ) -> OrderReport | None:
        query = {"type": "orderStatus", "user": self._address, "oid": oid}
        update = (await self._info(query, _order_status)).order
        if update is None:
            return None
        if isinstance(oid, int) and update.order.oid != oid:
            raise DecodeError(f"orderStatus: asked for {oid}, told {update.order.oid}")
        now_ns = self._clock.now_ns()
        return _understood("orderStatus", lambda: decode.order_report(update, account_id, now_ns))

    async def _learn_role(self) -> None:
        """An agent's address has no positions to show; a sub-account's orders must name it."""
        if self._role_known:
            return
        assert self._address is not None
        if (await self._ask_role(self._address)).role == "agent":
            raise LinkRefused(
                f"venues.hyperliquid.account {self._address} is an agent: "
                "give the address of the account it trades for"
            )

    async def _ask_role(self, address: str) -> wire.UserRole:
        told: wire.UserRole = await self._info({"type": "userRole", "user": address}, _user_role)
        if address == self._address and told.role != "agent":
            if told.role in _NAMED_IN_ACTIONS and self._entry is not None:
                self._entry.vault_address = self._address
            self._role_known = True
        return told

    async def _ask_agents(self, address: str) -> Sequence[wire.ExtraAgent]:
        return await self._info({"type": "extraAgents", "user": address}, _extra_agents)

    async def _ask_leader(self, vault: str) -> str:
        query = {"type": "vaultDetails", "vaultAddress": vault}
        details: wire.VaultDetails = await self._info(query, _vault_details)
        return details.leader

    def _has(self, coin: str) -> bool:
        return instrument_id(decode.VENUE, coin) in self._instruments

    def _asset_of(self, instrument: InstrumentId) -> int:
        return self._instruments[instrument].asset_id

    async def _learn_actions(self) -> None:
        """How many actions the account has left: worth knowing, and no reason to fail."""
        now_ns = self._clock.monotonic_ns()
        known_ns = self._actions_known_ns
        if self._entry is None:
            return
        if known_ns is not None and now_ns - known_ns < _ACTIONS_KNOWN_NS:
            return
        self._actions_known_ns = now_ns
        try:
            told = await self._info({"type": "userRateLimit", "user": self._address}, _rate_limit)
        except (LinkError, LinkRefused, DecodeError) as error:
            _log.warning("rate limit of the account is not known", reason=str(error))
            return
        self._budget.learn(told.n_requests_used, told.n_requests_cap)

    async def _info(self, query: Any, decoder: msgspec.json.Decoder[_T]) -> _T:
        kind = query["type"]
        reply = await self._ask(kind, query)
        if reply.status != 200:
            text = f"{kind}: HTTP {reply.status}: {reply.content[:200].decode(errors='replace')}"
            transient = reply.status >= 500 or reply.status in _RETRY_LATER
            raise LinkError(text) if transient else LinkRefused(text)
        found = _understood(kind, lambda: decoder.decode(reply.content))
        self._budget.spend_answer(kind, found)
        return found

    async def _ask(self, kind: str, query: Any) -> HttpReply:
        """Post a query once the venue's limits leave room; NoRoomError if that takes long."""
        async with self._turn:
            if wait_ns := self._budget.query_wait_ns(kind):
                if wait_ns > self._config.http_timeout_ms * NS_PER_MS:
                    left_s = wait_ns / NS_PER_S
                    raise NoRoomError(f"{kind}: rate limit: none free for {left_s:.1f} s")
                await sleep_ns(wait_ns)
            self._budget.spend_query(kind)
        sent_ns = self._clock.monotonic_ns()
        reply = await self._http.post_json("/info", query, idempotent=True)
        if reply.status == _TOO_MANY:
            self._budget.throttle()
        else:
            self._budget.recover(sent_ns)
        return reply


def _identified(report: OrderReport, asked: ClientOrderId) -> OrderReport:
    if report.client_order_id not in (None, asked):
        raise DecodeError(f"orderStatus: asked for {asked}, told {report.client_order_id}")
    return evolve(report, client_order_id=asked)


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


def _exchange_client(config: HyperliquidConfig, network: Network) -> HttpClient:
    """For actions: connections of their own, which no long query holds up."""
    return HttpClient(
        network,
        config.api_url or API_URLS[config.network],
        timeout_ms=config.post_timeout_ms,
        max_response_bytes=_MAX_ANSWER_BYTES,
        max_connections=_POSTS_AT_ONCE,
    )
