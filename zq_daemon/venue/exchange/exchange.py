"""The embedded exchange itself, synchronous: queries, actions, subscriptions, and time.

Owns the composition of market, accounts and feeds. Never does I/O: `server` carries the bytes, and
`server.run_market` calls `step`. It speaks Hyperliquid's protocol as far as this project trades.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import trio
from attrs import frozen

from zq_daemon.core.matching import MatchEvent
from zq_daemon.ports.clock import NS_PER_MS, Clock
from zq_daemon.venue.exchange import info
from zq_daemon.venue.exchange.account import Account, UserFill
from zq_daemon.venue.exchange.actions import (
    Action,
    Cancel,
    CancelByCloid,
    assets_of,
    parse_action,
)
from zq_daemon.venue.exchange.agents import Ties, Ward
from zq_daemon.venue.exchange.envelope import AcceptedNetwork, ActionError, Gate, read_envelope
from zq_daemon.venue.exchange.faults import Faults, Misbehaviour
from zq_daemon.venue.exchange.feeds import USER_STREAMS, Connection, Feeds, encode
from zq_daemon.venue.exchange.funding import HOUR_MS
from zq_daemon.venue.exchange.limits import Meter, RateLimits, action_weight, query_weight
from zq_daemon.venue.exchange.listing import Perp
from zq_daemon.venue.exchange.messages import Carry, Json, PublicTrade
from zq_daemon.venue.exchange.perform import Performer, stable_name
from zq_daemon.venue.exchange.publisher import BOOK_INTERVAL_MS, Publisher, View
from zq_daemon.venue.exchange.register import Register, checked_address
from zq_daemon.venue.exchange.schedule import Schedules
from zq_daemon.venue.exchange.source import MarketSource, Message, listing_of
from zq_daemon.venue.exchange.trading import Trading

BALANCE = Decimal(100_000)
_AGENT_MS = 3_650 * 86_400_000
"""How long an agent is valid that was approved without a signature."""
_IDS_PER_MS = 1_000
"""No exchange gives out more ids: one that is started anew begins behind all of the last one."""
_MAX_LATE = 10_000


@frozen(kw_only=True)
class _Admitted:
    """An action that was let in; it has not been executed."""

    account: Account
    action: Action


@frozen(kw_only=True)
class _Late:
    """An action that is executed at *due_ns*; *answer* is told the response."""

    due_ns: int
    admitted: _Admitted | ActionError
    answer: Callable[[Json], None]


class Exchange:
    """A whole exchange over one market.

    *balance* is what a new account has: any address never seen before is one, unless
    *strict_accounts* leaves that to `open_account` and `approve_agent`. *rate_limits* refuse what
    is too much; by default nothing is. *outbox_limit* messages may wait for a client before it is
    cut off. Books are told every *book_interval_ms*.
    """

    def __init__(
        self,
        clock: Clock,
        market: MarketSource,
        *,
        network: AcceptedNetwork = "mainnet",
        balance: Decimal = BALANCE,
        strict_accounts: bool = False,
        rate_limits: RateLimits | None = None,
        outbox_limit: int = 4_096,
        funding_interval_ms: int = HOUR_MS,
        book_interval_ms: int = BOOK_INTERVAL_MS,
    ) -> None:
        self._clock = clock
        self._outbox_limit = outbox_limit
        self.misbehaviour = Misbehaviour(Faults())
        self._late: list[_Late] = []
        self._sooner = trio.Event()
        self.market = market
        self.feeds = Feeds(listing_of(market).coins)
        self.publisher = Publisher(market, self.feeds, self._views(), self._carry, book_interval_ms)
        last_id = clock.now_ns() // NS_PER_MS * _IDS_PER_MS
        self.trading = Trading(
            market,
            self.publisher,
            last_id=last_id,
            funding_interval_ms=funding_interval_ms,
        )
        self.register = Register(
            self.trading.accounts,
            Ties(lambda agent: self._gate.forget(agent)),
            opened=self.trading.open_account,
            balance=balance,
            strict=strict_accounts,
            now_ms=self.now_ms,
        )
        self._gate = Gate(network, self.register)
        self.meter = Meter(rate_limits)
        self._schedules = Schedules()
        self._performer = Performer(
            clock, self.trading, self.register, self._schedules, self.publisher, self.feeds
        )

    @property
    def universe(self) -> Sequence[Perp]:
        """What is listed; an asset id is a place in it."""
        return self.market.universe

    def asked(self, coin: str) -> None:
        """A query about the market of *coin* counts as a listener, whom nothing is told unasked."""
        self.market.listened("l2Book", coin, self._clock.now_ns())

    @property
    def connections(self) -> Collection[Connection]:
        """The WebSocket connections there are."""
        return self.feeds.connections

    @property
    def faults(self) -> Faults:
        """The deliberate faults in force (simulation and tests only)."""
        return self.misbehaviour.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self.misbehaviour = Misbehaviour(faults, self._clock.now_ns())
        self.feeds.misbehaviour = self.misbehaviour
        if faults.close_code:
            self.feeds.drop_all("closed on purpose", faults.close_code)

    def forgets_order(self) -> bool:
        """Whether this order status query is to be answered by `unknownOid` (a fault)."""
        return self.misbehaviour.forgets_order()

    def told_fills(self, address: str) -> Iterable[UserFill]:
        """The fills of an account, oldest first, but for those that are withheld (a fault)."""
        return self.misbehaviour.told_fills(self.account(address).fills)

    def now_ns(self) -> int:
        """The exchange's wall time, which a fault makes wrong."""
        return self.misbehaviour.told_ns(self._clock.now_ns())

    def now_ms(self) -> int:
        """`now_ns` in milliseconds."""
        return self.now_ns() // NS_PER_MS

    def open_account(self, address: str, balance: Decimal | None = None) -> Account:
        """The account of *address* (it signs for itself), made with *balance* when it is new."""
        return self.register.open(address, balance)

    def open_vault(self, leader: str, name: str, balance: Decimal) -> Ward:
        """A new vault with *balance*; its *leader*'s signature moves it."""
        return self.register.open_vault(leader, name, balance)

    def approve_agent(self, agent: str, account: str, name: str | None = None) -> None:
        """Let *agent*'s signature count for *account*, which is opened when it is new.

        ValueError: it signs for another already, or the account has too many.
        """
        address, owner = checked_address(agent), self.open_account(account).address
        if address == owner:
            return
        called = f"embedded {address[-6:]}" if name is None else name
        now_ms = self.now_ms()
        try:
            ties = self.register.ties
            ties.approve_until(address, owner, called, now_ms + _AGENT_MS, now_ms)
        except ActionError as refusal:
            raise ValueError(str(refusal)) from refusal

    def account(self, address: str) -> Account:
        """The account of *address*, to look at; one that is not kept when there is none yet."""
        return self.register.account(address)

    def info(self, request: Any, place: str = "") -> Any:
        """Answer an info request that came from *place*.

        Raises `envelope.Malformed` for what cannot be parsed, `limits.TooMany`.
        """
        now_ns = self.now_ns()
        self.meter.weigh(place, query_weight(request), now_ns)
        if isinstance(request, dict):
            self.register.meet(request.get("user"))
        answer = info.answer(self, request)
        self.meter.weigh_answer(place, request, answer, now_ns)
        return answer

    def action(self, request: Any, place: str = "") -> Json:
        """Execute a signed action; raises `envelope.Malformed` or `limits.TooMany`."""
        return self._execute(self._admit(request, place))

    def post_action(self, request: Any, answer: Callable[[Json], None], place: str = "") -> None:
        """`action`, whose response *answer* is told: at once, or when market and faults let it.

        What was let in is executed, whatever becomes of who asked for it.
        """
        admitted = self._admit(request, place)
        latency_ns = self._latency_ns(admitted)
        if latency_ns and len(self._late) < _MAX_LATE:
            due_ns = self._clock.now_ns() + latency_ns
            late = _Late(due_ns=due_ns, admitted=admitted, answer=answer)
            insort(self._late, late, key=_due_ns)
            self._sooner.set()
        else:
            answer(self._execute(admitted))

    def connect(self) -> Connection:
        """A new WebSocket connection."""
        return self.feeds.connect(self._outbox_limit)

    def disconnect(self, connection: Connection) -> None:
        """A connection is gone."""
        self.feeds.disconnect(connection)

    def drop_connections(self) -> None:
        """Cut every WebSocket connection off (simulation and tests only)."""
        self.feeds.drop_all("dropped on purpose")

    def subscribe(self, connection: Connection, subscription: Any) -> None:
        """Handle a subscription: acknowledgement and opening messages, or an error message."""
        stream = self.feeds.subscribe(connection, subscription)
        if stream is None:
            return
        if stream[0] in USER_STREAMS:
            self.register.meet(stream[1])
            opening = self.publisher.snapshot(stream, self.account(stream[1]))
        else:
            for text in self.market.listened(stream[0], stream[1], self._clock.now_ns()):
                connection.outbox.put(text)
            opening = self.publisher.opening(stream, self.now_ns())
        for channel, data in opening:
            connection.outbox.put(encode({"channel": channel, "data": data}))

    def unsubscribe(self, connection: Connection, subscription: Any) -> None:
        """Handle an unsubscription: acknowledgement or an error message."""
        self.feeds.unsubscribe(connection, subscription)

    def step(self, now_ns: int) -> None:
        """Let the market move up to *now_ns* and publish what is due."""
        while self._late and self._late[0].due_ns <= now_ns:
            late = self._late.pop(0)
            late.answer(self._execute(late.admitted))
        told_ns = self.misbehaviour.told_ns(now_ns)
        self.trading.now_ms = told_ns // NS_PER_MS
        for address in self._schedules.due(self.trading.now_ms):
            self._performer.cancel_all(address)
            self.publisher.flush(told_ns)
        due = self.market.next_due_ns()
        if due is not None and due <= now_ns:
            self.market.advance(now_ns, self)
        self.trading.advance(told_ns)
        self.publisher.flush(told_ns)
        self.publisher.on_clock(now_ns, told_ns)

    def next_due_ns(self) -> int:
        """When `step` has something to do next."""
        dues = [self.market.next_due_ns(), self.publisher.next_due_ns()]
        dues.append(self.trading.next_due_ns() - self.misbehaviour.told_ns(0))
        dues += [late.due_ns for late in self._late[:1]]
        scheduled_ms = self._schedules.next_due_ms()
        if scheduled_ms is not None:
            dues.append(scheduled_ms * NS_PER_MS - self.misbehaviour.told_ns(0))
        return min(due for due in dues if due is not None)

    def wake(self) -> None:
        """`next_due_ns` has become earlier for another reason than a `step`."""
        self._sooner.set()

    async def wait_sooner(self) -> None:
        """Return when it has."""
        self._sooner = trio.Event()
        await self._sooner.wait()

    def settle(self, coin: str, event: MatchEvent) -> None:
        """As the market's desk: a matching event."""
        self.trading.settle(coin, event)

    def broadcast(self, message: Message) -> None:
        """As the market's desk: a recorded message."""
        self.publisher.broadcast(message)

    def traded(self, trade: PublicTrade) -> None:
        """As the market's desk: a trade that a recorded message tells."""
        self.publisher.traded(trade)

    def _admit(self, request: Any, place: str) -> _Admitted | ActionError:
        """Let a signed action in; raises Malformed or TooMany."""
        now_ns = self.now_ns()
        self.trading.now_ms = now_ms = now_ns // NS_PER_MS
        envelope = read_envelope(request)
        self.meter.weigh(place, action_weight(envelope.action), now_ns)
        action = parse_action(envelope.action)
        try:
            admission = self._gate.admit(envelope, now_ms)
            account = self._opened(admission.account)
            self.meter.count(account.address, envelope.action, account.traded, now_ms)
        except ActionError as refusal:
            return refusal
        for oid in _to_cancel(action):
            self._arrives(account, oid)
        return _Admitted(account=account, action=action)

    def _latency_ns(self, admitted: _Admitted | ActionError) -> int:
        """How long an action that was let in takes to have its effect."""
        if isinstance(admitted, ActionError):
            return 0
        found = (self.trading.listing.find(asset) for asset in assets_of(admitted.action))
        latency_ns = self.market.delay_ns([each.name for each in found if each is not None])
        if isinstance(admitted.action, Cancel | CancelByCloid):
            latency_ns += self.faults.cancel_latency_ms * NS_PER_MS
        return latency_ns

    def _opened(self, address: str) -> Account:
        """The account of an admitted action, which a first one opens."""
        return self.trading.accounts.get(address) or self.open_account(address)

    def _views(self) -> Mapping[str, View]:
        """What users' streams show that are views, not events."""
        return {
            "activeAssetData": lambda user, coin: self._view("activeAssetData", user, coin=coin),
            "webData2": lambda user: self._view("webData2", user),
        }

    def _view(self, kind: str, user: str, **fields: str) -> Json:
        answer: Json = info.answer(self, {"type": kind, "user": user, **fields})
        return answer

    def _carry(self, coin: str) -> Carry:
        """What there is to tell of a perpetual beside its book."""
        funding = self.trading.funding
        return Carry(
            oracle=self.trading.clearing.oracle(coin),
            open_interest=self.trading.clearing.open_interest(coin),
            funding=funding.rate(coin),
            premium=funding.premium(coin),
            impact=funding.impact_prices(coin),
        )

    def _arrives(self, account: Account, oid: int | str) -> None:
        """A cancel is here, which may be too late (a fault)."""
        order = self.trading.live_order(account, oid)
        if order is None or self.misbehaviour.refuses_cancel(stable_name(order)):
            return
        if self.misbehaviour.fills_instead():
            self.trading.fill_resting(order)
            self.publisher.flush(self.now_ns())

    def _execute(self, admitted: _Admitted | ActionError) -> Json:
        if isinstance(admitted, ActionError):
            return _failed(admitted)
        now_ns = self.now_ns()
        self.trading.now_ms = now_ns // NS_PER_MS
        try:
            response = self._performer.perform(admitted.account, admitted.action)
        except ActionError as refusal:
            return _failed(refusal)
        finally:
            self.publisher.flush(now_ns)
        return {"status": "ok", "response": response}


def _to_cancel(action: Action) -> Sequence[int | str]:
    match action:
        case Cancel():
            return [each.o for each in action.cancels]
        case CancelByCloid():
            return [each.cloid for each in action.cancels]
        case _:
            return ()


def _due_ns(late: _Late) -> int:
    return late.due_ns


def _failed(refusal: ActionError) -> Json:
    return {"status": "err", "response": str(refusal)}
