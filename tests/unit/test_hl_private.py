"""Hyperliquid's private events: fundings, liquidations, cancels of its own, every status word."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from zq_daemon.model.event import AccountLiquidated, FundingPaid
from zq_daemon.model.fill import Fill
from zq_daemon.model.ids import AccountId, InstrumentId, VenueOrderId
from zq_daemon.model.order import OrderStatus
from zq_daemon.model.report import CancelReport
from zq_daemon.venue.hyperliquid import decode
from zq_daemon.venue.hyperliquid.session import HyperliquidSession
from zq_daemon.venue.interface import Received

ADDRESS = "0x" + "ab" * 20
OTHER = "0x" + "cd" * 20
ACCOUNT = AccountId(f"hyperliquid.{ADDRESS}")
STREAMS = ("orderUpdates", "userFills", "userEvents", "userFundings")
NOW = 1_737_918_850_000_000_000
MS = 1_000_000
FUNDING = {
    "time": 1_681_222_254_710,
    "coin": "ETH",
    "usdc": "-3.625312",
    "szi": "49.1477",
    "fundingRate": "0.0000417",
    "nSamples": 24,
}
LIQUIDATION = {
    "lid": 7,
    "liquidator": OTHER,
    "liquidated_user": ADDRESS.upper().replace("X", "x"),
    "liquidated_ntl_pos": "105000.5",
    "liquidated_account_value": "12.25",
}
FILL = {
    "coin": "BTC",
    "px": "18435.0",
    "sz": "93.53",
    "side": "A",
    "time": 1_681_222_254_710,
    "oid": 90_542_681,
    "tid": 5,
    "crossed": True,
    "fee": "0.5",
    "feeToken": "USDC",
}

CANCELED = (
    *("canceled", "marginCanceled", "vaultWithdrawalCanceled", "openInterestCapCanceled"),
    *("selfTradeCanceled", "reduceOnlyCanceled", "siblingFilledCanceled", "delistedCanceled"),
    *("liquidatedCanceled", "scheduledCancel", "internalCancel"),
)
REJECTED = (
    *("rejected", "tickRejected", "minTradeNtlRejected", "minTradeSpotNtlRejected"),
    *("perpMarginRejected", "reduceOnlyRejected", "badAloPxRejected", "iocCancelRejected"),
    *("badTriggerPxRejected", "marketOrderNoLiquidityRejected"),
    *("positionIncreaseAtOpenInterestCapRejected", "positionFlipAtOpenInterestCapRejected"),
    *("tooAggressiveAtOpenInterestCapRejected", "openInterestIncreaseRejected"),
    *("insufficientSpotBalanceRejected", "oracleRejected", "perpMaxPositionRejected"),
    "tooManyOpenOrdersRejected",
)


def receive(channel: str, data: Any) -> Received:
    session = HyperliquidSession(STREAMS, account_id=ACCOUNT, address=ADDRESS)
    return session.receive(msgspec.json.encode({"channel": channel, "data": data}), NOW)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("open", OrderStatus.ACCEPTED),
        ("triggered", OrderStatus.ACCEPTED),
        ("filled", OrderStatus.FILLED),
        *((word, OrderStatus.CANCELED) for word in CANCELED),
        *((word, OrderStatus.REJECTED) for word in REJECTED),
    ],
)
def test_every_documented_status_word_is_known(word: str, status: OrderStatus) -> None:
    assert decode.order_status(word) == (status, True)


@pytest.mark.parametrize(
    "word", ["", "paused", "canceledd", "OPEN", "filled ", "\u0000", "x" * 256]
)
def test_any_other_word_keeps_the_order(word: str) -> None:
    assert decode.order_status(word) == (OrderStatus.ACCEPTED, False)


def test_fundings_come_as_a_snapshot_and_then_one_by_one() -> None:
    data = {"user": ADDRESS, "isSnapshot": True, "fundings": [FUNDING, FUNDING | {"coin": "BTC"}]}
    first, second = receive("userFundings", data).reports
    assert first == FundingPaid(
        account_id=ACCOUNT,
        instrument_id=InstrumentId("hyperliquid.ETH"),
        amount=Decimal("-3.625312"),
        rate=Decimal("0.0000417"),
        ts_event_ns=1_681_222_254_710 * MS,
    )
    assert isinstance(second, FundingPaid)
    assert second.instrument_id == "hyperliquid.BTC"
    (told,) = receive("user", {"funding": FUNDING}).reports
    assert told == first  # on both streams it is the same one


@pytest.mark.parametrize("bad", [FUNDING | {"usdc": "x"}, FUNDING | {"time": "soon"}, {}, 5])
def test_a_bad_funding_leaves_its_neighbours(bad: Any) -> None:
    got = receive("userFundings", {"fundings": [FUNDING, bad, FUNDING]})
    assert len(got.reports) == 2
    assert got.problem.startswith("userFundings: ")


def test_a_liquidation_of_ours_is_told_with_its_figures() -> None:
    (event,) = receive("user", {"liquidation": LIQUIDATION}).reports
    assert event == AccountLiquidated(
        account_id=ACCOUNT,
        detail=msgspec.json.encode(LIQUIDATION).decode(),
        notional=Decimal("105000.5"),
        equity=Decimal("12.25"),
        ts_event_ns=NOW,
    )


@pytest.mark.parametrize(
    "told", [{"lid": 5}, {"liquidated_user": 5}, "gone", [], 0, {"liquidated_ntl_pos": "NaN"}]
)
def test_a_liquidation_of_any_shape_is_told(told: Any) -> None:
    got = receive("user", {"liquidation": told})
    (event,) = got.reports
    assert isinstance(event, AccountLiquidated)
    assert (event.notional, event.equity) == (None, None)
    assert event.detail == msgspec.json.encode(told).decode()
    assert (got.problem, got.notice) == ("", "")


def test_what_is_told_of_a_liquidation_is_bounded() -> None:
    (event,) = receive("user", {"liquidation": {"note": "x" * 10_000}}).reports
    assert isinstance(event, AccountLiquidated)
    assert len(event.detail) == 300


def test_a_liquidation_that_was_taken_over_is_no_alarm() -> None:
    got = receive("user", {"liquidation": LIQUIDATION | {"liquidated_user": OTHER}})
    assert got == Received(notice="user: a liquidation of somebody else")


@pytest.mark.parametrize(
    ("told", "ours"),
    [
        ({"liquidatedUser": ADDRESS, "markPx": "18000", "method": "market"}, True),
        ({"liquidatedUser": OTHER, "markPx": "18000", "method": "market"}, False),
        ({}, False),
        (None, False),
    ],
)
def test_a_fill_tells_whether_it_closed_a_position_of_ours_by_force(told: Any, ours: bool) -> None:
    (fill,) = receive("userFills", {"fills": [FILL | {"liquidation": told}]}).reports
    assert isinstance(fill, Fill)
    assert fill.is_liquidation is ours


def test_cancels_of_the_venues_own_are_reports() -> None:
    got = receive("user", {"nonUserCancel": [{"coin": "BTC", "oid": 5}, {"coin": "@1", "oid": 6}]})
    first, second = got.reports
    assert first == CancelReport(
        account_id=ACCOUNT,
        instrument_id=InstrumentId("hyperliquid.BTC"),
        venue_order_id=VenueOrderId("5"),
        reason="nonUserCancel",
        ts_recv_ns=NOW,
    )
    assert isinstance(second, CancelReport)
    assert second.venue_order_id == "6"
    assert got.problem == ""
