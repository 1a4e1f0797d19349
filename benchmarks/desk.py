"""The order path of a daemon, from a strategy's decision to the connection, without the daemon.

Bus, cache, risk, execution engine, order entry and journal are the daemon's own. The venue answers
within the process: it acknowledges each order and then says that it was cancelled, so that every
order meets the same state and leaves six records behind.
"""

from __future__ import annotations

import re
import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal

import trio

from benchmarks import values
from zq_daemon.config.schema import HyperliquidConfig, RiskConfig
from zq_daemon.core import topics
from zq_daemon.core.bus import Fault, MessageBus
from zq_daemon.core.risk import RiskEngine
from zq_daemon.engine.client_order_ids import ClientOrderIds
from zq_daemon.engine.execution import ExecutionEngine, ExecutionSettings
from zq_daemon.journal.journal import Journal
from zq_daemon.journal.record import RunStarted
from zq_daemon.model.event import OrderDenied
from zq_daemon.model.ids import StrategyId
from zq_daemon.model.market import Side, Trade
from zq_daemon.ports.clock import Clock, SystemClock
from zq_daemon.ports.rng import seeded_rng
from zq_daemon.runtime.backoff import Backoff
from zq_daemon.strategy.base import NoParams, Strategy
from zq_daemon.strategy.context import StrategyContext
from zq_daemon.venue.hyperliquid.budget import RateBudget
from zq_daemon.venue.hyperliquid.session import HyperliquidSession
from zq_daemon.venue.hyperliquid.sign import AgentKey
from zq_daemon.venue.hyperliquid.trade import HyperliquidOrderEntry

UNLIMITED = RiskConfig(
    max_order_notional=None,
    max_position_notional=None,
    max_gross_exposure=None,
    max_leverage=None,
    max_open_orders=None,
    max_orders_per_second=1_000_000,
    max_daily_loss=None,
)
CLOID = re.compile(r'"c":"(0x[0-9a-f]{32})"')
_POSTS = 1_024
_TAKEN = (
    '{"channel":"post","data":{"id":%d,"response":{"type":"action","payload":{"status":"ok",'
    '"response":{"type":"order","data":{"statuses":[%s]}}}}}}'
)
_RESTING = '{"resting":{"oid":%d}}'
_UPDATES = '{"channel":"orderUpdates","data":[%s]}'
_CANCELED = (
    '{"order":{"coin":"BTC","side":"B","limitPx":"105045.0","sz":"0.001","oid":%d,'
    '"timestamp":%d,"origSz":"0.001","cloid":"%s"},"status":"canceled","statusTimestamp":%d}'
)


class Buyer(Strategy):
    """Submits an order at each trade, and remembers since when it was to be decided."""

    def setup(self, due_ns: dict[str, int]) -> None:
        """Put down in *due_ns*, by client order id, what `now_due_ns` was."""
        self.due_ns = due_ns
        self.now_due_ns = 0

    def on_trade(self, trade: Trade) -> None:
        """Buy below the trade."""
        client_order_id = self.context.submit_limit(
            trade.instrument_id, Side.BUY, Decimal("0.001"), trade.price - 10, post_only=True
        )
        self.due_ns[client_order_id] = self.now_due_ns


class Desk:
    """Decide with `decide`; `taken_ns` then has how long each order took to the connection."""

    def __init__(self, journal: Journal) -> None:
        clock = SystemClock()
        self.bus, cache = MessageBus(_raise), journal.state.cache
        portfolio = journal.state.portfolio
        cache.add_instrument(values.instrument())
        cache.put_trade(values.trade())
        self.journal = journal
        self.entry = order_entry(clock)
        self.engine = ExecutionEngine(
            bus=self.bus,
            risk=RiskEngine(cache, portfolio, UNLIMITED),
            journal=journal,
            clock=clock,
            entries={values.ACCOUNT: self.entry},
            queries={},
            slippage_bps={},
            settings=ExecutionSettings(),
            run_id=1,
            is_stale=lambda _: False,
            is_link_up=lambda _: True,
        )
        self.strategy = self._strategy(clock)
        self.bus.subscribe(topics.trade(values.BTC), self.strategy.on_trade)
        self.bus.subscribe("order.denied.*", self._on_denied)
        self.bus.subscribe("order.canceled.*", self._on_end)
        self.taken_ns = array("q")
        self.denials: Counter[str] = Counter()
        self._due_ns: dict[str, int] = {}
        self.strategy.setup(self._due_ns)
        self._session = HyperliquidSession(
            ("orderUpdates",), account_id=values.ACCOUNT, address=f"0x{'a' * 40}"
        )
        self._sent, self._posts = trio.open_memory_channel[Sequence[str]](_POSTS)
        self._last_oid = self._decided = self._ended = 0
        self._changed = trio.Event()
        self.entry.attach(self)

    def decide(self, due_ns: int) -> None:
        """Let the strategy decide on what came at *due_ns*."""
        self.strategy.now_due_ns = due_ns
        self._decided += 1
        self.bus.publish(topics.trade(values.BTC), values.trade())

    def forget(self) -> None:
        """What was measured so far is not to count."""
        del self.taken_ns[:]

    async def wait_done(self) -> None:
        """Return when all orders that were decided on have ended."""
        while self._ended < self._decided:
            self._changed = trio.Event()
            await self._changed.wait()

    async def send(self, message: str) -> None:
        """The connection: stop the watch, and let the venue have it."""
        now_ns = time.monotonic_ns()
        cloids = CLOID.findall(message)
        self.taken_ns.extend(now_ns - self._due_ns.pop(cloid) for cloid in cloids)
        await self._sent.send(cloids)

    async def answer(self) -> None:
        """The venue, and the tasks that read what it says: acknowledged, then cancelled."""
        post_id = 0
        async for cloids in self._posts:
            post_id += 1
            first = self._last_oid + 1
            self._last_oid += len(cloids)
            oids = range(first, first + len(cloids))
            resting = ",".join(_RESTING % oid for oid in oids)
            self.entry.resolve(self._session.receive(_TAKEN % (post_id, resting), 0).replies[0])
            await trio.lowlevel.checkpoint()
            now_ms = time.time_ns() // 1_000_000
            pairs = zip(oids, cloids, strict=True)
            gone = ",".join(_CANCELED % (oid, now_ms, cloid, now_ms) for oid, cloid in pairs)
            await self.journal.room()
            for report in self._session.receive(_UPDATES % gone, time.time_ns()).reports:
                self.engine.on_report(report)

    def _on_denied(self, event: OrderDenied) -> None:
        self.denials[event.code] += 1
        self._on_end(event)

    def _on_end(self, _event: object) -> None:
        self._ended += 1
        if self._ended == self._decided:
            self._changed.set()

    def _strategy(self, clock: SystemClock) -> Buyer:
        state = self.journal.state
        context = StrategyContext(
            strategy_id=StrategyId("buyer"),
            instruments=(values.BTC,),
            bars=(),
            bus=self.bus,
            cache=state.cache,
            portfolio=state.portfolio,
            clock=clock,
            accounts={values.VENUE: values.ACCOUNT},
            mint=ClientOrderIds(1),
        )
        context.permit(None)
        return Buyer(context, NoParams())


def order_entry(clock: Clock) -> HyperliquidOrderEntry:
    """Order entry without the venue's limits, which are far below what is measured."""
    budget = RateBudget(
        clock=clock,
        backoff=Backoff(1_000, 60_000, seeded_rng(1)),
        weight_per_minute=0,
        messages_per_minute=0,
    )
    return HyperliquidOrderEntry(
        config=HyperliquidConfig(),
        clock=clock,
        key=AgentKey(b"\1" * 32),
        asset_of=lambda _: 0,
        budget=budget,
        http=None,
    )


@asynccontextmanager
async def open_desk(journal: Journal) -> AsyncIterator[Desk]:
    """A desk whose journal is being written, with its engine running."""
    journal.write(
        RunStarted(
            run_id=1,
            version="",
            venue=values.VENUE,
            accounts=(values.ACCOUNT,),
            embedded=False,
            ts_event_ns=SystemClock().now_ns(),
        )
    )
    desk = Desk(journal)
    async with trio.open_nursery() as nursery:
        await nursery.start(desk.engine.run)
        nursery.start_soon(desk.answer)
        yield desk
        nursery.cancel_scope.cancel()


def _raise(fault: Fault) -> None:
    raise fault.error
