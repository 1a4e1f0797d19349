"""`zq-daemon exchange`: the embedded exchange alone, until a signal stops it.

For tests of clients it can misbehave as a file says, which SIGHUP has it read again.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import structlog
import trio
from attrs import asdict

from zq_daemon.config.load import read_document
from zq_daemon.config.schema import ExchangeConfig
from zq_daemon.config.structure import structure
from zq_daemon.embedded import open_embedded
from zq_daemon.errors import ConfigError
from zq_daemon.ports.clock import SystemClock
from zq_daemon.ports.network import SystemNetwork
from zq_daemon.ports.rng import system_rng
from zq_daemon.runtime.signals import watch_signals
from zq_daemon.venue.exchange.envelope import AcceptedNetwork
from zq_daemon.venue.exchange.exchange import Exchange
from zq_daemon.venue.exchange.faults import Faults

_log = structlog.get_logger("zq.exchange")


def run_exchange(
    config: ExchangeConfig, network: AcceptedNetwork, faults: Path | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, misbehaving as *faults* says.

    LinkError: the port is taken; ConfigError: a bad capture or a bad file of faults.
    """
    trio.run(_serve, config, network, faults)


def read_faults(path: Path) -> Faults:
    """The faults in the TOML file at *path*; ConfigError says all that is wrong with it."""
    document = read_document(path, "name another with --faults")
    return structure(Faults, document.mapping, source=document.source)


async def _serve(config: ExchangeConfig, network: AcceptedNetwork, faults: Path | None) -> None:
    market = await open_embedded(
        config,
        clock=SystemClock(),
        network=SystemNetwork(),
        rng=system_rng(),
        signs_for=network,
    )
    if faults is not None:
        _put_in_force(market.exchange, read_faults(faults))

    def stop(_: str) -> None:
        market.stop()

    def reload() -> None:
        if faults is not None:
            _reload(market.exchange, faults)

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(watch_signals, on_stop=stop, on_cut=stop, on_reload=reload))
        await market.run()
        nursery.cancel_scope.cancel()


def _reload(exchange: Exchange, path: Path) -> None:
    try:
        faults = read_faults(path)
    except ConfigError as error:
        _log.error("faults not read: those of before stay in force", reason=str(error))
    else:
        _put_in_force(exchange, faults)


def _put_in_force(exchange: Exchange, faults: Faults) -> None:
    """Every count begins anew; the log line tells that it is done, and what is not normal."""
    exchange.faults = faults
    normal = asdict(Faults())
    told = {name: value for name, value in asdict(faults).items() if value != normal[name]}
    _log.info("faults in force", **told)
