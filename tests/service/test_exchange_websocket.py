"""The exchange's WebSocket over memory streams: conversation, posts, silence, faults, garbage."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing
import trio_websocket

from tests.service.exchange_rig import connected, http, read_answer, served
from tests.unit.exchange_rig import Rig, wire_order
from zq_daemon.venue.exchange.faults import Faults
from zq_daemon.venue.exchange.limits import RateLimits
from zq_daemon.venue.exchange.server import ServerLimits, serve_stream
from zq_daemon.venue.exchange.websocket import MAX_POSTS

ORDER = {"type": "order", "orders": [wire_order("buy", "50000", "0.01")], "grouping": "na"}
NOOP = {"type": "noop"}


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_subscribe_ping_and_unsubscribe(rig):
    async with connected(rig.exchange) as client:
        await client.subscribe("l2Book", coin="BTC")
        assert (await client.next("subscriptionResponse"))["method"] == "subscribe"
        assert (await client.next("l2Book"))["coin"] == "BTC"
        await client.send({"method": "ping"})
        await client.next("pong")
        await client.send(
            {"method": "unsubscribe", "subscription": {"type": "l2Book", "coin": "BTC"}}
        )
        assert (await client.next("subscriptionResponse"))["method"] == "unsubscribe"
        await client.subscribe("l2Book", coin="DOGE")
        assert (await client.next("error")).startswith("Invalid subscription")


async def test_posts_of_info_and_actions(rig):
    async with connected(rig.exchange) as client:
        answer = await client.post(1, "info", {"type": "allMids"})
        assert answer == {"type": "info", "payload": {"type": "allMids", "data": {}}}
        answer = await client.post(2, "action", rig.envelope(rig.alice, ORDER))
        assert answer["type"] == "action"
        (status,) = answer["payload"]["response"]["data"]["statuses"]
        assert "resting" in status
        answer = await client.post(3, "action", rig.envelope(rig.alice, ORDER, nonce=1))
        assert answer["payload"]["status"] == "err"


async def test_malformed_posts_are_answered_with_the_status_as_text(rig):
    async with connected(rig.exchange) as client:
        for number, (kind, payload) in enumerate(
            [("info", {"type": "x"}), ("info", 5), ("action", {}), ("weather", {})]
        ):
            answer = await client.post(number, kind, payload)
            assert answer["type"] == "error"
            assert answer["payload"].startswith("422 ")


async def test_too_many_posts_a_minute_weigh_too_much():
    rig = Rig(rate_limits=RateLimits(weight_per_minute=3))
    async with connected(rig.exchange) as client:
        assert (await client.post(1, "info", {"type": "allMids"}))["type"] == "info"
        assert (await client.post(2, "action", rig.envelope(rig.alice, NOOP)))["type"] == "action"
        refused = {"type": "error", "payload": "429 Too Many Requests"}
        assert await client.post(3, "info", {"type": "allMids"}) == refused
        assert await client.post(4, "action", rig.envelope(rig.alice, NOOP)) == refused


async def test_messages_of_a_connection_are_bounded_by_the_minute():
    rig = Rig(rate_limits=RateLimits(messages_per_minute=2))
    async with connected(rig.exchange) as client:
        for _ in range(2):
            await client.send({"method": "ping"})
            await client.next("pong")
        await client.send({"method": "ping"})
        assert await client.next("error") == "Too many messages."
        answer = await client.post(1, "info", {"type": "meta"})
        assert answer == {"type": "error", "payload": "429 Too Many Requests"}
        rig.clock.advance_ms(30_000)
        await client.send({"method": "ping"})
        await client.next("pong")


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "{",
        "[]",
        "5",
        '{"method":"dance"}',
        '{"method":"post","id":"x","request":{}}',
        '{"method":"subscribe"}',
        b"\xff\x00",
        "[" * 100_000,
    ],
)
async def test_garbage_gets_an_error_message_and_the_connection_goes_on(rig, garbage):
    async with connected(rig.exchange) as client:
        await client.websocket.send_message(garbage)
        text = await client.next("error")
        assert text.startswith("Error parsing JSON into valid websocket request")
        assert len(text) < 300
        await client.send({"method": "ping"})
        await client.next("pong")


async def test_oversized_message_closes_the_connection_with_its_code(rig):
    limits = ServerLimits(max_message_bytes=1_000)
    async with connected(rig.exchange, limits=limits) as client:
        await client.websocket.send_message("x" * 1_001)
        with pytest.raises(trio_websocket.ConnectionClosed) as closed:
            await client.next("error")
        assert closed.value.reason.code == 1009
    assert not rig.exchange.connections


@pytest.mark.virtual
async def test_silent_client_is_closed_after_a_minute_and_a_pinging_one_is_not(rig):
    async with connected(rig.exchange) as quiet, connected(rig.exchange) as lively:
        for _ in range(3):
            await trio.sleep(25)
            await lively.send({"method": "ping"})
            await lively.next("pong")
        with pytest.raises(trio_websocket.ConnectionClosed) as closed:
            await quiet.next("pong")
        assert closed.value.reason.code == 1000
        assert len(rig.exchange.connections) == 1


async def test_dropped_connections_end(rig):
    async with connected(rig.exchange) as client:
        await client.subscribe("trades", coin="BTC")
        await client.next("subscriptionResponse")
        rig.exchange.drop_connections()
        with pytest.raises(trio_websocket.ConnectionClosed):
            await client.next("trades")
        await trio.testing.wait_all_tasks_blocked()
        assert not rig.exchange.connections


async def test_client_that_vanishes_is_forgotten(rig):
    async with served(rig.exchange) as stream, trio.open_nursery() as nursery:
        websocket = await trio_websocket.wrap_client_stream(nursery, stream, "exchange", "/ws")
        await websocket.get_message()
        assert len(rig.exchange.connections) == 1
        await trio.aclose_forcefully(stream)
        await trio.testing.wait_all_tasks_blocked()
        assert not rig.exchange.connections
        nursery.cancel_scope.cancel()


@pytest.mark.virtual
async def test_reply_latency_delays_the_answer_but_not_its_effect(rig):
    rig.exchange.faults = Faults(reply_latency_ms=3_000)
    async with connected(rig.exchange) as client:
        user = rig.alice.address
        await client.subscribe("orderUpdates", user=user)
        started = trio.current_time()
        request = {"type": "action", "payload": rig.envelope(rig.alice, ORDER)}
        await client.send({"method": "post", "id": 7, "request": request})
        (update,) = await client.next("orderUpdates")
        assert update["status"] == "open"
        assert trio.current_time() - started < 1
        await client.next("post")
        assert trio.current_time() - started == pytest.approx(3)


@pytest.mark.virtual
async def test_too_many_pending_posts_are_refused(rig):
    rig.exchange.faults = Faults(reply_latency_ms=1_000)
    async with connected(rig.exchange) as client:
        for number in range(MAX_POSTS + 1):
            request = {"type": "info", "payload": {"type": "allMids"}}
            await client.send({"method": "post", "id": number, "request": request})
        assert await client.next("error") == f"too many pending post requests id={MAX_POSTS}"
        assert (await client.next("post"))["id"] < MAX_POSTS


async def test_dropped_replies_and_mute_say_nothing_while_the_action_happens(rig):
    async with connected(rig.exchange) as client:
        rig.exchange.faults = Faults(drop_replies=True)
        request = {"type": "action", "payload": rig.envelope(rig.alice, ORDER)}
        await client.send({"method": "post", "id": 1, "request": request})
        await client.send({"method": "ping"})
        message = json.loads(await client.websocket.get_message())
        assert message == {"channel": "pong"}
        assert len(rig.info("openOrders", user=rig.alice.address)) == 1
        rig.exchange.faults = Faults(mute=True)
        await client.send({"method": "ping"})
        await trio.testing.wait_all_tasks_blocked()
        rig.exchange.faults = Faults()
        await client.subscribe("trades", coin="BTC")
        message = json.loads(await client.websocket.get_message())
        assert message["channel"] == "subscriptionResponse"


async def test_upgrade_of_another_path_or_after_http_is_refused(rig):
    upgrade = (
        b"GET %b HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    async with served(rig.exchange) as stream:
        await stream.send_all(upgrade % b"/elsewhere")
        assert b"404" in await read_answer(stream)
    async with served(rig.exchange) as stream:
        await http(stream, "/info", b'{"type":"meta"}')
        await stream.send_all(upgrade % b"/ws")
        assert b"426" in await read_answer(stream)


@pytest.mark.virtual
async def test_broken_handshake_ends_the_connection(rig):
    stream, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, theirs, rig.exchange)
        await stream.send_all(
            b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        )
        received = b""
        while data := await stream.receive_some():
            received += data
        assert b"101" not in received
    assert trio.current_time() <= 10, "the server's task has ended by itself"


async def test_client_that_stops_reading_is_cut_off_with_its_writer_stuck():
    rig = Rig(outbox_limit=5)
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, theirs, rig.exchange)
        websocket = await trio_websocket.wrap_client_stream(nursery, ours, "exchange", "/ws")
        await websocket.send_message('{"method":"subscribe","subscription":{"type":"allMids"}}')
        await trio.testing.wait_all_tasks_blocked()
        while rig.exchange.connections:
            rig.clock.advance_ms(1_000)
            rig.exchange.step(rig.clock.ns)
            await trio.testing.wait_all_tasks_blocked()
        await trio.aclose_forcefully(ours)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("garbage", [b"\xff" * 50, b"\x81\x85", b"\x81\x02\xff\xff"])
async def test_broken_frames_end_only_their_connection(rig, garbage):
    async with connected(rig.exchange) as other:
        async with served(rig.exchange) as stream, trio.open_nursery() as nursery:
            websocket = await trio_websocket.wrap_client_stream(nursery, stream, "a", "/ws")
            await websocket.get_message()
            await stream.send_all(garbage)
            await stream.send_eof()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await other.send({"method": "ping"})
        await other.next("pong")
    assert not rig.exchange.connections
