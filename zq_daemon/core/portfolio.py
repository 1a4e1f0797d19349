"""Net positions, P&L, fees, funding, balances and exposure, from fills and venue statements.

Owns the arithmetic of positions: exact decimals throughout, nothing rounds silently. It never
publishes, never talks to a venue and reads no clock. The execution engine feeds it (every fill
once: it is the order state machine that knows duplicates); risk, strategies and status read it.

All amounts are in the instrument's quote currency; amounts of different instruments are added, so
an account is assumed to be quoted in one currency.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal

from attrs import evolve, frozen

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


def apply_fill(position: Position, fill: Fill, *, quote_currency: str | None = None) -> Position:
    """*position* after *fill* (of the same account and instrument).

    The cost of what stays open is reduced pro rata, and the realised P&L is the residual of the
    cash that moved: `realized_pnl - cost` always equals the sum of -side x price x quantity of all
    fills exactly, even where an average entry price has no finite decimal. Only a fee in
    *quote_currency* (None: whatever it is in) enters *fees*.
    """
    change = fill.signed_quantity
    quantity = EXACT.add(position.quantity, change)
    value = EXACT.multiply(fill.price, change)
    cost = _cost_after(position, quantity, change, fill.price, value)
    gained = EXACT.subtract(EXACT.subtract(cost, position.cost), value)
    in_quote = quote_currency is None or fill.fee_currency == quote_currency
    return evolve(
        position,
        quantity=quantity or ZERO,
        cost=cost,
        realized_pnl=EXACT.add(position.realized_pnl, gained) if gained else position.realized_pnl,
        fees=EXACT.add(position.fees, fill.fee) if in_quote else position.fees,
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


class _Baseline:
    """The net P&L of an account's positions at one moment, to measure changes from.

    A position whose net P&L is not known then (no mark) is measured from when it first is.
    """

    __slots__ = ("_net",)

    def __init__(self) -> None:
        self._net: dict[InstrumentId, Decimal] = {}

    def set(self, instrument_id: InstrumentId, net: Decimal | None) -> None:
        """Measure one position from *net* on."""
        if net is None:
            self._net.pop(instrument_id, None)
        else:
            self._net[instrument_id] = net

    def change(self, instrument_id: InstrumentId, net: Decimal | None) -> Decimal:
        """How far *net* is from the baseline; zero where it is not known."""
        if net is None:
            return ZERO
        return EXACT.subtract(net, self._net.setdefault(instrument_id, net))

    def rebase(
        self, instrument_id: InstrumentId, before: Decimal | None, net: Decimal | None
    ) -> None:
        """Measure on from *net*, which replaces *before*, keeping the change so far."""
        change = self.change(instrument_id, before)
        self.set(instrument_id, None if net is None else EXACT.subtract(net, change))


class Portfolio:
    """Every net position, by account and by strategy."""

    def __init__(
        self,
        *,
        marks: Callable[[InstrumentId], Decimal | None],
        instruments: Callable[[InstrumentId], Instrument | None],
    ) -> None:
        """*marks* and *instruments* look up what is known now (the cache), None for unknown."""
        self._marks = marks
        self._instruments = instruments
        self._accounts: dict[AccountId, dict[InstrumentId, Position]] = {}
        self._strategies: dict[StrategyId, dict[InstrumentId, Position]] = {}
        self._fees: dict[AccountId, dict[str, Decimal]] = {}
        self._statements: dict[AccountId, Account] = {}
        self._since_statement: dict[AccountId, _Baseline] = {}
        self._since_midnight: dict[AccountId, _Baseline] = {}
        self._day: int | None = None

    def on_fill(self, fill: Fill, strategy_id: StrategyId | None) -> Position:
        """Book a fill (each trade once); *strategy_id* None where no strategy of ours ordered it.

        Returns the account's new position.
        """
        instrument = self._instruments(fill.instrument_id)
        quote = instrument.quote_currency if instrument is not None else None
        held = self._opened(fill.account_id, fill.instrument_id)
        position = self._keep(apply_fill(held, fill, quote_currency=quote))
        if strategy_id is not None:
            mine = self._strategies.setdefault(strategy_id, {})
            before = mine.get(fill.instrument_id) or Position(
                account_id=fill.account_id, instrument_id=fill.instrument_id
            )
            mine[fill.instrument_id] = apply_fill(before, fill, quote_currency=quote)
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
            baseline.rebase(report.instrument_id, self._net(held), self._net(position))
        return self._keep(position)

    def on_account(self, account: Account) -> None:
        """Keep the venue's latest statement of an account; an older one is ignored."""
        known = self._statements.get(account.account_id)
        if known is None or account.ts_event_ns >= known.ts_event_ns:
            self._statements[account.account_id] = account
            baseline = self._since_statement[account.account_id] = _Baseline()
            self._change(account.account_id, baseline)

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
        """The stated equity, carried on by our own P&L since; None before the first statement."""
        statement = self._statements.get(account_id)
        if statement is None:
            return None
        change = self._change(account_id, self._since_statement[account_id])
        return EXACT.add(statement.equity, change)

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

        The day changes at the first call in the new day: call it regularly. A position taken over
        from the venue counts from the first call that finds a mark.
        """
        day = now_ns // NS_PER_DAY
        if self._day is not None and day > self._day:
            self._since_midnight.clear()
        self._day = day if self._day is None else max(day, self._day)
        return self._change(account_id, self._since_midnight.setdefault(account_id, _Baseline()))

    def _change(self, account_id: AccountId, baseline: _Baseline) -> Decimal:
        """The change of the account's net P&L since *baseline*; begins it where it has none."""
        return _sum(
            baseline.change(position.instrument_id, self._net(position))
            for position in self._of(account_id)
        )

    def _baselines(self, account_id: AccountId) -> tuple[_Baseline, ...]:
        today = self._since_midnight.setdefault(account_id, _Baseline())
        stated = self._since_statement.get(account_id)
        return (today,) if stated is None else (today, stated)

    def _opened(self, account_id: AccountId, instrument_id: InstrumentId) -> Position:
        """The position, to be changed; one never held before begins with no P&L."""
        held = self._held(account_id, instrument_id)
        if held is None:
            held = Position(account_id=account_id, instrument_id=instrument_id)
            for baseline in self._baselines(account_id):
                baseline.set(instrument_id, ZERO)
        return held

    def _net(self, position: Position) -> Decimal | None:
        """Net P&L at the mark; None for an open position without a mark."""
        if not position.quantity:
            return position.settled_pnl
        mark = self._marks(position.instrument_id)
        return None if mark is None else position.net_pnl(mark)

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


def _sum(values: Iterable[Decimal]) -> Decimal:
    total = ZERO
    for value in values:
        total = EXACT.add(total, value)
    return total
