"""The cache against a twin that keeps a list of orders and searches it for every question."""

from __future__ import annotations

from collections.abc import Callable, Collection
from decimal import Decimal
from itertools import product

from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from zq_daemon.core.cache import Cache
from zq_daemon.model.ids import AccountId, ClientOrderId, InstrumentId, StrategyId, VenueOrderId
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderStatus, OrderType, Pending

INSTRUMENTS = [InstrumentId("hyperliquid.BTC"), InstrumentId("hyperliquid.ETH")]
STRATEGIES = [StrategyId("maker"), StrategyId("cross")]
ACCOUNTS = [AccountId("a"), AccountId("b")]
VENUE_IDS = [VenueOrderId(str(number)) for number in range(6)]
CLOSED = 3

numbers = st.integers(0, 9)
statuses = st.sampled_from(OrderStatus)
pendings = st.sampled_from([None, *Pending])
venue_ids = st.sampled_from([None, *VENUE_IDS])
sides = st.sampled_from(Side)
quantities = st.integers(1, 40).map(lambda steps: Decimal(steps) / 10)

Belongs = Callable[[Order], bool]


class CacheMachine(RuleBasedStateMachine):
    """Puts orders in any state, in any order of events, and asks everything after each."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = Cache(closed_orders=CLOSED)
        self.orders: dict[ClientOrderId, Order] = {}
        self.closing: list[ClientOrderId] = []
        self.holders: dict[tuple[AccountId, VenueOrderId], ClientOrderId] = {}

    @rule(number=numbers, status=statuses, pending=pendings, venue_id=venue_ids)
    def put(
        self, number: int, status: OrderStatus, pending: Pending | None, venue_id: VenueOrderId
    ) -> None:
        before = self.orders.get(_order(number).client_order_id, _order(number))
        self._put(evolve(before, status=status, pending=pending, venue_order_id=venue_id))

    @rule(number=numbers, side=sides, reduce_only=st.booleans(), quantity=st.none() | quantities)
    def ask_for(self, number: int, side: Side, reduce_only: bool, quantity: Decimal | None) -> None:
        before = self.orders.get(_order(number).client_order_id, _order(number))
        quantity = before.quantity if quantity is None else quantity
        self._put(evolve(before, side=side, reduce_only=reduce_only, quantity=quantity))

    @rule(number=numbers, filled=quantities, pending_quantity=st.none() | quantities)
    def fill(self, number: int, filled: Decimal, pending_quantity: Decimal | None) -> None:
        before = self.orders.get(_order(number).client_order_id, _order(number))
        filled = min(filled, before.quantity)
        self._put(evolve(before, filled_quantity=filled, pending_quantity=pending_quantity))

    def _put(self, order: Order) -> None:
        self.cache.put_order(order)
        venue_id = order.venue_order_id
        self.orders[order.client_order_id] = order
        if venue_id is not None:
            self.holders[order.account_id, venue_id] = order.client_order_id
        self._close(order)

    @invariant()
    def every_order_is_found(self) -> None:
        for number in range(10):
            cloid = _order(number).client_order_id
            assert self.cache.order(cloid) is self.orders.get(cloid)

    @invariant()
    def every_venue_id_leads_to_its_holder(self) -> None:
        for key in product(ACCOUNTS, VENUE_IDS):
            holder = self.holders.get(key)
            expected = None if holder is None else self.orders[holder]
            assert self.cache.order_by_venue_id(*key) is expected

    @invariant()
    def every_index_is_what_a_search_finds(self) -> None:
        for instrument_id, strategy_id in product([None, *INSTRUMENTS], [None, *STRATEGIES]):
            narrowed = {"instrument_id": instrument_id, "strategy_id": strategy_id}

            def same(view: Collection[Order], belongs: Belongs, by: dict = narrowed) -> None:
                found = [order for order in self._search(**by) if belongs(order)]
                assert len(view) == len(found)
                assert sorted(view, key=_cloid) == sorted(found, key=_cloid)

            same(self.cache.orders_open(**narrowed), lambda order: order.is_open)
            same(self.cache.orders_in_flight(**narrowed), lambda order: order.is_in_flight)
            same(self.cache.orders_live(**narrowed), lambda order: not order.is_closed)
            same(self.cache.orders_closed(**narrowed), lambda order: order.is_closed)
            assert self.cache.open_count(**narrowed) == len(self.cache.orders_open(**narrowed))
            assert self.cache.live_count(**narrowed) == len(self.cache.orders_live(**narrowed))

    @invariant()
    def what_live_orders_may_fill_is_their_sum(self) -> None:
        live = [order for order in self.orders.values() if not order.is_closed]
        kinds = product(ACCOUNTS, INSTRUMENTS, Side, (True, False))
        for account_id, instrument_id, side, reduce_only in kinds:
            wanted = account_id, instrument_id, side, reduce_only
            expected = sum(
                order.fillable_quantity
                for order in live
                if (order.account_id, order.instrument_id, order.side, order.reduce_only) == wanted
            )
            committed = self.cache.committed(account_id, instrument_id)
            assert committed.get((side, reduce_only), 0) == expected
            if expected:
                assert instrument_id in self.cache.committed_instruments(account_id)

    def _search(
        self, instrument_id: InstrumentId | None, strategy_id: StrategyId | None
    ) -> list[Order]:
        return [
            order
            for order in self.orders.values()
            if instrument_id in (None, order.instrument_id)
            and strategy_id in (None, order.strategy_id)
        ]

    def _close(self, order: Order) -> None:
        cloid = order.client_order_id
        if not order.is_closed:
            self.closing = [each for each in self.closing if each != cloid]
        elif cloid not in self.closing:
            self.closing.append(cloid)
        for oldest in self.closing[:-CLOSED]:
            del self.orders[oldest]
            self.closing.remove(oldest)
            self.holders = {key: each for key, each in self.holders.items() if each != oldest}


CacheMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40)
TestCache = CacheMachine.TestCase


def _cloid(order: Order) -> str:
    return order.client_order_id


def _order(number: int) -> Order:
    return Order(
        client_order_id=ClientOrderId(f"0x{number}"),
        strategy_id=STRATEGIES[number % 2],
        account_id=ACCOUNTS[number // 2 % 2],
        instrument_id=INSTRUMENTS[number // 4 % 2],
        side=Side.BUY,
        order_type=OrderType.LIMIT,
        quantity=Decimal(1),
        price=Decimal(1),
    )
