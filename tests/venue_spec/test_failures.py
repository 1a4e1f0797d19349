"""TC-056 to TC-073: lost links, missing and late answers, nonces, strangers, secrets, closing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from tests.venue_spec.desk import Desk, open_desk, send_into, sending
from tests.venue_spec.line import Line, open_line
from tests.venue_spec.venue import OpenVenue, VenueUnderTest
from zq_daemon.errors import LinkError
from zq_daemon.model.event import LinkState, SystemEvent
from zq_daemon.model.market import MarketEvent, Side
from zq_daemon.model.order import Order, OrderStatus
from zq_daemon.model.report import Report
from zq_daemon.ports.rng import seeded_rng
from zq_daemon.runtime.backoff import Backoff
from zq_daemon.runtime.feed_queue import FeedQueue
from zq_daemon.venue.endpoint import Endpoint, EndpointSettings
from zq_daemon.venue.interface import (
    Acknowledged,
    Ambiguous,
    Executed,
    Modification,
    NotSent,
    Outcome,
    Refused,
)

pytestmark = pytest.mark.virtual


class Held:
    """A connection that keeps what is sent until it is let go; may fail then."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.released = trio.Event()
        self.fails = False

    async def send(self, message: str) -> None:
        await self.released.wait()
        if self.fails:
            raise LinkError("reset by peer")
        await self._line.send(message)


async def test_tc056_without_a_connection_nothing_is_sent(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        await venue.cut()
        await desk.line.lost.wait()
        started = trio.current_time()
        orders = [desk.bid(), desk.bid(6)]
        outcomes = await desk.submit(*orders)
        assert [type(outcome) for outcome in outcomes] == [NotSent, NotSent]
        assert trio.current_time() == started
        venue.heal()
        assert venue.orders() == []


async def test_tc057_a_link_lost_before_sending_means_not_sent(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        request = desk.entry.prepare_submit([desk.bid()])
        await venue.cut()
        await desk.line.lost.wait()
        (outcome,) = await desk.entry.send(request)
        assert isinstance(outcome, NotSent)
        assert venue.orders() == []


async def test_tc058_a_link_lost_after_sending_leaves_the_outcome_open(
    open_venue: OpenVenue,
) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order = desk.bid()
        venue.drop_answers()
        async with sending(desk.entry, desk.entry.prepare_submit([order])) as outcomes:
            started = trio.current_time()
            await venue.cut()
        assert trio.current_time() == started
        assert [type(outcome) for outcome in outcomes] == [Ambiguous]
        venue.heal()
        await _assert_found_live(desk, order)


async def test_tc059_a_link_that_breaks_while_sending_leaves_the_outcome_open(
    open_venue: OpenVenue,
) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        _needs_orders_on_line(venue)
        held = Held(desk.line)
        desk.entry.attach(held)
        async with sending(desk.entry, desk.entry.prepare_submit([desk.bid()])) as outcomes:
            held.fails = True
            held.released.set()
        assert [type(outcome) for outcome in outcomes] == [Ambiguous]


async def test_tc060_a_missing_answer_leaves_the_outcome_open(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        orders = [desk.bid(), desk.bid(6)]
        venue.drop_answers()
        started = trio.current_time()
        outcomes = await desk.submit(*orders)
        assert trio.current_time() - started == pytest.approx(venue.answer_timeout_s)
        assert [type(outcome) for outcome in outcomes] == [Ambiguous, Ambiguous]
        venue.behave()
        for order in orders:
            await _assert_found_live(desk, order)
            await desk.report(order, OrderStatus.ACCEPTED)


async def test_tc061_a_late_answer_does_no_harm(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order = desk.bid()
        venue.delay_answers(venue.answer_timeout_s * 1.5)
        (outcome,) = await desk.submit(order)
        assert isinstance(outcome, Ambiguous)
        venue.behave()
        await _assert_found_live(desk, order)
        replies = len(_replies(desk.line))
        await trio.sleep(venue.answer_timeout_s)
        assert len(_replies(desk.line)) == replies + venue.has_orders_on_line
        await desk.rest(desk.bid(6))
        (outcome,) = await desk.cancel(order)
        assert isinstance(outcome, Acknowledged)


async def test_tc062_an_open_outcome_of_a_cancel_or_modify_is_told(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        canceled, modified = desk.bid(), desk.bid(6)
        await desk.submit(canceled, modified)
        venue.drop_answers()
        (outcome,) = await desk.cancel(canceled)
        assert isinstance(outcome, Ambiguous)
        outcome = await desk.modify(modified, desk.below_ask(3), venue.quantity)
        assert isinstance(outcome, Ambiguous)
        report = await venue.adapter.query_order(canceled.client_order_id)
        assert report is not None
        assert report.status is OrderStatus.CANCELED
        report = await venue.adapter.query_order(modified.client_order_id)
        assert report is not None
        assert report.price == desk.below_ask(3)


async def test_tc063_a_cancelled_send_leaves_the_order_to_be_found(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order = desk.bid()
        venue.delay_answers(2)
        with trio.move_on_after(1) as scope:
            await desk.submit(order)
        assert scope.cancelled_caught
        await trio.sleep(2)
        venue.behave()
        await _assert_found_live(desk, order)
        await desk.rest(desk.bid(6))


async def test_tc064_a_new_connection_takes_over(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        await venue.cut()
        await desk.line.lost.wait()
        venue.heal()
        async with open_line(venue, venue.private) as line:
            desk.entry.detach(desk.line)
            order = desk.bid()
            await desk.rest(order)
            await line.until(lambda: line.reports() or None)
            assert desk.line.reports() == []


async def test_tc065_nonces_rise_also_within_one_millisecond(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        orders = [desk.bid(3 + number % 5) for number in range(10)]
        requests = [desk.entry.prepare_submit([order]) for order in orders]
        requests += [desk.entry.prepare_cancel([orders[0]])]
        nonces = [request.nonce for request in requests]
        assert nonces == sorted(set(nonces))
        assert len({request.action_hash for request in requests}) == len(requests)
        for request in reversed(requests[:-1]):
            (outcome,) = await desk.entry.send(request)
            assert isinstance(outcome, Acknowledged)
        await trio.sleep(1)
        assert desk.entry.prepare_submit([desk.bid()]).nonce > nonces[-1]


async def test_tc066_an_expired_request_has_no_effect(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        _needs_orders_on_line(venue)
        request = desk.entry.prepare_submit([desk.bid()])
        if request.expires_ns is None:
            pytest.skip("this venue's requests do not expire")
        validity_s = (request.expires_ns - venue.clock.now_ns()) / 1e9
        assert 0 < validity_s < venue.answer_timeout_s
        held = Held(desk.line)
        desk.entry.attach(held)
        async with sending(desk.entry, request) as outcomes:
            await trio.sleep(validity_s + 0.001)
            held.released.set()
        (outcome,) = outcomes
        assert isinstance(outcome, Refused)
        assert outcome.code == "expired"
        late = desk.entry.prepare_submit([desk.bid()])
        await trio.sleep(validity_s + 0.001)
        (outcome,) = await desk.entry.send(late)
        assert isinstance(outcome, NotSent | Refused)
        await desk.line.settled()
        assert venue.orders() == []


async def test_tc067_a_request_sent_twice_has_effect_once(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        request = desk.entry.prepare_submit([desk.bid()])
        (first,) = await desk.entry.send(request)
        (second,) = await desk.entry.send(request)
        assert isinstance(first, Acknowledged)
        assert not isinstance(second, Acknowledged | Executed)
        assert [order.venue_order_id for order in venue.orders()] == [first.venue_order_id]


async def test_tc068_the_signature_of_another_key_is_refused(open_venue: OpenVenue) -> None:
    async with open_venue() as venue:
        stranger = venue.stranger()
        async with open_desk(venue, stranger) as desk:
            orders = [desk.bid(), desk.bid(6)]
            outcomes = await desk.submit(*orders)
            assert [type(outcome) for outcome in outcomes] == [Refused, Refused]
            codes = [outcome.code for outcome in outcomes if isinstance(outcome, Refused)]
            assert codes == ["signer", "signer"]
            assert venue.orders() == []
        await stranger.aclose()


async def test_tc069_the_key_is_never_shown(open_venue: OpenVenue) -> None:
    with capture_logs() as logs:
        async with open_venue() as venue:
            shown = [*await _traded(venue), *await _driven(venue)]
    shown += [repr(entry) for entry in logs]
    assert any("link up" in text for text in shown)
    secret = venue.secret
    spellings = (secret.hex(), str(int.from_bytes(secret, "big")), repr(secret)[2:-1])
    for text in shown:
        assert not any(spelling in text.lower() for spelling in spellings)


async def test_tc070_a_query_that_cannot_reach_the_venue_is_a_link_error(
    open_venue: OpenVenue,
) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        order = desk.bid()
        await desk.rest(order)
        await venue.cut()
        for query in (venue.adapter.load_instruments, venue.adapter.load_account):
            with pytest.raises(LinkError):
                await query()
        with pytest.raises(LinkError):
            await venue.adapter.query_order(order.client_order_id)
        venue.heal()
        await _assert_found_live(desk, order)


async def test_tc071_closing_does_not_wait_for_a_query(open_venue: OpenVenue) -> None:
    async with open_venue() as venue:
        venue.swallow_queries()
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_link_error, venue)
            await trio.testing.wait_all_tasks_blocked()
            await venue.adapter.aclose()
            assert trio.current_time() == started
        await venue.adapter.aclose()


async def test_tc072_closing_the_connection_ends_a_request_that_waits(
    open_venue: OpenVenue,
) -> None:
    outcomes: list[Outcome] = []
    async with open_venue() as venue:
        _needs_orders_on_line(venue)
        async with trio.open_nursery() as nursery, open_desk(venue) as desk:
            order = desk.bid()
            venue.drop_answers()
            request = desk.entry.prepare_submit([order])
            nursery.start_soon(send_into, outcomes, desk.entry, request)
            await trio.testing.wait_all_tasks_blocked()
            started = trio.current_time()
        assert trio.current_time() == started
        assert [type(outcome) for outcome in outcomes] == [Ambiguous]
        await _assert_found_live(desk, order)


async def test_tc073_requests_that_have_ended_take_no_room(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        small = desk.instrument.quantity_step
        for number in range(120):
            with trio.move_on_after(0 if number % 2 else 1):
                (outcome,) = await desk.submit(desk.bid(quantity=small))
                assert isinstance(outcome, Refused)
        await desk.rest(desk.bid())
        venue.drop_answers()
        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(desk.submit, desk.bid(quantity=small))
        venue.behave()
        outcomes: list[Outcome] = []
        async with trio.open_nursery() as nursery:
            for _ in range(90):
                request = desk.entry.prepare_submit([desk.bid(quantity=small)])
                nursery.start_soon(send_into, outcomes, desk.entry, request)
        assert [type(outcome) for outcome in outcomes] == [Refused] * 90


def _needs_orders_on_line(venue: VenueUnderTest) -> None:
    if not venue.has_orders_on_line:
        pytest.skip("this venue's requests do not go over the private connection")


def _replies(line: Line) -> Sequence[object]:
    return [reply for heard in line.heard for reply in heard.received.replies]


async def _assert_found_live(desk: Desk, order: Order) -> None:
    """The venue has *order* once, and says so when asked."""
    (truth,) = [each for each in desk.live() if each.client_order_id == order.client_order_id]
    report = await desk.adapter.query_order(order.client_order_id)
    assert report is not None
    assert report.status is OrderStatus.ACCEPTED
    assert report.venue_order_id == truth.venue_order_id


async def _expect_link_error(venue: VenueUnderTest) -> None:
    with pytest.raises(LinkError):
        await venue.adapter.load_instruments()


async def _traded(venue: VenueUnderTest) -> list[str]:
    """What can be seen of requests, their answers, and everything beside them."""
    shown = []
    async with open_desk(venue) as desk:
        order = desk.bid()
        requests = [
            desk.entry.prepare_submit([order]),
            desk.entry.prepare_modify([Modification(order, desk.below_ask(3), order.quantity)]),
            desk.entry.prepare_cancel([order]),
        ]
        for request in requests:
            assert request.payload.decode() not in repr(request)
            shown += [repr(request), request.payload.decode()]
            shown.append(repr(await desk.entry.send(request)))
        venue.drop_answers()
        shown.append(repr(await desk.submit(desk.bid())))
        venue.behave()
        shown += [repr(heard) for heard in desk.line.heard]
        shown += [repr(each) for each in (venue.adapter, desk.entry, vars(desk.entry))]
        with pytest.raises(ValueError) as caught:
            desk.entry.prepare_submit([desk.order(Side.BUY, None)])
        shown.append(repr(caught.value))
        shown.append(repr(await venue.adapter.load_account()))
    return shown


async def _driven(venue: VenueUnderTest) -> list[str]:
    """What the daemon's own task shows of a private link that comes and goes."""
    feed = FeedQueue[MarketEvent | SystemEvent](100, lambda event: None)
    reports_in, reports = trio.open_memory_channel[Sequence[Report]](100)
    settings = EndpointSettings(
        name="private",
        url=venue.private.url,
        streams=venue.private.streams,
        auto_reconnect=False,
        connect_timeout_ms=5_000,
        reconnect_healthy_ms=60_000,
        heartbeat_timeout_ms=5_000,
        feed_blocked_ms=1_000,
        reconcile_interval_ms=60_000,
        max_message_bytes=1 << 20,
    )
    endpoint = Endpoint(
        settings,
        venue.adapter,
        network=venue.network,
        clock=venue.clock,
        backoff=Backoff(1_000, 60_000, seeded_rng(1)),
        feed=feed,
        reports=reports_in,
        on_bad=lambda *what: False,
    )
    async with reports_in, reports, trio.open_nursery() as nursery:
        nursery.start_soon(endpoint.run)
        await endpoint.ready.wait()
        await endpoint.check_alive()
        assert endpoint.state is LinkState.UP
        await venue.cut()
    return [repr(endpoint.status()), repr(reports.statistics()), repr(await feed.get(100))]
