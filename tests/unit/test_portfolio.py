"""Positions, P&L, fees, funding, equity and the day's P&L, by hand-computed examples."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType

import pytest
from attrs import evolve

from zq_daemon.core.baseline import DayMeasure
from zq_daemon.core.portfolio import NS_PER_DAY, Pnl, Portfolio, apply_fill
from zq_daemon.model.account import Account, Balance
from zq_daemon.model.event import FundingPaid
from zq_daemon.model.fill import Fill, Liquidity
from zq_daemon.model.ids import AccountId, InstrumentId, StrategyId, TradeId, Venue, VenueOrderId
from zq_daemon.model.instrument import Instrument, InstrumentKind
from zq_daemon.model.market import Side
from zq_daemon.model.money import ZERO
from zq_daemon.model.position import Position
from zq_daemon.model.report import PositionReport

ACCOUNT = AccountId("0xacc")
OTHER = AccountId("0xother")
BTC = InstrumentId("hyperliquid.BTC")
ETH = InstrumentId("hyperliquid.ETH")
MAKER = StrategyId("maker")
CROSS = StrategyId("cross")
DAY_NS = 20_000 * NS_PER_DAY


def fill(
    quantity: str,
    price: str,
    *,
    fee: str = "0",
    currency: str = "USDC",
    account: AccountId = ACCOUNT,
    instrument: InstrumentId = BTC,
) -> Fill:
    """A fill of signed *quantity*."""
    size = Decimal(quantity)
    return Fill(
        trade_id=TradeId("t"),
        client_order_id=None,
        venue_order_id=VenueOrderId("1"),
        account_id=account,
        instrument_id=instrument,
        side=Side.BUY if size > 0 else Side.SELL,
        price=Decimal(price),
        quantity=abs(size),
        fee=Decimal(fee),
        fee_currency=currency,
        liquidity=Liquidity.TAKER,
        ts_event_ns=7,
        ts_recv_ns=8,
    )


def position_after(*fills: Fill) -> Position:
    position = Position(account_id=ACCOUNT, instrument_id=BTC)
    for each in fills:
        position = apply_fill(position, each)
    return position


def instrument(iid: InstrumentId) -> Instrument:
    return Instrument(
        id=iid,
        venue=Venue("hyperliquid"),
        symbol=iid.partition(".")[2],
        kind=InstrumentKind.PERPETUAL,
        base_currency="BTC",
        quote_currency="USDC",
        asset_id=0,
        price_decimals=1,
        price_figures=5,
        quantity_decimals=5,
        min_notional=Decimal(10),
    )


def test_a_spot_fee_in_the_base_token_is_taken_out_of_what_was_bought() -> None:
    spot = evolve(instrument(BTC), kind=InstrumentKind.SPOT)
    flat = Position(account_id=ACCOUNT, instrument_id=BTC)
    bought = apply_fill(flat, fill("2", "10", fee="0.01", currency="BTC"), instrument=spot)
    assert (bought.quantity, bought.cost, bought.fees) == (
        Decimal("1.99"),
        Decimal("19.90"),
        Decimal("0.10"),
    )
    sold = apply_fill(bought, fill("-1.99", "11", fee="0.02"), instrument=spot)
    assert (sold.quantity, sold.realized_pnl, sold.fees) == (0, Decimal("1.99"), Decimal("0.12"))


def test_a_contracts_fee_in_another_currency_changes_no_position() -> None:
    held = apply_fill(
        Position(account_id=ACCOUNT, instrument_id=BTC),
        fill("2", "10", fee="0.01", currency="BTC"),
        instrument=instrument(BTC),
    )
    assert (held.quantity, held.fees) == (2, 0)


def statement(equity: str, ts: int = 1) -> Account:
    return Account(
        account_id=ACCOUNT,
        balances=(Balance(currency="USDC", total=Decimal(equity), free=Decimal(equity)),),
        equity=Decimal(equity),
        margin_used=Decimal(0),
        ts_event_ns=ts,
        ts_recv_ns=ts,
    )


def funding(amount: str) -> FundingPaid:
    return FundingPaid(
        account_id=ACCOUNT,
        instrument_id=BTC,
        amount=Decimal(amount),
        rate=Decimal("0.0001"),
        ts_event_ns=9,
    )


def report(quantity: str, entry: str | None) -> PositionReport:
    return PositionReport(
        account_id=ACCOUNT,
        instrument_id=BTC,
        quantity=Decimal(quantity),
        average_entry_price=None if entry is None else Decimal(entry),
        ts_event_ns=3,
        ts_recv_ns=4,
    )


class Marks(dict[InstrumentId, Decimal]):
    """Marks that a test sets."""

    def __init__(self, **marks: int) -> None:
        super().__init__({InstrumentId(f"hyperliquid.{k}"): Decimal(v) for k, v in marks.items()})


def new_portfolio(marks: Mapping[InstrumentId, Decimal] = MappingProxyType({})) -> Portfolio:
    return Portfolio(marks=marks.get, instruments=instrument)


def test_increasing_averages_the_entry() -> None:
    position = position_after(fill("1", "100"), fill("3", "104"))
    assert (position.quantity, position.average_entry_price) == (4, 103)
    assert position.realized_pnl == 0
    assert position.unrealized_pnl(Decimal(105)) == 8


def test_reducing_realises_pro_rata_and_keeps_the_entry() -> None:
    position = position_after(fill("4", "100"), fill("-1", "110"))
    assert (position.quantity, position.average_entry_price) == (3, 100)
    assert position.realized_pnl == 10


def test_a_short_is_the_mirror_image() -> None:
    position = position_after(fill("-2", "50"), fill("1", "40"))
    assert (position.quantity, position.average_entry_price) == (-1, 50)
    assert position.realized_pnl == 10
    assert position.unrealized_pnl(Decimal(45)) == 5


def test_closing_leaves_no_cost() -> None:
    position = position_after(fill("3", "10"), fill("-3", "9"))
    assert (position.quantity, position.cost, position.realized_pnl) == (0, 0, -3)
    assert position.average_entry_price is None
    assert position.unrealized_pnl(Decimal(1000)) == 0


@pytest.mark.parametrize(("first", "second", "left"), [("2", "-5", -3), ("-2", "5", 3)])
def test_a_flip_realises_all_and_enters_at_the_new_price(
    first: str, second: str, left: int
) -> None:
    position = position_after(fill(first, "100"), fill(second, "110"))
    assert (position.quantity, position.average_entry_price) == (left, 110)
    assert position.realized_pnl == (20 if left < 0 else -20)


def test_an_entry_price_without_a_finite_decimal_loses_no_cash() -> None:
    fills = [fill("1", "100"), fill("1", "100"), fill("1", "101"), fill("-1", "100.5")]
    position = position_after(*fills)
    cash = Fraction(-100 - 100 - 101) + Fraction("100.5")
    assert Fraction(position.realized_pnl) - Fraction(position.cost) == cash
    assert abs(Fraction(position.cost) - Fraction(602, 3)) < Fraction(1, 10**17)
    exponent = position.cost.as_tuple().exponent
    assert isinstance(exponent, int)
    assert exponent >= -18


def test_a_fee_in_another_currency_is_kept_apart() -> None:
    portfolio = new_portfolio()
    portfolio.on_fill(fill("1", "100", fee="0.05"), MAKER)
    portfolio.on_fill(fill("1", "100", fee="-0.01"), MAKER)
    position = portfolio.on_fill(fill("1", "100", fee="0.0002", currency="BTC"), MAKER)
    assert position.fees == Decimal("0.04")
    assert portfolio.fees(ACCOUNT) == {"USDC": Decimal("0.04"), "BTC": Decimal("0.0002")}
    assert portfolio.fees(OTHER) == {}


def test_the_fee_on_an_unknown_instrument_is_taken_as_quote_currency() -> None:
    portfolio = Portfolio(marks=lambda _: None, instruments=lambda _: None)
    assert portfolio.on_fill(fill("1", "100", fee="0.05"), MAKER).fees == Decimal("0.05")


def test_positions_are_kept_by_account_and_by_strategy() -> None:
    portfolio = new_portfolio()
    portfolio.on_fill(fill("3", "100"), MAKER)
    portfolio.on_fill(fill("-1", "110"), CROSS)
    portfolio.on_fill(fill("5", "10", account=OTHER, instrument=ETH), None)
    assert portfolio.position(ACCOUNT, BTC).quantity == 2
    assert portfolio.strategy_position(MAKER, BTC).quantity == 3
    assert portfolio.strategy_position(CROSS, BTC).quantity == -1
    assert portfolio.strategy_position(CROSS, BTC).realized_pnl == 0
    assert [p.quantity for p in portfolio.strategy_positions(MAKER)] == [3]
    assert [p.instrument_id for p in portfolio.positions(OTHER)] == [ETH]
    assert len(portfolio.positions()) == 2
    assert set(portfolio.account_ids()) == {ACCOUNT, OTHER}


def test_what_was_never_held_is_flat() -> None:
    portfolio = new_portfolio()
    assert portfolio.position(ACCOUNT, BTC) == Position(account_id=ACCOUNT, instrument_id=BTC)
    assert portfolio.quantity(ACCOUNT, BTC) == 0
    assert portfolio.strategy_position(MAKER, BTC).quantity == 0
    assert portfolio.exposure(ACCOUNT, BTC) == 0
    assert portfolio.positions() == portfolio.strategy_positions(MAKER) == ()


def test_pnl_adds_up_over_instruments_with_funding_and_fees() -> None:
    portfolio = new_portfolio(Marks(BTC=120, ETH=9))
    portfolio.on_fill(fill("2", "100", fee="1"), MAKER)
    portfolio.on_fill(fill("-1", "110", fee="1"), MAKER)
    portfolio.on_fill(fill("4", "10", instrument=ETH), CROSS)
    portfolio.on_funding(funding("-3"))
    pnl = portfolio.pnl(ACCOUNT)
    assert (pnl.realized, pnl.unrealized, pnl.fees, pnl.funding) == (10, 16, 2, -3)
    assert pnl.net == 21
    assert portfolio.pnl() == pnl
    assert portfolio.pnl(OTHER) == Pnl()
    assert portfolio.strategy_pnl(MAKER).net == 28
    assert portfolio.strategy_pnl(CROSS).unrealized == -4


def test_a_position_without_a_mark_has_no_unrealised_pnl_and_is_valued_at_cost() -> None:
    portfolio = new_portfolio()
    portfolio.on_fill(fill("-2", "100"), MAKER)
    assert portfolio.pnl(ACCOUNT).unrealized == 0
    assert portfolio.exposure(ACCOUNT, BTC) == -200
    assert portfolio.gross_exposure(ACCOUNT) == 200


def test_gross_and_net_exposure() -> None:
    portfolio = new_portfolio(Marks(BTC=120, ETH=9))
    portfolio.on_fill(fill("2", "100"), MAKER)
    portfolio.on_fill(fill("-10", "10", instrument=ETH), MAKER)
    assert portfolio.gross_exposure(ACCOUNT) == 330
    assert portfolio.net_exposure(ACCOUNT) == 150


def test_equity_carries_the_last_statement_on() -> None:
    marks = Marks(BTC=100)
    portfolio = new_portfolio(marks)
    assert portfolio.equity(ACCOUNT) is None
    portfolio.on_fill(fill("2", "90"), MAKER)
    portfolio.on_account(statement("1000", ts=5))
    assert portfolio.equity(ACCOUNT) == 1000
    marks[BTC] = Decimal(110)
    assert portfolio.equity(ACCOUNT) == 1020
    portfolio.on_fill(fill("-2", "110", fee="1"), MAKER)
    assert portfolio.equity(ACCOUNT) == 1019
    portfolio.on_account(statement("1", ts=4))
    assert portfolio.equity(ACCOUNT) == 1019
    portfolio.on_account(statement("1000", ts=5))
    assert portfolio.equity(ACCOUNT) == 1000
    account = portfolio.account(ACCOUNT)
    assert account is not None
    assert account.balances[0].total == 1000


def test_equity_follows_a_position_from_its_first_mark() -> None:
    marks = Marks()
    portfolio = new_portfolio(marks)
    portfolio.set_position(report("2", "90"))
    portfolio.on_account(statement("1000"))
    assert portfolio.equity(ACCOUNT) == 1000
    marks[BTC] = Decimal(200)
    assert portfolio.equity(ACCOUNT) == 1000
    marks[BTC] = Decimal(210)
    assert portfolio.equity(ACCOUNT) == 1020
    del marks[BTC]
    assert portfolio.equity(ACCOUNT) == 1000


def test_a_position_taken_over_after_the_statement_is_in_its_equity_already() -> None:
    marks = Marks(BTC=100)
    portfolio = new_portfolio(marks)
    portfolio.on_account(statement("1000"))
    portfolio.set_position(report("2", "500"))
    assert portfolio.equity(ACCOUNT) == 1000
    marks[BTC] = Decimal(99)
    assert portfolio.equity(ACCOUNT) == 998


def test_a_position_opened_after_the_statement_counts_whole() -> None:
    portfolio = new_portfolio(Marks(BTC=100))
    portfolio.on_account(statement("1000"))
    portfolio.on_fill(fill("1", "90", fee="1"), MAKER)
    assert portfolio.equity(ACCOUNT) == 1009


def test_a_venue_position_is_taken_over_with_its_entry() -> None:
    portfolio = new_portfolio(Marks(BTC=100))
    position = portfolio.set_position(report("-3", "110"))
    assert (position.quantity, position.cost, position.realized_pnl) == (-3, -330, 0)
    assert portfolio.pnl(ACCOUNT).unrealized == 30
    assert portfolio.set_position(report("0", None)).cost == 0


def test_the_days_pnl_starts_anew_at_midnight_utc() -> None:
    marks = Marks(BTC=100)
    portfolio = new_portfolio(marks)
    portfolio.on_fill(fill("1", "90", fee="1"), MAKER)
    assert portfolio.day_pnl(ACCOUNT, DAY_NS) == 9
    marks[BTC] = Decimal(80)
    assert portfolio.day_pnl(ACCOUNT, DAY_NS + NS_PER_DAY - 1) == -11
    assert portfolio.day_pnl(ACCOUNT, DAY_NS + NS_PER_DAY) == 0
    portfolio.on_fill(fill("-1", "70"), MAKER)
    portfolio.on_fill(fill("1", "10", instrument=ETH, fee="2"), MAKER)
    assert portfolio.day_pnl(ACCOUNT, DAY_NS + NS_PER_DAY + 1) == -10
    marks[ETH] = Decimal(11)
    assert portfolio.day_pnl(ACCOUNT, DAY_NS + NS_PER_DAY + 1) == -11
    assert portfolio.day_pnl(ACCOUNT, DAY_NS) == -11


def test_a_position_taken_over_counts_from_then() -> None:
    marks = Marks(BTC=100)
    portfolio = new_portfolio(marks)
    portfolio.set_position(report("2", "500"))
    assert portfolio.day_pnl(ACCOUNT, DAY_NS) == 0
    marks[BTC] = Decimal(99)
    assert portfolio.day_pnl(ACCOUNT, DAY_NS) == -2


def test_a_difference_taken_over_is_no_pnl_and_hides_none() -> None:
    marks = Marks(BTC=100)
    portfolio = new_portfolio(marks)
    portfolio.on_account(statement("1000"))
    portfolio.on_fill(fill("1", "100", fee="1"), MAKER)
    marks[BTC] = Decimal(95)
    portfolio.set_position(report("3", "98"))
    assert portfolio.day_pnl(ACCOUNT, DAY_NS) == -6
    assert portfolio.equity(ACCOUNT) == 994
    marks[BTC] = Decimal(94)
    assert portfolio.day_pnl(ACCOUNT, DAY_NS) == -9
    assert portfolio.equity(ACCOUNT) == 991


def test_a_position_taken_over_without_a_mark_counts_from_the_first_mark() -> None:
    marks = Marks()
    portfolio = new_portfolio(marks)
    portfolio.set_position(report("2", "500"))
    assert portfolio.day_pnl(ACCOUNT, DAY_NS) == 0
    marks[BTC] = Decimal(100)
    assert portfolio.day_pnl(ACCOUNT, DAY_NS) == 0
    marks[BTC] = Decimal(101)
    assert portfolio.day_pnl(ACCOUNT, DAY_NS) == 2


def test_a_new_day_after_a_restart_begins_before_anything_is_booked() -> None:
    portfolio = new_portfolio()
    portfolio.on_fill(fill("1", "90"), MAKER)
    portfolio.keep_day(ACCOUNT, DayMeasure(day=20_000, since={BTC: ZERO}, marks={BTC: Decimal(95)}))
    portfolio.resume_days(DAY_NS + 2 * NS_PER_DAY)
    portfolio.on_fill(fill("-1", "80"), MAKER)
    assert portfolio.day_pnl(ACCOUNT, DAY_NS + 2 * NS_PER_DAY) == -15


def test_funding_on_a_position_never_held_counts_today() -> None:
    portfolio = new_portfolio()
    assert portfolio.on_funding(funding("-3")).funding == -3
    assert portfolio.day_pnl(ACCOUNT, DAY_NS) == -3


def test_the_time_of_the_last_change_never_goes_back() -> None:
    portfolio = new_portfolio()
    assert portfolio.set_position(report("1", "1")).ts_last_ns == 3
    assert portfolio.on_fill(fill("1", "1"), MAKER).ts_last_ns == 7
    assert portfolio.on_funding(funding("1")).ts_last_ns == 9
    assert portfolio.on_fill(fill("1", "1"), MAKER).ts_last_ns == 9
    assert portfolio.set_position(report("1", "1")).ts_last_ns == 9


def test_net_pnl_of_a_position() -> None:
    portfolio = new_portfolio()
    portfolio.on_fill(fill("2", "100", fee="1"), MAKER)
    position = portfolio.on_funding(funding("0.5"))
    assert position.net_pnl(Decimal(101)) == Decimal("1.5")
