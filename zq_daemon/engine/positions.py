"""Checks our positions against the venue's statements, and tells when they differ for good.

A statement can be ahead of us: it knows fills that are still on their way, as after an outage. So a
difference is told only when a later statement repeats it, and the fills that were then asked for do
not explain it; both are asked for until there is none: then it is withdrawn. Meanwhile the account
is halted, if that is configured. Owns that judgement; what differs is found by `core.reconcile`,
the reader of reports hands it that and fills, the inquiry asks for what is due. It never corrects a
position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Literal

import structlog
from attrs import define, field

from zq_daemon.core.bus import MessageBus
from zq_daemon.core.cache import Cache
from zq_daemon.core.portfolio import Portfolio
from zq_daemon.core.reconcile import HALF, PositionDifference, tolerates
from zq_daemon.engine.health import tell_health
from zq_daemon.engine.schedule import Schedule
from zq_daemon.model.fill import Fill
from zq_daemon.model.ids import AccountId, InstrumentId
from zq_daemon.model.market import Side
from zq_daemon.model.money import EXACT, ZERO
from zq_daemon.model.order import Order
from zq_daemon.model.report import AccountReport
from zq_daemon.ports.clock import NS_PER_S, Clock

PositionPolicy = Literal["halt", "report"]
FIRST_DELAY_NS = 3 * NS_PER_S
"""What a statement knows and the private stream has not told yet arrives within this."""
LAST_DELAY_NS = 300 * NS_PER_S
PATIENCE_NS = 60 * NS_PER_S
"""A difference that lasts this long is told whatever else may still explain it."""

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

    def outlast(self, known: _Difference, sought_ns: int, *, is_owed: bool) -> None:
        """Another statement differs as well, after *known*; fills were sought at *sought_ns*.

        *is_owed*: an order that is in doubt may explain it yet.
        """
        now_ns, self.first_ns = self.since_ns, known.first_ns
        if self.amount == known.amount:
            self.since_ns = known.since_ns
        if sought_ns >= self.first_ns:
            lasts = now_ns - self.since_ns >= FIRST_DELAY_NS and not is_owed
            self.told |= lasts or now_ns - self.first_ns >= PATIENCE_NS


@define
class _Check:
    """What is open of one account.

    *asked_ns*: when others have asked for a statement, which none has come after yet.
    """

    differences: dict[InstrumentId, _Difference] = field(factory=dict)
    delay_ns: int = FIRST_DELAY_NS
    told: str = ""
    pauses: int = 0
    sought_ns: int = -1
    asked_ns: int | None = None


class PositionCheck:
    """The differences between our positions and the venue's, by account."""

    def __init__(
        self,
        bus: MessageBus,
        cache: Cache,
        portfolio: Portfolio,
        clock: Clock,
        is_link_up: Callable[[AccountId], bool],
        is_owed: Callable[[AccountId, InstrumentId], bool],
        *,
        tolerance: Decimal = HALF,
        on_halt: Callable[[AccountId], None] | None = None,
    ) -> None:
        """*is_owed*: whether an order of the instrument is in doubt, and may explain a difference.

        *tolerance* is in quantity steps. *on_halt* gets an account whose positions differ, and
        which is halted until they agree; without it a difference is only told.
        """
        self.tolerance = tolerance
        self._on_halt = on_halt
        self.is_armed = False
        self._bus = bus
        self._cache = cache
        self._portfolio = portfolio
        self._clock = clock
        self._is_link_up = is_link_up
        self._is_owed = is_owed
        self._checks: dict[AccountId, _Check] = {}
        self.statements_due = Schedule[AccountId]()

    @property
    def _halts(self) -> bool:
        return self.is_armed and self._on_halt is not None

    def told(self) -> Mapping[AccountId, str]:
        """The accounts whose positions differ from the venue's, and how."""
        return {account_id: check.told for account_id, check in self._checks.items() if check.told}

    def arm(self) -> None:
        """From now on a difference halts: before, what a start finds out is to explain it."""
        self.is_armed = True
        for account_id, check in self._checks.items():
            if check.told and self._on_halt is not None:
                self._on_halt(account_id)

    def halted(self) -> list[AccountId]:
        """The accounts that are halted."""
        return list(self.told()) if self._halts else []

    def why_halted(self, account_id: AccountId) -> str | None:
        """Why the account may not add to what nobody knows for sure; None: it may."""
        check = self._checks.get(account_id)
        if check is None or not check.told or not self._halts:
            return None
        return f"positions differ from the venue's: {check.told}"

    def may_reduce(self, order: Order) -> bool:
        """Whether *order* can only make the position smaller that the venue last stated.

        It holds such orders to its own position, whatever we take that for.
        """
        account_id, instrument_id = order.account_id, order.instrument_id
        check = self._checks.get(account_id)
        differs = None if check is None else check.differences.get(instrument_id)
        ours = self._portfolio.quantity(account_id, instrument_id)
        held = ours if differs is None else differs.stated
        return order.reduce_only and (held < ZERO if order.side is Side.BUY else held > ZERO)

    def compare(self, report: AccountReport, found: Iterable[PositionDifference]) -> bool:
        """Take what was *found* to differ from the statement *report*.

        Whether all of ours are as stated: one that a newer fill has moved cannot be told.
        """
        account_id, stated_ns = report.account.account_id, report.account.ts_event_ns
        check = self._checks.setdefault(account_id, _Check())
        if check.asked_ns is not None and check.asked_ns <= self._clock.monotonic_ns():
            check.asked_ns = None
        different = {each.instrument_id: each for each in found}
        for instrument_id in tuple(check.differences):
            if instrument_id not in different:
                del check.differences[instrument_id]
        for each in different.values():
            if not each.is_newer:
                self._compare_one(check, account_id, each, stated_ns)
        self._conclude(account_id, check)
        if check.differences:
            self._ask_in(account_id, check.delay_ns)
            check.delay_ns = min(2 * check.delay_ns, LAST_DELAY_NS)
        return not different and not check.differences

    @contextmanager
    def paused(self, account_id: AccountId) -> Iterator[None]:
        """Tell nothing of the account meanwhile: who asks what differs takes it over."""
        check = self._checks.setdefault(account_id, _Check())
        check.pauses += 1
        try:
            yield
        finally:
            check.pauses -= 1
            self._tell_news(account_id, check)

    def ask_soon(self, account_id: AccountId) -> None:
        """Another statement is needed soon, to tell what was late from what is wrong."""
        check = self._checks.setdefault(account_id, _Check())
        now_ns = self._clock.monotonic_ns()
        if check.asked_ns is None or check.asked_ns <= now_ns:
            check.asked_ns = now_ns + FIRST_DELAY_NS
        self.statements_due.set_by(account_id, check.asked_ns)

    def differences(self, account_id: AccountId) -> Mapping[InstrumentId, str]:
        """What differed in the last statement of the account, in words; also what is not told."""
        check = self._checks.get(account_id)
        if check is None:
            return {}
        return {
            instrument_id: f"ours {each.ours}, venue's {each.stated}"
            for instrument_id, each in check.differences.items()
        }

    def on_fill(self, fill: Fill) -> None:
        """A fill was booked: it may be the one that a statement knew before us."""
        check = self._checks.get(fill.account_id)
        difference = None if check is None else check.differences.get(fill.instrument_id)
        if check is None or difference is None:
            return
        difference.ours = self._portfolio.quantity(fill.account_id, fill.instrument_id)
        # Of the same moment it may be in the statement or not: the next one tells.
        is_in_statement = fill.ts_event_ns < difference.stated_ns
        if is_in_statement and self._is_same(fill.instrument_id, difference.amount):
            del check.differences[fill.instrument_id]
            self._conclude(fill.account_id, check)
        else:
            check.delay_ns = FIRST_DELAY_NS
            self._ask_in(fill.account_id, FIRST_DELAY_NS)

    def wants_history(self, account_id: AccountId) -> bool:
        """Whether fills may explain what they were not asked for yet, or not lately.

        A history costs the venue's budget more than a statement does.
        """
        check, now_ns = self._checks[account_id], self._clock.monotonic_ns()
        first_ns = max((each.first_ns for each in check.differences.values()), default=None)
        return first_ns is not None and check.sought_ns < max(first_ns, now_ns - LAST_DELAY_NS)

    def on_history(self, account_id: AccountId) -> None:
        """The account's fills were fetched: what still differs then, they do not explain."""
        check = self._checks.setdefault(account_id, _Check())
        check.sought_ns = self._clock.monotonic_ns()

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
        found: PositionDifference,
        stated_ns: int,
    ) -> None:
        """Take one position that is not as stated."""
        known = check.differences.pop(found.instrument_id, None)
        if found.is_tolerated:
            return
        now_ns = self._clock.monotonic_ns()
        made = check.differences[found.instrument_id] = _Difference(
            stated=found.stated,
            ours=found.ours,
            stated_ns=stated_ns,
            since_ns=now_ns,
            first_ns=now_ns,
        )
        if known is not None:
            made.told = known.told
            # Without the link nothing arrives that could explain the difference.
            if self._is_link_up(account_id):
                is_owed = self._is_owed(account_id, found.instrument_id)
                made.outlast(known, check.sought_ns, is_owed=is_owed)

    def _is_same(self, instrument_id: InstrumentId, amount: Decimal) -> bool:
        instrument = self._cache.instrument(instrument_id)
        step = ZERO if instrument is None else instrument.quantity_step
        return tolerates(step, amount, max(self.tolerance, HALF))

    def _ask_in(self, account_id: AccountId, delay_ns: int) -> None:
        self.statements_due.set_by(account_id, self._clock.monotonic_ns() + delay_ns)

    def _conclude(self, account_id: AccountId, check: _Check) -> None:
        if not check.differences:
            check.delay_ns = FIRST_DELAY_NS
            if check.asked_ns is None:
                self.statements_due.drop(account_id)
        self._tell_news(account_id, check)

    def _tell_news(self, account_id: AccountId, check: _Check) -> None:
        found = "; ".join(
            f"{instrument_id}: ours {each.ours}, venue's {each.stated}"
            for instrument_id, each in sorted(check.differences.items())
            if each.told
        )
        if found != check.told and not check.pauses:
            is_new = not check.told
            check.told = found
            self._tell(account_id, found, is_new=is_new)

    def _tell(self, account_id: AccountId, difference: str, *, is_new: bool) -> None:
        if difference:
            _log.error(
                "positions differ from the venue's",
                account=account_id,
                what=difference,
                halted=self._halts,
                hint="zq-daemon reconcile --dry-run",
            )
        else:
            _log.info("positions agree with the venue's", account=account_id)
        reason = difference or "positions agree with the venue's"
        component = f"positions:{account_id}"
        tell_health(self._bus, self._clock, component, reason, healthy=not difference)
        if is_new and self.is_armed and self._on_halt is not None:
            self._on_halt(account_id)
