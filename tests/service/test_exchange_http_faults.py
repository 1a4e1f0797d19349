"""What a client of `/info` and `/exchange` notices of an exchange that goes wrong on purpose."""

from __future__ import annotations

import json
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from tests.service.exchange_rig import connected, http, served
from tests.unit.exchange_rig import Rig, wire_order
from zq_daemon.ports.clock import VirtualClock
from zq_daemon.venue.exchange.faults import Faults
from zq_daemon.venue.exchange.server import ServerLimits, run_market

pytestmark = pytest.mark.virtual

ORDER = {"type": "order", "orders": [wire_order("buy", "50000", "0.01")], "grouping": "na"}
MIDS = b'{"type":"allMids"}'


def signed(rig: Rig, action: dict[str, Any] = ORDER) -> bytes:
    return json.dumps(rig.envelope(rig.alice, action)).encode()


def live(rig: Rig) -> int:
    return len(rig.info("openOrders", user=rig.alice.address))


async def status_of(stream: trio.abc.Stream, path: str, body: bytes) -> int:
    answer = await http(stream, path, body)
    return int(answer.split(b" ", 2)[1]) if answer else 0


async def test_a_number_of_requests_fail_and_are_not_executed():
    rig = Rig()
    rig.exchange.faults = Faults(http_error=429, http_error_count=3, http_error_path="exchange")
    async with served(rig.exchange) as stream:
        assert await status_of(stream, "/info", MIDS) == 200, "it is for the other path"
        told = [await status_of(stream, "/exchange", signed(rig)) for _ in range(3)]
        assert (told, live(rig)) == ([429] * 3, 0)
        assert await status_of(stream, "/exchange", signed(rig)) == 200
        assert live(rig) == 1


async def test_a_request_can_fail_although_it_took_effect():
    rig = Rig()
    rig.exchange.faults = Faults(http_error=504, http_error_count=2, http_error_executes=True)
    async with served(rig.exchange) as stream:
        answer = await http(stream, "/exchange", signed(rig))
        assert answer.startswith(b"HTTP/1.1 504")
        assert answer.endswith(b"504 Gateway Timeout")
        assert live(rig) == 1
        assert await status_of(stream, "/info", MIDS) == 504
        assert await status_of(stream, "/info", MIDS) == 200


async def test_a_share_of_the_requests_fails_the_same_ones_each_time():
    async def failed(seed: int) -> list[int]:
        rig = Rig()
        rig.exchange.faults = Faults(http_error=500, http_error_share=Decimal("0.4"), seed=seed)
        async with served(rig.exchange) as stream:
            return [await status_of(stream, "/info", MIDS) for _ in range(60)]

    first = await failed(1)
    assert 12 < first.count(500) < 36
    assert set(first) == {200, 500}
    assert await failed(1) == first
    assert await failed(2) != first


async def test_posts_fail_by_an_error_that_says_the_status():
    rig = Rig()
    rig.exchange.faults = Faults(http_error=429, http_error_count=1)
    async with connected(rig.exchange) as client:
        answer = await client.post(1, "action", rig.envelope(rig.alice, ORDER))
        assert answer == {"type": "error", "payload": "429 Too Many Requests"}
        assert live(rig) == 0
        rig.exchange.faults = Faults(http_error=520, http_error_count=1, http_error_executes=True)
        answer = await client.post(2, "action", rig.envelope(rig.alice, ORDER))
        assert answer == {"type": "error", "payload": "520 Unknown Error"}
        assert live(rig) == 1
        assert (await client.post(3, "info", {"type": "allMids"}))["type"] == "info"


@pytest.mark.parametrize(
    ("faults", "orders"),
    [(Faults(cut_before_execute=1), 0), (Faults(cut_after_execute=1), 1)],
)
async def test_an_action_is_lost_with_its_connection_or_only_its_answer(faults, orders):
    rig = Rig()
    rig.exchange.faults = faults
    async with served(rig.exchange) as stream:
        assert await status_of(stream, "/info", MIDS) == 200
        assert await status_of(stream, "/exchange", b"no JSON") == 422
        assert await status_of(stream, "/exchange", signed(rig)) == 0
        assert live(rig) == orders
    async with served(rig.exchange) as stream:
        assert await status_of(stream, "/exchange", signed(rig)) == 200


async def test_an_answer_to_an_action_is_late_and_that_to_a_query_is_not():
    rig = Rig()
    rig.exchange.faults = Faults(reply_latency_ms=2_500)
    started = trio.current_time()
    async with served(rig.exchange) as stream:
        assert await status_of(stream, "/info", MIDS) == 200
        assert trio.current_time() == started
        assert await status_of(stream, "/exchange", signed(rig)) == 200
        assert trio.current_time() - started == pytest.approx(2.5)


async def test_an_answer_that_never_comes_ends_with_the_clients_or_the_exchanges_patience():
    rig = Rig()
    rig.exchange.faults = Faults(drop_reply_count=2)
    async with served(rig.exchange, ServerLimits(http_idle_s=30)) as stream:
        started = trio.current_time()
        assert await status_of(stream, "/info", MIDS) == 200, "a query is answered"
        assert await http(stream, "/exchange", signed(rig)) == b""
        assert trio.current_time() - started == pytest.approx(30)
        assert live(rig) == 1
    async with served(rig.exchange) as stream:
        with trio.move_on_after(5):
            await http(stream, "/exchange", signed(rig))
        await stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert live(rig) == 2
    async with served(rig.exchange) as stream:
        assert await status_of(stream, "/exchange", signed(rig)) == 200


async def test_a_number_of_posts_is_never_answered():
    rig = Rig()
    rig.exchange.faults = Faults(drop_reply_count=1)
    async with connected(rig.exchange) as client:
        request = {"type": "action", "payload": rig.envelope(rig.alice, ORDER)}
        await client.send({"method": "post", "id": 1, "request": request})
        await client.send({"method": "post", "id": 2, "request": request})
        answer = await client.next("post")
        assert answer["id"] == 2
        assert "duplicate nonce" in answer["response"]["payload"]["response"]
        assert live(rig) == 1


async def test_a_cancel_over_http_takes_effect_and_is_answered_late():
    rig = Rig(clock=VirtualClock())
    oid = rig.rest(rig.alice, "buy", "50000", "0.01")
    rig.exchange.faults = Faults(cancel_latency_ms=1_500)
    action = {"type": "cancel", "cancels": [{"a": 0, "o": oid}]}
    async with trio.open_nursery() as nursery, served(rig.exchange) as stream:
        await nursery.start(partial(run_market, rig.exchange, rig.clock))
        started = trio.current_time()
        nursery.start_soon(http, stream, "/exchange", signed(rig, action))
        await trio.sleep(1.4)
        assert live(rig) == 1
        async with served(rig.exchange) as other:
            assert await status_of(other, "/info", MIDS) == 200, "others need not wait"
            assert trio.current_time() - started == pytest.approx(1.4)
        await trio.sleep(0.2)
        assert live(rig) == 0
        nursery.cancel_scope.cancel()
