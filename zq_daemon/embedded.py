"""The embedded exchange as a rung of the daemon: a market of our own, over real sockets.

Also what `zq-daemon exchange` serves by itself. Accounts there hold play money only.
"""

from __future__ import annotations

from functools import partial

import structlog
import trio

from zq_daemon.config.schema import ExchangeConfig
from zq_daemon.ports.clock import Clock
from zq_daemon.ports.network import Network
from zq_daemon.ports.rng import Rng
from zq_daemon.venue.exchange.exchange import Exchange
from zq_daemon.venue.exchange.market import SyntheticMarket
from zq_daemon.venue.exchange.replay import ReplayMarket
from zq_daemon.venue.exchange.server import run_market, serve_exchange
from zq_daemon.venue.exchange.source import MarketSource
from zq_daemon.venue.hyperliquid import sign

_log = structlog.get_logger("zq.exchange")


class EmbeddedExchange:
    """An exchange on a port of this machine, until stopped."""

    def __init__(
        self,
        config: ExchangeConfig,
        *,
        clock: Clock,
        network: Network,
        rng: Rng,
        signs_for: sign.Network = "mainnet",
    ) -> None:
        """*signs_for* is the network whose signatures it accepts; ConfigError: bad capture."""
        self._config = config
        self._clock = clock
        self._network = network
        self._scope = trio.CancelScope()
        self.exchange = Exchange(
            clock,
            _market(config, rng),
            network=signs_for,
            balance=config.account_balance,
            open_accounts=True,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and move the market until `stop`; LinkError when the port is taken."""
        where = self._config
        listeners = await self._network.listen(where.host, where.port)
        with self._scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(serve_exchange, listeners, self.exchange))
                await nursery.start(partial(run_market, self.exchange, self._clock))
                _log.info("exchange open", host=where.host, port=where.port)
                task_status.started()

    def stop(self) -> None:
        """Close the market and every connection."""
        self._scope.cancel()


def _market(config: ExchangeConfig, rng: Rng) -> MarketSource:
    if config.replay is not None:
        return ReplayMarket(config.replay, speed=config.speed)
    seed = int.from_bytes(rng.randbytes(4), "big") if config.seed is None else config.seed
    return SyntheticMarket(seed)
