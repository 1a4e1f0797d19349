"""Hyperliquid's messages, one by one: what each means and what is kept of a bad one."""

from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from zq_daemon.model.event import FundingPaid
from zq_daemon.model.fill import Fill, Liquidity
from zq_daemon.model.ids import AccountId
from zq_daemon.model.market import (
    BookLevel,
    BookSnapshot,
    MarkPrice,
    Quote,
    Side,
    Trade,
)
from zq_daemon.model.order import OrderStatus
from zq_daemon.model.report import OrderReport
from zq_daemon.venue.hyperliquid.session import HyperliquidSession, Stream
from zq_daemon.venue.interface import Received

ADDRESS = "0x" + "ab" * 20
ACCOUNT = AccountId(f"hyperliquid.{ADDRESS}")
MARKET = ("l2Book:BTC", "trades:BTC", "bbo:BTC", "activeAssetCtx:BTC", "trades:kPEPE")
PRIVATE = ("orderUpdates", "userFills", "userEvents", "userFundings")
NOW = 1_737_918_850_000_000_000
MS = 1_000_000
CLOID = "0x" + "0" * 31 + "1"


def session(*streams: str) -> HyperliquidSession:
    return HyperliquidSession(streams or MARKET + PRIVATE, account_id=ACCOUNT, address=ADDRESS)


def receive(channel: str, data: Any, of: HyperliquidSession | None = None) -> Received:
    message = msgspec.json.encode({"channel": channel, "data": data})
    as_bytes = (of or session()).receive(message, NOW)
    assert (of or session()).receive(message.decode(), NOW) == as_bytes
    return as_bytes


def trade(**changes: Any) -> dict[str, Any]:
    made = {
        "coin": "BTC",
        "side": "B",
        "px": "105056.0",
        "sz": "0.00219",
        "hash": "0x0",
        "time": 1737918794873,
        "tid": 121451470284048,
        "users": ["0x1", "0x2"],
    }
    return made | changes


def update(status: str = "open", **changes: Any) -> dict[str, Any]:
    order = {
        "coin": "BTC",
        "side": "A",
        "limitPx": "29792.0",
        "sz": "3.0",
        "oid": 91490942,
        "timestamp": 1681247412573,
        "origSz": "5.0",
        "cloid": CLOID,
    }
    return {"order": order | changes, "status": status, "statusTimestamp": 1681247412600}


def fill(**changes: Any) -> dict[str, Any]:
    made = {
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
        "fee": "-0.01",
        "tid": 118906512037719,
        "feeToken": "USDC",
        "cloid": CLOID,
    }
    return made | changes


def test_the_opening_subscribes_to_each_stream():
    assert session("l2Book:kPEPE", "orderUpdates", "userFills").opening() == (
        '{"method":"subscribe","subscription":{"type":"l2Book","coin":"kPEPE"}}',
        f'{{"method":"subscribe","subscription":{{"type":"orderUpdates","user":"{ADDRESS}"}}}}',
        f'{{"method":"subscribe","subscription":{{"type":"userFills","user":"{ADDRESS}"}}}}',
    )
    assert session().ping() == '{"method":"ping"}'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("l2book:BTC", "hyperliquid has"),
        ("", "hyperliquid has"),
        ("candle:BTC", "needs a symbol and an interval"),
        ("candle:1m", "needs a symbol and an interval"),
        ("candle:BTC:7m", "needs a symbol and an interval"),
        ("l2Book:BTC?nSigFigs=6", "nSigFigs: .2, 3, 4, 5."),
        ("l2Book:BTC?", "option ''"),
        ("l2Book:BTC?nSigFigs=4&nSigFigs=4", "twice"),
        ("l2Book:BTC?nSigFigs=4&mantissa=2", "mantissa needs nSigFigs=5"),
        ("trades:BTC?nSigFigs=4", "there is none"),
        ("allMids:BTC", "takes no symbol"),
        ("trades", "needs a symbol"),
        ("trades:", "needs a symbol"),
        ("userFills:BTC", "takes no symbol"),
        ("orderUpdates:", "takes no symbol"),
        ("l2Book:B TC", "printable characters"),
    ],
)
def test_a_stream_that_does_not_exist_is_a_value_error(text, problem):
    with pytest.raises(ValueError, match=problem):
        session(text)


def test_a_private_stream_needs_an_account():
    with pytest.raises(ValueError, match=r"'userFills'.*account"):
        HyperliquidSession(("userFills",), account_id=None, address=None)
    assert Stream.parse("userEvents").private
    assert not Stream.parse("bbo:BTC").private


def test_the_greeting_and_the_pong():
    assert session().receive("Websocket connection established.", NOW) == Received()
    assert session().receive(b"Websocket connection established.", NOW) == Received()
    assert session().receive(b'{"channel":"pong"}', NOW) == Received(pong=True)


def test_a_confirmation_names_the_stream_as_it_was_asked_for():
    echo = {"type": "l2Book", "coin": "BTC", "nSigFigs": None, "mantissa": None}
    confirmed = receive("subscriptionResponse", {"method": "subscribe", "subscription": echo})
    assert confirmed == Received(subscribed=("l2Book:BTC",))
    for private in PRIVATE:
        body = {"method": "subscribe", "subscription": {"type": private, "user": ADDRESS}}
        assert receive("subscriptionResponse", body).subscribed == (private,)
    gone = {"method": "unsubscribe", "subscription": echo}
    assert receive("subscriptionResponse", gone) == Received()
    other = {"method": "subscribe", "subscription": {"type": "l2Book", "coin": "ETH"}}
    assert "l2Book:ETH was not asked for" in receive("subscriptionResponse", other).problem


def test_a_book_is_read_lazily_and_exactly():
    levels = [
        [{"px": "105055.0", "sz": "3.03622", "n": 5}, {"px": "105054", "sz": "0.1", "n": 1}],
        [{"px": "105056.0", "sz": "0.5", "n": 2}],
    ]
    (book,) = receive("l2Book", {"coin": "BTC", "time": 1737918843000, "levels": levels}).market
    assert isinstance(book, BookSnapshot)
    assert book.instrument_id == "hyperliquid.BTC"
    assert list(book.bids) == [
        BookLevel(Decimal("105055.0"), Decimal("3.03622"), 5),
        BookLevel(Decimal("105054"), Decimal("0.1"), 1),
    ]
    assert book.asks[0] == BookLevel(Decimal("105056.0"), Decimal("0.5"), 2)
    assert (book.ts_event_ns, book.ts_recv_ns) == (1737918843000 * MS, NOW)


def test_an_empty_book_is_a_book():
    (book,) = receive("l2Book", {"coin": "BTC", "time": 1, "levels": [[], []]}).market
    assert (len(book.bids), len(book.asks)) == (0, 0)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "NaN", "Infinity", "-1", "1e5", "1_000", ".5", "1.2.3", "0", "0.000"),
        *(" 1", "1 ", "1\n", "1 2", "1  2", "\u0663", "1" * 41, "0." + "1" * 21),
    ],
)
@pytest.mark.parametrize("name", ["px", "sz"])
@pytest.mark.parametrize("index", [0, 1])
def test_a_bad_number_in_a_book_is_found_at_once(text, name, index):
    levels = [[{"px": "1", "sz": "2", "n": 1}] * 3, [{"px": "3", "sz": "4", "n": 1}] * 3]
    levels[index][1] = levels[index][1] | {name: text}
    got = receive("l2Book", {"coin": "BTC", "time": 1, "levels": levels})
    assert got.market == ()
    assert got.problem.startswith("l2Book: ")


def test_a_quote_may_miss_a_side():
    level = {"px": "1.5", "sz": "2", "n": 1}
    (quote,) = receive("bbo", {"coin": "BTC", "time": 5, "bbo": [level, None]}).market
    assert quote == Quote(
        instrument_id="hyperliquid.BTC",
        bid_price=Decimal("1.5"),
        bid_quantity=Decimal(2),
        ask_price=None,
        ask_quantity=None,
        ts_event_ns=5 * MS,
        ts_recv_ns=NOW,
    )


def test_trades_carry_the_aggressors_side():
    data = [trade(), trade(side="A", coin="kPEPE", tid=7)]
    first, second = receive("trades", data).market
    assert first == Trade(
        instrument_id="hyperliquid.BTC",
        price=Decimal("105056.0"),
        quantity=Decimal("0.00219"),
        aggressor=Side.BUY,
        trade_id="121451470284048",
        ts_event_ns=1737918794873 * MS,
        ts_recv_ns=NOW,
    )
    assert (second.instrument_id, second.aggressor) == ("hyperliquid.kPEPE", Side.SELL)


def test_a_mark_price_has_our_time():
    context = {
        "markPx": "14.3161",
        "oraclePx": "14.32",
        "funding": "-0.0000125",
        "openInterest": "1882.55",
        "midPx": None,
        "impactPxs": None,
        "dayNtlVlm": "1169046.29406",
    }
    (mark,) = receive("activeAssetCtx", {"coin": "BTC", "ctx": context}).market
    assert mark == MarkPrice(
        instrument_id="hyperliquid.BTC",
        mark_price=Decimal("14.3161"),
        oracle_price=Decimal("14.32"),
        funding_rate=Decimal("-0.0000125"),
        open_interest=Decimal("1882.55"),
        ts_event_ns=NOW,
        ts_recv_ns=NOW,
    )
    (bare,) = receive("activeAssetCtx", {"coin": "BTC", "ctx": {"markPx": "1"}}).market
    assert bare.funding_rate is None


def test_an_order_update_is_a_report():
    (report,) = receive("orderUpdates", [update()]).reports
    assert report == OrderReport(
        account_id=ACCOUNT,
        instrument_id="hyperliquid.BTC",
        client_order_id=CLOID,
        venue_order_id="91490942",
        side=Side.SELL,
        price=Decimal("29792.0"),
        quantity=Decimal("5.0"),
        remaining=Decimal("3.0"),
        status=OrderStatus.ACCEPTED,
        reason="open",
        ts_event_ns=1681247412600 * MS,
        ts_recv_ns=NOW,
    )


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("open", OrderStatus.ACCEPTED),
        ("triggered", OrderStatus.ACCEPTED),
        ("filled", OrderStatus.FILLED),
        ("canceled", OrderStatus.CANCELED),
        ("marginCanceled", OrderStatus.CANCELED),
        ("selfTradeCanceled", OrderStatus.CANCELED),
        ("scheduledCancel", OrderStatus.CANCELED),
        ("someNewReasonCanceled", OrderStatus.CANCELED),
        ("rejected", OrderStatus.REJECTED),
        ("iocCancelRejected", OrderStatus.REJECTED),
        ("perpMarginRejected", OrderStatus.REJECTED),
        ("somethingExpired", OrderStatus.EXPIRED),
    ],
)
def test_status_words_are_read_by_their_ending(word, status):
    got = receive("orderUpdates", [update(word)])
    assert [(report.status, report.reason) for report in got.reports] == [(status, word)]
    assert got.problem == ""


def test_an_unknown_status_word_keeps_the_order_as_accepted_and_says_so():
    got = receive("orderUpdates", [update("teleported"), update("filled")])
    statuses = [report.status for report in got.reports]
    assert statuses == [OrderStatus.ACCEPTED, OrderStatus.FILLED]
    assert got.notice == "orderUpdates: status 'teleported' is unknown, read as accepted"
    assert got.problem == ""


def test_an_unknown_status_word_beside_a_broken_update_is_noticed_too():
    got = receive("orderUpdates", [update("teleported"), {"order": 7}])
    assert [report.status for report in got.reports] == [OrderStatus.ACCEPTED]
    assert "'teleported' is unknown" in got.notice
    assert got.problem.startswith("orderUpdates: ")


@pytest.mark.parametrize("cloid", [None, "0x12", "0x" + "AB" * 16, "mine"])
def test_an_order_without_an_id_of_ours_keeps_the_venues(cloid):
    (report,) = receive("orderUpdates", [update(cloid=cloid)]).reports
    assert (report.client_order_id, report.venue_order_id) == (None, "91490942")
    (bought,) = receive("userFills", {"user": ADDRESS, "fills": [fill(cloid=cloid)]}).reports
    assert (bought.client_order_id, bought.venue_order_id) == (None, "90542681")


def test_an_order_of_a_coin_that_is_not_subscribed_is_still_ours():
    (report,) = receive("orderUpdates", [update(coin="@142")]).reports
    assert report.instrument_id == "hyperliquid.@142"


def test_fills_come_as_a_snapshot_and_then_one_by_one():
    data = {"user": ADDRESS, "isSnapshot": True, "fills": [fill(), fill(tid=2, crossed=True)]}
    first, second = receive("userFills", data).reports
    assert first == Fill(
        trade_id="118906512037719",
        client_order_id=CLOID,
        venue_order_id="90542681",
        account_id=ACCOUNT,
        instrument_id="hyperliquid.BTC",
        side=Side.BUY,
        price=Decimal("18435.0"),
        quantity=Decimal("93.53"),
        fee=Decimal("-0.01"),
        fee_currency="USDC",
        liquidity=Liquidity.MAKER,
        ts_event_ns=1681222254710 * MS,
        ts_recv_ns=NOW,
    )
    assert second.liquidity is Liquidity.TAKER
    assert (
        receive("userFills", {"user": ADDRESS, "fills": [fill(tid=3)]}).reports[0].trade_id == "3"
    )


def test_user_events_bring_fills_and_funding():
    assert receive("user", {"fills": [fill()]}).reports[0].trade_id == "118906512037719"
    funding = {
        "time": 1681222254710,
        "coin": "ETH",
        "usdc": "-3.625312",
        "szi": "49.1477",
        "fundingRate": "0.0000417",
        "nSamples": None,
    }
    assert receive("user", {"funding": funding}).reports == (
        FundingPaid(
            account_id=ACCOUNT,
            instrument_id="hyperliquid.ETH",
            amount=Decimal("-3.625312"),
            rate=Decimal("0.0000417"),
            ts_event_ns=1681222254710 * MS,
        ),
    )
    new = receive("user", {"somethingNew": 1})
    assert new == Received(notice="user: an event of an unknown kind")


def test_a_post_reply_is_handed_on_under_its_number():
    answer = {"type": "action", "payload": {"status": "err", "response": "text"}}
    (reply,) = receive("post", {"id": 17, "response": answer}).replies
    assert reply.post_id == 17
    assert reply.body.kind == "action"
    assert msgspec.json.decode(reply.body.payload) == {"status": "err", "response": "text"}


def test_an_error_is_a_problem_and_answers_the_post_it_names():
    got = receive("error", "Already subscribed: {}")
    assert got == Received(problem="error: Already subscribed: {}")
    refused = receive("error", "too many pending post requests id=42")
    assert [reply.post_id for reply in refused.replies] == [42]
    assert refused.replies[0].body.kind == "error"
    assert refused.problem


@pytest.mark.parametrize(
    ("channel", "good", "bad"),
    [
        ("trades", trade(), trade(px="x")),
        ("trades", trade(), trade(side="C")),
        ("trades", trade(), trade(coin="ETH")),
        ("trades", trade(), trade(tid="text")),
        ("trades", trade(), trade(tid=-1)),
        ("trades", trade(), trade(tid=2**64)),
        ("trades", trade(), trade(time=10**15)),
        ("trades", trade(), 5),
        ("orderUpdates", update(), update(side="?")),
        ("orderUpdates", update(), update(limitPx=5)),
        ("orderUpdates", update(), update(coin="")),
        ("orderUpdates", update(), {"order": None}),
        ("orderUpdates", update(), None),
        ("userFills", fill(), fill(sz="-1")),
        ("userFills", fill(), fill(oid="1")),
        ("userFills", fill(), []),
        ("user", fill(), fill(px="0")),
        ("user", fill(), {}),
    ],
)
def test_a_bad_element_leaves_its_neighbours(channel, good, bad):
    items = [good, bad, good]
    data = items if channel in ("trades", "orderUpdates") else {"fills": items}
    got = receive(channel, data)
    assert len(got.market) + len(got.reports) == 2
    assert got.problem.startswith(f"{channel}: ")


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("", "not a message"),
        ("hello", "not a message"),
        (b"\xff\xfe", "not a message"),
        ("\ud800", "not a message"),
        ("null", "not a message"),
        ("[1,2]", "not a message"),
        ("{}", "not a message"),
        ('{"channel":5}', "not a message"),
        ('{"channel":"webData2","data":{}}', "unknown channel: 'webData2'"),
        ('{"channel":"allMids","data":{}}', "allMids: Object missing required field `mids`"),
        ('{"channel":"l2Book"}', "l2Book: Object missing required field `data`"),
        ('{"channel":"l2Book","data":{"coin":"BTC","time":1,"levels":[[]]}}', "l2Book"),
        ('{"channel":"l2Book","data":{"coin":"ETH","time":1,"levels":[[],[]]}}', "coin 'ETH'"),
        ('{"channel":"trades","data":{}}', "trades"),
        ('{"channel":"user","data":[]}', "user"),
        ('{"channel":"userFills","data":{"fills":5}}', "userFills"),
        ('{"channel":"l2Book","data":' + "[" * 100_000, "not a message"),
        ('{"channel":"' + "x" * 100_000 + '","data":1}', "xxx"),
    ],
)
def test_what_is_not_understood_is_named(message, problem):
    got = session().receive(message, NOW)
    assert problem in got.problem
    assert len(got.problem) <= 300
    assert Received(problem=got.problem) == got


def test_a_private_message_without_an_account_is_a_problem():
    public = HyperliquidSession(("trades:BTC",), account_id=None, address=None)
    for channel, data in (
        ("orderUpdates", [update()]),
        ("userFills", {"fills": [fill()]}),
        ("userFills", {"fills": [fill(), 5]}),
    ):
        got = receive(channel, data, public)
        assert got.reports == ()
        assert "without an account" in got.problem


def test_a_real_capture_is_understood_without_a_problem(captures: Path):
    with gzip.open(captures / "hyperliquid" / "btc_20250126.gz") as lines:
        messages = [line.partition(b" ") for line in lines]
    reading = session("l2Book:BTC", "trades:BTC")
    books = trades = 0
    for received_ns, _, message in messages:
        got = reading.receive(message, int(received_ns))
        assert got.problem == ""
        raw = msgspec.json.decode(message)
        if raw["channel"] == "l2Book":
            (book,) = got.market
            books += 1
            for side, levels in zip((book.bids, book.asks), raw["data"]["levels"], strict=True):
                assert [
                    (str(level.price), str(level.quantity), level.orders) for level in side
                ] == [(level["px"], level["sz"], level["n"]) for level in levels]
        elif raw["channel"] == "trades":
            trades += len(got.market)
            assert [event.trade_id for event in got.market] == [
                str(each["tid"]) for each in raw["data"]
            ]
    assert (books, trades) == (46, 64)
