"""From the feed queue to the bus: the one consumer of all that happened outside.

Market events go through the data engine (cache first, then published); link changes and ticks are
published as they are. Runs as a service until the queue is closed and drained.
"""

from __future__ import annotations

from collections.abc import Hashable

import trio

from zq_daemon.core import topics
from zq_daemon.core.bus import MessageBus
from zq_daemon.engine.data import DataEngine
from zq_daemon.model.bar import Candle
from zq_daemon.model.event import (
    HealthChanged,
    LinkChanged,
    Probe,
    SystemEvent,
    Tick,
    TradingStateChanged,
)
from zq_daemon.model.market import BookSnapshot, MarketEvent, MarkPrice, MidPrice, Quote
from zq_daemon.runtime.feed_queue import FeedQueue

FeedEvent = MarketEvent | SystemEvent

_BATCH = 256
"""Events handled before other tasks get a turn: bounds the time the loop is held to some ms."""


def conflation_key(event: FeedEvent) -> Hashable | None:
    """The state an event replaces; None for what must not be lost (trades, deltas)."""
    match event:
        case BookSnapshot() | Quote() | MarkPrice() | MidPrice():
            return type(event), event.instrument_id
        case Candle(is_closed=False):
            return Candle, event.instrument_id, event.interval, event.ts_open_ns
        case Tick():
            return Tick
        case Probe():
            return Probe
        case _:
            return None


class Dispatcher:
    """Takes batches off the feed queue and hands each event on, in order."""

    def __init__(self, feed: FeedQueue[FeedEvent], data: DataEngine, bus: MessageBus) -> None:
        self._feed = feed
        self._data = data
        self._bus = bus

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Consume until the queue is closed and drained."""
        task_status.started()
        while True:
            try:
                batch = await self._feed.get(_BATCH)
            except trio.EndOfChannel:
                return
            for event in batch:
                self.dispatch(event)
            if len(batch) >= _BATCH:  # else the queue is empty, and getting waits
                await trio.lowlevel.checkpoint()

    def dispatch(self, event: FeedEvent) -> None:
        """Hand one event on."""
        match event:
            case Probe():
                self._bus.publish(topics.PROBE, event)
            case Tick():
                self._bus.publish(topics.TICK, event)
            case LinkChanged():
                self._bus.publish(topics.link(event.endpoint), event)
            case HealthChanged():
                self._bus.publish(topics.health(event.component), event)
            case TradingStateChanged():
                self._bus.publish(topics.TRADING_STATE, event)
            case _:
                self._data.process(event)
