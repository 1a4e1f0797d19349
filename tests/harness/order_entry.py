"""Hyperliquid's order entry for a test: a key, two instruments, a budget, and maybe HTTP."""

from __future__ import annotations

from collections.abc import Callable

from zq_daemon.config.schema import HyperliquidConfig
from zq_daemon.model.ids import InstrumentId
from zq_daemon.ports.clock import Clock, VirtualClock
from zq_daemon.ports.http import HttpClient
from zq_daemon.ports.network import Network
from zq_daemon.ports.rng import seeded_rng
from zq_daemon.runtime.backoff import Backoff
from zq_daemon.venue.hyperliquid.budget import RateBudget
from zq_daemon.venue.hyperliquid.posts import HttpPosts
from zq_daemon.venue.hyperliquid.sign import AgentKey
from zq_daemon.venue.hyperliquid.trade import HyperliquidOrderEntry

BTC = InstrumentId("hyperliquid.BTC")
ETH = InstrumentId("hyperliquid.ETH")
ASSETS = {BTC: 0, ETH: 1}
SECRET = "0123456789" * 6 + "0123"
KEY = AgentKey.from_text(SECRET)


def make_budget(clock: Clock, *, weight: int = 0, messages: int = 0) -> RateBudget:
    """A budget without limits unless they are given."""
    return RateBudget(
        clock=clock,
        backoff=Backoff(1_000, 60_000, seeded_rng(1)),
        weight_per_minute=weight,
        messages_per_minute=messages,
    )


def make_entry(
    config: HyperliquidConfig | None = None,
    *,
    clock: Clock | None = None,
    asset_of: Callable[[InstrumentId], int] = ASSETS.__getitem__,
    budget: RateBudget | None = None,
    network: Network | None = None,
) -> HyperliquidOrderEntry:
    """Order entry on virtual time; with a *network* it also reaches `http://venue`."""
    config = config or HyperliquidConfig()
    clock = clock or VirtualClock()
    http = None
    if network is not None:
        client = HttpClient(
            network,
            "http://venue",
            timeout_ms=config.post_timeout_ms,
            max_response_bytes=100_000,
        )
        http = HttpPosts(client)
    return HyperliquidOrderEntry(
        config=config,
        clock=clock,
        key=KEY,
        asset_of=asset_of,
        budget=budget or make_budget(clock),
        http=http,
    )
