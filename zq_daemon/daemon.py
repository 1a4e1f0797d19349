"""The daemon: one ladder of services, opened in reading order and closed in reverse.

Public: `run` (blocking, with signals; what the command line calls) and `open_daemon` (for programs
that embed it and for tests). Everything is composed in `assembly`; nothing here trades or decodes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog
import trio
from attrs import asdict, evolve

from zq_daemon.assembly import (
    Assembly,
    Ports,
    Signer,
    find_signer,
    is_private,
    open_adapter,
    system_ports,
)
from zq_daemon.config.advice import advise
from zq_daemon.config.diff import diff_config
from zq_daemon.config.load import control_socket, load_config, read_document
from zq_daemon.config.schema import DaemonConfig
from zq_daemon.config.source import Source
from zq_daemon.control.server import serve_control
from zq_daemon.control.status import status_of
from zq_daemon.control.summary import print_summaries
from zq_daemon.control.verbs import handlers
from zq_daemon.embedded import open_embedded
from zq_daemon.engine.client_order_ids import new_run_id
from zq_daemon.engine.clockwork import keep_house
from zq_daemon.engine.recovery import Recovered
from zq_daemon.errors import (
    ConfigError,
    ControlError,
    DecodeError,
    LinkError,
    LinkRefused,
    StoppedDuringStartError,
    StrategyError,
    ZqError,
)
from zq_daemon.exit_codes import ExitCode, exit_code_of
from zq_daemon.journal.follow import HistoryFollower
from zq_daemon.journal.journal import Journal
from zq_daemon.journal.opening import open_journal
from zq_daemon.journal.recent import Recent
from zq_daemon.log import Log, LogSettings
from zq_daemon.ports.clock import NS_PER_S
from zq_daemon.ports.notify import system_notify
from zq_daemon.runtime.backoff import Backoff
from zq_daemon.runtime.containment import leaves
from zq_daemon.runtime.memory import settled_memory
from zq_daemon.runtime.notify import Supervision
from zq_daemon.runtime.service import Cutter, Runnable, open_service
from zq_daemon.runtime.signals import watch_signals
from zq_daemon.telemetry.logging import set_level
from zq_daemon.venue.exchange.exchange import Exchange
from zq_daemon.venue.interface import Credentials, VenueAdapter
from zq_daemon.version import VERSION

_log = structlog.get_logger("zq.daemon")
_Answer = TypeVar("_Answer")

_LINGER_MS = 20
"""Events that nobody waits for are durable that late: they mostly share an intent's sync."""
_RUNGS = 10
"""Parts that are stopped one after another, each within its grace."""


class Daemon:
    """A running daemon: its parts, and the handles to stop, reload and inspect it."""

    def __init__(self, config: DaemonConfig, ports: Ports, config_path: Path | None) -> None:
        self.config = config
        self.ports = ports
        self.config_path = config_path
        self.needs_restart: tuple[str, ...] = ()
        self.cutter = Cutter()
        self.state = "starting"
        self.detail = ""
        self.stop_reason = ""
        self.cancelled = 0
        self.left = 0
        self.unverified = 0
        self.recovered: Recovered | None = None
        self.made: Assembly | None = None
        self.log: Log | None = None
        self.recent = None if ports.databases is None else Recent()
        self.history: HistoryFollower | None = None
        self.exchange: Exchange | None = None
        self.start_scope = trio.CancelScope()
        self.run_id = new_run_id(ports.rng)
        self._started_with = config
        self.supervision = Supervision(ports.notify)
        self.ready = trio.Event()
        self._stop = trio.Event()
        self._stop_began = trio.Event()
        self._began_ns = ports.clock.monotonic_ns()

    @property
    def parts(self) -> Assembly:
        """Bus, cache, portfolio, engines and the rest; there once instruments are known."""
        if self.made is None:
            raise ControlError("the daemon is still starting: try again")
        return self.made

    def stop(self, reason: str) -> None:
        """Ask for a graceful stop; during start-up it takes down what stands so far."""
        if not self.stop_reason:
            _log.info("stopping", reason=reason)
            self.stop_reason = reason
        self._stop.set()
        self.enter_stop()
        if self.state == "starting":
            self.start_scope.cancel()

    def cut(self, reason: str) -> None:
        """Cut a stop that is under way short: nothing more is waited for."""
        _log.warning("stop cut short", reason=reason)
        self.cutter.cut()

    async def wait_stop(self) -> str:
        """Wait until a stop is asked for; its reason."""
        await self._stop.wait()
        return self.stop_reason

    def status(self) -> dict[str, Any]:
        """What the `status` command shows."""
        uptime_ns = self.ports.clock.monotonic_ns() - self._began_ns
        about = {
            "version": VERSION,
            "state": self.state,
            "detail": self.detail,
            "uptime_s": round(uptime_ns / NS_PER_S, 1),
            "config": str(self.config_path) if self.config_path else None,
            "needs_restart": list(self.needs_restart),
        }
        recovered = self.recovered
        return status_of(
            self.made,
            about,
            journal=self._journal_status(),
            recovery=None if recovered is None else asdict(recovered),
            history=self._history_status(),
            watchdog=self.supervision.watchdog(),
        )

    def _journal_status(self) -> dict[str, Any] | None:
        if self.log is None:
            return None
        accepted = [str(damage) for damage in self.log.opening.accepted]
        return {**asdict(self.log.stats()), "damage": accepted}

    def _history_status(self) -> dict[str, Any] | None:
        if self.log is None or self.history is None:
            return None
        sequence = self.history.sequence
        return {"sequence": sequence, "behind": self.log.durable_sequence - (sequence or 0)}

    def reload(self) -> dict[str, Any]:
        """Read the configuration file again; apply what a running daemon can, name the rest.

        What is wrong with the file is in `refused`, and then nothing is changed. ControlError when
        there is no file, or nothing to reload yet.
        """
        parts = self.parts
        if self.config_path is None:
            raise ControlError("the daemon was started without a configuration file")
        try:
            new = load_config(self.config_path)
            differences = diff_config(self.config, new)
            parts.reload(new, _source(self.config_path))
        except (ConfigError, StrategyError) as error:
            _log.error("reload refused, nothing changed", error=str(error))
            return {"refused": str(error)}
        set_level(new.log.level)
        self.config = new
        deaf = parts.strategies.deaf()
        unheard = [number for number, one in enumerate(new.strategies) if one.name in deaf]
        # What needs a restart is measured from the start, not from the last reload.
        since_start = diff_config(self._started_with, new)
        self.needs_restart = since_start.without(unheard).needs_restart
        applied = list(differences.without(unheard).reloadable)
        needs_restart = list(self.needs_restart)
        (_log.warning if needs_restart else _log.info)(
            "configuration reloaded", applied=applied, needs_restart=needs_restart
        )
        return {"applied": applied, "needs_restart": needs_restart}

    def reload_on_signal(self) -> None:
        """The same, with nobody to answer."""
        try:
            self.reload()
        except ControlError as error:
            _log.warning("nothing to reload", reason=str(error))

    def enter_stop(self) -> None:
        """The stop has begun, asked for or not: the service manager hears of it."""
        self._stop_began.set()

    async def supervise(self) -> None:
        """Tell the service manager how the daemon is, from the first second to the last."""
        config, supervision = self.config, self.supervision
        start_s = (3 * config.start_timeout_ms + config.connect_timeout_ms) / 1000
        grace_s = config.shutdown_grace_ms / 1000
        async with supervision.extending(self.describe, total_s=start_s), trio.open_nursery() as up:
            up.start_soon(_first_of, self.ready, self._stop_began, up.cancel_scope)
        if self.ready.is_set():
            supervision.ready(self.describe())
            async with trio.open_nursery() as fed:
                fed.start_soon(supervision.feed_watchdog, self.parts.prove_turn)
                await self._stop_began.wait()
                fed.cancel_scope.cancel()
        supervision.stopping(self.describe())
        await supervision.keep_extending(self.describe, total_s=_RUNGS * grace_s)

    def describe(self) -> str:
        """What the daemon is doing, in a line."""
        if self.stop_reason:
            return f"stopping: {self.stop_reason}"
        return f"{self.state}: {self.detail}" if self.detail else self.state

    async def wind_down(self, parts: Assembly) -> None:
        """No new order from here on; what is open is cancelled or left, and the venue confirms."""
        self.enter_stop()
        parts.strategies.stop()
        parts.execution.close_gate("the daemon is stopping")
        self.unverified = len(parts.cache.orders_live())  # what holds if this is cut short
        grace_s = self._started_with.shutdown_grace_ms / 1000
        deadline = trio.current_time() + grace_s
        result = await parts.execution.settle_all(
            cancel=self._started_with.on_stop == "cancel", timeout_s=grace_s
        )
        self.cancelled, self.left = result.cancelled, result.left
        self.unverified = result.unverified
        if self.unverified:
            parts.execution.abandon()  # its time is over
        _log.info("orders at stop", summary=self.stop_summary())
        with trio.move_on_at(deadline):
            # What strategies saved while the disk stalled; if it still does, the journal tells.
            while not parts.strategies.write_saved():
                await parts.journal.room()

    def stop_summary(self) -> str:
        """What became of open orders, for people."""
        left = f", {self.left} left" if self._started_with.on_stop == "leave" else ""
        return f"{self.cancelled} cancelled{left}, {self.unverified} unverified"

    def serve(
        self, name: str, run: Runnable, stop: Callable[[], None]
    ) -> AbstractAsyncContextManager[Any]:
        """A rung: *run* as a service under this daemon's grace and cutter."""
        grace_s = self._started_with.shutdown_grace_ms / 1000
        return open_service(run, name=name, stop=stop, grace_s=grace_s, cutter=self.cutter)


@asynccontextmanager
async def open_daemon(
    config: DaemonConfig, *, config_path: Path | None = None, ports: Ports | None = None
) -> AsyncIterator[Daemon]:
    """Start a daemon, yield it running, and stop it gracefully on leaving.

    Leaving the body stops the strategies, cancels open orders and verifies it, closes links and the
    journal. Raises what made the start fail: CredentialError, LinkError, JournalError,
    StrategyError, ...; a `stop` during start-up ends in a `StoppedDuringStartError`.
    """
    daemon = Daemon(config, ports or system_ports(config), config_path)
    async with _opened(daemon):
        yield daemon


def run(
    config: DaemonConfig, *, config_path: Path | None = None, ports: Ports | None = None
) -> ExitCode:
    """Run until SIGTERM, SIGINT or `zq-daemon stop`; the exit code to leave with.

    Main thread only. SIGHUP reloads *config_path*; a second stop signal cuts the stop short. Unless
    other *ports* are given, the service manager that started the process is told how it goes.
    """
    if ports is None:
        ports = evolve(system_ports(config), notify=system_notify())
    try:
        return trio.run(_run_under_signals, Daemon(config, ports, config_path))
    except (ZqError, ExceptionGroup) as error:
        return _failed(error)


async def _run_under_signals(daemon: Daemon) -> ExitCode:
    watch = partial(
        watch_signals, on_stop=daemon.stop, on_cut=daemon.cut, on_reload=daemon.reload_on_signal
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(watch)
        try:
            async with _opened(daemon):
                await daemon.wait_stop()
        except StoppedDuringStartError as error:
            _log.info("stopped during start-up", reason=str(error))
        finally:
            nursery.cancel_scope.cancel()
    _log.info("stopped", reason=daemon.stop_reason, orders=daemon.stop_summary())
    return ExitCode.UNVERIFIED if daemon.unverified else ExitCode.OK


@asynccontextmanager
async def _opened(daemon: Daemon) -> AsyncIterator[None]:
    """The ladder: what is opened first serves the rest and is closed last."""
    for oddity in advise(daemon.config):
        _log.warning("configuration", advice=oddity)
    with daemon.start_scope:
        async with (
            _open_control(daemon),
            _open_journal(daemon) as journal,
            _open_exchange(daemon) as signer,
            _open_parts(daemon, journal, signer) as parts,
            daemon.serve("reports", parts.run_reports, parts.reports_in.close),
            daemon.serve("dispatch", parts.dispatcher.run, parts.feed.close),
            daemon.serve("execution", parts.execution.run, parts.execution.close),
            daemon.serve("links", parts.links.run, parts.links.stop),
            _open_clockwork(parts),
            _open_switch(daemon, parts),
            _open_trading(daemon, parts),
        ):
            daemon.state, daemon.detail = "running", ""
            config = daemon.config
            enabled = sum(strategy.enabled for strategy in config.strategies)
            _log.info("running", strategies=enabled, links=len(config.ws_endpoints))
            daemon.ready.set()
            with settled_memory():
                yield
            daemon.state = "stopping"
    if daemon.start_scope.cancelled_caught:
        raise StoppedDuringStartError(daemon.stop_reason)


@asynccontextmanager
async def _open_control(daemon: Daemon) -> AsyncIterator[None]:
    """The control socket: status answers from the first second to the last."""
    path = control_socket(daemon.config)
    async with trio.open_nursery() as nursery:
        serve = partial(serve_control, listen=daemon.ports.network.listen_locally)
        await nursery.start(serve, path, handlers(daemon), daemon.config.limits.control_clients)
        nursery.start_soon(daemon.supervise)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _open_journal(daemon: Daemon) -> AsyncIterator[Journal]:
    """The journal, locked and replayed; it is what all that follows starts from."""
    config, ports = daemon.config, daemon.ports
    daemon.detail = "replaying the journal"
    limits = config.limits
    settings = LogSettings(
        segment_bytes=limits.journal_segment_bytes,
        max_pending_bytes=limits.journal_pending_bytes,
        linger_ms=_LINGER_MS,
    )
    async with (
        open_journal(
            ports.disk, settings=settings, closed_orders=limits.closed_orders, rng=ports.rng
        ) as opened,
        _open_writer(daemon, Journal(opened.log, opened.state, recent=daemon.recent)) as journal,
        _open_history(daemon, opened.log),
    ):
        daemon.log = opened.log
        # What holds if the start is cut short; an exchange that was embedded took its orders along.
        runs, live = opened.state.runs, opened.state.cache.live_count()
        daemon.unverified = 0 if runs and runs[-1].embedded else live
        yield journal


@asynccontextmanager
async def _open_writer(daemon: Daemon, journal: Journal) -> AsyncIterator[Journal]:
    """The journal's writer; a second signal does not cut it short: only its own grace does."""
    grace_s = daemon.config.shutdown_grace_ms / 1000
    async with open_service(
        journal.run, name="journal", stop=journal.close, grace_s=grace_s, cutter=Cutter()
    ):
        yield journal


@asynccontextmanager
async def _open_history(daemon: Daemon, log: Log) -> AsyncIterator[None]:
    """What people read of the journal; it is derived, and follows."""
    ports, recent = daemon.ports, daemon.recent
    if ports.databases is None or recent is None:
        yield
        return
    follower = HistoryFollower(ports.disk, ports.databases, log, recent)
    async with daemon.serve("history", follower.run, follower.close):
        daemon.history = follower
        yield


@asynccontextmanager
async def _open_exchange(daemon: Daemon) -> AsyncIterator[Signer]:
    """The signer; and the embedded exchange, where the configuration asks for one."""
    config, ports = daemon.config, daemon.ports
    signer = find_signer(config, ports.rng)
    if not config.exchange.enabled:
        yield signer
        return
    embedded = await open_embedded(
        config.exchange,
        clock=ports.clock,
        network=ports.network,
        rng=ports.rng,
        signs_for=config.venues.hyperliquid.network,
    )
    if signer.key is not None and signer.account is not None:
        embedded.exchange.approve_agent(signer.key.address, signer.account)
    async with daemon.serve("exchange", embedded.run, embedded.stop):
        daemon.exchange = embedded.exchange
        yield signer


@asynccontextmanager
async def _open_parts(daemon: Daemon, journal: Journal, signer: Signer) -> AsyncIterator[Assembly]:
    """Instruments first, for which the venue has to answer; then every part, none running yet."""
    config, ports = daemon.config, daemon.ports
    adapter = open_adapter(config, ports, signer)
    try:
        instruments = await _until_answered(
            daemon,
            f"loading instruments of {adapter.venue}",
            adapter.load_instruments,
            failing="instruments not loaded",
        )
        credentials = await _check_credentials(daemon, adapter)
        daemon.made = Assembly(
            config,
            ports,
            adapter=adapter,
            instruments=instruments,
            credentials=credentials,
            journal=journal,
            run_id=daemon.run_id,
            source=_source(daemon.config_path),
            damages=0 if daemon.log is None else len(daemon.log.opening.accepted),
        )
        daemon.unverified = daemon.made.restored.live  # what holds if the start is cut short
        yield daemon.made
        daemon.made.end_run(
            cancelled=daemon.cancelled, left=daemon.left, unverified=daemon.unverified
        )
    finally:
        with trio.CancelScope(shield=True):
            await adapter.aclose()


async def _check_credentials(daemon: Daemon, adapter: VenueAdapter) -> Credentials | None:
    """Whether the key may sign for the account; a venue that does not say so is no reason to stop.

    CredentialError when it may not, with what to change.
    """
    if not any(is_private(endpoint) for endpoint in daemon.config.ws_endpoints):
        return None
    failing = "credentials not checked"
    doing = f"asking {adapter.venue} who signs for the account"
    try:
        found = await _until_answered(daemon, doing, adapter.check_credentials, failing=failing)
    except (LinkRefused, DecodeError) as error:
        _log.warning(failing, error=str(error))
        return None
    if found is not None:
        _log.info("credentials", **asdict(found))
    return found


async def _until_answered(
    daemon: Daemon, doing: str, ask: Callable[[], Awaitable[_Answer]], *, failing: str
) -> _Answer:
    """Ask the venue again and again, within the time that a start may take.

    *failing* is told of each attempt that fails.
    """
    config = daemon.config
    backoff = Backoff(config.reconnect_base_ms, config.reconnect_max_ms, daemon.ports.rng)
    reason = "no answer"
    with trio.move_on_after(config.start_timeout_ms / 1000):
        while True:
            daemon.detail = doing
            try:
                return await ask()
            except LinkError as error:
                reason, delay_ms = str(error), backoff.next_delay_ms()
            daemon.detail = f"{doing}: {reason}; next attempt in {delay_ms} ms"
            _log.warning(failing, error=reason, next_attempt_ms=delay_ms)
            await trio.sleep(delay_ms / 1000)
    raise LinkError(f"{doing}: {reason}, for {config.start_timeout_ms} ms (start_timeout_ms)")


@asynccontextmanager
async def _open_clockwork(parts: Assembly) -> AsyncIterator[None]:
    """What time drives: ticks, housekeeping, the summary for people."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(parts.watch_faults)
        nursery.start_soon(parts.ticks.run)
        nursery.start_soon(parts.credentials.run)
        interval_ms = parts.config.housekeeping_interval_ms
        nursery.start_soon(keep_house, parts.ports.clock, parts.chores(), interval_ms)
        nursery.start_soon(print_summaries, parts)
        yield
        nursery.cancel_scope.cancel()


def _open_switch(daemon: Daemon, parts: Assembly) -> AbstractAsyncContextManager[None]:
    """Taken back only when what is open has been settled, over links that are still up."""
    switch = parts.switch
    return nullcontext() if switch is None else daemon.serve("switch", switch.run, switch.close)


@asynccontextmanager
async def _open_trading(daemon: Daemon, parts: Assembly) -> AsyncIterator[None]:
    """Recovery, then strategies. Closing: no new order, then what is open is settled."""
    daemon.detail = "waiting for links"
    late = await parts.links.wait_ready(daemon.config.connect_timeout_ms / 1000)
    if late:
        _log.warning("starting without all links: they are retried", missing=late)
    await _recover(daemon, parts)
    await parts.set_leverage()
    parts.start_strategies()
    try:
        yield
    finally:
        daemon.state = "stopping"
        with trio.CancelScope(shield=True) as scope:
            daemon.cutter.add(scope)
            await daemon.wind_down(parts)
        daemon.cutter.remove(scope)


async def _recover(daemon: Daemon, parts: Assembly) -> None:
    """Have the venue say what became of everything, before anything new is sent."""
    config, execution = daemon.config, parts.execution
    if not config.enable_recovery:
        _log.warning("recovery is switched off: the venue is not asked (enable_recovery)")
        execution.arm()
        return
    daemon.detail = "recovering: asking the venue about orders, fills and positions"
    delays = Backoff(config.reconnect_base_ms, config.reconnect_max_ms, daemon.ports.rng)
    with trio.move_on_after(config.start_timeout_ms / 1000):
        daemon.recovered = await execution.recover(delays)
    if daemon.recovered is None:
        raise LinkError(
            f"recovery: the venue did not answer for {config.start_timeout_ms} ms "
            "(start_timeout_ms): nothing was sent"
        )
    execution.arm()
    _log.info("recovered", **asdict(daemon.recovered))
    if config.on_start == "cancel":
        daemon.detail = "recovering: cancelling orders of former runs"
        result = await execution.cancel_all(timeout_s=config.shutdown_grace_ms / 1000)
        _log.info(
            "orders of former runs cancelled",
            cancelled=len(result.cancelled),
            unverified=len(result.unverified),
        )


async def _first_of(one: trio.Event, other: trio.Event, scope: trio.CancelScope) -> None:
    """Cancel *scope* when either has happened."""
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            scope.cancel()

        nursery.start_soon(wait, one)
        nursery.start_soon(wait, other)


def _source(config_path: Path | None) -> Source:
    """Where the lines of the configuration file are, for errors found later."""
    return (
        Source(name="configuration") if config_path is None else read_document(config_path).source
    )


def _failed(error: ZqError | ExceptionGroup[Exception]) -> ExitCode:
    """Report what ended the daemon, each cause once; the exit code that says most."""
    # The journal's failure ends who waits for it as well as its writer: it is one failure.
    causes = {str(cause) or id(cause): cause for cause in leaves(error)}.values()
    for cause in causes:
        expected = isinstance(cause, ZqError)
        _log.error(
            "fatal", error=str(cause) or type(cause).__name__, exc_info=not expected and cause
        )
    return exit_code_of(causes)
