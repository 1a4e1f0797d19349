"""A followed market: what of a venue's messages reaches the books, users' orders and listeners."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
import trio

from tests.unit.exchange_rig import HandClock, Rig
from zq_daemon.core.replay_matching import QueuePosition
from zq_daemon.model.market import Side
from zq_daemon.venue.exchange import follow
from zq_daemon.venue.exchange.follow import FOLLOWED, FollowMarket, FollowSettings
from zq_daemon.venue.exchange.listing import LISTED, PAIRS, Listing
from zq_daemon.venue.exchange.public_messages import parse_message

IOC = {"tif": "Ioc"}
NOTHING = {"error": "Order could not immediately match against any resting orders."}


class Followed:
    """An exchange over a market that follows what the test says, and a listener of it."""

    def __init__(self, **settings: Any) -> None:
        self.clock = HandClock()
        self.market = FollowMarket(Listing(LISTED, PAIRS), self.clock, FollowSettings(**settings))
        self.rig = Rig(self.market, self.clock)
        self.listener = self.rig.listen(
            {"type": "trades", "coin": "BTC"},
            {"type": "userFills", "user": self.rig.alice.address},
        )
        self.tid = 0

    @property
    def now_ms(self) -> int:
        return self.clock.ns // 1_000_000

    def tell(self, channel: str, data: Any) -> None:
        """The venue says it, and the exchange takes it."""
        self.put(json.dumps({"channel": channel, "data": data}))
        self.rig.exchange.step(self.clock.ns)

    def put(self, raw: str) -> None:
        message = parse_message(raw, FOLLOWED)
        assert message is not None
        self.market._arrive.send_nowait(message)

    def lose(self) -> None:
        self.market._arrive.send_nowait(None)
        self.rig.exchange.step(self.clock.ns)

    def book(self, bids: list, asks: list, *, coin: str = "BTC", at_ms: int | None = None) -> None:
        sides = [
            [{"px": str(price), "sz": str(size), "n": 1} for price, size in side]
            for side in (bids, asks)
        ]
        time_ms = self.now_ms if at_ms is None else at_ms
        self.tell("l2Book", {"coin": coin, "time": time_ms, "levels": sides})

    def trade(self, side: str, price: int, size: str, *, at_ms: int | None = None) -> dict:
        self.tid += 1
        told = {
            "coin": "BTC",
            "side": side,
            "px": str(price),
            "sz": size,
            "time": self.now_ms if at_ms is None else at_ms,
            "hash": "0x0",
            "tid": self.tid,
            "users": ["0x0", "0x1"],
        }
        self.tell("trades", [told])
        return told

    def filled(self) -> list[tuple[str, str, bool]]:
        """Price, size and whether it crossed of what alice was told of since last asked."""
        return [
            (fill["px"], fill["sz"], fill["crossed"])
            for told in self.listener.heard("userFills")
            if not told.get("isSnapshot")
            for fill in told["fills"]
        ]


@pytest.fixture
def followed() -> Followed:
    made = Followed()
    made.book([(100, 2), (99, 1)], [(101, 1), (102, 5)])
    return made


def test_a_taker_walks_the_followed_book(followed):
    status = followed.rig.place(followed.rig.alice, "buy", "102", "3", **IOC)
    assert status["filled"]["totalSz"] == "3.0"
    assert followed.filled() == [("101.0", "1.0", True), ("102.0", "2.0", True)]
    assert followed.rig.place(followed.rig.bob, "buy", "101", "1", **IOC) == NOTHING


def test_a_maker_is_filled_behind_the_queue_by_the_venues_trades(followed):
    followed.rig.rest(followed.rig.alice, "buy", "100", "1")
    followed.trade("A", 100, "1.5")
    followed.trade("B", 101, "9")
    assert followed.filled() == []
    followed.trade("A", 100, "0.75")
    followed.trade("A", 99, "0.5")
    assert followed.filled() == [("100.0", "0.25", False), ("100.0", "0.5", False)]


@pytest.mark.parametrize(
    ("queue", "filled"),
    [(QueuePosition.FRONT, [("100.0", "1.0", False)]), (QueuePosition.BACK, [])],
)
def test_the_place_in_the_queue_is_a_setting(queue, filled):
    followed = Followed(queue=queue)
    followed.book([(100, 2)], [(101, 1)])
    followed.rig.rest(followed.rig.alice, "buy", "100", "1")
    followed.trade("A", 100, "1")
    assert followed.filled() == filled


def test_messages_go_out_verbatim_and_users_trades_are_not_among_them(followed):
    told = followed.trade("B", 101, "0.5")
    followed.rig.place(followed.rig.alice, "buy", "101", "0.5", **IOC)
    assert followed.listener.heard("trades") == [[told]]


def test_what_was_told_last_opens_a_subscription(followed):
    listener = followed.rig.listen(
        {"type": "l2Book", "coin": "BTC"}, {"type": "l2Book", "coin": "ETH"}
    )
    (book,) = listener.heard("l2Book")
    assert (book["coin"], book["levels"][0][0]) == ("BTC", {"px": "100", "sz": "2", "n": 1})


def test_a_trade_that_is_told_again_fills_once(followed):
    followed.rig.rest(followed.rig.alice, "buy", "100", "3")
    followed.trade("A", 99, "1")
    followed.tid -= 1
    followed.trade("A", 99, "1")
    assert followed.filled() == [("100.0", "1.0", False)]


def test_the_trades_remembered_are_bounded(followed, monkeypatch):
    monkeypatch.setattr(follow, "_KNOWN_TRADES", 3)
    for _ in range(5):
        followed.trade("A", 99, "1")
    assert len(followed.market._coins["BTC"].known) == 3
    followed.rig.rest(followed.rig.alice, "buy", "100", "3")
    followed.tid = 4
    followed.trade("A", 99, "1")
    assert followed.filled() == []


def test_a_trade_of_before_the_order_does_not_fill_it_by_the_venues_clock():
    followed = Followed()
    skewed = followed.now_ms + 90_000
    followed.book([(100, 2)], [(101, 1)], at_ms=skewed)
    followed.clock.advance_ms(500)
    followed.rig.rest(followed.rig.alice, "buy", "100", "3")
    followed.trade("A", 99, "1", at_ms=skewed + 499)
    assert followed.filled() == []
    followed.trade("A", 99, "1", at_ms=skewed + 500)
    assert followed.filled() == [("100.0", "1.0", False)]


def test_a_best_price_between_two_books_counts(followed):
    followed.rig.rest(followed.rig.alice, "buy", "100", "1")
    best = [{"px": "99", "sz": "1", "n": 1}, {"px": "100", "sz": "0.4", "n": 1}]
    followed.tell("bbo", {"coin": "BTC", "time": followed.now_ms, "bbo": best})
    assert followed.filled() == [("100.0", "0.4", False)]
    followed.tell("bbo", {"coin": "BTC", "time": followed.now_ms - 1, "bbo": [None, None]})
    assert followed.market.matcher("BTC").depth(Side.BUY, 9)[0].price == Decimal(99)


def test_an_older_book_is_passed_on_and_not_matched(followed):
    followed.book([(90, 1)], [(91, 1)], at_ms=followed.now_ms - 1)
    assert followed.market.matcher("BTC").best(Side.BUY) == Decimal(100)


@pytest.mark.parametrize("how", ["lost", "stale"])
def test_without_the_feed_orders_rest_and_none_trades(followed, how):
    oid = followed.rig.rest(followed.rig.alice, "buy", "100", "1")
    if how == "lost":
        followed.lose()
    else:
        assert followed.market.next_due_ns() == followed.clock.ns + 10_000_000_000
        followed.clock.advance_ms(9_999)
        followed.rig.exchange.step(followed.clock.ns)
        assert followed.market.matcher("BTC").best(Side.BUY) == Decimal(100)
        followed.clock.advance_ms(1)
        followed.rig.exchange.step(followed.clock.ns)
    assert followed.rig.place(followed.rig.bob, "buy", "101", "1", **IOC) == NOTHING
    followed.rig.rest(followed.rig.bob, "sell", "103", "1")
    assert [o["oid"] for o in followed.rig.info("openOrders", user=followed.rig.alice.address)] == [
        oid
    ]
    listener = followed.rig.listen({"type": "l2Book", "coin": "BTC"})
    assert bool(listener.heard("l2Book")) == (how == "stale")
    followed.clock.advance_ms(1_000)
    followed.book([(100, 1)], [(101, 1)])
    followed.trade("A", 100, "1.5")
    assert followed.filled() == [("100.0", "0.5", False)]


def test_a_trade_that_happened_while_the_feed_was_down_fills_what_rested(followed):
    followed.rig.rest(followed.rig.alice, "buy", "100", "1")
    followed.lose()
    followed.clock.advance_ms(30_000)
    happened_ms = followed.now_ms - 20_000
    followed.rig.rest(followed.rig.bob, "buy", "99.5", "1")
    followed.trade("A", 99, "0.3", at_ms=happened_ms)
    assert followed.filled() == [("100.0", "0.3", False)]


def test_the_oracle_price_is_the_venues_and_the_middle_until_it_is_told():
    followed = Followed()
    followed.tell("allMids", {"mids": {"BTC": "100.5", "ETH": "3.5", "NONE": "1", "SOL": 7}})
    assert followed.market.oracle("BTC") == Decimal("100.5")
    followed.tell("activeAssetCtx", {"coin": "BTC", "ctx": {"oraclePx": "100.7"}})
    followed.tell("allMids", {"mids": {"BTC": "100.6", "ETH": "3.6"}})
    assert followed.market.oracle("BTC") == Decimal("100.7")
    assert followed.market.oracle("ETH") == Decimal("3.6")
    followed.tell("activeSpotAssetCtx", {"coin": "@107", "ctx": {"markPx": "25.5"}})
    assert followed.market.oracle("@107") == Decimal("25.5")
    assert followed.market.oracle("SOL") is None


def test_what_is_listened_to_and_traded_is_wanted_once_and_within_bounds(monkeypatch):
    followed = Followed()
    assert followed.market.wanted == (
        ("allMids", ""),
        *((channel, "BTC") for channel in FOLLOWED),
    )
    assert followed.market.delay_ns(["BTC"]) == 0
    assert followed.market.delay_ns(["ETH"]) == 1_000_000_000, "its book has to come first"
    assert followed.market.delay_ns(["ETH"]) == 0
    assert followed.market.wanted[5:] == tuple((channel, "ETH") for channel in FOLLOWED)
    followed.market.listened("allMids", "", 0)
    monkeypatch.setattr(follow, "MAX_STREAMS", 12)
    assert followed.market.delay_ns(["SOL"]) == 0
    assert len(followed.market.wanted) == 9


CANDLES = {"coin": "ETH", "interval": "1m", "startTime": 0, "endTime": 1}


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("l2Book", {"coin": "ETH"}),
        ("recentTrades", {"coin": "ETH"}),
        ("candleSnapshot", {"req": CANDLES}),
    ],
)
def test_what_is_asked_about_is_followed(followed, kind, asked):
    assert ("l2Book", "ETH") not in followed.market.wanted
    followed.rig.info(kind, **asked)
    assert followed.market.wanted[5:] == tuple((channel, "ETH") for channel in FOLLOWED)


def test_orders_take_their_time():
    followed = Followed(order_latency_ms=70)
    assert followed.market.delay_ns(["BTC"]) == 70_000_000
    assert followed.market.delay_ns([]) == 70_000_000


BAD = [
    {"channel": "l2Book", "data": {"coin": "BTC", "levels": [[], []]}},
    {"channel": "l2Book", "data": {"coin": "BTC", "time": -1, "levels": [[], []]}},
    {"channel": "l2Book", "data": {"coin": "BTC", "time": 1 << 60, "levels": [[], []]}},
    {"channel": "l2Book", "data": {"coin": "BTC", "time": 1, "levels": [[]]}},
    {"channel": "l2Book", "data": {"coin": "WHO", "time": 1, "levels": [[], []]}},
    {"channel": "bbo", "data": {"coin": "BTC", "time": 1, "bbo": [None]}},
    {"channel": "bbo", "data": {"coin": "BTC", "time": 1, "bbo": [7, None]}},
    {"channel": "trades", "data": [{"coin": "BTC"}]},
    {"channel": "trades", "data": [{"coin": "BTC", "side": "C"}]},
    {
        "channel": "trades",
        "data": [{"coin": "BTC", "side": "A", "px": "9", "sz": "1", "time": 1 << 60, "tid": 1}],
    },
    {"channel": "trades", "data": [{"coin": "WHO", "side": "A"}]},
]


@pytest.mark.parametrize("message", BAD, ids=json.dumps)
def test_a_message_that_is_not_as_documented_is_counted_and_changes_nothing(followed, message):
    followed.put(json.dumps(message))
    followed.rig.exchange.step(followed.clock.ns)
    assert followed.market.bad_messages == 1
    assert followed.market.matcher("BTC").best(Side.BUY) == Decimal(100)
    followed.trade("A", 100, "1")
    assert followed.market.bad_messages == 1


@pytest.mark.parametrize(
    "message",
    [
        {"channel": "allMids", "data": {}},
        {"channel": "allMids", "data": {"mids": []}},
        {"channel": "activeAssetCtx", "data": {"coin": "BTC"}},
        {"channel": "activeAssetCtx", "data": {"coin": "BTC", "ctx": {"oraclePx": "NaN"}}},
    ],
    ids=json.dumps,
)
def test_a_price_that_is_none_is_not_believed(followed, message):
    followed.put(json.dumps(message))
    followed.rig.exchange.step(followed.clock.ns)
    assert followed.market.oracle("BTC") is None


def test_what_has_arrived_is_taken_in_bounded_batches(followed):
    for number in range(follow.BATCH + 1):
        followed.put(json.dumps({"channel": "allMids", "data": {"mids": {"BTC": f"{number}.5"}}}))
    assert followed.market.next_due_ns() == 0
    followed.rig.exchange.step(followed.clock.ns)
    assert followed.market.oracle("BTC") == Decimal(follow.BATCH) - Decimal("0.5")
    followed.rig.exchange.step(followed.clock.ns)
    assert followed.market.oracle("BTC") == Decimal(follow.BATCH) + Decimal("0.5")


def test_the_messages_that_wait_are_bounded(followed):
    with pytest.raises(trio.WouldBlock):
        for _ in range(follow.QUEUED + 1):
            followed.put('{"channel":"allMids","data":{"mids":{}}}')


def test_candles_are_made_of_the_venues_trades_each_counted_once(followed):
    for price, size in ((100, "1"), (103, "0.5"), (99, "0.25")):
        followed.trade("A", price, size)
    followed.tid -= 1
    followed.trade("A", 99, "0.25")
    candle = followed.rig.exchange.publisher.candles.last("BTC", "1m")
    assert candle is not None
    assert (candle.open, candle.high, candle.low, candle.close) == (100, 103, 99, 99)
    assert (candle.volume, candle.trades) == (Decimal("1.75"), 3)
    assert len(followed.listener.heard("trades")) == 4, "and passed on as they came"


def test_a_best_price_before_the_first_book_is_no_book():
    followed = Followed()
    best = [{"px": "99", "sz": "1", "n": 1}, {"px": "100", "sz": "1", "n": 1}]
    followed.tell("bbo", {"coin": "BTC", "time": followed.now_ms, "bbo": best})
    assert followed.rig.place(followed.rig.alice, "buy", "100", "1", **IOC) == NOTHING


def test_a_venue_that_comes_back_with_its_clock_set_back_is_believed(followed):
    followed.lose()
    followed.book([(90, 1)], [(91, 1)], at_ms=followed.now_ms - 60_000)
    assert followed.market.matcher("BTC").best(Side.BUY) == Decimal(90)


def test_each_book_is_given_up_in_its_own_time(followed):
    began = followed.clock.ns
    followed.clock.advance_ms(4_000)
    followed.book([(3, 1)], [(4, 1)], coin="ETH")
    followed.clock.advance_ms(4_000)
    followed.book([(100, 2)], [(101, 1)])
    assert followed.market.next_due_ns() == began + 14_000_000_000
    followed.clock.advance_ms(6_000)
    followed.rig.exchange.step(followed.clock.ns)
    best = {coin: followed.market.matcher(coin).best(Side.BUY) for coin in ("BTC", "ETH")}
    assert best == {"BTC": Decimal(100), "ETH": None}
