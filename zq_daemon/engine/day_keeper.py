"""Keeps in the journal from where the day's P&L is measured, so that its loss outlives a restart.

Owns when that is written. The P&L is the portfolio's, what was accepted of it the risk engine's;
the daemon resumes before anything is booked, and has it kept by housekeeping.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from zq_daemon.core.risk import RiskEngine
from zq_daemon.journal.journal import Journal
from zq_daemon.journal.record import DayPnl
from zq_daemon.model.ids import AccountId
from zq_daemon.ports.clock import NS_PER_S

_MARKS_EVERY_NS = 60 * NS_PER_S


class DayKeeper:
    """Writes a `DayPnl` at once where a restart would measure otherwise; else once a minute.

    What changes with every fill is not written: replay, which has the fills, finds it. Only the
    marks at which a restart goes on until it knows new ones are up to a minute old.
    """

    def __init__(self, journal: Journal, risk: RiskEngine, accounts: Sequence[AccountId]) -> None:
        """*accounts* are those the daemon trades for."""
        self._journal = journal
        self._state = journal.state
        self._portfolio = journal.state.portfolio
        self._risk = risk
        self._accounts = accounts
        self._marks_ns = 0

    def resume(self, now_ns: int) -> None:
        """Measure on from where the journal says; before anything is booked."""
        self._portfolio.resume_days(now_ns)
        for day in self._state.day_pnl.values():
            if day.accepted is not None:
                self._risk.restore_accepted(day.account_id, day.measured.day, day.accepted)

    def keep(self, now_ns: int) -> None:
        """To be called regularly, with the wall time."""
        if not 0 <= now_ns - self._marks_ns < _MARKS_EVERY_NS:
            self.write(now_ns)
            return
        for account_id in self._accounts:
            day = self._measure(account_id, now_ns)
            if not self._covers(day):
                self._journal.write(day)

    def write(self, now_ns: int) -> None:
        """Have all of it in the journal as it is now."""
        self._marks_ns = now_ns
        for account_id in self._accounts:
            day = self._measure(account_id, now_ns)
            known = self._state.day_pnl.get(account_id)
            if known is None or not self._covers(day) or evolve(known, ts_event_ns=now_ns) != day:
                self._journal.write(day)

    def _measure(self, account_id: AccountId, now_ns: int) -> DayPnl:
        return DayPnl(
            account_id=account_id,
            amount=self._portfolio.day_pnl(account_id, now_ns),
            accepted=self._risk.accepted_pnl(account_id),
            measured=self._portfolio.measured_day(account_id),
            ts_event_ns=now_ns,
        )

    def _covers(self, day: DayPnl) -> bool:
        """Whether a restart would go on from *day*, but for how old the marks are."""
        known = self._state.day_pnl.get(day.account_id)
        kept = self._portfolio.kept_day(day.account_id)
        if known is None or kept is None or known.accepted != day.accepted:
            return False
        return kept.covers(day.measured)
