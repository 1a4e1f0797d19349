"""Replay: the journal's records, in their sequence, become the state they add up to.

Owns nothing but the work in progress. It does no I/O: whoever reads the log hands it batches. The
daemon replays at its start, `zq-daemon journal` to verify and to write checkpoints.

It is lazy, as nearly all records are about orders that nobody asks for any more. The first pass
reads the prefix of an order's records only, keeps them by order, follows which orders closed when,
just as the cache does, and drops what belongs to those the cache has forgotten. Whatever moves
positions or accounts is decoded and booked at once. The second pass decodes what is left: the
records of the orders that live and of the last ones that closed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Protocol

from attrs import Factory, define, frozen

from zq_daemon.core.order_state import apply
from zq_daemon.core.terms import Terms, TermsInFlight
from zq_daemon.errors import JournalDamagedError, JournalError, OrderError
from zq_daemon.journal import codec
from zq_daemon.journal.record import (
    ExternalFill,
    FeesKept,
    InstrumentKnown,
    Intent,
    MarksKept,
    OrderKept,
    OrderRecord,
    PositionKept,
    RunStarted,
    SeenKept,
    StatementAdopted,
)
from zq_daemon.journal.state import JournalState, empty_state
from zq_daemon.model.event import (
    AccountUpdated,
    FundingPaid,
    OrderFilled,
    OrderInitialized,
)
from zq_daemon.model.ids import AccountId, ClientOrderId, VenueOrderId
from zq_daemon.model.order import Order, Pending

_Records = list[Any]
"""An order's records, each followed by its sequence: with pairs, replay takes 1.5 times as long."""


class RecordBatch(Protocol):
    """Consecutive records, as the log reads them."""

    @property
    def first_sequence(self) -> int:
        """The sequence of the first one."""

    @property
    def payloads(self) -> Sequence[bytes]:
        """Their bytes."""


@frozen(kw_only=True)
class Checkpoint:
    """The state after record *sequence*, as records: see `journal.checkpoint`."""

    sequence: int
    payloads: Sequence[bytes]


def replay(
    batches: Iterable[RecordBatch], *, closed_orders: int, checkpoint: Checkpoint | None = None
) -> JournalState:
    """The state after *batches*, which go on after *checkpoint* (or begin the journal).

    Raises as `Replay.take` and `Replay.finish` do.
    """
    work = Replay(closed_orders=closed_orders, checkpoint=checkpoint)
    for batch in batches:
        work.take(batch)
    return work.finish()


class Replay:
    """One replay: `take` every batch, then `finish`."""

    def __init__(self, *, closed_orders: int, checkpoint: Checkpoint | None = None) -> None:
        """The state remembers *closed_orders*; JournalError for a bad checkpoint."""
        self._state = empty_state(closed_orders=closed_orders)
        self._limit = closed_orders
        self._orders: dict[bytes, _Records] = {}
        self._closing: OrderedDict[bytes, None] = OrderedDict()
        self._accounts: Sequence[AccountId] = ()
        self._nonces: dict[int, bytes] = {}
        if checkpoint is not None:
            self._restore(checkpoint)

    @property
    def sequence(self) -> int:
        """The last record that was taken."""
        return self._state.sequence

    def take(self, batch: RecordBatch) -> None:
        """Take the next records; those the checkpoint has already are passed over.

        A gap is where damage was accepted: whatever then makes no sense any more is left out.
        Raises JournalError, naming the sequence, for a record that cannot be read.
        """
        expected = self._state.sequence + 1
        known = max(expected - batch.first_sequence, 0)
        payloads = batch.payloads[known:] if known else batch.payloads
        if not payloads:
            return
        first = batch.first_sequence + known
        if first > expected:
            self._settle_nonces()
            self._accounts = ()
        self._state.sequence = self._take_all(payloads, first)
        self._settle_nonces()

    def finish(self) -> JournalState:
        """The state; JournalError, naming the sequence, for an order that cannot be rebuilt."""
        state = self._state
        rebuilt = [_rebuild(records, state.terms) for records in self._orders.values()]
        by_key = dict(zip(self._orders, rebuilt, strict=True))
        # Whose end was lost with accepted damage come first: from a checkpoint on, they do too.
        odd = [each for key, each in by_key.items() if key not in self._closing]
        closed = [each for each in odd if each.order.is_closed]
        closed += [by_key[key] for key in self._closing if by_key[key].order.is_closed]
        live = [each for each in rebuilt if not each.order.is_closed]
        given = sorted((each for order in rebuilt for each in order.given_ids), key=itemgetter(0))
        state.cache.restore_orders(
            (each.order for each in (*closed, *live)), ((order, id_) for _, order, id_ in given)
        )
        for each in rebuilt:
            if each.intent is not None:
                state.intents[each.order.client_order_id] = each.intent
        for position in state.portfolio.positions():
            state.cache.put_position(position)
        state.portfolio.measure_anew()
        return state

    def _take_all(self, payloads: Sequence[bytes], number: int) -> int:
        """The records from *number* on; returns the last one's number.

        All of a journal goes through this loop, so that it is not cut into pieces.
        """
        orders, closing, nonces, limit = self._orders, self._closing, self._nonces, self._limit
        known = orders.get
        try:
            for number, payload in enumerate(payloads, number):  # noqa: B020 -- told on failure
                kind = payload[0]
                if kind > codec.LAST_ORDER_KIND:
                    if kind != codec.DECLINED:
                        self._take_plain(payload)
                    continue
                key = payload[2 : codec.KEY_END]
                records = known(key)
                if records is not None:
                    records.append(payload)
                    records.append(number)
                elif kind == codec.INITIALIZED:
                    orders[key] = records = [payload, number]
                if kind == codec.INTENT:
                    account, nonce = payload[1], payload[codec.KEY_END : codec.NONCE_END]
                    if account >= len(self._accounts):
                        self._note_nonce(payload)
                    elif nonce > nonces.get(account, b""):
                        nonces[account] = nonce
                    continue
                if kind == codec.FILLED:
                    self._book(payload)
                if not payload[1] & codec.CLOSED:
                    if key in closing:
                        del closing[key]
                elif records is not None:  # as `Cache.put_order`: the oldest of too many goes
                    closing[key] = None
                    if len(closing) > limit:
                        del orders[closing.popitem(last=False)[0]]
        except (JournalError, IndexError) as error:
            raise JournalDamagedError(f"journal: record {number}: {error}") from error
        return number

    def _note_nonce(self, payload: bytes) -> None:
        """An intent whose account only itself can tell."""
        intent: Intent = codec.decode(payload)
        self._state.note_nonce(intent.account_id, intent.nonce)

    def _settle_nonces(self) -> None:
        for account, nonce in self._nonces.items():
            self._state.note_nonce(self._accounts[account], int.from_bytes(nonce, "big"))
        self._nonces.clear()

    def _book(self, payload: bytes) -> None:
        event: OrderFilled = codec.decode(payload)
        self._state.seen.add(event.fill)
        self._state.portfolio.on_fill(
            event.fill, event.strategy_id, stated=event.stated, replaces=event.replaces
        )

    def _take_plain(self, payload: bytes) -> None:
        """A record that is not about one tracked order."""
        state, record = self._state, codec.decode(payload)
        match record:
            case ExternalFill():
                state.seen.add(record.fill)
                state.portfolio.on_fill(record.fill, None)
            case FundingPaid():
                state.seen.add(record)
                state.portfolio.on_funding(record)
            case StatementAdopted():
                for report in record.positions:
                    state.portfolio.set_position(report)
            case AccountUpdated():
                state.cache.put_account(record.account)
                state.portfolio.on_account(record.account)
            case InstrumentKnown():
                state.cache.add_instrument(record.instrument)
            case RunStarted():
                self._settle_nonces()
                self._accounts = record.accounts
            case OrderKept() | PositionKept() | FeesKept() | SeenKept() | MarksKept():
                raise JournalError(f"{type(record).__name__} belongs into a checkpoint only")
            case _:
                pass
        state.note(record)

    def _restore(self, checkpoint: Checkpoint) -> None:
        for number, payload in enumerate(checkpoint.payloads):
            try:
                self._restore_one(checkpoint.sequence, payload)
            except (JournalError, IndexError) as error:
                raise JournalDamagedError(
                    f"checkpoint of record {checkpoint.sequence}: item {number}: {error}"
                ) from error
        self._state.sequence = checkpoint.sequence

    def _restore_one(self, sequence: int, payload: bytes) -> None:
        if payload[0] < codec.FIRST_KEPT_KIND:
            self._take_plain(payload)
            return
        if payload[0] == codec.ORDER_KEPT:
            key = payload[2 : codec.KEY_END]
            self._orders[key] = [payload, sequence]
            if payload[1] & codec.CLOSED:
                self._closing[key] = None
                if len(self._closing) > self._limit:
                    del self._orders[self._closing.popitem(last=False)[0]]
            return
        _put_back(self._state, codec.decode(payload))


def _put_back(state: JournalState, kept: PositionKept | FeesKept | SeenKept | MarksKept) -> None:
    match kept:
        case PositionKept():
            state.portfolio.restore_position(kept.position, kept.strategy_id)
        case FeesKept():
            state.portfolio.restore_fees(kept.account_id, kept.fees)
        case SeenKept():
            for key in kept.keys:
                state.seen.add_key(key)
        case MarksKept():
            if kept.stated_ns is not None:
                state.stated_ns[kept.account_id] = kept.stated_ns
            for instrument_id, at_ns in kept.adopted_ns.items():
                state.adopted_ns[kept.account_id, instrument_id] = at_ns
            if kept.agreed_ns is not None:
                state.agreed_ns[kept.account_id] = kept.agreed_ns
            if kept.nonce is not None:
                state.nonces[kept.account_id] = kept.nonce


@define
class _Rebuilt:
    """One order so far; *given_ids* are the venue order ids it had, each with its sequence."""

    order: Order
    intent: Intent | None = None
    given_ids: list[tuple[int, ClientOrderId, VenueOrderId]] = Factory(list)

    def give(self, number: int, venue_order_id: VenueOrderId | None) -> None:
        if venue_order_id is not None:
            self.given_ids.append((number, self.order.client_order_id, venue_order_id))


def _rebuild(records: _Records, terms: TermsInFlight) -> _Rebuilt:
    """The order that *records*, the first of which creates it, add up to."""
    payloads, numbers = iter(records[::2]), iter(records[1::2])
    number = next(numbers)
    try:
        rebuilt = _begin(codec.decode(next(payloads)), number, terms)
        for payload, number in zip(payloads, numbers, strict=True):
            _follow(rebuilt, codec.decode(payload), number, terms)
    except (JournalError, OrderError) as error:
        raise JournalDamagedError(f"journal: record {number}: {error}") from error
    return rebuilt


def _begin(record: OrderInitialized | OrderKept, number: int, terms: TermsInFlight) -> _Rebuilt:
    rebuilt = _Rebuilt(record.order)
    if isinstance(record, OrderKept):
        rebuilt.intent = record.intent
        if record.terms is not None:
            terms.ask(record.order, record.terms)
        for venue_order_id in record.venue_order_ids:
            rebuilt.give(number, venue_order_id)
    else:  # an external order that was adopted has an id from the beginning
        rebuilt.give(number, record.order.venue_order_id)
    return rebuilt


def _follow(rebuilt: _Rebuilt, record: OrderRecord, number: int, terms: TermsInFlight) -> None:
    order = rebuilt.order
    if isinstance(record, Intent):
        rebuilt.intent = record
        _sign(order, record, terms)
        return
    if isinstance(record, OrderFilled):
        _outgrow(order, record, terms)
    order = rebuilt.order = apply(order, record)
    rebuilt.give(number, order.venue_order_id)
    terms.settle(order)
    if order.is_closed:
        rebuilt.intent = None


def _outgrow(order: Order, event: OrderFilled, terms: TermsInFlight) -> None:
    """A fill of an id the order already had, while a modification was in flight."""
    asked = terms.get(order.client_order_id)
    if asked is not None and event.fill.venue_order_id in order.venue_order_ids:
        terms.fill(order, event.fill, event.replaces)


def _sign(order: Order, intent: Intent, terms: TermsInFlight) -> None:
    """The intent to modify says what was asked for, and that it was signed."""
    if intent.kind == "modify" and intent.price is not None and order.pending is Pending.MODIFY:
        terms.ask(order, Terms(intent.price, intent.quantity))
        terms.sign(order)
