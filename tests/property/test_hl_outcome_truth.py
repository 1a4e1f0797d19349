"""What order entry says became of a request is true, however the venue and the way there fail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.determinism import run_virtual
from tests.venue_spec.desk import Desk, open_desk
from tests.venue_spec.hyperliquid import HyperliquidUnderTest
from zq_daemon.model.order import Order
from zq_daemon.venue.exchange.faults import Faults
from zq_daemon.venue.interface import Acknowledged, Executed, NotSent, Outcome, Refused

Way = Literal["ws", "http", "fallback"]

_LATENCIES = st.sampled_from([0, 0, 300, 5_900, 6_100, 20_000])
_FAILURES = st.builds(
    Faults,
    reply_latency_ms=_LATENCIES,
    drop_reply_count=st.integers(0, 2),
    cut_before_execute=st.integers(0, 1),
    cut_after_execute=st.integers(0, 1),
    cut_action=st.sampled_from(["any", "order", "cancel"]),
    refuse_connections=st.booleans(),
    half_open_count=st.integers(0, 1),
)
_ERRORS = st.builds(
    Faults,
    http_error=st.sampled_from([400, 408, 422, 429, 500, 502, 503, 504]),
    http_error_path=st.just("exchange"),
    http_error_count=st.integers(1, 3),
)
_HIDDEN_EFFECTS = st.builds(
    Faults,
    http_error=st.sampled_from([500, 502, 503, 504]),
    http_error_path=st.just("exchange"),
    http_error_count=st.integers(1, 3),
    http_error_executes=st.just(True),
)


@settings(max_examples=120, deadline=None)
@given(
    way=st.sampled_from(["ws", "http", "fallback"]),
    failing=st.one_of(_FAILURES, _ERRORS, _HIDDEN_EFFECTS),
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    seed=st.integers(0, 10**6),
)
def test_what_is_said_of_a_request_is_true(
    way: Way, failing: Faults, sizes: list[int], seed: int
) -> None:
    async def scenario() -> None:
        venue = HyperliquidUnderTest("http" if way == "http" else "ws")
        async with venue.serving(), open_desk(venue) as desk:
            if way == "fallback":
                desk.entry.detach(desk.line)
            venue.exchange.faults = failing
            said: list[tuple[Order, Outcome]] = []
            for size in sizes:
                orders = [desk.bid(3 + number) for number in range(size)]
                outcomes = await desk.submit(*orders)
                said += zip(orders, outcomes, strict=True)
            _check_submissions(desk, said)
            live = [order for order, outcome in said if isinstance(outcome, Acknowledged)]
            if live:
                _check_cancels(desk, live, await desk.cancel(*live))

    run_virtual(seed, scenario)


def _check_submissions(desk: Desk, said: Sequence[tuple[Order, Outcome]]) -> None:
    for order, outcome in said:
        truth = desk.truth(order)
        match outcome:
            case Acknowledged() | Executed():
                assert truth is not None, outcome
                assert truth.venue_order_id == outcome.venue_order_id
            case Refused() | NotSent():
                assert truth is None, outcome
            case _:
                pass  # it may be there or not


def _check_cancels(desk: Desk, orders: Sequence[Order], outcomes: Sequence[Outcome]) -> None:
    for order, outcome in zip(orders, outcomes, strict=True):
        truth = desk.truth(order)
        assert truth is not None
        match outcome:
            case Acknowledged() | Executed():
                assert not truth.is_live
            case Refused() | NotSent():
                assert truth.is_live
            case _:
                pass
