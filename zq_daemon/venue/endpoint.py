"""One task for each WebSocket endpoint: connect, subscribe, decode, deliver; back off and return.

Owns the life of one connection after another. It knows no venue: the adapter's session turns
messages into values; market events go to the feed queue, reports to the report channel, replies to
order entry. The daemon calls `run` in a task and `check_alive` from its heartbeat task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
import trio
from attrs import Factory, frozen

from zq_daemon.errors import DecodeError, LinkError, LinkRefused
from zq_daemon.model.event import LinkChanged, LinkState, SystemEvent
from zq_daemon.model.market import MarketEvent
from zq_daemon.model.report import Report
from zq_daemon.ports.clock import NS_PER_MS, Clock
from zq_daemon.ports.link import WebSocketLink, WsUrl, open_link
from zq_daemon.ports.network import Network
from zq_daemon.runtime.backoff import Backoff
from zq_daemon.runtime.feed_queue import FeedQueue
from zq_daemon.venue.interface import Session, VenueAdapter

_log = structlog.get_logger("zq.link")

_MOST_TOLD = 64

BadMessageSink = Callable[[str, str | bytes, str], bool]
"""Takes (endpoint, message, problem), keeps it, and says whether there were too many of late."""


@frozen(kw_only=True)
class EndpointSettings:
    """Where an endpoint connects and how patient it is; *stale_ms* of single streams."""

    name: str
    url: str
    streams: tuple[str, ...]
    auto_reconnect: bool
    connect_timeout_ms: int
    reconnect_healthy_ms: int
    heartbeat_timeout_ms: int
    feed_blocked_ms: int
    reconcile_interval_ms: int
    max_message_bytes: int
    stale_ms: Mapping[str, int] = Factory(dict)


def spread(
    streams: Sequence[str], most: int, is_private: Callable[[Sequence[str]], bool]
) -> tuple[tuple[str, ...], ...]:
    """*streams* in parts of *most* at most, one a connection; private ones stay together, first.

    A venue limits what a connection may carry; orders leave where their reports arrive.
    """
    private = [each for each in streams if is_private((each,))]
    rest = [each for each in streams if each not in set(private)]
    room = max(most - len(private), 0)
    first = (*private, *rest[:room])
    others = (tuple(rest[start : start + most]) for start in range(room, len(rest), most))
    return tuple(part for part in (first, *others) if part)


class Endpoint:
    """The supervisor of one WebSocket endpoint."""

    def __init__(
        self,
        settings: EndpointSettings,
        adapter: VenueAdapter,
        *,
        network: Network,
        clock: Clock,
        backoff: Backoff,
        feed: FeedQueue[MarketEvent | SystemEvent],
        reports: trio.MemorySendChannel[Sequence[Report]],
        on_bad: BadMessageSink,
    ) -> None:
        """*feed* and *reports* are closed by the daemon after `run` has ended."""
        self.settings = settings
        self.adapter = adapter
        self.private = adapter.is_private(settings.streams)
        self.coverage = adapter.coverage(settings.streams)
        self.instruments = tuple(dict.fromkeys(instrument for _, instrument in self.coverage))
        self.state = LinkState.DOWN
        self.ready = trio.Event()
        self._url = WsUrl.parse(settings.url)
        self._network = network
        self._clock = clock
        self._backoff = backoff
        self._feed = feed
        self._reports = reports
        self._on_bad = on_bad
        self._link: WebSocketLink | None = None
        self._session: Session | None = None
        self._scope = trio.CancelScope()
        self._drop_reason = ""
        self._pong = trio.Event()
        self._subscribed: set[str] = set()
        self._told: set[str] = set()
        self._notices = 0
        self._refusals = 0
        self._since_ns = self._lost_ns = clock.monotonic_ns()
        self._next_attempt_ns = 0
        self.last_error = ""
        self._connections = self._messages = self._bad = self._outage_ns = self._held_ns = 0

    async def run(self) -> None:
        """Keep the connection up until cancelled; returns only when it may not be retried."""
        while True:
            try:
                await self._connect()
            except LinkRefused as error:
                await self._change(LinkState.REFUSED, str(error))
                return
            except LinkError as error:
                reason = str(error)
            if not self.settings.auto_reconnect:
                await self._change(LinkState.DOWN, f"{reason}; auto_reconnect is off")
                return
            if self._held_ns >= self.settings.reconnect_healthy_ms * NS_PER_MS:
                self._backoff.reset()
            await self._wait_out(reason)

    async def check_alive(self) -> None:
        """Ping the far side and drop the connection unless a pong comes back in time.

        Also when it comes before the venue has said a word about some subscription: it was asked
        for that first, and would never tell what it tells others.
        """
        link, session, scope = self._link, self._session, self._scope
        if link is None or session is None:
            return
        self._pong = trio.Event()
        with trio.move_on_after(self.settings.heartbeat_timeout_ms / 1000):
            try:
                await link.send(session.ping())
            except LinkError:
                return
            await self._pong.wait()
            if scope is self._scope and self._session is session and (missing := self._ignored()):
                self.drop(f"subscriptions not confirmed: {', '.join(missing)}")
            return
        if scope is self._scope:
            self.drop(f"no pong within {self.settings.heartbeat_timeout_ms} ms")

    def _ignored(self) -> Sequence[str]:
        """Streams that were neither confirmed nor, for all we know, refused."""
        if self._refusals:
            return ()
        return [name for name in self.settings.streams if name not in self._subscribed]

    def drop(self, reason: str) -> None:
        """Give the present connection up, as if it had been lost."""
        self._drop_reason = reason
        self._scope.cancel()

    def status(self) -> dict[str, Any]:
        """What `status` shows of this link; times in seconds."""
        now_ns = self._clock.monotonic_ns()
        outage_ns = 0 if self.state is LinkState.UP else now_ns - self._lost_ns
        waiting = self.state is LinkState.BACKOFF
        return {
            "endpoint": self.settings.name,
            "url": self.settings.url,
            "venue": self.adapter.venue,
            "private": self.private,
            "state": self.state.value,
            "since_s": _seconds(now_ns - self._since_ns),
            "reconnects": max(self._connections - 1, 0),
            "outage_s": _seconds(self._outage_ns + outage_ns),
            "last_error": self.last_error,
            "attempt": self._backoff.attempts,
            "next_attempt_s": _seconds(max(self._next_attempt_ns - now_ns, 0)) if waiting else None,
            "messages": self._messages,
            "bad_messages": self._bad,
            "notices": self._notices,
            "streams": {name: name in self._subscribed for name in self.settings.streams},
        }

    async def _connect(self) -> None:
        """One connection from the first byte to the last; always ends by LinkError/LinkRefused."""
        await self._change(LinkState.CONNECTING, "")
        self._scope, self._drop_reason = trio.CancelScope(), ""
        try:
            with self._scope:
                async with open_link(
                    self._network,
                    self._url,
                    connect_timeout_s=self.settings.connect_timeout_ms / 1000,
                    max_message_bytes=self.settings.max_message_bytes,
                ) as link:
                    await self._converse(link)
        finally:
            self._disconnected()
        raise LinkError(self._drop_reason)

    async def _converse(self, link: WebSocketLink) -> None:
        session = self.adapter.session(self.settings.streams)
        self._subscribed.clear()
        self._refusals = 0
        self._link, self._session = link, session
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, link, session)
            for message in session.opening():
                await link.send(message)
            if self.private:
                await self._refresh_account()
                if (entry := self.adapter.order_entry) is not None:
                    entry.attach(link)
                nursery.start_soon(self._keep_account_current)
            self._connections += 1
            self._outage_ns += self._clock.monotonic_ns() - self._lost_ns
            await self._change(LinkState.UP, "")
            self.ready.set()

    async def _read(self, link: WebSocketLink, session: Session) -> None:
        entry = self.adapter.order_entry
        while True:
            message = await link.receive()
            received = session.receive(message, self._clock.now_ns())
            self._messages += 1
            if received.pong:
                self._pong.set()
            if received.subscribed:
                self._subscribed.update(received.subscribed)
            if entry is not None:
                for reply in received.replies:
                    entry.resolve(reply)
            if received.market:
                await self._deliver(received.market)
            if received.reports:
                await self._reports.send(received.reports)
            if received.problem:
                self._bad_message(message, received.problem)
            if received.notice:
                self._take_notice(received.notice)

    async def _deliver(self, events: Sequence[MarketEvent]) -> None:
        # Nearly always there is room: no deadline and no await is set up until there is none.
        for taken, event in enumerate(events):
            if not self._feed.offer(event):
                await self._wait_for_room(events[taken:])
                return

    async def _wait_for_room(self, events: Sequence[MarketEvent]) -> None:
        limit_ms = self.settings.feed_blocked_ms
        with trio.move_on_after(limit_ms / 1000) as patience:
            await self._feed.put(events)
        if patience.cancelled_caught:
            raise LinkError(f"feed blocked for {limit_ms} ms: reset and resnapshot")

    def _take_notice(self, notice: str) -> None:
        """Each is told when it first comes, as long as there are not too many kinds."""
        self._notices += 1
        if notice not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(notice)
            _log.warning("venue says something new", endpoint=self.settings.name, notice=notice)

    def _bad_message(self, message: str | bytes, problem: str) -> None:
        self._bad += 1
        self._refusals += 1
        if self._on_bad(self.settings.name, message, problem):
            raise LinkError(f"too many bad messages, the last: {problem}")

    async def _refresh_account(self) -> None:
        """What the private stream does not replay is fetched before orders may flow again."""
        if self.adapter.account_id is None:
            return
        try:
            report = await self.adapter.load_account()
        except DecodeError as error:
            raise LinkError(f"account state: {error}") from error
        await self._reports.send((report,))

    async def _keep_account_current(self) -> None:
        """Deposits, margin and positions as the venue sees them; a failure waits for its turn."""
        while True:
            await trio.sleep(self.settings.reconcile_interval_ms / 1000)
            try:
                await self._refresh_account()
            except (LinkError, LinkRefused) as error:
                _log.warning(
                    "account not refreshed", endpoint=self.settings.name, reason=str(error)
                )

    def _disconnected(self) -> None:
        if self._link is not None and self.private and self.adapter.order_entry is not None:
            self.adapter.order_entry.detach(self._link)
        self._held_ns = 0
        if self.state is LinkState.UP:
            self._lost_ns = self._clock.monotonic_ns()
            self._held_ns = self._lost_ns - self._since_ns
        self._link = self._session = None
        self._pong.set()  # a heartbeat waits for nobody any more

    async def _wait_out(self, reason: str) -> None:
        delay_ms = self._backoff.next_delay_ms()
        self._next_attempt_ns = self._clock.monotonic_ns() + delay_ms * NS_PER_MS
        await self._change(LinkState.BACKOFF, f"{reason}; next attempt in {delay_ms} ms")
        await trio.sleep(delay_ms / 1000)

    async def _change(self, state: LinkState, reason: str) -> None:
        self.state = state
        self._since_ns = self._clock.monotonic_ns()
        if reason:
            self.last_error = reason
        log = _log.info if state in (LinkState.UP, LinkState.CONNECTING) else _log.warning
        log(f"link {state.value}", endpoint=self.settings.name, reason=reason or None)
        event = LinkChanged(
            endpoint=self.settings.name,
            venue=self.adapter.venue,
            private=self.private,
            state=state,
            reason=reason,
            ts_event_ns=self._clock.now_ns(),
        )
        await self._feed.put((event,))


def _seconds(duration_ns: int) -> float:
    return round(duration_ns / 1e9, 3)
