"""Positions against a ledger that only ever adds up cash and quantity, in exact fractions."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_portfolio import ACCOUNT, BTC, fill, new_portfolio
from zq_daemon.core.portfolio import apply_fill
from zq_daemon.model.fill import Fill
from zq_daemon.model.ids import StrategyId
from zq_daemon.model.position import Position

FLAT = Position(account_id=ACCOUNT, instrument_id=BTC)

QUANTITIES = st.tuples(
    st.sampled_from(["", "-"]),
    st.integers(1, 10**9),
    st.integers(0, 8),
).map(lambda parts: f"{parts[0]}{Decimal(parts[1]).scaleb(-parts[2])}")
PRICES = st.tuples(st.integers(1, 99_999), st.integers(-3, 8)).map(
    lambda parts: str(Decimal(parts[0]).scaleb(-parts[1]))
)
FEES = st.integers(-1000, 100_000).map(lambda units: str(Decimal(units).scaleb(-6)))
FILLS = st.builds(
    lambda quantity, price, fee: fill(quantity, price, fee=fee), QUANTITIES, PRICES, FEES
)


def ledger(fills: list[Fill]) -> tuple[Fraction, Fraction, Fraction]:
    """Cash received, quantity held and fees paid."""
    cash = quantity = fees = Fraction(0)
    for each in fills:
        signed = each.side.sign * Fraction(each.quantity)
        cash -= signed * Fraction(each.price)
        quantity += signed
        fees += Fraction(each.fee)
    return cash, quantity, fees


def book(fills: list[Fill]) -> Position:
    position = FLAT
    for each in fills:
        position = apply_fill(position, each)
    return position


@settings(max_examples=100)
@given(fills=st.lists(FILLS, max_size=40), mark=PRICES)
def test_realised_plus_unrealised_is_the_ledger_to_the_last_digit(
    fills: list[Fill], mark: str
) -> None:
    position = book(fills)
    cash, quantity, fees = ledger(fills)
    assert Fraction(position.quantity) == quantity
    assert Fraction(position.fees) == fees
    total = Fraction(position.realized_pnl) + Fraction(position.unrealized_pnl(Decimal(mark)))
    assert total == cash + quantity * Fraction(mark)
    assert Fraction(position.net_pnl(Decimal(mark))) == total - fees


@settings(max_examples=100)
@given(fills=st.lists(FILLS, min_size=1, max_size=30))
def test_the_entry_price_is_that_of_the_fills_since_the_position_was_flat(
    fills: list[Fill],
) -> None:
    position, entry, quantity = FLAT, Fraction(0), Fraction(0)
    for each in fills:
        position = apply_fill(position, each)
        change = each.side.sign * Fraction(each.quantity)
        after = quantity + change
        if quantity * change >= 0 and after:
            entry = (entry * quantity + Fraction(each.price) * change) / after
        elif quantity * after < 0:
            entry = Fraction(each.price)
        quantity = after
        assert abs(Fraction(position.cost) - entry * quantity) < Fraction(1, 10**15)


@settings(max_examples=60)
@given(fills=st.lists(FILLS, max_size=20), close=PRICES)
def test_a_closed_position_has_realised_all_its_cash(fills: list[Fill], close: str) -> None:
    position = book(fills)
    if position.quantity:
        fills = [*fills, fill(str(-position.quantity), close)]
    closed = book(fills)
    assert (closed.quantity, closed.cost) == (0, 0)
    assert Fraction(closed.realized_pnl) == ledger(fills)[0]


@settings(max_examples=60)
@given(
    booked=st.lists(st.tuples(FILLS, st.sampled_from(["a", "b", "c"])), max_size=30), mark=PRICES
)
def test_the_strategies_add_up_to_the_account(booked: list[tuple[Fill, str]], mark: str) -> None:
    portfolio = new_portfolio({BTC: Decimal(mark)})
    for each, strategy in booked:
        portfolio.on_fill(each, StrategyId(strategy))
    parts = [portfolio.strategy_pnl(StrategyId(name)) for name in "abc"]
    total = sum((Fraction(part.net) for part in parts), Fraction(0))
    assert total == Fraction(portfolio.pnl(ACCOUNT).net)


def test_many_partial_reductions_do_not_grow_digits() -> None:
    position = book([fill("100000", "33.333")])
    for _ in range(5000):
        position = apply_fill(position, fill("-7", "33.1"))
        position = apply_fill(position, fill("3", "33.7"))
    exponent = position.cost.as_tuple().exponent
    assert isinstance(exponent, int)
    assert exponent >= -18
    assert len(position.realized_pnl.as_tuple().digits) < 40
