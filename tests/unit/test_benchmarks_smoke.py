"""Every benchmark runs, with next to nothing to do: figures are for `make bench` to judge."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import book, bus, feed, peers, run, sender, values
from benchmarks.measure import Case, Scale, nanoseconds, percentile
from benchmarks.report import Row, compared, duration, print_table, size
from zq_daemon.venue.hyperliquid.session import HyperliquidSession

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = Scale(
    rounds=1,
    round_s=0,
    flat_out_messages=40,
    paced_s=0.01,
    decisions=3,
    idle_s=0.1,
    memory_messages=200,
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
    assert [duration(ns) for ns in (12, 1_234, 12_345_678)] == ["12 ns", "1.23 µs", "12.3 ms"]
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


def _unframed(data):
    while data:
        length, start = data[1], 2
        if length == 126:
            length, start = int.from_bytes(data[2:4], "big"), 4
        yield data[start : start + length]
        data = data[start + length :]
