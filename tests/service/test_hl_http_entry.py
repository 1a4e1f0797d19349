"""Orders over HTTP: when they go that way, and what each way of failing proves."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import h11
import msgspec
import pytest
import trio
import trio.testing

from tests.harness.order_entry import BTC, KEY, make_budget, make_entry
from tests.service.test_http import Handler, Server, answer
from zq_daemon.config.schema import HyperliquidConfig
from zq_daemon.model.ids import AccountId, StrategyId, client_order_id
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderType
from zq_daemon.ports.clock import NS_PER_S, VirtualClock
from zq_daemon.venue.hyperliquid.sign import action_hash, recover_signer
from zq_daemon.venue.hyperliquid.trade import HyperliquidOrderEntry
from zq_daemon.venue.hyperliquid.wire import PostResponse
from zq_daemon.venue.interface import (
    Acknowledged,
    Ambiguous,
    Executed,
    NotSent,
    Outcome,
    Refused,
    Reply,
)

pytestmark = pytest.mark.virtual

CONFIG = HyperliquidConfig(post_timeout_ms=10_000, order_validity_ms=15_000)
ALWAYS = HyperliquidConfig(post_timeout_ms=10_000, order_validity_ms=15_000, order_entry="http")
_STATUSES = {"statuses": [{"resting": {"oid": 7}}]}
RESTING = {"status": "ok", "response": {"type": "order", "data": _STATUSES}}

SUCCESS = b'{"status":"ok","response":{"type":"cancel","data":{"statuses":["success"]}}}'


class Wire:
    """A private connection that answers everything with `resting`, unless it is *deaf*."""

    def __init__(self, entry: HyperliquidOrderEntry, *, deaf: bool = False) -> None:
        self.entry = entry
        self.deaf = deaf
        self.sent: list[Any] = []

    async def send(self, message: str) -> None:
        await trio.lowlevel.checkpoint()
        post = msgspec.json.decode(message)
        self.sent.append(post)
        if not self.deaf:
            body = msgspec.json.encode({"type": "action", "payload": RESTING})
            decoded = msgspec.json.decode(body, type=PostResponse)
            self.entry.resolve(Reply(post_id=post["id"], body=decoded))


def order(counter: int = 1) -> Order:
    return Order(
        client_order_id=client_order_id(7, counter),
        strategy_id=StrategyId("s"),
        account_id=AccountId("hyperliquid.0x1"),
        instrument_id=BTC,
        side=Side.BUY,
        order_type=OrderType.LIMIT,
        quantity=Decimal("0.01"),
        price=Decimal(50_000),
    )


def replying(status: int, body: bytes, requests: int = 1_000) -> Handler:
    """Answers *requests* requests of a connection, and then hangs up."""

    async def handle(server: Server, stream: trio.abc.Stream, _number: int) -> None:
        protocol = h11.Connection(h11.SERVER)
        for _ in range(requests):
            if not await server.take(stream, protocol):
                return
            await answer(stream, protocol, body, status)
            protocol.start_next_cycle()

    return handle


async def hang_up(server: Server, stream: trio.abc.Stream, _number: int) -> None:
    """Take the request, and close without an answer."""
    await server.take(stream, h11.Connection(h11.SERVER))


async def stay_silent(server: Server, stream: trio.abc.Stream, _number: int) -> None:
    await server.take(stream, h11.Connection(h11.SERVER))
    await trio.sleep_forever()


async def half_an_answer(server: Server, stream: trio.abc.Stream, _number: int) -> None:
    await server.take(stream, h11.Connection(h11.SERVER))
    await stream.send_all(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"status":"ok",')


async def no_http(server: Server, stream: trio.abc.Stream, _number: int) -> None:
    await server.take(stream, h11.Connection(h11.SERVER))
    await stream.send_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


taken = replying(200, msgspec.json.encode(RESTING))


async def outcome(handler: Handler, **changes: Any) -> Outcome:
    """What comes of one order when HTTP is the only way and the venue does as *handler*."""
    async with trio.open_nursery() as nursery:
        server = Server(nursery, handler)
        for name, value in changes.items():
            setattr(server, name, value)
        entry = make_entry(CONFIG, network=server)
        (found,) = await entry.send(entry.prepare_submit([order()]))
        nursery.cancel_scope.cancel()
    return found


async def test_without_a_private_connection_an_order_goes_by_http():
    async with trio.open_nursery() as nursery:
        server = Server(nursery, taken)
        entry = make_entry(CONFIG, network=server)
        request = entry.prepare_submit([order()])
        assert await entry.send(request) == [Acknowledged(venue_order_id="7")]
        line, _, body = server.requests[0]
        assert line == "POST /exchange"
        assert msgspec.json.decode(request.payload) == body
        signature = body["signature"]
        digest = action_hash(body["action"], body["nonce"], None, body["expiresAfter"])
        r, s = int(signature["r"], 16), int(signature["s"], 16)
        assert recover_signer(digest, r, s, signature["v"], "mainnet") == KEY.address
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("config", "by_http"), [(CONFIG, 0), (ALWAYS, 1)])
async def test_with_a_private_connection_the_configuration_says_which_way(config, by_http):
    async with trio.open_nursery() as nursery:
        server = Server(nursery, taken)
        entry = make_entry(config, network=server)
        wire = Wire(entry)
        entry.attach(wire)
        assert await entry.send(entry.prepare_submit([order()])) == [
            Acknowledged(venue_order_id="7")
        ]
        assert (len(server.requests), len(wire.sent)) == (by_http, 1 - by_http)
        entry.detach(wire)
        await entry.send(entry.prepare_submit([order(2)]))
        assert len(server.requests) == by_http + 1
        nursery.cancel_scope.cancel()


async def test_what_waits_on_a_lost_connection_is_not_sent_again_by_http():
    found: list[Outcome] = []
    async with trio.open_nursery() as nursery:
        server = Server(nursery, taken)
        entry = make_entry(CONFIG, network=server)
        wire = Wire(entry, deaf=True)
        entry.attach(wire)

        async def send() -> None:
            found.extend(await entry.send(entry.prepare_submit([order()])))

        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        entry.detach(wire)
        await trio.testing.wait_all_tasks_blocked()
        assert found == [Ambiguous(detail="connection lost before the answer")]
        assert server.requests == []
        nursery.cancel_scope.cancel()


async def test_a_refused_connection_or_an_unknown_host_means_not_sent():
    for words in ("cannot connect to venue:80: refused", "Name or service not known"):
        assert await outcome(taken, refuse=words) == NotSent(detail=words)


async def test_a_connection_that_takes_too_long_means_not_sent():
    class Slow:
        async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
            await trio.sleep_forever()
            raise AssertionError

    entry = make_entry(CONFIG, network=Slow())  # type: ignore[arg-type]
    (found,) = await entry.send(entry.prepare_submit([order()]))
    assert found == NotSent(detail="http://venue/exchange: no connection within 10 s")


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (hang_up, "without an answer"),
        (stay_silent, "no answer within 10 s"),
        (half_an_answer, "http://venue/exchange"),
        (no_http, "http://venue/exchange"),
        (replying(500, b"Internal Server Error"), "500 Internal Server Error"),
        (replying(502, b"<html>"), "502"),
        (replying(503, b""), "503"),
        (replying(504, b"upstream"), "504"),
        (replying(408, b""), "408"),
        (replying(302, b""), "302"),
        (replying(200, b""), "not understood"),
        (replying(200, b"<html>"), "not understood"),
        (replying(200, b"null"), "not understood"),
        (replying(200, b"\xff\xfe"), "not understood"),
        (replying(200, b"[" * 5_000), "not understood"),
        (replying(200, b'{"status":"maybe","response":"x"}'), "maybe"),
        (replying(200, b"x" * 200_000), "longer than"),
        (replying(422, b"Invalid nonce: duplicate nonce 5"), "duplicate nonce"),
    ],
)
async def test_once_written_anything_but_an_answer_is_ambiguous(handler, words):
    found = await outcome(handler)
    assert isinstance(found, Ambiguous), found
    assert words in found.detail


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (422, b"Failed to deserialize the JSON body into the target type", "bad_request"),
        (400, b"", "bad_request"),
        (403, b"\xff\xff", "bad_request"),
        (422, b"User or API Wallet 0xabc does not exist.", "signer"),
        (429, b"", "rate_limit"),
        (429, b"null", "rate_limit"),
        (429, b"Too many requests, try again later", "rate_limit"),
        (200, b'{"status":"err","response":"User or API Wallet 0xa does not exist."}', "signer"),
        (200, b'{"status":"err","response":"Action expired"}', "expired"),
    ],
)
async def test_a_definite_refusal_is_one_by_http_as_well(status, body, code):
    found = await outcome(replying(status, body))
    assert isinstance(found, Refused), found
    assert found.code == code


async def test_statuses_are_read_as_over_the_private_connection():
    filled = {"filled": {"totalSz": "0.01", "avgPx": "50000", "oid": 8}}
    body = {"status": "ok", "response": {"type": "order", "data": {"statuses": [filled]}}}
    found = await outcome(replying(200, msgspec.json.encode(body)))
    assert found == Executed(
        venue_order_id="8", quantity=Decimal("0.01"), average_price=Decimal(50_000)
    )


async def test_a_cancelled_send_leaves_no_connection_behind():
    async with trio.open_nursery() as nursery:
        server = Server(nursery, stay_silent)
        entry = make_entry(CONFIG, network=server)
        with trio.move_on_after(1) as scope:
            await entry.send(entry.prepare_submit([order()]))
        assert scope.cancelled_caught
        server._handler = taken
        assert await entry.send(entry.prepare_submit([order(2)])) == [
            Acknowledged(venue_order_id="7")
        ]
        nursery.cancel_scope.cancel()


async def test_an_idle_connection_that_may_have_been_given_up_is_not_used_for_an_order():
    async with trio.open_nursery() as nursery:
        server = Server(nursery, replying(200, msgspec.json.encode(RESTING), requests=2))
        entry = make_entry(CONFIG, network=server)
        for counter, (pause_s, connections) in enumerate([(0, 1), (1, 1), (30, 2), (0, 2)]):
            await trio.sleep(pause_s)
            (found,) = await entry.send(entry.prepare_submit([order(counter)]))
            assert isinstance(found, Acknowledged), found
            assert len(server.connections) == connections
        nursery.cancel_scope.cancel()


class Changing:
    """A handler that answers each request with what is set at that time."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body

    async def __call__(self, server: Server, stream: trio.abc.Stream, _number: int) -> None:
        protocol = h11.Connection(h11.SERVER)
        while await server.take(stream, protocol):
            await answer(stream, protocol, self.body, self.status)
            protocol.start_next_cycle()


async def test_after_a_429_new_orders_are_denied_and_cancels_wait_for_their_turn():
    async with trio.open_nursery() as nursery:
        venue = Changing(429, b"null")
        server = Server(nursery, venue)
        clock = VirtualClock()
        entry = make_entry(clock=clock, network=server, budget=make_budget(clock, weight=1_200))
        (found,) = await entry.send(entry.prepare_submit([order()]))
        assert found == Refused(code="rate_limit", text="429 null")
        assert "too many" in str(entry.why_not_now("submit"))
        (found,) = await entry.send(entry.prepare_submit([order(2)]))
        assert isinstance(found, NotSent)
        assert found.detail.startswith("rate limit: none free for ")
        assert len(server.requests) == 1
        venue.status, venue.body = 200, SUCCESS
        started = trio.current_time()
        (found,) = await entry.send(entry.prepare_cancel([order()]))
        assert found == Acknowledged(venue_order_id=None)
        assert 0.3 < trio.current_time() - started <= 0.5
        assert entry.why_not_now("submit") is None
        nursery.cancel_scope.cancel()


async def test_an_account_without_actions_is_known_from_the_refusal():
    words = b"Too many cumulative requests sent (10001 > 10000) for cumulative volume traded $0.00."
    async with trio.open_nursery() as nursery:
        server = Server(nursery, Changing(200, b'{"status":"err","response":"%b"}' % words))
        entry = make_entry(network=server)
        (found,) = await entry.send(entry.prepare_submit([order()]))
        assert found == Refused(code="rate_limit", text=words.decode())
        assert "10001 of the account's 10000 actions" in str(entry.why_not_now("submit"))
        assert entry.why_not_now("cancel") is None
        nursery.cancel_scope.cancel()


async def test_cancels_wait_for_room_until_they_would_expire():
    clock = VirtualClock()
    spent = make_budget(clock, weight=10)
    async with trio.open_nursery() as nursery:
        server = Server(nursery, taken)
        entry = make_entry(CONFIG, clock=clock, network=server, budget=spent)
        early, late = trio.current_time(), 50
        for _ in range(9):
            spent.spend_action(1, over_websocket=False)
        await entry.send(entry.prepare_cancel([order()]))
        (found,) = await entry.send(entry.prepare_cancel([order()]))
        assert isinstance(found, NotSent)
        assert trio.current_time() == early
        await trio.sleep(late)
        (found,) = await entry.send(entry.prepare_submit([order()]))
        assert isinstance(found, NotSent)
        (found,) = await entry.send(entry.prepare_cancel([order()]))
        assert isinstance(found, Acknowledged)
        assert 60 <= trio.current_time() - early <= 62
        nursery.cancel_scope.cancel()


async def test_expiry_is_judged_after_the_wait():
    clock = VirtualClock()
    async with trio.open_nursery() as nursery:
        server = Server(nursery, taken)
        entry = make_entry(CONFIG, clock=clock, network=server)
        request = entry.prepare_submit([order()])
        assert request.expires_ns == clock.now_ns() + 15 * NS_PER_S
        await trio.sleep(15)
        assert await entry.send(request) == [NotSent(detail="expired before it was sent")]
        assert server.requests == []
        nursery.cancel_scope.cancel()
