"""What a venue is to the rest of the daemon: a session protocol, order entry, and queries.

A venue implements `VenueAdapter`; the endpoint task drives its `Session`, the execution engine its
`OrderEntry`. A venue imports no engine and no strategy: it returns values.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal, Protocol

from attrs import field, frozen

from zq_daemon.model.ids import AccountId, ClientOrderId, InstrumentId, Venue, VenueOrderId
from zq_daemon.model.instrument import Instrument
from zq_daemon.model.market import MarketEvent
from zq_daemon.model.order import Order
from zq_daemon.model.report import AccountReport, OrderReport, Report

StreamKind = Literal["book", "quote", "trade", "mark"]
"""What kind of market data a stream carries, for staleness."""


@frozen(kw_only=True)
class Reply:
    """The answer to request number *post_id* of this connection; *body* is the venue's own."""

    post_id: int
    body: Any


@frozen(kw_only=True)
class Received:
    """All that one message from the venue meant.

    *subscribed* names streams the venue confirmed; *problem* says why the message (or a part of
    it) was not understood: it is counted and kept, and everything else in here is still good. Too
    many of them make a link be given up. *notice* says what is new to us in a message that was
    understood, such as a word the venue did not use before: told and counted, and nothing follows.
    """

    market: Sequence[MarketEvent] = ()
    reports: Sequence[Report] = ()
    replies: Sequence[Reply] = ()
    subscribed: Sequence[str] = ()
    pong: bool = False
    problem: str = ""
    notice: str = ""


class Session(Protocol):
    """The venue's protocol on one connection, without I/O; a new one for every connection."""

    def opening(self) -> Sequence[str]:
        """The messages to send when the connection is up (subscriptions)."""

    def receive(self, message: str | bytes, ts_recv_ns: int) -> Received:
        """Understand one message; never raises, whatever the bytes."""

    def ping(self) -> str:
        """The venue's application-level ping."""


class Sender(Protocol):
    """What order entry needs of a live connection."""

    async def send(self, message: str) -> None:
        """Write one text message; raises LinkError when the connection is gone."""


@frozen(kw_only=True)
class Request:
    """One signed, ready request about one or several orders; nothing of it has been sent.

    *nonce*, *expires_ns* and *action_hash* are journalled with the intent. *payload* carries the
    signature and never appears in a repr.
    """

    kind: str
    client_order_ids: tuple[ClientOrderId, ...]
    nonce: int
    expires_ns: int | None
    action_hash: bytes
    payload: bytes = field(repr=False)


@frozen(kw_only=True)
class Acknowledged:
    """The venue took the request; *venue_order_id* is None where it does not tell (a cancel)."""

    venue_order_id: VenueOrderId | None


@frozen(kw_only=True)
class Executed:
    """The venue took the order and filled it at once; its fills arrive on the private stream."""

    venue_order_id: VenueOrderId
    quantity: Decimal
    average_price: Decimal


MISSING_ORDER = "missing_order"
"""The code of a refusal of a cancel or modification because there is no such order any more."""


@frozen(kw_only=True)
class Refused:
    """The venue definitely refused; *code* is our name of the reason, *text* the venue's words."""

    code: str
    text: str


@frozen(kw_only=True)
class NotSent:
    """Definitely nothing left us (no connection)."""

    detail: str


@frozen(kw_only=True)
class Ambiguous:
    """Unknown: a time-out, a lost connection, a server error. The order stays in flight."""

    detail: str


Outcome = Acknowledged | Executed | Refused | NotSent | Ambiguous


class OrderEntry(Protocol):
    """Signs and sends; one for each account. `prepare_*` are synchronous and send nothing.

    They raise ValueError for an order the venue's protocol cannot express.
    """

    def prepare_submit(self, orders: Sequence[Order]) -> Request:
        """Sign a submission; every order has its price set and rounded."""

    def prepare_cancel(self, orders: Sequence[Order]) -> Request:
        """Sign a cancellation of live orders, by client order id."""

    def prepare_modify(self, order: Order, price: Decimal, quantity: Decimal) -> Request:
        """Sign a change of *order* to a new price and total quantity (filled part included)."""

    async def send(self, request: Request) -> Sequence[Outcome]:
        """Send, and wait for the answer within the venue's time-out: one outcome an order.

        Raises nothing but trio.Cancelled; a cancelled send leaves an ambiguous outcome behind.
        """

    def attach(self, sender: Sender) -> None:
        """A private connection is up: use it."""

    def detach(self, sender: Sender) -> None:
        """That connection is gone: what waits for an answer on it becomes ambiguous."""

    def resolve(self, reply: Reply) -> None:
        """An answer arrived on the private connection."""


class VenueAdapter(Protocol):
    """One venue, for one account (or none: market data only)."""

    @property
    def venue(self) -> Venue:
        """Its name, the first part of its instrument ids."""

    @property
    def account_id(self) -> AccountId | None:
        """The account it trades for; None when it has no credentials."""

    @property
    def order_entry(self) -> OrderEntry | None:
        """Order entry for that account; None when it has no credentials."""

    @property
    def market_slippage_bps(self) -> int:
        """How far through the book a market order may reach, in 1/100 %."""

    async def load_instruments(self) -> Sequence[Instrument]:
        """All instruments of the venue; raises LinkError, LinkRefused or DecodeError."""

    async def load_account(self) -> AccountReport:
        """The account's figures, positions and open orders; raises like `load_instruments`."""

    async def query_order(self, client_order_id: ClientOrderId) -> OrderReport | None:
        """What the venue knows of one order; None is "not found", which is no evidence."""

    def session(self, streams: Sequence[str]) -> Session:
        """A session for one connection; ValueError names a stream that does not exist."""

    def coverage(self, streams: Sequence[str]) -> Sequence[tuple[StreamKind, InstrumentId]]:
        """Which market data these streams carry; private streams carry none."""

    def is_private(self, streams: Sequence[str]) -> bool:
        """Whether a connection with these streams carries reports and order entry."""

    async def aclose(self) -> None:
        """Close what queries keep open."""
