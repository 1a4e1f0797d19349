"""How the exchange's side of a WebSocket ends, seen as bytes by a peer of another kind."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing

from tests.harness.frames import CLOSE, UPGRADE, close_frame, frames
from tests.unit.exchange_rig import Rig
from zq_daemon.venue.exchange.server import serve_stream

pytestmark = pytest.mark.virtual


async def read_until(stream: trio.abc.Stream, wanted: bytes) -> bytes:
    received = b""
    while wanted not in received:
        data = await stream.receive_some()
        assert data, received
        received += data
    return received


async def read_all(stream: trio.abc.Stream) -> bytes:
    received = b""
    while data := await stream.receive_some():
        received += data
    return received


async def open_websocket(nursery: trio.Nursery, rig: Rig) -> tuple[trio.abc.Stream, bytes]:
    """A raw connection that *nursery* serves, and what it has received: the greeting is last."""
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(partial(serve_stream, theirs, rig.exchange))
    await ours.send_all(UPGRADE)
    return ours, await read_until(ours, b"established.")


@pytest.mark.parametrize("answers", [True, False])
async def test_the_exchange_says_that_it_goes_away(answers: bool) -> None:
    rig = Rig()
    async with trio.open_nursery() as nursery:
        stream, received = await open_websocket(nursery, rig)
        started = trio.current_time()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            received += await read_until(stream, close_frame(1001, masked=False))
            if answers:
                await stream.send_all(close_frame(1001, masked=True))
            received += await read_all(stream)
    assert [frame.opcode for frame in frames(received)] == [1, CLOSE]
    assert not frames(received)[-1].masked
    took_s = trio.current_time() - started
    assert took_s == pytest.approx(0 if answers else 2), "a peer that is deaf is left soon"


async def test_a_peer_that_closes_is_answered() -> None:
    rig = Rig()
    async with trio.open_nursery() as nursery:
        stream, received = await open_websocket(nursery, rig)
        await stream.send_all(close_frame(1000, masked=True))
        received += await read_all(stream)
    assert frames(received)[-1].close_code == 1000
    assert not rig.exchange.connections


async def test_a_silent_peer_is_closed_normally() -> None:
    rig = Rig()
    async with trio.open_nursery() as nursery:
        stream, received = await open_websocket(nursery, rig)
        received += await read_all(stream)
        assert trio.current_time() == pytest.approx(62)
    assert frames(received)[-1].close_code == 1000


async def test_a_connection_that_is_cut_ends_without_a_word() -> None:
    rig = Rig()
    async with trio.open_nursery() as nursery:
        stream, received = await open_websocket(nursery, rig)
        rig.exchange.drop_connections()
        received += await read_all(stream)
    assert [frame.opcode for frame in frames(received)] == [1]


async def test_many_connections_are_closed_at_once() -> None:
    rig = Rig()
    ended: list[bytes] = []

    async def listen(stream: trio.abc.Stream) -> None:
        with trio.CancelScope(shield=True):
            ended.append(await read_all(stream))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            stream, _ = await open_websocket(nursery, rig)
            nursery.start_soon(listen, stream)
        started = trio.current_time()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert ended == [close_frame(1001, masked=False)] * 20
    assert trio.current_time() - started == pytest.approx(2)
