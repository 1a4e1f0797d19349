"""Closes what a faulted strategy holds, by reduce-only market orders in its name.

Owns the attempts: when there is another one, how large it is, and when to give up. The host cancels
the strategy's orders, and calls `on_clock` from housekeeping; order events only tell why an attempt
came to nothing. In each instrument it waits until no order of the strategy lives any more (cancels
are asked for until then), so that one order at a time is out, and none of an unknown fate.

A strategy's position is the sum of its own fills; the account's is the net of all strategies, and
of whatever else trades there. They can differ, even in sign. What is safe is decided by the account
alone, for that is what is at risk: an order here is reduce-only and never larger than what the
account holds in the strategy's direction. So flattening can only make the account's position
smaller, and never turns it or opens one, also when our records are wrong. What others hold against
the strategy has closed that part of the account's position already: the rest is waited for, in case
theirs changes, and then given up. It stays in the books as the strategy's, and is told.

An attempt ends without a fill when it is denied (halted trading, no market, a lost link), refused,
or finds nobody to trade with. After `ATTEMPTS` of them in a row, with pauses of 1, 2, 4 … 60
seconds between, about a quarter of an hour in all, the instrument is given up: an error in the log
and a `HealthChanged`. A fill, of any size, begins the row anew. An order that is too large for the
risk limits is no attempt: it is halved. Nor is one that a halted account denies, as the venue's
position is another one than ours: it is repeated once a minute until they agree. A fill that comes
late and opens the position again is flattened as well. None of this outlives the daemon: after a
restart the strategy starts again, and has its position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

import structlog
from attrs import define

from zq_daemon.core import topics
from zq_daemon.core.bus import MessageBus
from zq_daemon.core.cache import Cache
from zq_daemon.core.portfolio import Portfolio
from zq_daemon.core.risk import DenialCode
from zq_daemon.model.event import (
    OrderCanceled,
    OrderDenied,
    OrderEvent,
    OrderExpired,
    OrderRejected,
)
from zq_daemon.model.ids import InstrumentId
from zq_daemon.model.instrument import Instrument
from zq_daemon.model.market import Side
from zq_daemon.model.money import EXACT, ROUNDED, ZERO
from zq_daemon.ports.clock import NS_PER_S, Clock
from zq_daemon.strategy.context import StrategyContext

ATTEMPTS = 20
"""In a row without a fill; then an instrument is given up."""
FIRST_PAUSE_NS = NS_PER_S
LAST_PAUSE_NS = 60 * NS_PER_S

_OWNER = "daemon"
_HALTED = "ACCOUNT_HALTED"
_TOO_LARGE = frozenset({DenialCode.MAX_ORDER_QUANTITY, DenialCode.MAX_ORDER_NOTIONAL})

_log = structlog.get_logger("zq.strategies")


@define
class _Leg:
    """One instrument: *held* when the order that is out was asked for, and why it came to nothing.

    *attempts* in a row without a fill; *most* is the largest order that the risk limits let pass.
    """

    held: Decimal | None = None
    quantity: Decimal = ZERO
    code: str = ""
    reason: str = ""
    attempts: int = 0
    due_ns: int = 0
    most: Decimal | None = None
    given_up: bool = False


class Flattening:
    """The flattening of one strategy, from its fault to the end of the daemon."""

    def __init__(
        self,
        context: StrategyContext,
        *,
        bus: MessageBus,
        cache: Cache,
        portfolio: Portfolio,
        clock: Clock,
        on_given_up: Callable[[], None],
    ) -> None:
        """Listen to the strategy's orders, which the host is cancelling."""
        self._context = context
        self._cache = cache
        self._portfolio = portfolio
        self._clock = clock
        self._on_given_up = on_given_up
        self._legs: dict[InstrumentId, _Leg] = {}
        self._is_flat = False
        pattern = f"order.*.{topics.escape(context.strategy_id)}.*"
        self._subscription = bus.subscribe(pattern, self._on_order_event, owner=_OWNER)

    def on_clock(self) -> None:
        """Make the attempts that are due."""
        for instrument_id, held in self._held():
            leg = self._legs.setdefault(instrument_id, _Leg())
            if not leg.given_up and not self._lives(instrument_id):
                self._look_after(instrument_id, leg, held)
        self._tell_flat()

    def abandon(self) -> None:
        """The daemon stops: make no more attempts, and say what is left."""
        self._subscription.cancel()
        left = "; ".join(f"{iid} {held:f}" for iid, held in self._held() if held)
        if left:
            _log.warning(
                "flattening ended by the stop of the daemon",
                strategy=self._context.strategy_id,
                left=left,
            )

    def __str__(self) -> str:
        """Where it stands, for people."""
        live = self._cache.live_count(strategy_id=self._context.strategy_id)
        told = [self._leg_text(iid, held) for iid, held in self._held() if held]
        if live:
            told.insert(0, f"{live} orders still live")
        return f"flattening: {'; '.join(told)}" if told else "flattened"

    def _leg_text(self, instrument_id: InstrumentId, held: Decimal) -> str:
        leg = self._legs.get(instrument_id, _Leg())
        text = f"{instrument_id} {held:f}"
        if leg.given_up:
            text += " given up"
        if leg.attempts:
            text += f" after {leg.attempts} attempts without a fill ({leg.reason})"
        return text

    def _held(self) -> Iterator[tuple[InstrumentId, Decimal]]:
        """What the strategy holds of each instrument it ever held, as far as it can be traded."""
        for position in self._portfolio.strategy_positions(self._context.strategy_id):
            instrument = self._cache.instrument(position.instrument_id)
            held = position.quantity
            if instrument is not None and not instrument.round_quantity(abs(held)):
                held = ZERO
            yield position.instrument_id, held

    def _lives(self, instrument_id: InstrumentId) -> bool:
        strategy_id = self._context.strategy_id
        return bool(self._cache.live_count(instrument_id=instrument_id, strategy_id=strategy_id))

    def _look_after(self, instrument_id: InstrumentId, leg: _Leg, held: Decimal) -> None:
        instrument = self._cache.instrument(instrument_id)
        if leg.held is not None:
            self._judge(leg, leg.held, held, instrument)
        if not held:
            return
        if leg.attempts >= ATTEMPTS:
            self._give_up(instrument_id, leg, held)
        elif self._clock.monotonic_ns() < leg.due_ns:
            return
        elif instrument is None:
            self._fail(leg, f"{instrument_id} is not known to the venue")
        else:
            self._attempt(instrument, leg, held)

    def _judge(
        self, leg: _Leg, before: Decimal, held: Decimal, instrument: Instrument | None
    ) -> None:
        """What became of the order that was out."""
        leg.held = None
        if held != before:
            leg.attempts = leg.due_ns = 0
        elif instrument is not None and leg.code in _TOO_LARGE and self._halve(leg, instrument):
            leg.due_ns = 0
        elif leg.code == _HALTED:
            leg.due_ns = self._clock.monotonic_ns() + LAST_PAUSE_NS
        else:
            self._fail(leg, leg.reason or "nothing was filled")

    def _halve(self, leg: _Leg, instrument: Instrument) -> bool:
        """Whether a smaller order is possible."""
        half = instrument.round_quantity(ROUNDED.divide(leg.quantity, Decimal(2)))
        if not half:
            return False
        leg.most = half
        return True

    def _attempt(self, instrument: Instrument, leg: _Leg, held: Decimal) -> None:
        side = Side.SELL if held > 0 else Side.BUY
        of_account = self._context.account_position(instrument.id).quantity
        reducible = max(EXACT.multiply(of_account, Decimal(-side.sign)), ZERO)
        most = abs(held) if leg.most is None else min(abs(held), leg.most)
        quantity = instrument.round_quantity(min(most, reducible))
        if not quantity:
            self._fail(leg, f"the account's position is {of_account:f}: nothing of it to reduce")
            return
        leg.held, leg.quantity, leg.code, leg.reason = held, quantity, "", ""
        self._context.submit_reduction(instrument.id, side, quantity)

    def _fail(self, leg: _Leg, reason: str) -> None:
        pause_ns = min(FIRST_PAUSE_NS << leg.attempts, LAST_PAUSE_NS)
        leg.attempts += 1
        leg.reason = reason
        leg.due_ns = self._clock.monotonic_ns() + pause_ns

    def _give_up(self, instrument_id: InstrumentId, leg: _Leg, held: Decimal) -> None:
        leg.given_up = True
        _log.error(
            "flattening given up: close the position by hand",
            strategy=self._context.strategy_id,
            instrument=instrument_id,
            left=f"{held:f}",
            attempts=leg.attempts,
            reason=leg.reason,
        )
        self._on_given_up()

    def _tell_flat(self) -> None:
        strategy_id = self._context.strategy_id
        is_flat = not any(held for _, held in self._held()) and not self._cache.live_count(
            strategy_id=strategy_id
        )
        if is_flat and not self._is_flat:
            _log.info("strategy flattened", strategy=strategy_id)
        self._is_flat = is_flat

    def _on_order_event(self, event: OrderEvent) -> None:
        """Note why nothing was filled; what to do about it is decided at the next housekeeping."""
        leg = self._legs.get(event.instrument_id)
        match event:
            case OrderDenied() | OrderRejected() if leg is not None:
                leg.code, leg.reason = event.code, f"{event.code}: {event.reason}"
            case OrderCanceled() | OrderExpired() if leg is not None:
                leg.reason = event.reason
            case _:
                pass
