"""A synthetic fill and the real ones that come late: nothing is counted twice, nothing is lost."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from zq_daemon.core.order_state import apply
from zq_daemon.core.portfolio import Portfolio
from zq_daemon.core.synthesis import best_price, replaced_by, synthesise
from zq_daemon.model.event import OrderAccepted, OrderFilled
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
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderStatus, OrderType

BTC = InstrumentId("hl.BTC")
ACCOUNT = AccountId("0xacc")
MAKER = StrategyId("maker")
INSTRUMENT = Instrument(
    id=BTC,
    venue=Venue("hl"),
    symbol="BTC",
    kind=InstrumentKind.PERPETUAL,
    base_currency="BTC",
    quote_currency="USDC",
    asset_id=0,
    price_decimals=1,
    price_figures=5,
    quantity_decimals=3,
    min_notional=Decimal(10),
)
sides = st.sampled_from([Side.BUY, Side.SELL])
prices = st.integers(90, 110).map(Decimal)
parts = st.lists(st.tuples(st.integers(1, 4).map(Decimal), prices), max_size=5)


def order(side: Side, quantity: Decimal, **changes: object) -> Order:
    made = Order(
        client_order_id=client_order_id(1, 1),
        strategy_id=MAKER,
        account_id=ACCOUNT,
        instrument_id=BTC,
        side=side,
        order_type=OrderType.LIMIT,
        quantity=quantity,
        price=Decimal(100),
        status=OrderStatus.SUBMITTED,
    )
    about = {
        "client_order_id": made.client_order_id,
        "strategy_id": MAKER,
        "instrument_id": BTC,
        "ts_event_ns": 1,
    }
    accepted = apply(made, OrderAccepted(venue_order_id=VenueOrderId("v1"), **about))  # type: ignore[arg-type]
    return accepted.with_changes(dict(changes))


def real(number: int, side: Side, quantity: Decimal, price: Decimal) -> Fill:
    return Fill(
        trade_id=TradeId(f"t{number}"),
        client_order_id=client_order_id(1, 1),
        venue_order_id=VenueOrderId("v1"),
        account_id=ACCOUNT,
        instrument_id=BTC,
        side=side,
        price=price,
        quantity=quantity,
        fee=Decimal("0.1"),
        fee_currency="USDC",
        liquidity=Liquidity.MAKER,
        ts_event_ns=number,
        ts_recv_ns=number,
    )


class Books:
    """An order and the positions, as the ledger keeps them."""

    def __init__(self, asked: Order) -> None:
        self.order = asked
        self.portfolio = Portfolio(marks=lambda _: None, instruments=lambda _: INSTRUMENT)

    def book(self, fill: Fill, *, stated: bool = False) -> None:
        replaced = replaced_by(self.order, fill)
        event = OrderFilled(
            client_order_id=self.order.client_order_id,
            strategy_id=MAKER,
            instrument_id=BTC,
            ts_event_ns=fill.ts_event_ns,
            fill=fill,
            stated=stated,
            replaces=replaced,
        )
        after = apply(self.order, event)
        if after is not self.order:
            self.order = after
            self.portfolio.on_fill(fill, MAKER, stated=stated, replaces=replaced)

    def synthesise(self, *, stated: bool = False) -> Fill:
        price = best_price(self.order, None, None)
        assert price is not None
        fill = synthesise(
            self.order,
            self.order.remaining_quantity,
            price,
            venue_order_id=VenueOrderId("v1"),
            instrument=INSTRUMENT,
            ts_event_ns=1,
            ts_recv_ns=1,
        )
        self.book(fill, stated=stated)
        return fill


@given(sides, parts, parts)
def test_late_real_fills_leave_what_they_alone_would_have_made(
    side: Side,
    before: list[tuple[Decimal, Decimal]],
    late: list[tuple[Decimal, Decimal]],
) -> None:
    fills = [real(number, side, *terms) for number, terms in enumerate([*before, *late])]
    total = sum((fill.quantity for fill in fills), Decimal(0))
    if not late:
        return
    books, plain = Books(order(side, total)), Books(order(side, total))
    for fill in fills[: len(before)]:
        books.book(fill)
    synthetic = books.synthesise()
    assert books.order.status is OrderStatus.FILLED
    assert books.order.synthetic is not None
    books.book(synthetic)  # the same evidence once more
    for fill in fills[len(before) :]:
        books.book(fill)
        books.book(fill)
        assert books.order.status is OrderStatus.FILLED
        assert books.order.filled_quantity == total
        assert abs(books.portfolio.quantity(ACCOUNT, BTC)) == total
    for fill in fills:
        plain.book(fill)
    assert books.order.synthetic is None
    assert books.order.filled_notional == plain.order.filled_notional
    assert books.order.fees == plain.order.fees
    ours, theirs = (each.portfolio.position(ACCOUNT, BTC) for each in (books, plain))
    assert (ours.quantity, ours.fees) == (theirs.quantity, theirs.fees)
    assert ours.realized_pnl - ours.cost == theirs.realized_pnl - theirs.cost
    assert books.portfolio.strategy_position(MAKER, BTC) == ours


@given(sides, parts)
def test_an_id_follows_from_the_order_and_what_was_filled_before(
    side: Side, before: list[tuple[Decimal, Decimal]]
) -> None:
    books = [Books(order(side, Decimal(100))) for _ in range(2)]
    for each in books:
        for number, terms in enumerate(before):
            each.book(real(number, side, *terms))
    first, second = (each.synthesise() for each in books)
    assert first == second
    assert first.is_synthetic
    assert first.fee == 0


def test_a_stated_one_moves_the_strategys_position_only() -> None:
    books = Books(order(Side.BUY, Decimal(2)))
    books.synthesise(stated=True)
    assert books.portfolio.quantity(ACCOUNT, BTC) == 0
    assert books.portfolio.strategy_position(MAKER, BTC).quantity == 2
    assert books.order.synthetic is not None
    assert books.order.synthetic.stated


def test_the_best_known_price() -> None:
    mark, average = Decimal(7), Decimal(8)
    limit = order(Side.BUY, Decimal(1))
    market = order(Side.BUY, Decimal(1), order_type=OrderType.MARKET)
    stop = order(Side.BUY, Decimal(1), order_type=OrderType.STOP_MARKET, trigger_price=Decimal(9))
    assert best_price(limit, None, mark) == 100
    assert best_price(limit, average, mark) == average
    assert best_price(market, None, mark) == mark
    assert best_price(market, None, None) == 100
    assert best_price(stop, None, mark) == 9
    again = Books(limit)
    again.synthesise()
    assert best_price(again.order, average, mark) == 100  # as before: it can be taken back exactly
