"""The cache: the latest of everything, with its indices kept current.

Owns the daemon's view of instruments, market data, books, orders, positions and accounts. Never
decides anything and never publishes: engines write to it before they publish, everybody reads. A
read costs the same whatever else is in here; no orders are searched or copied when asked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from zq_daemon.core.commitments import Commitments, Kind
from zq_daemon.errors import OrderError
from zq_daemon.model.account import Account
from zq_daemon.model.bar import Bar, BarSpec, Candle
from zq_daemon.model.ids import (
    AccountId,
    ClientOrderId,
    InstrumentId,
    StrategyId,
    VenueOrderId,
)
from zq_daemon.model.instrument import Instrument
from zq_daemon.model.market import InstrumentStatus, MarkPrice, MidPrice, Quote, Trade
from zq_daemon.model.order import Order
from zq_daemon.model.position import Position

if TYPE_CHECKING:
    from zq_daemon.core.book import OrderBook

_VENUE_IDS_PER_ORDER = 16
"""A cancel-replace gives an order a new venue id: fills may still name this many older ones."""


class Cache:
    """What is known now. Market data is bounded by the instruments, orders by *closed_orders*.

    The `orders_*` methods return live views, oldest first, of one index each. A view is good for as
    long as nothing changes: to submit, or anything else that may open or close an order, while
    going through one, take `tuple(view)` first.
    """

    def __init__(self, *, closed_orders: int = 10_000) -> None:
        """Remember the last *closed_orders* orders that closed; live ones are always remembered."""
        self._closed_limit = closed_orders
        self._instruments: dict[InstrumentId, Instrument] = {}
        self._trades: dict[InstrumentId, Trade] = {}
        self._quotes: dict[InstrumentId, Quote] = {}
        self._marks: dict[InstrumentId, MarkPrice] = {}
        self._mids: dict[InstrumentId, MidPrice] = {}
        self._candles: dict[tuple[InstrumentId, str], Candle] = {}
        self._statuses: dict[InstrumentId, InstrumentStatus] = {}
        self._bars: dict[tuple[InstrumentId, str], Bar] = {}
        self._books: dict[InstrumentId, OrderBook] = {}
        self._orders: dict[ClientOrderId, Order] = {}
        self._open = _OrderIndex()
        self._in_flight = _OrderIndex()
        self._live = _OrderIndex()
        self._closed = _OrderIndex()
        self._closing_order: OrderedDict[ClientOrderId, None] = OrderedDict()
        self._commitments = Commitments()
        self._venue_ids = _VenueIds()
        self._positions: dict[tuple[AccountId, InstrumentId], Position] = {}
        self._accounts: dict[AccountId, Account] = {}

    def add_instrument(self, instrument: Instrument) -> None:
        """Add, or replace what was known of it."""
        self._instruments[instrument.id] = instrument

    def instrument(self, instrument_id: InstrumentId) -> Instrument | None:
        """The instrument; None if the venue has not named it."""
        return self._instruments.get(instrument_id)

    def instruments(self) -> tuple[Instrument, ...]:
        """All instruments, in the order they were added."""
        return tuple(self._instruments.values())

    def put_trade(self, trade: Trade) -> None:
        """Remember the latest trade of its instrument."""
        self._trades[trade.instrument_id] = trade

    def put_quote(self, quote: Quote) -> None:
        """Remember the latest best bid and offer of its instrument."""
        self._quotes[quote.instrument_id] = quote

    def put_mark(self, mark: MarkPrice) -> None:
        """Remember the latest mark of its instrument."""
        self._marks[mark.instrument_id] = mark

    def put_mid(self, mid: MidPrice) -> None:
        """Remember the middle price of its instrument that the venue stated last."""
        self._mids[mid.instrument_id] = mid

    def put_candle(self, candle: Candle) -> None:
        """Remember the latest candle, open or closed, of its instrument and interval."""
        self._candles[candle.instrument_id, candle.interval] = candle

    def put_status(self, status: InstrumentStatus) -> None:
        """Remember the latest trading status of its instrument."""
        self._statuses[status.instrument_id] = status

    def put_bar(self, bar: Bar) -> None:
        """Remember the latest bar of its instrument and spec."""
        self._bars[bar.instrument_id, bar.spec.text] = bar

    def put_book(self, instrument_id: InstrumentId, book: OrderBook) -> None:
        """Show *book*, which its owner goes on updating, as the book of *instrument_id*."""
        self._books[instrument_id] = book

    def trade(self, instrument_id: InstrumentId) -> Trade | None:
        """The latest trade."""
        return self._trades.get(instrument_id)

    def quote(self, instrument_id: InstrumentId) -> Quote | None:
        """The latest best bid and offer."""
        return self._quotes.get(instrument_id)

    def mark(self, instrument_id: InstrumentId) -> MarkPrice | None:
        """The latest mark price."""
        return self._marks.get(instrument_id)

    def mid(self, instrument_id: InstrumentId) -> MidPrice | None:
        """The middle price that the venue stated last."""
        return self._mids.get(instrument_id)

    def candle(self, instrument_id: InstrumentId, interval: str) -> Candle | None:
        """The venue's latest candle of that interval."""
        return self._candles.get((instrument_id, interval))

    def status(self, instrument_id: InstrumentId) -> InstrumentStatus | None:
        """The latest trading status."""
        return self._statuses.get(instrument_id)

    def bar(self, instrument_id: InstrumentId, spec: BarSpec) -> Bar | None:
        """The latest closed bar of that spec."""
        return self._bars.get((instrument_id, spec.text))

    def book(self, instrument_id: InstrumentId) -> OrderBook | None:
        """The order book as it stands; to be read, not changed."""
        return self._books.get(instrument_id)

    def mid_or_mark(self, instrument_id: InstrumentId) -> Decimal | None:
        """What the instrument is worth now: its mark, else the mid price, else the last trade."""
        mark = self._marks.get(instrument_id)
        if mark is not None:
            return mark.mark_price
        mid = self._mid(instrument_id)
        if mid is not None:
            return mid
        if (stated := self._mids.get(instrument_id)) is not None:
            return stated.price
        trade = self._trades.get(instrument_id)
        return None if trade is None else trade.price

    def put_order(self, order: Order) -> None:
        """Insert *order*, or replace the one of its client order id, in all indices.

        The oldest closed order is forgotten when there are too many. OrderError if the order was
        known for another account, instrument or strategy.
        """
        cloid = order.client_order_id
        _check_same(self._orders.get(cloid), order)
        if order.venue_order_id is not None:
            self._venue_ids.put(order.account_id, order.venue_order_id, cloid)
        self._place(order)
        self._forget_oldest_closed()

    def restore_orders(
        self,
        orders: Iterable[Order],
        given_ids: Iterable[tuple[ClientOrderId, VenueOrderId]],
    ) -> None:
        """Put orders back into an empty cache: the closed ones in the order in which they closed.

        *given_ids*: by which venue order ids they are found, in the order they were given.
        """
        for order in orders:
            self._place(order)
        for cloid, venue_order_id in given_ids:
            self._venue_ids.put(self._orders[cloid].account_id, venue_order_id, cloid)
        self._forget_oldest_closed()

    def order(self, client_order_id: ClientOrderId) -> Order | None:
        """The order; None if it was never known or closed too long ago."""
        return self._orders.get(client_order_id)

    def order_by_venue_id(
        self, account_id: AccountId, venue_order_id: VenueOrderId
    ) -> Order | None:
        """The order that has, or had before it was modified, *venue_order_id*."""
        cloid = self._venue_ids.find(account_id, venue_order_id)
        return None if cloid is None else self._orders[cloid]

    def venue_order_ids(self, client_order_id: ClientOrderId) -> tuple[VenueOrderId, ...]:
        """The ids by which `order_by_venue_id` finds the order, oldest first."""
        return self._venue_ids.of(client_order_id)

    def orders_open(
        self, *, instrument_id: InstrumentId | None = None, strategy_id: StrategyId | None = None
    ) -> Collection[Order]:
        """Orders the venue has confirmed and that are not finished, narrowed where asked."""
        return self._open.select(instrument_id, strategy_id)

    def orders_in_flight(
        self, *, instrument_id: InstrumentId | None = None, strategy_id: StrategyId | None = None
    ) -> Collection[Order]:
        """Orders with a submit, cancel or modify whose outcome is not known yet."""
        return self._in_flight.select(instrument_id, strategy_id)

    def orders_live(
        self, *, instrument_id: InstrumentId | None = None, strategy_id: StrategyId | None = None
    ) -> Collection[Order]:
        """Orders that are not closed, from the moment they were asked for."""
        return self._live.select(instrument_id, strategy_id)

    def orders_closed(
        self, *, instrument_id: InstrumentId | None = None, strategy_id: StrategyId | None = None
    ) -> Collection[Order]:
        """The orders that closed last, in the order in which they closed."""
        return self._closed.select(instrument_id, strategy_id)

    def open_count(
        self, *, instrument_id: InstrumentId | None = None, strategy_id: StrategyId | None = None
    ) -> int:
        """How many `orders_open` has."""
        return len(self._open.select(instrument_id, strategy_id))

    def live_count(
        self, *, instrument_id: InstrumentId | None = None, strategy_id: StrategyId | None = None
    ) -> int:
        """How many `orders_live` has."""
        return len(self._live.select(instrument_id, strategy_id))

    def committed(
        self, account_id: AccountId, instrument_id: InstrumentId
    ) -> Mapping[Kind, Decimal]:
        """What live orders of each kind may still fill together, at the cost of a look-up."""
        return self._commitments.of(account_id, instrument_id)

    def committed_instruments(self, account_id: AccountId) -> Collection[InstrumentId]:
        """The instruments of which the account has, or had, live orders."""
        return self._commitments.instruments(account_id)

    def put_position(self, position: Position) -> None:
        """Insert or replace a net position."""
        self._positions[position.account_id, position.instrument_id] = position

    def position(self, account_id: AccountId, instrument_id: InstrumentId) -> Position | None:
        """The net position; None if there never was one."""
        return self._positions.get((account_id, instrument_id))

    def positions(self) -> tuple[Position, ...]:
        """All net positions, flat ones too."""
        return tuple(self._positions.values())

    def put_account(self, account: Account) -> None:
        """Remember the venue's latest statement of an account."""
        self._accounts[account.account_id] = account

    def account(self, account_id: AccountId) -> Account | None:
        """The latest statement; None before the first."""
        return self._accounts.get(account_id)

    def accounts(self) -> tuple[Account, ...]:
        """The latest statement of every account."""
        return tuple(self._accounts.values())

    def _place(self, order: Order) -> None:
        cloid, is_closed = order.client_order_id, order.is_closed
        self._commitments.move(self._orders.get(cloid), order)
        self._orders[cloid] = order
        self._open.put_if(order.is_open, order)
        self._in_flight.put_if(order.is_in_flight, order)
        self._live.put_if(not is_closed, order)
        self._closed.put_if(is_closed, order)
        if is_closed:
            self._closing_order[cloid] = None
        else:
            self._closing_order.pop(cloid, None)

    def _mid(self, instrument_id: InstrumentId) -> Decimal | None:
        quote = self._quotes.get(instrument_id)
        if quote is not None and quote.bid_price is not None and quote.ask_price is not None:
            return (quote.bid_price + quote.ask_price) / 2
        book = self._books.get(instrument_id)
        return None if book is None else book.mid

    def _forget_oldest_closed(self) -> None:
        while len(self._closing_order) > self._closed_limit:
            cloid, _ = self._closing_order.popitem(last=False)
            self._closed.put_if(False, self._orders.pop(cloid))
            self._venue_ids.forget(cloid)


_Scope = tuple[InstrumentId | None, StrategyId | None]
_Group = dict[ClientOrderId, Order]


class _OrderIndex:
    """Orders of one kind, grouped by instrument, by strategy, by both and all together.

    A group stays when its last order leaves it, so that a view of it stays live: there are at most
    as many as instruments times strategies.
    """

    __slots__ = ("_all", "_groups", "_homes")

    def __init__(self) -> None:
        self._all: _Group = {}
        self._groups: dict[_Scope, _Group] = {(None, None): self._all}
        self._homes: dict[tuple[InstrumentId, StrategyId], tuple[_Group, ...]] = {}

    def put_if(self, belongs: bool, order: Order) -> None:
        """Insert or replace *order*, or make sure that it is not in here."""
        cloid = order.client_order_id
        if belongs:
            for group in self._home_of(order):
                group[cloid] = order
        elif cloid in self._all:
            for group in self._home_of(order):
                del group[cloid]

    def select(
        self, instrument_id: InstrumentId | None, strategy_id: StrategyId | None
    ) -> Collection[Order]:
        """A live view of one group; None stands for any."""
        group = self._groups.get((instrument_id, strategy_id))
        return () if group is None else group.values()

    def _home_of(self, order: Order) -> tuple[_Group, ...]:
        """The groups that *order* is in when it is in here at all."""
        key = order.instrument_id, order.strategy_id
        home = self._homes.get(key)
        if home is None:
            home = tuple(self._groups.setdefault(scope, {}) for scope in _scopes(order))
            self._homes[key] = home
        return home


def _scopes(order: Order) -> tuple[_Scope, ...]:
    instrument_id, strategy_id = order.instrument_id, order.strategy_id
    return (None, None), (instrument_id, None), (None, strategy_id), (instrument_id, strategy_id)


_VenueKey = tuple[AccountId, VenueOrderId]


class _VenueIds:
    """Which order a venue's order id means: the last one of the account that was given it."""

    __slots__ = ("_keys", "_orders")

    def __init__(self) -> None:
        self._orders: dict[_VenueKey, ClientOrderId] = {}
        self._keys: dict[ClientOrderId, list[_VenueKey]] = {}

    def put(
        self, account_id: AccountId, venue_order_id: VenueOrderId, client_order_id: ClientOrderId
    ) -> None:
        """Remember an id that an order was given, and its former ones up to a bound."""
        key = account_id, venue_order_id
        holder = self._orders.get(key)
        if holder == client_order_id:
            return
        if holder is not None:
            self._keys[holder].remove(key)
        self._orders[key] = client_order_id
        keys = self._keys.setdefault(client_order_id, [])
        keys.append(key)
        if len(keys) > _VENUE_IDS_PER_ORDER:
            del self._orders[keys.pop(0)]

    def of(self, client_order_id: ClientOrderId) -> tuple[VenueOrderId, ...]:
        """The ids by which an order is found, oldest first."""
        return tuple(venue_order_id for _, venue_order_id in self._keys.get(client_order_id, ()))

    def find(self, account_id: AccountId, venue_order_id: VenueOrderId) -> ClientOrderId | None:
        """The client order id of the order that was given *venue_order_id*."""
        return self._orders.get((account_id, venue_order_id))

    def forget(self, client_order_id: ClientOrderId) -> None:
        """Forget all venue ids of an order."""
        for key in self._keys.pop(client_order_id, ()):
            del self._orders[key]


def _check_same(known: Order | None, order: Order) -> None:
    if known is None:
        return
    before = known.account_id, known.instrument_id, known.strategy_id
    after = order.account_id, order.instrument_id, order.strategy_id
    if before != after:
        raise OrderError(f"order {order.client_order_id} of {before} cannot become one of {after}")
