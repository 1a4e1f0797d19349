"""Nonces of one signer rise, whatever the clock does and however often the daemon starts anew."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.order_entry import make_entry
from zq_daemon.model.ids import AccountId, InstrumentId, StrategyId, client_order_id
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderType
from zq_daemon.ports.clock import NS_PER_MS
from zq_daemon.venue.hyperliquid.trade import NONCE_AHEAD_MS, HyperliquidOrderEntry
from zq_daemon.venue.interface import Modification, Request

START_MS = 1_700_000_000_000
ORDER = Order(
    client_order_id=client_order_id(7, 1),
    strategy_id=StrategyId("s"),
    account_id=AccountId("hyperliquid.0x1"),
    instrument_id=InstrumentId("hyperliquid.BTC"),
    side=Side.BUY,
    order_type=OrderType.LIMIT,
    quantity=Decimal(1),
    price=Decimal(1),
)


class HandClock:
    """Shows what it is set to; may jump."""

    def __init__(self) -> None:
        self.ms = START_MS

    def now_ns(self) -> int:
        return self.ms * NS_PER_MS + 999_999

    def monotonic_ns(self) -> int:
        return self.now_ns()


def entry(clock: HandClock) -> HyperliquidOrderEntry:
    return make_entry(clock=clock)


def sign(trading: HyperliquidOrderEntry, kind: str) -> Request:
    if kind == "modify":
        return trading.prepare_modify([Modification(ORDER, Decimal(2), Decimal(1))])
    prepare = trading.prepare_submit if kind == "submit" else trading.prepare_cancel
    return prepare([ORDER])


_jump = st.tuples(st.just("jump"), st.integers(-60_000, 60_000))
_sign = st.tuples(st.just("sign"), st.sampled_from(["submit", "cancel", "modify"]))
_restart = st.tuples(st.just("restart"), st.none())


@given(steps=st.lists(st.one_of(_jump, _sign, _restart), max_size=40))
def test_nonces_rise_across_restarts_and_are_never_behind_the_clock(
    steps: list[tuple[str, object]],
) -> None:
    clock = HandClock()
    trading = entry(clock)
    used = [0]
    for step, what in steps:
        if step == "jump":
            assert isinstance(what, int)
            clock.ms += what
        elif step == "restart":
            trading = entry(clock)
            trading.resume(used[-1])
        else:
            request = sign(trading, str(what))
            assert request.nonce == max(clock.ms, used[-1] + 1)
            used.append(request.nonce)


def test_a_lower_nonce_than_was_used_changes_nothing() -> None:
    clock = HandClock()
    trading = entry(clock)
    trading.resume(START_MS + 500)
    trading.resume(3)
    assert trading.prepare_submit([ORDER]).nonce == START_MS + 501


@pytest.mark.parametrize(("ahead_ms", "refused"), [(-1, False), (0, True), (1, True)])
def test_a_nonce_above_which_the_venue_takes_none_is_told(ahead_ms: int, refused: bool) -> None:
    trading = entry(HandClock())
    last = START_MS + NONCE_AHEAD_MS - 1 + ahead_ms
    if not refused:
        trading.resume(last)
        return
    with pytest.raises(ValueError, match=r"24\.0 h ahead of this machine's clock"):
        trading.resume(last)
    assert trading.prepare_submit([ORDER]).nonce == START_MS
