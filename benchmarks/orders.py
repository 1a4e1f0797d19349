"""From a strategy's decision to the signed bytes at the connection, the journal in between."""

from __future__ import annotations

import tempfile
import time
from array import array
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import trio

from benchmarks import values
from benchmarks.measure import Case, Scale, nanoseconds, percentile
from benchmarks.report import Row, duration
from zq_daemon.config.schema import HyperliquidConfig, LimitsConfig, RiskConfig
from zq_daemon.core import topics
from zq_daemon.core.bus import Fault, MessageBus
from zq_daemon.core.cache import Cache
from zq_daemon.core.portfolio import Portfolio
from zq_daemon.core.risk import RiskEngine
from zq_daemon.engine.client_order_ids import ClientOrderIds
from zq_daemon.engine.execution import ExecutionEngine
from zq_daemon.journal.journal import Journal
from zq_daemon.journal.lines import open_journal
from zq_daemon.model.ids import StrategyId
from zq_daemon.model.market import Side, Trade
from zq_daemon.ports.clock import SystemClock
from zq_daemon.ports.disk import Disk, MemoryDisk, SystemDisk
from zq_daemon.strategy.base import NoParams, Strategy
from zq_daemon.strategy.context import StrategyContext
from zq_daemon.telemetry.logging import configure
from zq_daemon.venue.hyperliquid.session import HyperliquidSession
from zq_daemon.venue.hyperliquid.sign import AgentKey
from zq_daemon.venue.hyperliquid.trade import HyperliquidOrderEntry

LIMIT_NS = 10_000_000
RISK = RiskConfig(max_orders_per_second=1_000_000, max_daily_loss=None, max_leverage=None)
_REFUSAL = (
    '{"channel":"post","data":{"id":%d,"response":{"type":"action","payload":{"status":"ok",'
    '"response":{"type":"order","data":{"statuses":[{"error":"Insufficient margin"}]}}}}}}'
)


class Buyer(Strategy):
    """Submits an order at each trade, and notes when it decided to."""

    decided_ns = 0

    def on_trade(self, trade: Trade) -> None:
        """Buy below the trade."""
        self.decided_ns = time.monotonic_ns()
        self.context.submit_limit(
            trade.instrument_id, Side.BUY, Decimal("0.001"), trade.price - 10, post_only=True
        )


class Bench:
    """Bus, cache, risk, execution engine and order entry; the connection is a stopwatch.

    The venue refuses each order at once, so that none rests and every order meets the same state.
    """

    def __init__(self, journal: Journal) -> None:
        clock = SystemClock()
        self.bus, cache = MessageBus(_raise), Cache()
        portfolio = Portfolio(marks=cache.mid_or_mark, instruments=cache.instrument)
        cache.add_instrument(values.instrument())
        cache.put_trade(values.trade())
        self.entry = HyperliquidOrderEntry(
            config=HyperliquidConfig(),
            clock=clock,
            key=AgentKey(b"\1" * 32),
            asset_of=lambda _: 0,
        )
        self.engine = ExecutionEngine(
            bus=self.bus,
            cache=cache,
            portfolio=portfolio,
            risk=RiskEngine(cache, portfolio, RISK),
            journal=journal,
            clock=clock,
            entries={values.ACCOUNT: self.entry},
            queries={},
            slippage_bps={},
            limits=LimitsConfig(),
            run_id=1,
            is_stale=lambda _: False,
            is_link_up=lambda _: True,
        )
        context = StrategyContext(
            strategy_id=StrategyId("buyer"),
            instruments=(values.BTC,),
            bars=(),
            bus=self.bus,
            cache=cache,
            portfolio=portfolio,
            clock=clock,
            accounts={values.VENUE: values.ACCOUNT},
            mint=ClientOrderIds(1),
        )
        context.permit(None)
        self.strategy = Buyer(context, NoParams())
        self.bus.subscribe(topics.trade(values.BTC), self.strategy.on_trade)
        self.bus.subscribe("order.rejected.*", lambda _: self._refused.set())
        self.taken_ns = array("q")
        self._session = HyperliquidSession((), account_id=values.ACCOUNT, address=None)
        self._refused = trio.Event()
        self._posts = 0
        self.entry.attach(self)

    async def send(self, message: str) -> None:
        """The connection: stop the watch, then answer as the venue would."""
        self.taken_ns.append(time.monotonic_ns() - self.strategy.decided_ns)
        self._posts += 1
        reply = self._session.receive(_REFUSAL % self._posts, 0).replies[0]
        await trio.lowlevel.checkpoint()
        self.entry.resolve(reply)

    async def decide(self, count: int) -> None:
        """Let the strategy decide *count* times, one order after another."""
        trade, topic = values.trade(), topics.trade(values.BTC)
        for _ in range(count):
            self._refused = trio.Event()
            self.bus.publish(topic, trade)
            await self._refused.wait()


def run(scale: Scale) -> Iterator[Row]:
    """Both journals, and what signing takes of it."""
    configure("error")
    signing = _signing(scale)
    with tempfile.TemporaryDirectory() as folder:
        for name, disk in (("memory", MemoryDisk()), ("a real disk", SystemDisk(Path(folder)))):
            taken = trio.run(_decide, disk, scale.decisions)
            median, tail = percentile(taken, 0.5), percentile(taken, 0.99)
            yield Row(
                name=f"decision to bytes, journal in {name}: p50, p99",
                figure=f"{duration(median)}, {duration(tail)}",
                against=f"signing alone {duration(signing)} ({signing / median:.0%} of the median)",
                limit=duration(LIMIT_NS),
                holds=tail < LIMIT_NS,
            )


async def _decide(disk: Disk, count: int) -> array[int]:
    async with open_journal(disk, "journal.jsonl") as journal, trio.open_nursery() as nursery:
        bench = Bench(journal)
        await nursery.start(bench.engine.run)
        await bench.decide(count // 10 + 1)
        del bench.taken_ns[:]
        await bench.decide(count)
        nursery.cancel_scope.cancel()
    return bench.taken_ns


def _signing(scale: Scale) -> float:
    entry = HyperliquidOrderEntry(
        config=HyperliquidConfig(),
        clock=SystemClock(),
        key=AgentKey(b"\1" * 32),
        asset_of=lambda _: 0,
    )
    names = {"sign": entry.prepare_submit, "orders": [values.order(1, "few")]}
    return nanoseconds({"sign": Case("sign(orders)", names)}, scale)["sign"]


def _raise(fault: Fault) -> None:
    raise fault.error
