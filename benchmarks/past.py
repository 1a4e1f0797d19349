"""A past of orders, journalled by the daemon's own ledger: what a start has to go through.

Of ten orders seven are cancelled, one of them after a modification; two are filled, each in two
parts and by an order of the other side soon after; one is refused. Between them come statements of
the account. All have ended at the end, and no position is left: an exchange that has never heard of
any of them agrees.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from benchmarks import values
from zq_daemon.core.bus import Fault, MessageBus
from zq_daemon.core.terms import Terms
from zq_daemon.engine.client_order_ids import ClientOrderIds
from zq_daemon.engine.ledger import OrderLedger
from zq_daemon.journal.journal import Journal
from zq_daemon.journal.record import Intent, IntentKind, OrderRecord, RunEnded, RunStarted
from zq_daemon.model.account import Account
from zq_daemon.model.event import (
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderInitialized,
    OrderJournalled,
    OrderPending,
    OrderSubmitted,
)
from zq_daemon.model.fill import Fill, Liquidity
from zq_daemon.model.ids import AccountId, StrategyId, TradeId, VenueOrderId
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderType, Pending
from zq_daemon.ports.clock import SystemClock

_STRATEGIES = (StrategyId("maker"), StrategyId("cross"))
_STATEMENT_EVERY = 100
_VALIDITY_NS = 60_000_000_000


class Past:
    """Writes order after order to *journal*, for the account *account_id*."""

    def __init__(self, journal: Journal, account_id: AccountId, venue: str, run_id: int) -> None:
        journal.state.cache.add_instrument(values.instrument())
        self._journal = journal
        self._state = journal.state
        self._clock = SystemClock()
        self._ledger = OrderLedger(MessageBus(_raise), journal, self._clock)
        self._mint = ClientOrderIds(run_id)
        self._account_id = account_id
        self._run_id = run_id
        self._number = 0
        now_ns = self._clock.now_ns()
        journal.write(
            RunStarted(
                run_id=run_id,
                version="",
                venue=venue,
                accounts=(account_id,),
                embedded=False,
                ts_event_ns=now_ns,
            )
        )

    def ten_orders(self) -> None:
        """The next ten, in the mix described above."""
        if self._number % _STATEMENT_EVERY == 0:
            self._state_account()
        for _ in range(6):
            self._cancel(self._accept(self._submit(Side.BUY)))
        self._cancel(self._modify(self._accept(self._submit(Side.BUY))))
        self._fill(self._accept(self._submit(Side.BUY)))
        self._fill(self._accept(self._submit(Side.SELL)))
        self._ledger.reject(self._submit(Side.BUY), "margin", "Insufficient margin")

    def end(self) -> None:
        """The run ends as it should."""
        now_ns = self._clock.now_ns()
        ended = RunEnded(run_id=self._run_id, cancelled=0, left=0, unverified=0, ts_event_ns=now_ns)
        self._journal.write(ended)

    def _submit(self, side: Side) -> Order:
        self._number += 1
        order = Order(
            client_order_id=self._mint(),
            strategy_id=_STRATEGIES[self._number % 2],
            account_id=self._account_id,
            instrument_id=values.BTC,
            side=side,
            order_type=OrderType.LIMIT,
            quantity=Decimal("0.02"),
            price=Decimal(100_000 + self._number % 1_000),
            post_only=True,
            ts_init_ns=self._clock.now_ns(),
        )
        self._ledger.track(order)
        intent = self._intend("submit", order)
        return self._ledger.depart(order, intent.nonce, intent.expires_ns)

    def _accept(self, order: Order) -> Order:
        return self._ledger.accept(order, VenueOrderId(f"{80_000_000_000 + self._number}"))

    def _cancel(self, order: Order) -> None:
        order = self._ledger.pend(order, Pending.CANCEL)
        self._intend("cancel", order)
        self._ledger.cancel(order, "as requested")

    def _modify(self, order: Order) -> Order:
        price = (order.price or values.trade().price) + 1
        self._state.terms.ask(order, Terms(price, order.quantity))
        order = self._ledger.pend(order, Pending.MODIFY, order.quantity)
        self._intend("modify", order)
        venue_order_id = VenueOrderId(f"{90_000_000_000 + self._number}")
        order = self._ledger.modify(order, venue_order_id, price, order.quantity)
        self._state.terms.settle(order)
        return order

    def _fill(self, order: Order) -> None:
        price = Decimal(100_000)
        for part in range(2):
            order = self._ledger.fill(order, _fill_of(order, price, f"{self._number}{part}"))

    def _state_account(self) -> None:
        now_ns = self._clock.now_ns()
        account = Account(
            account_id=self._account_id,
            equity=Decimal(10_000),
            margin_used=Decimal(0),
            balances=(),
            ts_event_ns=now_ns,
            ts_recv_ns=now_ns,
        )
        self._ledger.state_account(account)

    def _intend(self, kind: IntentKind, order: Order) -> Intent:
        now_ns = self._clock.now_ns()
        intent = Intent(
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
            price=order.price,
            quantity=order.quantity,
            nonce=now_ns // 1_000_000,
            expires_ns=now_ns + _VALIDITY_NS,
            action_hash="ab" * 32,
            ts_event_ns=now_ns,
        )
        self._journal.write_intent(intent)
        return intent


def life(order: Order) -> Iterator[OrderRecord]:
    """The events of an order that is filled in part and then cancelled."""
    about: dict[str, Any] = {
        "client_order_id": order.client_order_id,
        "strategy_id": order.strategy_id,
        "instrument_id": order.instrument_id,
        "ts_event_ns": order.ts_init_ns,
    }
    yield OrderInitialized(order=order, **about)
    yield OrderJournalled(nonce=order.ts_init_ns, expires_ns=order.ts_init_ns, **about)
    yield OrderSubmitted(**about)
    yield OrderAccepted(venue_order_id=VenueOrderId("80000000000"), **about)
    yield OrderFilled(fill=_fill_of(order, values.trade().price, "1"), **about)
    yield OrderPending(pending=Pending.CANCEL, **about)
    yield OrderCanceled(venue_order_id=None, reason="as requested", **about)


def _fill_of(order: Order, price: Decimal, trade_id: str) -> Fill:
    return Fill(
        trade_id=TradeId(trade_id),
        client_order_id=order.client_order_id,
        venue_order_id=order.venue_order_id or VenueOrderId("1"),
        account_id=order.account_id,
        instrument_id=order.instrument_id,
        side=order.side,
        price=price,
        quantity=order.quantity / 2,
        fee=Decimal("0.15"),
        fee_currency="USDC",
        liquidity=Liquidity.MAKER,
        ts_event_ns=order.ts_last_ns,
        ts_recv_ns=order.ts_last_ns,
    )


def _raise(fault: Fault) -> None:
    raise fault.error
