"""Evidence may come in any order, late and repeatedly: orders and positions come out the same."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.journal import durable_bytes, intent_prefix
from tests.service.execution_rig import ACCOUNT, BTC, Rig, after, later, never, open_rig
from zq_daemon.engine.backlog import Backlog
from zq_daemon.journal.record import IntentKind
from zq_daemon.model.event import OrderFilled
from zq_daemon.model.ids import AccountId, ClientOrderId
from zq_daemon.model.order import OrderStatus
from zq_daemon.venue.interface import Acknowledged, Refused


def in_virtual_time(work: Callable[[], object]) -> None:
    trio.run(work, clock=trio.testing.MockClock(autojump_threshold=0))


@settings(max_examples=60)
@given(
    parts=st.lists(st.integers(1, 400), min_size=1, max_size=5),
    is_filled=st.booleans(),
    repeats=st.lists(st.integers(0, 7), max_size=6),
    outcome=st.sampled_from(["acknowledged", "late", "lost"]),
    shuffle=st.randoms(use_true_random=False),
    gap_ms=st.integers(0, 3_000),
)
def test_any_arrival_of_one_history_gives_one_end(
    parts: list[int],
    is_filled: bool,
    repeats: list[int],
    outcome: str,
    shuffle: object,
    gap_ms: int,
) -> None:
    filled = sum(parts)
    quantity = filled if is_filled else filled + 5

    async def work() -> None:
        async with open_rig() as rig:
            answer = {
                "acknowledged": [Acknowledged(venue_order_id="v1")],
                "late": after(5, Acknowledged(venue_order_id="v1")),
                "lost": never(),
            }[outcome]
            rig.entry.answers["submit"].append(answer)
            cloid = rig.submit(quantity=str(quantity))
            history = evidence(rig, cloid, parts, is_filled=is_filled)
            rig.queries.orders[cloid] = history[-1]
            deliveries = [*history, *(history[each % len(history)] for each in repeats)]
            shuffle.shuffle(deliveries)  # type: ignore[attr-defined]
            await later(0.01)
            for delivery in deliveries:
                rig.engine.on_report(delivery)
                await later(gap_ms / 1000)
            await later(600)
            check_end(rig, cloid, filled, len(parts), is_filled=is_filled)

    in_virtual_time(work)


def evidence(rig: Rig, cloid: ClientOrderId, parts: list[int], *, is_filled: bool) -> list[object]:
    """Everything the venue has to say, in the order in which it happened."""
    total = sum(parts)
    fills = [rig.fill_of(cloid, f"t{number}", str(part)) for number, part in enumerate(parts)]
    if is_filled:
        end = rig.report_of(cloid, OrderStatus.FILLED, remaining=Decimal(0))
    else:
        rest = rig.now(cloid).quantity - total
        end = rig.report_of(cloid, OrderStatus.CANCELED, remaining=rest)
    return [rig.report_of(cloid, OrderStatus.ACCEPTED), *fills, end]


def check_end(rig: Rig, cloid: ClientOrderId, filled: int, fills: int, *, is_filled: bool) -> None:
    order = rig.now(cloid)
    assert order.status is (OrderStatus.FILLED if is_filled else OrderStatus.CANCELED)
    assert order.filled_quantity == filled
    assert rig.portfolio.quantity(ACCOUNT, BTC) == filled
    assert rig.count(OrderFilled) == fills
    assert not rig.cache.orders_in_flight()
    assert len(rig.engine._in_flight) == 0
    names = rig.names(cloid)
    assert names[0] == "initialized"
    assert names.count("canceled") == (not is_filled)


@settings(max_examples=40)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["submit", "cancel", "modify", "cancel_all"]),
            st.integers(0, 5),
            st.integers(0, 900),
        ),
        max_size=25,
    ),
    slow=st.lists(st.integers(0, 4), max_size=10),
)
def test_every_order_gets_an_end_and_is_journalled_before_it_leaves(
    steps: list[tuple[str, int, int]], slow: list[int]
) -> None:
    async def work() -> None:
        async with open_rig() as rig:
            durable_first: list[bool] = []

            def look(request: object) -> None:
                journal = durable_bytes(rig.disk)
                cloids = request.client_order_ids  # type: ignore[attr-defined]
                nonce = request.nonce  # type: ignore[attr-defined]
                first = (intent_prefix(each, nonce=nonce) for each in cloids)
                durable_first.append(all(prefix in journal for prefix in first))

            rig.entry.before_send = look
            script(rig, slow)
            cloids: list[ClientOrderId] = []
            for kind, which, wait_ms in steps:
                step(rig, kind, which, cloids)
                await later(wait_ms / 1000)
            result = await rig.engine.cancel_all(timeout_s=120)
            assert result.unverified == ()
            assert all(rig.now(cloid).is_closed for cloid in cloids)
            assert all(durable_first)
            submitted = [
                cloid
                for _, request in rig.entry.sent
                if request.kind == "submit"
                for cloid in request.client_order_ids
            ]
            assert len(submitted) == len(set(submitted))  # nothing is ever sent twice

    in_virtual_time(work)


def script(rig: Rig, slow: list[int]) -> None:
    """A venue that is slow at times, and refuses cancels of what it has not got yet."""
    for seconds in slow:
        rig.entry.answers["submit"].append(delayed(rig, seconds))
    for seconds in slow[:3]:
        rig.entry.answers["cancel"].append(refused_if_early(rig, seconds))


def delayed(rig: Rig, seconds: int) -> Callable[..., object]:
    async def answer(request: object) -> object:
        await trio.sleep(seconds)
        return [rig.entry._acknowledged("submit") for _ in request.client_order_ids]  # type: ignore[attr-defined]

    return answer


def refused_if_early(rig: Rig, seconds: int) -> Callable[..., object]:
    async def answer(request: object) -> object:
        await trio.sleep(seconds)
        gone = Refused(code="UNKNOWN_ORDER", text="Order was never placed")
        done = Acknowledged(venue_order_id=None)
        cloids = request.client_order_ids  # type: ignore[attr-defined]
        return [done if rig.now(each).venue_order_ids else gone for each in cloids]

    return answer


def step(rig: Rig, kind: str, which: int, cloids: list[ClientOrderId]) -> None:
    if kind == "submit" or not cloids:
        cloids.append(rig.submit())
        return
    cloid = cloids[which % len(cloids)]
    if kind == "cancel":
        rig.cancel(cloid)
    elif kind == "modify":
        rig.modify(cloid, price=Decimal(90 + which))
    else:
        for each in cloids:
            rig.cancel(each)


@settings(max_examples=60)
@given(
    waiting=st.lists(
        st.tuples(st.sampled_from(["submit", "cancel", "modify"]), st.integers(0, 2)), max_size=60
    )
)
def test_the_backlog_keeps_its_bounds_and_loses_nothing(
    waiting: list[tuple[IntentKind, int]],
) -> None:
    async def work() -> None:
        backlog = Backlog(limit=10, concurrent=3)
        accepted: dict[str, list[str]] = {"submit": [], "cancel": [], "modify": []}
        for number, (kind, account) in enumerate(waiting):
            cloid = ClientOrderId(f"{number}")
            room = backlog.waiting(kind) < 10
            assert backlog.add(kind, AccountId(f"{account}"), cloid) is room
            if room:
                accepted[kind].append(cloid)
        backlog.close()
        assert not backlog.add("submit", AccountId("0"), ClientOrderId("late"))
        taken: dict[str, list[str]] = {"submit": [], "cancel": [], "modify": []}
        while groups := await backlog.take():
            rank = [("cancel", "modify", "submit").index(group.kind) for group in groups]
            assert rank == sorted(rank)
            for group in groups:
                assert sum(each.kind == group.kind for each in groups) <= 3
                taken[group.kind] += group.client_order_ids
                backlog.release(group.kind)
        assert {kind: sorted(each) for kind, each in taken.items()} == {
            kind: sorted(each) for kind, each in accepted.items()
        }

    trio.run(work)


@pytest.mark.virtual
async def test_a_slot_that_is_given_back_lets_the_next_one_go() -> None:
    backlog = Backlog(limit=10, concurrent=1)
    for number in range(2):
        backlog.add("submit", AccountId(f"{number}"), ClientOrderId(f"{number}"))
    (first,) = await backlog.take()
    with trio.move_on_after(10) as waited:
        await backlog.take()
    assert waited.cancelled_caught
    backlog.release("submit")
    (second,) = await backlog.take()
    assert (first.client_order_ids, second.client_order_ids) == (("0",), ("1",))
    backlog.add("submit", AccountId("0"), ClientOrderId("2"))
    assert backlog.withdraw("submit", ClientOrderId("2"))
    assert not backlog.withdraw("submit", ClientOrderId("2"))
