"""An in-memory network behind the network port: real protocol code over memory streams.

`partition` makes a host unreachable and breaks what is open; nothing here sleeps or uses threads.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio
import trio.testing

from zq_daemon.errors import LinkError


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """A listener whose connections are memory streams."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[trio.abc.Stream](math.inf)

    def connect(self) -> trio.abc.Stream:
        """The client's end of a new connection; the server's is accepted later."""
        ours, theirs = trio.testing.memory_stream_pair()
        try:
            self._send.send_nowait(theirs)
        except trio.BrokenResourceError:
            raise LinkError("connection refused") from None
        return ours

    async def accept(self) -> trio.abc.Stream:
        return await self._receive.receive()

    async def aclose(self) -> None:
        self._receive.close()
        await trio.lowlevel.checkpoint()


class MemoryNetwork:
    """Hosts by (name, port); the network port of the simulation."""

    def __init__(self) -> None:
        self._listeners: dict[tuple[str, int], MemoryListener] = {}
        self._open: list[tuple[tuple[str, int], trio.abc.Stream]] = []
        self._cut: set[tuple[str, int]] = set()
        self.connects = 0

    async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.connects += 1
        listener = self._listeners.get((host, port))
        if listener is None or (host, port) in self._cut:
            raise LinkError(f"cannot connect to {host}:{port}: connection refused")
        stream = listener.connect()
        self._open.append(((host, port), stream))
        return stream

    async def listen(self, host: str, port: int) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
        await trio.lowlevel.checkpoint()
        listener = self._listeners[host, port] = MemoryListener()
        return [listener]

    @asynccontextmanager
    async def listen_locally(self, path: Path) -> AsyncIterator[trio.abc.Listener[trio.abc.Stream]]:
        (listener,) = await self.listen(str(path), 0)
        yield listener
        await listener.aclose()

    async def partition(self, host: str, port: int) -> None:
        """Break every open connection to the host and refuse new ones."""
        self._cut.add((host, port))
        broken = [stream for where, stream in self._open if where == (host, port)]
        self._open = [pair for pair in self._open if pair[0] != (host, port)]
        for stream in broken:
            await trio.aclose_forcefully(stream)

    def heal(self, host: str, port: int) -> None:
        """The host can be reached again."""
        self._cut.discard((host, port))
