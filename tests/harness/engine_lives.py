"""Lives of the execution engine over one disk and one venue: a test says what happens in them.

A life begins with recovery, goes through its turns, and ends in a crash (the page cache survives,
or the power goes) or a stop. Whatever happened, after some quiet the engine and the venue have to
agree: `check_agreement`. Used with virtual time only.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import trio
from attrs import define, field, frozen

from tests.harness.journal import durable_bytes, intent_prefix
from tests.harness.model_venue import Client, ModelEntry, ModelVenue
from tests.harness.order_watch import OrderWatch
from tests.service.execution_rig import ACCOUNT, BTC, ETH, RUN_ID, Rig, open_rig
from zq_daemon.engine.recovery import Recovered
from zq_daemon.errors import JournalError, LogError
from zq_daemon.journal.digest import differences
from zq_daemon.journal.opening import load_state
from zq_daemon.model.command import CancelAllOrders
from zq_daemon.model.event import OrderCanceled, OrderExpired
from zq_daemon.model.ids import ClientOrderId, StrategyId
from zq_daemon.model.market import Side
from zq_daemon.model.money import ZERO
from zq_daemon.model.order import OrderStatus, TimeInForce
from zq_daemon.ports.clock import VirtualClock
from zq_daemon.ports.disk import MemoryDisk
from zq_daemon.venue.interface import Request

INSTRUMENTS = (BTC, ETH)
STRATEGIES = (StrategyId("maker"), StrategyId("trend"))
PAUSES = (0.0, 0.0004, 0.001, 0.0015, 0.003, 0.02, 0.3, 2.0, 9.0, 30.0)
"""How long until the next turn: a sync of the disk takes 1 ms, a linger 20."""
QUIET_S = 400.0
"""All questions, validities and owed cancels are over by then."""
_MENDED_S = 7.0
TURNS = (
    *("submit", "submit", "submit", "cancel", "modify", "trade", "trade", "withdraw"),
    *("cancel_all", "hide", "fail", "mend", "unlink", "relink", "state", "look"),
)
ENDS = ("kill", "power", "cancel", "leave")


@frozen
class Turn:
    """One thing that happens; *number* says to which order, or how."""

    kind: str
    number: int
    pause_s: float


class Delays:
    """Between attempts of a recovery."""

    def next_delay_ms(self) -> int:
        return 1_000


@define(kw_only=True)
class EngineLives:
    """A disk and a venue, and the engines that live with them one after another."""

    venue: ModelVenue
    rng: random.Random
    validity_ms: int | None = 15_000
    disk: MemoryDisk = field(factory=lambda: MemoryDisk(sync_s=0.001))
    number: int = 0
    wrong: list[str] = field(factory=list)
    _watch: OrderWatch = field(init=False)

    async def live(
        self,
        turns: Sequence[Turn],
        end: str,
        *,
        calm: bool,
        plan: Sequence[str] = (),
        replays: bool = False,
    ) -> None:
        """One life; *plan* is what becomes of its requests, *calm*: it ends with some quiet."""
        self.number += 1
        client = self.venue.client = Client(number=self.number)
        self.venue.before_send = self._look_at_disk
        with trio.CancelScope() as scope:
            client.crash = lambda: self._crash(client, end, scope)
            try:
                async with self._open(client) as rig:
                    self._attend(rig, client)
                    await _recover(rig)
                    self.venue.plan.extend(plan)
                    await self._go_through(rig, turns, replays=replays)
                    if calm:
                        await self._be_quiet(rig)
                    if end in ("cancel", "leave"):
                        await self._stop(rig, cancel=end == "cancel")
                    self._crash(client, end, scope)
            except* (JournalError, LogError, OSError):
                # What a dead process writes fails; a living one must not.
                if client.alive:
                    raise
        # A venue that keeps its word never has to contradict an end.
        self.wrong += [*self._watch.wrong, *(f"{one} reopened" for one in self._watch.reopened)]
        self.venue.settle_down()

    def away(self, turns: Sequence[Turn]) -> None:
        """What the venue does while nobody is there."""
        for turn in turns:
            self._venue_turn(turn)
        self.venue.nursery.start_soon(self._mend)

    async def _mend(self) -> None:
        await trio.sleep(_MENDED_S)
        self.venue.failing = False

    def _open(self, client: Client) -> Any:
        return open_rig(
            disk=self.disk,
            entry=ModelEntry(self.venue, client, self.validity_ms),  # type: ignore[arg-type]
            queries=self.venue,  # type: ignore[arg-type]
            run_id=RUN_ID + self.number,
            stated=False,
        )

    def _attend(self, rig: Rig, client: Client) -> None:
        """From here on the engine hears of the venue, and everybody of the engine."""
        client.hear = rig.engine.on_report
        self._watch = OrderWatch(rig.cache, rig.portfolio)
        rig.bus.subscribe("*", self._watch)
        rig.bus.subscribe("order.*", self._look_at_end)

    def _look_at_end(self, event: Any) -> None:
        """No order ends for us while it rests at the venue."""
        if isinstance(event, OrderCanceled | OrderExpired) and self.venue.client.alive:
            order = self.venue.named.get(event.client_order_id)
            if order is not None and order.is_open:
                self.wrong.append(f"{event}: but it rests")
            if isinstance(event, OrderExpired):
                self.venue.given_up.add(event.client_order_id)

    async def _go_through(self, rig: Rig, turns: Sequence[Turn], *, replays: bool) -> None:
        for turn in turns:
            self._turn(rig, turn)
            await trio.sleep(turn.pause_s)
            self._watch.look()
            if replays:
                assert differences(rig.journal.state, rig.copied.replayed()) == []

    def _turn(self, rig: Rig, turn: Turn) -> None:
        match turn.kind:
            case "submit":
                self._submit(rig, turn.number)
            case "cancel" | "modify":
                known = sorted(each.client_order_id for each in rig.cache.orders_live())
                if known and turn.kind == "cancel":
                    rig.cancel(known[turn.number % len(known)])
                elif known:
                    self._modify(rig, known[turn.number % len(known)], turn.number)
            case "cancel_all":
                rig.bus.send("order.cancel_all", CancelAllOrders())
            case "unlink":
                rig.down.add(ACCOUNT)
                rig.engine.on_link_lost(ACCOUNT)
                self.venue.client.linked = False
            case "relink":
                rig.down.discard(ACCOUNT)
                self.venue.relink()
                rig.engine.on_link_up(ACCOUNT)
            case "state":
                rig.engine.on_report(self.venue.statement())
            case _:
                self._venue_turn(turn)

    def _submit(self, rig: Rig, number: int) -> None:
        side = list(Side)[number % 2]
        rig.submit(
            side=side,
            instrument_id=INSTRUMENTS[number // 2 % 2],
            strategy_id=STRATEGIES[number // 4 % 2],
            quantity=str(1 + number % 5),
            price=Decimal(90 + number % 7 + (20 if side is Side.SELL else 0)),
            time_in_force=TimeInForce.IOC if number % 7 == 6 else TimeInForce.GTC,
        )

    def _modify(self, rig: Rig, client_order_id: ClientOrderId, number: int) -> None:
        order = rig.now(client_order_id)
        price = None if number % 3 == 0 else Decimal(80 + number % 9)
        quantity = order.quantity + (-1, 0, 1, 2, 4)[number % 5]
        rig.modify(client_order_id, price=price, quantity=quantity)  # type: ignore[arg-type]

    def _venue_turn(self, turn: Turn) -> None:
        venue, number = self.venue, turn.number
        open_orders = venue.open_orders()
        order = open_orders[number % len(open_orders)] if open_orders else None
        match turn.kind:
            case "trade" if order is not None:
                most = order.remaining if number % 4 else max(order.remaining - 1, Decimal(1))
                venue.trade(order, min(most, Decimal(1 + number % 4)))
            case "withdraw" if order is not None and number % 3 == 0:
                venue.withdraw(order)
            case "hide" if order is not None:
                venue.hide(order.client_order_id, 1 + number % 2)
            case "fail":
                venue.failing = True
            case "mend":
                venue.failing = False
            case _:
                pass

    async def _be_quiet(self, rig: Rig) -> None:
        self.venue.settle_down()
        if ACCOUNT in rig.down:
            self._turn(rig, Turn("relink", 0, 0))
        await trio.sleep(QUIET_S)
        check_agreement(rig, self.venue, bounded=self.validity_ms is not None)
        await self._check_replay(rig)

    async def _check_replay(self, rig: Rig) -> None:
        """What is on the disk adds up to what the engine trades with."""
        assert differences(rig.journal.state, rig.copied.replayed()) == []
        await rig.journal.durable()
        replayed = await load_state(self.disk, closed_orders=10_000)
        if replayed.sequence == rig.journal.state.sequence:
            assert differences(rig.journal.state, replayed) == []

    async def _stop(self, rig: Rig, *, cancel: bool) -> None:
        """Zero unverified says that nothing rests; but of what the venue lied about."""
        lied = bool(self.venue.plan) or any(self.venue.hidden.values())
        rig.engine.close_gate("stopping")
        result = await rig.engine.settle_all(cancel=cancel, timeout_s=60)
        if cancel and not result.unverified and not lied and self.venue.client.linked:
            named = [order.client_order_id for order in self.venue.open_orders()]
            self.wrong += [f"{each} rests after a stop" for each in named if _is_known(rig, each)]
        await rig.journal.durable()

    def _crash(self, client: Client, end: str, scope: trio.CancelScope) -> None:
        if client.alive:
            client.alive = False
            if end == "power":
                self.disk.power_cut(self.rng)
            else:
                self.disk.kill()
            scope.cancel()

    def _look_at_disk(self, request: Request) -> None:
        """At the moment of sending, what a power cut would leave has the intent."""
        durable = durable_bytes(self.disk)
        self.wrong += [
            f"the {request.kind} of {each} left before its intent was durable"
            for each in request.client_order_ids
            if intent_prefix(each, nonce=request.nonce) not in durable
        ]


def check_agreement(rig: Rig, venue: ModelVenue, *, bounded: bool) -> None:
    """The engine has the orders, fills and positions of the venue, and nothing is in doubt."""
    never_there = {
        order.client_order_id
        for order in rig.cache.orders_live()
        if order.client_order_id not in venue.named
    }
    # Without a validity there is no moment from which on silence proves anything.
    assert not (bounded and never_there)
    ours = {
        order.client_order_id: (order.venue_order_id, order.price, order.remaining_quantity)
        for order in rig.cache.orders_live()
        if order.client_order_id not in never_there
    }
    theirs = {
        order.client_order_id: (order.venue_order_id, order.price, order.remaining)
        for order in venue.open_orders()
    }
    assert ours == theirs
    in_flight = {order.client_order_id for order in rig.cache.orders_in_flight()}
    assert in_flight == never_there
    stats = rig.engine.stats()
    assert (stats["in_flight"], stats["owed_cancels"]) == (
        len(never_there),
        len(never_there & _owed(rig)),
    )
    assert stats["external_orders"] == stats["position_differences"] == {}
    for client_order_id in venue.named:
        _check_order(rig, venue, client_order_id)
    _check_positions(rig, venue)


def _check_order(rig: Rig, venue: ModelVenue, client_order_id: ClientOrderId) -> None:
    """Its status, terms and fills are what the venue's orders of that name add up to."""
    order = rig.now(client_order_id)
    chain = venue.lives_of(client_order_id)
    last = chain[-1]
    filled = sum((each.filled for each in chain), ZERO)
    assert order.filled_quantity == filled
    assert {
        str(each.trade_id) for each in venue.fills if each.client_order_id == client_order_id
    } == {str(each) for each in order.trade_ids}
    if last.is_open:
        wanted = OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.ACCEPTED
        assert order.status is wanted
        assert order.quantity == sum((each.filled for each in chain[:-1]), last.size)
    else:
        assert order.is_closed
        is_filled = order.status is OrderStatus.FILLED
        assert is_filled is (filled >= order.quantity)
    assert order.pending is None


def _check_positions(rig: Rig, venue: ModelVenue) -> None:
    """Positions, fees and cash are those of the fills, exactly."""
    for instrument_id in INSTRUMENTS:
        held = rig.portfolio.position(ACCOUNT, instrument_id)
        assert held.quantity == venue.position(instrument_id, None)
        cash = sum(
            -Fraction(fill.signed_quantity) * Fraction(fill.price)
            for fill in venue.fills
            if fill.instrument_id == instrument_id
        )
        assert Fraction(held.realized_pnl) - Fraction(held.cost) == cash
        for strategy_id in STRATEGIES:
            part = rig.portfolio.strategy_position(strategy_id, instrument_id).quantity
            assert part == venue.position(instrument_id, strategy_id)
    fees = sum((fill.fee for fill in venue.fills), ZERO)
    assert rig.portfolio.fees(ACCOUNT).get("USDC", ZERO) == fees


async def _recover(rig: Rig) -> None:
    recovered: Recovered = await rig.engine.recover(Delays())
    assert recovered.adjusted == ()
    assert recovered.complete


def report_delays(rng: random.Random, longest_s: float) -> Callable[[], Sequence[float]]:
    """Private reports come once or more often, at once or late, and so in any order."""

    def draw() -> Sequence[float]:
        often = 1 + (rng.random() < 0.3) + (rng.random() < 0.1)
        late_s = longest_s * rng.random() ** 2
        return [rng.choice((0.0, 0.01, 0.5, 2.0, late_s)) for _ in range(often)]

    return draw


def open_venue(nursery: trio.Nursery, rng: random.Random, *, longest_s: float) -> ModelVenue:
    """A venue on virtual time whose private reports are late by up to *longest_s*."""
    return ModelVenue(
        account_id=ACCOUNT,
        clock=VirtualClock(),
        nursery=nursery,
        delays=report_delays(rng, longest_s),
        latency_s=rng.choice((0.001, 0.05, 1.0)),
    )


def _owed(rig: Rig) -> set[ClientOrderId]:
    return set(rig.engine._owed._delays)


def _is_known(rig: Rig, client_order_id: ClientOrderId) -> bool:
    return rig.cache.order(client_order_id) is not None
