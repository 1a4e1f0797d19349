"""A strategy host over a real bus, cache and portfolio; orders are taken down, not sent."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from tests.service.execution_rig import ACCOUNT, BTC, ETH, RUN_ID, book, fill, instrument
from zq_daemon.config.schema import StrategyConfig
from zq_daemon.core import topics
from zq_daemon.core.bus import Fault, MessageBus
from zq_daemon.core.cache import Cache
from zq_daemon.core.order_state import apply
from zq_daemon.core.portfolio import Portfolio
from zq_daemon.engine.client_order_ids import ClientOrderIds
from zq_daemon.journal.record import StrategySaved
from zq_daemon.model.bar import Bar, BarSpec
from zq_daemon.model.command import SubmitOrder
from zq_daemon.model.event import (
    OrderAccepted,
    OrderCanceled,
    OrderDenied,
    OrderExpired,
    OrderFilled,
    OrderModified,
    OrderPendingRejected,
    Tick,
)
from zq_daemon.model.ids import InstrumentId, StrategyId, Venue, VenueOrderId
from zq_daemon.model.market import Side, Trade
from zq_daemon.model.order import Order, Pending
from zq_daemon.strategy.base import Strategy
from zq_daemon.strategy.host import StrategyHost

MINUTE = BarSpec.parse("1m")


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.wall_ns = 1_700_000_000_000_000_000
        self.steady_ns = 0

    def now_ns(self) -> int:
        return self.wall_ns

    def monotonic_ns(self) -> int:
        return self.steady_ns

    def move_ms(self, duration_ms: int) -> None:
        self.wall_ns += duration_ms * 1_000_000
        self.steady_ns += duration_ms * 1_000_000


class Rig:
    """The host and what it stands on; `commands` is what strategies asked for."""

    def __init__(self, former: Rig | None = None) -> None:
        """With *former* it is the run after that one, which left orders, positions and states."""
        self.faults: list[Fault] = []
        self.bus = MessageBus(self._on_fault)
        self.cache: Cache = Cache() if former is None else former.cache
        for instrument_id in (BTC, ETH):
            self.cache.add_instrument(instrument(instrument_id))
            self.cache.put_book(instrument_id, book(instrument_id))
        self.portfolio: Portfolio = (
            Portfolio(marks=self.cache.mid_or_mark, instruments=self.cache.instrument)
            if former is None
            else former.portfolio
        )
        self.saved: list[StrategySaved] = []
        self.has_room = True
        self.journal: dict[StrategyId, StrategySaved] = (
            {} if former is None else dict(former.journal)
        )
        self.clock = ManualClock()
        self.run_id: int = RUN_ID if former is None else former.run_id + 1
        self.bars: list[tuple[InstrumentId, BarSpec]] = []
        self.commands: list[Any] = []
        self.health: list[Any] = []
        self.host = StrategyHost(
            bus=self.bus,
            cache=self.cache,
            portfolio=self.portfolio,
            clock=self.clock,
            accounts={Venue("hl"): ACCOUNT},
            mint=ClientOrderIds(self.run_id),
            add_bars=lambda iid, spec: self.bars.append((iid, spec)),
            save=self._save,
            has_room=lambda: self.has_room,
            saved=self.journal,
        )
        self.bus.handle("order.submit", self._submit, owner="execution")
        for name in ("submit_bracket", "cancel", "modify", "cancel_all"):
            self.bus.handle(f"order.{name}", self.commands.append, owner="execution")
        self.bus.subscribe("system.health.*", self.health.append)
        self.trades: int = 0 if former is None else former.trades
        self.react: Callable[[Order], None] = lambda _: None

    def load(self, *configs: StrategyConfig) -> None:
        self.host.load(configs)

    def strategy(self, name: str) -> Any:
        return {str(key): value for key, value in self.host.strategies().items()}[name]

    def asked(self, kind: type) -> list[Any]:
        return [command for command in self.commands if isinstance(command, kind)]

    @property
    def submitted(self) -> list[Order]:
        return [command.order for command in self.asked(SubmitOrder)]

    def publish_trade(self, price: str = "100", instrument_id: InstrumentId = BTC) -> None:
        self.trades += 1
        trade = Trade(
            instrument_id=instrument_id,
            price=Decimal(price),
            quantity=Decimal(1),
            aggressor=Side.BUY,
            trade_id=str(self.trades),  # type: ignore[arg-type]
            ts_event_ns=1,
            ts_recv_ns=1,
        )
        self.bus.publish(topics.trade(instrument_id), trade)

    def publish_bar(
        self, close: str, instrument_id: InstrumentId = BTC, spec: BarSpec = MINUTE
    ) -> None:
        price = Decimal(close)
        bar = Bar(
            instrument_id=instrument_id,
            spec=spec,
            open=price,
            high=price,
            low=price,
            close=price,
            volume=Decimal(1),
            notional=price,
            trades=1,
            ts_open_ns=0,
            ts_close_ns=1,
            ts_event_ns=1,
            ts_recv_ns=1,
        )
        self.bus.publish(topics.bar(instrument_id, spec), bar)

    def tick(self) -> None:
        tick = Tick(count=1, missed=0, ts_event_ns=1, ts_monotonic_ns=1)
        self.bus.publish(topics.TICK, tick)

    def pass_time(self, duration_ms: int) -> None:
        self.clock.move_ms(duration_ms)
        self.host.on_clock(self.clock.now_ns())

    def accept(self, order: Order) -> None:
        self._apply(order, OrderAccepted, venue_order_id=VenueOrderId(order.client_order_id))

    def cancel(self, order: Order) -> None:
        self._apply(order, OrderCanceled, venue_order_id=None, reason="as requested")

    def expire(self, order: Order) -> None:
        self._apply(order, OrderExpired, venue_order_id=None, reason="not heard of")

    def deny(self, order: Order, code: str = "CODE") -> None:
        self._apply(order, OrderDenied, code=code, reason="reason")

    def fill_of_others(self, quantity: str, side: Side, instrument_id: InstrumentId = BTC) -> None:
        """Somebody else trades on the account."""
        self.trades += 1
        made = fill(f"f{self.trades}", quantity, 1, instrument_id=instrument_id, side=side)
        self.portfolio.on_fill(made, None)

    def modified(self, order: Order, price: Decimal) -> None:
        self._apply(
            order,
            OrderModified,
            venue_order_id=VenueOrderId(f"{order.client_order_id}+"),
            price=price,
            quantity=order.quantity,
        )

    def cancel_rejected(self, order: Order) -> None:
        terms = {"pending": Pending.CANCEL, "code": "no", "reason": "no"}
        self._apply(order, OrderPendingRejected, **terms)

    def modify_rejected(self, order: Order) -> None:
        self._apply(
            order, OrderPendingRejected, pending=Pending.MODIFY, code="CODE", reason="reason"
        )

    def fill(self, order: Order, quantity: str, price: str = "100") -> None:
        self.trades += 1
        made = fill(
            f"f{self.trades}",
            quantity,
            1,
            client_order_id=order.client_order_id,
            instrument_id=order.instrument_id,
            side=order.side,
            price=Decimal(price),
            venue_order_id=VenueOrderId(order.client_order_id),
        )
        self.portfolio.on_fill(made, order.strategy_id)
        self._apply(order, OrderFilled, fill=made)

    def _apply(self, order: Order, event_class: Any, **terms: Any) -> None:
        event = event_class(
            client_order_id=order.client_order_id,
            strategy_id=order.strategy_id,
            instrument_id=order.instrument_id,
            ts_event_ns=1,
            **terms,
        )
        known = self.cache.order(order.client_order_id)
        assert known is not None
        self.cache.put_order(apply(known, event))
        self.bus.publish(topics.order(event), event)

    def _save(self, record: StrategySaved) -> None:
        """The journal: a record is read back as what its JSON says."""
        self.saved.append(record)
        read = msgspec.json.decode(msgspec.json.encode(record), type=StrategySaved)
        self.journal[record.strategy_id] = read

    def _submit(self, command: SubmitOrder) -> None:
        self.commands.append(command)
        self.cache.put_order(command.order)
        self.react(command.order)

    def _on_fault(self, fault: Fault) -> None:
        self.faults.append(fault)
        assert self.host.on_fault(fault), fault


def config(cls: type[Strategy], name: str = "mine", **changes: Any) -> StrategyConfig:
    terms: dict[str, Any] = {
        "name": name,
        "use": f"{cls.__module__}:{cls.__qualname__}",
        "instruments": (BTC,),
        "bars": ("1m",),
        "params": {},
    }
    return StrategyConfig(**terms | changes)
