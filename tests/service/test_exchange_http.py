"""HTTP of the embedded exchange over memory streams: answers, refusals, bounds."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing

from tests.service.exchange_rig import http, read_answer, served
from tests.unit.exchange_rig import Rig
from zq_daemon.venue.exchange.limits import RateLimits
from zq_daemon.venue.exchange.server import ServerLimits


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def content(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


async def test_several_requests_on_one_connection():
    rig = Rig()
    async with served(rig.exchange) as stream:
        for _ in range(2):
            answer = await http(stream, "/info", b'{"type":"meta"}')
            assert status(answer) == 200
            assert b"application/json" in answer
            assert json.loads(content(answer))["universe"][0]["name"] == "BTC"
        action = rig.envelope(rig.alice, {"type": "noop"})
        answer = await http(stream, "/exchange?x=1", json.dumps(action).encode())
        assert json.loads(content(answer)) == {"status": "ok", "response": {"type": "default"}}


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", "/info", b"{", 422),
        ("POST", "/info", b"", 422),
        ("POST", "/info", b"\xff\xfe", 422),
        ("POST", "/info", b"[" * 200_000, 422),
        ("POST", "/info", b'{"type":"unheardOf"}', 422),
        ("POST", "/exchange", b'{"action":5}', 422),
        ("GET", "/info", b"", 405),
        ("POST", "/elsewhere", b"{}", 404),
        ("GET", "/ws", b"", 426),
    ],
)
async def test_bad_request_gets_a_text_and_the_connection_goes_on(method, path, body, expected):
    async with served(Rig().exchange) as stream:
        answer = await http(stream, path, body, method)
        assert status(answer) == expected
        assert b"text/plain" in answer
        assert content(answer)
        assert status(await http(stream, "/info", b'{"type":"meta"}')) == 200


async def test_too_many_requests_are_answered_with_429_and_go_through_later():
    rig = Rig(rate_limits=RateLimits(weight_per_minute=2))
    async with served(rig.exchange) as stream:
        body = b'{"type":"allMids"}'
        assert status(await http(stream, "/info", body)) == 200
        answer = await http(stream, "/info", body)
        assert (status(answer), content(answer)) == (429, b"null")
        action = json.dumps(rig.envelope(rig.alice, {"type": "noop"})).encode()
        assert status(await http(stream, "/exchange", action)) == 429
        rig.clock.advance_ms(60_000)
        assert status(await http(stream, "/exchange", action)) == 200


async def test_body_over_the_limit_is_refused_and_the_connection_closed():
    async with served(Rig().exchange, limits=ServerLimits(max_message_bytes=100)) as stream:
        answer = await http(stream, "/info", b" " * 101)
        assert status(answer) == 413
        assert await stream.receive_some() == b""


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01 this is TLS\r\n\r\n",
        b"POST /info HTTP/1.1\r\n\r\n",
        b"POST /info HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"A" * 100_000,
    ],
)
async def test_what_is_no_http_is_refused_and_the_connection_closed(garbage):
    async with served(Rig().exchange) as stream:
        await stream.send_all(garbage)
        answer = await read_answer(stream)
        assert status(answer) in (400, 431)
        assert await stream.receive_some() == b""


async def test_client_that_leaves_in_the_middle_leaves_nothing_behind():
    for part in (b"", b"POST /in", b"POST /info HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{"):
        async with served(Rig().exchange) as stream:
            await stream.send_all(part)
            await stream.send_eof()
            # Refused or just closed; served() would raise what the server did not contain.
            await read_answer(stream)


async def test_client_that_breaks_off_while_answered_is_contained():
    async with served(Rig().exchange) as stream:
        await stream.send_all(b"POST /info HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n")
        await stream.send_all(b'{"type":"meta"}')
        await trio.aclose_forcefully(stream)
        await trio.testing.wait_all_tasks_blocked()


async def test_request_that_waits_for_100_continue_gets_it():
    async with served(Rig().exchange) as stream:
        await stream.send_all(
            b"POST /info HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\nExpect: 100-continue\r\n\r\n"
        )
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 100")
        await stream.send_all(b'{"type":"meta"}')
        assert status(await read_answer(stream)) == 200


async def test_connection_close_is_honoured():
    async with served(Rig().exchange) as stream:
        await stream.send_all(
            b"POST /info HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            b'Content-Length: 15\r\n\r\n{"type":"meta"}'
        )
        assert status(await read_answer(stream)) == 200
        assert await stream.receive_some() == b""


@pytest.mark.virtual
async def test_idle_connection_is_closed():
    async with served(Rig().exchange, limits=ServerLimits(http_idle_s=60)) as stream:
        started = trio.current_time()
        assert await stream.receive_some() == b""
        assert trio.current_time() - started == pytest.approx(60)
