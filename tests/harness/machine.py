"""A machine that a simulated daemon runs on, and that can be gone from one moment to the next.

It has its own way to a shared network and disk. When it dies, nothing more of it reaches either, in
the same instant: what its daemon still does while its tasks unwind changes nothing any more. It
knows what its daemon has opened and not closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tests.harness.memory_network import MemoryNetwork
from zq_daemon.errors import LinkError, ZqError
from zq_daemon.ports.disk import MemoryDisk
from zq_daemon.ports.rng import Rng

LAST_WORDS = (ZqError, OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What a daemon whose machine is gone may end with."""


_SYNCED = 512


class Machine:
    """One life; *floor* outlives it, as what it is connected to does."""

    def __init__(self, network: MemoryNetwork, disk: MemoryDisk, floor: trio.Nursery) -> None:
        self.is_alive = True
        self.network = MortalNetwork(self, network)
        self.disk: Any = MortalDisk(self, disk)
        self.held: dict[object, str] = {}
        self._disk = disk
        self._floor = floor
        self._mourners: list[Callable[[], None]] = []

    def on_death(self, mourner: Callable[[], None]) -> None:
        """Call *mourner* when it is gone."""
        self._mourners.append(mourner)

    def left_open(self) -> list[str]:
        """What the daemon has opened and not closed itself, whatever became of it meanwhile."""
        return sorted(self.held.values())

    def die(self, rng: Rng | None) -> None:
        """Gone: killed, or with *rng* the power, and with it what was not synced."""
        if not self.is_alive:
            return
        self.is_alive = False
        if rng is None:
            self._disk.kill()
        else:
            self._disk.power_cut(rng)
        for stream in self.network.streams:
            self._floor.start_soon(trio.aclose_forcefully, stream)
        for mourner in self._mourners:
            mourner()


class MortalNetwork:
    """The network port of a machine."""

    def __init__(self, machine: Machine, network: MemoryNetwork) -> None:
        self.streams: list[trio.abc.Stream] = []
        self._machine = machine
        self._network = network

    async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        if not self._machine.is_alive:
            raise LinkError("the machine is gone")
        stream = await self._network.connect(host, port, tls=tls)
        self.streams.append(stream)
        mortal = MortalStream(self._machine, stream)
        self._machine.held[mortal] = f"connection to {host}:{port}"
        return mortal

    async def listen(self, host: str, port: int) -> Any:
        raise AssertionError("it serves nobody but on its own control socket")

    @asynccontextmanager
    async def listen_locally(self, path: Path) -> AsyncIterator[trio.abc.Listener[trio.abc.Stream]]:
        async with self._network.listen_locally(path) as listener:
            self._machine.held[listener] = f"listener at {path.name}"
            try:
                yield listener
            finally:
                del self._machine.held[listener]


class MortalStream(trio.abc.Stream):
    """A connection of a machine: no byte leaves once that is gone."""

    def __init__(self, machine: Machine, stream: trio.abc.Stream) -> None:
        self._machine = machine
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._check()
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        self._check()
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        self._check()
        return data

    async def aclose(self) -> None:
        self._machine.held.pop(self, None)
        await self._stream.aclose()

    def _check(self) -> None:
        if not self._machine.is_alive:
            raise trio.BrokenResourceError("the machine is gone")


class MortalDisk:
    """The disk port of a machine: the shared disk as long as that lives."""

    def __init__(self, machine: Machine, disk: MemoryDisk) -> None:
        self._machine = machine
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        self._check()
        return getattr(self._disk, name)

    async def create(self, path: str, size: int) -> Any:
        self._check()
        return self._hold(await self._disk.create(path, size), f"file {path}")

    async def open(self, path: str) -> Any:
        self._check()
        return self._hold(await self._disk.open(path), f"file {path}")

    async def lock(self, path: str) -> Any:
        self._check()
        return self._hold(await self._disk.lock(path), f"lock {path}")

    def _check(self) -> None:
        if not self._machine.is_alive:
            raise OSError("the machine is gone")

    def _hold(self, opened: Any, name: str) -> MortalFile:
        file = MortalFile(self._machine, opened)
        self._machine.held[file] = name
        return file


class MortalFile:
    """An open file, or a lock, of a machine, which is to close it."""

    def __init__(self, machine: Machine, opened: Any) -> None:
        self._machine = machine
        self._opened = opened

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened, name)

    async def aclose(self) -> None:
        self._machine.held.pop(self, None)
        await self._opened.aclose()


class WatchedDisk(MemoryDisk):
    """A disk that says when a sync begins; it takes a while, in which the power may go.

    *synced* is what was made durable last, the latest first.
    """

    def __init__(self, *, sync_s: float) -> None:
        super().__init__(sync_s=sync_s)
        self.on_sync: Callable[[], None] = lambda: None
        self.synced: deque[bytes] = deque(maxlen=_SYNCED)

    async def _sync(self, inode: Any, covered: Any, cuts: int) -> None:
        self.on_sync()
        await super()._sync(inode, covered, cuts)
        self.synced.extendleft(change.data for change in covered if change.data)

    def image(self) -> bytes:
        """All that is durable, with the names of the files."""
        named = sorted((name, self.durable(name)) for name in self._files)
        return b"".join(name.encode() + b"\n" + data for name, data in named)
