"""The market maker: two passive quotes that lean, move, withdraw and wait."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.service.execution_rig import BTC, book
from tests.service.strategy_rig import Rig, config
from zq_daemon.errors import ConfigError
from zq_daemon.model.command import CancelOrder, ModifyOrder
from zq_daemon.model.market import InstrumentStatus, Side, TradingStatus
from zq_daemon.model.order import Order
from zq_daemon.strategy.hosted import StrategyState
from zq_daemon.strategy.market_maker import MarketMaker


def running(**params: Any) -> Rig:
    rig = Rig()
    terms = {"quantity": 1, "max_position": 2, "spread_bps": 20, "skew_bps": 0} | params
    rig.load(config(MarketMaker, params=terms))
    rig.host.start()
    return rig


def market(rig: Rig, bid: str, ask: str) -> None:
    rig.cache.put_book(BTC, book(BTC, bid, ask))


def quoted(rig: Rig) -> Rig:
    rig.tick()
    for order in rig.submitted:
        rig.accept(order)
    return rig


def quotes(rig: Rig) -> dict[Side, Order]:
    return {order.side: order for order in rig.cache.orders_live()}


def test_it_quotes_both_sides_of_the_mid() -> None:
    rig = running()
    rig.tick()
    bid, ask = quotes(rig)[Side.BUY], quotes(rig)[Side.SELL]
    assert (bid.price, ask.price) == (Decimal("99.9"), Decimal("100.1"))
    assert bid.post_only
    assert ask.post_only
    assert bid.quantity == ask.quantity == 1
    rig.tick()
    assert len(rig.submitted) == 2


@given(
    bid=st.integers(100, 99_999),
    spread=st.integers(1, 50),
    held=st.integers(-2, 2),
    spread_bps=st.integers(1, 300),
    skew_bps=st.integers(0, 500),
)
def test_it_never_reaches_the_other_side(
    bid: int, spread: int, held: int, spread_bps: int, skew_bps: int
) -> None:
    rig = running(spread_bps=spread_bps, skew_bps=skew_bps, quantity="0.001")
    strategy = rig.strategy("mine")
    best_bid, best_ask = Decimal(bid) / 10, Decimal(bid + spread) / 10
    instrument = rig.cache.instrument(BTC)
    assert instrument is not None
    for side in (Side.BUY, Side.SELL):
        price = strategy._price(instrument, side, best_bid, best_ask, Decimal(held))
        assert instrument.is_valid_price(price)
        assert price < best_ask if side is Side.BUY else price > best_bid


def test_a_long_position_moves_both_quotes_down() -> None:
    rig = quoted(running(skew_bps=20))
    rig.fill(quotes(rig)[Side.BUY], "1")
    rig.tick()
    moved = {command.client_order_id: command.price for command in rig.asked(ModifyOrder)}
    assert moved == {quotes(rig)[Side.SELL].client_order_id: Decimal("100.0")}
    assert quotes(rig)[Side.BUY].price == Decimal("99.8")


def test_a_side_that_would_exceed_the_bound_is_withdrawn() -> None:
    rig = quoted(running(max_position="1.2"))
    rig.fill(quotes(rig)[Side.BUY], "0.4")
    rig.tick()
    assert rig.asked(CancelOrder) == [
        CancelOrder(client_order_id=quotes(rig)[Side.BUY].client_order_id)
    ]
    rig.cancel(quotes(rig)[Side.BUY])
    rig.tick()
    assert set(quotes(rig)) == {Side.SELL}


def test_quotes_follow_the_market_beyond_the_threshold() -> None:
    rig = quoted(running(requote_bps=30))
    market(rig, "100.1", "100.3")
    rig.tick()
    assert rig.asked(ModifyOrder) == []
    market(rig, "100.9", "101.1")
    rig.tick()
    bid = quotes(rig)[Side.BUY]
    assert ModifyOrder(client_order_id=bid.client_order_id, price=Decimal("100.8")) in rig.asked(
        ModifyOrder
    )
    rig.modified(bid, Decimal("100.8"))
    rig.modified(quotes(rig)[Side.SELL], Decimal("101.2"))
    rig.tick()
    assert len(rig.asked(ModifyOrder)) == 2


@pytest.mark.parametrize("trouble", ["stale", "crossed", "empty"])
def test_without_a_market_it_withdraws(trouble: str) -> None:
    rig = quoted(running())
    if trouble == "stale":
        rig.cache.put_status(
            InstrumentStatus(
                instrument_id=BTC,
                status=TradingStatus.STALE,
                reason="silent",
                ts_event_ns=1,
                ts_recv_ns=1,
            )
        )
    elif trouble == "crossed":
        market(rig, "101", "100")
    else:
        rig.cache.put_book(BTC, type(book(BTC))(BTC))
    rig.tick()
    assert len(rig.asked(CancelOrder)) == 2
    for order in tuple(quotes(rig).values()):
        rig.cancel(order)
    rig.tick()
    assert len(rig.submitted) == 2


def test_a_refused_quote_waits_longer_each_time() -> None:
    rig = running()
    rig.react = rig.deny
    counts = []
    for _ in range(16):
        rig.tick()
        counts.append(len(rig.submitted) // 2)
    # pauses of 1, 2, 4 and 8 ticks between one attempt and the next
    assert counts == [1, 1, 2, 2, 2, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4]
    for _ in range(2_000):
        rig.tick()
    rig.react = lambda _: None
    for _ in range(65):  # never longer than 64
        rig.tick()
    assert set(quotes(rig)) == {Side.BUY, Side.SELL}
    assert rig.faults == []


def test_an_accepted_quote_ends_the_waiting() -> None:
    rig = running()
    rig.react = rig.deny
    for _ in range(10):
        rig.tick()
    rig.react = rig.accept
    for _ in range(20):
        rig.tick()
    for order in tuple(quotes(rig).values()):
        rig.fill(order, "1")
    rig.react = rig.deny
    before = len(rig.submitted)
    for _ in range(3):
        rig.tick()
    assert len(rig.submitted) == before + 4  # at once, and after a pause of one tick


def test_a_quote_that_may_not_be_moved_is_made_afresh() -> None:
    rig = quoted(running())
    dust = quotes(rig)[Side.BUY]
    rig.fill(dust, "0.95")
    market(rig, "100.9", "101.1")
    rig.tick()
    assert len(rig.asked(ModifyOrder)) == 2
    rig.modify_rejected(dust)
    rig.tick()
    assert len(rig.asked(ModifyOrder)) == 3  # the other side again, this one pauses
    rig.tick()
    assert rig.asked(CancelOrder) == [CancelOrder(client_order_id=dust.client_order_id)]
    assert len(rig.asked(ModifyOrder)) == 4
    rig.cancel(dust)
    rig.tick()
    fresh = quotes(rig)[Side.BUY]
    assert (fresh.quantity, fresh.price) == (Decimal(1), Decimal("100.8"))
    rig.accept(fresh)
    market(rig, "100", "100.2")
    rig.tick()
    assert rig.asked(ModifyOrder)[-2].client_order_id == fresh.client_order_id  # it moves again


def test_a_spent_quote_that_cannot_be_cancelled_is_tried_again_ever_later() -> None:
    rig = quoted(running())
    bid = quotes(rig)[Side.BUY]
    market(rig, "100.9", "101.1")
    rig.tick()
    rig.modify_rejected(bid)
    counts = []
    for _ in range(16):
        before = len(rig.asked(CancelOrder))
        rig.tick()
        counts.append(len(rig.asked(CancelOrder)))
        if counts[-1] > before:
            rig.cancel_rejected(bid)
    # pauses of 1, 2, 4 and 8 ticks
    assert counts == [0, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3]
    rig.cancel(bid)
    for _ in range(4):
        rig.tick()
    assert quotes(rig)[Side.BUY] != bid


def test_a_quote_held_expired_is_cancelled_when_it_is_back() -> None:
    rig = running()
    rig.tick()
    back, _ = rig.submitted
    rig.expire(back)  # for want of news
    rig.tick()
    for order in rig.submitted[1:]:
        rig.accept(order)
    rig.accept(back)
    assert len(quotes(rig)) < len(rig.cache.orders_live()) == 3
    counts = []
    for _ in range(6):
        before = len(rig.asked(CancelOrder))
        rig.tick()
        counts.append(len(rig.asked(CancelOrder)))
        if counts[-1] > before:
            rig.cancel_rejected(back)
    assert counts == [1, 1, 2, 2, 2, 3]
    assert {one.client_order_id for one in rig.asked(CancelOrder)} == {back.client_order_id}
    rig.cancel(back)
    assert set(quotes(rig)) == {Side.BUY, Side.SELL}
    for _ in range(10):
        rig.tick()
    assert len(rig.asked(CancelOrder)) == 3


def test_a_refused_withdrawal_waits_too() -> None:
    rig = quoted(running())
    market(rig, "101", "100")
    counts = [0]
    for _ in range(9):
        rig.tick()
        counts.append(len(rig.asked(CancelOrder)) // 2)
        if counts[-1] > counts[-2]:
            for order in quotes(rig).values():
                rig.cancel_rejected(order)
    assert counts == [0, 1, 1, 2, 2, 2, 3, 3, 3, 3]


def test_events_of_former_quotes_change_nothing() -> None:
    rig = quoted(running())
    first = quotes(rig)[Side.BUY]
    rig.fill(first, "1")
    rig.tick()
    rig.modify_rejected(first)
    rig.tick()
    assert rig.host.state("mine") is StrategyState.RUNNING
    assert Side.BUY in quotes(rig)


@pytest.mark.parametrize(
    "wrong",
    [{"quantity": 0}, {"max_position": -1}, {"spread_bps": 0}, {"skew_bps": -1}, {"quantity": "x"}],
)
def test_senseless_parameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        running(**wrong)
