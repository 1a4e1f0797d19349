"""An execution engine with everything real but the venue, which follows a script."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import attrs
import trio

from tests.harness.journal import CopiedLog, batches_of, open_running_journal
from tests.harness.unasked_entry import UnaskedEntry
from zq_daemon.config.schema import RiskConfig
from zq_daemon.core import topics
from zq_daemon.core.book import OrderBook
from zq_daemon.core.bus import Fault, MessageBus
from zq_daemon.core.cache import Cache
from zq_daemon.core.portfolio import Portfolio
from zq_daemon.core.risk import RiskEngine
from zq_daemon.core.seen import Seen
from zq_daemon.engine.client_order_ids import ClientOrderIds
from zq_daemon.engine.execution import ExecutionEngine, ExecutionSettings
from zq_daemon.engine.restore import Restored
from zq_daemon.journal.journal import Journal
from zq_daemon.journal.record import RunStarted
from zq_daemon.log import Log
from zq_daemon.model.account import Account
from zq_daemon.model.command import CancelOrder, ModifyOrder, SubmitOrder
from zq_daemon.model.fill import Fill, Liquidity
from zq_daemon.model.ids import (
    AccountId,
    ClientOrderId,
    InstrumentId,
    StrategyId,
    TradeId,
    Venue,
    VenueOrderId,
)
from zq_daemon.model.instrument import Instrument, InstrumentKind
from zq_daemon.model.market import BookLevel, BookSnapshot, Levels, Side
from zq_daemon.model.order import Order, OrderStatus, OrderType
from zq_daemon.model.report import AccountReport, FillHistory, OrderReport, PositionReport
from zq_daemon.ports.clock import NS_PER_MS, NS_PER_S, Clock, VirtualClock
from zq_daemon.ports.disk import MemoryDisk
from zq_daemon.venue.interface import (
    Acknowledged,
    Ambiguous,
    Modification,
    Outcome,
    Request,
    RequestKind,
)

BTC = InstrumentId("hl.BTC")
ETH = InstrumentId("hl.ETH")
ACCOUNT = AccountId("0xacc")
MAKER = StrategyId("maker")
RUN_ID = 0xABCDEF

Answer = Sequence[Outcome] | Callable[[Request], Awaitable[Sequence[Outcome]]]


class ScriptedEntry(UnaskedEntry):
    """Order entry that answers what the test wrote down, and by default acknowledges."""

    def __init__(self, clock: Clock, validity_ms: int | None = 15_000) -> None:
        self.clock = clock
        self.validity_ms = validity_ms
        self.answers: dict[str, deque[Answer]] = {
            "submit": deque(),
            "cancel": deque(),
            "modify": deque(),
        }
        self.sent: list[tuple[float, Request]] = []
        self.before_send: Callable[[Request], None] = lambda _: None
        self.inexpressible: set[ClientOrderId] = set()
        self.room: dict[RequestKind, int] = {}
        self.nonce = 0
        self.venue_ids = 0
        self.sending = self.most_sending = 0

    def resume(self, last_nonce: int) -> None:
        self.nonce = max(self.nonce, last_nonce)

    def prepare_submit(
        self, orders: Sequence[Order], *, protects_position: bool = False
    ) -> Request:
        assert all(order.price is not None for order in orders)
        return self._request("submit", orders)

    def prepare_cancel(self, orders: Sequence[Order]) -> Request:
        return self._request("cancel", orders)

    def prepare_modify(self, changes: Sequence[Modification]) -> Request:
        return self._request("modify", [each.order for each in changes])

    def why_not_now(self, kind: RequestKind, count: int = 1) -> str | None:
        return None if count <= self.room.get(kind, count) else f"no room for {count}"

    async def send(self, request: Request) -> Sequence[Outcome]:
        self.before_send(request)
        self.sent.append((trio.current_time(), request))
        self.sending += 1
        self.most_sending = max(self.sending, self.most_sending)
        try:
            await trio.lowlevel.checkpoint()
            answers = self.answers[request.kind]
            if not answers:
                return [self._acknowledged(request.kind) for _ in request.client_order_ids]
            answer = answers.popleft()
            return await answer(request) if callable(answer) else answer
        finally:
            self.sending -= 1

    def kinds(self) -> list[str]:
        return [request.kind for _, request in self.sent]

    def _acknowledged(self, kind: str) -> Acknowledged:
        if kind == "cancel":
            return Acknowledged(venue_order_id=None)
        self.venue_ids += 1
        return Acknowledged(venue_order_id=VenueOrderId(f"v{self.venue_ids}"))

    def _request(self, kind: str, orders: Sequence[Order]) -> Request:
        if any(order.client_order_id in self.inexpressible for order in orders):
            raise ValueError("the venue has no words for this")
        self.nonce += 1
        validity = self.validity_ms
        return Request(
            kind=kind,
            client_order_ids=tuple(order.client_order_id for order in orders),
            nonce=self.nonce,
            expires_ns=None if validity is None else self.clock.now_ns() + validity * NS_PER_MS,
            action_hash=self.nonce.to_bytes(32, "big"),
            payload=b"signed",
        )


class ScriptedQueries:
    """The venue's memory: what it says of each order, and its statement of the account."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.orders: dict[ClientOrderId, OrderReport] = {}
        self.open_orders: tuple[OrderReport, ...] = ()
        self.positions: dict[InstrumentId, Decimal] = {}
        self.failure: Exception | None = None
        self.history_failure: Exception | None = None
        self.asked: list[tuple[float, ClientOrderId]] = []
        self.statements = 0
        self.fills: list[Fill] = []
        self.fills_since: list[int] = []
        self.complete = True

    async def query_order(
        self, client_order_id: ClientOrderId, venue_order_id: VenueOrderId | None = None
    ) -> OrderReport | None:
        self.asked.append((trio.current_time(), client_order_id))
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        return self.orders.get(client_order_id)

    async def load_fills(self, since_ns: int) -> FillHistory:
        self.fills_since.append(since_ns)
        await trio.lowlevel.checkpoint()
        if (failure := self.failure or self.history_failure) is not None:
            raise failure
        fills = tuple(each for each in self.fills if each.ts_event_ns >= since_ns)
        return FillHistory(fills=fills, complete=self.complete)

    async def load_account(self) -> AccountReport:
        self.statements += 1
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        return statement(self.clock.now_ns(), self.positions, self.open_orders)


@attrs.define(kw_only=True)
class Rig:
    """The engine and all it stands on; `events` is everything published, in order."""

    engine: ExecutionEngine
    bus: MessageBus
    cache: Cache
    portfolio: Portfolio
    risk: RiskEngine
    clock: VirtualClock
    entry: ScriptedEntry
    queries: ScriptedQueries
    disk: MemoryDisk
    journal: Journal
    log: Log
    copied: CopiedLog
    restored: Restored
    mint: ClientOrderIds
    events: list[tuple[str, Any]]
    faults: list[Fault]
    stale: set[InstrumentId]
    down: set[AccountId]

    def order(self, side: Side = Side.BUY, quantity: str = "1", **changes: Any) -> Order:
        terms: dict[str, Any] = {
            "client_order_id": self.mint(),
            "strategy_id": MAKER,
            "account_id": ACCOUNT,
            "instrument_id": BTC,
            "side": side,
            "order_type": OrderType.LIMIT,
            "quantity": Decimal(quantity),
            "price": Decimal(99) if side is Side.BUY else Decimal(101),
        }
        return Order(**terms | changes)

    def submit(self, order: Order | None = None, **terms: Any) -> ClientOrderId:
        order = order or self.order(**terms)
        self.bus.send("order.submit", SubmitOrder(order=order))
        return order.client_order_id

    def cancel(self, client_order_id: ClientOrderId) -> None:
        self.bus.send("order.cancel", CancelOrder(client_order_id=client_order_id))

    def modify(self, client_order_id: ClientOrderId, **terms: Decimal) -> None:
        self.bus.send("order.modify", ModifyOrder(client_order_id=client_order_id, **terms))

    def now(self, client_order_id: ClientOrderId) -> Order:
        order = self.cache.order(client_order_id)
        assert order is not None
        return order

    def names(self, client_order_id: ClientOrderId | None = None) -> list[str]:
        """The names of the order events published, of one order or all."""
        return [
            topic.split(".")[1]
            for topic, event in self.events
            if topic.startswith("order.")
            and client_order_id in (None, getattr(event, "client_order_id", None))
        ]

    def last(self, kind: type) -> Any:
        return [event for _, event in self.events if isinstance(event, kind)][-1]

    def count(self, kind: type) -> int:
        return sum(isinstance(event, kind) for _, event in self.events)

    def report(self, order: Order | ClientOrderId, status: OrderStatus, **changes: Any) -> None:
        self.engine.on_report(self.report_of(order, status, **changes))

    def report_of(
        self, order: Order | ClientOrderId, status: OrderStatus, **changes: Any
    ) -> OrderReport:
        known = order if isinstance(order, Order) else self.now(order)
        terms: dict[str, Any] = {
            "account_id": known.account_id,
            "instrument_id": known.instrument_id,
            "client_order_id": known.client_order_id,
            "venue_order_id": known.venue_order_id or VenueOrderId("v1"),
            "side": known.side,
            "price": known.price,
            "quantity": known.quantity,
            "remaining": known.remaining_quantity,
            "status": status,
            "reason": status.value,
            "ts_event_ns": self.clock.now_ns(),
            "ts_recv_ns": self.clock.now_ns(),
        }
        return OrderReport(**terms | changes)

    def fill(
        self, order: Order | ClientOrderId | None, trade_id: str, quantity: str, **changes: Any
    ) -> None:
        self.engine.on_report(self.fill_of(order, trade_id, quantity, **changes))

    def fill_of(
        self, order: Order | ClientOrderId | None, trade_id: str, quantity: str, **changes: Any
    ) -> Fill:
        known = self.now(order) if isinstance(order, str) else order
        return fill(
            trade_id,
            quantity,
            changes.pop("ts_event_ns", self.clock.now_ns()),
            client_order_id=known and known.client_order_id,
            **{"side": known.side if known else Side.BUY} | changes,
        )

    def state(self, **positions: str) -> None:
        """Hand the engine the venue's statement of the account, of this moment."""
        held = {InstrumentId(f"hl.{key}"): Decimal(value) for key, value in positions.items()}
        self.engine.on_report(statement(self.clock.now_ns(), held, self.queries.open_orders))


@asynccontextmanager
async def open_rig(
    *,
    risk: RiskConfig | None = None,
    settings: ExecutionSettings | None = None,
    seen: Seen | None = None,
    disk: MemoryDisk | None = None,
    validity_ms: int | None = 15_000,
    stated: bool = True,
    run_id: int = RUN_ID,
    entry: ScriptedEntry | None = None,
    queries: ScriptedQueries | None = None,
) -> AsyncIterator[Rig]:
    """A running engine; *stated*: the account's first statement (flat) was handed to it.

    What *disk* holds is replayed: leaving is a crash, and a second rig on it another life.
    """
    clock, bus_faults, events = VirtualClock(), [], []
    bus = MessageBus(bus_faults.append)
    for first in ("order", "position", "account", "funding", "system"):
        bus.subscribe(f"{first}.*", lambda event: events.append((_topic(event), event)))
    entry = entry or ScriptedEntry(clock, validity_ms)
    queries = queries or ScriptedQueries(clock)
    stale, down = set[InstrumentId](), set[AccountId]()
    disk = disk or MemoryDisk(sync_s=0.001)
    async with open_running_journal(disk) as opened, trio.open_nursery() as nursery:
        log, state = opened.log, opened.state
        if seen is not None:
            state.seen = seen
        cache, portfolio = state.cache, state.portfolio
        for instrument_id in (BTC, ETH):
            cache.add_instrument(instrument(instrument_id))
            cache.put_book(instrument_id, book(instrument_id))
        risk_engine = RiskEngine(cache, portfolio, risk or open_risk())
        copied = CopiedLog(log, await batches_of(disk))
        journal = Journal(copied, state)
        engine = ExecutionEngine(
            bus=bus,
            risk=risk_engine,
            journal=journal,
            clock=clock,
            entries={ACCOUNT: entry},
            queries={ACCOUNT: queries},
            slippage_bps={ACCOUNT: 100},
            settings=settings or ExecutionSettings(),
            run_id=run_id,
            is_stale=stale.__contains__,
            is_link_up=lambda account_id: account_id not in down,
        )
        restored = engine.restore()
        journal.write(
            RunStarted(
                run_id=run_id,
                version="1",
                venue="",
                accounts=(ACCOUNT,),
                embedded=False,
                ts_event_ns=0,
            )
        )
        await nursery.start(engine.run)
        rig = Rig(
            engine=engine,
            bus=bus,
            cache=cache,
            portfolio=portfolio,
            risk=risk_engine,
            clock=clock,
            entry=entry,
            queries=queries,
            disk=disk,
            journal=journal,
            log=log,
            copied=copied,
            mint=ClientOrderIds(run_id),
            restored=restored,
            events=events,
            faults=bus_faults,
            stale=stale,
            down=down,
        )
        if stated:
            rig.state()
            engine.arm()
        yield rig
        nursery.cancel_scope.cancel()
    assert not bus_faults, bus_faults


def open_risk(**changes: Any) -> RiskConfig:
    """Limits that stop nothing, but for *changes*."""
    off: dict[str, Any] = {
        "max_order_notional": None,
        "max_position_notional": None,
        "max_gross_exposure": None,
        "max_leverage": None,
        "max_daily_loss": None,
        "max_open_orders": None,
        "max_orders_per_second": None,
        "price_collar_bps": None,
    }
    return RiskConfig(**off | changes)


def instrument(instrument_id: InstrumentId) -> Instrument:
    return Instrument(
        id=instrument_id,
        venue=Venue("hl"),
        symbol=instrument_id.partition(".")[2],
        kind=InstrumentKind.PERPETUAL,
        base_currency=instrument_id.partition(".")[2],
        quote_currency="USDC",
        asset_id=0,
        price_decimals=1,
        price_figures=5,
        quantity_decimals=3,
        min_notional=Decimal(10),
    )


def book(instrument_id: InstrumentId, bid: str = "99.9", ask: str = "100.1") -> OrderBook:
    made = OrderBook(instrument_id)
    made.apply_snapshot(
        BookSnapshot(
            instrument_id=instrument_id,
            bids=_levels(bid),
            asks=_levels(ask),
            ts_event_ns=1,
            ts_recv_ns=1,
        )
    )
    return made


def fill(trade_id: str, quantity: str, ts_event_ns: int, **changes: Any) -> Fill:
    terms: dict[str, Any] = {
        "trade_id": TradeId(trade_id),
        "client_order_id": None,
        "venue_order_id": VenueOrderId("v1"),
        "account_id": ACCOUNT,
        "instrument_id": BTC,
        "side": Side.BUY,
        "price": Decimal(99),
        "quantity": Decimal(quantity),
        "fee": Decimal("0.01"),
        "fee_currency": "USDC",
        "liquidity": Liquidity.MAKER,
        "ts_event_ns": ts_event_ns,
        "ts_recv_ns": ts_event_ns,
    }
    return Fill(**terms | changes)


def statement(
    ts_ns: int,
    positions: dict[InstrumentId, Decimal],
    open_orders: Iterable[OrderReport] = (),
) -> AccountReport:
    account = Account(
        account_id=ACCOUNT,
        balances=(),
        equity=Decimal(100_000),
        margin_used=Decimal(0),
        ts_event_ns=ts_ns,
        ts_recv_ns=ts_ns,
    )
    held = tuple(
        PositionReport(
            account_id=ACCOUNT,
            instrument_id=instrument_id,
            quantity=quantity,
            average_entry_price=Decimal(100),
            ts_event_ns=ts_ns,
            ts_recv_ns=ts_ns,
        )
        for instrument_id, quantity in positions.items()
    )
    return AccountReport(account=account, positions=held, open_orders=tuple(open_orders))


async def later(seconds: float) -> None:
    """Let the virtual clock go on: everything that is due by then happens."""
    await trio.sleep(seconds)


def after(seconds: float, *outcomes: Outcome) -> Answer:
    """An answer that takes its time."""

    async def answer(_: Request) -> Sequence[Outcome]:
        await trio.sleep(seconds)
        return outcomes

    return answer


def never(detail: str = "timed out") -> Answer:
    """No answer within the venue's time-out of 10 s."""
    return after(10, Ambiguous(detail=detail))


def seconds_ns(seconds: float) -> int:
    return int(seconds * NS_PER_S)


def _levels(price: str) -> Levels:
    return Levels.of([BookLevel(Decimal(price), Decimal(10))])


def _topic(event: Any) -> str:
    if hasattr(event, "client_order_id") and hasattr(event, "strategy_id"):
        return topics.order(event)
    return type(event).__name__
