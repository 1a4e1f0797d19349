"""TC-006 to TC-018: market data, its times and order, and messages that are not understood."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import trio

from tests.venue_spec.desk import Desk, open_desk
from tests.venue_spec.line import AHEAD_NS, Line, open_line
from tests.venue_spec.venue import OpenVenue, VenueUnderTest
from zq_daemon.model.market import BookLevel, BookSnapshot, MarkPrice, Quote, Side, Trade
from zq_daemon.ports.clock import NS_PER_MS
from zq_daemon.venue.interface import Received

pytestmark = pytest.mark.virtual

GARBAGE: tuple[str | bytes, ...] = (
    "",
    " ",
    "null",
    "0",
    "[]",
    "{}",
    '"text"',
    "{",
    "\x00",
    "a message in words",
    '{"channel":"nonsense","data":{}}',
    '{"e":"nonsense"}',
    "[" * 100_000,
    "1" * 100_000,
    b"",
    b"\xff\xfe\x00",
)
_DEEP = "[" * 20_000


def venue_ms(venue: VenueUnderTest) -> int:
    """Now, as a venue tells it that counts in milliseconds."""
    return venue.clock.now_ns() // NS_PER_MS * NS_PER_MS


def assert_stamped(event: Any, since_ns: int) -> None:
    """Both times are right: the venue's first, ours by the clock that is ahead of it."""
    assert event.ts_event_ns >= since_ns
    assert AHEAD_NS <= event.ts_recv_ns - event.ts_event_ns < AHEAD_NS + NS_PER_MS


async def test_tc006_every_stream_is_confirmed_by_its_own_name(open_venue: OpenVenue) -> None:
    async with open_venue() as venue:
        for address in (venue.market, venue.private):
            async with open_line(venue, address) as line:
                await line.settled()
                names = [name for heard in line.heard for name in heard.received.subscribed]
                assert sorted(names) == sorted(address.streams)
                assert line.problems() == []


async def test_tc007_a_book_has_both_sides_best_first(open_venue: OpenVenue) -> None:
    async with open_venue() as venue:
        (instrument,) = [
            each
            for each in await venue.adapter.load_instruments()
            if each.id == venue.instrument_id
        ]
        step = instrument.price_step(venue.bid.price)
        bids = [venue.bid, BookLevel(venue.bid.price - 3 * step, venue.quantity, 1)]
        asks = [venue.ask, BookLevel(venue.ask.price + 2 * step, venue.quantity * 2, 1)]
        since_ns = venue_ms(venue)
        venue.rest(Side.SELL, asks[1].price, asks[1].quantity)
        venue.rest(Side.BUY, bids[1].price, bids[1].quantity)
        async with open_line(venue, venue.market) as line:
            (book, *_) = await line.until(lambda: line.market(BookSnapshot) or None)
        assert book.instrument_id == venue.instrument_id
        assert _shown(book) == (_pairs(bids), _pairs(asks))
        assert_stamped(book, since_ns)


async def test_tc008_a_quote_follows_the_best_levels(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_line(venue, venue.market) as line:
        await trio.sleep(1.25)
        price, since_ns = (venue.bid.price + venue.ask.price) / 2, venue_ms(venue)
        venue.rest(Side.BUY, price, venue.quantity)

        def find() -> Quote | None:
            quotes = line.market(Quote)
            return next((each for each in quotes if each.bid_price == price), None)

        quote = await line.until(find)
    assert quote.instrument_id == venue.instrument_id
    assert quote.bid_quantity == venue.quantity
    assert (quote.ask_price, quote.ask_quantity) == (venue.ask.price, venue.ask.quantity)
    assert_stamped(quote, since_ns)


@pytest.mark.parametrize("side", Side)
async def test_tc009_a_trade_tells_price_quantity_aggressor_and_id(
    open_venue: OpenVenue, side: Side
) -> None:
    async with open_venue() as venue, open_line(venue, venue.market) as line:
        await trio.sleep(0.75)
        since_ns = venue_ms(venue)
        price = venue.ask.price if side is Side.BUY else venue.bid.price
        trade_id = venue.take(side, price, venue.quantity)
        (trade,) = await line.until(lambda: line.market(Trade) or None)
    assert trade.instrument_id == venue.instrument_id
    assert (trade.price, trade.quantity) == (price, venue.quantity)
    assert trade.aggressor is side
    assert trade.trade_id == trade_id
    assert trade.ts_event_ns == since_ns
    assert_stamped(trade, since_ns)


async def test_tc010_a_mark_lies_between_the_best_levels(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_line(venue, venue.market) as line:
        await line.until(lambda: line.market(MarkPrice) or None)
        await trio.sleep(2.5)
        mark = line.market(MarkPrice)[-1]
        now_ns = venue_ms(venue)
    assert mark.instrument_id == venue.instrument_id
    assert venue.bid.price <= mark.mark_price <= venue.ask.price
    assert now_ns - 2_000 * NS_PER_MS <= mark.ts_recv_ns - AHEAD_NS <= now_ns
    if mark.ts_event_ns != mark.ts_recv_ns:  # a mark without a time of the venue's has ours
        assert_stamped(mark, now_ns - 2_000 * NS_PER_MS)


async def test_tc011_trades_come_in_order_each_once(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_line(venue, venue.market) as line:
        made = []
        for number in range(12):
            side = Side.BUY if number % 3 else Side.SELL
            price = venue.ask.price if side is Side.BUY else venue.bid.price
            made.append((venue.take(side, price, venue.quantity), venue_ms(venue)))
            if number % 4:
                await trio.sleep(0.017)
        await line.settled()
        trades = line.market(Trade)
    assert [(trade.trade_id, trade.ts_event_ns) for trade in trades] == made
    received = [trade.ts_recv_ns for trade in trades]
    assert received == sorted(received)


async def test_tc012_the_first_batch_of_trades_is_what_traded_before(
    open_venue: OpenVenue,
) -> None:
    async with open_venue() as venue:
        made = []
        for _ in range(3):
            await trio.sleep(1)
            trade_id = venue.take(Side.BUY, venue.ask.price, venue.quantity)
            made.append((trade_id, venue_ms(venue)))
        await trio.sleep(60)
        opened_ns = venue.clock.now_ns()
        async with open_line(venue, venue.market) as line:
            await line.settled()
            trades = line.market(Trade)
    assert [(trade.trade_id, trade.ts_event_ns) for trade in trades] == made
    assert all(trade.ts_recv_ns >= opened_ns for trade in trades)


async def test_tc013_a_repeated_message_says_the_same_again(open_venue: OpenVenue) -> None:
    async with (
        open_venue() as venue,
        open_desk(venue) as desk,
        open_line(venue, venue.market) as market,
    ):
        await _trade(desk)
        await trio.sleep(2)
        for line in (market, desk.line):
            assert line.problems() == []
            assert len(line.heard) >= 4
            for heard in tuple(line.heard):
                again = line.session.receive(heard.message, heard.ts_recv_ns)
                assert again == heard.received


async def test_tc014_a_new_connection_begins_with_the_present_book(open_venue: OpenVenue) -> None:
    async with open_venue() as venue:
        async with open_line(venue, venue.market) as line:
            await line.until(lambda: line.market(BookSnapshot) or None)
            await venue.cut()
            await line.lost.wait()
        price = (venue.bid.price + venue.ask.price) / 2
        venue.rest(Side.SELL, price, venue.quantity)
        await trio.sleep(30)
        venue.heal()
        reopened = trio.current_time()
        async with open_line(venue, venue.market) as line:
            (book, *_) = await line.until(lambda: line.market(BookSnapshot) or None)
            (quote, *_) = await line.until(lambda: line.market(Quote) or None)
            assert trio.current_time() - reopened < 1
    assert _shown(book)[1][0] == (price, venue.quantity)
    assert (quote.ask_price, quote.ask_quantity) == (price, venue.quantity)


async def test_tc015_a_ping_is_answered_by_a_pong(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_line(venue, venue.market) as line:
        assert not any(heard.received.pong for heard in line.heard)
        for expected in (1, 2, 3):
            await line.settled()
            assert sum(heard.received.pong for heard in line.heard) == expected


@pytest.mark.parametrize("message", GARBAGE, ids=lambda each: repr(each[:16]))
async def test_tc016_garbage_is_a_problem_and_the_session_goes_on(
    open_venue: OpenVenue, message: str | bytes
) -> None:
    async with open_venue() as venue, open_line(venue, venue.market) as line:
        received = line.session.receive(message, 1)
        assert received.problem
        assert received == Received(problem=received.problem)
        assert len(received.problem) < 1_000
        venue.take(Side.BUY, venue.ask.price, venue.quantity)
        await line.settled()
        assert len(line.market(Trade)) == 1
        assert line.problems() == []


async def test_tc017_a_damaged_message_never_raises(open_venue: OpenVenue) -> None:
    async with (
        open_venue() as venue,
        open_desk(venue) as desk,
        open_line(venue, venue.market) as market,
    ):
        await _trade(desk)
        await market.settled()
        assert market.market(Trade)
        for line in (market, desk.line):
            _damage(line)


async def test_tc018_the_good_parts_of_a_message_are_kept(open_venue: OpenVenue) -> None:
    async with open_venue() as venue:
        for _ in range(3):
            venue.take(Side.BUY, venue.ask.price, venue.quantity)
        async with open_line(venue, venue.market) as line:
            await line.settled()
            heard = [each for each in line.heard if len(each.received.market) > 1]
            if not heard:
                pytest.skip("no message of this venue tells of several events")
            trades = heard[0].received.market
            assert trades == tuple(line.market(Trade))
            damaged = list(_with_one_bad_element(json.loads(heard[0].message), len(trades)))
            assert len(damaged) >= len(trades)
            for place, content in damaged:
                received = line.session.receive(json.dumps(content), heard[0].ts_recv_ns)
                assert received.problem
                assert received.market == (*trades[:place], *trades[place + 1 :])


async def _trade(desk: Desk) -> None:
    """An order rests and is filled: every kind of message is heard."""
    order = desk.bid()
    await desk.rest(order)
    desk.venue.take(Side.SELL, desk.below_ask(5), order.quantity)
    await desk.fills(order, order.quantity)


def _damage(line: Line) -> None:
    """Each message cut off, nested, and with one value at a time replaced; then whole again."""
    for heard in {each.message: each for each in line.heard}.values():
        text = str(heard.message)
        for length in range(0, len(text), 7):
            assert line.session.receive(text[:length], 1).problem
        for place in [place for place, letter in enumerate(text) if letter == ":"]:
            deep = f"{text[: place + 1]}{_DEEP}{text[place + 1 :]}"
            assert line.session.receive(deep, 1).problem
        try:
            content = json.loads(text)
        except ValueError:
            continue
        for damaged in _damaged(content):
            assert isinstance(line.session.receive(json.dumps(damaged), 1), Received)
        assert line.session.receive(text, heard.ts_recv_ns) == heard.received


def _damaged(content: Any) -> Iterator[Any]:
    """*content* with one part replaced by something else, in every place."""
    yield from (None, -1, 1e300, "nonsense", "-1", "NaN", [], {}, True)
    items = content.items() if isinstance(content, dict) else ()
    for key, value in items:
        for damaged in _damaged(value):
            yield content | {key: damaged}
        yield {name: kept for name, kept in content.items() if name != key}
    if isinstance(content, list):
        for place, value in enumerate(content):
            for damaged in _damaged(value):
                yield [*content[:place], damaged, *content[place + 1 :]]


def _with_one_bad_element(content: Any, count: int) -> Iterator[tuple[int, Any]]:
    """*content* with one element of its list of *count* spoilt, and that element's place."""
    if isinstance(content, dict):
        for key, value in content.items():
            for place, damaged in _with_one_bad_element(value, count):
                yield place, content | {key: damaged}
    elif isinstance(content, list) and len(content) == count:
        for place, element in enumerate(content):
            spoilt = [dict.fromkeys(element, wrong) for wrong in (None, "nonsense", -1)]
            for wrong in (None, {}, *spoilt):
                yield place, [*content[:place], wrong, *content[place + 1 :]]


def _shown(book: BookSnapshot) -> tuple[list[tuple[Decimal, Decimal]], ...]:
    return _pairs(book.bids), _pairs(book.asks)


def _pairs(levels: Any) -> list[tuple[Decimal, Decimal]]:
    return [(level.price, level.quantity) for level in levels]
