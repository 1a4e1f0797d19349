"""What the engine asks for when a private link comes back, and what it does with the answers."""

from __future__ import annotations

from decimal import Decimal

import pytest
from structlog.testing import capture_logs

from tests.service.execution_rig import ACCOUNT, BTC, Rig, fill, later, open_rig, seconds_ns
from tests.service.test_recovery import Delays, Lives
from zq_daemon.engine.execution import ExecutionSettings
from zq_daemon.errors import LinkError
from zq_daemon.model.event import HealthChanged, OrderFilled
from zq_daemon.model.ids import VenueOrderId
from zq_daemon.model.market import Side
from zq_daemon.model.order import OrderStatus

pytestmark = pytest.mark.virtual

MARGIN_NS = 100 * 1_000_000_000
"""The margin of fills and the default silence of a link."""


def lose(rig: Rig) -> None:
    rig.down.add(ACCOUNT)
    rig.engine.on_link_lost(ACCOUNT)


def regain(rig: Rig) -> None:
    """The link is up again, and the endpoint has fetched a statement."""
    rig.down.discard(ACCOUNT)
    rig.state()
    rig.engine.on_link_up(ACCOUNT)


async def linked(rig: Rig) -> None:
    """Up for the first time, and in agreement for long."""
    regain(rig)
    await later(150)
    rig.state()
    await later(1)


async def test_the_first_link_has_nothing_to_catch_up_with() -> None:
    async with open_rig() as rig:
        lose(rig)
        regain(rig)
        await later(60)
        assert rig.queries.fills_since == []
        assert rig.engine.stats()["caught_up"] == 0


async def test_fills_that_add_up_to_nothing_are_found_although_positions_agreed() -> None:
    async with open_rig() as rig:
        await linked(rig)
        agreed_ns = rig.journal.state.agreed_ns[ACCOUNT]
        first, second = rig.submit(), rig.submit(side=Side.SELL)
        await later(1)
        lose(rig)
        await later(200)
        for number, cloid in enumerate((first, second)):
            rig.queries.fills.append(
                rig.fill_of(rig.now(cloid), f"t{number}", "1", ts_event_ns=rig.clock.now_ns())
            )
            rig.queries.orders[cloid] = rig.report_of(
                cloid, OrderStatus.FILLED, remaining=Decimal(0)
            )
        await later(200)
        rig.state()  # flat as we are: nothing differs, which proves nothing
        assert rig.journal.state.agreed_ns[ACCOUNT] == agreed_ns
        regain(rig)
        await later(1)
        rig.state()
        assert rig.journal.state.agreed_ns[ACCOUNT] > agreed_ns
        assert rig.queries.fills_since == [agreed_ns - MARGIN_NS]
        assert rig.count(OrderFilled) == 2
        assert [rig.now(each).status for each in (first, second)] == [OrderStatus.FILLED] * 2
        stats = rig.engine.stats()
        assert (stats["caught_up"], stats["catching_up"], stats["in_doubt"]) == (1, [], 0)


async def test_orders_that_ended_or_began_meanwhile_are_known_at_once() -> None:
    async with open_rig() as rig:
        await linked(rig)
        gone = rig.submit()
        await later(1)
        lose(rig)
        rig.queries.orders[gone] = rig.report_of(gone, OrderStatus.CANCELED)
        strange = rig.report_of(
            gone, OrderStatus.ACCEPTED, client_order_id=None, venue_order_id=VenueOrderId("777")
        )
        rig.queries.open_orders = (strange,)
        await later(30)
        regain(rig)
        await later(0.1)
        assert rig.now(gone).status is OrderStatus.CANCELED
        assert rig.engine.stats()["external_orders"] == {"report": 1}


async def test_an_attempt_that_fails_is_repeated_from_the_same_time() -> None:
    async with open_rig() as rig:
        await linked(rig)
        agreed_ns = rig.journal.state.agreed_ns[ACCOUNT]
        lose(rig)
        rig.queries.failure = LinkError("503")
        regain(rig)
        await later(2)
        assert rig.engine.stats()["catching_up"] == [ACCOUNT]
        await later(8)  # after 3 s, then 6 s
        assert len(rig.queries.fills_since) == 3
        rig.queries.failure = None
        await later(20)
        assert set(rig.queries.fills_since) == {agreed_ns - MARGIN_NS}
        assert rig.engine.stats()["catching_up"] == []


async def test_after_a_second_loss_all_since_the_first_is_asked_for() -> None:
    async with open_rig() as rig:
        await linked(rig)
        agreed_ns = rig.journal.state.agreed_ns[ACCOUNT]
        lose(rig)
        rig.queries.failure = LinkError("503")
        regain(rig)
        await later(1)
        lose(rig)
        rig.queries.failure = None
        await later(600)
        asked = len(rig.queries.fills_since)
        assert asked == 1
        rig.state()
        regain(rig)
        await later(1)
        assert rig.queries.fills_since[asked:] == [agreed_ns - MARGIN_NS]


async def test_a_venue_that_lacks_some_of_the_fills_is_told_of() -> None:
    async with open_rig() as rig:
        await linked(rig)
        lose(rig)
        rig.queries.complete = False
        with capture_logs() as logs:
            regain(rig)
            await later(1)
        (line,) = [each for each in logs if each["event"] == "caught up after an outage"]
        assert (line["log_level"], line["complete"]) == ("error", False)
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 0


async def test_positions_that_agree_prove_nothing_before_the_fills_were_asked_for() -> None:
    lives = Lives()
    async with lives.open() as rig:
        await later(150)
        rig.state()
        agreed_ns = rig.journal.state.agreed_ns[ACCOUNT]
        await rig.journal.durable()
    async with lives.open() as rig:
        await later(150)
        rig.state()  # flat as we are: what was missed may add up to nothing
        assert rig.journal.state.agreed_ns[ACCOUNT] == agreed_ns
        await rig.engine.recover(Delays())
        rig.state()
        assert rig.journal.state.agreed_ns[ACCOUNT] > agreed_ns


async def test_fills_that_nobody_told_are_found_while_the_link_is_up() -> None:
    """They add up to nothing: no position shows them, and no link was lost."""
    settings = ExecutionSettings(fills_interval_ns=seconds_ns(300))
    async with open_rig(settings=settings) as rig:
        rig.engine.on_link_up(ACCOUNT)
        await later(10)
        rig.queries.fills = [
            fill("t1", "1", rig.clock.now_ns(), venue_order_id=VenueOrderId("x")),
            fill("t2", "1", rig.clock.now_ns(), venue_order_id=VenueOrderId("y"), side=Side.SELL),
        ]
        await later(10)
        rig.state()  # the positions agree: from here on a recovery would ask
        rig.queries.history_failure = LinkError("503")
        await later(300)
        assert rig.count(OrderFilled) == 0
        rig.queries.history_failure = None
        await later(300)
        assert rig.count(OrderFilled) == 2
        asked = rig.queries.fills_since
        await later(300)
        assert asked[-1] >= asked[-2] + seconds_ns(300)  # from where the last one ended
        assert rig.count(OrderFilled) == 2
        assert rig.count(HealthChanged) == 0


async def test_a_start_looks_behind_an_agreement_that_nobody_checked_the_fills_of() -> None:
    lives = Lives()
    async with lives.open() as rig:
        await later(200)
        rig.state()
        agreed_ns = rig.journal.state.agreed_ns[ACCOUNT]
        await rig.journal.durable()
    async with lives.open() as rig:
        await rig.engine.recover(Delays())
        assert lives.queries.fills_since[-1] <= agreed_ns - seconds_ns(300)
