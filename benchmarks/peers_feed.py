"""NautilusTrader's LiveNode and Hyperliquid client on our sender, in a process of its own.

Run by the peers' interpreter: `python -m benchmarks.peers_feed RESULTS COUNT RATE BOOKS`. The file
RESULTS gets p50 and p99 from frame to strategy and the CPU time a message, in nanoseconds, as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from array import array
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

from nautilus_trader.adapters.hyperliquid import (
    HyperliquidDataClientConfig,
    HyperliquidDataClientFactory,
)
from nautilus_trader.common import Environment
from nautilus_trader.live import LiveNode, LiveNodeHandle
from nautilus_trader.model import BookType, InstrumentId, OrderBookDeltas, TraderId, TradeTick
from nautilus_trader.trading import Strategy, StrategyConfig

from benchmarks import feed

BTC = InstrumentId.from_str("BTC-USD-PERP.HYPERLIQUID")
_PATIENCE_S = 120


class Probe(Strategy):
    """As ours: notes when each trade reaches it."""

    def expect(self, trades: int) -> None:
        """Forget what was measured; `arrived` is set when so many *trades* have come."""
        self.latencies_ns = array("q")
        self.arrived = threading.Event()
        self.expected = trades

    def on_start(self) -> None:
        """Hear trades and books."""
        self.subscribe_trades(BTC)
        self.subscribe_book_deltas(BTC, BookType.L2_MBP)

    def on_trade(self, trade: TradeTick) -> None:
        """Note the latency."""
        self.latencies_ns.append(time.monotonic_ns() - int(str(trade.trade_id)))
        if len(self.latencies_ns) == self.expected:
            self.arrived.set()

    def on_book_deltas(self, deltas: OrderBookDeltas) -> None:
        """Books reach it too."""


def main() -> None:
    results, (count, rate, books) = Path(sys.argv[1]), map(int, sys.argv[2:])
    with Popen(feed.SENDER, cwd=feed.ROOT, stdin=PIPE, stdout=PIPE, text=True) as sender:
        assert sender.stdout is not None
        probe = Probe(StrategyConfig(log_events=False, log_commands=False))
        probe.expect(0)
        node = _node(int(sender.stdout.readline()))
        node.add_strategy(probe)
        driven = (node.handle(), sender, probe, results, count, rate, books)
        threading.Thread(target=_drive, args=driven, daemon=True).start()
        node.run()
        sender.kill()


def _node(port: int) -> LiveNode:
    config = HyperliquidDataClientConfig(
        base_url_http=f"http://127.0.0.1:{port}/info", base_url_ws=f"ws://127.0.0.1:{port}/ws"
    )
    builder = LiveNode.builder("feed", TraderId("FEED-001"), Environment.SANDBOX)
    builder = builder.with_delay_post_stop_secs(0)
    return builder.add_data_client(None, HyperliquidDataClientFactory(), config).build()


def _drive(
    handle: LiveNodeHandle,
    sender: Popen[str],
    probe: Probe,
    results: Path,
    count: int,
    rate: int,
    books: int,
) -> None:
    """Warm up, measure, write, stop."""
    while not handle.is_running:
        time.sleep(0.05)
    time.sleep(0.5)  # its subscriptions are under way
    _stream(sender, probe, min(count, feed.RATE), rate, books)
    used = time.process_time_ns()
    _stream(sender, probe, count, rate, books)
    cpu_ns = (time.process_time_ns() - used) / count
    results.write_text(json.dumps([*feed.tails(probe.latencies_ns), cpu_ns]))
    handle.stop()


def _stream(sender: Popen[str], probe: Any, count: int, rate: int, books: int) -> None:
    assert sender.stdin is not None
    probe.expect(feed.trades_of(count, books))
    sender.stdin.write(f"{count} {rate} {books}\n")
    sender.stdin.flush()
    if not probe.arrived.wait(_PATIENCE_S):
        raise TimeoutError(f"{len(probe.latencies_ns)} of {probe.expected} trades arrived")


if __name__ == "__main__":
    main()
