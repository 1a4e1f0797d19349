"""The embedded exchange as a rung of the daemon: a market of our own, or a followed one, over real
sockets.

Also what `zq-daemon exchange` serves by itself. Accounts there hold play money only.
"""

from __future__ import annotations

from functools import partial

import structlog
import trio

from zq_daemon.config.schema import ExchangeConfig
from zq_daemon.core.replay_matching import QueuePosition
from zq_daemon.ports.clock import Clock
from zq_daemon.ports.network import Network
from zq_daemon.ports.rng import Rng
from zq_daemon.runtime.backoff import Backoff
from zq_daemon.venue.exchange.envelope import AcceptedNetwork
from zq_daemon.venue.exchange.exchange import Exchange
from zq_daemon.venue.exchange.follow import FollowMarket, FollowSettings
from zq_daemon.venue.exchange.follower import FollowedVenue, Follower, load_listing
from zq_daemon.venue.exchange.limits import RateLimits
from zq_daemon.venue.exchange.listing import Listing
from zq_daemon.venue.exchange.market import SyntheticMarket
from zq_daemon.venue.exchange.replay import ReplayMarket
from zq_daemon.venue.exchange.server import run_market, serve_exchange
from zq_daemon.venue.exchange.source import MarketSource

_log = structlog.get_logger("zq.exchange")
_BACKOFF_MS = 1_000
_MAX_BACKOFF_MS = 60_000


class EmbeddedExchange:
    """An exchange on a port of this machine, until stopped."""

    def __init__(
        self,
        config: ExchangeConfig,
        *,
        clock: Clock,
        network: Network,
        rng: Rng,
        signs_for: AcceptedNetwork = "mainnet",
        listing: Listing | None = None,
    ) -> None:
        """*signs_for* is the network whose signatures it accepts; ConfigError: bad capture.

        *listing* is what a followed venue lists, and only for that needed: see `open_embedded`.
        """
        self._config = config
        self._clock = clock
        self._network = network
        self._scope = trio.CancelScope()
        followed = None if listing is None else FollowMarket(listing, clock, _settings(config))
        self.exchange = Exchange(
            clock,
            followed or _market(config, rng),
            network=signs_for,
            balance=config.account_balance,
            funding_interval_ms=config.funding_interval_ms,
            strict_accounts=config.strict_accounts,
            rate_limits=RateLimits() if config.rate_limits else None,
        )
        self._follower: Follower | None = None
        if followed is not None and config.follow is not None:
            self._follower = Follower(
                FollowedVenue(config.follow),
                followed,
                network=network,
                backoff=Backoff(_BACKOFF_MS, _MAX_BACKOFF_MS, rng),
                arrived=self.exchange.wake,
            )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and move the market until `stop`; LinkError when the port is taken."""
        where = self._config
        listeners = await self._network.listen(where.host, where.port)
        with self._scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(serve_exchange, listeners, self.exchange))
                await nursery.start(partial(run_market, self.exchange, self._clock))
                if self._follower is not None:
                    nursery.start_soon(self._follower.run)
                _log.info("exchange open", host=where.host, port=where.port)
                task_status.started()

    def stop(self) -> None:
        """Close the market and every connection."""
        self._scope.cancel()


async def open_embedded(
    config: ExchangeConfig,
    *,
    clock: Clock,
    network: Network,
    rng: Rng,
    signs_for: AcceptedNetwork = "mainnet",
) -> EmbeddedExchange:
    """The exchange as *config* has it; a venue it follows is asked what it lists.

    ConfigError: bad capture or URL; LinkError, DecodeError: that venue gives no answer of use.
    """
    listing = None
    if config.follow is not None:
        listing = await load_listing(network, FollowedVenue(config.follow))
    return EmbeddedExchange(
        config, clock=clock, network=network, rng=rng, signs_for=signs_for, listing=listing
    )


def _settings(config: ExchangeConfig) -> FollowSettings:
    return FollowSettings(
        queue=QueuePosition(config.queue), order_latency_ms=config.order_latency_ms
    )


def _market(config: ExchangeConfig, rng: Rng) -> MarketSource:
    if config.replay is not None:
        queue = QueuePosition(config.queue)
        return ReplayMarket(config.replay, speed=config.speed, queue=queue)
    seed = int.from_bytes(rng.randbytes(4), "big") if config.seed is None else config.seed
    return SyntheticMarket(seed)
