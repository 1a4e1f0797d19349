"""Hyperliquid's real recordings decode losslessly: written again, they say the same.

Lossless means: every field that the daemon uses gives the same text again that the venue sent, all
the way, from the recording to the daemon's own values and back (digits, trailing zeros, order of
the elements). Fields that no part of the daemon reads are not decoded at all; which ones is said
here, so that a new one in a recording is noticed.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from zq_daemon.model.account import Balance
from zq_daemon.model.ids import AccountId, InstrumentId, instrument_id
from zq_daemon.model.instrument import Instrument
from zq_daemon.model.market import BookLevel, BookSnapshot, Side, Trade
from zq_daemon.model.order import OrderStatus
from zq_daemon.model.report import OrderReport, PositionReport
from zq_daemon.venue.hyperliquid import decode, instruments, wire
from zq_daemon.venue.hyperliquid.session import HyperliquidSession

ACCOUNT = AccountId("hyperliquid.0x5e9ee1089755c3435139848e47e6635505d5a13a")
MS = 1_000_000

UNREAD: Mapping[str, frozenset[str]] = {
    "meta": frozenset({"onlyIsolated"}),
    "l2Book": frozenset(),
    "openOrders": frozenset(),
    "clearinghouseState": frozenset(
        {
            *("crossMarginSummary", "type", "leverage", "liquidationPx", "marginUsed"),
            *("maxTradeSzs", "positionValue", "returnOnEquity"),
            *("totalNtlPos", "totalRawUsd"),
        }
    ),
}
"""What nobody reads of each recording, at whatever depth."""

SHAPES: Mapping[str, Any] = {
    "meta": wire.PerpetualMeta,
    "l2Book": wire.Book,
    "openOrders": list[wire.Order],
    "clearinghouseState": wire.ClearinghouseState,
}


def recorded(captures: Path, name: str) -> Any:
    return msgspec.json.decode((captures / "hyperliquid_rest" / f"{name}.json").read_bytes())[
        "response"
    ]


def captured(captures: Path) -> Iterator[tuple[int, bytes]]:
    with gzip.open(captures / "hyperliquid" / "btc_20250126.gz") as lines:
        for line in lines:
            received_ns, _, message = line.partition(b" ")
            yield int(received_ns), message.strip()


def without(value: Any, names: frozenset[str]) -> Any:
    """*value* without the fields called *names*, at any depth."""
    match value:
        case dict():
            return {key: without(each, names) for key, each in value.items() if key not in names}
        case list():
            return [without(each, names) for each in value]
        case _:
            return value


def written(value: Any, like: Any) -> Any:
    """*value* as JSON; of fields that *like* lacks those with their defaults are left out."""
    made = msgspec.json.decode(msgspec.json.encode(value))
    return _present(made, like)


def _present(made: Any, like: Any) -> Any:
    match made, like:
        case dict(), dict():
            return {key: _present(made[key], like[key]) for key in like if key in made}
        case list(), list():
            assert len(made) == len(like)
            return [_present(one, other) for one, other in zip(made, like, strict=True)]
        case _:
            return made


@pytest.mark.parametrize("name", SHAPES)
def test_what_a_recording_says_is_written_again_as_it_was(captures: Path, name: str) -> None:
    told = recorded(captures, name)
    read = without(told, UNREAD[name])
    shape = msgspec.json.decode(msgspec.json.encode(told), type=SHAPES[name])
    assert written(shape, read) == read


def test_meta_becomes_instruments_and_back(captures: Path) -> None:
    told = recorded(captures, "meta")
    shape = msgspec.convert(told, wire.PerpetualMeta)

    def back(one: Instrument) -> dict[str, Any]:
        return {
            "name": one.symbol,
            "szDecimals": one.quantity_decimals,
            "maxLeverage": one.max_leverage,
        }

    assert [back(each) for each in instruments.perpetuals(shape)] == without(
        told["universe"], UNREAD["meta"]
    )


def test_a_book_becomes_levels_and_back(captures: Path) -> None:
    told = recorded(captures, "l2Book")
    shape = msgspec.convert(told, wire.Book)
    book = decode.book(shape, instrument_id(decode.VENUE, told["coin"]), 7)
    assert _book(book) == told


def test_open_orders_become_reports_and_back(captures: Path) -> None:
    told = recorded(captures, "openOrders")
    orders = msgspec.convert(told, list[wire.Order])
    reports = [decode.open_order(each, ACCOUNT, 7) for each in orders]

    def back(one: OrderReport) -> dict[str, Any]:
        assert one.status is OrderStatus.ACCEPTED
        return {
            "coin": _coin(one.instrument_id),
            "limitPx": str(one.price),
            "oid": int(one.venue_order_id),
            "side": "B" if one.side is Side.BUY else "A",
            "sz": str(one.remaining),
            "timestamp": one.ts_event_ns // MS,
        }

    assert [back(each) for each in reports] == told


def test_an_account_becomes_a_statement_and_back(captures: Path) -> None:
    told = recorded(captures, "clearinghouseState")
    state = msgspec.convert(told, wire.ClearinghouseState)
    report = decode.account_report(state, (), (), ACCOUNT, 7, pairs={})
    profits = [Decimal(held["position"]["unrealizedPnl"]) for held in told["assetPositions"]]
    account = report.account
    assert account.balances == (
        Balance(
            currency="USDC",
            total=account.equity - sum(profits, Decimal(0)),
            free=Decimal(told["withdrawable"]),
        ),
    )
    assert str(account.equity) == told["marginSummary"]["accountValue"]
    assert str(account.margin_used) == told["marginSummary"]["totalMarginUsed"]
    assert str(account.balances[0].free) == told["withdrawable"]

    def back(one: PositionReport) -> dict[str, Any]:
        return {
            "coin": _coin(one.instrument_id),
            "szi": str(one.quantity),
            "entryPx": None if one.average_entry_price is None else str(one.average_entry_price),
        }

    assert [back(each) for each in report.positions] == [
        {name: held["position"][name] for name in ("coin", "szi", "entryPx")}
        for held in told["assetPositions"]
    ]


def test_every_message_of_the_capture_becomes_values_and_back(captures: Path) -> None:
    session = HyperliquidSession(("l2Book:BTC", "trades:BTC"), account_id=None, address=None)
    channels: dict[str, int] = {}
    for received_ns, message in captured(captures):
        told = msgspec.json.decode(message)
        channels[told["channel"]] = channels.get(told["channel"], 0) + 1
        got = session.receive(message, received_ns)
        assert (got.problem, got.notice) == ("", "")
        match told["channel"]:
            case "l2Book":
                (book,) = got.market
                assert isinstance(book, BookSnapshot)
                assert book.ts_recv_ns == received_ns
                assert _book(book) == told["data"]
            case "trades":
                unread = frozenset({"hash", "users"})
                assert [_trade(each) for each in got.market] == without(told["data"], unread)
            case other:
                assert got.subscribed, other
    assert (channels["l2Book"], channels["trades"]) == (46, 9)


def _book(book: BookSnapshot) -> dict[str, Any]:
    return {
        "coin": _coin(book.instrument_id),
        "time": book.ts_event_ns // MS,
        "levels": [_levels(book.bids), _levels(book.asks)],
    }


def _levels(levels: Sequence[BookLevel]) -> list[dict[str, Any]]:
    return [{"px": str(each.price), "sz": str(each.quantity), "n": each.orders} for each in levels]


def _trade(trade: object) -> dict[str, Any]:
    assert isinstance(trade, Trade)
    return {
        "coin": _coin(trade.instrument_id),
        "side": "B" if trade.aggressor is Side.BUY else "A",
        "px": str(trade.price),
        "sz": str(trade.quantity),
        "time": trade.ts_event_ns // MS,
        "tid": int(trade.trade_id),
    }


def _coin(instrument: InstrumentId) -> str:
    return instrument.partition(".")[2]
