"""What a connection notices of an exchange that does something wrong on purpose."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
import trio_websocket

from tests.service.exchange_rig import Client, connected
from tests.unit.exchange_rig import Rig, wire_order
from zq_daemon.ports.clock import VirtualClock
from zq_daemon.venue.exchange.faults import Faults
from zq_daemon.venue.exchange.server import run_market
from zq_daemon.venue.exchange.websocket import MAX_POSTS

pytestmark = pytest.mark.virtual

ORDER = {"type": "order", "orders": [wire_order("buy", "50000", "0.01")], "grouping": "na"}


@asynccontextmanager
async def moving() -> AsyncIterator[Rig]:
    """An exchange whose clock runs."""
    rig = Rig(clock=VirtualClock())
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(run_market, rig.exchange, rig.clock))
        yield rig
        nursery.cancel_scope.cancel()


async def post(client: Client, rig: Rig, number: int, action: dict[str, Any]) -> None:
    """Post without waiting for the answer."""
    request = {"type": "action", "payload": rig.envelope(rig.alice, action)}
    await client.send({"method": "post", "id": number, "request": request})


def cancel(oid: int) -> dict[str, Any]:
    return {"type": "cancel", "cancels": [{"a": 0, "o": oid}]}


def live(rig: Rig) -> list[int]:
    return [order["oid"] for order in rig.info("openOrders", user=rig.alice.address)]


@pytest.mark.parametrize(
    ("faults", "orders"),
    [(Faults(cut_before_execute=1), 0), (Faults(cut_after_execute=1), 1)],
)
async def test_a_connection_is_lost_around_an_order(faults, orders):
    rig = Rig()
    rig.exchange.faults = faults
    async with connected(rig.exchange) as client:
        await client.subscribe("orderUpdates", user=rig.alice.address)
        await client.next("subscriptionResponse")
        assert (await client.post(1, "info", {"type": "allMids"}))["type"] == "info"
        await client.post(2, "action", rig.envelope(rig.alice, {"type": "noop"}))
        await post(client, rig, 3, ORDER)
        with pytest.raises(trio_websocket.ConnectionClosed) as closed:
            await client.websocket.get_message()
        assert closed.value.reason.code == 1006, "no close frame, and nothing told before"
        assert len(live(rig)) == orders
    async with connected(rig.exchange) as client:
        answer = await client.post(1, "action", rig.envelope(rig.alice, ORDER))
        assert "resting" in answer["payload"]["response"]["data"]["statuses"][0]
        assert len(live(rig)) == orders + 1


async def test_a_request_that_was_lost_with_its_connection_can_be_sent_again():
    rig = Rig()
    rig.exchange.faults = Faults(cut_before_execute=1, cut_after_execute=1)
    request = rig.envelope(rig.alice, ORDER)
    message = {"method": "post", "id": 1, "request": {"type": "action", "payload": request}}
    for orders in (0, 1):
        async with connected(rig.exchange) as client:
            await client.send(message)
            with pytest.raises(trio_websocket.ConnectionClosed):
                await client.next("post")
            assert len(live(rig)) == orders
    async with connected(rig.exchange) as client:
        answer = await client.post(1, "action", request)
        assert "duplicate nonce" in answer["payload"]["response"]
        assert len(live(rig)) == 1


async def test_a_cancel_takes_effect_and_is_answered_late():
    async with moving() as rig, connected(rig.exchange) as client:
        oid = rig.rest(rig.alice, "buy", "50000", "0.02")
        await client.subscribe("orderUpdates", user=rig.alice.address)
        rig.exchange.faults = Faults(cancel_latency_ms=3_210)
        started = trio.current_time()
        await post(client, rig, 1, cancel(oid))
        await trio.sleep(1)
        rig.place(rig.bob, "sell", "50000", "0.005")
        (update,) = await client.next("orderUpdates")
        assert (update["status"], update["order"]["sz"]) == ("open", "0.015")
        (update,) = await client.next("orderUpdates")
        assert (update["status"], update["order"]["sz"]) == ("canceled", "0.015")
        assert (await client.next("post"))["id"] == 1
        assert trio.current_time() - started == pytest.approx(3.21, abs=0.001)


async def test_a_late_cancel_takes_effect_though_its_connection_is_gone():
    async with moving() as rig:
        oid = rig.rest(rig.alice, "buy", "50000", "0.02")
        rig.exchange.faults = Faults(cancel_latency_ms=2_000, reply_latency_ms=500)
        async with connected(rig.exchange) as client:
            await post(client, rig, 1, cancel(oid))
            await trio.testing.wait_all_tasks_blocked()
        assert live(rig) == [oid]
        await trio.sleep(2.001)
        assert live(rig) == []


async def test_late_cancels_are_pending_posts():
    async with moving() as rig, connected(rig.exchange) as client:
        rig.exchange.faults = Faults(cancel_latency_ms=1_000)
        for number in range(MAX_POSTS + 1):
            await post(client, rig, number, cancel(5))
        assert await client.next("error") == f"too many pending post requests id={MAX_POSTS}"
        answered = [(await client.next("post"))["id"] for _ in range(MAX_POSTS)]
        assert answered == list(range(MAX_POSTS))
        await post(client, rig, 500, cancel(5))
        assert (await client.next("post"))["id"] == 500


async def test_private_messages_come_late_and_in_order():
    rig = Rig()
    user = rig.alice.address
    rig.exchange.faults = Faults(private_latency_ms=2_000)
    async with connected(rig.exchange) as client:
        await client.subscribe("orderUpdates", user=user)
        await client.subscribe("trades", coin="BTC")
        started = trio.current_time()
        answer = await client.post(1, "action", rig.envelope(rig.alice, ORDER))
        assert answer["type"] == "action"
        rig.place(rig.bob, "sell", "50000", "0.004")
        await client.next("trades")
        assert trio.current_time() == started, "what is public or an answer comes at once"
        await trio.sleep(1)
        rig.exchange.faults = Faults()
        rig.place(rig.bob, "sell", "50000", "0.006")
        told = [(await client.next("orderUpdates"))[0] for _ in range(3)]
        assert [(each["status"], each["order"]["sz"]) for each in told] == [
            ("open", "0.01"),
            ("open", "0.006"),
            ("filled", "0.0"),
        ]
        assert trio.current_time() - started == pytest.approx(2)
        rig.place(rig.alice, "buy", "40000", "0.01")
        await client.next("orderUpdates")
        assert trio.current_time() - started == pytest.approx(2)


async def test_late_messages_count_to_those_that_wait():
    rig = Rig(outbox_limit=3)
    rig.exchange.faults = Faults(private_latency_ms=60_000)
    async with connected(rig.exchange) as client:
        await client.subscribe("orderUpdates", user=rig.alice.address)
        await client.next("subscriptionResponse")
        for price in range(4):
            rig.rest(rig.alice, "buy", str(50_000 + price), "0.01")
        with pytest.raises(trio_websocket.ConnectionClosed):
            await client.websocket.get_message()


async def test_what_waits_late_is_lost_with_its_connection():
    rig = Rig()
    rig.exchange.faults = Faults(private_latency_ms=1_000)
    async with connected(rig.exchange) as client:
        await client.subscribe("orderUpdates", user=rig.alice.address)
        await client.next("subscriptionResponse")
        rig.rest(rig.alice, "buy", "50000", "0.01")
        rig.exchange.drop_connections()
        with pytest.raises(trio_websocket.ConnectionClosed):
            json.loads(await client.websocket.get_message())
    assert not rig.exchange.connections
