"""Catches up with the venue after a private link was lost: what nobody told us meanwhile.

The private stream repeats no order update, and of fills only the last ones. The endpoint brings a
statement with every new connection: open orders and positions. Beside that, for each account whose
link comes back, the venue is asked here for all fills since we last knew them all, and then about
every order that is in doubt. Owns whose fills may be missing: until they are there, positions that
agree prove nothing, as missed fills may add up to nothing. For that reason the fills since the last
time are fetched again and again while the link is up, too. The execution engine runs it as a task
of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import structlog
import trio

from zq_daemon.engine.inquiry import FILL_MARGIN_NS, Inquiry, OrderQueries
from zq_daemon.engine.positions import FIRST_DELAY_NS, LAST_DELAY_NS
from zq_daemon.engine.reports import ReportReader
from zq_daemon.engine.schedule import Schedule
from zq_daemon.errors import DecodeError, LinkError, LinkRefused
from zq_daemon.journal.state import JournalState
from zq_daemon.model.ids import AccountId
from zq_daemon.ports.clock import NS_PER_S, Clock

_log = structlog.get_logger("zq.catch_up")


class CatchUp:
    """What is missing of which account; asked for once its link is up."""

    def __init__(
        self,
        *,
        state: JournalState,
        queries: Mapping[AccountId, OrderQueries],
        inquiry: Inquiry,
        reports: ReportReader,
        clock: Clock,
        silence_ns: int,
        interval_ns: int,
    ) -> None:
        """*silence_ns*: for how long a link may have been dead before its loss is noticed.

        *interval_ns*: how often fills are fetched while it is up.
        """
        self._interval_ns = interval_ns
        self._fetched_ns: dict[AccountId, int] = {}
        self._state = state
        self._queries = queries
        self._inquiry = inquiry
        self._reports = reports
        self._clock = clock
        self._margin_ns = FILL_MARGIN_NS + silence_ns
        self._up: set[AccountId] = set()
        self._missing: set[AccountId] = set()
        self._lost: set[AccountId] = set()
        self._delays_ns: dict[AccountId, int] = {}
        self._due = Schedule[AccountId]()
        self.done = 0

    def missing(self) -> Collection[AccountId]:
        """The accounts that are not caught up with."""
        return self._missing

    def on_link_lost(self, account_id: AccountId) -> None:
        """From now on, and a while before, things may happen that nobody tells.

        Before the first link there is nothing to catch up with: that is the recovery's.
        """
        if account_id in self._up and account_id in self._queries:
            self._missing.add(account_id)
            self._lost.add(account_id)
            self._reports.suspect(account_id)
        self._up.discard(account_id)

    def on_link_up(self, account_id: AccountId) -> None:
        """Ask now for what was missed."""
        self._up.add(account_id)
        self._fetched_ns.setdefault(account_id, self._clock.now_ns())
        if account_id in self._missing:
            self._delays_ns.pop(account_id, None)
            self._due.set(account_id, self._clock.monotonic_ns())

    async def run(self) -> None:
        """Catch up with whatever is due, until cancelled; an attempt that fails is repeated."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._catch_up)
            nursery.start_soon(self._keep_current)

    async def _keep_current(self) -> None:
        """Fetch what happened since the last time, at intervals; one that fails is not lost."""
        while True:
            await trio.sleep(self._interval_ns / NS_PER_S)
            for account_id in tuple(self._up):
                if account_id in self._queries and account_id not in self._missing:
                    await self._fetch_news(account_id)

    async def _fetch_news(self, account_id: AccountId) -> None:
        now_ns, before = self._clock.now_ns(), self._reports.booked()
        since_ns = self._fetched_ns[account_id] - self._margin_ns
        try:
            await self._inquiry.fetch_fills(account_id, since_ns)
        except (LinkError, LinkRefused, DecodeError) as error:
            _log.warning("fills not fetched", account=account_id, error=str(error))
            return
        self._fetched_ns[account_id] = now_ns
        if booked := self._reports.booked() - before:
            _log.warning("fills that nobody told", account=account_id, fills=booked)

    async def _catch_up(self) -> None:
        while True:
            for account_id in self._due.take_due(self._clock.monotonic_ns()):
                if account_id in self._up:  # else there is more to come
                    await self._attempt(account_id)
            await self._due.wait_due(self._clock.monotonic_ns())

    async def _attempt(self, account_id: AccountId) -> None:
        self._lost.discard(account_id)
        try:
            booked, complete = await self._ask(account_id)
        except (LinkError, LinkRefused, DecodeError) as error:
            delay_ns = self._delays_ns.get(account_id, FIRST_DELAY_NS)
            self._delays_ns[account_id] = min(2 * delay_ns, LAST_DELAY_NS)
            self._due.set(account_id, self._clock.monotonic_ns() + delay_ns)
            _log.warning("not caught up yet", account=account_id, error=str(error))
            return
        self.done += 1
        self._delays_ns.pop(account_id, None)
        if account_id not in self._lost:  # else there is more to be asked for
            self._missing.discard(account_id)
            self._reports.trust(account_id)
        log = _log.info if complete else _log.error
        log("caught up after an outage", account=account_id, fills=booked, complete=complete)

    async def _ask(self, account_id: AccountId) -> tuple[int, bool]:
        """How many fills were booked, and whether the venue still had all of them."""
        before = self._reports.booked()
        complete = True
        if (known_ns := self._state.known_ns(account_id)) is not None:
            history = await self._inquiry.fetch_fills(account_id, known_ns - self._margin_ns)
            complete = history.complete
        orders = [o for o in self._state.cache.orders_live() if o.account_id == account_id]
        if unanswered := await self._inquiry.ask_about(orders):
            raise LinkError(f"{unanswered} orders could not be asked about")
        return self._reports.booked() - before, complete
