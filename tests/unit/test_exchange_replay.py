"""Replaying a capture: verbatim, in order, in time; and users' orders beside it."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal

import pytest

from tests.unit.exchange_rig import START_NS, Rig
from zq_daemon.core.replay_matching import QueuePosition
from zq_daemon.errors import ConfigError
from zq_daemon.model.market import Side
from zq_daemon.venue.exchange.replay import BATCH, ReplayMarket

FIRST_NS = 1_600_000_000_000_000_000
FIRST_MS = FIRST_NS // 1_000_000
BOOK = {"type": "l2Book", "coin": "BTC"}
TRADES = {"type": "trades", "coin": "BTC"}


def book(bids: list, asks: list, coin: str = "BTC") -> str:
    levels = [[{"px": px, "sz": sz, "n": 1} for px, sz in side] for side in (bids, asks)]
    data = {"coin": coin, "time": FIRST_MS, "levels": levels}
    return json.dumps({"channel": "l2Book", "data": data})


def trade(tid: int, side: str, px: str, sz: str, *, coin: str = "BTC", ms: int = FIRST_MS) -> str:
    one = {"coin": coin, "side": side, "px": px, "sz": sz, "time": ms, "tid": tid}
    return json.dumps({"channel": "trades", "data": [one]})


QUIET = book([("100", "1")], [("101", "1")])
LINES = [
    QUIET,
    trade(1, "B", "101", "0.5", ms=FIRST_MS - 5_000),
    '{"channel":"pong"}',
    '{"channel":"user","data":{"coin":"BTC"}}',
    trade(2, "A", "100", "1.5"),
    book([("99", "2")], [("100", "3")]),
]


def capture(tmp_path, lines: list[str], step_ms: int = 100, name: str = "capture"):
    path = tmp_path / name
    text = [f"{FIRST_NS + i * step_ms * 1_000_000} {line}\n" for i, line in enumerate(lines)]
    path.write_text("".join(text))
    return path


def replay(path, **options) -> tuple[Rig, ReplayMarket]:
    market = ReplayMarket(path, **options)
    rig = Rig(market)
    rig.clock.ns = START_NS
    return rig, market


def finish(rig: Rig, market: ReplayMarket) -> None:
    for _ in range(1_000):
        if market.is_finished:
            return
        rig.clock.ns = max(rig.clock.ns, market.next_due_ns())
        rig.exchange.step(rig.clock.ns)
    raise AssertionError("the replay does not end")


def raw(listener) -> list[str]:
    return listener.connection.outbox.drain()


def test_messages_come_verbatim_in_order_and_nothing_else(tmp_path):
    rig, market = replay(capture(tmp_path, LINES))
    listener = rig.listen(BOOK, TRADES)
    assert len(raw(listener)) == 2, "the acknowledgements only"
    finish(rig, market)
    rig.clock.advance_ms(60_000)
    rig.exchange.step(rig.clock.ns)
    assert raw(listener) == [LINES[0], LINES[1], LINES[4], LINES[5]]
    assert market.bad_lines == 0
    assert market.next_due_ns() is None


def test_a_query_about_a_book_starts_a_replay_too(tmp_path):
    rig, market = replay(capture(tmp_path, LINES))
    rig.info("meta")
    assert market.next_due_ns() is None
    rig.info("l2Book", coin="BTC")
    finish(rig, market)
    assert rig.info("l2Book", coin="BTC")["levels"][0] == [{"px": "99.0", "sz": "2.0", "n": 1}]


def test_replay_waits_for_a_listener_and_then_keeps_the_spacing(tmp_path):
    rig, market = replay(capture(tmp_path, LINES), speed=Decimal(2))
    assert market.next_due_ns() is None
    rig.listen({"type": "userFills", "user": rig.alice.address})
    assert market.next_due_ns() is None, "a private stream starts nothing"
    listener = rig.listen(BOOK, TRADES)
    raw(listener)
    due = []
    while not market.is_finished:
        due.append(market.next_due_ns() - START_NS)
        rig.clock.ns = market.next_due_ns() - 1
        rig.exchange.step(rig.clock.ns)
        assert raw(listener) == [], "not before its time"
        rig.clock.ns += 1
        rig.exchange.step(rig.clock.ns)
        assert len(raw(listener)) == 1
    assert due == [10**9 + i * 50_000_000 for i in (0, 1, 4, 5)]


def test_speed_zero_is_due_at_once_in_bounded_batches(tmp_path):
    lines = [QUIET] + [trade(n, "B", "101", "0.1") for n in range(BATCH + 10)]
    rig, market = replay(capture(tmp_path, lines), speed=Decimal(0), start_delay_ms=0)
    listener = rig.listen(BOOK, TRADES)
    raw(listener)
    assert market.is_lossless
    rig.exchange.step(rig.clock.ns)
    assert len(raw(listener)) == BATCH
    rig.exchange.step(rig.clock.ns)
    assert len(raw(listener)) == 11


def test_gzip_is_recognised_by_its_content(tmp_path):
    plain = capture(tmp_path, LINES)
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    rig, market = replay(packed, start_delay_ms=0)
    listener = rig.listen(BOOK)
    finish(rig, market)
    assert raw(listener)[1:] == [LINES[0], LINES[5]]


def test_users_orders_match_beside_the_recording_and_do_not_show(tmp_path):
    rig, market = replay(capture(tmp_path, LINES), start_delay_ms=0)
    listener = rig.listen(BOOK, TRADES)
    raw(listener)
    rig.exchange.step(rig.clock.ns)
    status = rig.place(rig.alice, "buy", "101", "0.4", tif="Ioc")
    assert status["filled"]["avgPx"] == "101.0"
    oid = rig.rest(rig.bob, "buy", "100", "1")
    assert rig.info("l2Book", coin="BTC")["levels"][0] == [{"px": "100.0", "sz": "1.0", "n": 1}]
    finish(rig, market)
    told = rig.info("userFills", user=rig.bob.address)
    assert [(fill["px"], fill["sz"], fill["crossed"]) for fill in reversed(told)] == [
        ("100.0", "0.5", False),
        ("100.0", "0.5", False),
    ], "half by the trade behind the queue, half by the snapshot that reached it"
    status = rig.info("orderStatus", user=rig.bob.address, oid=oid)
    assert status["order"]["status"] == "filled"
    assert raw(listener) == [LINES[0], LINES[1], LINES[4], LINES[5]]


def test_trades_of_the_past_and_repeated_ones_fill_nobody(tmp_path):
    again = trade(2, "A", "99", "5")
    rig, market = replay(capture(tmp_path, [QUIET, LINES[4], again, LINES[1]]), start_delay_ms=0)
    rig.listen(BOOK, TRADES)
    rig.exchange.step(rig.clock.ns)
    rig.rest(rig.alice, "buy", "100", "1")
    rig.rest(rig.alice, "buy", "99.5", "1")
    finish(rig, market)
    sizes = [fill["sz"] for fill in rig.info("userFills", user=rig.alice.address)]
    assert sizes == ["0.5"]


def test_what_the_capture_lacks_is_made_from_its_book(tmp_path):
    rig, market = replay(capture(tmp_path, LINES), start_delay_ms=0)
    listener = rig.listen(BOOK, {"type": "bbo", "coin": "BTC"}, {"type": "allMids"})
    finish(rig, market)
    told = listener.heard()
    bids = [m["data"]["bbo"][0] for m in told if m["channel"] == "bbo"]
    assert [bid and bid["px"] for bid in bids] == [None, "100.0", "99.0"]
    mids = [m["data"]["mids"] for m in told if m["channel"] == "allMids"]
    assert mids[-1] == {"BTC": "99.5"} or {"BTC": "100.5"} in mids


def test_recorded_bbo_and_mids_are_not_made_again(tmp_path):
    bbo = '{"channel":"bbo","data":{"coin":"BTC","time":1,"bbo":[null,null]}}'
    mids = '{"channel":"allMids","data":{"mids":{"BTC":"1.0"}}}'
    rig, market = replay(capture(tmp_path, [QUIET, bbo, mids]), start_delay_ms=0)
    listener = rig.listen({"type": "bbo", "coin": "BTC"}, {"type": "allMids"})
    finish(rig, market)
    assert raw(listener)[2:] == [bbo, mids]


def test_coins_that_are_not_in_the_listing_are_added_with_the_decimals_seen(tmp_path):
    lines = [book([("2", "1")], [], coin="WIF"), trade(1, "B", "2", "1.250", coin="WIF")]
    rig, market = replay(capture(tmp_path, lines), start_delay_ms=0)
    assert rig.info("meta")["universe"][5] == {"szDecimals": 2, "name": "WIF", "maxLeverage": 50}
    listener = rig.listen({"type": "trades", "coin": "WIF"})
    finish(rig, market)
    assert raw(listener)[1:] == [lines[1]]


def test_broken_lines_are_counted_and_the_rest_is_replayed(tmp_path):
    shapeless = [
        '{"channel":"l2Book","data":{"coin":"BTC","levels":[[{"px":1}],[]]}}',
        '{"channel":"l2Book","data":{"coin":"BTC"}}',
        '{"channel":"trades","data":[{"coin":"BTC","px":"x"}]}',
        trade(9, "B", "nan", "1"),
    ]
    unreadable = ["{", "[]", '{"channel":"l2Book","data":', "é\x00", "[" * 100_000]
    path = capture(tmp_path, [QUIET, *unreadable, *shapeless, LINES[4]])
    path.write_bytes(b"\n\nno number here\n" + path.read_bytes() + b"17 \xff\xfe\n")
    rig, market = replay(path, start_delay_ms=0)
    listener = rig.listen(BOOK, TRADES)
    finish(rig, market)
    assert raw(listener)[2:] == [QUIET, *shapeless, LINES[4]]
    assert market.bad_lines == 4 + len(unreadable) + len(shapeless)
    assert market.matcher("BTC").best(Side.BUY) == 100


@pytest.mark.parametrize(
    "content",
    [b"", b'1 {"channel":"pong"}\n', b"\x1f\x8bnot gzip", b"\x1f\x8b\x08\x00" + b"\0" * 20],
)
def test_capture_that_cannot_be_used_is_named(tmp_path, content):
    path = tmp_path / "bad"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="bad"):
        ReplayMarket(path)


def test_capture_that_is_cut_off_or_missing_is_named(tmp_path):
    packed = gzip.compress(capture(tmp_path, LINES * 50).read_bytes())
    cut = tmp_path / "cut"
    cut.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ConfigError, match="cut"):
        ReplayMarket(cut)
    with pytest.raises(ConfigError, match="missing"):
        ReplayMarket(tmp_path / "missing")


def test_real_capture_comes_out_as_it_went_in(captures):
    path = captures / "hyperliquid" / "btc_20250126.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    expected = [line.partition(" ")[2] for line in lines]
    rig, market = replay(path, speed=Decimal(0), start_delay_ms=0)
    listener = rig.listen(BOOK, TRADES)
    raw(listener)
    finish(rig, market)
    assert raw(listener) == expected
    assert market.bad_lines == 0


@pytest.mark.parametrize(("queue", "filled"), [("back", "0.5"), ("front", "1.0")])
def test_a_resting_order_stands_where_it_is_told_to(tmp_path, queue, filled):
    lines = [QUIET, trade(1, "A", "100", "1.5")]
    rig, market = replay(capture(tmp_path, lines), queue=QueuePosition(queue))
    rig.listen(BOOK)
    rig.clock.ns = market.next_due_ns()
    rig.exchange.step(rig.clock.ns)
    rig.rest(rig.alice, "buy", "100", "1")
    finish(rig, market)
    (fill,) = rig.info("userFills", user=rig.alice.address)
    assert fill["sz"] == filled
