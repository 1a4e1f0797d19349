"""What a strategy can see and do: the market, its own orders and position, orders, timers, a log.

Owns nothing but the strategy's timers and what it saved last; it reads the cache and the portfolio
and sends commands over the bus. Everything is scoped to its strategy: it cannot touch another's
orders. What it is asked for is checked before it is sent (`strategy.arguments`), so that a mistake
is a StrategyError where it was made. The host makes one for each strategy and decides by `permit`
whether it may submit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from typing import Any

import structlog
from attrs import frozen

from zq_daemon.core.book import OrderBook
from zq_daemon.core.bus import MessageBus
from zq_daemon.core.cache import Cache
from zq_daemon.core.portfolio import Portfolio
from zq_daemon.errors import StrategyError
from zq_daemon.journal.record import StrategySaved
from zq_daemon.model.account import Account
from zq_daemon.model.bar import Bar, BarSpec
from zq_daemon.model.command import (
    CancelAllOrders,
    CancelOrder,
    ModifyOrder,
    SubmitBracket,
    SubmitOrder,
)
from zq_daemon.model.ids import AccountId, ClientOrderId, InstrumentId, StrategyId, Venue, venue_of
from zq_daemon.model.instrument import Instrument
from zq_daemon.model.market import MarkPrice, Quote, Side, Trade, TradingStatus
from zq_daemon.model.order import Order, OrderType, TimeInForce
from zq_daemon.model.position import Position
from zq_daemon.ports.clock import NS_PER_MS, Clock
from zq_daemon.strategy.arguments import (
    checked_callback,
    checked_order_id,
    checked_terms,
    checked_time,
    unknown_instrument,
)
from zq_daemon.strategy.saved import PackedState, SavedState, pack
from zq_daemon.strategy.timers import Timer, Timers


@frozen(kw_only=True)
class Bracket:
    """The client order ids of an entry and its exits; None: there is none."""

    entry: ClientOrderId
    take_profit: ClientOrderId | None
    stop_loss: ClientOrderId | None


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
        saved: PackedState | None = None,
    ) -> None:
        """*accounts* names the account orders go to, by venue; *mint* makes client order ids.

        *saved* is what a former run saved.
        """
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
        self._saved = saved
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
        quantity: Decimal | int,
        price: Decimal | int,
        *,
        time_in_force: TimeInForce = TimeInForce.GTC,
        post_only: bool = False,
        reduce_only: bool = False,
    ) -> ClientOrderId:
        """Ask for a limit order; what becomes of it comes as order events.

        The price is rounded passively and the quantity down to what the venue accepts. Numbers are
        finite Decimals, or ints: StrategyError for a float, an instrument that is not known, and
        whatever else has not the type that is asked for.
        """
        return self._submit(
            "submit_limit",
            instrument_id,
            OrderType.LIMIT,
            side=side,
            quantity=quantity,
            price=price,
            time_in_force=time_in_force,
            post_only=post_only,
            reduce_only=reduce_only,
        )

    def submit_market(
        self,
        instrument_id: InstrumentId,
        side: Side,
        quantity: Decimal | int,
        *,
        reduce_only: bool = False,
    ) -> ClientOrderId:
        """Ask for a market order: filled at once within the venue's slippage, or cancelled.

        StrategyError as by `submit_limit`.
        """
        return self._submit(
            "submit_market",
            instrument_id,
            OrderType.MARKET,
            side=side,
            quantity=quantity,
            time_in_force=TimeInForce.IOC,
            reduce_only=reduce_only,
        )

    def submit_stop(
        self,
        instrument_id: InstrumentId,
        side: Side,
        quantity: Decimal | int,
        trigger_price: Decimal | int,
        *,
        price: Decimal | int | None = None,
        reduce_only: bool = True,
    ) -> ClientOrderId:
        """Ask the venue to trade when the mark gets as bad as *trigger_price*: a stop loss.

        A buy triggers above the mark, a sell below. Then it becomes a limit order at *price*, or
        without one a market order. StrategyError as by `submit_limit`.
        """
        kind = OrderType.STOP_MARKET if price is None else OrderType.STOP_LIMIT
        return self._submit_trigger(
            "submit_stop", kind, instrument_id, side, quantity, trigger_price, price, reduce_only
        )

    def submit_take_profit(
        self,
        instrument_id: InstrumentId,
        side: Side,
        quantity: Decimal | int,
        trigger_price: Decimal | int,
        *,
        price: Decimal | int | None = None,
        reduce_only: bool = True,
    ) -> ClientOrderId:
        """Ask the venue to trade when the mark gets as good as *trigger_price*.

        A buy triggers below the mark, a sell above; else as `submit_stop`.
        """
        kind = OrderType.TAKE_PROFIT_MARKET if price is None else OrderType.TAKE_PROFIT_LIMIT
        return self._submit_trigger(
            "submit_take_profit",
            kind,
            instrument_id,
            side,
            quantity,
            trigger_price,
            price,
            reduce_only,
        )

    def submit_bracket(
        self,
        instrument_id: InstrumentId,
        side: Side,
        quantity: Decimal | int,
        *,
        price: Decimal | int | None = None,
        post_only: bool = False,
        take_profit: Decimal | int | None = None,
        stop_loss: Decimal | int | None = None,
    ) -> Bracket:
        """Ask for an entry (at the market without a *price*) together with its exits.

        The venue holds the exits until the entry has filled; then each is a reduce-only market
        order that waits for its trigger price, and when one fills the other is cancelled. All of
        it is submitted, or nothing. StrategyError as by `submit_limit`, and without any exit.
        """
        if self._forbidden is not None:
            raise StrategyError(f"strategy {self.strategy_id} may not submit: {self._forbidden}")
        with self._blamed("submit_bracket"):
            if take_profit is None and stop_loss is None:
                raise StrategyError("pass a take_profit, a stop_loss or both")
            instrument_id = self._known(instrument_id)
            terms = checked_terms(side=side, quantity=quantity, post_only=post_only)
            terms |= {} if price is None else checked_terms(price=price)
            asked = {"take_profit": take_profit, "stop_loss": stop_loss}
            given = checked_terms(**{key: each for key, each in asked.items() if each is not None})
            triggers = [given.get(key) for key in asked]
        if price is None:
            entry = self._order(
                instrument_id, OrderType.MARKET, time_in_force=TimeInForce.IOC, **terms
            )
        else:
            entry = self._order(instrument_id, OrderType.LIMIT, **terms)
        kinds = (OrderType.TAKE_PROFIT_MARKET, OrderType.STOP_MARKET)
        profit, loss = map(partial(self._exit, entry), kinds, triggers)
        exits = tuple(each for each in (profit, loss) if each is not None)
        self._bus.send("order.submit_bracket", SubmitBracket(entry=entry, exits=exits))
        return Bracket(
            entry=entry.client_order_id,
            take_profit=None if profit is None else profit.client_order_id,
            stop_loss=None if loss is None else loss.client_order_id,
        )

    def cancel(self, client_order_id: ClientOrderId) -> None:
        """Cancel one order of this strategy; nothing happens if it is closed or unknown.

        StrategyError for what is no id at all.
        """
        with self._blamed("cancel"):
            client_order_id = checked_order_id(client_order_id)
        if self.order(client_order_id) is not None:
            self._bus.send("order.cancel", CancelOrder(client_order_id=client_order_id))

    def modify(
        self,
        client_order_id: ClientOrderId,
        *,
        price: Decimal | int | None = None,
        quantity: Decimal | int | None = None,
    ) -> None:
        """Change an open order's price or total quantity (what is filled included).

        StrategyError as by `submit_limit`.
        """
        asked = {"price": price, "quantity": quantity}
        with self._blamed("modify"):
            client_order_id = checked_order_id(client_order_id)
            changes = checked_terms(
                **{name: each for name, each in asked.items() if each is not None}
            )
        if self.order(client_order_id) is not None:
            command = ModifyOrder(client_order_id=client_order_id, **changes)
            self._bus.send("order.modify", command)

    def cancel_all(self, instrument_id: InstrumentId | None = None) -> None:
        """Cancel every live order of this strategy, in one instrument or in all.

        StrategyError for an instrument that is not known.
        """
        if instrument_id is not None:
            with self._blamed("cancel_all"):
                instrument_id = self._known(instrument_id)
        command = CancelAllOrders(strategy_id=self.strategy_id, instrument_id=instrument_id)
        self._bus.send("order.cancel_all", command)

    @property
    def saved_state(self) -> SavedState | None:
        """What `save_state` was given last, in a former run or in this one; None if never.

        It is a copy. After a crash it can be older than the orders and the position are: those are
        made sure of by asking the venue, while the last moments of this may not have been written.
        """
        return None if self._saved is None else self._saved.unpack()

    def save_state(self, version: int, data: Mapping[str, Any]) -> None:
        """Have *data* in `saved_state` after a restart; what was saved before is replaced.

        *version* is the strategy's own, for its later selves to know what they find. *data* is
        plain JSON: dictionaries with text as keys, lists, text, integers of 64 bits, booleans and
        None; no float and no Decimal: save their text. At most 64 KiB as JSON, else, or if
        something else is in it, StrategyError says what and where. It is written with the journal,
        without waiting for it; saving what is saved already costs no writing. Of what is saved
        faster than the disk can write, only the latest is written.
        """
        with self._blamed("save_state"):
            packed = pack(version, data)
        if packed == self._saved:
            return
        self._saved = packed
        record = StrategySaved(
            strategy_id=self.strategy_id,
            version=packed.version,
            data=packed.data,
            ts_event_ns=self._clock.now_ns(),
        )
        self._bus.send("strategy.save", record)

    def set_timer(self, delay_ms: int, callback: Callable[[], None]) -> Timer:
        """Call *callback* once, *delay_ms* from now, to within `housekeeping_interval_ms`.

        A delay of zero or less ends with the next housekeeping. StrategyError when 1000 wait
        already, for a delay that is no int, and for what cannot be called.
        """
        with self._blamed("set_timer"):
            delay_ns = max(checked_time("delay_ms", delay_ms), 0) * NS_PER_MS
            due_ns = self._clock.monotonic_ns() + delay_ns
            return self._delays.add(due_ns, checked_callback(callback))

    def set_timer_at(self, at_ns: int, callback: Callable[[], None]) -> Timer:
        """Call *callback* once when the wall clock shows *at_ns*; else like `set_timer`."""
        with self._blamed("set_timer_at"):
            due_ns = max(checked_time("at_ns", at_ns), self._clock.now_ns())
            return self._moments.add(due_ns, checked_callback(callback))

    def permit(self, forbidden: str | None) -> None:
        """For the host: let the strategy submit (None), or say why it may not."""
        self._forbidden = forbidden

    def submit_reduction(self, instrument_id: InstrumentId, side: Side, quantity: Decimal) -> None:
        """For the host: a reduce-only market order in the strategy's name, permitted or not.

        On spot markets, which have no such orders, a plain one: what is owned is all it can sell.
        """
        known = self._cache.instrument(instrument_id)
        order = self._order(
            instrument_id,
            OrderType.MARKET,
            side=side,
            quantity=quantity,
            time_in_force=TimeInForce.IOC,
            reduce_only=known is None or not known.is_spot,
        )
        self._bus.send("order.submit", SubmitOrder(order=order))

    def due_timers(self) -> Iterator[Timer]:
        """For the host: the timers that are due, each taken out as it is asked for.

        As many as wait now, at most: what is set meanwhile, even for at once, holds nothing up.
        """
        for timers, now_ns in (
            (self._delays, self._clock.monotonic_ns),
            (self._moments, self._clock.now_ns),
        ):
            for _ in range(len(timers)):
                timer = timers.pop_due(now_ns())
                if timer is None:
                    break
                yield timer

    def clear_timers(self) -> None:
        """For the host: forget all timers."""
        self._delays.clear()
        self._moments.clear()

    def _account_of(self, instrument_id: InstrumentId) -> AccountId:
        return self._accounts.get(venue_of(instrument_id), AccountId(""))

    def _submit_trigger(
        self,
        method: str,
        order_type: OrderType,
        instrument_id: InstrumentId,
        side: Side,
        quantity: Decimal | int,
        trigger_price: Decimal | int,
        price: Decimal | int | None,
        reduce_only: bool,
    ) -> ClientOrderId:
        terms: dict[str, Any] = {
            "side": side,
            "quantity": quantity,
            "trigger_price": trigger_price,
            "reduce_only": reduce_only,
        }
        if price is not None:
            terms["price"] = price
        return self._submit(method, instrument_id, order_type, **terms)

    def _submit(
        self, method: str, instrument_id: InstrumentId, order_type: OrderType, **terms: Any
    ) -> ClientOrderId:
        if self._forbidden is not None:
            raise StrategyError(f"strategy {self.strategy_id} may not submit: {self._forbidden}")
        with self._blamed(method):
            instrument_id, terms = self._known(instrument_id), checked_terms(**terms)
        order = self._order(instrument_id, order_type, **terms)
        self._bus.send("order.submit", SubmitOrder(order=order))
        return order.client_order_id

    def _exit(self, entry: Order, kind: OrderType, trigger_price: Decimal | None) -> Order | None:
        if trigger_price is None:
            return None
        return self._order(
            entry.instrument_id,
            kind,
            side=entry.side.opposite,
            quantity=entry.quantity,
            trigger_price=trigger_price,
            reduce_only=True,
            parent_id=entry.client_order_id,
        )

    def _order(self, instrument_id: InstrumentId, order_type: OrderType, **terms: Any) -> Order:
        now_ns = self._clock.now_ns()
        return Order(
            client_order_id=self._mint(),
            strategy_id=self.strategy_id,
            account_id=self._account_of(instrument_id),
            instrument_id=instrument_id,
            order_type=order_type,
            ts_init_ns=now_ns,
            ts_last_ns=now_ns,
            **terms,
        )

    def _known(self, instrument_id: InstrumentId) -> InstrumentId:
        if type(instrument_id) is not str or self._cache.instrument(instrument_id) is None:
            raise unknown_instrument(instrument_id, self.instruments)
        return instrument_id

    @contextmanager
    def _blamed(self, method: str) -> Iterator[None]:
        """Say in a StrategyError whose call of what it was."""
        try:
            yield
        except StrategyError as error:
            raise StrategyError(f"strategy {self.strategy_id}: {method}: {error}") from None
