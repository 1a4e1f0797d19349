"""What a venue is to the rest of the daemon: a session protocol, order entry, and queries.

A venue implements `VenueAdapter`; the endpoint task drives its `Session`, the execution engine its
`OrderEntry`. A venue imports no engine and no strategy: it returns values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, Protocol

from attrs import field, frozen

from zq_daemon.model.ids import AccountId, ClientOrderId, InstrumentId, Venue, VenueOrderId
from zq_daemon.model.instrument import Instrument
from zq_daemon.model.market import MarketEvent
from zq_daemon.model.order import Order
from zq_daemon.model.report import AccountReport, FillHistory, OrderReport, Report

StreamKind = Literal["book", "quote", "trade", "mark", "candle"]
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
class Held:
    """The venue has the order and holds it until its parent has filled; its id comes later."""


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


Outcome = Acknowledged | Held | Executed | Refused | NotSent | Ambiguous


RequestKind = Literal["submit", "cancel", "modify"]
"""What a request does with orders."""


@frozen
class Modification:
    """What an order shall be: its new price and its new total quantity (filled part included)."""

    order: Order
    price: Decimal
    quantity: Decimal


class OrderEntry(Protocol):
    """Signs and sends; one for each account. `prepare_*` are synchronous and send nothing.

    They raise ValueError for an order the venue's protocol cannot express. An external order
    (`model.ids.is_external`) is named by its current venue order id, which it must have: the venue
    may not know its client order id.
    """

    @property
    def has_other_way(self) -> bool:
        """Whether requests also reach the venue while no private connection is up."""

    def resume(self, last_nonce: int) -> None:
        """*last_nonce* was used before (by the journal): every request gets a higher one.

        Called before the first request; a lower one than is known already changes nothing.
        ValueError when it is so far ahead of the clock that the venue would refuse all above it.
        """

    def prepare_submit(
        self, orders: Sequence[Order], *, protects_position: bool = False
    ) -> Request:
        """Sign a submission; every order has its price set and rounded.

        An order with a *parent_id* is an exit of the first one, which then is alone with its exits.
        *protects_position*: all are reduce-only trigger orders that follow the size of the position
        and end with it; ValueError for others.
        """

    def prepare_cancel(self, orders: Sequence[Order]) -> Request:
        """Sign a cancellation of live orders: all external, or by client order id.

        ValueError for a mixture: a venue may not take both in one request.
        """

    def prepare_modify(self, changes: Sequence[Modification]) -> Request:
        """Sign a change of live orders, each to a new price and total quantity.

        ValueError when nothing of one would be left beyond what is filled. From then on the venue
        knows an external order by its client order id too.
        """

    def prepare_schedule_cancel(self, at_ns: int | None) -> Request:
        """Sign a dead man's switch: at *at_ns* (wall) the venue cancels all orders of the account.

        It replaces the one before; None takes that back. ValueError for a time that is too near.
        The request is about no order (kind `schedule_cancel`) and has one outcome: `Acknowledged`
        without an id, or `Refused`. Protective orders are cancelled as well.
        """

    def prepare_leverage(
        self, instrument_id: InstrumentId, leverage: int, *, is_cross: bool
    ) -> Request:
        """Sign a change of the leverage of positions in an instrument; *is_cross*: shared margin.

        About no order (kind `leverage`), with one outcome as `prepare_schedule_cancel`. ValueError
        for what is no leverage.
        """

    def why_not_now(self, kind: RequestKind, count: int = 1) -> str | None:
        """Why the venue's rate limits leave no room for *count* more orders now; None: they do.

        To be asked before an order is taken on, with what is queued counted in. For a submission
        it says so while there is still room for modifications and cancels. `send` itself lets
        cancels wait for room, and says `NotSent` of others.
        """

    async def send(self, request: Request) -> Sequence[Outcome]:
        """Send, and wait for the answer within the venue's time-out: one outcome an order.

        While no private connection is up it goes another way if the venue has one.
        Raises nothing but trio.Cancelled; a cancelled send leaves an ambiguous outcome behind.
        """

    def attach(self, sender: Sender) -> None:
        """A private connection is up: use it."""

    def detach(self, sender: Sender) -> None:
        """That connection is gone: what waits for an answer on it becomes ambiguous."""

    def resolve(self, reply: Reply) -> None:
        """An answer arrived on the private connection."""


@frozen(kw_only=True)
class Credentials:
    """Who signs the orders of *account*, as the venue confirms it, in the venue's addresses.

    *signer* None: nobody does. *relation* says what one is to the other; *valid_until_ns* (wall) is
    the end of the signer's approval, None where the venue tells none.
    """

    account: str
    signer: str | None
    relation: str
    valid_until_ns: int | None = None


@frozen(kw_only=True)
class ClockSkew:
    """By how much our wall clock is ahead of the venue's (negative: behind), give or take an error.

    The error is half of the time that the answer took, and what the venue's time is rounded to.
    """

    ahead_ns: int
    error_ns: int


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
    def budgets(self) -> Mapping[str, Any]:
        """What is used of the venue's rate limits, for `status`; empty where there are none."""

    @property
    def market_slippage_bps(self) -> int:
        """How far through the book a market order may reach, in 1/100 %."""

    async def load_instruments(self) -> Sequence[Instrument]:
        """All instruments of the venue; raises LinkError, LinkRefused or DecodeError."""

    async def check_credentials(self) -> Credentials | None:
        """Ask the venue whether our key may sign for our account; None without an account.

        CredentialError says what to change; else it raises like `load_instruments`.
        """

    async def measure_clock(self) -> ClockSkew:
        """Compare our wall clock with the venue's; raises like `load_instruments`."""

    async def actions_left(self) -> int | None:
        """How many more actions the venue takes of the account; None where it tells none.

        Raises like `load_instruments`.
        """

    async def load_account(self) -> AccountReport:
        """The account's figures, positions and open orders; raises like `load_instruments`."""

    async def load_fills(self, since_ns: int) -> FillHistory:
        """The account's fills since *since_ns* (the venue's time, in its resolution).

        Raises like `load_instruments`. Bounded, so that it may not be complete.
        """

    async def query_order(
        self, client_order_id: ClientOrderId, venue_order_id: VenueOrderId | None = None
    ) -> OrderReport | None:
        """What the venue knows of one order; None is "not found", which is no evidence.

        An external order is asked for by *venue_order_id*, the last one known. Raises like
        `load_instruments`.
        """

    def session(self, streams: Sequence[str]) -> Session:
        """A session for one connection; ValueError names a stream that does not exist."""

    def coverage(self, streams: Sequence[str]) -> Sequence[tuple[StreamKind, InstrumentId]]:
        """Which market data these streams carry; private streams carry none."""

    def is_private(self, streams: Sequence[str]) -> bool:
        """Whether a connection with these streams carries reports and order entry."""

    async def aclose(self) -> None:
        """Close what queries keep open."""
