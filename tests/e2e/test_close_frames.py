"""Close frames on real sockets: of our link, of the exchange, and of the whole daemon."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.harness.frames import UPGRADE, accept_upgrade, close_frame, frames
from tests.harness.process import demo_config, free_port, running_command, running_daemon
from zq_daemon.ports.link import WsUrl, open_link
from zq_daemon.ports.network import SystemNetwork


class RawPeer:
    """Accepts an upgrade, keeps all bytes, and answers a close frame if it *answers*."""

    def __init__(self, *, answers: bool) -> None:
        self._answers = answers
        self.received = b""
        self.ended = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        upgraded = False
        async for data in stream:
            self.received += data
            if not upgraded and b"\r\n\r\n" in self.received:
                upgraded = True
                await stream.send_all(accept_upgrade(self.received))
            closing = frames(self.received)
            if self._answers and closing and closing[-1].close_code is not None:
                await stream.send_all(close_frame(1000, masked=False))
                break
        self.ended.set()


@asynccontextmanager
async def listening(peer: RawPeer) -> AsyncIterator[WsUrl]:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        nursery.start_soon(partial(trio.serve_listeners, peer.serve, [listener]))
        yield WsUrl.parse(f"ws://127.0.0.1:{port}/ws")
        await peer.ended.wait()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("way", ["leaving", "cancelled", "failing"])
async def test_a_link_ends_with_a_close_frame_whatever_the_way_out(way: str, answers: bool) -> None:
    peer = RawPeer(answers=answers)
    async with listening(peer) as url:
        with trio.CancelScope() as scope, pytest.MonkeyPatch.context() as patch:
            patch.setattr("zq_daemon.ports.link._CLOSE_TIMEOUT_S", 0.2)
            try:
                async with open_link(
                    SystemNetwork(), url, connect_timeout_s=5, max_message_bytes=1_000
                ) as link:
                    await link.send("last words")
                    if way == "cancelled":
                        scope.cancel()
                        await link.receive()
                    if way == "failing":
                        raise ZeroDivisionError
            except* ZeroDivisionError:
                assert way == "failing"
    said, closing = frames(peer.received)
    assert said.payload == b"last words"
    assert (closing.close_code, closing.masked) == (1000, True)


async def test_an_exchange_that_is_stopped_says_that_it_goes_away(tmp_path: Path) -> None:
    port = free_port()
    async with running_command(["exchange", "--port", str(port), "--seed", "1"], tmp_path) as made:
        await made.wait_event("exchange open")
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(UPGRADE)
            received = b""
            while b"established." not in received:
                received += await stream.receive_some()
            made.send_signal(signal.SIGTERM)
            async for data in stream:
                received += data
                if frames(received)[-1].close_code:
                    await stream.send_all(close_frame(1001, masked=True))
        assert await made.wait_exit() == 0
    assert frames(received)[-1].close_code == 1001


class Proxy:
    """Between a daemon and its exchange: keeps what each side says on every connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.connections: list[tuple[bytearray, bytearray]] = []

    async def relay(self, daemon: trio.SocketStream) -> None:
        """Both directions of one connection until both have ended."""
        said, heard = bytearray(), bytearray()
        self.connections.append((said, heard))
        async with (
            await trio.open_tcp_stream("127.0.0.1", self._port) as exchange,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(_pump, daemon, exchange, said)
            nursery.start_soon(_pump, exchange, daemon, heard)


async def _pump(source: trio.SocketStream, sink: trio.SocketStream, kept: bytearray) -> None:
    try:
        async for data in source:
            kept += data
            await sink.send_all(data)
        await sink.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


async def test_a_daemon_that_is_stopped_closes_each_websocket(tmp_path: Path) -> None:
    port, between = free_port(), free_port()
    proxy = Proxy(port)
    config = demo_config(port).replace(f"ws://127.0.0.1:{port}", f"ws://127.0.0.1:{between}")
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_tcp, proxy.relay, between, host="127.0.0.1"))
        async with running_daemon(tmp_path, config) as daemon:
            await daemon.wait_event("running")
            assert await daemon.stop() == 0
        nursery.cancel_scope.cancel()
    assert len(proxy.connections) == 2
    for said, heard in proxy.connections:
        assert frames(bytes(said))[-1].close_code == 1000
        assert frames(bytes(heard))[-1].close_code == 1000
