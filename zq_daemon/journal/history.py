"""The history for people: orders, fills and P&L by day, as tables that any tool can read.

Owns how records become rows. It is derived from the journal and can be deleted or built again at
any time; nothing of the daemon reads it. All of one batch and the sequence it goes to are one
transaction, so that a batch is never applied twice. The sums come from the same exact arithmetic
that the daemon trades with. Everything here runs in the database port's thread.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import msgspec
from attrs import define, evolve

from zq_daemon.core.order_state import apply
from zq_daemon.core.portfolio import Portfolio
from zq_daemon.core.synthesis import undone
from zq_daemon.errors import JournalDamagedError, JournalError, OrderError
from zq_daemon.journal import codec
from zq_daemon.journal.history_schema import (
    day_text,
    plain,
    position_row,
    prepare,
    put,
    stored_ns,
    time_text,
)
from zq_daemon.journal.record import ExternalFill, InstrumentKnown, RunStarted, StatementAdopted
from zq_daemon.model.event import FundingPaid, OrderEvent, OrderFilled, OrderInitialized
from zq_daemon.model.fill import Fill
from zq_daemon.model.ids import AccountId, ClientOrderId, InstrumentId, StrategyId
from zq_daemon.model.instrument import Instrument
from zq_daemon.model.money import EXACT, ROUNDED, ZERO
from zq_daemon.model.order import Order
from zq_daemon.model.position import Position

_ORDERS = 4_096
"""Orders kept in memory; others are read from the table again when a record is about them."""
_DAYS = 1_024
_AVERAGE = Decimal("1E-12")
"""Average prices have no last digit: they are cut here."""

_encoder = msgspec.json.Encoder(order="deterministic")

_DayKey = tuple[AccountId, str, InstrumentId]


@define
class _Tracked:
    order: Order
    created_ns: int
    closed_ns: int | None = None


@define
class _Day:
    realised: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    volume: Decimal = ZERO
    fills: int = 0


class History:
    """The tables of one connection; after any exception of `apply` open another one."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Raises sqlite3.DatabaseError when the file has to be built again."""
        self.sequence = prepare(connection)
        self._connection = connection
        self._orders: OrderedDict[ClientOrderId, _Tracked] = OrderedDict()
        self._instruments: dict[InstrumentId, Instrument] = {}
        self._portfolio = Portfolio(marks=lambda _: None, instruments=self._instruments.get)
        self._days: OrderedDict[_DayKey, _Day] = OrderedDict()
        self._changed_orders: dict[ClientOrderId, _Tracked] = {}
        self._changed_days: dict[_DayKey, _Day] = {}
        self._changed_positions: dict[tuple[AccountId, InstrumentId], Position] = {}
        self._new_fills: list[Sequence[object]] = []
        self._load()

    def apply(self, first_sequence: int, payloads: Sequence[bytes]) -> int:
        """Take the next records; returns the last one applied. Those that were are passed over.

        JournalDamagedError, naming it, for a record that cannot be read; sqlite3.Error.
        """
        new = payloads[max(self.sequence + 1 - first_sequence, 0) :]
        if not new:
            return self.sequence
        first = number = first_sequence + len(payloads) - len(new)
        with _transaction(self._connection):
            try:
                for number, payload in enumerate(new, first):
                    self._take(number, codec.decode(payload))
            except (JournalError, OrderError) as error:
                raise JournalDamagedError(f"journal: record {number}: {error}") from error
            self._write(number)
        self._settle(number)
        return self.sequence

    def _take(self, number: int, record: object) -> None:
        match record:
            case OrderInitialized():
                found = self._orders[record.client_order_id] = _Tracked(
                    record.order, record.ts_event_ns
                )
                self._changed_orders[record.client_order_id] = found
            case OrderFilled():
                self._follow(record)
                about = record.strategy_id, record.client_order_id
                if record.replaces is not None:
                    self._take_back(number, record, record.replaces)
                self._fill(number, record.fill, *about, stated=record.stated)
            case ExternalFill():
                self._fill(number, record.fill, None, record.fill.client_order_id)
            case FundingPaid():
                self._fund(record)
            case StatementAdopted():
                for report in record.positions:
                    self._move(self._portfolio.set_position(report))
            case RunStarted():
                for account_id in record.ended:
                    for position in self._portfolio.end_positions(account_id):
                        self._move(position)
            case InstrumentKnown():
                instrument = record.instrument
                self._instruments[instrument.id] = instrument
                terms = msgspec.json.encode(instrument)
                put(self._connection, "instruments", [(instrument.id, terms)])
            case _:
                if isinstance(record, OrderEvent):
                    self._follow(record)

    def _follow(self, event: OrderEvent) -> None:
        """An event of an order; one whose beginning was lost with accepted damage is left out."""
        tracked = self._tracked(event.client_order_id)
        if tracked is None:
            return
        before, tracked.order = tracked.order, apply(tracked.order, event)
        if not tracked.order.is_closed:
            tracked.closed_ns = None
        elif not before.is_closed:
            tracked.closed_ns = event.ts_event_ns
        self._changed_orders[event.client_order_id] = tracked

    def _fill(
        self,
        number: int,
        fill: Fill,
        strategy_id: StrategyId | None,
        client_order_id: ClientOrderId | None,
        *,
        stated: bool = False,
        undoes_ns: int | None = None,
    ) -> None:
        """Book *fill*; *undoes_ns*: it takes a synthetic one of that time back, on its day."""
        before = self._portfolio.position(fill.account_id, fill.instrument_id)
        after = self._portfolio.on_fill(fill, None, stated=stated)
        self._move(after)
        realised = EXACT.subtract(after.realized_pnl, before.realized_pnl)
        day_ns, sign = (fill.ts_event_ns, 1) if undoes_ns is None else (undoes_ns, -1)
        day = self._day(fill.account_id, day_ns, fill.instrument_id)
        day.realised = EXACT.add(day.realised, realised)
        day.fees = EXACT.add(day.fees, EXACT.subtract(after.fees, before.fees))
        day.volume = EXACT.add(day.volume, EXACT.multiply(fill.notional, Decimal(sign)))
        day.fills += not fill.is_synthetic
        named = evolve(fill, client_order_id=client_order_id)
        self._new_fills.append(_fill_row(number, named, strategy_id, realised))

    def _take_back(self, number: int, record: OrderFilled, replaced: Fill) -> None:
        """A real fill came for a synthetic one, which was no volume, on whatever day it was."""
        put(self._connection, "fills", self._new_fills)  # it may be among them
        self._new_fills = []
        row = self._connection.execute(
            "SELECT time_ns FROM fills WHERE client_order_id = ? AND trade_id = ? "
            "ORDER BY sequence LIMIT 1",
            (record.client_order_id, replaced.trade_id),
        ).fetchone()
        time_ns = replaced.ts_event_ns if row is None else row[0]
        about = record.strategy_id, record.client_order_id
        self._fill(number, undone(replaced), *about, stated=record.stated, undoes_ns=time_ns)

    def _fund(self, funding: FundingPaid) -> None:
        self._move(self._portfolio.on_funding(funding))
        day = self._day(funding.account_id, funding.ts_event_ns, funding.instrument_id)
        day.funding = EXACT.add(day.funding, funding.amount)

    def _move(self, position: Position) -> None:
        self._changed_positions[position.account_id, position.instrument_id] = position

    def _write(self, number: int) -> None:
        """Everything that changed, in one transaction."""
        connection = self._connection
        put(connection, "orders", [_order_row(each) for each in self._changed_orders.values()])
        put(connection, "fills", self._new_fills)
        put(
            connection,
            "pnl_by_day",
            [_day_row(key, day) for key, day in self._changed_days.items()],
        )
        moved = self._changed_positions.values()
        put(connection, "positions", [position_row(each) for each in moved])
        connection.execute("UPDATE meta SET value = ? WHERE key = 'sequence'", (str(number),))

    def _settle(self, number: int) -> None:
        """What was written is no change any more; memory stays small."""
        self.sequence = number
        self._changed_orders, self._changed_days, self._changed_positions = {}, {}, {}
        self._new_fills = []
        _bound(self._orders, _ORDERS)
        _bound(self._days, _DAYS)

    def _tracked(self, client_order_id: ClientOrderId) -> _Tracked | None:
        found = self._orders.get(client_order_id)
        if found is not None:
            self._orders.move_to_end(client_order_id)
            return found
        row = self._connection.execute(
            "SELECT state, created_ns, closed_ns FROM orders WHERE client_order_id = ?",
            (client_order_id,),
        ).fetchone()
        if row is None:
            return None
        found = _Tracked(msgspec.json.decode(row[0], type=Order), row[1], row[2])
        self._orders[client_order_id] = found
        return found

    def _day(self, account_id: AccountId, ts_ns: int, instrument_id: InstrumentId) -> _Day:
        key = account_id, day_text(ts_ns), instrument_id
        day = self._days.get(key)
        if day is None:
            row = self._connection.execute(
                "SELECT realised, fees, funding, volume, fills FROM pnl_by_day "
                "WHERE account = ? AND day = ? AND instrument = ?",
                key,
            ).fetchone()
            *sums, fills = row or (0, 0, 0, 0, 0)
            realised, fees, funding, volume = map(Decimal, sums)
            day = self._days[key] = _Day(realised, fees, funding, volume, fills)
        self._changed_days[key] = day
        return day

    def _load(self) -> None:
        """What was known when it was last written."""
        connection = self._connection
        for (terms,) in connection.execute("SELECT terms FROM instruments"):
            instrument = msgspec.json.decode(terms, type=Instrument)
            self._instruments[instrument.id] = instrument
        rows = connection.execute(
            "SELECT account, instrument, quantity, cost, realised, fees, funding, updated_ns "
            "FROM positions"
        )
        for account, instrument_id, *amounts, ts_ns in rows:
            quantity, cost, realised, fees, funding = map(Decimal, amounts)
            position = Position(
                account_id=account,
                instrument_id=instrument_id,
                quantity=quantity,
                cost=cost,
                realized_pnl=realised,
                fees=fees,
                funding=funding,
                ts_last_ns=ts_ns,
            )
            self._portfolio.restore_position(position, None)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _bound(kept: OrderedDict[Any, Any], limit: int) -> None:
    """Forget the oldest of too many; they are in the tables."""
    while len(kept) > limit:
        kept.popitem(last=False)


def _order_row(tracked: _Tracked) -> tuple[object, ...]:
    order, closed_ns = tracked.order, tracked.closed_ns
    return (
        order.client_order_id,
        order.client_order_id[2:18],
        order.strategy_id,
        order.account_id,
        order.instrument_id,
        order.side.value,
        order.order_type.value,
        order.time_in_force.value,
        int(order.post_only),
        int(order.reduce_only),
        None if order.price is None else plain(order.price),
        None if order.trigger_price is None else plain(order.trigger_price),
        plain(order.quantity),
        plain(order.filled_quantity),
        _average(order),
        plain(order.fees),
        order.status.value,
        order.reason,
        order.venue_order_id,
        time_text(tracked.created_ns),
        stored_ns(tracked.created_ns),
        time_text(order.ts_last_ns),
        stored_ns(order.ts_last_ns),
        None if closed_ns is None else time_text(closed_ns),
        None if closed_ns is None else stored_ns(closed_ns),
        _encoder.encode(order),
    )


def _average(order: Order) -> str | None:
    if not order.filled_quantity:
        return None
    average = ROUNDED.divide(order.filled_notional, order.filled_quantity)
    return plain(average.quantize(_AVERAGE, context=ROUNDED).normalize(ROUNDED))


def _fill_row(
    number: int, fill: Fill, strategy_id: StrategyId | None, realised: Decimal
) -> tuple[object, ...]:
    return (
        number,
        time_text(fill.ts_event_ns),
        stored_ns(fill.ts_event_ns),
        fill.account_id,
        strategy_id,
        fill.instrument_id,
        fill.side.value,
        plain(fill.price),
        plain(fill.quantity),
        plain(fill.notional),
        plain(fill.fee),
        fill.fee_currency,
        fill.liquidity.value,
        plain(realised),
        fill.trade_id,
        fill.client_order_id,
        fill.venue_order_id,
        int(fill.is_synthetic),
    )


def _day_row(key: _DayKey, day: _Day) -> tuple[object, ...]:
    net = EXACT.add(EXACT.subtract(day.realised, day.fees), day.funding)
    sums = (day.realised, day.fees, day.funding, net, day.volume)
    return (*key, *map(plain, sums), day.fills)
