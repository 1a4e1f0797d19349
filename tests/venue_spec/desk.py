"""A trader's desk at a venue under test: orders made, sent, and looked up on both sides."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import trio
import trio.testing
from attrs import evolve

from tests.venue_spec.line import Line, open_line
from tests.venue_spec.venue import VenueOrder, VenueUnderTest
from zq_daemon.model.fill import Fill
from zq_daemon.model.ids import (
    StrategyId,
    VenueOrderId,
    client_order_id,
    external_client_order_id,
)
from zq_daemon.model.instrument import Instrument
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderStatus, OrderType
from zq_daemon.model.report import OrderReport
from zq_daemon.venue.interface import (
    Acknowledged,
    Modification,
    OrderEntry,
    Outcome,
    Request,
    VenueAdapter,
)

_RUN_ID = 0x5BEC


class Desk:
    """Instruments are loaded and the private connection is open."""

    def __init__(
        self,
        venue: VenueUnderTest,
        adapter: VenueAdapter,
        line: Line,
        instruments: Sequence[Instrument],
    ) -> None:
        assert adapter.order_entry is not None
        self.venue = venue
        self.adapter = adapter
        self.line = line
        self.entry: OrderEntry = adapter.order_entry
        self.instruments = {each.id: each for each in instruments}
        self.instrument = self.instruments[venue.instrument_id]
        self._numbers = itertools.count(1)

    def below_ask(self, steps: int) -> Decimal:
        """A price *steps* steps under the ask: it rests as a buy, and trades as a sell at none."""
        ask = self.venue.ask.price
        return ask - steps * self.instrument.price_step(ask)

    def order(self, side: Side, price: Decimal | None, **terms: Any) -> Order:
        """An order of the usual quantity, good till cancelled unless *terms* say otherwise."""
        assert self.adapter.account_id is not None
        settings: dict[str, Any] = {
            "instrument_id": self.venue.instrument_id,
            "order_type": OrderType.LIMIT,
            "quantity": self.venue.quantity,
        }
        return Order(
            client_order_id=client_order_id(_RUN_ID, next(self._numbers)),
            strategy_id=StrategyId("specification"),
            account_id=self.adapter.account_id,
            side=side,
            price=price,
            **(settings | terms),
        )

    def bid(self, steps: int = 5, **terms: Any) -> Order:
        """A buy that rests between the best levels, *steps* steps under the ask."""
        return self.order(Side.BUY, self.below_ask(steps), **terms)

    def by_hand(self, side: Side, price: Decimal, **terms: Any) -> Order:
        """An order that the account's owner has just placed by hand, as it would be tracked."""
        assert self.adapter.account_id is not None
        placed = self.order(side, price, **terms)
        flags = {"post_only": placed.post_only, "reduce_only": placed.reduce_only}
        venue_order_id = self.venue.place_by_hand(side, price, placed.quantity, **flags)
        tracked = external_client_order_id(self.adapter.account_id, venue_order_id)
        return evolve(placed, client_order_id=tracked, venue_order_id=venue_order_id)

    async def submit(self, *orders: Order) -> Sequence[Outcome]:
        """Prepare and send, in one request."""
        return await self.entry.send(self.entry.prepare_submit(orders))

    async def rest(self, order: Order) -> VenueOrderId:
        """Submit an order that is taken and rests."""
        (outcome,) = await self.submit(order)
        assert isinstance(outcome, Acknowledged), outcome
        assert outcome.venue_order_id is not None
        return outcome.venue_order_id

    async def cancel(self, *orders: Order) -> Sequence[Outcome]:
        """Cancel in one request."""
        return await self.entry.send(self.entry.prepare_cancel(orders))

    async def modify(self, order: Order, price: Decimal, quantity: Decimal) -> Outcome:
        """Change price and total quantity."""
        (outcome,) = await self.submit_changes(Modification(order, price, quantity))
        return outcome

    async def submit_changes(self, *changes: Modification) -> Sequence[Outcome]:
        """Change several orders in one request."""
        return await self.entry.send(self.entry.prepare_modify(changes))

    async def report(
        self, order: Order, status: OrderStatus, remaining: Decimal | None = None
    ) -> OrderReport:
        """The first report that *order* has *status*, with that much *remaining* if given."""

        def find() -> OrderReport | None:
            for report in self.line.reports():
                named = report.client_order_id == order.client_order_id
                if named and report.status is status and remaining in (None, report.remaining):
                    return report
            return None

        return await self.line.until(find)

    async def fills(self, order: Order, quantity: Decimal) -> Sequence[Fill]:
        """The fills of *order*, when they are *quantity* together."""

        def find() -> Sequence[Fill] | None:
            own = [
                fill for fill in self.line.fills() if fill.client_order_id == order.client_order_id
            ]
            return own if sum(fill.quantity for fill in own) >= quantity else None

        return await self.line.until(find)

    def truth(self, order: Order) -> VenueOrder | None:
        """The newest order of that client order id, by the venue's books."""
        named = [
            each for each in self.venue.orders() if each.client_order_id == order.client_order_id
        ]
        return named[-1] if named else None

    def live(self) -> Sequence[VenueOrder]:
        """What rests, by the venue's books."""
        return [order for order in self.venue.orders() if order.is_live]


@asynccontextmanager
async def open_desk(
    venue: VenueUnderTest, adapter: VenueAdapter | None = None
) -> AsyncIterator[Desk]:
    """A desk on a private connection of its own, which ends with it."""
    adapter = adapter or venue.adapter
    instruments = await adapter.load_instruments()
    async with open_line(venue, venue.private, adapter) as line:
        yield Desk(venue, adapter, line, instruments)


@asynccontextmanager
async def sending(entry: OrderEntry, request: Request) -> AsyncIterator[list[Outcome]]:
    """*request* is under way inside, as far as it gets without time passing.

    The outcomes are in the list when the block has ended.
    """
    outcomes: list[Outcome] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_into, outcomes, entry, request)
        await trio.testing.wait_all_tasks_blocked()
        yield outcomes


async def send_into(outcomes: list[Outcome], entry: OrderEntry, request: Request) -> None:
    """Send *request* and add what comes of it to *outcomes*."""
    outcomes.extend(await entry.send(request))
