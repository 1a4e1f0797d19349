"""Flattening: what a faulted strategy held is closed, and nothing else is touched."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.service.execution_rig import ACCOUNT, BTC, ETH, fill, instrument
from tests.service.strategy_rig import Rig, config
from zq_daemon.model.command import CancelAllOrders
from zq_daemon.model.ids import InstrumentId, StrategyId
from zq_daemon.model.instrument import InstrumentKind
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderType, TimeInForce
from zq_daemon.strategy.base import Strategy
from zq_daemon.strategy.flatten import ATTEMPTS

GONE = InstrumentId("hl.GONE")
HOUSEKEEPING_MS = 100


class Fragile(Strategy):
    """Raises on its first trade, and where it ends if it has not."""

    def on_trade(self, trade: Any) -> None:
        raise RuntimeError("boom")

    def on_stop(self) -> None:
        raise RuntimeError("boom at the end")


def running(*instruments: InstrumentId) -> Rig:
    rig = Rig()
    rig.load(config(Fragile, on_fault="flatten", instruments=instruments or (BTC,)))
    rig.host.start()
    return rig


def holding(quantity: str, side: Side = Side.BUY) -> Rig:
    """A strategy that holds *quantity* of BTC, and has not failed yet."""
    rig = running()
    hold(rig, quantity, side)
    return rig


def hold(rig: Rig, quantity: str, side: Side = Side.BUY, iid: InstrumentId = BTC) -> None:
    rig.strategy("mine").context.submit_market(iid, side, Decimal(quantity))
    rig.fill(rig.submitted[-1], quantity)


def broken(rig: Rig) -> list[Order]:
    """It fails now: what is submitted from then on, as it comes. Each can only reduce."""
    attempts: list[Order] = []
    react = rig.react

    def note(order: Order) -> None:
        attempts.append(order)
        assert order.reduce_only
        held = rig.portfolio.quantity(ACCOUNT, order.instrument_id)
        assert order.quantity <= -order.side.sign * held
        react(order)

    rig.react = note
    with capture_logs():
        rig.publish_trade()
    assert attempts == []  # not in the middle of a delivery
    return attempts


def of_account(rig: Rig) -> Decimal:
    return rig.portfolio.quantity(ACCOUNT, BTC)


def of_strategy(rig: Rig) -> Decimal:
    return rig.portfolio.strategy_position(StrategyId("mine"), BTC).quantity


def told(rig: Rig) -> str:
    return str(rig.host.status()[0]["reason"])


def test_on_spot_markets_which_have_no_reduce_only_orders_a_plain_one_sells() -> None:
    rig = holding("1.5")
    rig.cache.add_instrument(evolve(instrument(BTC), kind=InstrumentKind.SPOT))
    with capture_logs():
        rig.publish_trade()
    rig.pass_time(HOUSEKEEPING_MS)
    order = rig.submitted[-1]
    assert (order.side, order.quantity, order.reduce_only) == (Side.SELL, Decimal("1.5"), False)


@pytest.mark.parametrize("side", Side)
def test_a_position_is_closed_once_no_order_lives(side: Side) -> None:
    rig = holding("1.5", side)
    rig.strategy("mine").context.submit_limit(BTC, side, Decimal(1), Decimal(99))
    resting = rig.submitted[-1]
    rig.accept(resting)
    attempts = broken(rig)
    assert rig.asked(CancelAllOrders) == [CancelAllOrders(strategy_id=StrategyId("mine"))]
    rig.pass_time(60_000)
    assert attempts == []
    assert "flattening: 1 orders still live; hl.BTC" in told(rig)
    rig.fill(resting, "0.25")
    rig.cancel(resting)
    rig.pass_time(HOUSEKEEPING_MS)
    (order,) = attempts
    assert (order.strategy_id, order.account_id) == ("mine", ACCOUNT)
    assert (order.side, order.quantity) == (side.opposite, Decimal("1.75"))
    assert (order.order_type, order.time_in_force) == (OrderType.MARKET, TimeInForce.IOC)
    assert order.reduce_only
    rig.pass_time(60_000)
    assert len(attempts) == 1  # it is still out, whatever became of it
    with capture_logs() as logged:
        rig.fill(order, "1.75")
        rig.pass_time(HOUSEKEEPING_MS)
        rig.pass_time(600_000)
    assert [line["event"] for line in logged] == ["strategy flattened"]
    assert len(attempts) == 1
    assert of_strategy(rig) == of_account(rig) == 0
    assert told(rig).endswith("RuntimeError: boom; flattened")
    assert [event.healthy for event in rig.health] == [False]


def test_an_attempt_that_fails_is_repeated_ever_later_and_given_up() -> None:
    rig = holding("1")
    rig.react = lambda order: rig.deny(order, "LINK_DOWN")
    attempts, when = broken(rig), list[int]()
    with capture_logs() as logged:
        for tenth in range(20_000):
            before = len(attempts)
            rig.pass_time(HOUSEKEEPING_MS)
            if len(attempts) > before:
                when.append(tenth)
    assert len(attempts) == ATTEMPTS
    # what became of an attempt is seen 0.1 s after it
    pauses = [(late - early - 1) / 10 for early, late in pairwise(when)]
    assert pauses == [1, 2, 4, 8, 16, 32, *[60] * (ATTEMPTS - 7)]
    (line,) = logged
    assert (line["log_level"], line["instrument"], line["left"]) == ("error", BTC, "1")
    assert (line["attempts"], line["reason"]) == (ATTEMPTS, "LINK_DOWN: reason")
    assert [event.healthy for event in rig.health] == [False, False]
    assert "hl.BTC 1 given up after 20 attempts" in rig.health[-1].reason
    assert rig.health[-1].reason == told(rig)


def test_a_halted_account_is_waited_for_and_not_given_up() -> None:
    rig = holding("1")
    halted = True
    rig.react = lambda order: rig.deny(order, "ACCOUNT_HALTED") if halted else None
    attempts = broken(rig)
    for _ in range(36_000):
        rig.pass_time(HOUSEKEEPING_MS)
    assert 55 <= len(attempts) <= 62  # once a minute
    assert "given up" not in told(rig)
    halted = False
    for _ in range(610):
        rig.pass_time(HOUSEKEEPING_MS)
    rig.fill(attempts[-1], "1")
    assert of_account(rig) == 0


def test_what_was_filled_in_part_goes_on_at_once() -> None:
    rig = holding("1")
    attempts = broken(rig)
    rig.pass_time(HOUSEKEEPING_MS)
    for _ in range(5):
        rig.deny(attempts[-1])
        rig.pass_time(60_000)
        rig.pass_time(60_000)
    rig.fill(attempts[-1], "0.4")
    rig.cancel(attempts[-1])
    before = len(attempts)
    rig.pass_time(HOUSEKEEPING_MS)
    assert len(attempts) == before + 1
    assert attempts[-1].quantity == Decimal("0.6")
    assert "attempts" not in told(rig)  # the row began anew
    rig.deny(attempts[-1])
    rig.pass_time(HOUSEKEEPING_MS)
    rig.pass_time(1_000)
    assert len(attempts) == before + 2


@pytest.mark.parametrize("code", ["MAX_ORDER_QUANTITY", "MAX_ORDER_NOTIONAL"])
def test_what_is_too_large_for_the_limits_goes_in_pieces(code: str) -> None:
    rig = holding("1")

    def limited(order: Order) -> None:
        if order.quantity > Decimal("0.3"):
            rig.deny(order, code)
        else:
            rig.fill(order, str(order.quantity))

    rig.react = limited
    attempts = broken(rig)
    for _ in range(7):
        rig.pass_time(HOUSEKEEPING_MS)
    assert [float(order.quantity) for order in attempts] == [1, 0.5, 0.25, 0.25, 0.25, 0.25]
    assert of_account(rig) == 0


def test_where_not_even_one_step_is_allowed_it_is_given_up() -> None:
    rig = holding("0.002")
    rig.react = lambda order: rig.deny(order, "MAX_ORDER_QUANTITY")
    attempts = broken(rig)
    for _ in range(3 * ATTEMPTS):
        rig.pass_time(60_000)
    assert len(attempts) == ATTEMPTS + 1  # one of 0.002, then of 0.001
    assert "given up" in told(rig)


def test_only_what_the_account_holds_is_closed() -> None:
    rig = holding("1")
    rig.fill_of_others("0.7", Side.SELL)
    rig.react = lambda order: rig.fill(order, str(order.quantity))
    attempts = broken(rig)
    rig.pass_time(HOUSEKEEPING_MS)
    assert [order.quantity for order in attempts] == [Decimal("0.3")]
    assert of_account(rig) == 0
    for _ in range(5):
        rig.pass_time(10_000)
    assert len(attempts) == 1  # the rest would open a position
    assert "hl.BTC 0.7" in told(rig)
    assert "the account's position is 0" in told(rig)
    rig.fill_of_others("0.7", Side.BUY)
    rig.pass_time(60_000)
    assert [order.quantity for order in attempts] == [Decimal("0.3"), Decimal("0.7")]
    assert of_strategy(rig) == of_account(rig) == 0


def test_an_account_that_is_the_other_way_is_left_alone() -> None:
    rig = holding("1")
    rig.fill_of_others("3", Side.SELL)
    attempts = broken(rig)
    for _ in range(ATTEMPTS + 5):
        rig.pass_time(60_000)
    assert attempts == []
    assert of_account(rig) == -2
    assert "given up after 20 attempts without a fill (the account's position is -2" in told(rig)


def test_a_late_fill_is_flattened_too() -> None:
    rig = running()
    rig.strategy("mine").context.submit_limit(BTC, Side.BUY, Decimal(1), Decimal(99))
    late = rig.submitted[-1]
    rig.react = lambda order: rig.fill(order, str(order.quantity))
    attempts = broken(rig)
    rig.expire(late)  # for want of news
    rig.pass_time(HOUSEKEEPING_MS)
    assert told(rig).endswith("; flattened")
    rig.fill(late, "1")
    rig.pass_time(HOUSEKEEPING_MS)
    assert [(order.side, order.quantity) for order in attempts] == [(Side.SELL, Decimal(1))]
    rig.pass_time(HOUSEKEEPING_MS)
    assert told(rig).endswith("; flattened")


def test_instruments_do_not_wait_for_each_other() -> None:
    rig = running(BTC, ETH)
    hold(rig, "1")
    hold(rig, "2", Side.SELL, ETH)
    rig.strategy("mine").context.submit_limit(BTC, Side.BUY, Decimal(1), Decimal(99))
    attempts = broken(rig)
    rig.pass_time(HOUSEKEEPING_MS)
    assert [(order.instrument_id, order.side) for order in attempts] == [(ETH, Side.BUY)]


def test_what_cannot_be_traded_is_flat_or_given_up() -> None:
    rig = holding("0.0004")  # below the step
    gone = fill("g", "1", 1, instrument_id=GONE)
    attempts = broken(rig)
    rig.pass_time(HOUSEKEEPING_MS)
    assert told(rig).endswith("; flattened")
    rig.portfolio.on_fill(gone, StrategyId("mine"))
    for _ in range(ATTEMPTS + 5):
        rig.pass_time(60_000)
    assert attempts == []
    assert "hl.GONE 1 given up" in told(rig)
    assert "not known to the venue" in told(rig)


def test_the_stop_of_the_daemon_ends_it() -> None:
    rig = holding("1")
    rig.react = rig.deny
    attempts = broken(rig)
    rig.pass_time(HOUSEKEEPING_MS)
    with capture_logs() as logged:
        rig.host.stop()
    assert [(line["log_level"], line["left"]) for line in logged] == [("warning", "hl.BTC 1")]
    rig.pass_time(60_000)
    assert len(attempts) == 1
    assert "the daemon stops" in told(rig)


def test_a_fault_in_the_stop_cancels_and_leaves_the_position() -> None:
    rig = holding("1")
    rig.strategy("mine").context.submit_limit(BTC, Side.BUY, Decimal(1), Decimal(99))
    before = len(rig.submitted)
    rig.host.stop()
    rig.pass_time(60_000)
    assert len(rig.asked(CancelAllOrders)) == 1
    assert len(rig.submitted) == before


OUTCOMES = st.lists(
    st.one_of(
        st.tuples(st.just("fill"), st.integers(1, 4)),
        st.tuples(st.sampled_from(["deny", "large", "expire", "late", "nothing"]), st.just(0)),
        st.tuples(st.just("others"), st.integers(-3, 3).filter(bool)),
    ),
    max_size=15,  # too few to be given up before the end
)


@given(held=st.integers(-8, 8).filter(bool), others=st.integers(-8, 8), outcomes=OUTCOMES)
def test_it_only_ever_makes_the_accounts_position_smaller(
    held: int, others: int, outcomes: list[tuple[str, int]]
) -> None:
    rig = holding(str(abs(held)), Side.BUY if held > 0 else Side.SELL)
    if others:
        rig.fill_of_others(str(abs(others)), Side.BUY if others > 0 else Side.SELL)
    broken(rig)
    expired: list[Order] = []
    for what, amount in outcomes:
        rig.pass_time(60_000)
        live = tuple(rig.cache.orders_live())
        assert len(live) <= 1
        match what:
            case "others":
                rig.fill_of_others(str(abs(amount)), Side.BUY if amount > 0 else Side.SELL)
            case "late" if expired:
                execute(rig, expired.pop(), 8)
            case "nothing" | "late":
                pass
            case _ if live:
                settle(rig, live[0], what, amount)
                if what == "expire":
                    expired.append(live[0])
    finish(rig)
    assert of_strategy(rig) * of_account(rig) <= 0 or of_strategy(rig) == 0


def settle(rig: Rig, order: Order, what: str, amount: int) -> None:
    if what == "fill":
        execute(rig, order, amount)
        known = rig.cache.order(order.client_order_id)
        if known is not None and not known.is_closed:
            rig.cancel(order)
    elif what == "expire":
        rig.expire(order)
    else:
        rig.deny(order, "MAX_ORDER_NOTIONAL" if what == "large" else "CODE")


def execute(rig: Rig, order: Order, amount: int) -> None:
    """The venue fills a reduce-only order only as far as there is something to reduce."""
    account = of_account(rig)
    possible = max(-order.side.sign * account, Decimal(0))
    quantity = min(Decimal(amount), order.quantity, possible)
    if quantity:
        rig.fill(order, str(quantity))
        assert abs(of_account(rig)) < abs(account)


def finish(rig: Rig) -> None:
    """From here on the venue fills whatever it can."""
    for _ in range(3 * ATTEMPTS):
        rig.pass_time(60_000)
        for order in tuple(rig.cache.orders_live()):
            settle(rig, order, "fill", 8)
