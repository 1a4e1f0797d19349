"""Memory over millions of messages: session, dispatcher, data engine, bus and a strategy.

The messages pass in a process of its own, `python -m benchmarks.memory COUNT`, which prints its
resident set at a tenth, the half and the end.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import values
from benchmarks.measure import Scale, resident_bytes
from benchmarks.report import Row, size
from zq_daemon.config.schema import StalenessConfig, StrategyConfig
from zq_daemon.core.bus import Fault, MessageBus
from zq_daemon.core.cache import Cache
from zq_daemon.core.portfolio import Portfolio
from zq_daemon.engine.client_order_ids import ClientOrderIds
from zq_daemon.engine.data import DataEngine
from zq_daemon.engine.dispatch import Dispatcher, FeedEvent, conflation_key
from zq_daemon.ports.clock import SystemClock
from zq_daemon.runtime.feed_queue import FeedQueue
from zq_daemon.strategy.base import Strategy
from zq_daemon.strategy.host import StrategyHost
from zq_daemon.telemetry.logging import configure
from zq_daemon.venue.hyperliquid.session import HyperliquidSession

ROOT = Path(__file__).resolve().parent.parent
FLAT = 1.02
"""How much larger the end may be than a tenth of the way."""
_MARKS = (0.1, 0.5, 1.0)
_MESSAGES_A_BOOK = 10
_MS_A_MESSAGE = 5


class Follower(Strategy):
    """Hears trades, books and bars, and keeps nothing."""

    heard = 0

    def on_trade(self, trade: object) -> None:
        """Count it."""
        self.heard += 1

    def on_book(self, book: object) -> None:
        """Count it."""
        self.heard += 1

    def on_bar(self, bar: object) -> None:
        """Count it."""
        self.heard += 1


def run(scale: Scale) -> Iterator[Row]:
    """One row: the three sizes."""
    count = scale.memory_messages
    command = [sys.executable, "-m", "benchmarks.memory", str(count)]
    told = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    *sizes, rate = map(int, told.stdout.split())
    first, _, last = sizes
    yield Row(
        name=f"memory over {count:,} messages, at 10 %, 50 %, 100 %",
        figure=", ".join(map(size, sizes)),
        against=f"{size(last - first)} more at the end than at 10 %; {rate:,} messages/s",
        limit="flat",
        holds=last <= first * FLAT,
    )


def main() -> None:
    count = int(sys.argv[1])
    configure("error")
    session, dispatcher = _daemon_parts()
    marks = [int(count * mark) for mark in _MARKS]
    began = time.monotonic()
    for number in range(1, count + 1):
        for event in session.receive(_message(number), time.time_ns()).market:
            dispatcher.dispatch(event)
        if number in marks:
            print(resident_bytes())
    print(int(count / (time.monotonic() - began)))


def _message(number: int) -> str:
    ts_ms = values.TS_NS // 1_000_000 + number * _MS_A_MESSAGE
    if number % _MESSAGES_A_BOOK:
        return values.trade_message(number, ts_ms)
    return values.book_message(number, ts_ms)


def _daemon_parts() -> tuple[HyperliquidSession, Dispatcher]:
    clock, bus, cache = SystemClock(), MessageBus(_raise), Cache()
    cache.add_instrument(values.instrument())
    data = DataEngine(bus, cache, clock, StalenessConfig())
    host = StrategyHost(
        bus=bus,
        cache=cache,
        portfolio=Portfolio(marks=cache.mid_or_mark, instruments=cache.instrument),
        clock=clock,
        accounts={},
        mint=ClientOrderIds(1),
        add_bars=data.add_bars,
        save=lambda _: None,
        saved={},
        has_room=lambda: True,
    )
    bars = ("1s", "100tick")
    use = f"{Follower.__module__}:Follower"
    host.load([StrategyConfig(name="follower", use=use, instruments=(values.BTC,), bars=bars)])
    host.start()
    streams = (f"trades:{values.COIN}", f"l2Book:{values.COIN}")
    session = HyperliquidSession(streams, account_id=None, address=None)
    feed = FeedQueue[FeedEvent](1, conflation_key)
    return session, Dispatcher(feed, data, bus)


def _raise(fault: Fault) -> None:
    raise fault.error


if __name__ == "__main__":
    main()
