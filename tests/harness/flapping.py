"""A venue that is calm, or flaps: connects, talks and drops at random. For soaks, to find leaks.

`Flapper` is a script of `flaky_server`; the path names the coin. While it flaps, each connection
gets another trouble out of one seeded generator and is let go after a while. As a process of its
own (`python -m tests.harness.flapping SEED COINS`) it prints its port, obeys the lines `flap` and
`calm`, and prints `calm` when every coin has a connection again.
"""

from __future__ import annotations

import os
import random
import socket
import sys
from collections.abc import Sequence
from typing import Any

import trio

from tests.harness.flaky_server import FlakyServer, Peer, frame

_LONGEST_S = 2.0
_RESET = b"\1\0\0\0\0\0\0\0"
"""As SO_LINGER: closing sends RST instead of FIN."""


class Flapper:
    """Calm at first; `flap` and `calm` drop all connections and begin anew."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._flaps = False
        self._scopes: set[trio.CancelScope] = set()
        self._served: set[str] = set()
        self._more = trio.Event()

    def flap(self) -> None:
        """Begin to make trouble."""
        self._begin(flaps=True)

    def calm(self) -> None:
        """Be a good venue."""
        self._begin(flaps=False)

    async def wait_served(self, count: int) -> None:
        """Wait until so many paths have a good connection, made since the last change."""
        while len(self._served) < count:
            await self._more.wait()

    async def __call__(self, peer: Peer) -> None:
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                if self._flaps:
                    scope.deadline = trio.current_time() + self._random.uniform(0, _LONGEST_S)
                    await self._trouble(peer)
                else:
                    await peer.upgrade()
                    self._served.add(peer.path)
                    self._more.set()
                    self._more = trio.Event()
                    await peer.serve()
            finally:
                self._scopes.discard(scope)
        await self._leave(peer)

    def _begin(self, *, flaps: bool) -> None:
        self._flaps = flaps
        self._served.clear()
        for scope in tuple(self._scopes):
            scope.cancel()

    async def _trouble(self, peer: Peer) -> None:
        kinds = [self._refuse, self._hang, self._ignore, self._break_off, self._rave]
        await self._random.choice([*kinds, *[self._talk] * len(kinds)])(peer)

    async def _refuse(self, peer: Peer) -> None:
        await peer.send_raw(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")

    async def _hang(self, peer: Peer) -> None:
        """Never answer the handshake."""
        await peer.receive()

    async def _ignore(self, peer: Peer) -> None:
        """Half open: take everything and say nothing."""
        await peer.upgrade()
        while True:
            await peer.receive()

    async def _talk(self, peer: Peer) -> None:
        """A good venue for a while."""
        await peer.upgrade()
        for message in await peer.receive():
            await peer.answer(message)
        await self._send_data(peer)
        await peer.serve()

    async def _break_off(self, peer: Peer) -> None:
        """In the middle of a frame."""
        await peer.upgrade()
        await self._send_data(peer)
        whole = frame("x" * 1_000)
        await peer.send_raw(whole[: self._random.randrange(1, len(whole))])

    async def _rave(self, peer: Peer) -> None:
        await peer.upgrade()
        await peer.send_raw(self._random.randbytes(self._random.randrange(1, 2_000)))

    async def _send_data(self, peer: Peer) -> None:
        """Books, and a few trades again and again: a client rightly remembers their ids."""
        coin = peer.path[1:]
        for number in range(self._random.randrange(50)):
            await peer.send(_book(coin, number) if number % 5 else _trade(coin, number))
        await peer.send("rubbish")

    async def _leave(self, peer: Peer) -> None:
        """With a close frame, by FIN, or by RST."""
        way = self._random.randrange(3)
        if way == 0:
            await peer.send_raw(frame((1001).to_bytes(2, "big"), opcode=8))
        elif way == 1 and isinstance(peer.stream, trio.SocketStream):
            peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def _trade(coin: str, number: int) -> dict[str, Any]:
    trade = {"coin": coin, "side": "B", "px": "100", "sz": "1", "time": number, "tid": number}
    return {"channel": "trades", "data": [trade]}


def _book(coin: str, number: int) -> dict[str, Any]:
    bid, ask = ({"px": px, "sz": f"{number + 1}", "n": 1} for px in ("100", "101"))
    return {"channel": "l2Book", "data": {"coin": coin, "time": number, "levels": [[bid], [ask]]}}


def venue(coins: Sequence[str], flapper: Flapper) -> FlakyServer:
    """A server that lists *coins* and has a path for each of them."""
    universe = [{"name": coin, "szDecimals": 5, "maxLeverage": 50} for coin in coins]
    info = {"meta": {"universe": universe}, "spotMeta": {"tokens": [], "universe": []}}
    return FlakyServer({f"/{coin}": flapper for coin in coins}, info)


def coin_names(count: int) -> list[str]:
    """C0, C1, …"""
    return [f"C{number}" for number in range(count)]


async def _main(seed: int, count: int) -> None:
    flapper = Flapper(seed)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(venue(coin_names(count), flapper).serve, listeners)
        _tell(listeners[0].socket.getsockname()[1])
        async for line in trio.lowlevel.FdStream(os.dup(0)):
            if line == b"flap\n":
                flapper.flap()
                continue
            flapper.calm()
            await flapper.wait_served(count)
            _tell("calm")
        nursery.cancel_scope.cancel()


def _tell(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    trio.run(_main, int(sys.argv[1]), int(sys.argv[2]))
