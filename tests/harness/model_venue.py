"""A small venue that keeps its word, and a line to it that does not.

Owns a book of orders by client order id, their fills, and a list of everything that was sent to
it, over all lives of whoever trades there. Orders rest until the test fills or withdraws them; a
modification cancels and replaces under the same client order id. What goes wrong on the way
(requests and answers lost or late, an index that lags, repeated reports) is planned by the test.
What the venue must never see is noted in `wrong`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from decimal import Decimal

import trio
from attrs import Factory, define, field, frozen

from tests.harness.unasked_entry import UnaskedEntry
from zq_daemon.errors import LinkError
from zq_daemon.model.account import Account
from zq_daemon.model.fill import Fill, Liquidity
from zq_daemon.model.ids import (
    AccountId,
    ClientOrderId,
    InstrumentId,
    StrategyId,
    TradeId,
    VenueOrderId,
)
from zq_daemon.model.market import Side
from zq_daemon.model.money import ZERO
from zq_daemon.model.order import Order, OrderStatus, TimeInForce
from zq_daemon.model.report import AccountReport, FillHistory, OrderReport, PositionReport, Report
from zq_daemon.ports.clock import NS_PER_MS, NS_PER_S, VirtualClock
from zq_daemon.venue.interface import (
    MISSING_ORDER,
    Acknowledged,
    Ambiguous,
    Executed,
    Modification,
    NotSent,
    Outcome,
    Refused,
    Request,
)

TIMEOUT_S = 10.0
"""How long a sender waits for an answer."""
FAULTS = (
    *("lost", "unanswered", "slow", "late", "expired", "refused", "lies", "not_sent"),
    *("crash", "crash_after"),
)
"""What may become of a request: see `ModelVenue.carry`."""


@frozen(kw_only=True)
class Wanted:
    """What a request asks for about one order."""

    order: Order
    price: Decimal
    size: Decimal


@define(kw_only=True, eq=False)
class VenueOrder:
    """One order of the venue's own: a client order id has a new one after each modification."""

    venue_order_id: VenueOrderId
    client_order_id: ClientOrderId
    strategy_id: StrategyId
    instrument_id: InstrumentId
    side: Side
    price: Decimal
    size: Decimal
    time_in_force: TimeInForce
    filled: Decimal = ZERO
    status: OrderStatus = OrderStatus.ACCEPTED
    changed_ns: int = 0

    @property
    def is_open(self) -> bool:
        return self.status is OrderStatus.ACCEPTED

    @property
    def remaining(self) -> Decimal:
        return self.size - self.filled


@define(eq=False)
class Client:
    """One life of the daemon, as the venue sees it: gone when it is not *alive* any more."""

    hear: Callable[[Report], None] | None = None
    crash: Callable[[], None] = lambda: None
    alive: bool = True
    linked: bool = True
    number: int = 1


@define(eq=False)
class ModelVenue:
    """The venue; *nursery* outlives every client, as what is on the wire does.

    *plan* is what becomes of the next requests (nothing goes wrong when it is empty), *delays* says
    when a private report arrives, once for each time it does; *hidden* how often an order is not
    found although it is there. Orders that were *given_up* must not arrive any more.
    """

    account_id: AccountId
    clock: VirtualClock
    nursery: trio.Nursery
    client: Client = Factory(Client)
    plan: deque[str] = Factory(deque)
    delays: Callable[[], Sequence[float]] = lambda: (0.01,)
    latency_s: float = 0.01
    failing: bool = False
    hidden: Counter[ClientOrderId] = Factory(Counter)
    orders: dict[VenueOrderId, VenueOrder] = Factory(dict)
    named: dict[ClientOrderId, VenueOrder] = Factory(dict)
    fills: list[Fill] = Factory(list)
    sent: list[tuple[int, Request]] = Factory(list)
    before_send: Callable[[Request], None] = lambda _: None
    wrong: list[str] = Factory(list)
    given_up: set[ClientOrderId] = Factory(set)
    unlisted: set[ClientOrderId] = field(init=False, factory=set)

    def open_orders(self) -> list[VenueOrder]:
        return [order for order in self.orders.values() if order.is_open]

    def lives_of(self, client_order_id: ClientOrderId) -> list[VenueOrder]:
        """All orders that had the client order id, oldest first."""
        return [each for each in self.orders.values() if each.client_order_id == client_order_id]

    def position(self, instrument_id: InstrumentId, strategy_id: StrategyId | None) -> Decimal:
        """The sum of the fills, of one strategy's orders or of all."""
        return sum(
            (
                fill.signed_quantity
                for fill in self.fills
                if fill.instrument_id == instrument_id
                and strategy_id in (None, self.orders[fill.venue_order_id].strategy_id)
            ),
            ZERO,
        )

    def trade(self, order: VenueOrder, quantity: Decimal) -> None:
        """Somebody takes *quantity* of a resting order."""
        self._fill(order, quantity, Liquidity.MAKER)
        if not order.remaining:
            self._end(order, OrderStatus.FILLED)

    def withdraw(self, order: VenueOrder) -> None:
        """The venue cancels an order of its own accord."""
        self._end(order, OrderStatus.CANCELED)

    def hide(self, client_order_id: ClientOrderId, times: int) -> None:
        """Let an order not be found, by status and then in the list, as often; once for each."""
        if client_order_id not in self.hidden:
            self.hidden[client_order_id] = times

    def settle_down(self) -> None:
        """Nothing goes wrong any more."""
        self.plan.clear()
        self.failing = False
        self.unlisted.clear()
        for each in self.hidden:
            self.hidden[each] = 0

    def relink(self) -> None:
        """The client's private link is up again: it is told all fills, and how the account is."""
        self.client.linked = True
        for fill in self.fills:
            self._tell(fill)
        # A statement is asked for: it takes its way, and comes once.
        self.nursery.start_soon(self._deliver, self.client, self.statement(), self.latency_s)

    def received(self, client: Client, request: Request) -> None:
        """Something was sent: note it, and what must not be."""
        before = [each.nonce for number, each in self.sent if number < client.number]
        same = [each.nonce for number, each in self.sent if number == client.number]
        if request.nonce <= max(before, default=0) or request.nonce in same:
            self.wrong.append(
                f"nonce {request.nonce} of life {client.number} is not above {before}"
            )
        if request.kind == "submit":
            known = {
                each
                for _, one in self.sent
                if one.kind == "submit"
                for each in one.client_order_ids
            }
            again = known & set(request.client_order_ids)
            self.wrong += [f"{each} is sent again in life {client.number}" for each in again]
        self.sent.append((client.number, request))
        self.before_send(request)

    async def carry(
        self, client: Client, request: Request, wanted: Sequence[Wanted]
    ) -> Sequence[Outcome]:
        """Take a request to the venue and its answer back, as the plan has it."""
        fault = self.plan.popleft() if self.plan else ""
        if fault == "not_sent" or not client.linked:
            return [NotSent(detail="no connection")] * len(wanted)
        self.received(client, request)
        match fault:
            case "lost":
                return await self._no_answer(len(wanted))
            case "late" | "expired":
                # As late as can be, or too late.
                delay_s = self._validity_s(request) * (0.9 if fault == "late" else 1.1)
                self.nursery.start_soon(self._execute_in, delay_s, request, wanted)
                return await self._no_answer(len(wanted))
            case "unanswered":
                self._execute(request, wanted)
                return await self._no_answer(len(wanted))
            case "refused":
                await trio.sleep(self.latency_s)
                return [Refused(code="other", text="no")] * len(wanted)
            case "lies":
                outcomes = self._execute(request, wanted)
                await trio.sleep(self.latency_s)
                if request.kind != "submit":
                    return outcomes
                return [Refused(code="other", text="no")] * len(wanted)
            case "crash" | "crash_after":
                if fault == "crash_after":
                    self._execute(request, wanted)
                client.crash()
                return await self._no_answer(len(wanted))
            case _:
                await trio.sleep(3 if fault == "slow" else 0)
                outcomes = self._execute(request, wanted)
                await trio.sleep(3 if fault == "slow" else self.latency_s)
                return outcomes

    async def query_order(
        self, client_order_id: ClientOrderId, venue_order_id: VenueOrderId | None = None
    ) -> OrderReport | None:
        order = self.named.get(client_order_id)
        answer = None if order is None else self.report(order)
        if self.hidden[client_order_id] > 0:
            self.hidden[client_order_id] -= 1
            self.unlisted.add(client_order_id)
            answer = None
        await self._answered()
        return answer

    async def load_fills(self, since_ns: int) -> FillHistory:
        since_ns -= since_ns % NS_PER_MS
        fills = tuple(each for each in self.fills if each.ts_event_ns >= since_ns)
        await self._answered()
        return FillHistory(fills=fills, complete=True)

    async def load_account(self) -> AccountReport:
        statement = self.statement(without=self.unlisted)
        self.unlisted = set()
        await self._answered()
        return statement

    def statement(self, *, without: set[ClientOrderId] | None = None) -> AccountReport:
        """The account as it is now; an index that lags has some orders not."""
        now_ns = self._now_ns()
        traded = dict.fromkeys(fill.instrument_id for fill in self.fills)
        held = {each: self.position(each, None) for each in traded}
        return AccountReport(
            account=Account(
                account_id=self.account_id,
                balances=(),
                equity=Decimal(100_000),
                margin_used=ZERO,
                ts_event_ns=now_ns,
                ts_recv_ns=now_ns,
            ),
            positions=tuple(
                PositionReport(
                    account_id=self.account_id,
                    instrument_id=each,
                    quantity=quantity,
                    average_entry_price=Decimal(100),
                    ts_event_ns=now_ns,
                    ts_recv_ns=now_ns,
                )
                for each, quantity in held.items()
                if quantity
            ),
            open_orders=tuple(
                self.report(order)
                for order in self.open_orders()
                if order.client_order_id not in (without or ())
            ),
        )

    def report(self, order: VenueOrder) -> OrderReport:
        """What the venue says of an order now."""
        return OrderReport(
            account_id=self.account_id,
            instrument_id=order.instrument_id,
            client_order_id=order.client_order_id,
            venue_order_id=order.venue_order_id,
            side=order.side,
            price=order.price,
            quantity=order.size,
            remaining=order.remaining,
            status=order.status,
            reason=order.status.value,
            ts_event_ns=order.changed_ns,
            ts_recv_ns=self.clock.now_ns(),
            time_in_force=order.time_in_force,
            post_only=False,
            reduce_only=False,
            is_trigger=False,
        )

    async def _answered(self) -> None:
        failing = self.failing
        await trio.sleep(self.latency_s)
        if failing:
            raise LinkError("the venue does not answer")

    async def _no_answer(self, count: int) -> Sequence[Outcome]:
        await trio.sleep(TIMEOUT_S)
        return [Ambiguous(detail="no answer")] * count

    def _validity_s(self, request: Request) -> float:
        if request.expires_ns is None:
            return 15
        return max(request.expires_ns - self.clock.now_ns(), 0) / NS_PER_S

    async def _execute_in(self, delay_s: float, request: Request, wanted: Sequence[Wanted]) -> None:
        await trio.sleep(delay_s)
        self._execute(request, wanted)

    def _execute(self, request: Request, wanted: Sequence[Wanted]) -> Sequence[Outcome]:
        if request.expires_ns is not None and self.clock.now_ns() > request.expires_ns:
            return [Refused(code="expired", text="expired")] * len(wanted)
        action = {"submit": self._place, "cancel": self._cancel, "modify": self._modify}
        return [action[request.kind](each) for each in wanted]

    def _place(self, wanted: Wanted) -> Outcome:
        if wanted.order.client_order_id in self.named:
            return Refused(code="other", text="duplicate client order id")
        order = self._open(wanted)
        if order.client_order_id in self.given_up:
            self.wrong.append(f"{order.client_order_id} arrives, and was said to have expired")
        if order.time_in_force is not TimeInForce.IOC:
            return Acknowledged(venue_order_id=order.venue_order_id)
        # How much an immediate order finds is as odd as its number.
        found = min(order.size, Decimal(len(self.orders) % 3))
        if not found:
            self._end(order, OrderStatus.REJECTED)
            return Refused(code="ioc_unmatched", text="could not match")
        self._fill(order, found, Liquidity.TAKER)
        self._end(order, OrderStatus.CANCELED if order.remaining else OrderStatus.FILLED)
        return Executed(
            venue_order_id=order.venue_order_id, quantity=found, average_price=order.price
        )

    def _cancel(self, wanted: Wanted) -> Outcome:
        order = self.named.get(wanted.order.client_order_id)
        if order is None or not order.is_open:
            return Refused(code=MISSING_ORDER, text="never placed, already canceled, or filled")
        self._end(order, OrderStatus.CANCELED)
        return Acknowledged(venue_order_id=None)

    def _modify(self, wanted: Wanted) -> Outcome:
        old = self.named.get(wanted.order.client_order_id)
        if old is None or not old.is_open:
            return Refused(code=MISSING_ORDER, text="cannot modify")
        self._end(old, OrderStatus.CANCELED)
        return Acknowledged(venue_order_id=self._open(wanted).venue_order_id)

    def _open(self, wanted: Wanted) -> VenueOrder:
        asked = wanted.order
        order = VenueOrder(
            venue_order_id=VenueOrderId(f"v{len(self.orders) + 1}"),
            client_order_id=asked.client_order_id,
            strategy_id=asked.strategy_id,
            instrument_id=asked.instrument_id,
            side=asked.side,
            price=wanted.price,
            size=wanted.size,
            time_in_force=asked.time_in_force,
            changed_ns=self._now_ns(),
        )
        self.orders[order.venue_order_id] = self.named[order.client_order_id] = order
        if order.time_in_force is not TimeInForce.IOC:
            self._tell(self.report(order))
        return order

    def _fill(self, order: VenueOrder, quantity: Decimal, liquidity: Liquidity) -> None:
        order.filled += quantity
        order.changed_ns = self._now_ns()
        fill = Fill(
            trade_id=TradeId(f"t{len(self.fills) + 1}"),
            client_order_id=order.client_order_id,
            venue_order_id=order.venue_order_id,
            account_id=self.account_id,
            instrument_id=order.instrument_id,
            side=order.side,
            price=order.price,
            quantity=quantity,
            fee=quantity * order.price / 1_000,
            fee_currency="USDC",
            liquidity=liquidity,
            ts_event_ns=self._now_ns(),
            ts_recv_ns=self.clock.now_ns(),
        )
        self.fills.append(fill)
        self._tell(fill)

    def _end(self, order: VenueOrder, status: OrderStatus) -> None:
        order.status = status
        order.changed_ns = self._now_ns()
        self._tell(self.report(order))

    def _tell(self, report: Report) -> None:
        """The private stream: to who is connected now, or to nobody."""
        if self.client.alive and self.client.linked:
            for delay_s in self.delays():
                self.nursery.start_soon(self._deliver, self.client, report, delay_s)

    async def _deliver(self, client: Client, report: Report, delay_s: float) -> None:
        await trio.sleep(delay_s)
        if client.alive and client.linked and client.hear is not None:
            client.hear(report)

    def _now_ns(self) -> int:
        """The venue's clock ticks in milliseconds."""
        now_ns = self.clock.now_ns()
        return now_ns - now_ns % NS_PER_MS


class ModelEntry(UnaskedEntry):
    """Order entry of one life; its nonces are a plain count, which only `resume` lets go on."""

    def __init__(self, venue: ModelVenue, client: Client, validity_ms: int | None) -> None:
        self._venue = venue
        self._client = client
        self._validity_ms = validity_ms
        self._nonce = 1_000
        self._wanted: dict[int, Sequence[Wanted]] = {}

    def resume(self, last_nonce: int) -> None:
        self._nonce = max(self._nonce, last_nonce)

    def prepare_submit(
        self, orders: Sequence[Order], *, protects_position: bool = False
    ) -> Request:
        return self._request("submit", [_wanted(order) for order in orders])

    def prepare_cancel(self, orders: Sequence[Order]) -> Request:
        return self._request("cancel", [_wanted(order) for order in orders])

    def prepare_modify(self, changes: Sequence[Modification]) -> Request:
        wanted = []
        for each in changes:
            size = each.quantity - each.order.filled_quantity
            if size <= 0:
                raise ValueError(f"{size} is not a size")
            wanted.append(Wanted(order=each.order, price=each.price, size=size))
        return self._request("modify", wanted)

    async def send(self, request: Request) -> Sequence[Outcome]:
        if not self._client.alive:
            await trio.sleep_forever()
        return await self._venue.carry(self._client, request, self._wanted.pop(request.nonce))

    def _request(self, kind: str, wanted: Sequence[Wanted]) -> Request:
        self._nonce += 1
        self._wanted[self._nonce] = wanted
        expires_ns = None
        if self._validity_ms is not None:
            expires_ns = self._venue.clock.now_ns() + self._validity_ms * NS_PER_MS
        return Request(
            kind=kind,
            client_order_ids=tuple(each.order.client_order_id for each in wanted),
            nonce=self._nonce,
            expires_ns=expires_ns,
            action_hash=self._nonce.to_bytes(32, "big"),
            payload=b"signed",
        )


def _wanted(order: Order) -> Wanted:
    assert order.price is not None
    return Wanted(order=order, price=order.price, size=order.quantity)
