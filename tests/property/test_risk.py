"""Whatever was let pass fills as it may: the limits hold in every outcome."""

from __future__ import annotations

from decimal import Decimal

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_risk import ACCOUNT, BTC, ETH, Desk, limits
from zq_daemon.core.order_state import apply
from zq_daemon.model.event import OrderFilled, TradingState
from zq_daemon.model.fill import Fill, Liquidity
from zq_daemon.model.ids import InstrumentId, TradeId, VenueOrderId
from zq_daemon.model.order import Order, OrderStatus

MARKS = {BTC: Decimal(100), ETH: Decimal(10)}
CONFIG = limits(
    max_position_quantity={BTC: Decimal(8)}, max_position_notional="1000", max_gross_exposure="1200"
)
SIZES = st.integers(1, 9).map(str)
STEPS = st.one_of(
    st.tuples(
        st.just("order"), st.sampled_from([BTC, ETH]), st.sampled_from(["", "-"]), SIZES,
        st.booleans(),
    ),
    st.tuples(st.just("modify"), st.integers(0, 30), SIZES),
    st.tuples(st.just("fill"), st.integers(0, 30), st.integers(1, 9)),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
)  # fmt: skip


class Market(Desk):
    """A desk whose live orders fill as the test wants."""

    def live(self, index: int) -> Order | None:
        orders = tuple(self.cache.orders_live())
        return orders[index % len(orders)] if orders else None

    def fill(self, order: Order, quantity: Decimal) -> None:
        trade = Fill(
            trade_id=TradeId(f"{order.client_order_id}-{len(order.trade_ids)}"),
            client_order_id=order.client_order_id,
            venue_order_id=VenueOrderId("1"),
            account_id=ACCOUNT,
            instrument_id=order.instrument_id,
            side=order.side,
            price=MARKS[order.instrument_id],
            quantity=quantity,
            fee=Decimal(0),
            fee_currency="USDC",
            liquidity=Liquidity.MAKER,
            ts_event_ns=0,
            ts_recv_ns=0,
        )
        event = OrderFilled(
            client_order_id=order.client_order_id,
            strategy_id=order.strategy_id,
            instrument_id=order.instrument_id,
            ts_event_ns=0,
            fill=trade,
        )
        self.cache.put_order(apply(order, event))
        self.portfolio.on_fill(trade, order.strategy_id)

    def held(self, iid: InstrumentId) -> Decimal:
        return self.portfolio.quantity(ACCOUNT, iid)

    def take(self, step: tuple) -> None:  # type: ignore[type-arg]
        match step:
            case ("order", iid, sign, size, reduce_only):
                price = str(MARKS[iid])
                order = self.order(sign + size, price, instrument_id=iid, reduce_only=reduce_only)
                if self.risk.check(order, 0) is None:
                    self.cache.put_order(evolve(order, status=OrderStatus.ACCEPTED))
            case ("modify", index, size):
                live = self.live(index)
                if live and self.risk.check_modify(live, None, Decimal(size), 0) is None:
                    self.cache.put_order(evolve(live, quantity=Decimal(size)))
            case ("fill", index, size):
                live = self.live(index)
                if live is not None:
                    self.fill_as_the_venue_would(live, Decimal(size))
            case ("cancel", index):
                live = self.live(index)
                if live is not None:
                    self.cache.put_order(evolve(live, status=OrderStatus.CANCELED))

    def fill_as_the_venue_would(self, order: Order, most: Decimal) -> None:
        """A venue itself cuts a reduce-only order to the position."""
        quantity = min(order.remaining_quantity, most)
        if order.reduce_only:
            quantity = min(quantity, -self.held(order.instrument_id) * order.side.sign)
        if quantity > 0:
            self.fill(order, quantity)


@settings(max_examples=60)
@given(steps=st.lists(STEPS, max_size=40))
def test_no_way_of_filling_breaks_a_limit(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    market = Market(CONFIG)
    for step in steps:
        market.take(step)
        assert abs(market.held(BTC)) <= 8
        gross = sum(abs(market.held(iid)) * mark for iid, mark in MARKS.items())
        assert gross <= 1200


@settings(max_examples=60)
@given(held=st.integers(-9, 9), steps=st.lists(STEPS, max_size=40))
def test_while_reducing_no_position_grows_or_flips(held: int, steps: list[tuple]) -> None:  # type: ignore[type-arg]
    market = Market()
    if held:
        market.hold(str(held))
    market.risk.set_state(TradingState.REDUCING, "operator")
    before = Decimal(held)
    for step in steps:
        market.take(step)
        after = market.held(BTC)
        assert abs(after) <= abs(before)
        assert after * held >= 0
        assert market.held(ETH) == 0
        before = after
