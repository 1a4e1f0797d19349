"""A hundred endpoints flap on a virtual clock: afterwards nothing is left over."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from tests.harness.flapping import Flapper, coin_names, venue
from tests.harness.memory_network import MemoryNetwork
from zq_daemon.config.schema import HyperliquidConfig
from zq_daemon.engine.dispatch import FeedEvent, conflation_key
from zq_daemon.engine.links import LinkGroup
from zq_daemon.model.event import LinkState
from zq_daemon.ports.clock import VirtualClock
from zq_daemon.ports.rng import seeded_rng
from zq_daemon.runtime.backoff import Backoff
from zq_daemon.runtime.feed_queue import FeedQueue
from zq_daemon.venue.endpoint import Endpoint, EndpointSettings
from zq_daemon.venue.hyperliquid.adapter import HyperliquidAdapter

pytestmark = pytest.mark.virtual
ENDPOINTS = 100
FLAPPING_S = 10
HEARTBEAT_S = 1


class CountedStream(trio.abc.Stream):
    """Counts itself as open until it is closed."""

    def __init__(self, stream: trio.abc.Stream, network: CountingNetwork) -> None:
        self._stream = stream
        self._network = network
        network.open.add(self)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        self._network.open.discard(self)
        await self._stream.aclose()


class CountingNetwork(MemoryNetwork):
    """Knows the clients' streams that are open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: set[CountedStream] = set()

    async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        return CountedStream(await super().connect(host, port, tls=tls), self)


def _endpoint(coin: str, network: MemoryNetwork, feed: FeedQueue[FeedEvent]) -> Endpoint:
    clock, rng = VirtualClock(), seeded_rng(int(coin[1:]))
    settings = EndpointSettings(
        name=coin,
        url=f"ws://venue:80/{coin}",
        streams=(f"trades:{coin}", f"l2Book:{coin}"),
        auto_reconnect=True,
        connect_timeout_ms=1_000,
        reconnect_healthy_ms=60_000,
        heartbeat_timeout_ms=500,
        feed_blocked_ms=60_000,
        reconcile_interval_ms=60_000,
        max_message_bytes=100_000,
    )
    return Endpoint(
        settings,
        HyperliquidAdapter(HyperliquidConfig(), network, clock, None, seeded_rng(1)),
        network=network,
        clock=clock,
        backoff=Backoff(20, 200, rng),
        feed=feed,
        reports=trio.open_memory_channel(1)[0],
        on_bad=lambda _source, _message, _problem: False,
    )


async def _drain(feed: FeedQueue[FeedEvent]) -> None:
    while True:
        await feed.get(1_000)


async def _calm(flapper: Flapper, links: LinkGroup) -> int:
    """Calm the venue down until all links are up again; how many tasks there are then."""
    flapper.calm()
    await flapper.wait_served(ENDPOINTS)
    await trio.sleep(HEARTBEAT_S)  # pings of the lost connections are still given their time
    await trio.testing.wait_all_tasks_blocked()
    assert {link.state for link in links.endpoints} == {LinkState.UP}
    return _tasks()


def _tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


def _reconnects(endpoints: Sequence[Endpoint]) -> list[int]:
    return [endpoint.status()["reconnects"] for endpoint in endpoints]


async def test_flapping_leaves_neither_tasks_nor_streams() -> None:
    network, flapper = CountingNetwork(), Flapper(seed=1)
    feed = FeedQueue[FeedEvent](100, conflation_key)
    endpoints = [_endpoint(coin, network, feed) for coin in coin_names(ENDPOINTS)]
    links = LinkGroup(endpoints, heartbeat_interval_ms=HEARTBEAT_S * 1_000)
    server = venue(coin_names(ENDPOINTS), flapper)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, await network.listen("venue", 80))
        nursery.start_soon(_drain, feed)
        await trio.testing.wait_all_tasks_blocked()
        before = _tasks()
        nursery.start_soon(links.run)
        calm = await _calm(flapper, links)
        flapper.flap()
        await trio.sleep(FLAPPING_S)
        assert await _calm(flapper, links) == calm
        assert len(network.open) == server.open == ENDPOINTS
        assert min(_reconnects(endpoints)) > 1
        assert sum(_reconnects(endpoints)) > 8 * ENDPOINTS
        links.stop()
        await trio.testing.wait_all_tasks_blocked()
        assert _tasks() == before
        assert not network.open
        assert server.open == 0
        nursery.cancel_scope.cancel()
