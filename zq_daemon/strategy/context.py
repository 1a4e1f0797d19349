"""What a strategy can see and do: the market, its own orders and position, orders, timers, a log.

Owns nothing but the strategy's timers; it reads the cache and the portfolio and sends commands over
the bus. Everything is scoped to its strategy: it cannot touch another's orders. The host makes one
for each strategy and decides by `permit` whether it may submit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import structlog

from zq_daemon.core.book import OrderBook
from zq_daemon.core.bus import MessageBus
from zq_daemon.core.cache import Cache
from zq_daemon.core.portfolio import Portfolio
from zq_daemon.errors import StrategyError
from zq_daemon.model.account import Account
from zq_daemon.model.bar import Bar, BarSpec
from zq_daemon.model.command import CancelAllOrders, CancelOrder, ModifyOrder, SubmitOrder
from zq_daemon.model.ids import AccountId, ClientOrderId, InstrumentId, StrategyId, Venue, venue_of
from zq_daemon.model.instrument import Instrument
from zq_daemon.model.market import MarkPrice, Quote, Side, Trade, TradingStatus
from zq_daemon.model.order import Order, OrderType, TimeInForce
from zq_daemon.model.position import Position
from zq_daemon.ports.clock import NS_PER_MS, Clock
from zq_daemon.strategy.timers import Timer, Timers


class StrategyContext:
    """A strategy's view of the daemon; all methods are synchronous and return at once."""

    def __init__(
        self,
        *,
        strategy_id: StrategyId,
        instruments: tuple[InstrumentId, ...],
        bars: tuple[BarSpec, ...],
        bus: MessageBus,
        cache: Cache,
        portfolio: Portfolio,
        clock: Clock,
        accounts: Mapping[Venue, AccountId],
        mint: Callable[[], ClientOrderId],
    ) -> None:
        """*accounts* names the account orders go to, by venue; *mint* makes client order ids."""
        self.strategy_id = strategy_id
        self.instruments = instruments
        self.bars = bars
        self.log: Any = structlog.get_logger("zq.strategy").bind(strategy=strategy_id)
        self._bus = bus
        self._cache = cache
        self._portfolio = portfolio
        self._clock = clock
        self._accounts = accounts
        self._mint = mint
        self._forbidden: str | None = "it has not started"
        self._delays = Timers()
        self._moments = Timers()

    def now_ns(self) -> int:
        """Wall time: nanoseconds since the Unix epoch."""
        return self._clock.now_ns()

    def instrument(self, instrument_id: InstrumentId) -> Instrument:
        """The instrument with its rules of price and quantity; StrategyError if unknown."""
        found = self._cache.instrument(instrument_id)
        if found is None:
            raise StrategyError(f"strategy {self.strategy_id}: {instrument_id} is not known")
        return found

    def book(self, instrument_id: InstrumentId) -> OrderBook | None:
        """The order book as it stands: to be read, not changed and not kept."""
        return self._cache.book(instrument_id)

    def quote(self, instrument_id: InstrumentId) -> Quote | None:
        """The latest best bid and offer."""
        return self._cache.quote(instrument_id)

    def trade(self, instrument_id: InstrumentId) -> Trade | None:
        """The latest public trade."""
        return self._cache.trade(instrument_id)

    def mark(self, instrument_id: InstrumentId) -> MarkPrice | None:
        """The latest mark price."""
        return self._cache.mark(instrument_id)

    def bar(self, instrument_id: InstrumentId, spec: BarSpec) -> Bar | None:
        """The latest closed bar of *spec*."""
        return self._cache.bar(instrument_id, spec)

    def best_prices(self, instrument_id: InstrumentId) -> tuple[Decimal, Decimal] | None:
        """Best bid and best ask, of the book or else of the quote; None unless both are there."""
        book = self._cache.book(instrument_id)
        if book is not None:
            bid, ask = book.best_bid, book.best_ask
            if bid is not None and ask is not None:
                return bid.price, ask.price
        quote = self._cache.quote(instrument_id)
        if quote is None or quote.bid_price is None or quote.ask_price is None:
            return None
        return quote.bid_price, quote.ask_price

    def is_current(self, instrument_id: InstrumentId) -> bool:
        """Whether the instrument trades and its market data is not stale."""
        status = self._cache.status(instrument_id)
        return status is None or status.status is TradingStatus.TRADING

    def position(self, instrument_id: InstrumentId) -> Position:
        """What this strategy's own fills add up to; flat before the first."""
        return self._portfolio.strategy_position(self.strategy_id, instrument_id)

    def account_position(self, instrument_id: InstrumentId) -> Position:
        """The whole account's position in the instrument, whoever traded it."""
        return self._portfolio.position(self._account_of(instrument_id), instrument_id)

    def account(self, instrument_id: InstrumentId) -> Account | None:
        """The venue's latest statement of the account that trades the instrument."""
        return self._cache.account(self._account_of(instrument_id))

    def net_pnl(self) -> Decimal:
        """Realised and unrealised P&L of this strategy, less fees, in the quote currency."""
        return self._portfolio.strategy_pnl(self.strategy_id).net

    def order(self, client_order_id: ClientOrderId) -> Order | None:
        """An order of this strategy as it stands; None if unknown or closed too long ago."""
        order = self._cache.order(client_order_id)
        return order if order is not None and order.strategy_id == self.strategy_id else None

    def open_orders(self, instrument_id: InstrumentId | None = None) -> tuple[Order, ...]:
        """Orders of the strategy that the venue has confirmed, oldest first."""
        return tuple(
            self._cache.orders_open(instrument_id=instrument_id, strategy_id=self.strategy_id)
        )

    def live_orders(self, instrument_id: InstrumentId | None = None) -> tuple[Order, ...]:
        """Orders of the strategy that are not closed, those in flight too, oldest first."""
        return tuple(
            self._cache.orders_live(instrument_id=instrument_id, strategy_id=self.strategy_id)
        )

    def submit_limit(
        self,
        instrument_id: InstrumentId,
        side: Side,
        quantity: Decimal,
        price: Decimal,
        *,
        time_in_force: TimeInForce = TimeInForce.GTC,
        post_only: bool = False,
        reduce_only: bool = False,
    ) -> ClientOrderId:
        """Ask for a limit order; what becomes of it comes as order events.

        The price is rounded passively and the quantity down to what the venue accepts.
        """
        return self._submit(
            instrument_id,
            side,
            quantity,
            OrderType.LIMIT,
            price=price,
            time_in_force=time_in_force,
            post_only=post_only,
            reduce_only=reduce_only,
        )

    def submit_market(
        self,
        instrument_id: InstrumentId,
        side: Side,
        quantity: Decimal,
        *,
        reduce_only: bool = False,
    ) -> ClientOrderId:
        """Ask for a market order: filled at once within the venue's slippage, or cancelled."""
        return self._submit(
            instrument_id,
            side,
            quantity,
            OrderType.MARKET,
            time_in_force=TimeInForce.IOC,
            reduce_only=reduce_only,
        )

    def cancel(self, client_order_id: ClientOrderId) -> None:
        """Cancel one order of this strategy; nothing happens if it is closed or unknown."""
        if self.order(client_order_id) is not None:
            self._bus.send("order.cancel", CancelOrder(client_order_id=client_order_id))

    def modify(
        self,
        client_order_id: ClientOrderId,
        *,
        price: Decimal | None = None,
        quantity: Decimal | None = None,
    ) -> None:
        """Change an open order's price or total quantity (what is filled included)."""
        if self.order(client_order_id) is not None:
            command = ModifyOrder(client_order_id=client_order_id, price=price, quantity=quantity)
            self._bus.send("order.modify", command)

    def cancel_all(self, instrument_id: InstrumentId | None = None) -> None:
        """Cancel every live order of this strategy, in one instrument or in all."""
        command = CancelAllOrders(strategy_id=self.strategy_id, instrument_id=instrument_id)
        self._bus.send("order.cancel_all", command)

    def set_timer(self, delay_ms: int, callback: Callable[[], None]) -> Timer:
        """Call *callback* once, *delay_ms* from now, to within the daemon's 100 ms of housekeeping.

        StrategyError when 1000 wait already.
        """
        due_ns = self._clock.monotonic_ns() + delay_ms * NS_PER_MS
        return self._delays.add(due_ns, callback)

    def set_timer_at(self, at_ns: int, callback: Callable[[], None]) -> Timer:
        """Call *callback* once when the wall clock shows *at_ns*; else like `set_timer`."""
        return self._moments.add(at_ns, callback)

    def permit(self, forbidden: str | None) -> None:
        """For the host: let the strategy submit (None), or say why it may not."""
        self._forbidden = forbidden

    def due_timer(self) -> Timer | None:
        """For the host: the next timer that is due now, taken out."""
        return self._delays.pop_due(self._clock.monotonic_ns()) or self._moments.pop_due(
            self._clock.now_ns()
        )

    def clear_timers(self) -> None:
        """For the host: forget all timers."""
        self._delays.clear()
        self._moments.clear()

    def _account_of(self, instrument_id: InstrumentId) -> AccountId:
        return self._accounts.get(venue_of(instrument_id), AccountId(""))

    def _submit(
        self,
        instrument_id: InstrumentId,
        side: Side,
        quantity: Decimal,
        order_type: OrderType,
        **terms: Any,
    ) -> ClientOrderId:
        if self._forbidden is not None:
            raise StrategyError(f"strategy {self.strategy_id} may not submit: {self._forbidden}")
        now_ns = self._clock.now_ns()
        order = Order(
            client_order_id=self._mint(),
            strategy_id=self.strategy_id,
            account_id=self._account_of(instrument_id),
            instrument_id=instrument_id,
            side=side,
            order_type=order_type,
            quantity=quantity,
            ts_init_ns=now_ns,
            ts_last_ns=now_ns,
            **terms,
        )
        self._bus.send("order.submit", SubmitOrder(order=order))
        return order.client_order_id
