"""The composition root: makes every part from the configuration and the ports, starts nothing.

`daemon` makes an `Assembly` once the journal is open and the venues' instruments are known, and
opens its parts in order; `control` looks into it. Nothing else imports this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import structlog
import trio
from attrs import Factory, evolve, frozen

from zq_daemon.config.schema import DaemonConfig, HyperliquidConfig, WsEndpointConfig
from zq_daemon.config.secrets import Secret, read_secret
from zq_daemon.config.source import Source
from zq_daemon.core import topics
from zq_daemon.core.bus import Fault, MessageBus
from zq_daemon.core.risk import RiskEngine
from zq_daemon.engine import execution
from zq_daemon.engine.bad_messages import BadMessages
from zq_daemon.engine.client_order_ids import ClientOrderIds
from zq_daemon.engine.clockwork import TickTask
from zq_daemon.engine.credential_watch import CredentialWatch
from zq_daemon.engine.data import DataEngine
from zq_daemon.engine.day_keeper import DayKeeper
from zq_daemon.engine.dead_mans_switch import DeadMansSwitch
from zq_daemon.engine.dispatch import Dispatcher, FeedEvent, conflation_key
from zq_daemon.engine.execution import ExecutionEngine, ExecutionSettings
from zq_daemon.engine.leverage import Leverage, set_leverage
from zq_daemon.engine.links import LinkGroup
from zq_daemon.engine.restore import Restored
from zq_daemon.errors import (
    ConfigError,
    CredentialError,
    InvariantError,
    UnresolvedOrdersError,
)
from zq_daemon.journal.journal import Journal
from zq_daemon.journal.record import RunEnded, RunStarted
from zq_daemon.journal.state import JournalState
from zq_daemon.model.command import CancelAllOrders
from zq_daemon.model.event import (
    LinkChanged,
    LinkState,
    Probe,
    TradingState,
    TradingStateChanged,
)
from zq_daemon.model.ids import AccountId, InstrumentId
from zq_daemon.model.instrument import Instrument
from zq_daemon.model.report import Report
from zq_daemon.ports.clock import NS_PER_MS, Clock, SystemClock
from zq_daemon.ports.disk import Disk, SystemDisk
from zq_daemon.ports.network import Network, SystemNetwork
from zq_daemon.ports.notify import Notify, no_notify
from zq_daemon.ports.rng import Rng, system_rng
from zq_daemon.ports.sqlite import Databases, SystemDatabases
from zq_daemon.runtime.backoff import Backoff
from zq_daemon.runtime.feed_queue import FeedQueue
from zq_daemon.strategy.host import StrategyHost
from zq_daemon.venue.endpoint import Endpoint, EndpointSettings, spread
from zq_daemon.venue.hyperliquid.adapter import HyperliquidAdapter
from zq_daemon.venue.hyperliquid.session import Stream
from zq_daemon.venue.hyperliquid.sign import AgentKey
from zq_daemon.venue.interface import Credentials, OrderEntry, VenueAdapter
from zq_daemon.version import VERSION

_log = structlog.get_logger("zq.daemon")

_DAEMON = "daemon"
_GONE = (LinkState.DOWN, LinkState.REFUSED)
"""States of a link that nobody will bring up again without an operator."""
_OWN_PARTS = frozenset({_DAEMON, execution.OWNER})
"""Owners on the bus whose faults are the daemon's own; anybody else's are only reported."""


@frozen(kw_only=True)
class Ports:
    """What the daemon touches of the outside world; without *databases* it keeps no history."""

    clock: Clock
    rng: Rng
    network: Network
    disk: Disk
    notify: Notify = Factory(no_notify)
    databases: Databases | None = None


def system_ports(config: DaemonConfig) -> Ports:
    """The real world; files live below the configured state folder."""
    folder = Path(config.state_dir)
    return Ports(
        clock=SystemClock(),
        rng=system_rng(),
        network=SystemNetwork(),
        disk=SystemDisk(folder),
        databases=SystemDatabases(folder),
    )


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
        damages: int = 0,
        credentials: Credentials | None = None,
    ) -> None:
        """*instruments* are the venue's; *run_id* (64 bits) begins this run's client order ids.

        Cache and portfolio are those of the journal's state, and go on from it: what the journal
        alone settles is settled here (`restored`). *damages* of the journal were accepted so far.

        *credentials*: what the venue said of who signs for the account.

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
        self._reported = trio.Event()
        self._passed = trio.Event()
        self._probes = 0
        self.bus = MessageBus(self._on_fault, queue_limit=limits.bus_queue)
        self.journal = journal
        self.cache, self.portfolio = journal.state.cache, journal.state.portfolio
        for instrument in instruments:
            self.cache.add_instrument(instrument)
        self._check_leverage()
        self.risk = RiskEngine(self.cache, self.portfolio, config.risk)
        self.day = DayKeeper(journal, self.risk, self.accounts)
        self.data = DataEngine(self.bus, self.cache, ports.clock, config.staleness)
        self.bad_messages = BadMessages(limits.bad_messages, limits.bad_message_bytes)
        self.feed = FeedQueue[FeedEvent](limits.feed_queue, conflation_key)
        self.dispatcher = Dispatcher(self.feed, self.data, self.bus)
        # Closed by the daemon once the links have ended; the report task then drains it.
        self.reports_in, self.reports = trio.open_memory_channel[Sequence[Report]](
            limits.report_queue
        )
        self.credentials = CredentialWatch(
            adapter.check_credentials,
            self.bus,
            ports.clock,
            known=credentials,
            warning_days=config.venues.hyperliquid.agent_warning_days,
        )
        self.switch = self._dead_mans_switch()
        self.ticks = TickTask(config.tick_interval_ms, self.feed, ports.clock)
        self.links = LinkGroup(self._endpoints(config), config.heartbeat_interval_ms)
        self.execution = self._execution(journal)
        self.restored = self._begin_run(damages)
        self.strategies = self._strategy_host(journal)
        self.strategies.load(config.strategies, source)
        self._expect_streams()
        self.bus.subscribe("system.link.*", self._on_link, owner=_DAEMON)
        self.bus.subscribe(topics.PROBE, self._on_probe, owner=_DAEMON)
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
            await self.journal.room()
            for report in reports:
                self.execution.on_report(report)
            self._reported.set()
            self._reported = trio.Event()

    async def prove_turn(self) -> None:
        """Return when the trading loop has turned: what was put into its queues came out again."""
        self._probes += 1
        passed = self._passed = trio.Event()
        now_ns = self.ports.clock.now_ns()
        await self.feed.put([Probe(number=self._probes, ts_event_ns=now_ns)])
        await passed.wait()
        reported = self._reported
        await self.reports_in.send(())
        await reported.wait()

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

    async def set_leverage(self) -> None:
        """Have the venue use the configured leverage; what it does not is told."""
        config, entry = self.config.venues.hyperliquid, self.adapter.order_entry
        if entry is not None:
            wanted = [
                Leverage(instrument_id=iid, times=times, is_cross=iid not in config.isolated)
                for iid, times in _leverages(config)
            ]
            with trio.move_on_after(self.config.start_timeout_ms / 1000) as scope:
                await set_leverage(entry, wanted)
            if scope.cancelled_caught:
                _log.error("leverage not set: the venue did not answer in start_timeout_ms")

    def chores(self) -> list[Callable[[int], object]]:
        """What housekeeping does: time bars and staleness, timers, the daily loss."""
        return [self.data.on_clock, self.strategies.on_clock, self._watch_losses, self.day.keep]

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

    @property
    def _trading(self) -> Mapping[AccountId, OrderEntry]:
        account, entry = self.adapter.account_id, self.adapter.order_entry
        return {} if account is None or entry is None else {account: entry}

    def _dead_mans_switch(self) -> DeadMansSwitch | None:
        after_ms = self.config.venues.hyperliquid.dead_mans_switch_ms
        if after_ms is None:
            return None
        return DeadMansSwitch(
            bus=self.bus,
            clock=self.ports.clock,
            entries=self._trading,
            after_ns=after_ms * NS_PER_MS,
        )

    def _execution(self, journal: Journal) -> ExecutionEngine:
        adapter, account, trading = self.adapter, self.adapter.account_id, self._trading
        return ExecutionEngine(
            bus=self.bus,
            risk=self.risk,
            journal=journal,
            clock=self.ports.clock,
            entries=trading,
            queries={} if account is None else {account: adapter},
            slippage_bps=dict.fromkeys(trading, adapter.market_slippage_bps),
            settings=ExecutionSettings(
                submit_queue=self.config.limits.submit_queue,
                external_orders=self.config.external_orders,
                not_found_span_ns=self.config.not_found_span_ms * NS_PER_MS,
                fills_interval_ns=self.config.reconcile_fills_interval_ms * NS_PER_MS,
                position_tolerance=self.config.position_tolerance,
                on_position_difference=self.config.on_position_difference,
                link_silence_ns=NS_PER_MS
                * (self.config.heartbeat_interval_ms + self.config.heartbeat_timeout_ms),
            ),
            run_id=self.run_id,
            is_stale=self.data.is_stale,
            is_link_up=self.links.is_order_link_up,
        )

    def _strategy_host(self, journal: Journal) -> StrategyHost:
        account = self.adapter.account_id
        return StrategyHost(
            bus=self.bus,
            cache=self.cache,
            portfolio=self.portfolio,
            clock=self.ports.clock,
            accounts={} if account is None else {self.adapter.venue: account},
            mint=ClientOrderIds(self.run_id),
            add_bars=self.data.add_bars,
            save=journal.write,
            has_room=lambda: journal.has_room,
            saved=journal.state.saved,
        )

    def _begin_run(self, damages: int) -> Restored:
        """Go on from the journal, if that is possible, and say in it that a new run begins.

        What was lost with newly accepted damage may have been a halt: an operator looks first.
        """
        runs = self.journal.state.runs
        is_news = damages > (runs[-1].damages if runs else 0)
        self._check_venue()
        restored = self.execution.restore()
        self._check_resolvable()
        self._go_on(self.journal.state)
        self.journal.write(
            RunStarted(
                run_id=self.run_id,
                version=VERSION,
                venue=self._venue_identity(),
                accounts=self.accounts,
                embedded=self.config.exchange.enabled,
                ended=self.journal.state.ended_accounts(),
                damages=damages,
                ts_event_ns=self.ports.clock.now_ns(),
            )
        )
        self.day.write(self.ports.clock.now_ns())  # every fill from here on counts
        if is_news and self.risk.kill("damage of the journal was accepted"):
            self._tell_trading_state()
        return restored

    def _venue_identity(self) -> str:
        """Which venue and where: what the journal knows of one is not true of another."""
        if self.config.exchange.enabled:
            return "embedded"
        settings = self.config.venues.hyperliquid
        return f"hyperliquid {settings.api_url or settings.network}"

    def _check_venue(self) -> None:
        """Refuse a journal of another venue: its orders, fills and positions are not there."""
        runs = self.journal.state.runs
        if runs and runs[-1].venue != self._venue_identity():
            raise ConfigError(
                f"the journal in {self.config.state_dir} is of {runs[-1].venue!r}, and this "
                f"configuration is for {self._venue_identity()!r}: give each a state_dir of its own"
            )

    def _check_leverage(self) -> None:
        for iid, times in _leverages(self.config.venues.hyperliquid):
            instrument = self.cache.instrument(iid)
            most = 0 if instrument is None else instrument.max_leverage
            if times > most:
                reason = f"at most {most}" if most else "the venue has none of that name"
                raise ConfigError(f"venues.hyperliquid.leverage {iid} = {times}: {reason}")

    def _check_resolvable(self) -> None:
        """Refuse to trade beside orders of former runs that nobody would look after."""
        live = self.cache.orders_live()
        strange = sorted({order.account_id for order in live} - set(self.accounts))
        if strange:
            raise UnresolvedOrdersError(
                f"the journal has live orders of {', '.join(strange)}, which this configuration "
                "does not trade for: start once with that account, and on_start = 'cancel', "
                "or use another state_dir"
            )
        if live and not self.config.enable_recovery:
            raise UnresolvedOrdersError(
                f"{len(live)} orders of former runs have no known end "
                f"({next(iter(live)).client_order_id}, …: zq-daemon journal verify lists them) and "
                "enable_recovery = false: set it to true to have the venue asked about them "
                "(on_start = 'cancel' also cancels them)"
            )

    def _on_probe(self, probe: Probe) -> None:
        if probe.number == self._probes:
            self._passed.set()

    def _go_on(self, state: JournalState) -> None:
        """A halt, the day's loss and what was accepted of it outlive a restart."""
        self.day.resume(self.ports.clock.now_ns())
        before = state.trading
        if before is not None and self.risk.restore(before.state, before.reason):
            _log.warning(
                "trading state as before the restart",
                state=before.state.value,
                reason=before.reason,
                hint="zq-daemon activate",
            )

    def end_run(self, *, cancelled: int, left: int, unverified: int) -> None:
        """All is done: the last record of the run."""
        now_ns = self.ports.clock.now_ns()
        self.day.write(now_ns)
        self.journal.write(
            RunEnded(
                run_id=self.run_id,
                cancelled=cancelled,
                left=left,
                unverified=unverified,
                ts_event_ns=now_ns,
            )
        )

    def _expect_streams(self) -> None:
        for endpoint in self.links.endpoints:
            limits = endpoint.settings.stale_ms
            for stream in endpoint.settings.streams:
                for kind, instrument in self.adapter.coverage((stream,)):
                    self.data.expect(instrument, kind, limits.get(stream))

    def kill(self, reason: str) -> None:
        """The kill switch: nothing may be sent any more, and what is open is cancelled."""
        if self.risk.kill(reason):
            self._tell_trading_state()

    def activate(self, reason: str) -> None:
        """An operator lets trading go on after a halt, and accepts the loss that caused it."""
        self.risk.measure(self.ports.clock.now_ns(), self.accounts)
        if self.risk.set_state(TradingState.ACTIVE, reason):
            self._tell_trading_state()

    def _watch_losses(self, now_ns: int) -> None:
        if self.risk.on_pnl(now_ns, self.accounts):
            self._tell_trading_state()

    def _tell_trading_state(self) -> None:
        state, reason = self.risk.state, self.risk.state_reason
        _log.warning("trading state changed", state=state.value, reason=reason)
        now_ns = self.ports.clock.now_ns()
        change = TradingStateChanged(state=state, reason=reason, ts_event_ns=now_ns)
        self.journal.write(change)
        self.day.write(now_ns)
        self.bus.publish(topics.TRADING_STATE, change)
        if state is TradingState.HALTED:
            self.bus.send("order.cancel_all", CancelAllOrders())

    def _on_link(self, event: LinkChanged) -> None:
        """A lost link makes its instruments stale; one that stays lost halts who depends on it."""
        endpoint = self.links.endpoint(event.endpoint)
        account_id = endpoint.adapter.account_id if event.private else None
        if event.state is LinkState.UP and account_id is not None:
            self.execution.on_link_up(account_id)
        if event.state in (LinkState.UP, LinkState.CONNECTING):
            return
        if account_id is not None:
            self.execution.on_link_lost(account_id)
        self.data.on_link_lost(endpoint.instruments)
        if event.state in _GONE:
            self._halt_users(endpoint, event.state, event.reason)

    def _halt_users(self, endpoint: Endpoint, state: LinkState, why: str) -> None:
        reason = f"link {endpoint.settings.name} is {state.value}: {why}"
        self.strategies.halt_for(None if endpoint.private else endpoint.instruments, reason)

    def _endpoints(self, config: DaemonConfig) -> list[Endpoint]:
        """One for each connection: an endpoint of many streams has several."""
        made = [
            self._endpoint(each, name, streams)
            for number, each in enumerate(config.ws_endpoints)
            for name, streams in self._connections(each, number)
        ]
        names = [endpoint.settings.name for endpoint in made]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"ws_endpoints: two connections are called {name!r}: rename one")
        return made

    def _connections(
        self, config: WsEndpointConfig, number: int
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Names and streams of an endpoint's connections: `market`, `market-2`, …"""
        try:
            self.adapter.session(config.streams)
        except ValueError as error:
            raise ConfigError(f"ws_endpoints[{number}].streams: {error}") from None
        name = config.name or f"{config.venue}-{number}"
        parts = spread(config.streams, config.max_streams, self.adapter.is_private)
        for place, streams in enumerate(parts, 1):
            yield (name if place == 1 else f"{name}-{place}"), streams

    def _endpoint(self, config: WsEndpointConfig, name: str, streams: tuple[str, ...]) -> Endpoint:
        daemon, limits = self.config, self.config.limits
        settings = EndpointSettings(
            name=name,
            url=config.url,
            streams=streams,
            stale_ms=config.stale_ms,
            auto_reconnect=daemon.auto_reconnect,
            connect_timeout_ms=daemon.connect_timeout_ms,
            reconnect_healthy_ms=daemon.reconnect_healthy_ms,
            heartbeat_timeout_ms=daemon.heartbeat_timeout_ms,
            feed_blocked_ms=limits.feed_blocked_ms,
            reconcile_interval_ms=daemon.reconcile_interval_ms,
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


def _leverages(config: HyperliquidConfig) -> Iterator[tuple[InstrumentId, int]]:
    return ((InstrumentId(name), times) for name, times in config.leverage.items())


def find_signer(config: DaemonConfig, rng: Rng) -> Signer:
    """The agent key from where keys live; on the embedded exchange one is made for this run.

    Raises CredentialError when an endpoint is private and there is neither key nor account.
    """
    settings = config.venues.hyperliquid
    key_file = None if settings.key_file is None else Path(settings.key_file)
    secret = read_secret(settings.key_credential, key_file)
    if secret is not None:
        where = f"secret {key_file or settings.key_credential}"
        return Signer(key=_agent_key(secret, where), account=settings.account)
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


def _agent_key(secret: Secret, where: str) -> AgentKey:
    try:
        return AgentKey.from_text(secret.reveal())
    except CredentialError as error:
        raise CredentialError(f"{where}: {error}") from None


def is_private(endpoint: WsEndpointConfig) -> bool:
    """Whether the endpoint carries reports and order entry."""
    return any(Stream.parse(stream).private for stream in endpoint.streams)


def open_adapter(config: DaemonConfig, ports: Ports, signer: Signer) -> VenueAdapter:
    """The venue's adapter for *signer*."""
    settings = evolve(config.venues.hyperliquid, account=signer.account)
    return HyperliquidAdapter(settings, ports.network, ports.clock, signer.key, ports.rng)
