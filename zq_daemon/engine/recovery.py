"""Recovery: the venue is asked what became of everything, and only then trading begins.

Owns the order of the questions, the same at every start. About every live order its status, then
the fills since the last one known, then a statement: open orders that nobody knows are external
ones, fills that the venue cannot give are synthesised (by the inquiry), and positions that still
differ when the statement is repeated are taken over. What the venue cannot tell yet stays in
flight, and the inquiry goes on asking. Part of the execution engine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

import structlog
import trio
from attrs import define, frozen

from zq_daemon.engine.inquiry import FILL_MARGIN_NS, Inquiry, OrderQueries
from zq_daemon.engine.positions import FIRST_DELAY_NS, PositionCheck
from zq_daemon.engine.reports import ReportReader
from zq_daemon.engine.shortfalls import NEGATIVES
from zq_daemon.errors import DecodeError, LinkError
from zq_daemon.journal.state import JournalState
from zq_daemon.model.ids import AccountId, InstrumentId
from zq_daemon.model.order import Order
from zq_daemon.model.report import AccountReport
from zq_daemon.ports.clock import NS_PER_S

_COMPARISONS = 5
"""After so many a position is taken over that differs differently each time (others trade it)."""

_log = structlog.get_logger("zq.recovery")


class Delays(Protocol):
    """How long to wait between attempts."""

    def next_delay_ms(self) -> int:
        """The next delay."""


@frozen(kw_only=True)
class Recovered:
    """What a recovery found; *unresolved* orders are still in doubt and asked about.

    *fills* were booked since the start (or the repetition's begin), asked for or not.

    *adjusted* names the positions that were taken over from the venue, *complete* is false where
    the venue does not keep all fills since the last known one.
    """

    asked: int
    resolved: int
    unresolved: int
    fills: int
    adjusted: tuple[str, ...]
    complete: bool


@define
class _Tally:
    complete: bool = True
    adjusted: tuple[str, ...] = ()
    reason: str = "recovery"


class Recovery:
    """Asks once, and again while the venue does not answer; the caller bounds the time."""

    def __init__(
        self,
        *,
        state: JournalState,
        queries: Mapping[AccountId, OrderQueries],
        inquiry: Inquiry,
        reports: ReportReader,
        positions: PositionCheck,
        fills_interval_ns: int,
    ) -> None:
        """Made before anything is heard of the venue: what was known until then counts.

        *fills_interval_ns*: for how long missed fills that add up to nothing may have gone
        unnoticed while positions agreed.
        """
        self._margin_ns = FILL_MARGIN_NS + fills_interval_ns
        self._state = state
        self._queries = queries
        self._inquiry = inquiry
        self._reports = reports
        self._positions = positions
        self._known_ns = dict(state.agreed_ns)
        for account_id in queries:
            if account_id in state.stated_ns:
                reports.suspect(account_id)  # until it was asked what happened meanwhile

    async def run(self, delays: Delays) -> Recovered:
        """Ask the venue about everything; raises LinkRefused when it refuses to be asked."""
        live, tally = tuple(self._state.cache.orders_live()), _Tally()
        for account_id in self._queries:
            await self._ask_until_answered(account_id, delays, tally)
        return self._recovered(live, tally, booked_before=0)

    async def repeat(self) -> Recovered:
        """The same once more, while trading goes on; LinkError when the venue does not answer."""
        live, tally = tuple(self._state.cache.orders_live()), _Tally(reason="reconciliation")
        booked = self._reports.booked()
        self._known_ns = dict(self._state.agreed_ns)
        for account_id in self._queries:
            await self._ask(account_id, tally)
        return self._recovered(live, tally, booked_before=booked)

    def _recovered(
        self, live: Collection[Order], tally: _Tally, *, booked_before: int
    ) -> Recovered:
        still = [self._state.cache.order(order.client_order_id) for order in live]
        return Recovered(
            asked=len(live),
            resolved=sum(1 for order in still if order is None or order.is_closed),
            unresolved=self._inquiry.in_doubt(),
            fills=self._reports.booked() - booked_before,
            adjusted=tally.adjusted,
            complete=tally.complete,
        )

    async def _ask_until_answered(
        self, account_id: AccountId, delays: Delays, tally: _Tally
    ) -> None:
        while True:
            try:
                await self._ask(account_id, tally)
                self._reports.trust(account_id)
                return
            except (LinkError, DecodeError) as error:
                delay_ms = delays.next_delay_ms()
                _log.warning(
                    "recovery: no answer", account=account_id, error=str(error), next_ms=delay_ms
                )
            await trio.sleep(delay_ms / 1000)

    async def _ask(self, account_id: AccountId, tally: _Tally) -> None:
        with self._positions.paused(account_id):
            await self._ask_and_take_over(account_id, tally)

    async def _ask_and_take_over(self, account_id: AccountId, tally: _Tally) -> None:
        orders = [o for o in self._state.cache.orders_live() if o.account_id == account_id]
        if unanswered := await self._inquiry.ask_about(orders):
            raise LinkError(f"{unanswered} of {len(orders)} orders could not be asked about")
        statement, differs = await self._compare(account_id, tally)
        for _ in range(_COMPARISONS):
            if not differs:
                break
            await trio.sleep(FIRST_DELAY_NS / NS_PER_S)
            differed = differs
            statement, differs = await self._compare(account_id, tally)
            if differs == differed:
                break
        if differs or not tally.complete:
            # Else nothing is missing for good: a fill that still is, is on its way.
            await self._await_fills(orders)
        if differs:
            statement, differs = await self._compare(account_id, tally)
        if differs:
            self._adopt(statement, differs, tally)

    async def _compare(
        self, account_id: AccountId, tally: _Tally
    ) -> tuple[AccountReport, Mapping[InstrumentId, str]]:
        """The venue's statement, and where we differ although we know all fills."""
        await self._fetch_fills(account_id, tally)
        statement = await self._queries[account_id].load_account()
        self._reports.read(statement)
        return statement, self._positions.differences(account_id)

    async def _fetch_fills(self, account_id: AccountId, tally: _Tally) -> None:
        """Everything since we knew all fills for sure; before the first statement is nothing."""
        stated_ns = self._state.stated_ns.get(account_id)
        if stated_ns is None:
            return
        known_ns = self._known_ns.get(account_id, stated_ns)
        history = await self._inquiry.fetch_fills(account_id, known_ns - self._margin_ns)
        tally.complete &= history.complete

    async def _await_fills(self, orders: Iterable[Order]) -> None:
        """Ask about orders that lack fills until the inquiry has concluded: a few times at most."""
        for _ in range(NEGATIVES + 1):
            now = [self._state.cache.order(order.client_order_id) for order in orders]
            lacking = [order for order in now if order and self._inquiry.lacks_fills(order)]
            if not lacking:
                return
            await trio.sleep(self._inquiry.span_ns / (NEGATIVES - 1) / NS_PER_S)
            await self._inquiry.ask_about(lacking)

    def _adopt(
        self, statement: AccountReport, differs: Mapping[InstrumentId, str], tally: _Tally
    ) -> None:
        """The fills do not explain it: trades outside of what the venue keeps, or transfers."""
        wanted = "; ".join(f"{each}: {what}" for each, what in sorted(differs.items()))
        reason = f"{tally.reason}: {wanted}"
        taken = self._reports.adopt_positions(statement, reason, only=differs)
        if not taken:
            return  # fills have moved them since
        found = tuple(f"{each}: {differs[each]}" for each in sorted(taken))
        tally.adjusted += found
        _log.error(
            "positions taken over from the venue",
            account=statement.account.account_id,
            differing=found,
            hint="strategies keep the positions of their own fills: compare zq-daemon positions",
        )
        self._reports.read(statement)
