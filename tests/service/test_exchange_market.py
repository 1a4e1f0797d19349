"""The market on Trio's clock: cadence, back-pressure of a lossless replay, recording."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from decimal import Decimal
from functools import partial
from itertools import pairwise

import pytest
import trio
import trio.testing

from tests.data.make_synthetic import SYNTHETIC, make
from tests.service.exchange_rig import connected
from zq_daemon.ports.clock import SystemClock, VirtualClock
from zq_daemon.venue.exchange.exchange import Exchange
from zq_daemon.venue.exchange.market import SyntheticMarket
from zq_daemon.venue.exchange.outbox import Outbox
from zq_daemon.venue.exchange.replay import ReplayMarket
from zq_daemon.venue.exchange.server import run_market


def lines_of_synthetic() -> list[str]:
    return gzip.decompress(SYNTHETIC.read_bytes()).decode().splitlines()


@pytest.mark.virtual
async def test_market_moves_by_itself_on_trios_clock():
    clock = VirtualClock()
    exchange = Exchange(clock, SyntheticMarket(1))
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(run_market, exchange, clock))
        async with connected(exchange) as client:
            await client.subscribe("l2Book", coin="BTC")
            await client.next("subscriptionResponse")
            times = [(await client.next("l2Book"))["time"] for _ in range(6)]
        nursery.cancel_scope.cancel()
    assert [late - early for early, late in pairwise(times[1:])] == [500] * 4


@pytest.mark.virtual
@pytest.mark.parametrize("speed", [Decimal(0), Decimal(2)])
async def test_capture_comes_over_a_websocket_whole_and_in_order(speed):
    clock = VirtualClock()
    market = ReplayMarket(SYNTHETIC, speed=speed)
    exchange = Exchange(clock, market)
    recorded = [line.partition(" ")[2] for line in lines_of_synthetic()]
    expected = [text for text in recorded if "subscriptionResponse" not in text]
    received: list[str] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(run_market, exchange, clock))
        async with connected(exchange) as client:
            for channel, coin in sorted(market.recorded):
                await client.subscribe(channel, coin=coin)
            started = trio.current_time()
            while len(received) < len(expected):
                text = await client.websocket.get_message()
                if "subscriptionResponse" not in text:
                    received.append(text)
            took = trio.current_time() - started
        nursery.cancel_scope.cancel()
    assert received == expected
    assert market.is_finished
    assert took == pytest.approx(1 if not speed else 11, abs=0.2), "after a second's delay"


@pytest.mark.virtual
async def test_lossless_replay_waits_for_the_slowest_client(tmp_path):
    books = [line for line in lines_of_synthetic() if '"channel":"l2Book"' in line]
    path = tmp_path / "long"
    path.write_text("".join(f"{line}\n" for line in books * 30))
    clock = VirtualClock()
    market = ReplayMarket(path, speed=Decimal(0))
    exchange = Exchange(clock, market, outbox_limit=200)
    slow, quick = exchange.connect(), exchange.connect()
    for connection in (slow, quick):
        exchange.subscribe(connection, {"type": "l2Book", "coin": "BTC"})
    counts = Counter()

    async def read(name: str, connection, pause_s: float) -> None:
        while batch := await connection.outbox.take():
            counts[name] += len(batch)
            await trio.sleep(pause_s)

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(run_market, exchange, clock))
        nursery.start_soon(read, "slow", slow, 1)
        nursery.start_soon(read, "quick", quick, 0)
        await trio.sleep(1_000)
        assert slow.outbox.closed_because is None
        nursery.cancel_scope.cancel()
    assert market.is_finished
    assert counts["slow"] == counts["quick"] > 1_000


@pytest.mark.virtual
async def test_lossless_replay_goes_on_when_the_client_it_waited_for_is_gone():
    clock = VirtualClock()
    market = ReplayMarket(SYNTHETIC, speed=Decimal(0))
    exchange = Exchange(clock, market, outbox_limit=130)
    stuck = exchange.connect()
    for coin in ("BTC", "kPEPE"):
        for kind in ("l2Book", "trades", "bbo", "activeAssetCtx"):
            exchange.subscribe(stuck, {"type": kind, "coin": coin})
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(run_market, exchange, clock))
        await trio.sleep(100)
        assert not market.is_finished
        stuck.outbox.close("gone")
        await trio.sleep(100)
        assert market.is_finished
        nursery.cancel_scope.cancel()


async def test_outbox_wakes_its_reader_and_ends_it():
    outbox = Outbox(4)
    taken: list[list[str]] = []

    async def read() -> None:
        while batch := await outbox.take():
            taken.append(batch)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        outbox.put("a")
        outbox.put("b")
        await trio.testing.wait_all_tasks_blocked()
        outbox.put("c")
        await trio.testing.wait_all_tasks_blocked()
        outbox.close("done")
        outbox.close("again")
        outbox.put("late")
    assert taken == [["a", "b"], ["c"]]
    assert outbox.closed_because == "done"


def test_shipped_capture_is_what_its_script_makes():
    made = make()
    assert made == lines_of_synthetic(), "run: .venv/bin/python -m tests.data.make_synthetic"
    assert SYNTHETIC.stat().st_size < 100_000
    channels = Counter(json.loads(line.partition(" ")[2])["channel"] for line in made)
    assert set(channels) == {"subscriptionResponse", "l2Book", "trades", "bbo", "activeAssetCtx"}
    stamps = [int(line.partition(" ")[0]) for line in made]
    assert stamps == sorted(stamps)
    assert channels["l2Book"] == 2 * 41


async def test_market_keeps_the_machines_time_too():
    clock = SystemClock()
    exchange = Exchange(clock, SyntheticMarket(1))
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(run_market, exchange, clock))
        connection = exchange.connect()
        exchange.subscribe(connection, {"type": "l2Book", "coin": "BTC"})
        received: list[str] = []
        while len(received) < 3:
            received += await connection.outbox.take()
        nursery.cancel_scope.cancel()
    book = json.loads(received[-1])["data"]
    assert abs(book["time"] * 1_000_000 - clock.now_ns()) < 60 * 10**9
