"""The state of an order is what the evidence implies, as a multiset: no order of arrival matters.

The oracle is the table of `core.order_state`'s docstring, read naively: it is given everything that
was delivered so far, sorted by nothing. What depends on requests of ours (modifications) is held
against a venue with a book of its own instead.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any

import trio
from attrs import Factory, define, evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.determinism import run_virtual
from tests.harness.engine_lives import (
    INSTRUMENTS,
    STRATEGIES,
    EngineLives,
    Turn,
    open_venue,
)
from tests.harness.order_watch import OrderWatch
from tests.service.execution_rig import (
    ACCOUNT,
    BTC,
    Rig,
    ScriptedEntry,
    ScriptedQueries,
    fill,
    later,
    open_rig,
    statement,
)
from zq_daemon.errors import LinkError
from zq_daemon.journal.digest import differences
from zq_daemon.model.event import OrderFilled, PositionChanged
from zq_daemon.model.fill import Fill
from zq_daemon.model.ids import ClientOrderId, InstrumentId, StrategyId, VenueOrderId
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderStatus, TimeInForce
from zq_daemon.model.report import AccountReport, OrderReport
from zq_daemon.ports.clock import VirtualClock
from zq_daemon.venue.interface import (
    MISSING_ORDER,
    Acknowledged,
    Ambiguous,
    Executed,
    Outcome,
    Refused,
    Request,
)

S = OrderStatus
SCALE = int(os.environ.get("ZQ_SIM_SEEDS", "3"))


@frozen(kw_only=True)
class Story:
    """What a venue sends about one order, in whatever order; an *outcome* may prove wrong.

    *parts* are its fills, *rest* what is never filled, *end* what the venue says became of that,
    *seen* whether it says anything but the outcome, *cancels* the answers to cancels of ours.
    """

    side: Side
    instrument_id: InstrumentId
    strategy_id: StrategyId
    immediate: bool
    parts: Sequence[int]
    rest: int
    end: OrderStatus | None
    outcome: str
    delay_s: float
    seen: bool
    cancels: Sequence[str]

    @property
    def filled(self) -> int:
        return sum(self.parts)


def made_possible(story: Story) -> Story:
    """A venue contradicts itself here about one thing only: whether it took the order."""
    if not story.filled + story.rest:
        story = evolve(story, rest=2)
    if not story.parts and story.outcome == "executed":
        story = evolve(story, outcome="ack")
    if story.immediate and story.parts and story.end is not None:
        story = evolve(story, end=S.CANCELED)
    if story.immediate and not story.parts and story.end is None:
        story = evolve(story, end=S.REJECTED)
    return story


@define(eq=False)
class Evidence:
    """All that was delivered about one order so far."""

    story: Story
    venue_order_id: VenueOrderId
    sent: bool = False
    told: set[tuple[str, Any]] = Factory(set)
    fills: dict[str, Fill] = Factory(dict)
    was_disproved: bool = False
    cancels: int = 0

    def tell(self, what: str, detail: Any = None) -> None:
        if self.refused and not self.seen and what in ("ack", "executed"):
            self.was_disproved = True
        self.told.add((what, detail))

    def book(self, fill: Fill) -> None:
        self.was_disproved |= self.refused and not self.seen
        self.fills[fill.trade_id] = fill

    @property
    def seen(self) -> bool:
        return bool(self.fills) or self.has("ack") or self.has("executed")

    @property
    def refused(self) -> bool:
        return self.has("refused")

    def has(self, what: str) -> bool:
        return any(each == what for each, _ in self.told)

    def implied(self, order: Order) -> OrderStatus:
        """The table of `core.order_state`, row by row."""
        filled = sum(fill.quantity for fill in self.fills.values())
        if filled >= order.quantity:
            return S.FILLED
        ends: list[OrderStatus] = [detail for what, detail in self.told if what == "end"]
        executed = [detail for what, detail in self.told if what == "executed"]
        if self.has("cancelled") or (self.story.immediate and executed and filled >= max(executed)):
            return S.CANCELED
        if ends:
            return ends[0]
        if filled:
            return S.PARTIALLY_FILLED
        if self.seen:
            return S.ACCEPTED
        return S.REJECTED if self.refused else S.SUBMITTED


@define(eq=False)
class Desk:
    """The venue's side of all stories, which notes what it delivered."""

    evidence: dict[ClientOrderId, Evidence] = Factory(dict)
    external: list[Fill] = Factory(list)

    def by_id(self, venue_order_id: VenueOrderId) -> Evidence:
        return next(e for e in self.evidence.values() if e.venue_order_id == venue_order_id)

    def outcome(self, kind: str, client_order_id: ClientOrderId) -> Outcome:
        evidence = self.evidence[client_order_id]
        if kind == "submit":
            return self._submitted(evidence)
        evidence.cancels += 1
        plan = evidence.story.cancels
        answer = plan[evidence.cancels - 1] if evidence.cancels <= len(plan) else "done"
        if answer == "lost":
            return Ambiguous(detail="no answer")
        if answer == "refused" or evidence.story.end in (S.REJECTED, S.EXPIRED):
            return Refused(code=MISSING_ORDER, text="no such order")
        evidence.tell("cancelled")
        return Acknowledged(venue_order_id=None)

    def _submitted(self, evidence: Evidence) -> Outcome:
        story, id_ = evidence.story, evidence.venue_order_id
        match story.outcome:
            case "ack":
                evidence.tell("ack")
                return Acknowledged(venue_order_id=id_)
            case "executed":
                evidence.tell("executed", story.filled)
                return Executed(
                    venue_order_id=id_, quantity=Decimal(story.filled), average_price=Decimal(99)
                )
            case "refused":
                evidence.tell("refused")
                return Refused(code="other", text="no")
            case _:
                return Ambiguous(detail="no answer")


class DeskEntry(ScriptedEntry):
    """Answers as the stories say, each request when the slowest of its orders is due."""

    def __init__(self, clock: VirtualClock, desk: Desk) -> None:
        super().__init__(clock)
        self.desk = desk

    async def send(self, request: Request) -> Sequence[Outcome]:
        stories = [self.desk.evidence[each].story for each in request.client_order_ids]
        for each in request.client_order_ids:
            self.desk.evidence[each].sent = True
        if request.kind == "submit":
            await trio.sleep(max(story.delay_s for story in stories))
        return [self.desk.outcome(request.kind, each) for each in request.client_order_ids]


class DeskQueries(ScriptedQueries):
    """Answers about orders the venue has seen, and otherwise not at all."""

    def __init__(self, clock: VirtualClock, desk: Desk) -> None:
        super().__init__(clock)
        self.desk = desk
        self.answer: Callable[[ClientOrderId], OrderReport]

    async def query_order(
        self, client_order_id: ClientOrderId, venue_order_id: VenueOrderId | None = None
    ) -> OrderReport | None:
        await trio.sleep(0.02)
        evidence = self.desk.evidence[client_order_id]
        if not evidence.story.seen:
            raise LinkError("no answer")
        report = self.answer(client_order_id)
        note(evidence, report)
        return report

    async def load_account(self) -> AccountReport:
        raise LinkError("no answer")


def note(evidence: Evidence, report: OrderReport) -> None:
    """What a report is evidence of."""
    if report.status in (S.CANCELED, S.REJECTED, S.EXPIRED):
        evidence.tell("end", report.status)
    elif report.status is S.FILLED:
        evidence.tell("executed", int(report.quantity - report.remaining))
    else:
        evidence.tell("ack")


ORDERS = st.builds(
    Story,
    side=st.sampled_from(Side),
    instrument_id=st.sampled_from(INSTRUMENTS),
    strategy_id=st.sampled_from(STRATEGIES),
    immediate=st.booleans(),
    parts=st.lists(st.integers(1, 3), max_size=3),
    rest=st.sampled_from([0, 0, 2]),
    end=st.sampled_from([None, None, S.CANCELED, S.CANCELED, S.REJECTED, S.EXPIRED]),
    outcome=st.sampled_from(["ack", "ack", "executed", "refused", "lost"]),
    delay_s=st.sampled_from([0.0, 0.1, 2.0, 10.0]),
    seen=st.sampled_from([True, True, True, False]),
    cancels=st.lists(st.sampled_from(["done", "lost", "refused"]), max_size=2),
).map(made_possible)


@settings(max_examples=40 * SCALE)
@given(stories=st.lists(ORDERS, min_size=1, max_size=4), seed=st.integers(0, 2**32))
def test_any_interleaving_leads_to_what_the_evidence_implies(
    stories: list[Story], seed: int
) -> None:
    run_virtual(seed, tell_stories, stories, random.Random(seed))


async def tell_stories(stories: Sequence[Story], rng: random.Random) -> None:
    clock, desk = VirtualClock(), Desk()
    queries = DeskQueries(clock, desk)
    async with open_rig(entry=DeskEntry(clock, desk), queries=queries) as rig:
        watch = OrderWatch(rig.cache, rig.portfolio)
        rig.bus.subscribe("*", watch)
        await later(0.01)
        told = Telling(rig, desk, rng)
        queries.answer = told.answer
        for number, story in enumerate(stories):
            told.begin(number, story)
        await told.tell_all()
        await later(300)
        told.check()
        check_end(rig, desk)
        assert watch.wrong == []
        assert differences(rig.journal.state, rig.copied.replayed()) == []


class Telling:
    """Delivers everything, in an order that only *rng* knows, and checks after each delivery."""

    def __init__(self, rig: Rig, desk: Desk, rng: random.Random) -> None:
        self.rig = rig
        self.desk = desk
        self.rng = rng
        self.now_ns = rig.clock.now_ns()
        self.waiting: list[tuple[ClientOrderId | None, Callable[[], None]]] = []
        self.says: dict[ClientOrderId, list[OrderReport]] = {}

    def begin(self, number: int, story: Story) -> None:
        """Mint the order; all there is to say of it waits from now on."""
        order = self.rig.order(
            side=story.side,
            quantity=str(story.filled + story.rest),
            instrument_id=story.instrument_id,
            strategy_id=story.strategy_id,
            time_in_force=TimeInForce.IOC if story.immediate else TimeInForce.GTC,
        )
        cloid = order.client_order_id
        evidence = Evidence(story, VenueOrderId(f"v{number}"))
        self.desk.evidence[cloid] = evidence
        self.waiting.append((None, lambda: self._submit(order)))
        self.waiting.append((cloid, lambda: self._cancel(cloid)))
        self.says[cloid] = self._reports(order, evidence) if story.seen else []
        fills = self._fills(order, evidence, number) if story.seen else []
        said: list[OrderReport | Fill] = [*self.says[cloid], *fills]
        for each in said:
            for _ in range(1 + (self.rng.random() < 0.3)):
                self.waiting.append((cloid, partial(self._deliver, evidence, each)))

    async def tell_all(self) -> None:
        self.waiting += [(None, self._state), (None, self._strange)]
        self.rng.shuffle(self.waiting)
        while self.waiting:
            ready = [each for each in self.waiting if self._may_happen(each[0])]
            if ready:
                chosen = self.rng.choice(ready)
                self.waiting.remove(chosen)
                chosen[1]()
            self.check()
            await later(self.rng.choice((0.0, 0.003, 0.05, 0.5)))
            self.check()
            if self.rng.random() < 0.2:
                state = self.rig.journal.state
                assert differences(state, self.rig.copied.replayed()) == []

    def check(self) -> None:
        """Every order is as all that was delivered implies; and the sums are those of the fills."""
        for cloid, evidence in self.desk.evidence.items():
            order = self.rig.cache.order(cloid)
            if order is None or not evidence.sent:
                continue
            assert order.status is evidence.implied(order), evidence
            booked = [fill.trade_id for fill in evidence.fills.values()]
            assert order.trade_ids == frozenset(booked)
        check_sums(self.rig, self.desk)

    def answer(self, client_order_id: ClientOrderId) -> OrderReport:
        """What the venue says when asked: its last word, or an old one."""
        return self.rng.choice(self.says[client_order_id])

    def _may_happen(self, client_order_id: ClientOrderId | None) -> bool:
        return client_order_id is None or self.desk.evidence[client_order_id].sent

    def _submit(self, order: Order) -> None:
        assert self.rig.submit(order) == order.client_order_id

    def _cancel(self, client_order_id: ClientOrderId) -> None:
        if self.desk.evidence[client_order_id].story.cancels:
            self.rig.cancel(client_order_id)

    def _deliver(self, evidence: Evidence, report: OrderReport | Fill) -> None:
        if isinstance(report, Fill):
            evidence.book(report)
        else:
            note(evidence, report)
        self.rig.engine.on_report(report)

    def _state(self) -> None:
        """A statement: the orders in it rest, those that are not may be asked about."""
        listed = []
        for cloid, evidence in self.desk.evidence.items():
            if evidence.sent and evidence.story.seen and self.rng.random() < 0.5:
                report = self._report(self.rig.now(cloid), evidence, S.ACCEPTED)
                note(evidence, report)
                listed.append(report)
        self.rig.engine.on_report(statement(self.rig.clock.now_ns(), {BTC: Decimal(7)}, listed))

    def _strange(self) -> None:
        """Fills of no order of ours: from before the account was first stated, and from after."""
        early = fill("x1", "3", self.now_ns - 10**9, venue_order_id=VenueOrderId("x"))
        late = fill("x2", "5", self.now_ns + 10**9, venue_order_id=VenueOrderId("x"))
        for each in (early, late, early, late):
            self.rig.engine.on_report(each)
        self.desk.external = [late]

    def _reports(self, order: Order, evidence: Evidence) -> list[OrderReport]:
        story = evidence.story
        reports = [self._report(order, evidence, S.ACCEPTED)] if not story.immediate else []
        if (story.immediate and story.parts) or not story.rest:
            reports.append(self._report(order, evidence, S.FILLED))
        if story.end is not None and story.rest:
            reports.append(self._report(order, evidence, story.end))
        return reports

    def _report(self, order: Order, evidence: Evidence, status: OrderStatus) -> OrderReport:
        return self.rig.report_of(
            order,
            status,
            venue_order_id=evidence.venue_order_id,
            remaining=order.quantity - evidence.story.filled,
        )

    def _fills(self, order: Order, evidence: Evidence, number: int) -> list[Fill]:
        """Orders trade with each other: a trade has one id on both sides, and in another book."""
        twins = sum(
            1
            for other in self.desk.evidence.values()
            if (other.story.side, other.story.instrument_id) == (order.side, order.instrument_id)
        )
        return [
            self.rig.fill_of(
                order,
                f"{twins}-{part}",
                str(quantity),
                venue_order_id=evidence.venue_order_id,
                instrument_id=order.instrument_id,
                price=Decimal(90 + part) / 8,
                fee=Decimal(part - 1) / 1_000,
                fee_currency=("USDC", "HYPE")[part % 2],
                ts_event_ns=self.now_ns + part,
            )
            for part, quantity in enumerate(evidence.story.parts)
        ]


def check_sums(rig: Rig, desk: Desk) -> None:
    """Positions, fees and cash are the naive sums over distinct trades."""
    ours = [
        (evidence.story.strategy_id, each)
        for evidence in desk.evidence.values()
        for each in evidence.fills.values()
    ]
    every = [each for _, each in ours] + desk.external
    for instrument_id in INSTRUMENTS:
        mine = [each for each in every if each.instrument_id == instrument_id]
        held = rig.portfolio.position(ACCOUNT, instrument_id)
        assert held.quantity == sum(each.signed_quantity for each in mine)
        assert held.fees == sum(each.fee for each in mine if each.fee_currency == "USDC")
        cash = sum(-Fraction(each.signed_quantity) * Fraction(each.price) for each in mine)
        assert Fraction(held.realized_pnl) - Fraction(held.cost) == cash
        for strategy_id in STRATEGIES:
            part = rig.portfolio.strategy_position(strategy_id, instrument_id)
            assert part.quantity == sum(
                each.signed_quantity
                for name, each in ours
                if (name, each.instrument_id) == (strategy_id, instrument_id)
            )
    fees: Counter[str] = Counter()
    for each in every:
        fees[each.fee_currency] += each.fee  # type: ignore[assignment]
    assert dict(rig.portfolio.fees(ACCOUNT)) == dict(fees)


def check_end(rig: Rig, desk: Desk) -> None:
    """Nothing is in doubt that was answered; and who was given up on, and lives, had to go."""
    for cloid, evidence in desk.evidence.items():
        order = rig.now(cloid)
        if evidence.was_disproved:
            assert order.is_closed or evidence.story.end in (S.REJECTED, S.EXPIRED)
        if order.is_in_flight:
            assert not evidence.story.seen
    published = [event.fill.trade_id for _, event in rig.events if isinstance(event, OrderFilled)]
    booked = sum(len(evidence.fills) for evidence in desk.evidence.values()) + len(desk.external)
    assert len(published) == booked
    # Every fill is followed by the position it led to.
    assert rig.count(PositionChanged) >= booked


REQUESTS = (
    *("modify", "modify", "modify", "modify", "modify", "trade", "trade", "trade", "trade"),
    *("submit", "cancel", "withdraw", "hide", "state"),
)
LOSSES = (
    *("", "", "slow", "slow", "unanswered", "late", "refused"),
    *("lost", "expired", "lies", "not_sent"),
)
CLOSE = (0.0004, 0.003, 0.02, 0.3, 0.3, 1.0, 3.0, 9.0)
"""Pauses in which something is mostly under way."""


@settings(max_examples=50 * SCALE)
@given(
    seed=st.integers(0, 2**32),
    turns=st.lists(
        st.builds(Turn, st.sampled_from(REQUESTS), st.integers(0, 59), st.sampled_from(CLOSE)),
        min_size=12,
        max_size=40,
    ),
    plan=st.lists(st.sampled_from(LOSSES), min_size=3, max_size=25),
)
def test_cancels_and_replacements_end_as_the_venue_has_them(
    seed: int, turns: list[Turn], plan: list[str]
) -> None:
    run_virtual(seed, replace_and_cancel, seed, turns, plan)


async def replace_and_cancel(seed: int, turns: Sequence[Turn], plan: Sequence[str]) -> None:
    """Every private report comes late, repeatedly, and swapped with others."""
    rng = random.Random(seed)
    async with trio.open_nursery() as nursery:
        venue = open_venue(nursery, rng, longest_s=20)
        lives = EngineLives(venue=venue, rng=rng)
        begin = Turn("submit", 4, 1.5)
        await lives.live([begin, *turns], "kill", calm=True, plan=["", *plan], replays=True)
        assert lives.wrong + venue.wrong == []
        nursery.cancel_scope.cancel()
