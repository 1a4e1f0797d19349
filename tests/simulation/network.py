"""A network with bad days: links that are cut, held up, slow, or refused, one by one or together.

Every connection goes through a `Link`, so that all of that happens to bytes of the real protocol. A
link that is held up delivers late what was sent into it; one that is cut loses it.
"""

from __future__ import annotations

import random

import trio

from tests.harness.memory_network import MemoryNetwork
from zq_daemon.errors import LinkError


class Link(trio.abc.Stream):
    """The client's end of a connection."""

    def __init__(self, network: SimNetwork, stream: trio.abc.Stream) -> None:
        self._network = network
        self._stream = stream
        self._free = trio.Event()
        self._free.set()
        self.is_open = True

    def hold(self) -> None:
        """Nothing gets through any more, in either direction, until `release`."""
        if self._free.is_set():
            self._free = trio.Event()

    def release(self) -> None:
        """What was held up gets through."""
        self._free.set()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._pass()
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        await self._pass()
        if self._network.latency_s:
            await trio.sleep(self._network.latency_s)
        return data

    async def aclose(self) -> None:
        self.is_open = False
        self.release()
        await self._stream.aclose()

    async def _pass(self) -> None:
        while not self._free.is_set():
            await self._free.wait()


class SimNetwork(MemoryNetwork):
    """The network port of the simulation; *latency_s* is added to everything that arrives."""

    def __init__(self) -> None:
        super().__init__()
        self.latency_s = 0.0
        self.refusal: str | None = None
        self._holds = False
        self._links: list[Link] = []

    @property
    def links(self) -> list[Link]:
        """Those that are open."""
        self._links = [each for each in self._links if each.is_open]
        return self._links

    async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        if self.refusal is not None:
            await trio.lowlevel.checkpoint()
            raise LinkError(f"cannot connect to {host}:{port}: {self.refusal}")
        link = Link(self, await super().connect(host, port, tls=tls))
        if self._holds:
            link.hold()
        self.links.append(link)
        return link

    def hold(self) -> None:
        """Every link, and every new one, is silent."""
        self._holds = True
        for link in self.links:
            link.hold()

    def release(self) -> None:
        """All get through again."""
        self._holds = False
        for link in self.links:
            link.release()

    async def cut(self) -> None:
        """Break every open connection."""
        for link in self.links:
            await trio.aclose_forcefully(link)

    async def cut_one(self, rng: random.Random) -> None:
        """Break one of them."""
        links = self.links
        if links:
            await trio.aclose_forcefully(rng.choice(links))

    async def swizzle(self, rng: random.Random, for_s: float) -> None:
        """Hold the links up one after another, then release them in another order."""
        links = list(self.links)
        for change in (Link.hold, Link.release):
            rng.shuffle(links)
            for link in links:
                change(link)
                await trio.sleep(for_s * rng.random() / len(links))
