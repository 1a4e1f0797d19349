"""What may leave: the gates, the order made valid for its venue, then risk.

Owns the gate that a stop closes, and the order of the checks. It sends nothing and changes no
order: the answer is the order as it may be sent, or why not. Part of the execution engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from zq_daemon.core.cache import Cache
from zq_daemon.core.risk import Denial, RiskEngine
from zq_daemon.core.terms import Terms
from zq_daemon.engine.brackets import Brackets
from zq_daemon.engine.normalise import normalise, valid_terms
from zq_daemon.model.command import ModifyOrder, SubmitBracket
from zq_daemon.model.event import TradingState
from zq_daemon.model.ids import AccountId, InstrumentId
from zq_daemon.model.order import Order, OrderType
from zq_daemon.ports.clock import Clock
from zq_daemon.venue.interface import OrderEntry, RequestKind

_SLIPPAGE_BPS = 500


class Admission:
    """Lets orders of accounts with an entry through, or says why not."""

    def __init__(
        self,
        *,
        cache: Cache,
        risk: RiskEngine,
        clock: Clock,
        brackets: Brackets,
        entries: Mapping[AccountId, OrderEntry],
        queued: Callable[[RequestKind], int],
        slippage_bps: Mapping[AccountId, int],
        is_stale: Callable[[InstrumentId], bool],
        is_link_up: Callable[[AccountId], bool],
        why_halted: Callable[[AccountId], str | None],
        may_reduce: Callable[[Order], bool],
    ) -> None:
        """*queued*: how many orders wait for such a request; the rest as by `ExecutionEngine`.

        *why_halted*: why an account is halted, None if it is not; *may_reduce*: whether an order
        can only reduce what the venue has stated.
        """
        self._why_halted = why_halted
        self._may_reduce = may_reduce
        self._cache = cache
        self._risk = risk
        self._clock = clock
        self._brackets = brackets
        self._entries = entries
        self._queued = queued
        self._slippage_bps = slippage_bps
        self._is_stale = is_stale
        self._is_link_up = is_link_up
        self.closed_by: str | None = None
        """Why no new order leaves; None while the gate is open."""

    def admit(self, asked: Order, *, exits: int = 0) -> Order | Denial:
        """The order as it may be sent with so many *exits*, or why not."""
        denial = self._forbids(asked) or self._lacks_budget("submit", asked, 1 + exits)
        if denial is not None:
            return denial
        order = self._normalised(asked)
        if isinstance(order, Denial):
            return order
        return self._risk.check(order, self._clock.now_ns()) or order

    def admit_bracket(self, command: SubmitBracket) -> tuple[Order, ...] | Denial:
        """The entry and its exits as they may be sent, all of them, or why not."""
        entry = self.admit(command.entry, exits=len(command.exits))
        if isinstance(entry, Denial):
            return entry
        admitted = [entry]
        for asked in command.exits:
            order = self._normalised(asked)
            if isinstance(order, Denial):
                return order
            now_ns = self._clock.now_ns()
            refusal = self._risk.check_exit(entry, order, now_ns, beside=len(admitted))
            if refusal is not None:
                return refusal
            admitted.append(order)
        return tuple(admitted)

    def admit_modification(
        self, order: Order, command: ModifyOrder, *, is_asked: bool
    ) -> Terms | Denial:
        """The terms that may be asked for; *is_asked*: something is asked of the order already."""
        denial = self._forbids(order)
        if denial is not None:
            return denial
        if is_asked:
            return Denial("PENDING", "another request about the order has no outcome yet")
        if (short := self._lacks_budget("modify", order)) is not None:
            return short
        if self._brackets.of(order.client_order_id):
            return Denial("BRACKET", "the entry of a bracket cannot be modified: cancel it")
        # Filled but not acknowledged, its id could not be told from that of its replacement.
        acknowledged = order.is_open and order.venue_order_ids
        if not acknowledged or order.order_type is not OrderType.LIMIT:
            return Denial("NOT_OPEN", "only a resting limit order can be modified")
        instrument = self._cache.instrument(order.instrument_id)
        if instrument is None:
            return Denial("UNKNOWN_INSTRUMENT", f"{order.instrument_id} is not known")
        asked_price = order.price if command.price is None else command.price
        asked_quantity = order.quantity if command.quantity is None else command.quantity
        valid = valid_terms(instrument, order.side, asked_price, asked_quantity)
        if isinstance(valid, Denial):
            return valid
        price, quantity = valid
        if (price, quantity) == (order.price, order.quantity):
            return Denial("NO_CHANGE", "the order has these terms already")
        refusal = self._risk.check_modify(order, price, quantity, self._clock.now_ns())
        return refusal or Terms(price, quantity)

    def forbids_departure(self, order: Order) -> Denial | None:
        """What may have changed while *order* was queued, or its intent being written."""
        if self.closed_by is not None:
            return Denial("GATE_CLOSED", self.closed_by)
        if self._risk.state is TradingState.HALTED:
            return Denial("TRADING_HALTED", self._risk.state_reason)
        return self._forbids_account(order)

    def _forbids_account(self, order: Order) -> Denial | None:
        """A halted account lets through what reduces the venue's position, as that rests there."""
        why = self._why_halted(order.account_id)
        if why is None or self._may_reduce(order):
            return None
        return Denial("ACCOUNT_HALTED", f"{order.account_id} is halted: {why}")

    def _forbids(self, order: Order) -> Denial | None:
        """Reasons of ours, apart from risk, to let nothing leave that adds to the exposure."""
        if self.closed_by is not None:
            return Denial("GATE_CLOSED", self.closed_by)
        if order.account_id not in self._entries:
            return Denial("UNKNOWN_ACCOUNT", f"no order entry for account {order.account_id!r}")
        if (halted := self._forbids_account(order)) is not None:
            return halted
        if not self._is_link_up(order.account_id):
            return Denial("LINK_DOWN", f"the private link of {order.account_id} is down")
        if self._is_stale(order.instrument_id) and not order.reduce_only:
            return Denial("STALE_MARKET_DATA", f"market data of {order.instrument_id} is stale")
        return None

    def _lacks_budget(self, kind: RequestKind, order: Order, count: int = 1) -> Denial | None:
        """The venue's rate limits: what they leave is for what ends orders, not for new ones."""
        if order.reduce_only and kind == "submit":
            return None
        why = self._entries[order.account_id].why_not_now(kind, self._queued(kind) + count)
        return None if why is None else Denial("RATE_LIMIT", why)

    def _normalised(self, asked: Order) -> Order | Denial:
        slippage_bps = self._slippage_bps.get(asked.account_id, _SLIPPAGE_BPS)
        return normalise(asked, self._cache, slippage_bps)
