"""One connection to a venue under test, driven by the adapter's session as the daemon drives it.

Keeps every message and what was understood of it, so that a test can look back, wait for what is
to come, and play a message again. It is the `Sender` of order entry while it is open.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import trio
from attrs import frozen

from tests.venue_spec.venue import Address, VenueUnderTest
from zq_daemon.errors import LinkError
from zq_daemon.model.fill import Fill
from zq_daemon.model.report import OrderReport
from zq_daemon.ports.clock import Clock
from zq_daemon.ports.link import WebSocketLink, WsUrl, open_link
from zq_daemon.venue.interface import OrderEntry, Received, Session, VenueAdapter

T = TypeVar("T")
AHEAD_NS = 1_234_567
"""Our clock is ahead of the venue's, so that one time cannot pass for the other."""
_PATIENCE_S = 30.0
_MAX_BYTES = 1 << 20


@frozen
class Heard:
    """A message as it came, when, and what the session made of it."""

    message: str | bytes
    ts_recv_ns: int
    received: Received


class Line:
    """An open connection; *entry* is order entry on a private one."""

    def __init__(
        self, link: WebSocketLink, session: Session, entry: OrderEntry | None, clock: Clock
    ) -> None:
        self.session = session
        self.entry = entry
        self.heard: list[Heard] = []
        self.lost = trio.Event()
        self._link = link
        self._clock = clock
        self._news = trio.Event()

    async def send(self, message: str) -> None:
        """As the link does."""
        await self._link.send(message)

    async def read(self) -> None:
        """Understand what comes until the connection is gone."""
        try:
            while True:
                self._hear(await self._link.receive())
        except LinkError:
            self._leave()

    def market(self, kind: type[T]) -> list[T]:
        """The market events of *kind* so far."""
        events = (event for heard in self.heard for event in heard.received.market)
        return [event for event in events if isinstance(event, kind)]

    def reports(self) -> list[OrderReport]:
        """The order reports so far."""
        reports = (report for heard in self.heard for report in heard.received.reports)
        return [report for report in reports if isinstance(report, OrderReport)]

    def fills(self) -> list[Fill]:
        """The fills so far."""
        reports = (report for heard in self.heard for report in heard.received.reports)
        return [report for report in reports if isinstance(report, Fill)]

    def problems(self) -> list[str]:
        """What was not understood so far."""
        return [heard.received.problem for heard in self.heard if heard.received.problem]

    async def until(self, find: Callable[[], T | None]) -> T:
        """What *find* finds, now or after a message that is still to come."""
        with trio.fail_after(_PATIENCE_S):
            while (found := find()) is None:
                await self._news.wait()
        return found

    async def settled(self) -> None:
        """All that the venue said before now has been heard: it answers a ping after that."""
        before = len(self.heard)
        await self.send(self.session.ping())
        await self.until(lambda: any(each.received.pong for each in self.heard[before:]) or None)

    def _hear(self, message: str | bytes) -> None:
        ts_recv_ns = self._clock.now_ns() + AHEAD_NS
        received = self.session.receive(message, ts_recv_ns)
        self.heard.append(Heard(message, ts_recv_ns, received))
        if self.entry is not None:
            for reply in received.replies:
                self.entry.resolve(reply)
        self._wake()

    def _leave(self) -> None:
        if self.entry is not None:
            self.entry.detach(self)
        self.lost.set()
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, trio.Event()
        news.set()


@asynccontextmanager
async def open_line(
    venue: VenueUnderTest, address: Address, adapter: VenueAdapter | None = None
) -> AsyncIterator[Line]:
    """A connection on which all streams are confirmed; a private one takes orders."""
    adapter = adapter or venue.adapter
    session = adapter.session(address.streams)
    entry = adapter.order_entry if adapter.is_private(address.streams) else None
    url = WsUrl.parse(address.url)
    async with open_link(
        venue.network, url, connect_timeout_s=5, max_message_bytes=_MAX_BYTES
    ) as link:
        line = Line(link, session, entry, venue.clock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.read)
            for message in session.opening():
                await line.send(message)
            await line.until(lambda: _confirms(line, address.streams) or None)
            if entry is not None:
                entry.attach(line)
            try:
                yield line
            finally:
                if entry is not None:
                    entry.detach(line)
                nursery.cancel_scope.cancel()


def _confirms(line: Line, streams: Sequence[str]) -> bool:
    confirmed = {name for heard in line.heard for name in heard.received.subscribed}
    return confirmed == set(streams)
