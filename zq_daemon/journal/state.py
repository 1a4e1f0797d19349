"""What a journal says: the state that all its records add up to.

One value, kept up to date by the running daemon and rebuilt by replay. Cache and portfolio in it
are the ones the daemon trades with. Owns the meaning of the records that are not about one tracked
order; those that are change the cache through `core.order_state` (in the engine's ledger while it
runs, in `journal.replay` afterwards).
"""

from __future__ import annotations

from collections import deque

from attrs import Factory, define, evolve

from zq_daemon.core.cache import Cache
from zq_daemon.core.portfolio import Portfolio
from zq_daemon.core.seen import Seen
from zq_daemon.core.terms import TermsInFlight
from zq_daemon.journal.record import (
    DayPnl,
    InstrumentKnown,
    Intent,
    PositionsAgreed,
    Record,
    RunEnded,
    RunStarted,
    StatementAdopted,
    StrategySaved,
)
from zq_daemon.model.event import TradingStateChanged
from zq_daemon.model.fill import Fill
from zq_daemon.model.ids import AccountId, ClientOrderId, InstrumentId, StrategyId
from zq_daemon.model.instrument import Instrument

_RUNS = 4_096
"""Runs remembered: their ids are not used again, and a crash loop must not grow without end."""


@define(kw_only=True)
class JournalState:
    """Everything a restart needs to know.

    *intents*: the last one of every live order that has any. *stated_ns*: from which venue time on
    we know every fill of an account; *adopted_ns* the same of one instrument whose position was
    taken over later; *agreed_ns*: until when we did know all of them, for sure. *nonces*: the
    last one used for it. *instruments*: the terms as last journalled. *sequence*: the last record
    in here.
    """

    cache: Cache
    portfolio: Portfolio
    seen: Seen = Factory(Seen)
    terms: TermsInFlight = Factory(TermsInFlight)
    intents: dict[ClientOrderId, Intent] = Factory(dict)
    stated_ns: dict[AccountId, int] = Factory(dict)
    adopted_ns: dict[tuple[AccountId, InstrumentId], int] = Factory(dict)
    agreed_ns: dict[AccountId, int] = Factory(dict)
    nonces: dict[AccountId, int] = Factory(dict)
    runs: deque[RunStarted] = Factory(lambda: deque(maxlen=_RUNS))
    ended: RunEnded | None = None
    trading: TradingStateChanged | None = None
    day_pnl: dict[AccountId, DayPnl] = Factory(dict)
    saved: dict[StrategyId, StrategySaved] = Factory(dict)
    instruments: dict[InstrumentId, Instrument] = Factory(dict)
    sequence: int = 0

    def ended_accounts(self) -> tuple[AccountId, ...]:
        """Accounts that a run which starts now finds no more: their exchange was embedded."""
        return self.runs[-1].accounts if self.runs and self.runs[-1].embedded else ()

    def note_intent(self, intent: Intent) -> None:
        """An intent was written."""
        self.intents[intent.client_order_id] = intent
        self.note_nonce(intent.account_id, intent.nonce)

    def note_nonce(self, account_id: AccountId, nonce: int) -> None:
        """A nonce was used."""
        self.nonces[account_id] = max(nonce, self.nonces.get(account_id, 0))

    def known_ns(self, account_id: AccountId) -> int | None:
        """Until when we knew all fills of the account for sure; None before its first statement."""
        return self.agreed_ns.get(account_id, self.stated_ns.get(account_id))

    def is_stated(self, fill: Fill) -> bool | None:
        """Whether the venue's positions that we took over contain *fill*; None: none was yet."""
        stated_ns = self.stated_ns.get(fill.account_id)
        if stated_ns is None:
            return None
        return fill.ts_event_ns <= stated_ns or self.is_adopted(fill)

    def is_adopted(self, fill: Fill) -> bool:
        """Whether the position of its instrument was taken over later than *fill*, and has it."""
        adopted_ns = self.adopted_ns.get((fill.account_id, fill.instrument_id))
        return adopted_ns is not None and fill.ts_event_ns <= adopted_ns

    def note_closed(self, client_order_id: ClientOrderId) -> None:
        """An order has ended: its intent is history."""
        self.intents.pop(client_order_id, None)

    def note(self, record: Record) -> None:
        """Take what a record says beside cache and portfolio, which the ledger and replay keep."""
        match record:
            case RunStarted():
                self._forget_former(record)
                self.runs.append(record)
                self.ended = None
            case RunEnded():
                self.ended = record
            case TradingStateChanged():
                self.trading = record
            case DayPnl():
                self.day_pnl[record.account_id] = record
                self.portfolio.keep_day(record.account_id, record.measured)
            case StrategySaved():
                self.saved[record.strategy_id] = record
            case InstrumentKnown():
                self.instruments[record.instrument.id] = record.instrument
            case StatementAdopted():
                self._note_adopted(record)
            case PositionsAgreed():
                self.agreed_ns[record.account_id] = record.ts_event_ns
            case _:
                pass

    def days(self) -> tuple[DayPnl, ...]:
        """Each account's last record of its day, moved on by the records since."""
        days = ((day, self.portfolio.kept_day(day.account_id)) for day in self.day_pnl.values())
        return tuple(evolve(day, measured=kept or day.measured) for day, kept in days)

    def _note_adopted(self, record: StatementAdopted) -> None:
        if record.whole:
            self.stated_ns[record.account_id] = record.ts_event_ns
            return
        for position in record.positions:
            self.adopted_ns[record.account_id, position.instrument_id] = record.ts_event_ns

    def _forget_former(self, run: RunStarted) -> None:
        """What strategies hold is theirs in the accounts of this run only.

        An embedded exchange ended with its run, and the positions there with it: another one
        states its accounts anew.
        """
        for account_id in run.ended:
            self.stated_ns.pop(account_id, None)
            self.agreed_ns.pop(account_id, None)
            for key in [key for key in self.adopted_ns if key[0] == account_id]:
                del self.adopted_ns[key]
            for position in self.portfolio.end_positions(account_id):
                self.cache.put_position(position)
        self.portfolio.keep_strategies(set(run.accounts) - set(run.ended))


def empty_state(*, closed_orders: int) -> JournalState:
    """The state before the first record; the cache remembers *closed_orders*."""
    cache = Cache(closed_orders=closed_orders)
    portfolio = Portfolio(marks=cache.mid_or_mark, instruments=cache.instrument)
    return JournalState(cache=cache, portfolio=portfolio)
