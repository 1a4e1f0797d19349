"""What the specification needs of a venue: its adapter, a hand on the far side, and the truth.

A venue joins by implementing `VenueUnderTest` and adding its opener to `conftest.VENUES`; nothing
else here knows a venue. The far side is one that obeys: its other participants do what a test says
and it misbehaves on request. The market starts quiet, with one bid and one ask of other
participants in `instrument_id`, and moves only when a test moves it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import Protocol

from attrs import frozen

from zq_daemon.model.ids import ClientOrderId, InstrumentId, TradeId, VenueOrderId
from zq_daemon.model.market import BookLevel, Side
from zq_daemon.ports.clock import Clock
from zq_daemon.ports.network import Network
from zq_daemon.venue.interface import VenueAdapter


@frozen(kw_only=True)
class Address:
    """A WebSocket endpoint as the configuration has it."""

    url: str
    streams: tuple[str, ...]


@frozen(kw_only=True)
class VenueOrder:
    """The venue's own view of one of the account's orders.

    *client_order_id* is empty when it has none.
    """

    client_order_id: ClientOrderId
    venue_order_id: VenueOrderId
    instrument_id: InstrumentId
    side: Side
    price: Decimal
    quantity: Decimal
    remaining: Decimal
    is_live: bool


class VenueUnderTest(Protocol):
    """One venue in memory on virtual time, with an account that holds nothing but money.

    *market* carries book, quote, trade and mark of *instrument_id*; *candles* its candles, of
    *candle_s* seconds; *private* all there is about the account. *bid* and *ask* are the best
    levels at the start; *price_step*s away from them is room for ten prices on each side and
    between them. *quantity* is what the specification trades: less than either level holds,
    several times the smallest order, and divisible by ten.
    """

    adapter: VenueAdapter
    network: Network
    clock: Clock
    market: Address
    private: Address
    candles: Address
    candle_s: int
    instrument_id: InstrumentId
    delisted: InstrumentId
    bid: BookLevel
    ask: BookLevel
    quantity: Decimal
    secret: bytes
    """What the adapter signs with."""
    answer_timeout_s: float
    """How long the adapter waits for an answer; a request must expire earlier, if it does."""
    unknown_streams: Sequence[str]
    """Streams this venue does not have: a kind, an instrument, a kind without instrument."""
    awkward_prices: Mapping[InstrumentId, Decimal]
    """For each instrument that trades, a price with more digits than it may have."""
    retained_fills: int
    """So many of the account's fills the venue keeps."""
    has_orders_on_line: bool
    """Whether requests go over the private connection while it is up."""

    def stranger(self) -> VenueAdapter:
        """An adapter for the same account whose key the venue does not know."""

    def anonymous(self) -> VenueAdapter:
        """An adapter without credentials."""

    def restarted(self) -> VenueAdapter:
        """An adapter for the same account and key, which knows nothing of the first."""

    def place_by_hand(
        self,
        side: Side,
        price: Decimal,
        quantity: Decimal,
        *,
        post_only: bool = False,
        reduce_only: bool = False,
    ) -> VenueOrderId:
        """The account's owner rests an order by other means, without a client order id."""

    def trade_often(self, count: int) -> None:
        """The account trades *count* times at one moment, a buy first, then a sell, and so on."""

    def rest(self, side: Side, price: Decimal, quantity: Decimal) -> None:
        """Another participant rests an order."""

    def take(self, side: Side, price: Decimal, quantity: Decimal) -> TradeId:
        """Another participant trades *quantity* at once, with one order; which trade it was."""

    def delay_answers(self, seconds: float) -> None:
        """From now on requests take effect, and are answered *seconds* later."""

    def drop_answers(self) -> None:
        """From now on requests take effect and are never answered."""

    def forget_orders(self) -> None:
        """From now on queries by client order id find nothing."""

    def refuse_requests(self) -> None:
        """From now on every request about orders is refused, as there are too many."""

    def set_clock_back(self, seconds: int) -> None:
        """From now on the venue's clock is behind ours."""

    def behave(self) -> None:
        """Take back what the four above have done."""

    async def cut(self) -> None:
        """Break all connections; none can be made."""

    def heal(self) -> None:
        """Connections can be made again."""

    def swallow_queries(self) -> None:
        """From now on new connections are accepted and what is sent on them is lost."""

    def orders(self) -> Sequence[VenueOrder]:
        """All orders the account ever had, by the venue's books; oldest first."""

    def fees(self) -> Mapping[TradeId, Decimal]:
        """What the account paid for each of its trades, by the venue's books."""

    def equity(self) -> Decimal:
        """What the account is worth, by the venue's books."""


OpenVenue = Callable[[], AbstractAsyncContextManager[VenueUnderTest]]
