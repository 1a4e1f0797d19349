"""Orders and what becomes of them, where daemons were bitten: one named test for each bite."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import trio

from tests.sim.scene import Scene, scenario
from zq_daemon.model.event import OrderCanceled, OrderRejected
from zq_daemon.model.ids import ClientOrderId
from zq_daemon.model.market import Side

BUY, SELL = Side.BUY, Side.SELL
D = Decimal


@scenario
async def test_failure_event_and_then_the_fill_gives_no_second_order(scene: Scene) -> None:
    """The venue answered with an error, the order was sent again, and then the fill of it came."""
    async with scene.life() as world:
        again: list[ClientOrderId] = []
        for end in ("rejected", "canceled", "expired"):
            world.daemon.parts.bus.subscribe(
                f"order.{end}.*", lambda _: again.append(scene.submit(BUY, 50_010))
            )
        scene.misbehave(
            http_error=502,
            http_error_path="exchange",
            http_error_count=1,
            http_error_executes=True,
            private_latency_ms=4_000,
            forget_order_count=1,
        )
        filled = scene.submit(BUY, 50_010)
        await trio.sleep(30)
        assert world.daemon.parts.execution.stats()["queries"] > 0
        assert (scene.status(filled), scene.position(), again) == ("filled", D("0.01"), [])
        scene.check()


@scenario
async def test_a_submit_that_timed_out_stays_in_flight_until_the_live_order_is_seen(
    scene: Scene,
) -> None:
    """No answer in time was taken for "not placed", and the order was live."""
    async with scene.life() as world:
        deaf_and_dumb = {"http_error": 503, "http_error_path": "info", "http_error_share": D(1)}
        scene.misbehave(drop_replies=True, drop_private=True, **deaf_and_dumb)
        cloid = scene.submit(BUY, 49_000)
        for _ in range(6):
            await trio.sleep(10)  # several times as long as a post and an order's validity last
            assert scene.status(cloid) == "submitted"
        assert world.now(cloid).is_in_flight
        scene.misbehave()
        await trio.sleep(60)
        assert scene.status(cloid) == "accepted"
        scene.check()
    assert scene.events["OrderExpired"] == 0


@scenario
async def test_a_submit_that_never_arrived_ends_once_it_no_longer_can(scene: Scene) -> None:
    """An order of unknown fate was kept for ever, or given up while it could still arrive."""
    async with scene.life():
        scene.misbehave(cut_before_execute=1)
        cloid = scene.submit(BUY, 49_000)
        await trio.sleep(5)
        assert scene.status(cloid) == "submitted"
        await trio.sleep(120)
        assert scene.status(cloid) == "expired"
        scene.check()


@scenario
async def test_unknown_oid_for_an_order_that_open_orders_show_ends_nothing(scene: Scene) -> None:
    """`unknownOid` was believed of orders that the venue had just listed as open."""
    async with scene.life() as world:
        resting = [scene.submit(BUY, 49_000 - number) for number in range(4)]
        await trio.sleep(2)
        scene.misbehave(forget_orders=True, drop_replies=True, drop_private=True)
        scene.cancel(resting[0])  # takes effect, nothing tells of it, and so the venue is asked
        scene.modify(resting[1], 48_900)
        doubtful = scene.submit(BUY, 48_000)
        await trio.sleep(120)
        assert world.daemon.parts.execution.stats()["queries"] > 3
        assert [scene.status(each) for each in resting[1:]] == ["accepted"] * 3
        assert scene.status(doubtful) == "accepted"
        scene.misbehave()
        await trio.sleep(120)
        assert [scene.status(each) for each in resting] == ["canceled", *["accepted"] * 3]
        scene.check()
    assert scene.events["OrderExpired"] == scene.events["OrderRejected"] == 0


@scenario
async def test_many_requests_in_one_millisecond_have_nonces_of_their_own(scene: Scene) -> None:
    """Two orders in one millisecond had one nonce, and the second was refused as a duplicate."""
    async with scene.life():
        cloids = []
        for number in range(9):
            cloids.append(scene.submit(BUY, 49_000 - number))
            await trio.sleep(0.000_25)
        await trio.sleep(1)
        assert len(scene.nonces) > len(set(scene.arrived_ms))
        assert [scene.status(each) for each in cloids] == ["accepted"] * 9
        scene.check()
    scene.venue.clock = _back(scene.venue.clock)
    async with scene.life():
        cloid = scene.submit(BUY, 48_000)
        await trio.sleep(1)
        assert scene.status(cloid) == "accepted"
        assert scene.nonces[-1] > max(scene.nonces[:-1])
        scene.check()


def _back(clock: Any) -> Any:
    """A wall clock that was set back by ten seconds."""

    class Back:
        def now_ns(self) -> int:
            return int(clock.now_ns()) - 10_000_000_000

        def __getattr__(self, name: str) -> Any:
            return getattr(clock, name)

    return Back()


@scenario
async def test_a_cancel_refused_as_filled_before_the_fill_is_told_loses_no_fill(
    scene: Scene,
) -> None:
    """The cancel was refused, "already filled", the order dropped, and its fill came for nobody."""
    async with scene.life():
        cloid = scene.submit(BUY, 49_990)
        await trio.sleep(2)
        scene.misbehave(fill_on_cancel_count=1, private_latency_ms=5_000)
        scene.cancel(cloid)
        await trio.sleep(2)
        assert scene.events["OrderCanceled"] == 0
        await trio.sleep(60)
        assert (scene.status(cloid), scene.position()) == ("filled", D("0.01"))
        assert len(scene.fills) == 1
        scene.check()
    assert scene.events["OrderCanceled"] == 0


@scenario
async def test_a_modified_order_whose_cancellation_is_told_last_lives_on(scene: Scene) -> None:
    """A modify came as ACCEPTED and then CANCELED, and the order at rest was taken for gone."""
    async with scene.life() as world:
        scene.misbehave(swap_modifies=True)
        cloid = scene.submit(BUY, 49_990)
        await trio.sleep(2)
        before = world.now(cloid).venue_order_id
        for price in (49_991, 49_992, 49_993):
            scene.modify(cloid, price)
            await trio.sleep(2)
            assert (scene.status(cloid), world.now(cloid).price) == ("accepted", price)
        assert world.now(cloid).venue_order_id != before
        scene.venue.take(SELL, D(49_993), D("0.004"))
        await trio.sleep(2)
        assert (scene.status(cloid), scene.position()) == ("partially_filled", D("0.004"))
        scene.check()
    assert scene.events["OrderCanceled"] == 0


@scenario
async def test_fills_told_again_after_a_reconnect_are_booked_once(scene: Scene) -> None:
    """The snapshot after a resubscription told old fills again, and they were booked again."""
    async with scene.life() as world:
        scene.misbehave(repeat_fills=True)
        scene.submit(BUY, 50_010)
        resting = scene.submit(BUY, 49_995, "0.03")
        await trio.sleep(2)
        scene.venue.take(SELL, D(49_995), D("0.01"))
        for _ in range(3):
            await world.venue.cut()
            await trio.sleep(1)
            world.venue.heal()
            await trio.sleep(10)
            assert (len(scene.fills), scene.position()) == (2, D("0.02"))
        assert world.now(resting).filled_quantity == D("0.01")
        scene.check()
    async with scene.life():
        await trio.sleep(10)
        assert (len(scene.fills), scene.position()) == (2, D("0.02"))
        scene.check()


@scenario
async def test_a_status_never_heard_of_does_not_end_the_listening(scene: Scene) -> None:
    """A new status string was a KeyError in the listener, which was dead from then on."""
    async with scene.life() as world:
        filled = scene.submit(BUY, 49_995)
        canceled = scene.submit(BUY, 49_000)
        await trio.sleep(2)
        scene.misbehave(strange_status_count=6)
        scene.venue.take(SELL, D(49_995), D("0.01"))
        world.cancel_by_hand(canceled)
        await trio.sleep(30)
        scene.misbehave(strange_reply_count=1)
        strange = scene.submit(BUY, 48_000)
        await trio.sleep(60)
        states = [scene.status(each) for each in (filled, canceled, strange)]
        assert states == ["filled", "canceled", "accepted"]
        links = scene.events["LinkChanged"]
        later = scene.submit(BUY, 49_996)
        await trio.sleep(2)
        scene.venue.take(SELL, D(49_996), D("0.01"))
        await trio.sleep(2)
        assert (scene.status(later), scene.position()) == ("filled", D("0.02"))
        assert scene.events["LinkChanged"] == links
        scene.check()


@scenario
async def test_what_the_venue_refuses_ends_with_its_reason_and_is_not_sent_again(
    scene: Scene,
) -> None:
    """A refusal among accepted orders of one batch was given to the wrong order, or retried."""
    async with scene.life() as world:
        told: list[Any] = []
        world.daemon.parts.bus.subscribe("order.rejected.*", told.append)
        cloids = [
            scene.submit(BUY, price, post_only=True) for price in (49_000, 50_010, 48_999, 50_020)
        ]
        await trio.sleep(5)
        states = [scene.status(each) for each in cloids]
        assert states == ["accepted", "rejected", "accepted", "rejected"]
        assert [each.client_order_id for each in told] == [cloids[1], cloids[3]]
        scene.check()
    assert scene.events[OrderRejected.__name__] == 2
    assert scene.events[OrderCanceled.__name__] == 0
