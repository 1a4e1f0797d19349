"""Unknown outcomes: asked about until evidence decides, and never by one "not found"."""

from __future__ import annotations

import itertools
from decimal import Decimal

import pytest
import trio

from tests.service.execution_rig import (
    BTC,
    ETH,
    MAKER,
    after,
    later,
    never,
    open_rig,
)
from zq_daemon.errors import DecodeError, LinkError, LinkRefused
from zq_daemon.model.event import (
    OrderCanceled,
    OrderExpired,
    OrderModified,
    OrderPending,
    OrderPendingRejected,
)
from zq_daemon.model.ids import VenueOrderId
from zq_daemon.model.market import Side
from zq_daemon.model.order import OrderStatus, Pending
from zq_daemon.venue.interface import Acknowledged, Ambiguous, Executed, NotSent, Refused

pytestmark = pytest.mark.virtual

LOST = Ambiguous(detail="connection lost")


async def test_an_order_in_doubt_is_found_by_asking() -> None:
    async with open_rig() as rig:
        rig.entry.answers["submit"].append([LOST])
        cloid = rig.submit()
        await later(0.1)
        rig.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.ACCEPTED)
        await later(1)
        assert rig.now(cloid).status is OrderStatus.ACCEPTED
        asked = len(rig.queries.asked)
        await later(600)
        assert len(rig.queries.asked) == asked == 1


async def test_questions_come_at_growing_intervals_for_ever() -> None:
    async with open_rig(validity_ms=None) as rig:
        rig.entry.answers["submit"].append([LOST])
        cloid = rig.submit()
        await later(3600)
        times = [at for at, _ in rig.queries.asked]
        gaps = [round(late - early) for early, late in itertools.pairwise(times)]
        assert gaps[:7] == [1, 2, 4, 8, 16, 32, 60]
        assert set(gaps[7:]) == {60}
        assert rig.now(cloid).status is OrderStatus.SUBMITTED  # no validity bound: silence is none


async def test_silence_expires_an_order_only_after_its_validity_and_repeatedly() -> None:
    async with open_rig(validity_ms=15_000) as rig:
        rig.entry.answers["submit"].append([LOST])
        cloid = rig.submit()
        await later(15)
        assert len(rig.queries.asked) >= 4
        assert rig.queries.statements == 0  # negatives before the end of its validity count nothing
        await later(10)
        assert rig.now(cloid).status is OrderStatus.SUBMITTED
        assert rig.queries.statements == 2
        await later(2)
        assert rig.now(cloid).status is OrderStatus.EXPIRED
        assert "3 times" in rig.last(OrderExpired).reason
        assert rig.queries.statements == 3


async def test_the_second_source_can_contradict_the_first() -> None:
    async with open_rig() as rig:
        rig.entry.answers["submit"].append([LOST])
        cloid = rig.submit()
        await later(1)
        rig.queries.open_orders = (rig.report_of(cloid, OrderStatus.ACCEPTED),)
        await later(600)
        assert rig.now(cloid).status is OrderStatus.ACCEPTED


async def test_an_order_that_expired_by_silence_lives_again_when_it_is_seen() -> None:
    async with open_rig() as rig:
        rig.entry.answers["submit"].append([LOST])
        cloid = rig.submit()
        await later(600)
        assert rig.now(cloid).is_closed
        rig.report(cloid, OrderStatus.ACCEPTED)
        assert rig.now(cloid).status is OrderStatus.ACCEPTED
        rig.fill(cloid, "t1", "1")
        assert rig.now(cloid).status is OrderStatus.FILLED


@pytest.mark.parametrize(
    "failure", [LinkError("down"), LinkRefused("429"), DecodeError("what is this")]
)
async def test_a_venue_that_does_not_answer_proves_nothing(failure: Exception) -> None:
    async with open_rig() as rig:
        rig.queries.failure = failure
        rig.entry.answers["submit"].append([LOST])
        cloid = rig.submit()
        await later(1800)
        assert rig.now(cloid).status is OrderStatus.SUBMITTED
        assert rig.engine.stats()["failed_queries"] > 20
        rig.queries.failure = None
        rig.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.REJECTED)
        await later(120)
        assert rig.now(cloid).status is OrderStatus.REJECTED


async def test_the_second_source_may_fail_alone() -> None:
    async with open_rig() as rig:
        rig.entry.answers["submit"].append([LOST])
        cloid = rig.submit()
        await later(20)

        async def fail() -> None:
            raise LinkError("down")

        rig.queries.load_account = fail  # type: ignore[method-assign,assignment]
        await later(1800)
        assert rig.now(cloid).status is OrderStatus.SUBMITTED


async def test_a_send_that_takes_too_long_is_asked_about_meanwhile() -> None:
    async with open_rig() as rig:
        rig.entry.answers["submit"].append(after(1000, LOST))
        cloid = rig.submit()
        await later(14)
        assert rig.queries.asked == []
        rig.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.CANCELED)
        await later(2)
        assert rig.now(cloid).status is OrderStatus.CANCELED


async def test_an_acknowledgement_without_an_id_is_asked_about() -> None:
    async with open_rig() as rig:
        rig.entry.answers["submit"].append([Acknowledged(venue_order_id=None)])
        cloid = rig.submit()
        await later(0.1)
        rig.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.ACCEPTED)
        await later(2)
        assert rig.now(cloid).status is OrderStatus.ACCEPTED


async def test_an_ambiguous_cancel_is_decided_by_the_venue() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        rig.entry.answers["cancel"].append([LOST])
        rig.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.ACCEPTED)
        rig.cancel(cloid)
        await later(5)
        assert rig.now(cloid).pending is Pending.CANCEL  # it may still take effect
        rig.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.CANCELED)
        await later(10)
        assert rig.now(cloid).status is OrderStatus.CANCELED


@pytest.mark.parametrize("validity_ms", [15_000, None])
async def test_a_cancel_without_effect_is_given_up_after_its_validity(
    validity_ms: int | None,
) -> None:
    async with open_rig(validity_ms=validity_ms) as rig:
        cloid = rig.submit()
        await later(0.1)
        rig.entry.answers["cancel"].append([LOST])
        rig.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.ACCEPTED)
        rig.cancel(cloid)
        await later(200)
        assert rig.last(OrderPendingRejected).code == "NOT_EFFECTIVE"
        assert rig.now(cloid).pending is None
        assert rig.now(cloid).is_open


async def test_a_modification_gives_new_terms_and_a_new_id() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        rig.modify(cloid, price=Decimal("98.58"), quantity=Decimal("2.0009"))
        assert rig.now(cloid).pending is Pending.MODIFY
        assert rig.last(OrderPending).quantity == Decimal("2.000")
        await later(0.1)
        order = rig.now(cloid)
        assert (order.price, order.quantity) == (Decimal("98.5"), Decimal("2.000"))
        assert (order.venue_order_id, order.pending) == ("v2", None)
        assert rig.queries.asked == []


@pytest.mark.parametrize("order_of_arrival", ["canceled accepted", "accepted canceled"])
@pytest.mark.parametrize("answered", [True, False])
async def test_the_two_reports_of_a_replacement_may_come_either_way(
    order_of_arrival: str, answered: bool
) -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        answer = Acknowledged(venue_order_id=VenueOrderId("v2")) if answered else LOST
        rig.entry.answers["modify"].append(after(2, answer))
        rig.modify(cloid, price=Decimal(98))
        await later(1)
        for word in order_of_arrival.split():
            if word == "accepted":
                rig.report(
                    cloid,
                    OrderStatus.ACCEPTED,
                    venue_order_id=VenueOrderId("v2"),
                    price=Decimal(98),
                )
            else:
                rig.report(cloid, OrderStatus.CANCELED, venue_order_id=VenueOrderId("v1"))
        await later(10)
        order = rig.now(cloid)
        assert (order.status, order.venue_order_id) == (OrderStatus.ACCEPTED, "v2")
        assert (order.price, order.pending) == (Decimal(98), None)
        assert rig.count(OrderCanceled) == 0
        assert rig.count(OrderModified) == 1


async def test_a_modification_refused_because_the_order_ended() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        rig.entry.answers["modify"].append(after(2, Refused(code="UNKNOWN_ORDER", text="gone")))
        rig.modify(cloid, price=Decimal(98))
        await later(1)
        rig.report(cloid, OrderStatus.CANCELED)  # the replacement's half, or the end?
        assert rig.now(cloid).is_open
        assert rig.count(OrderCanceled) == 0
        await later(2)
        assert rig.now(cloid).status is OrderStatus.CANCELED
        assert rig.names(cloid)[-2:] == ["modify_rejected", "canceled"]


async def test_a_modification_refused_while_the_order_rests() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        rig.entry.answers["modify"].append([Refused(code="BAD_PRICE", text="no")])
        rig.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.ACCEPTED)
        rig.modify(cloid, price=Decimal(98))
        await later(2)
        assert rig.last(OrderPendingRejected).code == "BAD_PRICE"
        assert (rig.now(cloid).price, rig.now(cloid).status) == (Decimal(99), OrderStatus.ACCEPTED)
        asked = len(rig.queries.asked)
        await later(600)
        assert len(rig.queries.asked) == asked == 1


@pytest.mark.parametrize("shown", ["98", "99"])
async def test_an_ambiguous_modification_is_decided_by_what_the_venue_shows(shown: str) -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        rig.entry.answers["modify"].append([LOST])
        rig.modify(cloid, price=Decimal(98))
        await later(0.1)
        rig.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.ACCEPTED, price=Decimal(shown))
        await later(100)
        order = rig.now(cloid)
        assert (order.price, order.pending) == (Decimal(shown), None)
        assert rig.count(OrderModified) == (shown == "98")
        assert rig.count(OrderPendingRejected) == (shown == "99")


async def test_a_modification_not_sent_and_one_executed_at_once() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        rig.entry.answers["modify"].append([NotSent(detail="no connection")])
        rig.modify(cloid, price=Decimal(98))
        await later(0.1)
        assert rig.last(OrderPendingRejected).code == "NOT_SENT"
        executed = Executed(
            venue_order_id=VenueOrderId("v7"), quantity=Decimal(1), average_price=Decimal(101)
        )
        rig.entry.answers["modify"].append([executed])
        rig.modify(cloid, price=Decimal(101))
        await later(0.1)
        assert rig.now(cloid).venue_order_id == "v7"
        rig.fill(cloid, "t1", "1", venue_order_id=VenueOrderId("v7"))
        assert rig.now(cloid).status is OrderStatus.FILLED


async def test_a_modification_given_up_on_may_turn_out_to_have_worked() -> None:
    async with open_rig() as rig:
        cloid = rig.submit(quantity="2")
        await later(0.1)
        rig.fill(cloid, "t1", "0.5")
        rig.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.ACCEPTED)
        rig.entry.answers["modify"].append([LOST])
        rig.modify(cloid, price=Decimal(98))
        await later(60)
        assert rig.last(OrderPendingRejected).code == "NOT_EFFECTIVE"
        replacement = {
            "venue_order_id": VenueOrderId("v2"),
            "price": Decimal(98),
            "quantity": Decimal("1.5"),
            "remaining": Decimal("1.5"),
        }
        rig.report(cloid, OrderStatus.ACCEPTED, **replacement)
        order = rig.now(cloid)
        assert (order.price, order.quantity) == (Decimal(98), Decimal(2))
        assert order.venue_order_id == "v2"
        rig.report(cloid, OrderStatus.ACCEPTED, venue_order_id=VenueOrderId("v0"))
        assert rig.now(cloid).venue_order_id == "v2"  # a former id, acknowledged late


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"price": Decimal(99)}, "NO_CHANGE"),
        ({"quantity": Decimal(0)}, "INVALID_QUANTITY"),
        ({"price": Decimal(-1)}, "INVALID_PRICE"),
        ({"quantity": Decimal("0.01")}, "MIN_NOTIONAL"),
    ],
)
async def test_what_cannot_be_modified_is_refused(terms: dict[str, Decimal], code: str) -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        rig.modify(cloid, **terms)
        await later(0.1)
        assert rig.last(OrderPendingRejected).code == code
        assert rig.entry.kinds() == ["submit"]
        assert rig.now(cloid).pending is None


async def test_only_a_resting_order_is_modified_and_one_request_at_a_time() -> None:
    async with open_rig() as rig:
        rig.entry.answers["submit"].append(never())
        in_flight = rig.submit()
        await later(0.1)
        rig.modify(in_flight, price=Decimal(98))
        assert rig.last(OrderPendingRejected).code == "NOT_OPEN"
        resting = rig.submit()
        await later(0.1)
        rig.modify(resting, price=Decimal(98))
        rig.modify(resting, price=Decimal(97))
        assert rig.last(OrderPendingRejected).code == "PENDING"
        assert rig.now(resting).pending is Pending.MODIFY
        rig.engine.close_gate("stopping")
        rig.modify(resting, price=Decimal(97))
        assert rig.last(OrderPendingRejected).code == "GATE_CLOSED"


async def test_a_cancel_takes_back_a_modification_that_waits() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        rig.modify(cloid, price=Decimal(98))
        rig.cancel(cloid)
        await later(0.1)
        assert rig.entry.kinds() == ["submit", "cancel"]
        assert rig.names(cloid)[-4:] == [
            "pending_modify",
            "modify_rejected",
            "pending_cancel",
            "canceled",
        ]


async def test_a_cancel_during_a_modification_ends_the_order() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        rig.entry.answers["modify"].append(after(2, Refused(code="UNKNOWN_ORDER", text="gone")))
        rig.modify(cloid, price=Decimal(98))
        await later(0.1)
        rig.cancel(cloid)
        await later(5)
        assert rig.now(cloid).status is OrderStatus.CANCELED


async def test_cancel_all_waits_for_the_evidence() -> None:
    async with open_rig() as rig:
        mine = [rig.submit(), rig.submit(instrument_id=ETH)]
        rig.entry.answers["cancel"].append(after(0.5, *[Acknowledged(venue_order_id=None)] * 2))
        await later(0.1)
        started = trio.current_time()
        result = await rig.engine.cancel_all(timeout_s=5)
        assert set(result.cancelled) == set(mine)
        assert result.unverified == ()
        assert 0.5 <= trio.current_time() - started < 0.6
        again = await rig.engine.cancel_all(timeout_s=5)
        assert (again.cancelled, again.unverified) == ((), ())


async def test_cancel_all_is_narrowed() -> None:
    async with open_rig() as rig:
        bitcoin, ether = rig.submit(), rig.submit(instrument_id=ETH)
        await later(0.1)
        result = await rig.engine.cancel_all(strategy_id=MAKER, instrument_id=BTC, timeout_s=5)
        assert result.cancelled == (bitcoin,)
        assert rig.now(ether).is_open


async def test_cancel_all_tries_again_and_tells_what_it_could_not_verify() -> None:
    async with open_rig() as rig:
        stubborn = rig.submit()
        await later(0.1)
        filled = rig.submit(instrument_id=ETH, side=Side.SELL)
        await later(0.1)
        rig.queries.orders[stubborn] = rig.report_of(stubborn, OrderStatus.ACCEPTED)
        rig.entry.answers["cancel"].append([NotSent(detail="no connection")] * 2)
        rig.entry.answers["cancel"].append([LOST])  # one answer for two orders proves nothing

        async def fill_later() -> None:
            await trio.sleep(2)
            rig.fill(filled, "t1", "1", instrument_id=ETH, venue_order_id=VenueOrderId("v2"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fill_later)
            rig.entry.answers["cancel"].extend([[LOST]] * 5)
            result = await rig.engine.cancel_all(timeout_s=10)
        assert result.unverified == (stubborn,)
        assert result.cancelled == ()
        assert rig.entry.kinds().count("cancel") >= 3


@pytest.mark.parametrize("late", [False, True])
async def test_a_fill_that_crosses_a_modification_leaves_the_replacement_tracked(
    late: bool,
) -> None:
    async with open_rig() as rig:
        cloid = rig.submit(quantity="10")
        await later(1)
        rig.entry.answers["modify"].append(
            after(1, Acknowledged(venue_order_id=VenueOrderId("v2")))
        )
        rig.modify(cloid, price=Decimal(98))
        await later(2 if late else 0.5)
        rig.fill(cloid, "t1", "4", venue_order_id=VenueOrderId("v1"))  # the venue replaced 10 by 10
        await later(2)
        rig.fill(cloid, "t2", "6", venue_order_id=VenueOrderId("v2"))
        assert rig.now(cloid).status is OrderStatus.PARTIALLY_FILLED
        assert rig.now(cloid).remaining_quantity == 4
        rig.fill(cloid, "t3", "4", venue_order_id=VenueOrderId("v2"))
        assert rig.now(cloid).status is OrderStatus.FILLED


async def test_a_fill_that_the_private_stream_has_not_told_is_fetched() -> None:
    async with open_rig() as rig:
        cloid = rig.submit(quantity="10")
        await later(1)
        rig.fill(cloid, "t1", "4")
        rig.queries.fills = [rig.fill_of(cloid, "t1", "4"), rig.fill_of(cloid, "t2", "6")]
        rig.queries.orders[cloid] = told = rig.report_of(
            cloid, OrderStatus.FILLED, remaining=Decimal(0)
        )
        rig.engine.on_report(told)
        await later(2)
        assert rig.now(cloid).status is OrderStatus.FILLED
        assert rig.now(cloid).filled_quantity == 10


async def test_a_reduce_only_order_that_the_venue_cut_down_ends_with_less() -> None:
    async with open_rig() as rig:
        await later(1)
        rig.fill(None, "p1", "10")
        cloid = rig.submit(side=Side.SELL, quantity="10", reduce_only=True)
        await later(1)
        rig.fill(None, "p2", "6", side=Side.SELL, venue_order_id=VenueOrderId("x"))
        rig.fill(cloid, "t1", "4")
        rig.queries.fills = [rig.fill_of(cloid, "t1", "4")]
        rig.queries.orders[cloid] = told = rig.report_of(
            cloid, OrderStatus.FILLED, remaining=Decimal(0)
        )
        rig.engine.on_report(told)
        await later(9)
        assert rig.now(cloid).status is OrderStatus.PARTIALLY_FILLED
        await later(60)
        assert rig.now(cloid).status is OrderStatus.CANCELED
        assert "by 4 of 10" in rig.now(cloid).reason
        assert rig.engine.stats()["in_flight"] == 0
        rig.fill(cloid, "t2", "6")  # late after all
        assert rig.now(cloid).status is OrderStatus.FILLED


async def test_a_fill_known_before_a_modification_is_signed_is_in_its_total() -> None:
    async with open_rig() as rig:
        cloid = rig.submit(quantity="10")
        await later(1)
        rig.fill(cloid, "t1", "4", venue_order_id=VenueOrderId("v1"))
        rig.modify(cloid, price=Decimal(98))
        await later(1)
        rig.fill(cloid, "t2", "6", venue_order_id=VenueOrderId("v2"))
        assert rig.now(cloid).status is OrderStatus.FILLED
