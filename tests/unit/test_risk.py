"""Every check of the risk engine: what it stops, what it lets pass, and what it says."""

from __future__ import annotations

from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from attrs import evolve

from zq_daemon.config.schema import RiskConfig
from zq_daemon.core.cache import Cache
from zq_daemon.core.portfolio import NS_PER_DAY, Portfolio
from zq_daemon.core.risk import Denial, DenialCode, RiskEngine
from zq_daemon.model.account import Account
from zq_daemon.model.event import TradingState, TradingStateChanged
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
from zq_daemon.model.market import InstrumentStatus, MarkPrice, Side, TradingStatus
from zq_daemon.model.order import Order, OrderStatus, OrderType, Pending

ACCOUNT, OTHER = AccountId("0xacc"), AccountId("0xother")
BTC, ETH = InstrumentId("hyperliquid.BTC"), InstrumentId("hyperliquid.ETH")
DAY_NS = 20_000 * NS_PER_DAY
SECOND_NS = 1_000_000_000
OFF = RiskConfig(
    max_order_notional=None,
    max_position_notional=None,
    max_gross_exposure=None,
    max_leverage=None,
    max_daily_loss=None,
    max_open_orders=None,
    max_orders_per_second=None,
    price_collar_bps=None,
)


class Desk:
    """A risk engine over a real cache and portfolio: BTC marked at 100, ETH at 10."""

    def __init__(self, config: RiskConfig = OFF) -> None:
        self.cache = Cache()
        self.portfolio = Portfolio(marks=self.cache.mid_or_mark, instruments=self.cache.instrument)
        self.risk = RiskEngine(self.cache, self.portfolio, config)
        self._numbers = count(1)
        for iid, mark in ((BTC, "100"), (ETH, "10")):
            self.cache.add_instrument(instrument(iid))
            self.mark(iid, mark)

    def mark(self, iid: InstrumentId, price: str) -> None:
        self.cache.put_mark(
            MarkPrice(
                instrument_id=iid,
                mark_price=Decimal(price),
                oracle_price=None,
                funding_rate=None,
                open_interest=None,
                ts_event_ns=0,
                ts_recv_ns=0,
            )
        )

    def hold(self, quantity: str, iid: InstrumentId = BTC, price: str = "100") -> None:
        size = Decimal(quantity)
        fill = Fill(
            trade_id=TradeId("t"),
            client_order_id=None,
            venue_order_id=VenueOrderId("1"),
            account_id=ACCOUNT,
            instrument_id=iid,
            side=Side.BUY if size > 0 else Side.SELL,
            price=Decimal(price),
            quantity=abs(size),
            fee=Decimal(0),
            fee_currency="USDC",
            liquidity=Liquidity.TAKER,
            ts_event_ns=0,
            ts_recv_ns=0,
        )
        self.portfolio.on_fill(fill, None)

    def equity(self, equity: str) -> None:
        self.portfolio.on_account(
            Account(
                account_id=ACCOUNT,
                balances=(),
                equity=Decimal(equity),
                margin_used=Decimal(0),
                ts_event_ns=0,
                ts_recv_ns=0,
            )
        )

    def order(self, quantity: str, price: str | None = "100", **changes: Any) -> Order:
        """An order of signed *quantity*."""
        size = Decimal(quantity)
        terms = {
            "client_order_id": client_order_id(1, next(self._numbers)),
            "strategy_id": StrategyId("maker"),
            "account_id": ACCOUNT,
            "instrument_id": BTC,
            "side": Side.BUY if size > 0 else Side.SELL,
            "order_type": OrderType.LIMIT,
            "quantity": abs(size),
            "price": None if price is None else Decimal(price),
        }
        return Order(**(terms | changes))

    def rest(self, quantity: str, price: str | None = "100", **changes: Any) -> Order:
        """Put a live order of signed *quantity* on the book."""
        order = self.order(quantity, price, **({"status": OrderStatus.ACCEPTED} | changes))
        self.cache.put_order(order)
        return order

    def ask(self, quantity: str, price: str | None = "100", **changes: Any) -> str | None:
        """The code of the denial of an order, None if it may leave."""
        return code(self.risk.check(self.order(quantity, price, **changes), 0))


def instrument(iid: InstrumentId) -> Instrument:
    return Instrument(
        id=iid,
        venue=Venue("hyperliquid"),
        symbol=iid.partition(".")[2],
        kind=InstrumentKind.PERPETUAL,
        base_currency="BTC",
        quote_currency="USDC",
        asset_id=0,
        price_decimals=2,
        price_figures=5,
        quantity_decimals=3,
        min_notional=Decimal(10),
    )


def code(denial: Denial | None) -> str | None:
    return None if denial is None else denial.code


def limits(**changes: Any) -> RiskConfig:
    return evolve(OFF, **{key: decimal(value) for key, value in changes.items()})


def decimal(value: Any) -> Any:
    return Decimal(value) if isinstance(value, str) and value[0].isdigit() else value


def test_an_ordinary_order_passes_the_default_limits() -> None:
    desk = Desk(RiskConfig())
    desk.equity("10000")
    assert desk.ask("1") is None


def test_an_unknown_instrument() -> None:
    desk = Desk()
    order = desk.order("1", instrument_id=InstrumentId("hyperliquid.DOGE"))
    denial = desk.risk.check(order, 0)
    assert denial == Denial(DenialCode.UNKNOWN_INSTRUMENT, "hyperliquid.DOGE is not known")


@pytest.mark.parametrize("status", [TradingStatus.DELISTED, TradingStatus.HALTED])
def test_an_instrument_that_does_not_trade(status: TradingStatus) -> None:
    desk = Desk()
    for each, reason in ((TradingStatus.TRADING, ""), (status, "by the venue")):
        desk.cache.put_status(
            InstrumentStatus(
                instrument_id=BTC, status=each, reason=reason, ts_event_ns=0, ts_recv_ns=0
            )
        )
        expected = {TradingStatus.DELISTED: "DELISTED", TradingStatus.HALTED: "INSTRUMENT_HALTED"}
        assert desk.ask("1") == expected.get(each)


def test_a_delisted_instrument() -> None:
    desk = Desk()
    desk.cache.add_instrument(evolve(instrument(BTC), delisted=True))
    assert desk.ask("1") == "DELISTED"


@pytest.mark.parametrize("quantity", ["0", "0.0001", "1.2345", "NaN", "Infinity", "1E+99"])
def test_a_quantity_that_cannot_be_sent(quantity: str) -> None:
    desk = Desk()
    order = evolve(desk.order("1"), quantity=Decimal(quantity))
    assert code(desk.risk.check(order, 0)) == "INVALID_QUANTITY"
    modified = desk.risk.check_modify(desk.rest("1"), None, Decimal(quantity), 0)
    assert code(modified) == "INVALID_QUANTITY"


@pytest.mark.parametrize("price", [None, "0", "-5", "100.001", "1234.56", "NaN", "sNaN"])
def test_a_price_that_cannot_be_sent(price: str | None) -> None:
    desk = Desk()
    denial = desk.risk.check(desk.order("1", price), 0)
    assert code(denial) == "INVALID_PRICE"
    assert denial is not None
    assert f"price {price}:" in denial.reason


def test_the_venues_minimum_notional_binds_all_but_reduce_only() -> None:
    desk = Desk()
    desk.hold("1")
    assert desk.ask("-0.1") is None
    assert desk.ask("-0.099") == "MIN_NOTIONAL"
    assert desk.ask("-0.099", reduce_only=True) is None


def test_the_order_quantity_limit_is_per_instrument() -> None:
    desk = Desk(limits(max_order_quantity={BTC: Decimal(2)}))
    assert desk.ask("2") is None
    assert desk.ask("2.001") == "MAX_ORDER_QUANTITY"
    assert desk.ask("2.001", instrument_id=ETH, price="10") is None


def test_the_order_notional_limit() -> None:
    desk = Desk(limits(max_order_notional="200"))
    assert desk.ask("2") is None
    denial = desk.risk.check(desk.order("2.001"), 0)
    assert denial == Denial("MAX_ORDER_NOTIONAL", "notional 200.100 exceeds 200")


def test_a_market_order_without_a_price_is_valued_at_the_mark() -> None:
    desk = Desk(limits(max_order_notional="200"))
    assert desk.ask("2", None, order_type=OrderType.MARKET) is None
    assert desk.ask("2.001", None, order_type=OrderType.MARKET) == "MAX_ORDER_NOTIONAL"
    sol = InstrumentId("hyperliquid.SOL")
    desk.cache.add_instrument(instrument(sol))
    asked = desk.ask("1", None, order_type=OrderType.MARKET, instrument_id=sol)
    assert asked == "NO_MARK_PRICE"


@pytest.mark.parametrize(("price", "denied"), [("105", 0), ("95", 0), ("105.01", 1), ("94.99", 1)])
def test_the_price_collar(price: str, denied: int) -> None:
    desk = Desk(limits(price_collar_bps=500))
    assert desk.ask("1", price) == ("PRICE_COLLAR" if denied else None)


def test_the_collar_leaves_market_orders_to_their_own_bound() -> None:
    desk = Desk(limits(price_collar_bps=500))
    assert desk.ask("1", "106", order_type=OrderType.MARKET) is None


def test_without_a_mark_the_collar_lets_only_reduce_only_orders_pass() -> None:
    sol = InstrumentId("hyperliquid.SOL")
    desk = Desk(limits(price_collar_bps=500))
    desk.cache.add_instrument(instrument(sol))
    desk.hold("1", sol)
    assert desk.ask("-1", instrument_id=sol) == "NO_MARK_PRICE"
    assert desk.ask("-1", instrument_id=sol, reduce_only=True) is None


@pytest.mark.parametrize(
    ("held", "asked", "passes"),
    [
        ("2", "-2", True),
        ("2", "-2.001", False),
        ("2", "1", False),
        ("-2", "2", True),
        ("-2", "3", False),
        ("-2", "-1", False),
    ],
)
def test_reduce_only_never_increases_nor_flips(held: str, asked: str, passes: bool) -> None:
    desk = Desk()
    desk.hold(held)
    assert desk.ask(asked, reduce_only=True) == (None if passes else "REDUCE_ONLY")


def test_spot_is_sold_from_what_is_held_and_not_on_sale_already() -> None:
    desk = Desk()
    desk.cache.add_instrument(evolve(instrument(BTC), kind=InstrumentKind.SPOT))
    assert desk.ask("-0.1") == "NOT_OWNED"
    desk.hold("2")
    desk.rest("-0.5")
    resting = desk.rest("-1")
    assert desk.ask("-0.5") is None
    denial = desk.risk.check(desk.order("-0.501"), 0)
    assert denial == Denial("NOT_OWNED", "sell 0.501 of BTC: 0.5 is held and not on sale already")
    assert desk.risk.check_modify(resting, None, Decimal("1.5"), 0) is None
    assert code(desk.risk.check_modify(resting, None, Decimal("1.501"), 0)) == "NOT_OWNED"
    assert desk.ask("5") is None


def test_what_is_owned_is_exposure_and_takes_no_leverage() -> None:
    desk = Desk(limits(max_leverage="2", max_gross_exposure="500"))
    desk.cache.add_instrument(evolve(instrument(ETH), kind=InstrumentKind.SPOT))
    desk.equity("100")
    desk.hold("20", ETH, "10")
    desk.mark(ETH, "11")
    assert desk.portfolio.equity(ACCOUNT) == 100
    assert desk.ask("2") is None
    assert desk.ask("2.01") == "MAX_LEVERAGE"
    assert desk.ask("25", "10", instrument_id=ETH) is None
    assert desk.ask("26", "10", instrument_id=ETH) == "MAX_GROSS_EXPOSURE"


def test_reduce_only_without_a_position() -> None:
    desk = Desk()
    denial = desk.risk.check(desk.order("-1", reduce_only=True), 0)
    assert code(denial) == "REDUCE_ONLY"
    assert denial is not None
    assert "sell 1 does not only reduce the position 0" in denial.reason


def test_the_position_quantity_limit_counts_live_orders_of_the_side_as_filled() -> None:
    desk = Desk(limits(max_position_quantity={BTC: Decimal(5)}))
    desk.hold("2")
    desk.rest("1")
    desk.rest("1", filled_quantity=Decimal("0.5"))
    desk.rest("0.5", status=OrderStatus.SUBMITTED)
    desk.rest("-9")
    desk.rest("9", instrument_id=ETH)
    desk.rest("9", account_id=OTHER)
    desk.rest("9", status=OrderStatus.CANCELED)
    assert desk.ask("1") is None
    denial = desk.risk.check(desk.order("1.001"), 0)
    reason = "position may reach 5.001 buy, the limit is 5"
    assert denial == Denial("MAX_POSITION_QUANTITY", reason)


def test_the_limit_holds_for_shorts_too() -> None:
    desk = Desk(limits(max_position_quantity={BTC: Decimal(5)}))
    desk.hold("2")
    desk.rest("-3")
    assert desk.ask("-4") is None
    assert desk.ask("-4.001") == "MAX_POSITION_QUANTITY"


def test_an_order_already_in_the_cache_is_not_counted_twice() -> None:
    desk = Desk(limits(max_position_quantity={BTC: Decimal(5)}, max_open_orders=1))
    order = desk.rest("5", status=OrderStatus.INITIALIZED)
    assert desk.risk.check(order, 0) is None


def test_a_larger_quantity_asked_for_counts_already() -> None:
    desk = Desk(limits(max_position_quantity={BTC: Decimal(5)}))
    asked = {"pending": Pending.MODIFY, "pending_quantity": Decimal(5)}
    desk.rest("2", filled_quantity=Decimal(1), **asked)
    assert desk.ask("1") is None
    assert desk.ask("1.001") == "MAX_POSITION_QUANTITY"


def test_a_smaller_quantity_asked_for_does_not_count_yet() -> None:
    desk = Desk(limits(max_position_quantity={BTC: Decimal(5)}))
    desk.rest("4", pending=Pending.MODIFY, pending_quantity=Decimal(1))
    assert desk.ask("1.001") == "MAX_POSITION_QUANTITY"


def test_the_position_notional_limit_values_at_the_mark() -> None:
    desk = Desk(limits(max_position_notional="500"))
    desk.hold("4")
    assert desk.ask("1") is None
    assert desk.ask("1", "90") is None
    assert desk.ask("1.001", "90") == "MAX_POSITION_NOTIONAL"
    assert desk.ask("-9") is None
    assert desk.ask("-9.001") == "MAX_POSITION_NOTIONAL"


def test_a_position_beyond_its_limit_may_be_reduced() -> None:
    desk = Desk(limits(max_position_notional="500", max_gross_exposure="500"))
    desk.hold("20")
    assert desk.ask("-5") is None
    assert desk.ask("0.1") == "MAX_POSITION_NOTIONAL"


def test_gross_exposure_adds_the_worst_case_of_every_instrument() -> None:
    desk = Desk(limits(max_gross_exposure="1000"))
    desk.hold("2")
    desk.hold("-20", ETH, "12")
    desk.rest("-10", "10", instrument_id=ETH)
    desk.rest("25", "10", instrument_id=ETH)
    desk.rest("90", "10", instrument_id=ETH, account_id=OTHER)
    desk.rest("30", "10", instrument_id=ETH, reduce_only=True)
    assert desk.ask("5") is None
    denial = desk.risk.check(desk.order("5.001"), 0)
    reason = "gross exposure may reach 1000.100, the limit is 1000"
    assert denial == Denial("MAX_GROSS_EXPOSURE", reason)


def test_other_instruments_without_a_mark_are_valued_at_the_dearer_price() -> None:
    sol = InstrumentId("hyperliquid.SOL")
    desk = Desk(limits(max_gross_exposure="1000"))
    desk.hold("2", sol, "100")
    desk.rest("3", "120", instrument_id=sol)
    assert desk.ask("4") is None
    assert desk.ask("4.001") == "MAX_GROSS_EXPOSURE"
    held_only = Desk(limits(max_gross_exposure="1000"))
    held_only.hold("5", sol, "120")
    assert held_only.ask("4") is None
    assert held_only.ask("4.001") == "MAX_GROSS_EXPOSURE"


def test_gross_exposure_is_valued_at_the_mark() -> None:
    desk = Desk(limits(max_gross_exposure="1000"))
    assert desk.ask("10", "96") is None
    assert desk.ask("10.001", "96") == "MAX_GROSS_EXPOSURE"


def test_leverage_is_worst_case_gross_exposure_over_equity() -> None:
    desk = Desk(limits(max_leverage="3"))
    assert desk.ask("1") == "NO_EQUITY"
    desk.equity("100")
    assert desk.ask("3") is None
    denial = desk.risk.check(desk.order("3.001"), 0)
    reason = "gross exposure may reach 300.100, more than 3 times the equity 100"
    assert denial == Denial("MAX_LEVERAGE", reason)


def test_leverage_follows_equity_as_prices_move() -> None:
    desk = Desk(limits(max_leverage="3"))
    desk.hold("1")
    desk.equity("100")
    desk.mark(BTC, "50")
    assert desk.ask("2", "50") is None
    assert desk.ask("2.001", "50") == "MAX_LEVERAGE"


def test_an_order_that_does_not_raise_the_worst_case_passes_exhausted_limits() -> None:
    desk = Desk(limits(max_leverage="1", max_gross_exposure="1"))
    desk.equity("1")
    desk.hold("5")
    assert desk.ask("-10") is None
    assert desk.ask("-10.001") == "MAX_GROSS_EXPOSURE"


def test_reduce_only_passes_exhausted_limits() -> None:
    desk = Desk(limits(max_leverage="1", max_gross_exposure="1", max_position_notional="1"))
    desk.hold("5")
    desk.rest("-9")
    assert desk.ask("-5", reduce_only=True) is None


def test_the_number_of_live_orders() -> None:
    desk = Desk(limits(max_open_orders=2))
    desk.rest("1")
    assert desk.ask("1") is None
    desk.rest("1", status=OrderStatus.SUBMITTED)
    denial = desk.risk.check(desk.order("1"), 0)
    assert denial == Denial("MAX_OPEN_ORDERS", "2 orders are live, the limit is 2")


def test_the_order_rate_is_a_sliding_second() -> None:
    desk = Desk(limits(max_orders_per_second=2))
    times = [0, 600, 999, 1000, 1001, 1599, 1600]
    codes = [code(desk.risk.check(desk.order("1"), ms * 1_000_000)) for ms in times]
    assert codes == [None, None, "ORDER_RATE", None, "ORDER_RATE", "ORDER_RATE", None]


def test_denied_orders_do_not_use_up_the_rate_but_modifications_do() -> None:
    desk = Desk(limits(max_orders_per_second=2))
    assert desk.ask("1", "0") == "INVALID_PRICE"
    order = desk.rest("1")
    assert desk.risk.check_modify(order, Decimal(101), None, 0) is None
    assert desk.ask("1") is None
    assert code(desk.risk.check_modify(order, Decimal(101), None, 0)) == "ORDER_RATE"


def test_a_clock_set_back_does_not_block_the_rate_for_long() -> None:
    desk = Desk(limits(max_orders_per_second=1))
    assert desk.risk.check(desk.order("1"), 10 * SECOND_NS) is None
    assert desk.risk.check(desk.order("1"), 5 * SECOND_NS) is None
    assert code(desk.risk.check(desk.order("1"), 5 * SECOND_NS)) == "ORDER_RATE"


def test_a_rate_of_zero_lets_nothing_pass() -> None:
    assert Desk(limits(max_orders_per_second=0)).ask("1") == "ORDER_RATE"


def test_halted_lets_nothing_pass() -> None:
    desk = Desk(limits(trading_state="halted"))
    desk.hold("1")
    denial = desk.risk.check(desk.order("-1", reduce_only=True), 0)
    assert denial == Denial("TRADING_HALTED", "trading is halted: configured")
    order = desk.rest("1")
    assert code(desk.risk.check_modify(order, Decimal(101), None, 0)) == "TRADING_HALTED"


def test_reducing_lets_pass_what_is_left_to_reduce() -> None:
    desk = Desk(limits(trading_state="reducing"))
    desk.hold("5")
    desk.rest("-2")
    desk.rest("-1", reduce_only=True)
    desk.rest("-7", account_id=OTHER)
    desk.rest("4")
    assert desk.ask("-2") is None
    assert desk.ask("-2", reduce_only=True) is None
    denial = desk.risk.check(desk.order("-2.001"), 0)
    assert code(denial) == "REDUCING_ONLY"
    assert denial is not None
    assert "2 left to reduce" in denial.reason
    assert desk.ask("0.1") == "REDUCING_ONLY"


def test_a_stop_of_the_whole_position_does_not_forbid_to_close_it_while_reducing() -> None:
    desk = Desk(limits(trading_state="reducing"))
    desk.hold("5")
    desk.rest("-5", reduce_only=True)
    assert desk.ask("-5", reduce_only=True) is None
    assert desk.ask("-5") == "REDUCING_ONLY"  # both could fill
    desk.rest("-4")
    assert desk.ask("-2", reduce_only=True) == "REDUCING_ONLY"


def test_a_modification_is_checked_with_its_new_terms() -> None:
    desk = Desk(limits(max_position_quantity={BTC: Decimal(5)}, price_collar_bps=500))
    order = desk.rest("3", filled_quantity=Decimal(1))
    desk.hold("1")

    def ask(price: str | None, quantity: str | None) -> str | None:
        terms = (None if text is None else Decimal(text) for text in (price, quantity))
        return code(desk.risk.check_modify(order, *terms, 0))

    assert ask("101", None) is None
    assert ask("106", None) == "PRICE_COLLAR"
    assert ask(None, "5") is None
    assert ask(None, "5.001") == "MAX_POSITION_QUANTITY"
    assert ask(None, "1") == "INVALID_QUANTITY"
    assert ask("0", None) == "INVALID_PRICE"


def test_a_modification_that_does_not_grow_passes_exhausted_limits() -> None:
    desk = Desk(limits(max_gross_exposure="100"))
    order = desk.rest("3")
    assert desk.risk.check_modify(order, Decimal(99), None, 0) is None
    assert desk.risk.check_modify(order, Decimal(99), Decimal(3), 0) is None
    assert desk.risk.check_modify(order, None, Decimal(2), 0) is None
    denial = desk.risk.check_modify(order, None, Decimal("3.001"), 0)
    assert code(denial) == "MAX_GROSS_EXPOSURE"


def test_a_modification_while_reducing_must_reduce() -> None:
    desk = Desk(limits(trading_state="reducing"))
    desk.hold("2")
    assert desk.risk.check_modify(desk.rest("-2"), Decimal(99), None, 0) is None
    buying = desk.rest("1")
    assert code(desk.risk.check_modify(buying, Decimal(101), None, 0)) == "REDUCING_ONLY"


def test_the_trading_state_changes_once() -> None:
    risk = Desk().risk
    assert (risk.state, risk.state_reason) == (TradingState.ACTIVE, "configured")
    assert risk.set_state(TradingState.REDUCING, "operator")
    assert not risk.set_state(TradingState.REDUCING, "again")
    assert (risk.state, risk.state_reason) == (TradingState.REDUCING, "operator")


def test_the_kill_switch_stops_everything_until_an_operator_activates() -> None:
    desk = Desk()
    assert desk.risk.kill("operator")
    assert not desk.risk.kill("again")
    assert desk.risk.state_reason == "kill switch: operator"
    assert desk.ask("1") == "TRADING_HALTED"
    assert desk.risk.set_state(TradingState.ACTIVE, "operator")
    assert desk.ask("1") is None


def test_new_limits_are_used_from_the_next_check_on() -> None:
    desk = Desk(limits(max_orders_per_second=3))
    assert desk.ask("3") is None
    desk.risk.reload(limits(max_order_notional="200", max_orders_per_second=1))
    assert desk.risk.config.max_order_notional == 200
    assert desk.ask("3") == "MAX_ORDER_NOTIONAL"
    assert desk.ask("1") == "ORDER_RATE"


@pytest.mark.parametrize(
    ("before", "now", "after", "expected"),
    [
        ("active", "active", "halted", "halted"),
        ("active", "active", "reducing", "reducing"),
        ("active", "halted", "active", "halted"),
        ("halted", "active", "halted", "active"),
        ("halted", "halted", "active", "halted"),
        ("active", "halted", "reducing", "halted"),
    ],
)
def test_a_reload_may_only_tighten_the_trading_state(
    before: str, now: str, after: str, expected: str
) -> None:
    risk = Desk(limits(trading_state=before)).risk
    risk.set_state(TradingState(now), "operator")
    risk.reload(limits(trading_state=after))
    assert risk.state is TradingState(expected)


def test_the_daily_loss_halts_trading_until_activated() -> None:
    desk = Desk(limits(max_daily_loss="50"))
    desk.hold("10")
    desk.mark(BTC, "95.01")
    assert desk.risk.on_pnl(DAY_NS, [ACCOUNT]) is None
    desk.mark(BTC, "95")
    change = desk.risk.on_pnl(DAY_NS, [ACCOUNT])
    reason = "daily loss of 0xacc: 50.00 reached the limit 50"
    halted = TradingState.HALTED
    assert change == TradingStateChanged(state=halted, reason=reason, ts_event_ns=DAY_NS)
    assert desk.risk.on_pnl(DAY_NS, [ACCOUNT]) is None
    assert desk.ask("-1", "95") == "TRADING_HALTED"
    desk.risk.set_state(TradingState.ACTIVE, "operator")
    assert desk.risk.on_pnl(DAY_NS, [ACCOUNT]) is None
    desk.mark(BTC, "90")
    assert desk.risk.on_pnl(DAY_NS, [ACCOUNT]) is not None


def test_what_was_lost_while_halted_is_accepted_with_the_rest() -> None:
    desk = Desk(limits(max_daily_loss="50"))
    desk.hold("10")
    for mark in ("95", "80"):
        desk.mark(BTC, mark)
        desk.risk.on_pnl(DAY_NS, [ACCOUNT])
    desk.risk.set_state(TradingState.ACTIVE, "operator")
    assert desk.risk.on_pnl(DAY_NS, [ACCOUNT]) is None


def test_an_accepted_loss_is_of_its_day_only() -> None:
    desk = Desk(limits(max_daily_loss="50"))
    desk.hold("10")
    desk.mark(BTC, "80")
    desk.risk.on_pnl(DAY_NS, [ACCOUNT])
    desk.risk.set_state(TradingState.ACTIVE, "operator")
    assert desk.risk.on_pnl(DAY_NS + NS_PER_DAY, [ACCOUNT]) is None
    desk.mark(BTC, "75")
    assert desk.risk.on_pnl(DAY_NS + NS_PER_DAY, [ACCOUNT]) is not None


def test_activating_after_a_kill_does_not_renew_the_allowance() -> None:
    desk = Desk(limits(max_daily_loss="50"))
    desk.hold("10")
    desk.mark(BTC, "96")
    desk.risk.on_pnl(DAY_NS, [ACCOUNT])
    desk.risk.kill("operator")
    desk.risk.set_state(TradingState.ACTIVE, "operator")
    desk.mark(BTC, "95")
    assert desk.risk.on_pnl(DAY_NS, [ACCOUNT]) is not None


def test_a_new_day_starts_with_the_whole_allowance_but_stays_halted() -> None:
    desk = Desk(limits(max_daily_loss="50"))
    desk.hold("10")
    desk.mark(BTC, "90")
    desk.risk.on_pnl(DAY_NS, [ACCOUNT])
    assert desk.risk.on_pnl(DAY_NS + NS_PER_DAY, [ACCOUNT]) is None
    assert desk.risk.state is TradingState.HALTED
    desk.risk.set_state(TradingState.ACTIVE, "operator")
    desk.mark(BTC, "86")
    assert desk.risk.on_pnl(DAY_NS + NS_PER_DAY, [ACCOUNT]) is None
    desk.mark(BTC, "85")
    assert desk.risk.on_pnl(DAY_NS + NS_PER_DAY, [ACCOUNT]) is not None


def test_a_profit_and_no_limit_never_halt() -> None:
    desk = Desk(limits(max_daily_loss="0"))
    desk.hold("10")
    assert desk.risk.on_pnl(DAY_NS, [ACCOUNT]) is None
    desk.mark(BTC, "110")
    assert desk.risk.on_pnl(DAY_NS, [ACCOUNT]) is None
    desk.risk.reload(OFF)
    desk.mark(BTC, "1")
    assert desk.risk.on_pnl(DAY_NS, [ACCOUNT]) is None


def test_a_codes_value_is_its_name() -> None:
    assert all(each.value == each.name for each in DenialCode)
