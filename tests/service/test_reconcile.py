"""`reconcile` and `orders --unknown`: what is told, what is changed, and when it is refused."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.service.execution_rig import ACCOUNT, BTC, Rig, fill, later, never, open_rig
from tests.service.test_operator import desk
from zq_daemon.control.doubts import doubt_row
from zq_daemon.control.reconcile import row_of
from zq_daemon.engine.execution import ExecutionSettings
from zq_daemon.engine.reconciliation import Look
from zq_daemon.errors import ControlError, LinkError
from zq_daemon.journal.digest import digest
from zq_daemon.model.event import HealthChanged
from zq_daemon.model.ids import ClientOrderId, VenueOrderId
from zq_daemon.model.market import Side
from zq_daemon.model.order import OrderStatus

pytestmark = pytest.mark.virtual


def rows(look: Look) -> list[tuple[str, str | None, str]]:
    """Kind, order and action of what was found."""
    told = [row_of(each) for each in look.findings]
    return [(each["kind"], each["order"], each["action"]) for each in told]


async def differing(rig: Rig) -> dict[str, ClientOrderId]:
    """Ours and the venue's side, in all ways apart."""
    await later(1)
    names = ("rests", "ended", "risen", "filled")
    orders = {name: rig.submit() for name in names}
    await later(1)
    rig.cancel(orders["risen"])
    await later(6)
    rig.entry.answers["submit"].append(never())
    orders["lost"] = rig.submit()
    await later(1)  # it has left
    resting = rig.report_of(orders["rests"], OrderStatus.ACCEPTED)
    external = rig.report_of(
        orders["rests"], OrderStatus.ACCEPTED, client_order_id=None, venue_order_id="e1"
    )
    risen = rig.report_of(orders["risen"], OrderStatus.ACCEPTED, remaining=Decimal(1))
    rig.queries.open_orders = (resting, external, risen)
    rig.queries.orders = {
        orders["rests"]: resting,
        orders["ended"]: rig.report_of(orders["ended"], OrderStatus.CANCELED),
        orders["filled"]: rig.report_of(orders["filled"], OrderStatus.FILLED),
    }
    rig.queries.fills = [
        rig.fill_of(orders["filled"], "t1", "1", venue_order_id=VenueOrderId("v4")),
        fill("t2", "1", rig.clock.now_ns(), venue_order_id=VenueOrderId("e0"), side=Side.SELL),
    ]
    rig.queries.positions = {BTC: Decimal(5)}
    return orders


async def test_a_look_tells_everything_and_changes_nothing() -> None:
    async with open_rig() as rig:
        orders = await differing(rig)
        before, sent, events = digest(rig.journal.state), len(rig.entry.sent), len(rig.events)
        look = await rig.engine.look()
        assert (digest(rig.journal.state), len(rig.entry.sent)) == (before, sent)
        assert len(rig.events) == events
        assert set(rows(look)) == {
            ("external order", "e1", "report"),
            ("ended order", orders["ended"], "take it as ended"),
            ("ended order", orders["filled"], "fetch its fills"),
            ("risen order", orders["risen"], "reopen and cancel"),
            ("denied order", orders["lost"], "ask about it"),
            ("missing fill", orders["filled"], "book it"),
            ("external fill", None, "book it"),
            ("position", None, "fetch fills, then take it over"),
        }
        assert len(rows(look)) == 8
        assert (look.orders, look.complete) == (4, True)


async def test_a_look_without_an_answer_is_an_error() -> None:
    async with open_rig() as rig:
        await differing(rig)
        rig.queries.failure = LinkError("503")
        with pytest.raises(LinkError, match="503"):
            await rig.engine.look()


async def test_reconciling_settles_what_was_found_and_lifts_the_halt() -> None:
    async with open_rig() as rig:
        await later(1)
        cloid = rig.submit()
        await later(1)
        rig.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.CANCELED)
        rig.queries.positions = {BTC: Decimal(3)}
        rig.state(BTC="3")
        await later(10)
        assert rig.engine.stats()["halted_accounts"] == [ACCOUNT]
        done = await rig.engine.reconcile()
        assert done.adjusted == ("hl.BTC: ours 0, venue's 3",)
        assert (done.unresolved, done.fills) == (0, 0)
        assert rig.now(cloid).status is OrderStatus.CANCELED
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 3
        assert rig.engine.stats()["halted_accounts"] == []
        assert rig.last(HealthChanged).healthy
        assert (await rig.engine.look()).findings == ()
        rig.submit()
        assert rig.engine.stats()["denials"] == {}


async def test_reconciling_without_an_answer_leaves_the_halt() -> None:
    async with open_rig() as rig:
        rig.queries.positions = {BTC: Decimal(3)}
        rig.state(BTC="3")
        await later(10)
        rig.queries.failure = LinkError("503")
        with pytest.raises(LinkError):
            await rig.engine.reconcile()
        assert rig.engine.stats()["halted_accounts"] == [ACCOUNT]


def doubt(rig: Rig, cloid: ClientOrderId) -> dict[str, Any]:
    [watch] = [each for each in rig.engine.doubts() if each.client_order_id == cloid]
    return doubt_row(rig.now(cloid), watch, rig.clock)


async def test_a_doubt_says_why_and_counts_what_is_heard() -> None:
    async with open_rig() as rig:
        rig.entry.answers["submit"].append(never("timed out"))
        cloid = rig.submit()
        await later(5)
        assert rig.engine.doubts() == ()  # it has its time
        await later(6)
        first = doubt(rig, cloid)
        assert first["why"] == "timed out"
        assert (first["asked"], first["negatives"], first["negatives_needed"]) == (1, 0, 3)
        assert first["since_s"] == pytest.approx(1, abs=0.1)
        assert first["valid_s"] == pytest.approx(4, abs=0.1)
        assert first["awaited"] == "an answer of the venue, or the end of its validity"
        await later(6)
        second = doubt(rig, cloid)
        assert (second["valid_s"], second["negatives"]) == (None, 1)
        assert "3 denials by status and open orders (1 so far)" in second["awaited"]
        await later(60)
        assert rig.engine.doubts() == ()
        assert len(rig.entry.sent) == 1  # never sent again


async def test_an_order_without_validity_is_never_ended_by_denials() -> None:
    async with open_rig(validity_ms=None) as rig:
        rig.entry.answers["submit"].append(never())
        cloid = rig.submit()
        await later(600)
        told = doubt(rig, cloid)
        assert (told["valid_s"], told["negatives"]) == (None, 0)
        assert "no validity to end" in told["awaited"]


async def test_missing_fills_are_counted() -> None:
    async with open_rig() as rig:
        cloid = rig.submit(quantity="2")
        await later(1)
        rig.queries.orders[cloid] = told = rig.report_of(
            cloid, OrderStatus.FILLED, remaining=Decimal(0)
        )
        rig.engine.on_report(told)
        await later(2)
        row = doubt(rig, cloid)
        assert row["missing_fills"] == "2"
        assert row["histories_without"] >= 1
        assert row["awaited"].startswith("its fills, or 3 histories without them")


async def test_after_a_restart_all_that_lives_is_in_doubt_until_it_was_asked_about() -> None:
    settings = ExecutionSettings()
    async with open_rig(settings=settings) as rig:
        rig.submit()
        await later(1)
        await rig.journal.durable()
        disk = rig.disk
    async with open_rig(disk=disk, stated=False, run_id=2) as rig:
        [watch] = rig.engine.doubts()
        assert watch.why == "of a former run"


async def test_the_verb_looks_and_settles(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.quotes()
        dry = await at.ask("reconcile", dry_run=True)
        assert (dry["dry_run"], dry["differences"], dry["orders_asked_about"]) == (True, [], 2)
        assert "done" not in dry
        wet = await at.ask("reconcile")
        assert wet["done"]["asked"] == 2
        assert wet["done"]["adjusted"] == []
        assert wet["halted_accounts"] == []
        assert len(await at.quotes()) == 2


async def test_one_reconciliation_at_a_time_and_none_for_ever(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.quotes()
        with pytest.raises(ControlError, match="did not answer everything in 0 s"):
            await at.ask("reconcile", dry_run=True, wait_s=0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(at.ask, "reconcile", dry_run=True))
            for _ in range(2):  # it has begun to ask
                await trio.lowlevel.checkpoint()
            with pytest.raises(ControlError, match="under way already"):
                await at.ask("reconcile", dry_run=True)
        assert (await at.ask("reconcile", dry_run=True))["total"] == 0


async def test_it_waits_for_the_venues_limits_as_long_as_it_may(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.quotes()
        began = trio.current_time()
        for _ in range(30):
            asked = trio.current_time()
            await at.ask("reconcile", dry_run=True, wait_s=120)
            if (waited := trio.current_time() - asked) > 30:
                break
        assert asked - began < 30 < waited
        with pytest.raises(ControlError, match="did not answer everything in 10 s"):
            for _ in range(30):
                await at.ask("reconcile", wait_s=10)


async def test_unknown_orders_are_listed_with_their_doubt(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        resting = await at.quotes()
        assert (await at.ask("orders", kind="unknown"))["total"] == 0
        at.misbehave(drop_replies=True, drop_private=True)
        await at.ask("cancel-all", strategy="maker")
        await trio.sleep(10.4)
        answer = await at.ask("orders", kind="unknown", strategy="maker")
        found = {row["client_order_id"]: row for row in answer["orders"]}
        assert set(resting) <= set(found) or answer["total"] > 0
        for row in found.values():
            assert row["doubt"]["why"]
            assert row["doubt"]["awaited"]
        other = await at.ask("orders", kind="unknown", strategy="trend", limit=1)
        assert len(other["orders"]) <= 1
