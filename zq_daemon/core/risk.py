"""Pre-trade risk: what may leave, decided before a byte of it does.

Owns the limits, the trading state and the kill switch. It never sends, cancels or publishes: the
execution engine asks `check` and `check_modify` and publishes the denial, and calls `on_pnl`
regularly. Positions come from the portfolio, live orders and marks from the cache.

Every limit on exposure is checked against the worst case: all live orders of the same side (also
those in flight) filled, and this one too. Reduce-only orders cannot add exposure, so they are
counted for nothing but the reduction they may still do, and are exempt from the minimum notional,
from position, exposure and leverage limits, and from the need of a mark: getting out must stay
possible. An order that leaves the worst case of its instrument as it was passes the exposure and
leverage limits even when they are exceeded already. A market order's price is the execution
engine's own bound (from the book and the venue's slippage), so the collar does not apply to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import StrEnum

from attrs import evolve, frozen

from zq_daemon.config.schema import RiskConfig
from zq_daemon.core.cache import Cache
from zq_daemon.core.commitments import Kind
from zq_daemon.core.portfolio import Portfolio
from zq_daemon.model.event import TradingState, TradingStateChanged
from zq_daemon.model.ids import AccountId, InstrumentId
from zq_daemon.model.instrument import Instrument
from zq_daemon.model.market import Side, TradingStatus
from zq_daemon.model.money import EXACT, ZERO
from zq_daemon.model.order import Order

_NS_PER_S = 1_000_000_000
_BPS = Decimal(10_000)
_CENT = Decimal("0.01")
_BUYING, _SELLING = (Side.BUY, False), (Side.SELL, False)
_SEVERITY = {TradingState.ACTIVE: 0, TradingState.REDUCING: 1, TradingState.HALTED: 2}


class DenialCode(StrEnum):
    """The check that stopped an order."""

    TRADING_HALTED = "TRADING_HALTED"
    REDUCING_ONLY = "REDUCING_ONLY"
    UNKNOWN_INSTRUMENT = "UNKNOWN_INSTRUMENT"
    DELISTED = "DELISTED"
    INSTRUMENT_HALTED = "INSTRUMENT_HALTED"
    INVALID_QUANTITY = "INVALID_QUANTITY"
    INVALID_PRICE = "INVALID_PRICE"
    MIN_NOTIONAL = "MIN_NOTIONAL"
    MAX_ORDER_QUANTITY = "MAX_ORDER_QUANTITY"
    MAX_ORDER_NOTIONAL = "MAX_ORDER_NOTIONAL"
    NO_MARK_PRICE = "NO_MARK_PRICE"
    PRICE_COLLAR = "PRICE_COLLAR"
    TRIGGER_PRICE = "TRIGGER_PRICE"
    NOT_OWNED = "NOT_OWNED"
    REDUCE_ONLY = "REDUCE_ONLY"
    MAX_POSITION_QUANTITY = "MAX_POSITION_QUANTITY"
    MAX_POSITION_NOTIONAL = "MAX_POSITION_NOTIONAL"
    MAX_GROSS_EXPOSURE = "MAX_GROSS_EXPOSURE"
    NO_EQUITY = "NO_EQUITY"
    MAX_LEVERAGE = "MAX_LEVERAGE"
    MAX_OPEN_ORDERS = "MAX_OPEN_ORDERS"
    ORDER_RATE = "ORDER_RATE"


@frozen
class Denial:
    """Why an order must not leave: a *code* for programs, a *reason* with the numbers for people.

    Codes of the checks in here are `DenialCode`; the engines add their own.
    """

    code: str
    reason: str


class RiskEngine:
    """The limits of one daemon, over all its accounts and strategies."""

    def __init__(self, cache: Cache, portfolio: Portfolio, config: RiskConfig) -> None:
        """Start in the trading state that *config* names."""
        self._cache = cache
        self._portfolio = portfolio
        self._config = config
        self._state = TradingState(config.trading_state)
        self._reason = "configured"
        self._sent_ns: deque[int] = deque(maxlen=config.max_orders_per_second)
        self._day_pnl: dict[AccountId, Decimal] = {}
        self._accepted_pnl: dict[AccountId, tuple[int, Decimal]] = {}

    @property
    def state(self) -> TradingState:
        """What may be sent now."""
        return self._state

    @property
    def state_reason(self) -> str:
        """Who or what set the trading state."""
        return self._reason

    @property
    def config(self) -> RiskConfig:
        """The limits in force."""
        return self._config

    def check(self, order: Order, now_ns: int) -> Denial | None:
        """Whether a new *order* may leave; None is yes, and counts towards the order rate.

        *order* may or may not be in the cache yet. *now_ns* may be wall or monotonic time, as long
        as it is always the same.
        """
        return self._check_order(order) or self._check_count(order) or self._take_rate(now_ns)

    def check_modify(
        self, order: Order, price: Decimal | None, quantity: Decimal | None, now_ns: int
    ) -> Denial | None:
        """Whether live *order* may be changed to *price* and total *quantity* (None: unchanged).

        A change that does not raise the quantity passes exposure limits even where exceeded.
        """
        changed = evolve(
            order,
            price=order.price if price is None else price,
            quantity=order.quantity if quantity is None else quantity,
            pending_quantity=None,
        )
        finite = quantity is not None and quantity.is_finite()  # what is not is denied below
        grows = finite and changed.quantity > order.quantity
        return self._check_order(changed, grows=grows) or self._take_rate(now_ns)

    def check_exit(
        self, entry: Order, order: Order, now_ns: int, *, beside: int = 1
    ) -> Denial | None:
        """Whether *order*, an exit of the admitted *entry*, may leave *beside* so many with it.

        It closes what the entry opens: no more than that, beyond a price that the entry is not at:
        its own, or the mark's where it trades at once.
        """
        instrument = self._cache.instrument(order.instrument_id)
        if instrument is None:
            return Denial(DenialCode.UNKNOWN_INSTRUMENT, f"{order.instrument_id} is not known")
        if order.quantity > entry.quantity:
            reason = f"an exit of {order.quantity} closes more than the entry's {entry.quantity}"
            return Denial(DenialCode.REDUCE_ONLY, reason)
        mark = self._cache.mid_or_mark(order.instrument_id)
        return (
            _check_terms(instrument, order)
            or _check_trigger(order, _expected_price(entry, mark))
            or self._check_collar(order, None)
            or self._check_count(order, beside)
            or self._take_rate(now_ns)
        )

    def set_state(self, state: TradingState, reason: str) -> bool:
        """Change what may be sent; false if it was so already.

        Leaving HALTED accepts a daily loss that reached its limit: trading halts again when the
        same limit is lost once more on that day.
        """
        if state is self._state:
            return False
        if self._state is TradingState.HALTED:
            for account_id in self._losers():
                self._accept(account_id)
        self._state, self._reason = state, reason
        return True

    def restore(self, state: TradingState, reason: str) -> bool:
        """Go on with the *state* of a former run where it is stricter than the configured one."""
        if _SEVERITY[state] <= _SEVERITY[self._state]:
            return False
        self._state, self._reason = state, reason
        return True

    def accepted_pnl(self, account_id: AccountId) -> Decimal | None:
        """The day's P&L as it was accepted on leaving HALTED; None: it was not, on that day."""
        day, amount = self._accepted_pnl.get(account_id, (None, None))
        return amount if day == self._portfolio.day(account_id) else None

    def restore_accepted(self, account_id: AccountId, day: int, amount: Decimal) -> None:
        """Go on with what was accepted of *day* (since the epoch) in a former run."""
        self._accepted_pnl[account_id] = day, amount

    def kill(self, reason: str) -> bool:
        """The kill switch: nothing leaves until an operator sets another state."""
        return self.set_state(TradingState.HALTED, f"kill switch: {reason}")

    def reload(self, config: RiskConfig) -> None:
        """Use new limits from the next check on.

        A changed `trading_state` is taken where it is stricter than the current one; only
        `set_state` loosens, so that reloading a file never undoes a halt.
        """
        wanted = TradingState(config.trading_state)
        renewed = config.trading_state != self._config.trading_state
        if renewed and _SEVERITY[wanted] > _SEVERITY[self._state]:
            self.set_state(wanted, "configured")
        self._config = config
        self._sent_ns = deque(self._sent_ns, maxlen=config.max_orders_per_second)

    def measure(self, now_ns: int, accounts: Iterable[AccountId]) -> None:
        """Take the P&L of the UTC day (*now_ns* is wall time) of the *accounts* we trade for."""
        self._day_pnl = {each: self._portfolio.day_pnl(each, now_ns) for each in accounts}

    def on_pnl(self, now_ns: int, accounts: Iterable[AccountId]) -> TradingStateChanged | None:
        """Measure, and halt on the limit.

        To be called regularly and after fills; returns the change to publish, if there was one.
        """
        self.measure(now_ns, accounts)
        losers = self._losers()
        if not losers or self._state is TradingState.HALTED:
            return None
        reason = "; ".join(
            f"daily loss of {account_id}: {self._loss(account_id):.2f} reached the limit "
            f"{self._config.max_daily_loss}"
            for account_id in losers
        )
        self.set_state(TradingState.HALTED, reason)
        return TradingStateChanged(state=self._state, reason=reason, ts_event_ns=now_ns)

    def _losers(self) -> list[AccountId]:
        """The accounts whose loss of the day, less what was accepted, reached the limit."""
        limit = self._config.max_daily_loss
        if limit is None:
            return []
        return [account for account in self._day_pnl if self._loss(account) >= max(limit, _CENT)]

    def _loss(self, account_id: AccountId) -> Decimal:
        accepted = self.accepted_pnl(account_id) or ZERO
        return EXACT.subtract(accepted, self._day_pnl[account_id])

    def _accept(self, account_id: AccountId) -> None:
        day = self._portfolio.day(account_id)
        if day is not None:
            self._accepted_pnl[account_id] = day, self._day_pnl[account_id]

    def _check_order(self, order: Order, *, grows: bool = True) -> Denial | None:
        """Everything but how many and how fast; *grows*: it asks for more than is live."""
        if self._state is TradingState.HALTED:
            return Denial(DenialCode.TRADING_HALTED, f"trading is halted: {self._reason}")
        instrument = self._cache.instrument(order.instrument_id)
        if instrument is None:
            return Denial(DenialCode.UNKNOWN_INSTRUMENT, f"{order.instrument_id} is not known")
        mark = self._cache.mid_or_mark(order.instrument_id)
        return (
            self._check_status(instrument)
            or _check_terms(instrument, order)
            or self._check_size(instrument, order, mark)
            or _check_trigger(order, mark)
            or self._check_collar(order, mark)
            or self._check_owned(instrument, order)
            or self._check_exposure(order, mark, grows=grows)
        )

    def _check_status(self, instrument: Instrument) -> Denial | None:
        known = self._cache.status(instrument.id)
        status = None if known is None else known.status
        if instrument.delisted or status is TradingStatus.DELISTED:
            return Denial(DenialCode.DELISTED, f"{instrument.id} is no longer traded")
        if known is not None and status is TradingStatus.HALTED:
            return Denial(
                DenialCode.INSTRUMENT_HALTED, f"{instrument.id} is halted: {known.reason}"
            )
        return None

    def _check_size(
        self, instrument: Instrument, order: Order, mark: Decimal | None
    ) -> Denial | None:
        most = self._config.max_order_quantity.get(order.instrument_id)
        if most is not None and order.quantity > most:
            return Denial(
                DenialCode.MAX_ORDER_QUANTITY, f"quantity {order.quantity} exceeds {most}"
            )
        price = mark if order.price is None else order.price
        if price is None:
            return Denial(DenialCode.NO_MARK_PRICE, f"no price to value {instrument.id} with")
        notional = EXACT.multiply(price, order.remaining_quantity)
        if notional < instrument.min_notional and not order.reduce_only:
            return Denial(
                DenialCode.MIN_NOTIONAL,
                f"notional {notional} is below the venue's minimum {instrument.min_notional}",
            )
        limit = self._config.max_order_notional
        if limit is not None and notional > limit:
            return Denial(DenialCode.MAX_ORDER_NOTIONAL, f"notional {notional} exceeds {limit}")
        return None

    def _check_collar(self, order: Order, mark: Decimal | None) -> Denial | None:
        collar = self._config.price_collar_bps
        if collar is None or order.price is None or order.order_type.is_market:
            return None
        if order.trigger_price is not None:  # what it is worth when it is let into the book
            mark = order.trigger_price
        if mark is None:
            if order.reduce_only:
                return None
            return Denial(
                DenialCode.NO_MARK_PRICE, f"no mark of {order.instrument_id} for the price collar"
            )
        distance = EXACT.subtract(order.price, mark).copy_abs()
        if EXACT.multiply(distance, _BPS) <= EXACT.multiply(mark, Decimal(collar)):
            return None
        return Denial(
            DenialCode.PRICE_COLLAR, f"price {order.price} is not within {collar} bps of {mark}"
        )

    def _check_owned(self, instrument: Instrument, order: Order) -> Denial | None:
        """Of a spot instrument only what is held, and not on sale already, can be sold."""
        if not instrument.is_spot or order.side is Side.BUY:
            return None
        held = self._portfolio.quantity(order.account_id, order.instrument_id)
        left = EXACT.subtract(held, self._live_quantity(order))
        if order.remaining_quantity <= left:
            return None
        return Denial(
            DenialCode.NOT_OWNED,
            f"sell {order.remaining_quantity} of {instrument.base_currency}: {max(left, ZERO)} is "
            f"held and not on sale already",
        )

    def _check_exposure(self, order: Order, mark: Decimal | None, *, grows: bool) -> Denial | None:
        position = self._portfolio.quantity(order.account_id, order.instrument_id)
        if order.reduce_only or self._state is TradingState.REDUCING:
            denial = self._check_reduces(order, position)
            if denial is not None or order.reduce_only:
                return denial
        if not grows:
            return None
        worst = self._worst_cases(order, position)
        return self._check_position(order, worst, mark) or self._check_account(order, worst, mark)

    def _check_reduces(self, order: Order, position: Decimal) -> Denial | None:
        """Only against an opposite position, and not through zero.

        While REDUCING, what live orders of the same side will already close is no longer there: for
        a reduce-only order only what such orders do not, as the venue cuts those down. A stop that
        protects all of a position must not forbid to close it.
        """
        left = EXACT.multiply(position, Decimal(-order.side.sign))
        code = DenialCode.REDUCE_ONLY
        if self._state is TradingState.REDUCING:
            code = DenialCode.REDUCING_ONLY
            claims = self._committed(order).get((order.side, False), ZERO)
            left = EXACT.subtract(left, claims if order.reduce_only else self._live_quantity(order))
        quantity = order.remaining_quantity
        if quantity <= left:
            return None
        reason = (
            f"{order.side.value} {quantity} does not only reduce the position {position}: "
            f"{max(left, ZERO)} left to reduce"
        )
        return Denial(code, reason)

    def _live_quantity(self, order: Order) -> Decimal:
        """What live orders of the same side, account and instrument may still fill."""
        committed, side = self._committed(order), order.side
        return EXACT.add(committed.get((side, False), ZERO), committed.get((side, True), ZERO))

    def _worst_cases(self, order: Order, position: Decimal) -> _WorstCase:
        """Both ends that the instrument's position can reach without *order*."""
        return _WorstCase(position, self._committed(order))

    def _committed(self, order: Order) -> Mapping[Kind, Decimal]:
        """What other live orders of its account and instrument may still fill."""
        committed = self._cache.committed(order.account_id, order.instrument_id)
        itself = self._cache.order(order.client_order_id)
        if itself is None or itself.is_closed:
            return committed
        kind = itself.side, itself.reduce_only
        return {**committed, kind: EXACT.subtract(committed[kind], itself.fillable_quantity)}

    def _check_position(
        self, order: Order, worst: _WorstCase, mark: Decimal | None
    ) -> Denial | None:
        reach = EXACT.add(worst.toward(order.side), order.remaining_quantity)
        most = self._config.max_position_quantity.get(order.instrument_id)
        if most is not None and reach > most:
            return Denial(
                DenialCode.MAX_POSITION_QUANTITY,
                f"position may reach {reach} {order.side.value}, the limit is {most}",
            )
        limit = self._config.max_position_notional
        price = order.price if mark is None else mark
        if limit is None or price is None:
            return None
        notional = EXACT.multiply(reach, price)
        if notional <= limit:
            return None
        return Denial(
            DenialCode.MAX_POSITION_NOTIONAL,
            f"position may reach {notional} {order.side.value}, the limit is {limit}",
        )

    def _check_account(
        self, order: Order, worst: _WorstCase, mark: Decimal | None
    ) -> Denial | None:
        """Gross exposure and leverage, if the order can raise the account's worst case."""
        gross_limit, leverage_limit = self._config.max_gross_exposure, self._config.max_leverage
        price = order.price if mark is None else mark
        if price is None or (gross_limit is None and leverage_limit is None):
            return None
        before = worst.largest
        after = max(before, EXACT.add(worst.toward(order.side), order.remaining_quantity))
        if after == before:
            return None
        contracts, owned = self._gross_of_others(order)
        own = EXACT.multiply(after, price)
        gross = EXACT.add(EXACT.add(contracts, owned), own)
        if gross_limit is not None and gross > gross_limit:
            return Denial(
                DenialCode.MAX_GROSS_EXPOSURE,
                f"gross exposure may reach {gross}, the limit is {gross_limit}",
            )
        if leverage_limit is None or self._is_spot(order.instrument_id):
            return None
        return self._check_leverage(order.account_id, EXACT.add(contracts, own), leverage_limit)

    def _check_leverage(
        self, account_id: AccountId, gross: Decimal, limit: Decimal
    ) -> Denial | None:
        equity = self._portfolio.equity(account_id)
        if equity is None:
            return Denial(DenialCode.NO_EQUITY, f"the equity of {account_id} is not known yet")
        if gross <= EXACT.multiply(equity, limit):
            return None
        return Denial(
            DenialCode.MAX_LEVERAGE,
            f"gross exposure may reach {gross}, more than {limit} times the equity {equity}",
        )

    def _is_spot(self, instrument_id: InstrumentId) -> bool:
        instrument = self._cache.instrument(instrument_id)
        return instrument is not None and instrument.is_spot

    def _gross_of_others(self, order: Order) -> tuple[Decimal, Decimal]:
        """The worst-case gross exposure of the account's others: contracts, and what is owned."""
        account_id, quantity = order.account_id, self._portfolio.quantity
        held = (each.instrument_id for each in self._portfolio.positions(account_id))
        contracts = owned = ZERO
        for instrument_id in {*held, *self._cache.committed_instruments(account_id)}:
            if instrument_id == order.instrument_id:
                continue
            committed = self._cache.committed(account_id, instrument_id)
            case = _WorstCase(quantity(account_id, instrument_id), committed)
            if case.largest:
                value = EXACT.multiply(case.largest, self._price(account_id, instrument_id))
                if self._is_spot(instrument_id):
                    owned = EXACT.add(owned, value)
                else:
                    contracts = EXACT.add(contracts, value)
        return contracts, owned

    def _price(self, account_id: AccountId, instrument_id: InstrumentId) -> Decimal:
        """What an instrument is worth; without a mark the dearest of entry and order prices."""
        mark = self._cache.mid_or_mark(instrument_id)
        if mark is not None:
            return mark
        live = self._cache.orders_live(instrument_id=instrument_id)
        adding = (o for o in live if o.account_id == account_id and not o.reduce_only)
        asked = max((other.price or ZERO for other in adding), default=ZERO)
        entry = self._portfolio.position(account_id, instrument_id).average_entry_price
        return max(asked, entry or ZERO)

    def _check_count(self, order: Order, beside: int = 0) -> Denial | None:
        most = self._config.max_open_orders
        if most is None:
            return None
        known = self._cache.order(order.client_order_id)
        live = self._cache.live_count() - (known is not None and not known.is_closed) + beside
        if live < most:
            return None
        return Denial(DenialCode.MAX_OPEN_ORDERS, f"{live} orders are live, the limit is {most}")

    def _take_rate(self, now_ns: int) -> Denial | None:
        """Count one order in the sliding second that ends now."""
        most = self._config.max_orders_per_second
        if most is None:
            return None
        sent = self._sent_ns
        if sent and now_ns < sent[-1]:  # the wall clock was set back
            sent.clear()
        if most and (len(sent) < most or now_ns - sent[0] >= _NS_PER_S):
            sent.append(now_ns)
            return None
        return Denial(DenialCode.ORDER_RATE, f"{most} orders within the last second are the limit")


class _WorstCase:
    """How far a position can go either way when its live orders fill."""

    __slots__ = ("_long", "_short")

    def __init__(self, position: Decimal, committed: Mapping[Kind, Decimal]) -> None:
        self._long = EXACT.add(position, committed.get(_BUYING, ZERO))
        self._short = EXACT.subtract(committed.get(_SELLING, ZERO), position)

    def toward(self, side: Side) -> Decimal:
        """The largest position in the direction of *side* (negative: it stays opposite)."""
        return self._long if side is Side.BUY else self._short

    @property
    def largest(self) -> Decimal:
        """The largest absolute position."""
        return max(self._long, self._short)


def _expected_price(entry: Order, mark: Decimal | None) -> Decimal | None:
    """Where *entry* will trade: at its price, which for one that trades at once is the worst."""
    if mark is None or entry.price is None:
        return entry.price
    better = min if entry.side is Side.BUY else max
    return better(entry.price, mark)


def _check_trigger(order: Order, mark: Decimal | None) -> Denial | None:
    """A trigger price that is reached already would make it another kind of order."""
    trigger = order.trigger_price
    if trigger is None or mark is None:
        return None
    if trigger > mark if order.triggers_above else trigger < mark:
        return None
    where = "above" if order.triggers_above else "below"
    return Denial(
        DenialCode.TRIGGER_PRICE,
        f"a {order.order_type.value} {order.side.value} triggers {where} the mark {mark}, "
        f"not at {trigger}",
    )


def _check_terms(instrument: Instrument, order: Order) -> Denial | None:
    if not instrument.is_valid_quantity(order.quantity) or not order.remaining_quantity:
        return Denial(
            DenialCode.INVALID_QUANTITY,
            f"quantity {order.quantity} (filled {order.filled_quantity}): needs a positive "
            f"multiple of {instrument.quantity_step}",
        )
    if order.trigger_price is not None and not instrument.is_valid_price(order.trigger_price):
        return Denial(
            DenialCode.INVALID_PRICE, f"trigger price {order.trigger_price}: is not a valid price"
        )
    if order.price is None and order.order_type.is_market:
        return None
    if order.price is None or not instrument.is_valid_price(order.price):
        return Denial(
            DenialCode.INVALID_PRICE,
            f"price {order.price}: needs a positive number of at most "
            f"{instrument.price_decimals} decimals and {instrument.price_figures} figures",
        )
    return None
