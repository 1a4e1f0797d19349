"""Checks our positions against the venue's statements, and tells when they differ for good.

A statement can be ahead of us: it knows fills that are still on their way, as after an outage. So a
difference is told only when a later statement repeats it, and the statements are asked for until
there is none: then it is withdrawn. Owns that judgement; the reader of reports hands it statements
and fills, the inquiry asks for the statements that are due. It never corrects a position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal

import structlog
from attrs import define, field

from zq_daemon.core import topics
from zq_daemon.core.bus import MessageBus
from zq_daemon.core.cache import Cache
from zq_daemon.core.portfolio import Portfolio
from zq_daemon.engine.schedule import Schedule
from zq_daemon.model.event import HealthChanged
from zq_daemon.model.fill import Fill
from zq_daemon.model.ids import AccountId, InstrumentId
from zq_daemon.model.money import EXACT, ZERO
from zq_daemon.model.report import AccountReport
from zq_daemon.ports.clock import NS_PER_S, Clock

FIRST_DELAY_NS = 3 * NS_PER_S
"""What a statement knows and the private stream has not told yet arrives within this."""
LAST_DELAY_NS = 300 * NS_PER_S
PATIENCE_NS = 60 * NS_PER_S
"""A difference that lasts this long is told even if it is another one in each statement."""

_log = structlog.get_logger("zq.reports")


@define(kw_only=True)
class _Difference:
    """*stated* and *ours* as of the venue time *stated_ns*; *since*, *first* and now monotonic.

    *since_ns*: from when on it was the same difference, *first_ns*: from when on there was one.
    """

    stated: Decimal
    ours: Decimal
    stated_ns: int
    since_ns: int
    first_ns: int
    told: bool = False

    @property
    def amount(self) -> Decimal:
        return EXACT.subtract(self.stated, self.ours)

    def outlast(self, known: _Difference) -> None:
        """Another statement differs as well, after *known*."""
        now_ns, self.first_ns = self.since_ns, known.first_ns
        if self.amount == known.amount:
            self.since_ns = known.since_ns
        lasts = now_ns - self.since_ns >= FIRST_DELAY_NS
        self.told |= lasts or now_ns - self.first_ns >= PATIENCE_NS


@define
class _Check:
    """What is open of one account."""

    differences: dict[InstrumentId, _Difference] = field(factory=dict)
    delay_ns: int = FIRST_DELAY_NS
    told: str = ""


class PositionCheck:
    """The differences between our positions and the venue's, by account."""

    def __init__(
        self,
        bus: MessageBus,
        cache: Cache,
        portfolio: Portfolio,
        clock: Clock,
        is_link_up: Callable[[AccountId], bool],
    ) -> None:
        self._bus = bus
        self._cache = cache
        self._portfolio = portfolio
        self._clock = clock
        self._is_link_up = is_link_up
        self._checks: dict[AccountId, _Check] = {}
        self.statements_due = Schedule[AccountId]()

    def told(self) -> Mapping[AccountId, str]:
        """The accounts whose positions differ from the venue's, and how."""
        return {account_id: check.told for account_id, check in self._checks.items() if check.told}

    def compare(self, report: AccountReport) -> None:
        """Take the statement *report*; positions of unknown instruments are nothing of ours."""
        account_id, stated_ns = report.account.account_id, report.account.ts_event_ns
        check = self._checks.setdefault(account_id, _Check())
        stated = {each.instrument_id: each.quantity for each in report.positions}
        held = {each.instrument_id for each in self._portfolio.positions(account_id)}
        for instrument_id in stated.keys() | held | check.differences.keys():
            if self._cache.instrument(instrument_id) is not None:
                theirs = stated.get(instrument_id, ZERO)
                self._compare_one(check, account_id, instrument_id, theirs, stated_ns)
        self._conclude(account_id, check)
        if check.differences:
            self._ask_in(account_id, check.delay_ns)
            check.delay_ns = min(2 * check.delay_ns, LAST_DELAY_NS)

    def on_fill(self, fill: Fill) -> None:
        """A fill was booked: it may be the one that a statement knew before us."""
        check = self._checks.get(fill.account_id)
        difference = None if check is None else check.differences.get(fill.instrument_id)
        if check is None or difference is None:
            return
        difference.ours = self._portfolio.quantity(fill.account_id, fill.instrument_id)
        is_in_statement = fill.ts_event_ns <= difference.stated_ns
        if is_in_statement and self._is_same(fill.instrument_id, difference.amount):
            del check.differences[fill.instrument_id]
            self._conclude(fill.account_id, check)
        else:
            check.delay_ns = FIRST_DELAY_NS
            self._ask_in(fill.account_id, FIRST_DELAY_NS)

    def on_link_up(self) -> None:
        """Judge what differs afresh: what the link missed is on its way now."""
        for account_id, check in self._checks.items():
            if check.differences:
                check.delay_ns = FIRST_DELAY_NS
                self._ask_in(account_id, FIRST_DELAY_NS)

    def retry(self, account_id: AccountId) -> None:
        """A statement that was due could not be had."""
        check = self._checks[account_id]
        self._ask_in(account_id, check.delay_ns)
        check.delay_ns = min(2 * check.delay_ns, LAST_DELAY_NS)

    def _compare_one(
        self,
        check: _Check,
        account_id: AccountId,
        instrument_id: InstrumentId,
        stated: Decimal,
        stated_ns: int,
    ) -> None:
        position = self._portfolio.position(account_id, instrument_id)
        if position.ts_last_ns > stated_ns:
            return  # a fill is newer than the statement: they cannot be compared
        amount = EXACT.subtract(stated, position.quantity)
        if self._is_same(instrument_id, amount):
            check.differences.pop(instrument_id, None)
            return
        now_ns = self._clock.monotonic_ns()
        known = check.differences.get(instrument_id)
        made = check.differences[instrument_id] = _Difference(
            stated=stated,
            ours=position.quantity,
            stated_ns=stated_ns,
            since_ns=now_ns,
            first_ns=now_ns,
        )
        if known is not None:
            made.told = known.told
            # Without the link nothing arrives that could explain the difference.
            if self._is_link_up(account_id):
                made.outlast(known)

    def _is_same(self, instrument_id: InstrumentId, amount: Decimal) -> bool:
        instrument = self._cache.instrument(instrument_id)
        return abs(amount) <= (ZERO if instrument is None else instrument.quantity_step / 2)

    def _ask_in(self, account_id: AccountId, delay_ns: int) -> None:
        self.statements_due.set(account_id, self._clock.monotonic_ns() + delay_ns)

    def _conclude(self, account_id: AccountId, check: _Check) -> None:
        if not check.differences:
            check.delay_ns = FIRST_DELAY_NS
            self.statements_due.drop(account_id)
        found = "; ".join(
            f"{instrument_id}: ours {each.ours}, venue's {each.stated}"
            for instrument_id, each in sorted(check.differences.items())
            if each.told
        )
        if found != check.told:
            check.told = found
            self._tell(account_id, found)

    def _tell(self, account_id: AccountId, difference: str) -> None:
        if difference:
            _log.error("positions differ from the venue's", account=account_id, what=difference)
        else:
            _log.info("positions agree with the venue's", account=account_id)
        component = f"positions:{account_id}"
        event = HealthChanged(
            component=component,
            healthy=not difference,
            reason=difference or "positions agree with the venue's",
            ts_event_ns=self._clock.now_ns(),
        )
        self._bus.publish(topics.health(component), event)
