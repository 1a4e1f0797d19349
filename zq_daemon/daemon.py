"""The daemon: one ladder of services, opened in reading order and closed in reverse.

Public: `run` (blocking, with signals; what the command line calls) and `open_daemon` (for programs
that embed it and for tests). Everything is composed in `assembly`; nothing here trades or decodes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import trio

from zq_daemon.assembly import (
    Assembly,
    Ports,
    Signer,
    find_signer,
    open_adapter,
    system_ports,
)
from zq_daemon.config.advice import advise
from zq_daemon.config.diff import diff_config
from zq_daemon.config.load import control_socket, load_config, read_document
from zq_daemon.config.schema import DaemonConfig
from zq_daemon.config.source import Source
from zq_daemon.control.server import Handler, serve_control
from zq_daemon.control.status import status_of
from zq_daemon.control.summary import print_summaries
from zq_daemon.embedded import EmbeddedExchange
from zq_daemon.engine.clockwork import keep_house
from zq_daemon.errors import (
    ConfigError,
    ControlError,
    LinkError,
    StoppedDuringStartError,
    ZqError,
)
from zq_daemon.exit_codes import ExitCode, exit_code_of
from zq_daemon.journal.journal import Journal
from zq_daemon.journal.lines import open_journal
from zq_daemon.model.instrument import Instrument
from zq_daemon.ports.clock import NS_PER_S
from zq_daemon.runtime.backoff import Backoff
from zq_daemon.runtime.containment import leaves
from zq_daemon.runtime.memory import settled_memory
from zq_daemon.runtime.service import Cutter, Runnable, open_service
from zq_daemon.runtime.signals import watch_signals
from zq_daemon.telemetry.logging import set_level
from zq_daemon.venue.exchange.exchange import Exchange
from zq_daemon.venue.interface import VenueAdapter
from zq_daemon.version import VERSION

_log = structlog.get_logger("zq.daemon")


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
        self.unverified = 0
        self.made: Assembly | None = None
        self.exchange: Exchange | None = None
        self.start_scope = trio.CancelScope()
        self.run_id = int.from_bytes(ports.rng.randbytes(8), "big")
        self._started_with = config
        self._stop = trio.Event()
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
        return status_of(self.made, about)

    def reload(self) -> None:
        """Read the configuration file again; apply what a running daemon can, name the rest."""
        if self.config_path is None or self.made is None:
            _log.warning("nothing to reload: no configuration file, or still starting")
            return
        try:
            new = load_config(self.config_path)
            differences = diff_config(self.config, new)
            self.made.reload(new, _source(self.config_path))
        except ConfigError as error:
            _log.error("reload refused, nothing changed", error=str(error))
            return
        set_level(new.log.level)
        self.config = new
        deaf = self.made.strategies.deaf()
        unheard = [number for number, one in enumerate(new.strategies) if one.name in deaf]
        # What needs a restart is measured from the start, not from the last reload.
        since_start = diff_config(self._started_with, new)
        self.needs_restart = since_start.without(unheard).needs_restart
        (_log.warning if self.needs_restart else _log.info)(
            "configuration reloaded",
            applied=list(differences.without(unheard).reloadable),
            needs_restart=list(self.needs_restart),
        )

    async def wind_down(self, parts: Assembly) -> None:
        """No new order from here on; cancel what is open and have the venue confirm it."""
        parts.strategies.stop()
        parts.execution.close_gate("the daemon is stopping")
        self.unverified = len(parts.cache.orders_live())  # what holds if this is cut short
        grace_s = self.config.shutdown_grace_ms / 1000
        result = await parts.execution.cancel_all(timeout_s=grace_s)
        self.cancelled, self.unverified = len(result.cancelled), len(result.unverified)
        _log.info("orders at stop", cancelled=self.cancelled, unverified=self.unverified)

    def stop_summary(self) -> str:
        """What became of open orders, for people."""
        return f"{self.cancelled} cancelled, {self.unverified} unverified"

    def serve(
        self, name: str, run: Runnable, stop: Callable[[], None]
    ) -> AbstractAsyncContextManager[Any]:
        """A rung: *run* as a service under this daemon's grace and cutter."""
        grace_s = self.config.shutdown_grace_ms / 1000
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


def run(config: DaemonConfig, *, config_path: Path | None = None) -> ExitCode:
    """Run until SIGTERM, SIGINT or `zq-daemon stop`; the exit code to leave with.

    Main thread only. SIGHUP reloads *config_path*; a second stop signal cuts the stop short.
    """
    try:
        return trio.run(_run_under_signals, config, config_path)
    except (ZqError, ExceptionGroup) as error:
        return _failed(error)


async def _run_under_signals(config: DaemonConfig, config_path: Path | None) -> ExitCode:
    daemon = Daemon(config, system_ports(config), config_path)
    watch = partial(watch_signals, on_stop=daemon.stop, on_cut=daemon.cut, on_reload=daemon.reload)
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
            _open_state(daemon) as journal,
            _open_exchange(daemon) as signer,
            _open_parts(daemon, journal, signer) as parts,
            daemon.serve("reports", parts.run_reports, parts.reports_in.close),
            daemon.serve("dispatch", parts.dispatcher.run, parts.feed.close),
            daemon.serve("execution", parts.execution.run, parts.execution.close),
            daemon.serve("links", parts.links.run, parts.links.stop),
            _open_clockwork(parts),
            _open_trading(daemon, parts),
        ):
            daemon.state, daemon.detail = "running", ""
            config = daemon.config
            _log.info("running", strategies=len(config.strategies), links=len(config.ws_endpoints))
            with settled_memory():
                yield
            daemon.state = "stopping"
    if daemon.start_scope.cancelled_caught:
        raise StoppedDuringStartError(daemon.stop_reason)


@asynccontextmanager
async def _open_control(daemon: Daemon) -> AsyncIterator[None]:
    """The control socket: status answers from the first second to the last."""

    def stop(_: Mapping[str, Any]) -> str:
        daemon.stop("control socket")
        return "stopping"

    def halt(_: Mapping[str, Any]) -> str:
        daemon.parts.kill("control socket")
        return "halted: no order leaves, open ones are cancelled"

    def activate(_: Mapping[str, Any]) -> str:
        daemon.parts.activate("control socket")
        return "active"

    handlers: Mapping[str, Handler] = {
        "status": lambda _: daemon.status(),
        "stop": stop,
        "halt": halt,
        "activate": activate,
    }
    path = control_socket(daemon.config)
    async with trio.open_nursery() as nursery:
        serve = partial(serve_control, listen=daemon.ports.network.listen_locally)
        await nursery.start(serve, path, handlers, daemon.config.limits.control_clients)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _open_state(daemon: Daemon) -> AsyncIterator[Journal]:
    """The state folder and this run's journal in it."""
    path = f"journal-{daemon.run_id:016x}.jsonl"
    async with open_journal(daemon.ports.disk, path) as journal:
        yield journal


@asynccontextmanager
async def _open_exchange(daemon: Daemon) -> AsyncIterator[Signer]:
    """The signer; and the embedded exchange, where the configuration asks for one."""
    config, ports = daemon.config, daemon.ports
    signer = find_signer(config, ports.rng)
    if not config.exchange.enabled:
        yield signer
        return
    embedded = EmbeddedExchange(
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
        instruments = await _load_instruments(daemon, adapter)
        daemon.made = Assembly(
            config,
            ports,
            adapter=adapter,
            instruments=instruments,
            journal=journal,
            run_id=daemon.run_id,
            source=_source(daemon.config_path),
        )
        yield daemon.made
    finally:
        with trio.CancelScope(shield=True):
            await adapter.aclose()


async def _load_instruments(daemon: Daemon, adapter: VenueAdapter) -> Sequence[Instrument]:
    config = daemon.config
    backoff = Backoff(config.reconnect_base_ms, config.reconnect_max_ms, daemon.ports.rng)
    doing = f"loading instruments of {adapter.venue}"
    reason = "no answer"
    with trio.move_on_after(config.start_timeout_ms / 1000):
        while True:
            daemon.detail = doing
            try:
                return await adapter.load_instruments()
            except LinkError as error:
                reason, delay_ms = str(error), backoff.next_delay_ms()
            daemon.detail = f"{doing}: {reason}; next attempt in {delay_ms} ms"
            _log.warning("instruments not loaded", error=reason, next_attempt_ms=delay_ms)
            await trio.sleep(delay_ms / 1000)
    raise LinkError(f"{doing}: {reason}, for {config.start_timeout_ms} ms (start_timeout_ms)")


@asynccontextmanager
async def _open_clockwork(parts: Assembly) -> AsyncIterator[None]:
    """What time drives: ticks, housekeeping, the summary for people."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(parts.watch_faults)
        nursery.start_soon(parts.ticks.run)
        nursery.start_soon(keep_house, parts.ports.clock, parts.chores())
        nursery.start_soon(print_summaries, parts)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _open_trading(daemon: Daemon, parts: Assembly) -> AsyncIterator[None]:
    """Strategies, once links are up. Closing: no new order, then all cancelled and verified."""
    daemon.detail = "waiting for links"
    late = await parts.links.wait_ready(daemon.config.connect_timeout_ms / 1000)
    if late:
        _log.warning("starting without all links: they are retried", missing=late)
    parts.start_strategies()
    try:
        yield
    finally:
        daemon.state = "stopping"
        with trio.CancelScope(shield=True) as scope:
            daemon.cutter.add(scope)
            await daemon.wind_down(parts)
        daemon.cutter.remove(scope)


def _source(config_path: Path | None) -> Source:
    """Where the lines of the configuration file are, for errors found later."""
    return (
        Source(name="configuration") if config_path is None else read_document(config_path).source
    )


def _failed(error: ZqError | ExceptionGroup[Exception]) -> ExitCode:
    """Report what ended the daemon, each cause once; the exit code that says most."""
    causes = list(leaves(error))
    for cause in causes:
        expected = isinstance(cause, ZqError)
        _log.error(
            "fatal", error=str(cause) or type(cause).__name__, exc_info=not expected and cause
        )
    return exit_code_of(causes)
