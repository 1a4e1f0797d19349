"""The embedded exchange itself, synchronous: queries, actions, subscriptions, and time.

Owns the composition of market, accounts and feeds. Never does I/O: `server` carries the bytes, and
`server.run_market` calls `step`. It speaks Hyperliquid's protocol as far as this project trades.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any, assert_never

from zq_daemon.core.matching import MatchEvent
from zq_daemon.ports.clock import NS_PER_MS, Clock
from zq_daemon.venue.exchange import info
from zq_daemon.venue.exchange.account import Account
from zq_daemon.venue.exchange.actions import (
    Action,
    BatchModify,
    Cancel,
    CancelByCloid,
    Modify,
    Noop,
    Order,
    UpdateLeverage,
    parse_action,
)
from zq_daemon.venue.exchange.envelope import ActionError, Gate
from zq_daemon.venue.exchange.faults import Faults
from zq_daemon.venue.exchange.feeds import (
    ADDRESS,
    USER_STREAMS,
    Connection,
    Feeds,
    encode,
)
from zq_daemon.venue.exchange.messages import Json
from zq_daemon.venue.exchange.perp import Perp
from zq_daemon.venue.exchange.publisher import Publisher
from zq_daemon.venue.exchange.source import MarketSource, Message
from zq_daemon.venue.exchange.trading import GONE, Trading
from zq_daemon.venue.hyperliquid.sign import Network

MAX_ACCOUNTS = 1_000
_IDS_PER_MS = 1_000
"""No exchange gives out more ids: one that is started anew begins behind all of the last one."""


class Exchange:
    """A whole exchange over one market.

    *balance* is what a new account has. With *open_accounts* every signer and every queried user
    gets an account at once; otherwise only `open_account` and `approve_agent` make them.
    *outbox_limit* messages may wait for a client before it is cut off.
    """

    def __init__(
        self,
        clock: Clock,
        market: MarketSource,
        *,
        network: Network = "mainnet",
        balance: Decimal = Decimal(10_000),
        open_accounts: bool = False,
        outbox_limit: int = 4_096,
    ) -> None:
        self._clock = clock
        self._balance = balance
        self._open_accounts = open_accounts
        self._outbox_limit = outbox_limit
        self._faults = Faults()
        self.market = market
        self.feeds = Feeds([perp.name for perp in market.universe])
        self.publisher = Publisher(market, self.feeds)
        last_id = clock.now_ns() // NS_PER_MS * _IDS_PER_MS
        self.trading = Trading(market, self.publisher, last_id=last_id)
        self._agents: dict[str, str] = {}
        self._gate = Gate(network, self._is_known)

    @property
    def universe(self) -> Sequence[Perp]:
        """What is listed; an asset id is a place in it."""
        return self.market.universe

    @property
    def agents(self) -> Mapping[str, str]:
        """Approved agents and the account each signs for."""
        return self._agents

    @property
    def connections(self) -> Collection[Connection]:
        """The WebSocket connections there are."""
        return self.feeds.connections

    @property
    def faults(self) -> Faults:
        """The deliberate faults in force (simulation and tests only)."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults
        self.feeds.muted = faults.freeze_data or faults.mute

    @property
    def forgets_orders(self) -> bool:
        """Whether order status queries answer `unknownOid` (a fault)."""
        return self._faults.forget_orders

    def now_ns(self) -> int:
        """The exchange's wall time."""
        return self._clock.now_ns()

    def open_account(self, address: str, balance: Decimal | None = None) -> Account:
        """The account of *address* (it signs for itself), made with *balance* when it is new."""
        key = _address(address)
        account = self.trading.accounts.get(key)
        if account is None:
            if len(self.trading.accounts) >= MAX_ACCOUNTS:
                raise ValueError(f"the exchange holds no more than {MAX_ACCOUNTS} accounts")
            amount = self._balance if balance is None else balance
            account = self.trading.accounts[key] = Account(address=key, balance=amount)
        return account

    def approve_agent(self, agent: str, account: str) -> None:
        """Let *agent*'s signature count for *account*, which is opened when it is new."""
        self._agents[_address(agent)] = self.open_account(account).address

    def account(self, address: str) -> Account:
        """The account of *address*; an empty one that is not kept when there is none."""
        if self._may_open():
            return self.open_account(address)
        found = self.trading.accounts.get(address)
        return found or Account(address=address, balance=Decimal(0))

    def info(self, request: Any) -> Any:
        """Answer an info request; raises `envelope.Malformed` for what cannot be parsed."""
        return info.answer(self, request)

    def action(self, request: Any) -> Json:
        """Execute a signed action; raises `envelope.Malformed` for what cannot be parsed."""
        now_ns = self._clock.now_ns()
        self.trading.now_ms = now_ns // NS_PER_MS
        try:
            signed = self._gate.admit(request, self.trading.now_ms)
            action = parse_action(signed.action)
            account = self.open_account(self._agents.get(signed.signer, signed.signer))
            response = self._execute(account, action)
        except ActionError as refusal:
            return {"status": "err", "response": str(refusal)}
        finally:
            self.publisher.flush(now_ns)
        return {"status": "ok", "response": response}

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
        kind, subject = stream
        if kind == "userFills":
            account = self.trading.accounts.get(subject)
            self.publisher.send_fills(connection, account, subject)
        if kind not in USER_STREAMS:
            now_ns = self._clock.now_ns()
            self.market.listened(now_ns)
            for channel, data in self.publisher.opening(stream, now_ns):
                connection.outbox.put(encode({"channel": channel, "data": data}))

    def unsubscribe(self, connection: Connection, subscription: Any) -> None:
        """Handle an unsubscription: acknowledgement or an error message."""
        self.feeds.unsubscribe(connection, subscription)

    def step(self, now_ns: int) -> None:
        """Let the market move up to *now_ns* and publish what is due."""
        self.trading.now_ms = now_ns // NS_PER_MS
        due = self.market.next_due_ns()
        if due is not None and due <= now_ns:
            self.market.advance(now_ns, self)
            self.publisher.flush(now_ns)
        self.publisher.on_clock(now_ns)

    def next_due_ns(self) -> int:
        """When `step` has something to do next."""
        market = self.market.next_due_ns()
        own = self.publisher.next_due_ns()
        return own if market is None else min(own, market)

    def settle(self, coin: str, event: MatchEvent) -> None:
        """As the market's desk: a matching event."""
        self.trading.settle(coin, event)

    def broadcast(self, message: Message) -> None:
        """As the market's desk: a recorded message."""
        self.publisher.broadcast(message)

    def _execute(self, account: Account, action: Action) -> Json:
        trading = self.trading
        match action:
            case Order():
                return _statuses("order", [trading.place(account, each) for each in action.orders])
            case Cancel():
                wanted = [(each.a, each.o) for each in action.cancels]
                return _statuses("cancel", [self._cancel(account, *each) for each in wanted])
            case CancelByCloid():
                named = [(each.asset, each.cloid) for each in action.cancels]
                return _statuses("cancel", [self._cancel(account, *each) for each in named])
            case BatchModify():
                changes = [(each.oid, each.order) for each in action.modifies]
                return _statuses("order", [trading.modify(account, *each) for each in changes])
            case Modify():
                return _default_or_error(trading.modify(account, action.oid, action.order))
            case UpdateLeverage():
                problem = trading.set_leverage(account, action.asset, action.leverage)
                return _default_or_error({"error": problem} if problem else "success")
            case Noop():
                return {"type": "default"}
            case _:
                assert_never(action)

    def _cancel(self, account: Account, asset: int, oid: int | str) -> str | Json:
        if self._faults.refuse_cancels:
            return {"error": GONE}
        return self.trading.cancel(account, asset, oid)

    def _is_known(self, signer: str) -> bool:
        return signer in self._agents or signer in self.trading.accounts or self._may_open()

    def _may_open(self) -> bool:
        return self._open_accounts and len(self.trading.accounts) < MAX_ACCOUNTS


def _address(text: str) -> str:
    if not ADDRESS.fullmatch(text):
        raise ValueError(f"{text!r} is no address: expected 0x and 40 hexadecimal digits")
    return text.lower()


def _statuses(kind: str, statuses: list[Any]) -> Json:
    return {"type": kind, "data": {"statuses": statuses}}


def _default_or_error(status: Any) -> Json:
    if isinstance(status, dict) and "error" in status:
        raise ActionError(status["error"])
    return {"type": "default"}
