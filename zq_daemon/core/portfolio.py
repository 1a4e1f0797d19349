"""Net positions, P&L, fees, funding, balances and exposure, from fills and venue statements.

Owns the arithmetic of positions: exact decimals throughout, nothing rounds silently. It never
publishes, never talks to a venue and reads no clock. The execution engine feeds it (every fill
once: it is the order state machine that knows duplicates); risk, strategies and status read it.

All amounts are in the instrument's quote currency; amounts of different instruments are added, so
an account is assumed to be quoted in one currency.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from decimal import Decimal

from attrs import evolve, frozen

from zq_daemon.core.baseline import Baseline, DayBaseline, DayMeasure, Marks
from zq_daemon.core.synthesis import undone
from zq_daemon.model.account import Account
from zq_daemon.model.event import FundingPaid
from zq_daemon.model.fill import Fill
from zq_daemon.model.ids import AccountId, InstrumentId, StrategyId
from zq_daemon.model.instrument import Instrument
from zq_daemon.model.money import EXACT, ROUNDED, ZERO
from zq_daemon.model.position import Position
from zq_daemon.model.report import PositionReport

NS_PER_DAY = 86_400 * 1_000_000_000
_COST_STEP = Decimal("1E-18")
"""Where the cost of what remains after a reduction has no short decimal, it is cut to this."""


def apply_fill(position: Position, fill: Fill, *, instrument: Instrument | None = None) -> Position:
    """*position* after *fill* (of the same account and instrument).

    The cost of what stays open is reduced pro rata, and the realised P&L is the residual of the
    cash that moved: `realized_pnl - cost` always equals the sum of -side x price x quantity of all
    fills exactly, even where an average entry price has no finite decimal. Only a fee in the quote
    currency of *instrument* (None: whatever it is in) enters *fees*; one in the base currency of a
    spot instrument is taken out of what was traded, and enters *fees* at the fill's price.
    """
    fee, change = fill.fee, fill.signed_quantity
    if instrument is not None and fill.fee_currency != instrument.quote_currency:
        fee = ZERO
        if instrument.is_spot and fill.fee_currency == instrument.base_currency:
            fee, change = EXACT.multiply(fill.fee, fill.price), EXACT.subtract(change, fill.fee)
    quantity = EXACT.add(position.quantity, change)
    value = EXACT.multiply(fill.price, change)
    cost = _cost_after(position, quantity, change, fill.price, value)
    gained = EXACT.subtract(EXACT.subtract(cost, position.cost), value)
    return Position(
        account_id=position.account_id,
        instrument_id=position.instrument_id,
        quantity=quantity or ZERO,
        cost=cost,
        realized_pnl=EXACT.add(position.realized_pnl, gained) if gained else position.realized_pnl,
        fees=EXACT.add(position.fees, fee),
        funding=position.funding,
        ts_last_ns=max(position.ts_last_ns, fill.ts_event_ns),
    )


@frozen(kw_only=True)
class Pnl:
    """Profit and loss of some positions; a position without a mark adds nothing to *unrealized*."""

    realized: Decimal = ZERO
    unrealized: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO

    @property
    def net(self) -> Decimal:
        """Realised plus unrealised, less fees, plus funding."""
        trading = EXACT.add(self.realized, self.unrealized)
        return EXACT.add(EXACT.subtract(trading, self.fees), self.funding)


class Portfolio:
    """Every net position, by account and by strategy."""

    def __init__(
        self,
        *,
        marks: Marks,
        instruments: Callable[[InstrumentId], Instrument | None],
    ) -> None:
        """*marks* and *instruments* look up what is known now (the cache), None for unknown."""
        self._marks = marks
        self._instruments = instruments
        self._accounts: dict[AccountId, dict[InstrumentId, Position]] = {}
        self._strategies: dict[StrategyId, dict[InstrumentId, Position]] = {}
        self._fees: dict[AccountId, dict[str, Decimal]] = {}
        self._statements: dict[AccountId, Account] = {}
        self._since_statement: dict[AccountId, Baseline] = {}
        self._since_midnight: dict[AccountId, DayBaseline] = {}
        self._kept_days: dict[AccountId, DayBaseline] = {}

    def on_fill(
        self,
        fill: Fill,
        strategy_id: StrategyId | None,
        *,
        stated: bool = False,
        replaces: Fill | None = None,
    ) -> Position:
        """Book a fill (each trade once); *strategy_id* None where no strategy of ours ordered it.

        *stated*: the account's position has it already, as the venue stated it. *replaces* is
        what was booked in its place, and is taken back. Returns the account's position.
        """
        if replaces is not None:
            self.on_fill(undone(replaces), strategy_id, stated=stated)
        instrument = self._instruments(fill.instrument_id)
        held = self._opened(fill.account_id, fill.instrument_id)
        position = held if stated else self._keep(apply_fill(held, fill, instrument=instrument))
        if strategy_id is not None:
            mine = self._strategies.setdefault(strategy_id, {})
            before = mine.get(fill.instrument_id) or Position(
                account_id=fill.account_id, instrument_id=fill.instrument_id
            )
            mine[fill.instrument_id] = apply_fill(before, fill, instrument=instrument)
        fees = self._fees.setdefault(fill.account_id, {})
        fees[fill.fee_currency] = EXACT.add(fees.get(fill.fee_currency, ZERO), fill.fee)
        return position

    def on_funding(self, funding: FundingPaid) -> Position:
        """Book a funding payment on the account's position (not on any strategy's)."""
        held = self._opened(funding.account_id, funding.instrument_id)
        return self._keep(
            evolve(
                held,
                funding=EXACT.add(held.funding, funding.amount),
                ts_last_ns=max(held.ts_last_ns, funding.ts_event_ns),
            )
        )

    def set_position(self, report: PositionReport) -> Position:
        """Take over the venue's position (at start, or after an operator accepted a difference).

        Quantity and cost are replaced; what was realised stays. The difference is no P&L: the day's
        P&L and the equity stay as they are.
        """
        held = self.position(report.account_id, report.instrument_id)
        entry = report.average_entry_price
        position = evolve(
            held,
            quantity=report.quantity,
            cost=ZERO if entry is None else EXACT.multiply(entry, report.quantity),
            ts_last_ns=max(held.ts_last_ns, report.ts_event_ns),
        )
        for baseline in self._baselines(report.account_id):
            baseline.rebase(held, position)
        return self._keep(position)

    def on_account(self, account: Account) -> None:
        """Keep the venue's latest statement of an account; an older one is ignored."""
        known = self._statements.get(account.account_id)
        if known is None or account.ts_event_ns >= known.ts_event_ns:
            self._statements[account.account_id] = account
            baseline = self._since_statement[account.account_id] = Baseline(self._marks)
            self._change(account.account_id, baseline)

    def restore_position(self, position: Position, strategy_id: StrategyId | None) -> None:
        """Put a position back as it was: the account's, or one strategy's part of it."""
        if strategy_id is None:
            self._keep(position)
        else:
            self._strategies.setdefault(strategy_id, {})[position.instrument_id] = position

    def restore_fees(self, account_id: AccountId, fees: Mapping[str, Decimal]) -> None:
        """Put the fees paid by currency back."""
        self._fees[account_id] = dict(fees)

    def keep_strategies(self, accounts: Collection[AccountId]) -> None:
        """Let strategies hold nothing any more but what they hold in *accounts*."""
        for held in self._strategies.values():
            for instrument_id in [
                key for key, position in held.items() if position.account_id not in accounts
            ]:
                del held[instrument_id]

    def measure_anew(self) -> None:
        """Let the day's P&L, and the equity's change since its statement, begin here.

        After a replay, which had no marks: a position counts from when it first has one, unless
        the day is gone on with (`resume_days`).
        """
        self._since_midnight.clear()
        self._since_statement = {
            account_id: Baseline(self._marks) for account_id in self._statements
        }

    def keep_day(self, account_id: AccountId, measure: DayMeasure) -> None:
        """The journal has *measure* now: what follows it there moves it on, here and in replay."""
        self._kept_days[account_id] = DayBaseline.restored(measure, self._of(account_id), _no_mark)

    def kept_day(self, account_id: AccountId) -> DayMeasure | None:
        """What the journal adds up to of `keep_day` and all that came after; None: nothing."""
        kept = self._kept_days.get(account_id)
        return None if kept is None else kept.measure(self._of(account_id))

    def resume_days(self, now_ns: int) -> None:
        """Measure on from what the journal says, before anything more is booked.

        What was made since counts, at the last marks until there are new ones. A day that is over
        ends with the journal: what was made since then is of the new day.
        """
        today = now_ns // NS_PER_DAY
        for account_id, kept in self._kept_days.items():
            positions = tuple(self._of(account_id))
            live = DayBaseline.restored(kept.measure(positions), positions, self._marks)
            if live.day not in (today, today + 1):  # tomorrow: the clock was set back at midnight
                live.begin(today)
            self._since_midnight[account_id] = live
            self._change(account_id, live)

    def end_positions(self, account_id: AccountId) -> tuple[Position, ...]:
        """The venue is gone, and what was open there with it, which is no P&L; what is flat now."""
        return tuple(
            self.set_position(
                PositionReport(
                    account_id=account_id,
                    instrument_id=held.instrument_id,
                    quantity=ZERO,
                    average_entry_price=None,
                    ts_event_ns=held.ts_last_ns,
                    ts_recv_ns=held.ts_last_ns,
                )
            )
            for held in self.positions(account_id)
            if held.quantity
        )

    def position(self, account_id: AccountId, instrument_id: InstrumentId) -> Position:
        """The account's net position; flat when there never was one."""
        held = self._held(account_id, instrument_id)
        if held is None:
            return Position(account_id=account_id, instrument_id=instrument_id)
        return held

    def quantity(self, account_id: AccountId, instrument_id: InstrumentId) -> Decimal:
        """The account's signed net quantity."""
        held = self._held(account_id, instrument_id)
        return ZERO if held is None else held.quantity

    def unexplained(self, account_id: AccountId, instrument_id: InstrumentId) -> Decimal:
        """What the account holds and no order's fills explain: taken over, or of external fills."""
        left = self.quantity(account_id, instrument_id)
        for held in self._strategies.values():
            mine = held.get(instrument_id)
            if mine is not None and mine.account_id == account_id:
                left = EXACT.subtract(left, mine.quantity)
        return left

    def positions(self, account_id: AccountId | None = None) -> tuple[Position, ...]:
        """All positions ever held (also flat ones), of one account or of all."""
        return tuple(self._of(account_id))

    def strategy_position(self, strategy_id: StrategyId, instrument_id: InstrumentId) -> Position:
        """The sum of the strategy's own fills; flat, with an empty account, before the first."""
        held = self._strategies.get(strategy_id, {}).get(instrument_id)
        return held or Position(account_id=AccountId(""), instrument_id=instrument_id)

    def strategy_positions(self, strategy_id: StrategyId) -> tuple[Position, ...]:
        """All positions the strategy ever held."""
        return tuple(self._strategies.get(strategy_id, {}).values())

    def strategy_ids(self) -> tuple[StrategyId, ...]:
        """Every strategy with a position."""
        return tuple(self._strategies)

    def account_ids(self) -> tuple[AccountId, ...]:
        """Every account with a position or a statement."""
        return tuple(self._accounts | self._statements)

    def account(self, account_id: AccountId) -> Account | None:
        """The venue's latest statement, with the balances."""
        return self._statements.get(account_id)

    def fees(self, account_id: AccountId) -> Mapping[str, Decimal]:
        """Fees paid by currency, since the start (also those in the quote currency)."""
        return self._fees.get(account_id, {})

    def pnl(self, account_id: AccountId | None = None) -> Pnl:
        """P&L of an account at the current marks, or of all."""
        return self._pnl(self._of(account_id))

    def strategy_pnl(self, strategy_id: StrategyId) -> Pnl:
        """P&L of a strategy's own fills at the current marks, without funding."""
        return self._pnl(self._strategies.get(strategy_id, {}).values())

    def equity(self, account_id: AccountId) -> Decimal | None:
        """The stated equity, carried on by our own P&L since; None before the first statement.

        It is what carries contracts: what is owned on spot markets is no part of it.
        """
        statement = self._statements.get(account_id)
        if statement is None:
            return None
        baseline = self._since_statement[account_id]
        contracts = (each for each in self._of(account_id) if not self._is_spot(each.instrument_id))
        return EXACT.add(statement.equity, _sum(baseline.change(each) for each in contracts))

    def _is_spot(self, instrument_id: InstrumentId) -> bool:
        instrument = self._instruments(instrument_id)
        return instrument is not None and instrument.is_spot

    def exposure(self, account_id: AccountId, instrument_id: InstrumentId) -> Decimal:
        """The signed value of a position at its mark (at its cost where there is no mark)."""
        held = self._held(account_id, instrument_id)
        return ZERO if held is None else self._value(held)

    def gross_exposure(self, account_id: AccountId) -> Decimal:
        """The sum of the absolute values of the account's positions."""
        return _sum(self._value(position).copy_abs() for position in self._of(account_id))

    def net_exposure(self, account_id: AccountId) -> Decimal:
        """The sum of the signed values of the account's positions."""
        return _sum(self._value(position) for position in self._of(account_id))

    def day_pnl(self, account_id: AccountId, now_ns: int) -> Decimal:
        """Net P&L since 00:00 UTC (or since the start, if later), at the current marks.

        Where there is no mark any more, or none yet after a restart, at the last one. The day
        changes at the first call in the new day: call it regularly. A position taken over from the
        venue counts from the first call that finds a mark.
        """
        day, today = now_ns // NS_PER_DAY, self._today(account_id)
        if today.day is None:
            today.day = day
        elif day > today.day:
            today.begin(day)
        return self._change(account_id, today)

    def measured_day(self, account_id: AccountId) -> DayMeasure:
        """From where `day_pnl`, which was called before, measures: for the journal."""
        measure = self._today(account_id).measure(self._of(account_id))
        held = {each.instrument_id for each in self._of(account_id) if each.quantity}
        return evolve(measure, marks={k: mark for k, mark in measure.marks.items() if k in held})

    def day(self, account_id: AccountId) -> int | None:
        """The day (since the epoch) that `day_pnl` measures; None before its first call."""
        return self._today(account_id).day

    def _change(self, account_id: AccountId, baseline: Baseline) -> Decimal:
        """The change of the account's net P&L since *baseline*; begins it where it has none."""
        return _sum(baseline.change(position) for position in self._of(account_id))

    def _today(self, account_id: AccountId) -> DayBaseline:
        today = self._since_midnight.get(account_id)
        if today is None:
            today = self._since_midnight[account_id] = DayBaseline(self._marks)
        return today

    def _baselines(self, account_id: AccountId) -> Iterator[Baseline]:
        yield self._today(account_id)
        for baselines in (self._kept_days, self._since_statement):
            if account_id in baselines:
                yield baselines[account_id]

    def _opened(self, account_id: AccountId, instrument_id: InstrumentId) -> Position:
        """The position, to be changed; one never held before begins with no P&L."""
        held = self._held(account_id, instrument_id)
        if held is None:
            held = Position(account_id=account_id, instrument_id=instrument_id)
            for baseline in self._baselines(account_id):
                baseline.open(instrument_id)
        return held

    def _pnl(self, positions: Iterable[Position]) -> Pnl:
        held = tuple(positions)
        return Pnl(
            realized=_sum(position.realized_pnl for position in held),
            unrealized=_sum(self._unrealized(position) for position in held),
            fees=_sum(position.fees for position in held),
            funding=_sum(position.funding for position in held),
        )

    def _unrealized(self, position: Position) -> Decimal:
        mark = self._marks(position.instrument_id) if position.quantity else None
        return ZERO if mark is None else position.unrealized_pnl(mark)

    def _value(self, position: Position) -> Decimal:
        mark = self._marks(position.instrument_id) if position.quantity else None
        return position.cost if mark is None else EXACT.multiply(mark, position.quantity)

    def _held(self, account_id: AccountId, instrument_id: InstrumentId) -> Position | None:
        held = self._accounts.get(account_id)
        return None if held is None else held.get(instrument_id)

    def _of(self, account_id: AccountId | None) -> Iterable[Position]:
        if account_id is not None:
            return self._accounts.get(account_id, {}).values()
        return (position for held in self._accounts.values() for position in held.values())

    def _keep(self, position: Position) -> Position:
        self._accounts.setdefault(position.account_id, {})[position.instrument_id] = position
        kept = self._kept_days.get(position.account_id)
        if kept is not None:
            kept.change(position)  # what had no mark counts from when it is flat
        return position


def _cost_after(
    position: Position, quantity: Decimal, change: Decimal, price: Decimal, value: Decimal
) -> Decimal:
    """The signed cost of *quantity*, what is open after *change* at *price* (worth *value*)."""
    before = position.quantity
    if not quantity:
        return ZERO
    if not before or before.is_signed() == change.is_signed():
        return EXACT.add(position.cost, value)
    if before.is_signed() != quantity.is_signed():
        return EXACT.multiply(price, quantity)
    kept = ROUNDED.divide(EXACT.multiply(position.cost, quantity), before)
    exponent = kept.as_tuple().exponent
    too_long = isinstance(exponent, int) and exponent < -18
    return kept.quantize(_COST_STEP, context=ROUNDED) if too_long else kept


def _no_mark(instrument_id: InstrumentId) -> None:
    """What the journal has no mark of has none."""


def _sum(values: Iterable[Decimal]) -> Decimal:
    total = ZERO
    for value in values:
        total = EXACT.add(total, value)
    return total
