"""The HTTP client against a real h11 server over streams in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import h11
import msgspec
import pytest
import trio
import trio.testing

from zq_daemon.errors import LinkError, NeverSentError
from zq_daemon.ports.http import HttpClient, HttpReply

pytestmark = pytest.mark.virtual

Handler = Callable[["Server", trio.abc.Stream, int], Awaitable[None]]


class Server:
    """A network whose far side is *handler*, run once for each connection with its number."""

    def __init__(self, nursery: trio.Nursery, handler: Handler) -> None:
        self._nursery = nursery
        self._handler = handler
        self.connections: list[tuple[str, int, bool]] = []
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.open = 0
        self.refuse = ""

    async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if self.refuse:
            raise LinkError(self.refuse)
        self.connections.append((host, port, tls))
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._run, theirs, len(self.connections))
        return ours

    async def _run(self, stream: trio.abc.Stream, number: int) -> None:
        self.open += 1
        try:
            await self._handler(self, stream, number)
        except trio.BrokenResourceError:
            pass
        finally:
            self.open -= 1
            await stream.aclose()

    async def take(self, stream: trio.abc.Stream, protocol: h11.Connection) -> bool:
        """Read one request; False when the client hung up."""
        head, body = None, b""
        while True:
            event = protocol.next_event()
            if event is h11.NEED_DATA:
                protocol.receive_data(bytes(await stream.receive_some(65536)))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                headers = {name.decode(): value.decode() for name, value in head.headers}
                line = f"{head.method.decode()} {head.target.decode()}"
                self.requests.append((line, headers, msgspec.json.decode(body)))
                return True
            else:
                return False


async def answer(
    stream: trio.abc.Stream,
    protocol: h11.Connection,
    body: bytes,
    status: int = 200,
    headers: tuple[tuple[str, str], ...] = (),
    pieces: int = 1,
) -> None:
    out = protocol.send(
        h11.Response(status_code=status, headers=[("Content-Length", str(len(body))), *headers])
    )
    out += protocol.send(h11.Data(data=body)) + protocol.send(h11.EndOfMessage())
    step = -(-len(out) // pieces)
    for start in range(0, len(out), step):
        await stream.send_all(out[start : start + step])


async def echo(server: Server, stream: trio.abc.Stream, _number: int) -> None:
    """Keep-alive: answers each request with its own body."""
    protocol = h11.Connection(h11.SERVER)
    while await server.take(stream, protocol):
        await answer(stream, protocol, msgspec.json.encode(server.requests[-1][2]), pieces=7)
        protocol.start_next_cycle()


def client(network: Any, **changes: Any) -> HttpClient:
    options = {"timeout_ms": 5_000, "max_response_bytes": 10_000} | changes
    return HttpClient(network, "http://venue:8080/api", **options)


async def test_a_post_arrives_whole_and_its_answer_too():
    async with trio.open_nursery() as nursery:
        server = Server(nursery, echo)
        http = client(server)
        reply = await http.post_json("/info", {"type": "meta", "n": [1, None]})
        assert reply.status == 200
        assert msgspec.json.decode(reply.content) == {"type": "meta", "n": [1, None]}
        assert server.connections == [("venue", 8080, False)]
        line, headers, _body = server.requests[0]
        assert line == "POST /api/info"
        assert headers["host"] == "venue:8080"
        assert headers["content-type"] == "application/json"
        await http.aclose()


async def test_a_kept_alive_connection_is_used_again():
    async with trio.open_nursery() as nursery:
        server = Server(nursery, echo)
        http = client(server)
        for number in range(5):
            reply = await http.post_json("/info", number)
            assert reply.content == str(number).encode()
        assert len(server.connections) == 1
        await http.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert server.open == 0


async def test_calls_at_once_are_bounded_and_all_answered():
    async with trio.open_nursery() as nursery:
        server = Server(nursery, echo)
        http = client(server, max_connections=2)
        found: list[bytes] = []

        async def call(number: int) -> None:
            found.append((await http.post_json("/info", number)).content)

        async with trio.open_nursery() as calls:
            for number in range(10):
                calls.start_soon(call, number)
        assert sorted(map(int, found)) == list(range(10))
        assert len(server.connections) == 2
        await http.aclose()


async def hang_up_after_one(server: Server, stream: trio.abc.Stream, _number: int) -> None:
    """Answers one request as if it kept the connection, then closes it."""
    protocol = h11.Connection(h11.SERVER)
    await server.take(stream, protocol)
    await answer(stream, protocol, b"1")


async def test_an_idempotent_call_is_repeated_on_a_fresh_connection():
    async with trio.open_nursery() as nursery:
        server = Server(nursery, hang_up_after_one)
        http = client(server)
        for _ in range(3):
            await trio.testing.wait_all_tasks_blocked()
            assert (await http.post_json("/info", 0, idempotent=True)).content == b"1"
        assert len(server.connections) == 3


async def test_any_other_call_is_not_repeated():
    async with trio.open_nursery() as nursery:
        server = Server(nursery, hang_up_after_one)
        http = client(server)
        await http.post_json("/exchange", 0)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(LinkError, match="venue:8080/api/exchange"):
            await http.post_json("/exchange", 0)
        assert len(server.connections) == 1
        assert (await http.post_json("/exchange", 0)).status == 200


async def test_a_fresh_connection_that_dies_is_a_link_error_even_when_idempotent():
    async def closes(_server: Server, stream: trio.abc.Stream, _number: int) -> None:
        await stream.receive_some(10)

    async with trio.open_nursery() as nursery:
        server = Server(nursery, closes)
        with pytest.raises(LinkError, match=r"http://venue:8080/api/info: "):
            await client(server).post_json("/info", 0, idempotent=True)
        assert len(server.connections) == 1


async def test_connection_close_is_honoured():
    async def closing(server: Server, stream: trio.abc.Stream, _number: int) -> None:
        protocol = h11.Connection(h11.SERVER)
        await server.take(stream, protocol)
        await answer(stream, protocol, b"{}", headers=(("Connection", "close"),))

    async with trio.open_nursery() as nursery:
        server = Server(nursery, closing)
        http = client(server)
        for _ in range(2):
            assert (await http.post_json("/info", 0)).content == b"{}"
        assert len(server.connections) == 2


async def test_an_error_status_is_an_answer():
    async def failing(server: Server, stream: trio.abc.Stream, _number: int) -> None:
        protocol = h11.Connection(h11.SERVER)
        await server.take(stream, protocol)
        await stream.send_all(protocol.send(h11.InformationalResponse(status_code=103, headers=[])))
        await answer(stream, protocol, b"busy", status=503)

    async with trio.open_nursery() as nursery:
        assert await client(Server(nursery, failing)).post_json("/info", 0) == HttpReply(
            503, b"busy"
        )


async def test_a_refused_connection_is_a_link_error():
    async with trio.open_nursery() as nursery:
        server = Server(nursery, echo)
        server.refuse = "cannot connect to venue:8080: refused"
        with pytest.raises(LinkError, match="refused"):
            await client(server).post_json("/info", 0)


@pytest.mark.parametrize("after", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"])
async def test_silence_is_a_link_error_after_the_time_out(after):
    async def silent(_server: Server, stream: trio.abc.Stream, _number: int) -> None:
        await stream.receive_some(100_000)
        if after:
            await stream.send_all(after)
        while await stream.receive_some(100_000):
            pass

    async with trio.open_nursery() as nursery:
        server = Server(nursery, silent)
        started = trio.current_time()
        with pytest.raises(LinkError, match="no answer within 5 s"):
            await client(server).post_json("/info", 0, idempotent=True)
        assert trio.current_time() - started == pytest.approx(5)
        await trio.testing.wait_all_tasks_blocked()
        assert server.open == 0


async def test_waiting_for_a_connection_counts_in_the_time_out():
    async def silent(_server: Server, stream: trio.abc.Stream, _number: int) -> None:
        while await stream.receive_some(100_000):
            pass

    async with trio.open_nursery() as nursery:
        http = client(Server(nursery, silent), max_connections=1)
        failed: list[float] = []

        async def call() -> None:
            with pytest.raises(LinkError):
                await http.post_json("/info", 0)
            failed.append(trio.current_time())

        started = trio.current_time()
        async with trio.open_nursery() as calls:
            for _ in range(3):
                calls.start_soon(call)
        assert [round(at - started, 3) for at in failed] == [5, 5, 5]


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20000, "longer than"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "peer closed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "bad Content-Length"),
        (b"NOT HTTP AT ALL\r\n\r\n", "illegal status line"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 10_000, "."),
        (b"\x00\xff\xfe" * 100, "."),
        (b"", "."),
    ],
)
async def test_a_broken_answer_is_a_link_error_and_closes_the_connection(raw, problem):
    async def broken(_server: Server, stream: trio.abc.Stream, _number: int) -> None:
        await stream.receive_some(100_000)
        if raw:
            await stream.send_all(raw)

    async with trio.open_nursery() as nursery:
        server = Server(nursery, broken)
        http = client(server)
        with pytest.raises(LinkError, match=problem):
            await http.post_json("/info", 0, idempotent=True)
        with pytest.raises(LinkError, match=problem):
            await http.post_json("/info", 0)
        assert len(server.connections) == 2


async def test_an_unasked_answer_makes_a_connection_unfit():
    async def chatty(server: Server, stream: trio.abc.Stream, _number: int) -> None:
        protocol = h11.Connection(h11.SERVER)
        await server.take(stream, protocol)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 200 OK\r\n")

    async with trio.open_nursery() as nursery:
        server = Server(nursery, chatty)
        http = client(server)
        for _ in range(2):
            assert (await http.post_json("/info", 0)).content == b"1"
        assert len(server.connections) == 2


async def test_a_cancelled_call_closes_its_connection():
    async def silent(_server: Server, stream: trio.abc.Stream, _number: int) -> None:
        while await stream.receive_some(100_000):
            pass

    async with trio.open_nursery() as nursery:
        server = Server(nursery, silent)
        http = client(server)
        with trio.move_on_after(1) as scope:
            await http.post_json("/info", 0)
        assert scope.cancelled_caught
        await trio.testing.wait_all_tasks_blocked()
        assert server.open == 0


async def test_what_never_left_is_told_apart_from_what_may_have_arrived():
    async def silent(server: Server, stream: trio.abc.Stream, _number: int) -> None:
        await server.take(stream, h11.Connection(h11.SERVER))
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        server = Server(nursery, silent)
        server.refuse = "refused"
        with pytest.raises(NeverSentError, match="refused"):
            await client(server).post_json("/exchange", 1)
        server.refuse = ""
        http = client(server, max_connections=1)
        nursery.start_soon(_expect_never_sent_while_busy, http)
        with pytest.raises(LinkError, match="no answer within 5 s") as lost:
            await http.post_json("/exchange", 1)
        assert not isinstance(lost.value, NeverSentError)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def _expect_never_sent_while_busy(http: HttpClient) -> None:
    with pytest.raises(NeverSentError, match="no connection within 5 s"):
        await http.post_json("/exchange", 2)


async def test_only_a_query_goes_over_a_connection_that_was_idle_for_long():
    async with trio.open_nursery() as nursery:
        server = Server(nursery, echo)
        http = client(server)
        for pause_s, idempotent, connections in (
            (0, False, 1),
            (4, False, 1),
            (30, True, 1),
            (30, False, 2),
        ):
            await trio.sleep(pause_s)
            await http.post_json("/exchange", 1, idempotent=idempotent)
            assert len(server.connections) == connections
        await http.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert server.open == 0
