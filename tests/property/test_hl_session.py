"""No bytes make a session raise, and what it returns holds together however a message is bent."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from zq_daemon.model.bar import Candle
from zq_daemon.model.event import AccountLiquidated
from zq_daemon.model.fill import Fill
from zq_daemon.model.ids import AccountId
from zq_daemon.model.market import BookSnapshot, MarkPrice, MidPrice, Quote, Trade
from zq_daemon.model.report import OrderReport
from zq_daemon.venue.hyperliquid.decode import number, order_status
from zq_daemon.venue.hyperliquid.session import HyperliquidSession
from zq_daemon.venue.interface import Received

ADDRESS = "0x" + "ab" * 20
MARKET = ("l2Book:BTC", "trades:BTC", "bbo:BTC", "activeAssetCtx:BTC", "candle:BTC:1m", "allMids")
PRIVATE = ("orderUpdates", "userFills", "userEvents", "userFundings")


def session() -> HyperliquidSession:
    """A new one: what candles and middle prices mean depends on those before."""
    return HyperliquidSession(
        MARKET + PRIVATE,
        account_id=AccountId("hyperliquid.x"),
        address=ADDRESS,
        listed=("hyperliquid.BTC",),
    )


SESSION = session()

_LEVEL = {"px": "105055.0", "sz": "3.03622", "n": 5}
_ORDER = {
    "coin": "BTC",
    "side": "A",
    "limitPx": "29792.0",
    "sz": "0.0",
    "oid": 91490942,
    "timestamp": 1681247412573,
    "origSz": "5.0",
    "cloid": "0x" + "0" * 32,
}
_FILL = {
    "coin": "BTC",
    "px": "18435.0",
    "sz": "93.53",
    "side": "B",
    "time": 1681222254710,
    "startPosition": "26.86",
    "dir": "Open Long",
    "closedPnl": "0.0",
    "hash": "0xa1",
    "oid": 90542681,
    "crossed": False,
    "fee": "0.01",
    "tid": 118906512037719,
    "feeToken": "USDC",
}
_TRADE = {"coin": "BTC", "side": "B", "px": "1.5", "sz": "2", "time": 17, "tid": 1, "hash": "0x0"}
_FUNDING = {"time": 1, "coin": "ETH", "usdc": "-3.6", "szi": "49.1", "fundingRate": "0.0000417"}
_CANDLE = {"t": 0, "T": 59_999, "s": "BTC", "i": "1m", "o": "2", "c": "3", "h": "3", "l": "1"}
MESSAGES: list[dict[str, Any]] = [
    {"channel": "candle", "data": _CANDLE | {"v": "3.25", "n": 17}},
    {"channel": "allMids", "data": {"mids": {"BTC": "1.5", "@142": "2"}}},
    {"channel": "activeSpotAssetCtx", "data": {"coin": "BTC", "ctx": {"markPx": "14.3"}}},
    {"channel": "userFundings", "data": {"user": ADDRESS, "fundings": [_FUNDING] * 2}},
    {"channel": "user", "data": {"nonUserCancel": [{"coin": "BTC", "oid": 5}]}},
    {"channel": "user", "data": {"liquidation": {"lid": 1, "liquidated_ntl_pos": "5.5"}}},
    {"channel": "l2Book", "data": {"coin": "BTC", "time": 7, "levels": [[_LEVEL] * 3, [_LEVEL]]}},
    {"channel": "bbo", "data": {"coin": "BTC", "time": 7, "bbo": [_LEVEL, None]}},
    {"channel": "trades", "data": [_TRADE, _TRADE | {"tid": 2}]},
    {
        "channel": "activeAssetCtx",
        "data": {"coin": "BTC", "ctx": {"markPx": "14.3", "oraclePx": "14.32", "funding": "-0.1"}},
    },
    {
        "channel": "orderUpdates",
        "data": [{"order": _ORDER, "status": "filled", "statusTimestamp": 1681247412573}] * 2,
    },
    {"channel": "userFills", "data": {"user": ADDRESS, "isSnapshot": True, "fills": [_FILL] * 2}},
    {"channel": "user", "data": {"fills": [_FILL]}},
    {"channel": "user", "data": {"funding": _FUNDING}},
    {
        "channel": "post",
        "data": {"id": 5, "response": {"type": "action", "payload": {"status": "ok"}}},
    },
    {
        "channel": "subscriptionResponse",
        "data": {"method": "subscribe", "subscription": {"type": "trades", "coin": "BTC"}},
    },
    {"channel": "error", "data": "too many pending post requests id=5"},
    {"channel": "pong"},
]
RAW = [msgspec.json.encode(message) for message in MESSAGES]

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["NaN", "1e999", "-0", "0", "", "1" * 60, "BTC", "A", "B", "\ud800"])
)
_JSON = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def check(got: Received) -> None:
    """Whatever came in: the result can be used by anybody without a further check."""
    assert isinstance(got, Received)
    assert len(got.problem) <= 300
    for event in got.market:
        assert event.instrument_id == "hyperliquid.BTC"
        assert event.ts_event_ns >= 0
        match event:
            case BookSnapshot(bids=bids, asks=asks):
                for level in (*bids, *asks):
                    assert level.price.is_finite()
                    assert level.price > 0 < level.quantity
            case Trade(price=price, quantity=quantity):
                assert price > 0 < quantity
            case Quote():
                assert (event.bid_price is None) == (event.bid_quantity is None)
                assert (event.ask_price is None) == (event.ask_quantity is None)
            case MarkPrice(mark_price=mark):
                assert mark > 0
            case MidPrice(price=price):
                assert price > 0
            case Candle():
                assert 0 < event.low <= min(event.open, event.close)
                assert event.high >= max(event.open, event.close)
                assert event.volume >= 0
                assert event.ts_open_ns < event.ts_close_ns
    for report in got.reports:
        if isinstance(report, AccountLiquidated):
            assert len(report.detail) <= 300
            continue
        assert report.instrument_id.startswith("hyperliquid.")
        if isinstance(report, Fill):
            assert report.price > 0 < report.quantity
            assert report.fee.is_finite()
        if isinstance(report, OrderReport):
            assert report.venue_order_id.isdigit()


@given(st.binary(max_size=200) | st.text(max_size=200))
@settings(max_examples=100)
def test_random_bytes_and_text(message):
    got = SESSION.receive(message, 1)
    check(got)
    assert not got.market


@given(st.sampled_from(RAW), st.data())
@settings(max_examples=100)
def test_real_messages_with_bytes_changed_cut_and_doubled(raw, data):
    bent = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(len(bent) - 1, 0)))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "double", "swap"])):
            case "flip" if bent:
                bent[place] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del bent[place:]
            case "insert":
                bent[place:place] = data.draw(st.binary(min_size=1, max_size=4))
            case "double":
                bent[place:place] = bent[place : place + 40]
            case _ if bent:
                bent[place] = data.draw(st.sampled_from(list(b'0159.-"{}[],:eE \x00\xff')))
    check(session().receive(bytes(bent), 1))


@given(st.sampled_from(MESSAGES), st.data())
@settings(max_examples=100)
def test_real_messages_with_values_of_other_types(message, data):
    bent = copy.deepcopy(message)
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(list(_places(bent)) or [(bent, "channel")]))
        if data.draw(st.booleans()) or not isinstance(holder, dict):
            holder[key] = data.draw(_JSON)
        else:
            holder.pop(key, None)
    check(session().receive(_encode(bent), 1))


@given(
    st.sampled_from([str(each["channel"]) for each in MESSAGES] + ["x"]),
    st.sampled_from(["[", '{"fills":[', '{"levels":[[', '[{"order":', '{"response":{"payload":[']),
    st.integers(1, 60_000),
    st.booleans(),
)
@settings(max_examples=30)
def test_deep_nesting(channel, opening, depth, closed):
    body = opening * depth
    if closed:
        body += "".join({"[": "]", "{": "}"}.get(each, "") for each in reversed(body))
    got = SESSION.receive(f'{{"channel":"{channel}","data":{body}}}', 1)
    check(got)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=12))
@settings(max_examples=60)
def test_good_trades_survive_whatever_lies_between_them(plan):
    bad: list[Any] = [{"coin": "BTC", "px": 5}, _TRADE | {"sz": "nan"}]
    items = [
        _TRADE | {"tid": index} if kind == 0 else bad[kind - 1] for index, kind in enumerate(plan)
    ]
    got = SESSION.receive(msgspec.json.encode({"channel": "trades", "data": items}), 1)
    expected = [str(index) for index, kind in enumerate(plan) if kind == 0]
    assert [event.trade_id for event in got.market] == expected
    assert bool(got.problem) == any(plan)


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9
    )
)
@settings(max_examples=60)
def test_decimal_text_is_read_exactly(value):
    assert number(format(value, "f")) == value


@given(st.text(max_size=30))
@settings(max_examples=100)
def test_text_is_a_plain_number_or_a_value_error(text):
    try:
        value = number(text)
    except ValueError:
        return
    assert value.is_finite()
    assert Decimal(text) == value
    assert set(text) <= set("-.0123456789")


@given(st.text(max_size=20))
@settings(max_examples=60)
def test_a_status_word_is_terminal_only_when_it_says_so(word):
    status, known = order_status(word)
    assert known or status.value == "accepted"


def _places(value: Any):
    """Every (container, key) of a JSON value."""
    match value:
        case dict():
            items = list(value.items())
        case list():
            items = list(enumerate(value))
        case _:
            return
    for key, inner in items:
        yield value, key
        yield from _places(inner)


def _encode(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (UnicodeError, msgspec.MsgspecError, OverflowError):
        return repr(value).replace("'", '"').encode("utf-8", "surrogatepass")


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3)), min_size=1, max_size=30),
)
@settings(max_examples=100)
def test_of_candles_in_any_order_each_is_closed_once_and_as_it_was_told_last(told):
    reading, current, closed = session(), -1, []
    last: dict[int, int] = {}
    for place, trades in told:
        begin = place * 60_000
        data = _CANDLE | {"t": begin, "T": begin + 59_999, "v": str(trades), "n": trades}
        got = reading.receive(msgspec.json.encode({"channel": "candle", "data": data}), 1)
        check(got)
        assert got.problem == ""
        closed += [each for each in got.market if each.is_closed]
        if place > current >= 0:
            assert (closed[-1].ts_open_ns, closed[-1].trades) == (
                current * 60_000_000_000,
                last[current],
            )
        if place >= current:
            current, last[place] = place, trades
    starts = [each.ts_open_ns for each in closed]
    assert starts == sorted(set(starts))
