"""The composition root: makes every part from the configuration and the ports, starts nothing.

`daemon` makes an `Assembly` once the journal is open and the venues' instruments are known, and
opens its parts in order; `control` looks into it. Nothing else imports this module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
import trio
from attrs import evolve, frozen

from zq_daemon.config.schema import DaemonConfig, WsEndpointConfig
from zq_daemon.config.secrets import read_secret
from zq_daemon.config.source import Source
from zq_daemon.core import topics
from zq_daemon.core.bus import Fault, MessageBus
from zq_daemon.core.cache import Cache
from zq_daemon.core.portfolio import Portfolio
from zq_daemon.core.risk import RiskEngine
from zq_daemon.engine import execution
from zq_daemon.engine.bad_messages import BadMessages
from zq_daemon.engine.client_order_ids import ClientOrderIds
from zq_daemon.engine.clockwork import TickTask
from zq_daemon.engine.data import DataEngine
from zq_daemon.engine.dispatch import Dispatcher, FeedEvent, conflation_key
from zq_daemon.engine.execution import ExecutionEngine
from zq_daemon.engine.links import LinkGroup
from zq_daemon.errors import ConfigError, CredentialError, InvariantError
from zq_daemon.journal.journal import Journal
from zq_daemon.model.command import CancelAllOrders
from zq_daemon.model.event import LinkChanged, LinkState, TradingState, TradingStateChanged
from zq_daemon.model.ids import AccountId, InstrumentId
from zq_daemon.model.instrument import Instrument
from zq_daemon.model.report import Report
from zq_daemon.ports.clock import Clock, SystemClock
from zq_daemon.ports.disk import Disk, SystemDisk
from zq_daemon.ports.network import Network, SystemNetwork
from zq_daemon.ports.rng import Rng, system_rng
from zq_daemon.runtime.backoff import Backoff
from zq_daemon.runtime.feed_queue import FeedQueue
from zq_daemon.strategy.host import StrategyHost
from zq_daemon.venue.endpoint import Endpoint, EndpointSettings
from zq_daemon.venue.hyperliquid.adapter import HyperliquidAdapter
from zq_daemon.venue.hyperliquid.session import Stream
from zq_daemon.venue.hyperliquid.sign import AgentKey
from zq_daemon.venue.interface import VenueAdapter

_log = structlog.get_logger("zq.daemon")

_DAEMON = "daemon"
_GONE = (LinkState.DOWN, LinkState.REFUSED)
"""States of a link that nobody will bring up again without an operator."""
_OWN_PARTS = frozenset({_DAEMON, execution.OWNER})
"""Owners on the bus whose faults are the daemon's own; anybody else's are only reported."""


@frozen(kw_only=True)
class Ports:
    """Everything the daemon touches of the outside world."""

    clock: Clock
    rng: Rng
    network: Network
    disk: Disk


def system_ports(config: DaemonConfig) -> Ports:
    """The real world; files live below the configured state folder."""
    disk = SystemDisk(Path(config.state_dir))
    return Ports(clock=SystemClock(), rng=system_rng(), network=SystemNetwork(), disk=disk)


class Assembly:
    """All parts of a running daemon, wired together."""

    def __init__(
        self,
        config: DaemonConfig,
        ports: Ports,
        *,
        adapter: VenueAdapter,
        instruments: Sequence[Instrument],
        journal: Journal,
        run_id: int,
        source: Source,
    ) -> None:
        """*instruments* are the venue's; *run_id* (64 bits) begins this run's client order ids.

        *source* locates what is wrong with strategy parameters in the configuration file. Raises
        ConfigError and StrategyError.
        """
        limits = config.limits
        self.config = config
        self.ports = ports
        self.adapter = adapter
        self.run_id = run_id
        self._fatal: Fault | None = None
        self._failed = trio.Event()
        self.bus = MessageBus(self._on_fault, queue_limit=limits.bus_queue)
        self.cache = Cache(closed_orders=limits.closed_orders)
        for instrument in instruments:
            self.cache.add_instrument(instrument)
        self.portfolio = Portfolio(marks=self.cache.mid_or_mark, instruments=self.cache.instrument)
        self.risk = RiskEngine(self.cache, self.portfolio, config.risk)
        self.data = DataEngine(self.bus, self.cache, ports.clock, config.staleness)
        self.bad_messages = BadMessages(limits.bad_messages, limits.bad_message_bytes)
        self.feed = FeedQueue[FeedEvent](limits.feed_queue, conflation_key)
        self.dispatcher = Dispatcher(self.feed, self.data, self.bus)
        # Closed by the daemon once the links have ended; the report task then drains it.
        self.reports_in, self.reports = trio.open_memory_channel[Sequence[Report]](
            limits.report_queue
        )
        self.ticks = TickTask(config.tick_interval_ms, self.feed, ports.clock)
        self.links = LinkGroup(
            [self._endpoint(each, number) for number, each in enumerate(config.ws_endpoints)],
            config.heartbeat_interval_ms,
        )
        self.execution = self._execution(journal)
        account = adapter.account_id
        self.strategies = StrategyHost(
            bus=self.bus,
            cache=self.cache,
            portfolio=self.portfolio,
            clock=ports.clock,
            accounts={} if account is None else {adapter.venue: account},
            mint=ClientOrderIds(run_id),
            add_bars=self.data.add_bars,
        )
        self.strategies.load(config.strategies, source)
        self._expect_streams()
        self.bus.subscribe("system.link.*", self._on_link, owner=_DAEMON)
        self.bus.handle("trading.kill", self.kill, owner=_DAEMON)

    @property
    def accounts(self) -> tuple[AccountId, ...]:
        """The accounts the daemon trades for."""
        account = self.adapter.account_id
        return () if account is None else (account,)

    @property
    def instruments(self) -> tuple[InstrumentId, ...]:
        """The instruments some endpoint carries market data of."""
        every = (iid for endpoint in self.links.endpoints for iid in endpoint.instruments)
        return tuple(dict.fromkeys(every))

    async def run_reports(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Hand reports to the execution engine until the channel is closed and drained."""
        task_status.started()
        async for reports in self.reports:
            for report in reports:
                self.execution.on_report(report)

    async def watch_faults(self) -> None:
        """Raise InvariantError as soon as a part of the daemon itself has failed."""
        await self._failed.wait()
        assert self._fatal is not None
        where = f"{self._fatal.owner}, handling {self._fatal.topic}"
        raise InvariantError(f"{where}: {self._fatal.error!r}") from self._fatal.error

    def start_strategies(self) -> None:
        """Start them all; those whose link was refused or lost for good begin halted."""
        self.strategies.start()
        for endpoint in self.links.endpoints:
            if endpoint.state in _GONE:
                self._halt_users(endpoint, endpoint.state, endpoint.last_error)

    def chores(self) -> list[Callable[[int], object]]:
        """What housekeeping does: time bars and staleness, timers, the daily loss."""
        return [self.data.on_clock, self.strategies.on_clock, self._watch_losses]

    def reload(self, config: DaemonConfig, source: Source) -> None:
        """Take over what a running daemon can: strategy parameters, risk limits, the tick.

        Parameters are checked before anything changes; ConfigError says what is wrong with them.
        """
        self.strategies.reload(config.strategies, source)
        before = self.risk.state
        self.risk.reload(config.risk)
        if self.risk.state is not before:
            self._tell_trading_state()
        self.ticks.set_interval(config.tick_interval_ms)
        self.config = config

    def _execution(self, journal: Journal) -> ExecutionEngine:
        adapter, account, entry = self.adapter, self.adapter.account_id, self.adapter.order_entry
        trading = {} if account is None or entry is None else {account: entry}
        return ExecutionEngine(
            bus=self.bus,
            cache=self.cache,
            portfolio=self.portfolio,
            risk=self.risk,
            journal=journal,
            clock=self.ports.clock,
            entries=trading,
            queries={} if account is None else {account: adapter},
            slippage_bps=dict.fromkeys(trading, adapter.market_slippage_bps),
            limits=self.config.limits,
            run_id=self.run_id,
            is_stale=self.data.is_stale,
            is_link_up=self.links.is_order_link_up,
        )

    def _expect_streams(self) -> None:
        for endpoint in self.links.endpoints:
            for kind, instrument in endpoint.coverage:
                self.data.expect(instrument, kind)

    def kill(self, reason: str) -> None:
        """The kill switch: nothing may be sent any more, and what is open is cancelled."""
        if self.risk.kill(reason):
            self._tell_trading_state()

    def activate(self, reason: str) -> None:
        """An operator lets trading go on after a halt, and accepts the loss that caused it."""
        if self.risk.set_state(TradingState.ACTIVE, reason):
            self._tell_trading_state()

    def _watch_losses(self, now_ns: int) -> None:
        if self.risk.on_pnl(now_ns):
            self._tell_trading_state()

    def _tell_trading_state(self) -> None:
        state, reason = self.risk.state, self.risk.state_reason
        _log.warning("trading state changed", state=state.value, reason=reason)
        now_ns = self.ports.clock.now_ns()
        change = TradingStateChanged(state=state, reason=reason, ts_event_ns=now_ns)
        self.bus.publish(topics.TRADING_STATE, change)
        if state is TradingState.HALTED:
            self.bus.send("order.cancel_all", CancelAllOrders())

    def _on_link(self, event: LinkChanged) -> None:
        """A lost link makes its instruments stale; one that stays lost halts who depends on it."""
        if event.state is LinkState.UP and event.private:
            self.execution.on_link_up()
        if event.state in (LinkState.UP, LinkState.CONNECTING):
            return
        endpoint = self.links.endpoint(event.endpoint)
        self.data.on_link_lost(endpoint.instruments)
        if event.state in _GONE:
            self._halt_users(endpoint, event.state, event.reason)

    def _halt_users(self, endpoint: Endpoint, state: LinkState, why: str) -> None:
        reason = f"link {endpoint.settings.name} is {state.value}: {why}"
        self.strategies.halt_for(None if endpoint.private else endpoint.instruments, reason)

    def _endpoint(self, config: WsEndpointConfig, number: int) -> Endpoint:
        daemon, limits = self.config, self.config.limits
        try:
            self.adapter.session(config.streams)
        except ValueError as error:
            raise ConfigError(f"ws_endpoints[{number}].streams: {error}") from None
        settings = EndpointSettings(
            name=config.name or f"{config.venue}-{number}",
            url=config.url,
            streams=config.streams,
            auto_reconnect=daemon.auto_reconnect,
            connect_timeout_ms=daemon.connect_timeout_ms,
            reconnect_healthy_ms=daemon.reconnect_healthy_ms,
            heartbeat_timeout_ms=daemon.heartbeat_timeout_ms,
            feed_blocked_ms=limits.feed_blocked_ms,
            account_refresh_ms=daemon.account_refresh_ms,
            max_message_bytes=limits.max_message_bytes,
        )
        return Endpoint(
            settings,
            self.adapter,
            network=self.ports.network,
            clock=self.ports.clock,
            backoff=Backoff(daemon.reconnect_base_ms, daemon.reconnect_max_ms, self.ports.rng),
            feed=self.feed,
            reports=self.reports_in,
            on_bad=self._on_bad_message,
        )

    def _on_bad_message(self, source: str, message: str | bytes, problem: str) -> bool:
        now_ns = self.ports.clock.now_ns()
        self.bad_messages.add(source, message, problem, now_ns)
        _log.warning("bad message", endpoint=source, problem=problem)
        limit = self.config.limits.max_bad_messages_per_minute
        return self.bad_messages.last_minute(source, now_ns) > limit

    def _on_fault(self, fault: Fault) -> None:
        """A strategy's fault is its own affair; a fault of the daemon's own parts is fatal."""
        if not self.strategies.on_fault(fault):
            _log.error("handler raised", owner=fault.owner, topic=fault.topic, exc_info=fault.error)
            if fault.owner in _OWN_PARTS and self._fatal is None:
                self._fatal = fault
                self._failed.set()


@frozen(kw_only=True)
class Signer:
    """Who signs, and the address that owns the orders; None for what there is none of."""

    key: AgentKey | None
    account: str | None


def find_signer(config: DaemonConfig, rng: Rng) -> Signer:
    """The agent key from where keys live; on the embedded exchange one is made for this run.

    Raises CredentialError when an endpoint is private and there is neither key nor account.
    """
    settings = config.venues.hyperliquid
    key_file = None if settings.key_file is None else Path(settings.key_file)
    secret = read_secret(settings.key_credential, key_file)
    if secret is not None:
        key = AgentKey.from_text(secret.reveal())
        return Signer(key=key, account=settings.account)
    if config.exchange.enabled:
        key = AgentKey(rng.randbytes(32))
        return Signer(key=key, account=settings.account or key.address)
    if settings.account is None and any(is_private(each) for each in config.ws_endpoints):
        raise CredentialError(
            "a private stream is subscribed but there is neither account nor agent key: set "
            "venues.hyperliquid.account, and pass the key as the systemd credential "
            f"{settings.key_credential!r} or in a 0600 file named by venues.hyperliquid.key_file"
        )
    return Signer(key=None, account=settings.account)


def is_private(endpoint: WsEndpointConfig) -> bool:
    """Whether the endpoint carries reports and order entry."""
    return any(Stream.parse(stream).private for stream in endpoint.streams)


def open_adapter(config: DaemonConfig, ports: Ports, signer: Signer) -> VenueAdapter:
    """The venue's adapter for *signer*."""
    settings = evolve(config.venues.hyperliquid, account=signer.account)
    return HyperliquidAdapter(settings, ports.network, ports.clock, signer.key)
