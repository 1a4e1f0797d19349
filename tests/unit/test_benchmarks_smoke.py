"""Every benchmark runs, with next to nothing to do: figures are for `make bench` to judge."""

import json
import re
import sys
import time
from pathlib import Path

import pytest
import trio
from attrs import evolve

from benchmarks import (
    book,
    bus,
    decode,
    exchange,
    feed,
    orders,
    peers,
    replay,
    run,
    sender,
    soak,
    steady,
    stores,
    values,
)
from benchmarks.desk import open_desk
from benchmarks.measure import Case, Scale, nanoseconds, percentile
from benchmarks.metronome import keep_time
from benchmarks.report import Row, compared, duration, print_table, size
from benchmarks.scratch import file_system
from zq_daemon.journal import codec
from zq_daemon.journal.digest import digest
from zq_daemon.journal.read import read_journal
from zq_daemon.ports.disk import MemoryDisk, SystemDisk
from zq_daemon.venue.hyperliquid import session as hyperliquid_session
from zq_daemon.venue.hyperliquid.session import HyperliquidSession

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = Scale(
    rounds=1,
    round_s=0,
    flat_out_messages=40,
    paced_s=0.01,
    paced_orders_s=0.01,
    least_orders=2,
    commit_s=0.01,
    journal_records=20,
    replay_records=200,
    idle_s=0.1,
    memory_messages=200,
    exchange_orders=4,
    steady_s=1,
)


@pytest.fixture(autouse=True)
def _restored_logging():
    """Benchmarks configure logging for their process."""
    import structlog

    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("name", run.BENCHMARKS)
def test_each_benchmark_yields_rows_with_figures(name):
    rows = list(run.BENCHMARKS[name](TINY))
    assert rows
    assert all(row.name and any(char.isdigit() for char in row.figure) for row in rows)


def test_a_soak_ends_with_what_it_began_with():
    rows = trio.run(soak.soak, 4, 3)
    assert len(rows) == 6
    assert [row.name for row in rows if row.holds is False] == []


def test_both_buses_and_the_floor_deliver_to_the_same_handlers():
    for case in bus.publishing(3).values():
        case.names["publish"](case.names["topic"], case.names["event"])
    heard = []
    naive = bus.NaiveBus()
    for pattern in ("a.*", "a.b.c", "a.*.c", "b.*", "a"):
        naive.subscribe(pattern, lambda _, pattern=pattern: heard.append(pattern))
    naive.publish("a.b.c", None)
    assert heard == ["a.*", "a.b.c", "a.*.c"]


def test_the_naive_book_ends_where_ours_does():
    ours, naive = book.OwnBook(values.BTC), book.NaiveBook()
    for each in (ours, naive):
        each.apply_snapshot(book.snapshot(20))
        each.apply_delta(book.delta(1))
    assert (ours.best_bid.price, ours.best_ask.price) == (naive.best_bid, naive.best_ask)
    assert len(ours.bids()) == 23


def test_what_the_sender_sends_is_understood_and_ends_with_a_trade():
    frames = []
    sender.stream(frames.append, count=20, rate=0, books=3)
    sender.stream(frames.append, count=20, rate=100_000, books=3)
    session = HyperliquidSession(("trades:BTC", "l2Book:BTC"), account_id=None, address=None)
    messages = [json.loads(text) for text in _unframed(b"".join(frames))]
    assert [each["channel"] for each in messages].count("trades") == 2 * feed.trades_of(20, 3)
    assert {messages[19]["channel"], messages[39]["channel"]} == {"trades"}
    assert not any(session.receive(json.dumps(each), 0).problem for each in messages)


def test_every_channel_is_decoded_whole_and_anew_each_time():
    session, channels = decode.session(), set()
    for name, pair in decode.messages().items():
        for message in (*pair, *pair):
            received = session.receive(message, 0)
            assert not received.problem
            assert received.market or received.reports or received.replies, name
        channels.add(json.loads(pair[0])["channel"])
    understood = set(hyperliquid_session._CHANNELS)
    assert understood - channels == {"error", "pong", "subscriptionResponse"}


def test_a_daemon_that_is_to_send_at_a_pace_sends_so_much():
    (row, _) = steady.run(evolve(TINY, steady_s=3))
    rate = int(re.search(r"(\d+) orders and cancels/s", row.against)[1])
    assert rate > steady.RATE / 20


def test_an_exchange_that_refuses_an_order_is_not_measured(monkeypatch):
    monkeypatch.setattr(exchange, "_cancelling", lambda cloids: exchange._placing(cloids * 2))
    with pytest.raises(ExceptionGroup) as raised:
        list(exchange.run(TINY))
    assert raised.group_contains(RuntimeError, match="a request was refused")


def test_frames_have_the_short_and_the_long_length():
    assert sender.frame("x" * 125)[:2] == b"\x81\x7d"
    assert sender.frame("x" * 126)[:4] == b"\x81\x7e\x00\x7e"


def test_statements_are_timed_in_turns_and_the_median_is_told():
    calls = []
    cases = {name: Case("calls.append(name)", {"calls": calls, "name": name}) for name in "ab"}
    taken = nanoseconds(cases, TINY)
    assert calls == ["a", "b", "a", "b"]  # once to find the count, then the round
    assert set(taken) == {"a", "b"}


def test_percentiles_durations_and_sizes():
    assert [percentile(range(100), share) for share in (0, 0.5, 0.99, 1)] == [0, 50, 99, 99]
    told = [duration(ns) for ns in (12, 1_234, 12_345_678, 1_234_567_890)]
    assert told == ["12 ns", "1.23 µs", "12.3 ms", "1.23 s"]
    assert size(1_500_000) == "1.5 MB"
    assert compared("other", 3_000, 1_500) == "other 3 µs (2x)"


def test_the_table_says_what_holds_and_what_is_broken(capsys):
    rows = [
        Row(name="good", figure="1", limit="2", holds=True),
        Row(name="bad", figure="3", limit="2", holds=False),
        Row(name="open", figure="3"),
    ]
    print_table("title", ("a", "b", "c", "d", "e"), [row.cells() for row in rows])
    lines = capsys.readouterr().out.splitlines()
    assert [word for line in lines for word in ("holds", "BROKEN") if word in line] == [
        "holds",
        "BROKEN",
    ]


def test_the_command_measures_what_is_asked_for(capsys, monkeypatch):
    monkeypatch.setattr(run, "QUICK", TINY)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--quick", "--only", "bus"])
    run.main()
    assert "publish to 10 handlers" in capsys.readouterr().out


def test_a_python_too_old_for_the_peer_is_refused_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PEERS_VENV", str(tmp_path / "venv"))
    monkeypatch.setenv("PEERS_PYTHON", str(tmp_path / "no-python"))
    with pytest.raises(SystemExit, match=r"Python 3\.12 or later.*set PEERS_PYTHON"):
        peers.environment()


def test_an_environment_that_is_as_the_constraints_say_is_used_as_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("PEERS_VENV", str(tmp_path))
    stamp = "".join(path.read_text() for path in peers.CONSTRAINTS)
    (tmp_path / ".installed").write_text(stamp)
    assert peers.environment() == tmp_path / "bin" / "python"


def test_the_peers_measurements_compile_without_the_peer():
    for name in ("peers_nautilus", "peers_feed", "peers_node"):
        compile((ROOT / "benchmarks" / f"{name}.py").read_text(), name, "exec")


def test_moments_are_told_one_by_one_when_they_have_come():
    heard = []

    def decide(due_ns):
        heard.append((due_ns, time.monotonic_ns()))

    trio.run(keep_time, decide, 10_000, 50)
    dues = [due_ns for due_ns, _ in heard]
    assert len(heard) == 50
    assert dues == sorted(dues)
    assert all(due_ns <= now_ns for due_ns, now_ns in heard)


def test_the_desk_times_every_order_and_leaves_six_records_each():
    async def main():
        async with orders._on(MemoryDisk()) as journal, open_desk(journal) as desk:
            before = journal.state.sequence
            for _ in range(5):
                desk.decide(time.monotonic_ns())
            await desk.wait_done()
            assert len(desk.taken_ns) == 5
            assert min(desk.taken_ns) > 0
            assert journal.state.sequence == before + 5 * 6 + 1  # the instrument, once

    trio.run(main)


def test_alternatives_commit_each_order_with_what_came_before_it():
    commits = []
    store = stores.OrderByOrder(lambda first, payloads: commits.append((first, list(payloads))))
    event, intent = bytes((codec.FILLED,)), bytes((codec.INTENT,))

    async def main():
        for payload in (event, intent, intent, event):
            store.write(payload)
        await store.durable(2)
        assert commits == [(1, [event, intent]), (3, [intent]), (4, [event])]
        await store.durable()  # is already
        assert len(commits) == 3

    trio.run(main)


@pytest.mark.parametrize("make", [stores.synced_file, stores.sqlite_rows])
def test_alternatives_keep_what_they_are_given(make, tmp_path):
    with make(tmp_path / "store") as commit:
        commit(1, [b"one", b"two"])
        commit(3, [b"three"])
        kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert all(each in kept for each in (b"one", b"two", b"three"))


def test_a_naive_replay_leads_to_the_same_state(tmp_path):
    async def main():
        written = await replay._write(tmp_path, "here", 500)
        naive = await replay.naive_replay(read_journal(SystemDisk(tmp_path)))
        assert digest(naive) == written._digest
        positions = naive.portfolio.positions()
        assert positions
        assert not any(each.quantity for each in positions)
        assert not naive.cache.live_count()

    trio.run(main)


def test_the_file_system_is_named(tmp_path):
    kind, on, device = file_system(tmp_path).split()
    assert kind
    assert on == "on"
    assert device


def _unframed(data):
    while data:
        length, start = data[1], 2
        if length == 126:
            length, start = int.from_bytes(data[2:4], "big"), 4
        yield data[start : start + length]
        data = data[start + length :]
