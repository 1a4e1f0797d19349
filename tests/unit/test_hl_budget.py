"""What is left of the venue's limits, and who may have it: by hand and against a plain recount."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.order_entry import make_budget
from zq_daemon.ports.clock import NS_PER_MS, NS_PER_S
from zq_daemon.venue.hyperliquid.budget import (
    CANCEL_EXTRA,
    QUERY_WEIGHTS,
    RateBudget,
    Window,
)

KINDS: tuple[Any, ...] = ("cancel", "query", "modify", "submit")
"""The most urgent first."""


class HandClock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.ns = 1_000 * NS_PER_S

    def now_ns(self) -> int:
        return self.ns

    def monotonic_ns(self) -> int:
        return self.ns

    def pass_s(self, seconds: float) -> None:
        self.ns += round(seconds * NS_PER_S)


def budget(weight: int = 1_200, messages: int = 2_000) -> tuple[RateBudget, HandClock]:
    clock = HandClock()
    return make_budget(clock, weight=weight, messages=messages), clock


def use(spent: RateBudget, requests: int) -> None:
    for _ in range(requests):
        spent.spend_action(1, over_websocket=True)


@given(st.lists(st.tuples(st.integers(0, 90_000), st.integers(1, 60)), max_size=80))
def test_no_minute_ever_holds_more_than_the_limit(steps: list[tuple[int, int]]) -> None:
    window, limit = Window(100), 100
    now_ns, sent = 0, []
    for pause_ms, cost in steps:
        now_ns += pause_ms * NS_PER_MS
        wait_ns = window.wait_ns(now_ns, cost)
        recent = sum(each for at, each in sent if now_ns - at < 60 * NS_PER_S)
        if wait_ns:
            assert window.wait_ns(now_ns + wait_ns - 1, cost) == 1
            now_ns += wait_ns
        else:
            assert recent + cost <= limit
        assert window.wait_ns(now_ns, cost) == 0
        window.spend(now_ns, cost)
        sent.append((now_ns, cost))
        within = [each for at, each in sent if now_ns - at < 60 * NS_PER_S]
        assert sum(within) <= window.spent(now_ns) <= limit


def test_a_cost_above_the_limit_waits_for_an_empty_window_only() -> None:
    window = Window(10)
    assert window.wait_ns(0, 50) == 0
    window.spend(0, 3)
    assert window.wait_ns(0, 50) == 61 * NS_PER_S


def test_a_limit_of_zero_is_none() -> None:
    open_ended, _ = budget(0, 0)
    use(open_ended, 5_000)
    assert open_ended.why_not_now("submit", 40) is None
    assert open_ended.action_wait_ns("submit", 40) == open_ended.query_wait_ns("userRole") == 0
    assert open_ended.status()["weight_limit"] is open_ended.status()["messages_limit"] is None


def test_what_is_less_urgent_goes_without_first() -> None:
    spent, _ = budget()
    refused: dict[str, int] = {}
    for used in range(1_200):
        for kind in KINDS:
            blocked = (
                spent.query_wait_ns("l2Book") > 0
                if kind == "query"
                else spent.why_not_now(kind) is not None
            )
            if blocked:
                refused.setdefault(kind, used)
            assert not blocked or kind in refused
        use(spent, 1)
    assert refused == {"submit": 960, "modify": 1_080, "query": 1_139}
    why = spent.why_not_now("cancel")
    assert why == "1200 of 1200 weight were used in a minute"


def test_messages_have_a_limit_of_their_own() -> None:
    spent, _ = budget(weight=0)
    use(spent, 1_600)
    assert "1600 of 2000 WebSocket messages" in str(spent.why_not_now("submit"))
    assert spent.why_not_now("modify") is None
    by_http, _ = budget(weight=0)
    for _ in range(5_000):
        by_http.spend_action(1, over_websocket=False)
    assert by_http.why_not_now("submit") is None


def test_a_batch_weighs_by_forties_and_a_query_by_its_type_and_answer() -> None:
    spent, _ = budget()

    marks = [0]

    def weighed() -> int:
        marks.append(spent.status()["weight_used"])
        return marks[-1] - marks[-2]

    for count, weight in ((1, 1), (39, 1), (40, 2), (79, 2), (80, 3)):
        spent.spend_action(count, over_websocket=True)
        assert weighed() == weight
    for kind, weight in (*QUERY_WEIGHTS.items(), ("meta", 20), ("never heard of", 20)):
        spent.spend_query(kind)
        assert weighed() == weight
    for kind, items, weight in (
        ("userFillsByTime", 39, 1),
        ("userFillsByTime", 2_000, 100),
        ("candleSnapshot", 500, 8),
        ("frontendOpenOrders", 500, 0),
    ):
        spent.spend_answer(kind, [None] * items)
        assert weighed() == weight
    spent.spend_answer("userFillsByTime", None)
    assert weighed() == 0


def test_the_window_frees_what_is_a_minute_old() -> None:
    spent, clock = budget(weight=100)
    use(spent, 60)
    clock.pass_s(30)
    use(spent, 40)
    wait_ns = spent.action_wait_ns("cancel", 1)
    assert 29 * NS_PER_S <= wait_ns <= 31 * NS_PER_S
    clock.ns += wait_ns
    assert spent.action_wait_ns("cancel", 1) == 0
    assert spent.status()["weight_used"] == 40


def test_the_accounts_actions_are_unknown_until_told() -> None:
    spent, _ = budget(0, 0)
    use(spent, 50_000)
    assert spent.why_not_now("submit") is None
    assert spent.status()["actions_used"] is None


def test_new_orders_end_before_the_accounts_actions_do_and_cancels_go_on() -> None:
    spent, _ = budget(0, 0)
    spent.learn(9_890, 10_000)
    assert spent.why_not_now("submit") is None
    spent.spend_action(10, over_websocket=True)
    assert "9900 of the account's 10000 actions" in str(spent.why_not_now("submit"))
    assert spent.why_not_now("modify", 100) is None
    assert spent.why_not_now("modify", 101) is not None
    spent.spend_action(100, over_websocket=True)
    assert spent.why_not_now("modify") is not None
    assert spent.why_not_now("cancel", 10_000) is None
    spent.learn(20_000, 10_000)
    assert spent.why_not_now("cancel") is not None
    assert spent.status()["cancels_limit"] == 20_000
    spent.learn(5, 1_000_000)
    assert spent.status()["cancels_limit"] == 1_000_000 + CANCEL_EXTRA


def test_an_account_without_actions_may_send_one_in_ten_seconds() -> None:
    spent, clock = budget(0, 0)
    spent.learn(10_000, 10_000)
    use(spent, 1)
    assert spent.why_not_now("submit") is not None
    clock.pass_s(9.9)
    assert spent.why_not_now("submit") is not None
    clock.pass_s(0.2)
    assert spent.why_not_now("submit") is None
    assert spent.why_not_now("submit", 2) is not None
    use(spent, 1)
    assert spent.why_not_now("submit") is not None


@pytest.mark.parametrize(
    ("text", "used", "cap"),
    [
        ("Too many cumulative requests sent (10001 > 10000) for cumulative volume", 10_001, 10_000),
        ("Too many requests for this account", 10_000, 10_000),
    ],
)
def test_the_venues_own_count_is_believed(text: str, used: int, cap: int) -> None:
    spent, _ = budget(0, 0)
    spent.learn(17, 10_000)
    spent.exhaust(text)
    assert (spent.status()["actions_used"], spent.status()["actions_limit"]) == (used, cap)
    use(spent, 1)
    assert spent.why_not_now("submit") is not None


def test_words_of_an_unknown_account_say_nothing() -> None:
    spent, _ = budget(0, 0)
    spent.exhaust("Too many requests")
    assert spent.why_not_now("submit") is None


def test_after_a_429_nothing_leaves_for_a_while_and_cancels_are_first() -> None:
    spent, clock = budget()
    spent.throttle()
    held_s = spent.status()["waiting_s"]
    assert 0.75 <= held_s <= 1
    assert "too many" in str(spent.why_not_now("submit"))
    assert spent.action_wait_ns("cancel", 1) < spent.action_wait_ns("submit", 1)
    clock.ns += spent.action_wait_ns("cancel", 1)
    assert spent.action_wait_ns("cancel", 1) == 0
    assert spent.query_wait_ns("l2Book") > 0
    clock.ns += spent.query_wait_ns("l2Book")
    assert spent.why_not_now("submit") is None


def test_repeated_429s_wait_longer_until_something_sent_since_is_taken() -> None:
    spent, clock = budget()
    waits = []
    for _ in range(12):
        spent.throttle()
        waits.append(spent.action_wait_ns("submit", 1) / NS_PER_S)
        clock.pass_s(waits[-1])
    assert waits[1] > waits[0]
    assert 45 <= max(waits) <= 60
    spent.throttle()
    spent.recover(clock.ns)  # sent before the refusal was heard: proves nothing
    assert spent.why_not_now("submit") is not None
    clock.pass_s(1)
    spent.recover(clock.ns)
    assert spent.why_not_now("submit") is None
    assert spent.status()["refused"] == 13
    spent.throttle()
    assert spent.status()["waiting_s"] <= 1


def test_the_state_is_bounded() -> None:
    window, clock = Window(1_200), HandClock()
    for _ in range(10_000):
        window.spend(clock.ns, 1)
        clock.pass_s(0.3)
    assert len(window._seconds) <= 62
