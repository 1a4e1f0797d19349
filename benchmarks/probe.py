"""The strategy at the end of the way: it notes when each trade reaches it."""

from __future__ import annotations

import time
from array import array

import trio

from zq_daemon.core.book import OrderBook
from zq_daemon.model.market import Trade
from zq_daemon.strategy.base import Strategy


class Probe(Strategy):
    """Expects a trade's id to be the monotonic time at which it was sent, in nanoseconds."""

    def on_start(self) -> None:
        """Nothing is expected yet."""
        self.expect(0)

    def expect(self, trades: int) -> None:
        """Forget what was measured; `arrived` is set when so many *trades* have come."""
        self.latencies_ns = array("q")
        self.arrived = trio.Event()
        self._expected = trades

    def on_trade(self, trade: Trade) -> None:
        """Note the latency."""
        self.latencies_ns.append(time.monotonic_ns() - int(trade.trade_id))
        if len(self.latencies_ns) == self._expected:
            self.arrived.set()

    def on_book(self, book: OrderBook) -> None:
        """Read what a quoting strategy reads."""
        self.mid = book.mid
