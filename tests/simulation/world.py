"""What outlives every daemon of a simulation: the exchange, the network, the disk, and the record.

The record is what the checkers look at: requests that arrived and what was wrong with them, events
of all lives, faults that took place and what orders were like then. Nothing in here decides what is
to happen: `faults` does that to a world, `lives` puts daemons into it.
"""

from __future__ import annotations

import random
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import trio
from attrs import Factory, define, field, frozen

from tests.harness.determinism import EventDigest
from tests.harness.machine import Machine, WatchedDisk
from tests.harness.order_watch import OrderWatch
from tests.simulation import strategies
from tests.simulation.books import ToldBooks
from tests.simulation.market import SimMarket
from tests.simulation.network import SimNetwork
from tests.simulation.plan import Plan
from zq_daemon.core.cache import Cache
from zq_daemon.daemon import Daemon
from zq_daemon.journal import codec
from zq_daemon.model.event import (
    HealthChanged,
    OrderAccepted,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderHeld,
    OrderInitialized,
    OrderRejected,
    OrderReopened,
)
from zq_daemon.model.ids import ClientOrderId, InstrumentId
from zq_daemon.model.market import BookSnapshot
from zq_daemon.model.order import Order, OrderStatus
from zq_daemon.ports.clock import NS_PER_MS, VirtualClock
from zq_daemon.venue.exchange.exchange import Exchange
from zq_daemon.venue.exchange.server import run_market, serve_exchange
from zq_daemon.venue.hyperliquid.sign import AgentKey, action_hash, sign_l1_action

HOST, PORT = "exchange", 80
KEY = bytes(range(1, 33))
HAND = bytes(range(2, 34))
"""The owner's own key: signs beside the daemon's."""
ADDRESS = AgentKey(KEY).address
BOOK_INTERVAL_MS = 2_000
"""Longer than the venue's: most of what a run costs would be books."""
_CONCLUDED = (OrderStatus.REJECTED, OrderStatus.EXPIRED)
_PROOF = (OrderAccepted, OrderFilled, OrderHeld)
_MOST_WRONG = 50
_MOST_TOLD = 200_000


class SimClock(VirtualClock):
    """A wall clock that can be set to another time; all lives of the daemon have the same."""

    def __init__(self) -> None:
        super().__init__()
        self.offset_ns = 0

    def now_ns(self) -> int:
        return super().now_ns() + self.offset_ns


class SimNotify:
    """A service manager that expects to hear of a daemon, and only if its trading loop turns."""

    watchdog_us = 20_000_000
    lost = 0
    oddities = ()

    def __init__(self, world: World) -> None:
        self._world = world
        self._turns = 0

    def send(self, assignments: Mapping[str, str]) -> bool:
        """A message; one that feeds the watchdog has to be earned."""
        turns = self._world.events["Probe"]
        if "WATCHDOG" in assignments and turns == self._turns:
            self._world.complain("the watchdog was fed, and the trading loop had not turned")
        self._turns = turns
        return True


@frozen
class Told:
    """Something that happened: when, in which life, about which order (or none)."""

    at_s: float
    life: int
    order: str
    what: object


@define(eq=False, kw_only=True)
class World:
    """See the module."""

    plan: Plan
    folder: Path
    floor: trio.Nursery
    digests: bool = False
    began_s: float = Factory(trio.current_time)
    exchange_clock: VirtualClock = Factory(VirtualClock)
    clock: SimClock = Factory(SimClock)
    network: SimNetwork = Factory(SimNetwork)
    disk: WatchedDisk = field(init=False)
    exchange: Exchange = field(init=False)
    machine: Machine | None = None
    body: trio.CancelScope = Factory(trio.CancelScope)
    daemon: Daemon | None = None
    life: int = 0
    is_healed: bool = False
    settled: bool = False
    ended_s: float = 0.0
    next_death_s: float | None = None
    disk_failed: bool = False
    placed: Counter[str] = Factory(Counter)
    injected: Counter[str] = Factory(Counter)
    coverage: Counter[tuple[str, str]] = Factory(Counter)
    events: Counter[str] = Factory(Counter)
    filled: dict[str, Decimal] = Factory(dict)
    filled_s: float = 0.0
    ends: Counter[str] = Factory(Counter)
    digest: EventDigest = Factory(EventDigest)
    wrong: list[str] = Factory(list)
    told: list[Told] = Factory(list)
    run_ids: list[int] = Factory(list)
    gate_is_closed: bool = False
    told_books: ToldBooks = Factory(ToldBooks)
    on_request: Callable[[], bool] = lambda: True
    _now_s: float = 0.0
    _nonces: dict[int, int] = Factory(dict)
    _hand_nonce: int = 0
    _too_late: set[str] = Factory(set)

    def __attrs_post_init__(self) -> None:
        self.disk = WatchedDisk(sync_s=self.plan.sync_s)
        market = SimMarket(self.plan.seed)
        self.exchange = Exchange(self.exchange_clock, market, book_interval_ms=BOOK_INTERVAL_MS)
        self.exchange.open_account(ADDRESS)
        self.exchange.approve_agent(AgentKey(HAND).address, ADDRESS)
        exchange: Any = self.exchange
        take = exchange.post_action

        def post_action(request: Any, answer: Callable[[Any], None], place: str = "") -> None:
            self._look_at(request)
            if self.on_request():
                take(request, answer, place)

        exchange.post_action = post_action
        self._listen_to_publisher()
        strategies.heard_late.clear()

    def _listen_to_publisher(self) -> None:
        publisher: Any = self.exchange.publisher
        make, tell = publisher.book, publisher.filled

        def book(coin: str, *terms: Any) -> Any:
            made = make(coin, *terms)
            self.told_books.add(made)
            return made

        def filled(account: Any, fill: Any) -> None:
            self.filled[fill.cloid] = self.filled.get(fill.cloid, Decimal(0)) + fill.size
            self.filled_s = self.now_s
            tell(account, fill)

        publisher.book, publisher.filled = book, filled

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Run the exchange until cancelled."""
        listeners = await self.network.listen(HOST, PORT)
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve_exchange, listeners, self.exchange))
            await nursery.start(partial(run_market, self.exchange, self.exchange_clock))
            task_status.started()

    @property
    def now_s(self) -> float:
        """Virtual seconds since the world began; when it is over, as far as it got."""
        with suppress(RuntimeError):
            self._now_s = trio.current_time() - self.began_s
        return self._now_s

    def info(self, kind: str, **fields: Any) -> Any:
        """What the exchange answers about the account."""
        return self.exchange.info({"type": kind, "user": ADDRESS, **fields})

    @property
    def was_withheld(self) -> bool:
        """Whether fills were not to be had for a while."""
        return self.injected["withhold_fills"] > 0

    def complain(self, problem: str) -> None:
        """Something is wrong; the first few are kept."""
        if len(self.wrong) < _MOST_WRONG:
            self.wrong.append(f"{self.now_s:.3f} s, life {self.life}: {problem}")

    def note(self, what: object, order: str = "") -> None:
        """Keep for the timeline that something happened."""
        if len(self.told) < _MOST_TOLD:
            self.told.append(Told(round(self.now_s, 4), self.life, order, what))

    def attend(self, daemon: Daemon, machine: Machine) -> None:
        """Watch all events of a life, as long as it lasts."""
        self.daemon = daemon
        if daemon.run_id in self.run_ids:
            self.complain(f"run id {daemon.run_id} is used again")
        self.run_ids.append(daemon.run_id)
        never_there = {
            order.client_order_id
            for order in daemon.parts.cache.orders_closed()
            if order.status in _CONCLUDED
        }
        parts = daemon.parts
        watch = OrderWatch(parts.cache, parts.portfolio, thorough=False)

        def hear(event: object) -> None:
            if not machine.is_alive:
                return
            self.events[type(event).__name__] += 1
            if self.digests:
                self.digest.add(event)
            if isinstance(event, HealthChanged) and not event.healthy:
                self._hear_alarm(event)
            if isinstance(event, BookSnapshot):
                self._check_book(event.instrument_id, parts.cache)
            if isinstance(event, OrderEvent):
                self.note(event, event.client_order_id)
                if isinstance(event, OrderInitialized) and self.gate_is_closed:
                    self._too_late.add(event.client_order_id)
                if isinstance(event, OrderRejected | OrderExpired):
                    never_there.add(event.client_order_id)
                risen = isinstance(event, _PROOF) and event.client_order_id in never_there
                if risen or isinstance(event, OrderReopened):
                    self.complain(f"an end was taken back, which nothing had proved: {event}")
                if isinstance(event, OrderFilled):
                    self.check_filled(parts.cache.order(event.client_order_id))
                watch(event)
                for problem in watch.wrong:
                    self.complain(problem)
                watch.wrong.clear()

        parts.bus.subscribe("*", hear)

    def check_filled(self, order: Order | None) -> None:
        """No more of *order* is filled for us than at the exchange, under all ids it had there."""
        if order is None:
            return
        there = self.filled.get(order.client_order_id, Decimal(0))
        if order.filled_quantity > there:
            self.complain(f"filled by {there} at the exchange, and by more here: {order}")

    def _check_book(self, instrument_id: InstrumentId, cache: Cache) -> None:
        coin, book = instrument_id.partition(".")[2], cache.book(instrument_id)
        for problem in ["no book"] if book is None else self.told_books.check(coin, book):
            self.complain(problem)

    def _hear_alarm(self, event: HealthChanged) -> None:
        """Nobody else trades the account, and the exchange has every fill."""
        told = event.component.partition(":")[0]
        if told in ("positions", "fills") and not self.was_withheld:
            self.complain(f"a false alarm: {event}")

    def hear_strategies(self) -> None:
        """What they were told when they had been stopped."""
        for problem in strategies.heard_late:
            self.complain(problem)
        strategies.heard_late.clear()

    def states(self) -> set[str]:
        """The states of the orders of now, to know what a fault has met."""
        daemon = self.daemon
        if daemon is None or daemon.made is None:
            return {"no daemon"}
        live = tuple(daemon.parts.cache.orders_live())
        return {_state(order) for order in live} or {"no orders"}

    def rng(self, *purpose: object) -> random.Random:
        """A generator for one purpose: what others draw, or do not, makes no difference to it."""
        return random.Random(f"{self.plan.seed} {purpose}")

    def cancel_by_hand(self, count: int, rng: random.Random) -> None:
        """The owner cancels some of the orders with another key."""
        resting = self.info("openOrders")
        for row in rng.sample(resting, min(count, len(resting))):
            asset = 0 if row["coin"] == "BTC" else 1
            action = {"type": "cancel", "cancels": [{"a": asset, "o": row["oid"]}]}
            self._hand_nonce = max(self._hand_nonce + 1, self.exchange.now_ns() // NS_PER_MS)
            signature = sign_l1_action(
                AgentKey(HAND), action_hash(action, self._hand_nonce, None, None), "mainnet"
            )
            request = {
                "action": action,
                "nonce": self._hand_nonce,
                "signature": signature.to_wire(),
            }
            self.note("cancelled by hand", row.get("cloid", ""))
            self.exchange.action(request)

    def _look_at(self, request: Mapping[str, Any]) -> None:
        """A request is here: its orders are new, their intents durable, its nonce unused."""
        action, nonce = request["action"], request["nonce"]
        cloids = [ClientOrderId(each) for each in _cloids(action)]
        former = max((each for each, life in self._nonces.items() if life < self.life), default=0)
        if nonce in self._nonces or nonce <= former:
            self.complain(f"nonce {nonce} is not new: life {self._nonces.get(nonce)}, {former}")
        self._nonces[nonce] = self.life
        for cloid in cloids:
            self.note(f"{action['type']} arrives, nonce {nonce}", cloid)
            intent = bytes((codec.INTENT, 0)) + codec.order_key(cloid) + nonce.to_bytes(8, "big")
            if not any(intent in synced for synced in self.disk.synced):
                self.complain(f"order {cloid} was sent before its intent was durable")
        for cloid in cloids if action["type"] == "order" else ():
            self.placed[cloid] += 1
            if self.placed[cloid] > 1:
                self.complain(f"order {cloid} is submitted for the {self.placed[cloid]}. time")
            if cloid in self._too_late:
                self.complain(f"order {cloid} was asked for when the gate was closed, and leaves")


def described(error: BaseException) -> str:
    """What *error* is and where it comes from, in a line."""
    places = traceback.extract_tb(error.__traceback__)
    where = f" ({places[-1].filename}, line {places[-1].lineno})" if places else ""
    return f"{type(error).__name__}: {error}{where}"


def _state(order: Order) -> str:
    return order.status.value if order.pending is None else f"pending {order.pending.value}"


def _cloids(action: Mapping[str, Any]) -> list[str]:
    match action["type"]:
        case "order":
            return [each["c"] for each in action["orders"]]
        case "cancelByCloid":
            return [each["cloid"] for each in action["cancels"]]
        case "batchModify":
            return [each["order"]["c"] for each in action["modifies"]]
        case _:
            return []
