"""The simulation's network does what its faults say: bytes late, lost, or never."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.simulation.network import SimNetwork
from zq_daemon.errors import LinkError

pytestmark = pytest.mark.virtual


@asynccontextmanager
async def _echo() -> AsyncIterator[SimNetwork]:
    """A network with one host, `echo`, that sends back what it gets."""
    network = SimNetwork()

    async def serve(stream: trio.abc.Stream) -> None:
        try:
            while data := await stream.receive_some():
                await stream.send_all(data)
        except trio.BrokenResourceError:
            pass

    listeners = await network.listen("echo", 1)
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, serve, listeners)
        yield network
        nursery.cancel_scope.cancel()


async def _ask(link: trio.abc.Stream, text: bytes) -> tuple[bytes, float]:
    """The answer, and how long it took."""
    began = trio.current_time()
    await link.send_all(text)
    return bytes(await link.receive_some()), trio.current_time() - began


async def test_what_is_held_up_arrives_late_and_whole() -> None:
    async with _echo() as network, trio.open_nursery() as nursery:
        link = await network.connect("echo", 1, tls=False)
        assert await _ask(link, b"one") == (b"one", 0)
        network.hold()
        nursery.start_soon(_release_after, network, 7)
        assert await _ask(link, b"two") == (b"two", 7)


async def _release_after(network: SimNetwork, seconds: float) -> None:
    await trio.sleep(seconds)
    network.release()


async def test_a_link_that_is_new_during_a_hold_up_is_held_up_too() -> None:
    async with _echo() as network, trio.open_nursery() as nursery:
        network.hold()
        link = await network.connect("echo", 1, tls=False)
        nursery.start_soon(_release_after, network, 3)
        assert await _ask(link, b"one") == (b"one", 3)


async def test_a_slow_network_delays_every_answer() -> None:
    async with _echo() as network:
        link = await network.connect("echo", 1, tls=False)
        network.latency_s = 0.4
        assert await _ask(link, b"one") == (b"one", pytest.approx(0.4))


async def test_what_is_cut_is_broken_and_new_links_are_refused_with_the_reason() -> None:
    async with _echo() as network:
        links = [await network.connect("echo", 1, tls=False) for _ in range(3)]
        await network.cut_one(random.Random(1))
        assert len(network.links) == 2
        network.refusal = "no address for this name"
        await network.cut()
        assert network.links == []
        for link in links:
            with pytest.raises(trio.ClosedResourceError):
                await link.send_all(b"lost")
        with pytest.raises(LinkError, match="echo:1: no address for this name"):
            await network.connect("echo", 1, tls=False)


async def test_swizzled_links_all_work_again() -> None:
    async with _echo() as network:
        links = [await network.connect("echo", 1, tls=False) for _ in range(3)]
        await network.swizzle(random.Random(1), 10)
        for link in links:
            assert await _ask(link, b"one") == (b"one", 0)
