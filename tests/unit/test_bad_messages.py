"""Bad messages: kept, counted, rated, and bounded in every direction."""

from __future__ import annotations

import pytest

from zq_daemon.engine.bad_messages import OTHER, BadMessages

SECOND = 1_000_000_000
MINUTE = 60 * SECOND


def test_keeps_the_latest() -> None:
    store = BadMessages(limit=2)
    for number in range(3):
        store.add("public", f"message {number}", "not JSON: at 1", number)
    assert store.count == 3
    assert [message.raw for message in store.recent()] == [b"message 1", b"message 2"]
    latest = store.recent()[-1]
    assert (latest.source, latest.problem, latest.ts_ns) == ("public", "not JSON: at 1", 2)
    assert latest.size == 9


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("abcdefgh", b"abcd"),
        (b"\xff\x00abcdefgh", b"\xff\x00ab"),
        ("ééé", "éé".encode()),
        ("\ud800x", b"\\ud8"),
        ("", b""),
    ],
)
def test_keeps_a_bounded_beginning(raw: str | bytes, kept: bytes) -> None:
    store = BadMessages(max_bytes=4)
    store.add("public", raw, "?", 0)
    assert store.recent()[0].raw == kept
    assert store.recent()[0].size == len(raw)


def test_a_huge_problem_text_is_cut() -> None:
    store = BadMessages()
    store.add("s" * 10_000, "x", "p" * 10_000, 0)
    (message,) = store.recent()
    assert len(message.problem) == len(message.source) == 256
    assert [len(kind) for kind in store.by_problem] == [256]


def test_counts_kinds_of_problem_up_to_a_bound() -> None:
    store = BadMessages()
    store.add("public", "x", "not JSON: byte 3", 0)
    store.add("public", "x", "not JSON: byte 9", 0)
    assert store.by_problem == {"not JSON": 2}
    for number in range(1_000):
        store.add("public", "x", f"kind {number}", 0)
    kinds = store.by_problem
    assert len(kinds) == 65
    assert kinds[OTHER] == 1_000 - 63
    assert sum(kinds.values()) == store.count


def test_rate_of_the_last_minute_by_source() -> None:
    store = BadMessages()
    for second in (0, 10, 59, 61):
        store.add("public", "x", "?", second * SECOND)
    store.add("private", "x", "?", 61 * SECOND)
    assert store.last_minute("public", 61 * SECOND) == 3
    assert store.last_minute("private", 61 * SECOND) == 1
    assert store.last_minute("public", 10 * MINUTE) == 0
    assert store.last_minute("nobody", 61 * SECOND) == 0


def test_a_clock_set_back_does_not_keep_the_rate_high() -> None:
    store = BadMessages()
    for _ in range(50):
        store.add("public", "x", "?", 100 * MINUTE)
    store.add("public", "x", "?", MINUTE)
    assert store.last_minute("public", MINUTE) == 1


def test_rates_are_bounded_in_sources_and_in_count() -> None:
    store = BadMessages()
    for number in range(200):
        store.add(f"source {number}", "x", "?", 0)
    assert store.last_minute("source 63", 0) == 1
    assert store.last_minute("source 64", 0) == store.last_minute("source 199", 0) == 136
    for _ in range(5_000):
        store.add("source 1", "x", "?", 0)
    assert store.last_minute("source 1", 0) == 1_024
