"""A life of orders through the real ledger, journalled: what replay must come back to.

Whoever uses it chooses what happens next (hypothesis, or a seeded generator).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import trio
from attrs import evolve

from zq_daemon.core.bus import Fault, MessageBus
from zq_daemon.core.synthesis import replaced_by
from zq_daemon.core.terms import Terms
from zq_daemon.engine.ledger import OrderLedger
from zq_daemon.journal.digest import digest
from zq_daemon.journal.journal import Journal, Writer
from zq_daemon.journal.recent import Recent
from zq_daemon.journal.record import (
    DayPnl,
    Intent,
    IntentKind,
    RunEnded,
    RunStarted,
    StatementAdopted,
    StrategySaved,
)
from zq_daemon.journal.state import JournalState, empty_state
from zq_daemon.model.account import Account, Balance
from zq_daemon.model.event import FundingPaid, TradingState, TradingStateChanged
from zq_daemon.model.fill import Fill, Liquidity
from zq_daemon.model.ids import (
    AccountId,
    InstrumentId,
    StrategyId,
    TradeId,
    Venue,
    VenueOrderId,
    client_order_id,
)
from zq_daemon.model.instrument import Instrument, InstrumentKind
from zq_daemon.model.market import MarkPrice, Side
from zq_daemon.model.money import ZERO
from zq_daemon.model.order import Order, OrderStatus, OrderType, Pending, TimeInForce
from zq_daemon.model.report import OrderReport, PositionReport

ACCOUNTS = (AccountId("0xaa"), AccountId("0xbb"))
STRATEGIES = (StrategyId("maker"), StrategyId("cross"))
INSTRUMENTS = (InstrumentId("hl.BTC"), InstrumentId("hl.ETH"))
NS_PER_HOUR = 3_600_000_000_000

Choose = Callable[[int], int]
"""A number from 0 to n - 1."""


class ListLog:
    """A log that keeps its records, all durable at once."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.has_room = True

    def write(self, payload: bytes) -> int:
        self.payloads.append(payload)
        return len(self.payloads)

    async def durable(self, sequence: int | None = None) -> None:
        return None

    async def room(self) -> None:
        return None

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()

    def close(self) -> None:
        return None


class SteppedClock:
    """Advances a bit whenever it is read."""

    def __init__(self) -> None:
        self.ns = 1_700_000_000 * 10**9

    def now_ns(self) -> int:
        self.ns += 1_000
        return self.ns

    def monotonic_ns(self) -> int:
        return self.ns


class Life:
    """Steps of a daemon that trades; *points* has the digest after the records it is true of."""

    def __init__(
        self,
        choose: Choose,
        *,
        log: Writer | None = None,
        state: JournalState | None = None,
        closed_orders: int = 3,
        run_id: int = 1,
        digests: bool = True,
        recent: Recent | None = None,
    ) -> None:
        self.log = ListLog()
        self.state = empty_state(closed_orders=closed_orders) if state is None else state
        writer: Writer = self.log if log is None else log
        self.journal = Journal(writer, self.state, recent=recent)
        self.clock = SteppedClock()
        bus = MessageBus(_no_fault)
        self.ledger = OrderLedger(bus, self.journal, self.clock)
        self.ledger.on_change(lambda _, order: self.state.terms.settle(order))
        self.points: dict[int, str] = {}
        self._choose = choose
        self._digests = digests
        self._counter = self._venue_ids = 0
        self._nonce = max(self.state.nonces.values(), default=1_000)
        self._run_id = run_id
        for instrument_id in INSTRUMENTS:
            self.state.cache.add_instrument(an_instrument(instrument_id))
        self._start_run()

    def step(self) -> None:
        """One thing happens, if it can."""
        every = (
            *(self._submit, self._submit, self._accept, self._accept, self._fill, self._fill),
            *(
                self._cancel,
                self._modify,
                self._modify,
                self._replace,
                self._replace,
                self._replace,
            ),
            *(self._refuse, self._reject, self._late),
            *(self._deny, self._external, self._fund, self._adopt, self._account, self._note),
            *(self._time, self._restart, self._reopen, self._agree),
        )
        every[self._choose(len(every))]()
        self.mark()

    def mark(self) -> None:
        """What the state is after the last record."""
        if self._digests:
            self.points[self.state.sequence] = digest(self.state)

    def _start_run(self) -> None:
        self.journal.write(
            RunStarted(
                run_id=self._run_id,
                version="test",
                venue="test",
                accounts=ACCOUNTS if self._run_id % 2 else ACCOUNTS[::-1],
                embedded=self._run_id % 3 == 0,
                ended=self.state.ended_accounts(),
                ts_event_ns=self.clock.now_ns(),
            )
        )
        self.mark()

    def _restart(self) -> None:
        ended = RunEnded(
            run_id=self._run_id, cancelled=1, left=0, unverified=0, ts_event_ns=self.clock.now_ns()
        )
        self.journal.write(ended)
        self.mark()
        if self._choose(2):
            self._run_id += 1
            self._start_run()

    def _time(self) -> None:
        self.clock.ns += (1 + self._choose(12)) * NS_PER_HOUR

    def _submit(self) -> None:
        order = self._track()
        self.mark()
        if self._choose(8):
            self._intend("submit", order)
            self.mark()
            if self._choose(8):
                order = self.ledger.depart(order, self._nonce, self.clock.ns + 15 * 10**9)
                if not self._choose(8):
                    self.mark()
                    self.ledger.hold(order)

    def _track(self) -> Order:
        self._counter += 1
        order_type = (OrderType.LIMIT, OrderType.LIMIT, OrderType.STOP_LIMIT)[self._choose(3)]
        is_exit = order_type.is_trigger and self._counter > 1 and self._choose(2)
        order = Order(
            client_order_id=client_order_id(self._run_id, self._counter),
            strategy_id=STRATEGIES[self._choose(2)],
            account_id=ACCOUNTS[self._choose(2)],
            instrument_id=INSTRUMENTS[self._choose(2)],
            side=list(Side)[self._choose(2)],
            order_type=order_type,
            quantity=Decimal(1 + self._choose(5)),
            price=Decimal(100 + self._choose(7)) / 8,
            trigger_price=Decimal(100 + self._choose(7)) / 4 if order_type.is_trigger else None,
            parent_id=client_order_id(self._run_id, self._counter - 1) if is_exit else None,
            time_in_force=list(TimeInForce)[self._choose(2)],
            ts_init_ns=self.clock.now_ns(),
        )
        self.ledger.track(order)
        return order

    def _intend(self, kind: IntentKind, order: Order, terms: Terms | None = None) -> None:
        self._nonce += 1 + self._choose(3)
        self.journal.write_intent(
            Intent(
                kind=kind,
                run_id=self._run_id,
                account_id=order.account_id,
                strategy_id=order.strategy_id,
                instrument_id=order.instrument_id,
                client_order_id=order.client_order_id,
                venue_order_id=order.venue_order_id,
                side=order.side,
                order_type=order.order_type,
                time_in_force=order.time_in_force,
                post_only=order.post_only,
                reduce_only=order.reduce_only,
                price=order.price if terms is None else terms.price,
                trigger_price=order.trigger_price,
                quantity=order.quantity if terms is None else terms.quantity,
                nonce=self._nonce,
                expires_ns=None,
                action_hash="ab",
                ts_event_ns=self.clock.now_ns(),
            )
        )

    def _accept(self) -> None:
        if (order := self._some_live(lambda order: not order.venue_order_ids)) is not None:
            self.ledger.accept(order, self._new_venue_id())

    def _fill(self) -> None:
        order = self._some_live(lambda order: order.venue_order_id is not None)
        if order is not None and order.venue_order_id is not None:
            self._fill_of(order, [*order.venue_order_ids, order.venue_order_id])

    def _late(self) -> None:
        """A fill, or the acknowledgement, of an order that had ended."""
        closed = tuple(self.state.cache.orders_closed())
        if closed:
            order = closed[self._choose(len(closed))]
            if self._choose(2) and not order.venue_order_ids:
                self.ledger.accept(order, self._new_venue_id())
            elif order.status is not OrderStatus.DENIED:
                self._fill_of(order, [order.venue_order_id or self._new_venue_id()])

    def _fill_of(self, order: Order, venue_order_ids: list[VenueOrderId]) -> None:
        most = max(int(order.remaining_quantity), 1)
        fill = evolve(
            self._new_fill(order.account_id, order.instrument_id),
            venue_order_id=venue_order_ids[self._choose(len(venue_order_ids))],
            client_order_id=order.client_order_id,
            side=order.side,
            price=order.price or Decimal(1),
            quantity=Decimal(1 + self._choose(most)),
        )
        asked = self.state.terms.get(order.client_order_id)
        if asked is not None and fill.venue_order_id in order.venue_order_ids:
            self.state.terms.fill(order, fill, replaced_by(order, fill))
        self.ledger.fill(order, fill, stated=self.state.is_adopted(fill))
        self.mark()
        if not self._choose(4):  # once more: nothing new
            self.ledger.fill(self.state.cache.order(order.client_order_id) or order, fill)

    def _cancel(self) -> None:
        if (order := self._some_live()) is not None:
            order = self.ledger.pend(order, Pending.CANCEL)
            self.mark()
            self._intend("cancel", order)
            self.mark()
            if self._choose(3):
                self.ledger.cancel(order, "asked")

    def _modify(self) -> None:
        order = self._some_live(lambda order: order.is_open and order.pending is None)
        if order is None:
            return
        terms = Terms(Decimal(50 + self._choose(9)), Decimal(1 + self._choose(9)))
        self.state.terms.ask(order, terms)
        order = self.ledger.pend(order, Pending.MODIFY, terms.quantity)
        self.mark()
        if self._choose(4):
            self.state.terms.sign(order)
            self._intend("modify", order, terms)

    def _replace(self) -> None:
        """The venue answers a modification: the old id ends, the new one lives, in any order."""
        order = self._some_live(lambda order: order.pending is Pending.MODIFY)
        if order is None or (asked := self.state.terms.get(order.client_order_id)) is None:
            return
        new = self._new_venue_id()
        if self._choose(2):
            order = self.ledger.close(order, _canceled(order, order.venue_order_id or new))
            self.mark()
        if self._choose(3):
            total = asked.total_under(new, order)
            self.ledger.modify(order, new, asked.price, total)
        else:
            self.ledger.refuse(order, Pending.MODIFY, "NO", "refused")

    def _refuse(self) -> None:
        if (order := self._some_live()) is not None:
            pending = list(Pending)[self._choose(2)]
            if self._choose(2):
                self.ledger.decline(order, pending, "NO", "not begun")
            else:
                self.ledger.refuse(order, pending, "NO", "refused")

    def _reject(self) -> None:
        if (order := self._some_live()) is not None and not order.venue_order_ids:
            if self._choose(2):
                self.ledger.reject(order, "NO", "bad")
            else:
                self.ledger.expire(order, "never seen")

    def _deny(self) -> None:
        order = self._track() if self._choose(2) else self._untracked()
        self.ledger.deny(order, "LIMIT", "too much")

    def _untracked(self) -> Order:
        self._counter += 1
        return Order(
            client_order_id=client_order_id(self._run_id, self._counter),
            strategy_id=STRATEGIES[0],
            account_id=ACCOUNTS[0],
            instrument_id=INSTRUMENTS[0],
            side=Side.BUY,
            order_type=OrderType.MARKET,
            quantity=Decimal(1),
        )

    def _external(self) -> None:
        account_id, instrument_id = ACCOUNTS[self._choose(2)], INSTRUMENTS[self._choose(2)]
        self.ledger.fill_external(self._new_fill(account_id, instrument_id))

    def _fund(self) -> None:
        self.ledger.fund(
            FundingPaid(
                account_id=ACCOUNTS[self._choose(2)],
                instrument_id=INSTRUMENTS[self._choose(2)],
                amount=Decimal(self._choose(5)) - 2,
                rate=Decimal("0.0001"),
                ts_event_ns=self.clock.now_ns(),
            )
        )

    def _adopt(self) -> None:
        account_id, now_ns = ACCOUNTS[self._choose(2)], self.clock.now_ns()
        quantity = Decimal(self._choose(5) - 2)
        report = PositionReport(
            account_id=account_id,
            instrument_id=INSTRUMENTS[self._choose(2)],
            quantity=quantity,
            average_entry_price=Decimal("33.3") if quantity else None,
            ts_event_ns=now_ns,
            ts_recv_ns=now_ns,
        )
        self.ledger.adopt_statement(
            StatementAdopted(
                whole=bool(self._choose(2)),
                account_id=account_id,
                positions=(report,) if self._choose(3) else (),
                reason="test",
                ts_event_ns=now_ns,
            )
        )

    def _agree(self) -> None:
        self.ledger.agree(ACCOUNTS[self._choose(2)], self.clock.now_ns())

    def _reopen(self) -> None:
        closed = sorted(self.state.cache.orders_closed(), key=lambda one: one.client_order_id)
        if closed:
            order = closed[self._choose(len(closed))]
            venue_order_id = order.venue_order_id or self._new_venue_id()
            report = evolve(_canceled(order, venue_order_id), status=OrderStatus.ACCEPTED)
            self.ledger.reopen(order, evolve(report, remaining=Decimal(1 + self._choose(3))))

    def _account(self) -> None:
        now_ns = self.clock.now_ns() - self._choose(3) * 10**6  # sometimes an old statement
        self.ledger.state_account(
            Account(
                account_id=ACCOUNTS[self._choose(2)],
                balances=(Balance(currency="USDC", total=Decimal(9), free=ZERO),),
                equity=Decimal(self._choose(1_000)),
                margin_used=ZERO,
                ts_event_ns=now_ns,
                ts_recv_ns=now_ns,
            )
        )

    def _note(self) -> None:
        now_ns = self.clock.now_ns()
        match self._choose(3):
            case 0:
                state = list(TradingState)[self._choose(3)]
                self.journal.write(
                    TradingStateChanged(state=state, reason="test", ts_event_ns=now_ns)
                )
            case 1:
                self._measure_day(ACCOUNTS[self._choose(2)], now_ns)
            case _:
                self.journal.write(
                    StrategySaved(
                        strategy_id=STRATEGIES[0],
                        version=1,
                        data={"b": [self._choose(9)], "a": None},
                        ts_event_ns=now_ns,
                    )
                )

    def _measure_day(self, account_id: AccountId, now_ns: int) -> None:
        """A mark moves, which the journal learns of only here."""
        mark = MarkPrice(
            instrument_id=INSTRUMENTS[self._choose(2)],
            mark_price=Decimal(1 + self._choose(100)) / 4,
            oracle_price=None,
            funding_rate=None,
            open_interest=None,
            ts_event_ns=now_ns,
            ts_recv_ns=now_ns,
        )
        self.state.cache.put_mark(mark)
        portfolio = self.state.portfolio
        self.journal.write(
            DayPnl(
                account_id=account_id,
                amount=portfolio.day_pnl(account_id, now_ns),
                accepted=Decimal(-self._choose(9)) if self._choose(2) else None,
                measured=portfolio.measured_day(account_id),
                ts_event_ns=now_ns,
            )
        )

    def _some_live(self, fits: Callable[[Order], bool] = lambda _: True) -> Order | None:
        found = filter(fits, self.state.cache.orders_live())
        live = sorted(found, key=lambda order: order.client_order_id)
        return live[self._choose(len(live))] if live else None

    def _new_venue_id(self) -> VenueOrderId:
        self._venue_ids += 1
        return VenueOrderId(f"{self._run_id}{self._venue_ids:03}")

    def _new_fill(self, account_id: AccountId, instrument_id: InstrumentId) -> Fill:
        now_ns = self.clock.now_ns()
        return Fill(
            trade_id=TradeId(f"t{now_ns}"),
            client_order_id=None,
            venue_order_id=VenueOrderId("9" * 12),
            account_id=account_id,
            instrument_id=instrument_id,
            side=list(Side)[self._choose(2)],
            price=Decimal(100 + self._choose(9)) / 7 if self._choose(2) else Decimal("100.25"),
            quantity=Decimal(1 + self._choose(4)),
            fee=Decimal(self._choose(5) - 1) / 1_000,
            fee_currency=("USDC", "HYPE")[self._choose(4) == 0],
            liquidity=Liquidity.MAKER,
            ts_event_ns=now_ns,
            ts_recv_ns=now_ns,
        )


def an_instrument(instrument_id: InstrumentId) -> Instrument:
    """Quoted in USDC."""
    return Instrument(
        id=instrument_id,
        venue=Venue("hl"),
        symbol=instrument_id.partition(".")[2],
        kind=InstrumentKind.PERPETUAL,
        base_currency=instrument_id.partition(".")[2],
        quote_currency="USDC",
        asset_id=0,
        price_decimals=6,
        price_figures=5,
        quantity_decimals=2,
        min_notional=Decimal(10),
    )


def _canceled(order: Order, venue_order_id: VenueOrderId) -> OrderReport:
    return OrderReport(
        account_id=order.account_id,
        instrument_id=order.instrument_id,
        client_order_id=order.client_order_id,
        venue_order_id=venue_order_id,
        side=order.side,
        price=order.price or ZERO,
        quantity=order.quantity,
        remaining=ZERO,
        status=OrderStatus.CANCELED,
        reason="canceled",
        ts_event_ns=1,
        ts_recv_ns=1,
    )


def _no_fault(fault: Fault) -> None:
    raise AssertionError(fault)
