"""The endpoint task over real WebSockets in memory, on a virtual clock."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio_websocket
from structlog.testing import capture_logs

from tests.harness.fake_venue import FakeVenue
from tests.harness.memory_network import MemoryNetwork
from zq_daemon.errors import LinkError
from zq_daemon.model.event import LinkChanged, LinkState, SystemEvent
from zq_daemon.model.market import MarketEvent, Trade
from zq_daemon.model.report import AccountReport, Report
from zq_daemon.ports.clock import VirtualClock
from zq_daemon.ports.rng import seeded_rng
from zq_daemon.runtime.backoff import Backoff
from zq_daemon.runtime.feed_queue import FeedQueue
from zq_daemon.venue.endpoint import Endpoint, EndpointSettings

pytestmark = pytest.mark.virtual
Handler = Callable[[trio_websocket.WebSocketConnection], Awaitable[None]]
Event = MarketEvent | SystemEvent


class World:
    """An endpoint, the far side it talks to, and everything it delivered."""

    def __init__(self, handler: Handler, *, capacity: int = 100, **settings: object) -> None:
        self.network = MemoryNetwork()
        self.adapter = FakeVenue()
        self.feed = FeedQueue[Event](capacity, lambda event: None)
        self.reports_in, self.reports = trio.open_memory_channel[Sequence[Report]](10)
        self.bad: list[str] = []
        self.too_many = False
        self.connected_at: list[float] = []
        self._handler = handler
        self.endpoint = Endpoint(
            _settings(**settings),
            self.adapter,
            network=self.network,
            clock=VirtualClock(),
            backoff=Backoff(1_000, 60_000, seeded_rng(7)),
            feed=self.feed,
            reports=self.reports_in,
            on_bad=self._on_bad,
        )

    def _on_bad(self, source: str, message: str | bytes, problem: str) -> bool:
        self.bad.append(problem)
        return self.too_many

    async def accept(self, request: trio_websocket.WebSocketRequest) -> None:
        connection = await request.accept()
        self.connected_at.append(trio.current_time())
        try:
            await self._handler(connection)
        except trio_websocket.ConnectionClosed:
            return

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[trio.Nursery]:
        async with trio.open_nursery() as nursery:
            listeners = await self.network.listen("venue", 80)
            server = trio_websocket.WebSocketServer(self.accept, listeners)  # type: ignore[arg-type]
            nursery.start_soon(partial(trio.serve_listeners, server._handle_connection, listeners))
            yield nursery
            nursery.cancel_scope.cancel()

    async def next_event(self) -> Event:
        (event,) = await self.feed.get(1)
        return event

    async def until_state(self, state: LinkState) -> LinkChanged:
        while True:
            event = await self.next_event()
            if isinstance(event, LinkChanged) and event.state is state:
                return event


def _settings(**changes: object) -> EndpointSettings:
    values: dict[str, object] = {
        "name": "main",
        "url": "ws://venue/ws",
        "streams": ("trades",),
        "auto_reconnect": True,
        "connect_timeout_ms": 5_000,
        "reconnect_healthy_ms": 60_000,
        "heartbeat_timeout_ms": 10_000,
        "feed_blocked_ms": 2_000,
        "reconcile_interval_ms": 60_000,
        "max_message_bytes": 100_000,
    }
    return EndpointSettings(**(values | changes))  # type: ignore[arg-type]


async def _silent(connection: trio_websocket.WebSocketConnection) -> None:
    while True:
        await connection.get_message()


async def test_subscribes_and_delivers_in_order() -> None:
    async def handler(connection: trio_websocket.WebSocketConnection) -> None:
        assert json.loads(await connection.get_message()) == {"subscribe": "trades"}
        await connection.send_message('{"subscribed": "trades"}')
        for number in range(20):
            await connection.send_message(json.dumps({"trade": number}))
        await _silent(connection)

    world = World(handler)
    async with world.listening() as nursery:
        nursery.start_soon(world.endpoint.run)
        await world.until_state(LinkState.UP)
        trades = [await world.next_event() for _ in range(20)]
        status = world.endpoint.status()
    assert [event.trade_id for event in trades if isinstance(event, Trade)] == [
        str(number) for number in range(20)
    ]
    assert status["state"] == "up"
    assert status["streams"] == {"trades": True}
    assert status["messages"] == 21


async def test_backs_off_on_schedule_and_comes_back() -> None:
    world = World(_silent)
    started: list[float] = []
    async with trio.open_nursery() as outer:
        outer.start_soon(world.endpoint.run)
        bounds = [1, 2, 4, 8]
        for bound in bounds:
            event = await world.until_state(LinkState.BACKOFF)
            assert "connection refused" in event.reason
            started.append(trio.current_time())
            await world.until_state(LinkState.CONNECTING)
            waited = trio.current_time() - started[-1]
            assert 0.75 * bound <= waited <= bound
        assert world.endpoint.status()["attempt"] == len(bounds)
        async with world.listening():
            await world.until_state(LinkState.UP)
            outage_s = world.endpoint.status()["outage_s"]
            assert outage_s == pytest.approx(trio.current_time(), abs=0.01)
        outer.cancel_scope.cancel()


async def test_a_lost_link_is_reported_resubscribed_and_counted() -> None:
    subscriptions: list[str] = []

    async def handler(connection: trio_websocket.WebSocketConnection) -> None:
        subscriptions.append(str(await connection.get_message()))
        await _silent(connection)

    world = World(handler)
    async with world.listening() as nursery:
        nursery.start_soon(world.endpoint.run)
        await world.until_state(LinkState.UP)
        await world.network.partition("venue", 80)
        event = await world.until_state(LinkState.BACKOFF)
        assert "closed" in event.reason
        world.network.heal("venue", 80)
        await world.until_state(LinkState.UP)
        await trio.testing.wait_all_tasks_blocked()
        status = world.endpoint.status()
    assert subscriptions == ['{"subscribe": "trades"}'] * 2
    assert status["reconnects"] == 1
    assert "closed" in status["last_error"]


@pytest.mark.parametrize(("held_s", "attempts"), [(59, 2), (61, 1)])
async def test_backoff_is_reset_only_after_a_healthy_spell(held_s: int, attempts: int) -> None:
    world = World(_silent)
    async with world.listening() as nursery:
        nursery.start_soon(world.endpoint.run)
        await world.until_state(LinkState.UP)
        world.endpoint.drop("first")
        await world.until_state(LinkState.UP)
        await trio.sleep(held_s)
        world.endpoint.drop("second")
        await world.until_state(LinkState.BACKOFF)
        assert world.endpoint.status()["attempt"] == attempts
        nursery.cancel_scope.cancel()


async def test_without_auto_reconnect_a_lost_link_stays_down() -> None:
    world = World(_silent, auto_reconnect=False)
    async with world.listening() as nursery:
        async with trio.open_nursery() as running:
            running.start_soon(world.endpoint.run)
            await world.until_state(LinkState.UP)
            await world.network.partition("venue", 80)
        event = await world.until_state(LinkState.DOWN)
        nursery.cancel_scope.cancel()
    assert "auto_reconnect is off" in event.reason
    assert world.endpoint.status()["state"] == "down"
    assert len(world.connected_at) == 1


async def test_a_refused_link_is_not_retried() -> None:
    world = World(_silent)

    async def refuse(request: trio_websocket.WebSocketRequest) -> None:
        await request.reject(403)

    world.accept = refuse  # type: ignore[method-assign]
    async with world.listening() as nursery:
        await world.endpoint.run()
        event = await world.until_state(LinkState.REFUSED)
        nursery.cancel_scope.cancel()
    assert "403" in event.reason


async def test_a_heartbeat_without_pong_drops_the_link() -> None:
    world = World(_silent)
    async with world.listening() as nursery:
        nursery.start_soon(world.endpoint.run)
        await world.until_state(LinkState.UP)
        began = trio.current_time()
        await world.endpoint.check_alive()
        event = await world.until_state(LinkState.BACKOFF)
        assert "no pong within 10000 ms" in event.reason
        assert trio.current_time() - began == pytest.approx(10, abs=0.1)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("said", ['{"subscribed": "trades"}', "no such stream"])
async def test_a_heartbeat_with_pong_keeps_the_link(said: str) -> None:
    world = World(_answering(said))
    async with world.listening() as nursery:
        nursery.start_soon(world.endpoint.run)
        await world.until_state(LinkState.UP)
        await world.endpoint.check_alive()
        await trio.sleep(30)
        status = world.endpoint.status()
        assert (status["state"], status["reconnects"]) == ("up", 0)
        nursery.cancel_scope.cancel()


async def test_a_link_whose_subscriptions_were_swallowed_is_given_up() -> None:
    world = World(_answering(""))
    async with world.listening() as nursery:
        nursery.start_soon(world.endpoint.run)
        await world.until_state(LinkState.UP)
        await world.endpoint.check_alive()
        event = await world.until_state(LinkState.BACKOFF)
        assert "subscriptions not confirmed: trades" in event.reason
        nursery.cancel_scope.cancel()


def _answering(said: str) -> Callable[[trio_websocket.WebSocketConnection], Awaitable[None]]:
    """Says so to a subscription (nothing if empty), and answers pings."""

    async def handler(connection: trio_websocket.WebSocketConnection) -> None:
        while True:
            message = await connection.get_message()
            if "ping" in message:
                await connection.send_message('{"pong": 1}')
            elif said:
                await connection.send_message(said)

    return handler


async def test_a_heartbeat_while_there_is_no_link_does_nothing() -> None:
    world = World(_silent)
    await world.endpoint.check_alive()
    assert world.endpoint.status()["state"] == "down"


async def test_a_private_link_is_up_only_when_the_account_is_known() -> None:
    async def handler(connection: trio_websocket.WebSocketConnection) -> None:
        await connection.get_message()
        await connection.send_message('{"reply": 5}')
        await _silent(connection)

    world = World(handler, streams=("orders",))
    world.adapter.account_errors.append(LinkError("HTTP 503"))
    entry = world.adapter.order_entry
    assert entry is not None
    async with world.listening() as nursery:
        nursery.start_soon(world.endpoint.run)
        event = await world.until_state(LinkState.BACKOFF)
        assert "HTTP 503" in event.reason
        assert "attach" not in entry.log
        await world.until_state(LinkState.UP)
        (report,) = await world.reports.receive()
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(report, AccountReport)
        assert entry.log[-2:] == ["reply 5", "attach"] or entry.log[-2:] == ["attach", "reply 5"]
        world.endpoint.drop("test")
        await world.until_state(LinkState.BACKOFF)
        assert entry.log[-1] == "detach"
        nursery.cancel_scope.cancel()
    assert world.adapter.loads == 2


async def test_bad_messages_are_counted_and_too_many_reset_the_link() -> None:
    async def handler(connection: trio_websocket.WebSocketConnection) -> None:
        await connection.get_message()
        await connection.send_message("}{")
        await connection.send_message('{"what": 1}')
        await connection.send_message('{"trade": 1}')
        await trio.sleep(1)
        world.too_many = True
        await connection.send_message("}{")
        await _silent(connection)

    world = World(handler)
    async with world.listening() as nursery:
        nursery.start_soon(world.endpoint.run)
        await world.until_state(LinkState.UP)
        assert isinstance(await world.next_event(), Trade)
        event = await world.until_state(LinkState.BACKOFF)
        nursery.cancel_scope.cancel()
    assert world.bad[:2] == ["not JSON", "unknown message {'what': 1}"]
    assert event.reason.startswith("too many bad messages, the last: not JSON")


async def test_notices_are_counted_and_told_once_and_drop_no_link() -> None:
    async def handler(connection: trio_websocket.WebSocketConnection) -> None:
        await connection.get_message()
        for number in range(100):
            await connection.send_message(json.dumps({"new": "again"}))
            await connection.send_message(json.dumps({"new": f"word {number}"}))
        await _silent(connection)

    world = World(handler, capacity=1_000)
    world.too_many = True
    with capture_logs() as logged:
        async with world.listening() as nursery:
            nursery.start_soon(world.endpoint.run)
            await world.until_state(LinkState.UP)
            await trio.sleep(60)
            assert world.endpoint.state is LinkState.UP
            status = world.endpoint.status()
            nursery.cancel_scope.cancel()
    assert (status["notices"], status["bad_messages"], world.bad) == (200, 0, [])
    told = [line["notice"] for line in logged if "notice" in line]
    assert told[:2] == ["new word again", "new word word 0"]
    assert len(told) == len(set(told)) == 64


async def test_a_feed_that_stays_blocked_is_reset() -> None:
    async def handler(connection: trio_websocket.WebSocketConnection) -> None:
        for number in range(20):
            await connection.send_message(json.dumps({"trade": number}))
        await _silent(connection)

    world = World(handler, capacity=5)
    async with world.listening() as nursery:
        nursery.start_soon(world.endpoint.run)
        await trio.sleep(10)
        event = await world.until_state(LinkState.BACKOFF)
        nursery.cancel_scope.cancel()
    assert "feed blocked for 2000 ms" in event.reason


async def test_the_account_is_asked_for_again_and_again() -> None:
    async def handler(connection: trio_websocket.WebSocketConnection) -> None:
        while True:
            await connection.get_message()

    world = World(handler, streams=("orders",), reconcile_interval_ms=5_000)
    async with world.listening() as nursery:
        nursery.start_soon(world.endpoint.run)
        await world.until_state(LinkState.UP)
        await trio.sleep(12)
        assert world.adapter.loads == 3
        world.adapter.account_errors.append(LinkError("HTTP 503"))
        await trio.sleep(10)
        assert world.adapter.loads == 5
        assert world.endpoint.status()["state"] == "up"
        assert world.reports.statistics().current_buffer_used == 4
        nursery.cancel_scope.cancel()


async def test_a_heartbeat_does_not_wait_for_a_link_that_is_lost() -> None:
    world = World(_silent)
    async with world.listening() as nursery:
        nursery.start_soon(world.endpoint.run)
        await world.until_state(LinkState.UP)
        async with trio.open_nursery() as beating:
            beating.start_soon(world.endpoint.check_alive)
            await trio.testing.wait_all_tasks_blocked()
            began = trio.current_time()
            await world.network.partition("venue", 80)
        assert trio.current_time() == began
        event = await world.until_state(LinkState.BACKOFF)
        assert "no pong" not in event.reason
        nursery.cancel_scope.cancel()
