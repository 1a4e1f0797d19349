"""The link port against a real trio-websocket server over memory streams."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio_websocket

from tests.harness.memory_network import MemoryNetwork
from zq_daemon.errors import LinkError, LinkRefused
from zq_daemon.ports.link import WsUrl, open_link

URL = WsUrl.parse("ws://venue:80/ws")
open_test_link = partial(open_link, connect_timeout_s=5, max_message_bytes=1_000)
Handler = Callable[[trio_websocket.WebSocketRequest], Awaitable[None]]


@asynccontextmanager
async def _serving(handler: Handler) -> AsyncIterator[MemoryNetwork]:
    network = MemoryNetwork()
    async with trio.open_nursery() as nursery:
        listeners = await network.listen("venue", 80)
        server = trio_websocket.WebSocketServer(handler, listeners)  # type: ignore[arg-type]
        for listener in listeners:
            nursery.start_soon(partial(trio.serve_listeners, server._handle_connection, [listener]))
        yield network
        nursery.cancel_scope.cancel()


async def _echo(request: trio_websocket.WebSocketRequest) -> None:
    connection = await request.accept()
    with pytest.raises(trio_websocket.ConnectionClosed):
        while True:
            await connection.send_message(await connection.get_message())


async def test_sends_receives_and_closes_with_a_close_frame() -> None:
    codes: list[int] = []

    async def handler(request: trio_websocket.WebSocketRequest) -> None:
        connection = await request.accept()
        await connection.send_message(f"{request.path} {await connection.get_message()}")
        with pytest.raises(trio_websocket.ConnectionClosed) as closed:
            await connection.get_message()
        assert closed.value.reason is not None
        codes.append(closed.value.reason.code)

    async with _serving(handler) as network:
        async with open_test_link(network, URL) as link:
            await link.send("hello")
            assert await link.receive() == "/ws hello"
        await trio.testing.wait_all_tasks_blocked()
    assert codes == [1000]


async def test_the_far_side_closing_is_a_link_error() -> None:
    async def handler(request: trio_websocket.WebSocketRequest) -> None:
        connection = await request.accept()
        await connection.send_message("bye")
        await connection.aclose(1001, "going away")

    async with _serving(handler) as network:
        with pytest.raises(LinkError, match="1001"):
            async with open_test_link(network, URL) as link:
                assert await link.receive() == "bye"
                await link.receive()


async def test_a_lost_connection_is_a_link_error() -> None:
    async with _serving(_echo) as network:
        with pytest.raises(LinkError, match="closed"):
            async with open_test_link(network, URL) as link:
                await network.partition("venue", 80)
                await link.receive()


@pytest.mark.parametrize(
    ("max_message_bytes", "length"),
    [(1_024, 1_000), (1 << 16, 1_000), (1 << 20, 64), (4 << 20, 16), (1 << 30, 16)],
)
async def test_messages_that_wait_are_bounded_in_bytes_too(
    max_message_bytes: int, length: int
) -> None:
    async with _serving(_echo) as network:
        opened = open_link(network, URL, connect_timeout_s=5, max_message_bytes=max_message_bytes)
        async with opened as link:
            waiting = link._connection._recv_channel.statistics()
    assert waiting.max_buffer_size == length


async def test_nobody_listening_is_a_link_error() -> None:
    with pytest.raises(LinkError, match="venue:80"):
        async with open_test_link(MemoryNetwork(), URL):
            raise AssertionError("not reached")


@pytest.mark.parametrize(
    ("status", "kind"), [(403, LinkRefused), (429, LinkError), (503, LinkError)]
)
async def test_a_refused_upgrade(status: int, kind: type[Exception]) -> None:
    async def handler(request: trio_websocket.WebSocketRequest) -> None:
        await request.reject(status)

    async with _serving(handler) as network:
        with pytest.raises(kind, match=str(status)):
            async with open_test_link(network, URL):
                raise AssertionError("not reached")


async def test_a_far_side_that_hangs_up_during_the_handshake() -> None:
    network = MemoryNetwork()
    (listener,) = await network.listen("venue", 80)

    async def hang_up() -> None:
        stream = await listener.accept()
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hang_up)
        with pytest.raises(LinkError, match="venue"):
            async with open_test_link(network, URL):
                raise AssertionError("not reached")


@pytest.mark.virtual
async def test_a_far_side_that_never_answers_is_given_up_in_time() -> None:
    network = MemoryNetwork()
    await network.listen("venue", 80)
    with pytest.raises(LinkError, match="within 5 s"):
        async with open_test_link(network, URL):
            raise AssertionError("not reached")
    assert trio.current_time() == pytest.approx(5, abs=1e-6)


@pytest.mark.parametrize(
    "garbage", [b"\xff" * 64, b"HTTP/1.1 200 OK\r\n\r\n", b"SSH-2.0-x\r\n\r\n"]
)
async def test_a_far_side_that_speaks_something_else(garbage: bytes) -> None:
    network = MemoryNetwork()
    (listener,) = await network.listen("venue", 80)

    async def talk() -> None:
        stream = await listener.accept()
        await stream.receive_some()
        await stream.send_all(garbage)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk)
        with pytest.raises((LinkError, LinkRefused)):
            async with open_test_link(network, URL):
                raise AssertionError("not reached")


@pytest.mark.virtual
async def test_a_bad_frame_after_the_handshake_is_a_link_error() -> None:
    async def handler(request: trio_websocket.WebSocketRequest) -> None:
        connection = await request.accept()
        await connection._stream.send_all(b"\xff\xff\xff\xff")
        with pytest.raises(trio_websocket.ConnectionClosed):
            await connection.get_message()

    async with _serving(handler) as network:
        with pytest.raises(LinkError):
            async with open_test_link(network, URL) as link:
                await link.receive()


@pytest.mark.virtual
async def test_an_oversized_message_is_a_link_error() -> None:
    async def handler(request: trio_websocket.WebSocketRequest) -> None:
        connection = await request.accept()
        await connection.send_message("x" * 2_000)
        with pytest.raises(trio_websocket.ConnectionClosed):
            await connection.get_message()

    async with _serving(handler) as network:
        with pytest.raises(LinkError):
            async with open_test_link(network, URL) as link:
                await link.receive()


async def test_other_errors_of_the_body_are_not_hidden() -> None:
    async with _serving(_echo) as network:
        with pytest.raises(ExceptionGroup) as caught:
            async with open_test_link(network, URL):
                raise KeyError("ours")
    assert isinstance(caught.value.exceptions[0], KeyError)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ws://a.b/ws", ("a.b", 80, "/ws", False)),
        ("wss://a.b/ws?x=1", ("a.b", 443, "/ws?x=1", True)),
        ("ws://127.0.0.1:18473", ("127.0.0.1", 18473, "/", False)),
        ("ws://[::1]:99/ws", ("::1", 99, "/ws", False)),
    ],
)
def test_url_parts(text: str, parts: tuple[str, int, str, bool]) -> None:
    url = WsUrl.parse(text)
    assert (url.host, url.port, url.resource, url.tls) == parts


@pytest.mark.parametrize("text", ["http://a/ws", "ws:///ws", "ws://u@a/ws", "ws://a:99999/", "a"])
def test_url_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        WsUrl.parse(text)


def test_authority_says_the_port_only_where_it_must() -> None:
    assert URL.authority == "venue"
    assert WsUrl.parse("ws://[::1]:99/").authority == "[::1]:99"


async def test_every_way_out_closes_the_socket() -> None:
    class Counting(MemoryNetwork):
        def __init__(self) -> None:
            super().__init__()
            self.streams: list[trio.StapledStream] = []

        async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
            stream = await super().connect(host, port, tls=tls)
            assert isinstance(stream, trio.StapledStream)
            self.streams.append(stream)
            return stream

    async def handler(request: trio_websocket.WebSocketRequest) -> None:
        connection = await request.accept()
        await trio.aclose_forcefully(connection._stream)

    network = Counting()
    async with trio.open_nursery() as nursery:
        (listener,) = await network.listen("venue", 80)
        server = trio_websocket.WebSocketServer(handler, [listener])  # type: ignore[list-item]
        nursery.start_soon(partial(trio.serve_listeners, server._handle_connection, [listener]))
        with pytest.raises(LinkError):
            async with open_test_link(network, URL) as link:
                await link.receive()
        nursery.cancel_scope.cancel()
    (stream,) = network.streams
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"x")
