"""What a subscriber notices of an exchange that goes wrong on purpose: streams and sockets."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
import trio_websocket

from tests.harness.memory_network import MemoryListener
from tests.service.exchange_rig import Client, connected, http
from tests.unit.exchange_rig import Rig, wire_order
from zq_daemon.venue.exchange.faults import Faults
from zq_daemon.venue.exchange.server import ServerLimits, serve_exchange

pytestmark = pytest.mark.virtual


def modify(oid: int, price: str, **terms: Any) -> dict[str, Any]:
    order = wire_order("buy", price, "0.01", **terms)
    return {"type": "batchModify", "modifies": [{"oid": oid, "order": order}]}


async def listening(rig: Rig, client: Client) -> None:
    """Subscribe to alice's orders and fills, and read what comes of that."""
    await client.subscribe("orderUpdates", user=rig.alice.address)
    await client.subscribe("userFills", user=rig.alice.address)
    assert (await client.next("userFills"))["isSnapshot"] is True


async def test_the_next_private_messages_are_lost_and_then_all_come():
    rig = Rig()
    rig.exchange.faults = Faults(drop_private_count=2)
    async with connected(rig.exchange) as client:
        await listening(rig, client)
        oids = [rig.rest(rig.alice, "buy", str(50_000 + each), "0.01") for each in range(4)]
        told = [(await client.next("orderUpdates"))[0]["order"]["oid"] for _ in range(2)]
        assert told == oids[2:]


async def test_a_share_of_the_private_messages_is_lost_and_no_public_one():
    rig = Rig()
    rig.exchange.faults = Faults(drop_private_share=Decimal("0.5"), seed=3)
    private = rig.listen({"type": "orderUpdates", "user": rig.alice.address})
    public = rig.listen({"type": "trades", "coin": "BTC"})
    for _ in range(40):
        rig.rest(rig.alice, "buy", "50000", "0.001")
        rig.place(rig.bob, "sell", "50000", "0.001")
    assert 20 < len(private.heard("orderUpdates")) < 60
    assert sum(len(trades) for trades in public.heard("trades")) == 40


async def test_fills_are_told_twice():
    rig = Rig()
    async with connected(rig.exchange) as client:
        await listening(rig, client)
        rig.exchange.faults = Faults(repeat_fill_count=1)
        for price in ("50000", "50001"):
            rig.rest(rig.alice, "buy", price, "0.01")
            rig.place(rig.bob, "sell", price, "0.01")
        heard = [(await client.next("userFills"))["fills"][0] for _ in range(3)]
        assert heard[0] == heard[1]
        assert [fill["px"] for fill in heard] == ["50000.0", "50000.0", "50001.0"]
        assert len(rig.info("userFills", user=rig.alice.address)) == 2


async def test_fills_are_withheld_from_everybody_until_it_is_over():
    rig = Rig()
    async with connected(rig.exchange) as client:
        await listening(rig, client)
        rig.rest(rig.alice, "buy", "50000", "0.01")
        rig.place(rig.bob, "sell", "50000", "0.01")
        assert [fill["px"] for fill in (await client.next("userFills"))["fills"]] == ["50000.0"]
        rig.clock.advance_ms(1_000)
        rig.exchange.faults = Faults(withhold_fills=True)
        rig.rest(rig.alice, "buy", "50001", "0.01")
        rig.place(rig.bob, "sell", "50001", "0.01")
        asked = [("userFills", {}), ("userFillsByTime", {"startTime": 0})]
        for kind, terms in asked:
            told = rig.info(kind, user=rig.alice.address, **terms)
            assert [fill["px"] for fill in told] == ["50000.0"]
        async with connected(rig.exchange) as other:
            await other.subscribe("userFills", user=rig.alice.address)
            assert len((await other.next("userFills"))["fills"]) == 1
        rig.exchange.faults = Faults()
        for kind, terms in asked:
            assert len(rig.info(kind, user=rig.alice.address, **terms)) == 2
        rig.rest(rig.alice, "buy", "50002", "0.01")
        rig.place(rig.bob, "sell", "50002", "0.01")
        assert [fill["px"] for fill in (await client.next("userFills"))["fills"]] == ["50002.0"]


async def told_of_a_modify(rig: Rig, client: Client, price: str) -> list[tuple[str, str]]:
    """The updates of a modify: which order it is of, and what it says."""
    oid = rig.rest(rig.alice, "buy", "49000", "0.01", cloid=int(price))
    await client.next("orderUpdates")
    rig.statuses(rig.alice, modify(oid, price, cloid=int(price)))
    updates = await client.next("orderUpdates")
    return [("old" if each["order"]["oid"] == oid else "new", each["status"]) for each in updates]


async def test_a_modify_is_told_backwards():
    rig = Rig()
    async with connected(rig.exchange) as client:
        await listening(rig, client)
        rightly = [("old", "canceled"), ("new", "open")]
        assert await told_of_a_modify(rig, client, "48000") == rightly
        rig.exchange.faults = Faults(swap_modify_count=1)
        assert await told_of_a_modify(rig, client, "48001") == rightly[::-1]
        assert await told_of_a_modify(rig, client, "48002") == rightly
        rig.exchange.faults = Faults(swap_modifies=True)
        rig.rest(rig.bob, "sell", "51000", "0.01")
        assert await told_of_a_modify(rig, client, "51000") == [
            ("new", "filled"),
            ("old", "canceled"),
        ]


async def test_a_modify_that_is_refused_uses_no_swap_up():
    rig = Rig()
    async with connected(rig.exchange) as client:
        await listening(rig, client)
        rig.exchange.faults = Faults(swap_modify_count=1)
        (status,) = rig.statuses(rig.alice, modify(5, "48000"))
        assert "error" in status
        assert await told_of_a_modify(rig, client, "48001") == [
            ("new", "open"),
            ("old", "canceled"),
        ]


async def test_updates_and_answers_say_words_nobody_knows():
    rig = Rig()
    rig.exchange.faults = Faults(strange_status="gone fishing", strange_status_count=1)
    async with connected(rig.exchange) as client:
        await listening(rig, client)
        oid = rig.rest(rig.alice, "buy", "50000", "0.01")
        assert (await client.next("orderUpdates"))[0]["status"] == "gone fishing"
        query = {"type": "orderStatus", "user": rig.alice.address, "oid": oid}
        answer = await client.post(1, "info", query)
        assert answer["payload"]["data"]["order"]["status"] == "open"
        assert rig.cancel(rig.alice, oid) == "success"
        assert (await client.next("orderUpdates"))[0]["status"] == "canceled"
        rig.exchange.faults = Faults(strange_status="gone fishing", strange_reply_count=1)
        assert rig.place(rig.alice, "buy", "50000", "0.01") == "gone fishing"
        assert (await client.next("orderUpdates"))[0]["status"] == "open"
        assert "resting" in rig.place(rig.alice, "buy", "50000", "0.01")


@pytest.mark.parametrize("code", [1000, 1012, 4321])
async def test_every_connection_is_closed_with_a_code_and_new_ones_live(code):
    rig = Rig()
    async with connected(rig.exchange) as first, connected(rig.exchange) as second:
        rig.exchange.faults = Faults(close_code=code)
        for client in (first, second):
            with pytest.raises(trio_websocket.ConnectionClosed) as closed:
                await client.websocket.get_message()
            assert closed.value.reason.code == code
    async with connected(rig.exchange) as client:
        assert (await client.post(1, "info", {"type": "allMids"}))["type"] == "info"


@pytest.mark.parametrize(("code", "seen"), [(1013, 1013), (0, 1006)])
async def test_each_new_connection_is_closed_after_a_while(code, seen):
    rig = Rig()
    rig.exchange.faults = Faults(close_code=code, close_after_ms=7_000)
    for _ in range(2):
        started = trio.current_time()
        async with connected(rig.exchange) as client:
            with pytest.raises(trio_websocket.ConnectionClosed) as closed:
                await client.websocket.get_message()
            assert closed.value.reason.code == seen
            assert trio.current_time() - started == pytest.approx(7)


async def test_a_deaf_exchange_ignores_what_is_sent_and_goes_on_telling():
    rig = Rig()
    async with connected(rig.exchange) as client:
        await listening(rig, client)
        rig.exchange.faults = Faults(deaf=True)
        await client.send({"method": "ping"})
        rig.rest(rig.alice, "buy", "50000", "0.01")
        assert (await client.next("orderUpdates"))[0]["status"] == "open"
        await trio.testing.wait_all_tasks_blocked()
        rig.exchange.faults = Faults()
        await client.send({"method": "subscribe", "subscription": {"type": "allMids"}})
        told = await client.next("subscriptionResponse")
        assert told["subscription"] == {"type": "allMids"}


async def test_half_open_connections_neither_hear_nor_tell_and_others_are_served():
    rig, listener = Rig(), MemoryListener()
    rig.exchange.faults = Faults(half_open_count=1)
    request = b'{"type":"allMids"}'
    async with trio.open_nursery() as nursery:
        limits = ServerLimits(max_connections=2)
        await nursery.start(partial(serve_exchange, [listener], rig.exchange, limits=limits))
        dead = listener.connect()
        with trio.move_on_after(3_000) as patience:
            await http(dead, "/info", request)
        assert patience.cancelled_caught
        alive = listener.connect()
        assert (await http(alive, "/info", request)).startswith(b"HTTP/1.1 200")
        await dead.aclose()
        with trio.fail_after(1_000):
            assert await http(listener.connect(), "/info", request) == b"", "it holds its place"
        await trio.sleep(1_000)
        assert (await http(listener.connect(), "/info", request)).startswith(b"HTTP/1.1 200")
        nursery.cancel_scope.cancel()


async def test_only_fills_are_told_twice_of_the_events_of_a_user():
    rig = Rig()
    heard = rig.listen({"type": "userEvents", "user": rig.alice.address})
    rig.exchange.faults = Faults(repeat_fills=True)
    rig.exchange.publisher.withdrawn(resting_order(rig))
    rig.place(rig.bob, "sell", "50000", "0.01")
    told = heard.heard("user")
    assert [sorted(each) for each in told] == [["fills"], ["fills"], ["nonUserCancel"]]
    assert told[0] == told[1]


def resting_order(rig: Rig) -> Any:
    """An order of alice as the exchange has it."""
    oid = rig.rest(rig.alice, "buy", "50000", "0.01")
    return rig.exchange.account(rig.alice.address).orders[oid]
