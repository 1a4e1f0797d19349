import pytest
import trio

from tests.harness.fake_venue import book, trade
from zq_daemon.config.schema import StalenessConfig
from zq_daemon.core.bus import MessageBus
from zq_daemon.core.cache import Cache
from zq_daemon.engine.clockwork import TickTask, keep_house
from zq_daemon.engine.data import DataEngine
from zq_daemon.engine.dispatch import Dispatcher, FeedEvent, conflation_key
from zq_daemon.model.event import HealthChanged, LinkChanged, LinkState, Tick
from zq_daemon.ports.clock import VirtualClock
from zq_daemon.runtime.feed_queue import FeedQueue

pytestmark = pytest.mark.virtual


async def _ticks(queue: FeedQueue[FeedEvent], count: int) -> list[tuple[float, Tick]]:
    found = []
    while len(found) < count:
        for event in await queue.get(10):
            assert isinstance(event, Tick)
            found.append((round(trio.current_time(), 3), event))
    return found


async def test_ticks_come_on_the_interval() -> None:
    queue = FeedQueue[FeedEvent](10, conflation_key)
    task = TickTask(250, queue, VirtualClock())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(task.run)
        ticks = await _ticks(queue, 4)
        nursery.cancel_scope.cancel()
    assert [when for when, _ in ticks] == [0.25, 0.5, 0.75, 1.0]
    assert [(tick.count, tick.missed) for _, tick in ticks] == [(1, 0), (2, 0), (3, 0), (4, 0)]
    assert ticks[3][1].ts_monotonic_ns - ticks[0][1].ts_monotonic_ns == 750_000_000


async def test_no_interval_is_off_and_a_reload_turns_it_on() -> None:
    queue = FeedQueue[FeedEvent](10, conflation_key)
    task = TickTask(None, queue, VirtualClock())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(task.run)
        await trio.sleep(5)
        assert queue.statistics().accepted == 0
        task.set_interval(1_000)
        assert task.interval_ms == 1_000
        ((when, _),) = await _ticks(queue, 1)
        assert when == 6.0
        task.set_interval(None)
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert queue.statistics().accepted == 1


async def test_a_bus_that_is_behind_gets_one_tick_not_a_backlog() -> None:
    queue = FeedQueue[FeedEvent](1, conflation_key)
    task = TickTask(100, queue, VirtualClock())
    await queue.put([trade(1)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(task.run)
        await trio.sleep(1.05)
        nursery.cancel_scope.cancel()
    waiting = await queue.get(100)
    assert [type(event).__name__ for event in waiting] == ["Trade", "Tick"]
    assert isinstance(waiting[1], Tick)
    assert waiting[1].count == 10


@pytest.mark.parametrize("interval_ms", [100, 250])
async def test_chores_are_called_at_the_interval_that_is_set(interval_ms: int) -> None:
    clock = VirtualClock()
    called: list[int] = []
    with trio.move_on_after(1.05):
        await keep_house(clock, [called.append], interval_ms)
    assert len(called) == 1_000 // interval_ms + 1
    assert called[-1] - called[0] == 1_000_000_000


def test_what_is_conflated_and_what_is_not() -> None:
    assert conflation_key(book(1)) == conflation_key(book(2))
    assert conflation_key(trade(1)) is None
    assert conflation_key(_link()) is None


async def test_the_dispatcher_publishes_system_events_and_drains_before_it_ends() -> None:
    bus = MessageBus(lambda fault: None)
    heard: list[object] = []
    bus.subscribe("system.*", heard.append)
    queue = FeedQueue[FeedEvent](10, conflation_key)
    data = DataEngine(bus, Cache(), VirtualClock(), StalenessConfig())
    dispatcher = Dispatcher(queue, data, bus)
    health = HealthChanged(component="x", healthy=False, reason="r", ts_event_ns=1)
    tick = Tick(count=1, missed=0, ts_event_ns=1, ts_monotonic_ns=1)
    await queue.put([_link(), health, tick, trade(1)])
    queue.close()
    await dispatcher.run()
    assert heard == [_link(), health, tick]
    assert data.stats().unknown_instruments == 1
    assert set(bus.counters()) == {"system.link.main", "system.health.x", "system.tick"}


def _link() -> LinkChanged:
    return LinkChanged(
        endpoint="main",
        venue="fake",
        private=False,
        state=LinkState.UP,
        reason="",
        ts_event_ns=1,
    )
