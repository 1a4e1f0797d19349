"""`zq-daemon exchange`: the embedded exchange alone, until a signal stops it."""

from __future__ import annotations

from functools import partial

import trio

from zq_daemon.config.schema import ExchangeConfig
from zq_daemon.embedded import EmbeddedExchange
from zq_daemon.ports.clock import SystemClock
from zq_daemon.ports.network import SystemNetwork
from zq_daemon.ports.rng import system_rng
from zq_daemon.runtime.signals import watch_signals
from zq_daemon.venue.hyperliquid.sign import Network


def run_exchange(config: ExchangeConfig, network: Network) -> None:
    """Serve until SIGTERM or SIGINT; LinkError: the port is taken, ConfigError: a bad capture."""
    trio.run(_serve, config, network)


async def _serve(config: ExchangeConfig, network: Network) -> None:
    market = EmbeddedExchange(
        config,
        clock=SystemClock(),
        network=SystemNetwork(),
        rng=system_rng(),
        signs_for=network,
    )

    def stop(_: str) -> None:
        market.stop()

    async with trio.open_nursery() as nursery:
        await nursery.start(
            partial(watch_signals, on_stop=stop, on_cut=stop, on_reload=lambda: None)
        )
        await market.run()
        nursery.cancel_scope.cancel()
