"""Records as bytes and back, what replay says of bad ones, and how states are compared."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve

from tests.harness.journal_life import ACCOUNTS, INSTRUMENTS, STRATEGIES, Life, ListLog
from zq_daemon.errors import JournalDamagedError
from zq_daemon.journal import codec
from zq_daemon.journal.checkpoint import decode_checkpoint, encode_checkpoint
from zq_daemon.journal.digest import differences, digest
from zq_daemon.journal.files import checkpoint_name
from zq_daemon.journal.journal import Journal
from zq_daemon.journal.recent import Recent
from zq_daemon.journal.record import (
    ExternalFill,
    Intent,
    PositionKept,
    RunStarted,
    StatementAdopted,
)
from zq_daemon.journal.replay import Checkpoint, replay
from zq_daemon.journal.state import empty_state
from zq_daemon.log import Batch
from zq_daemon.model.event import OrderAccepted, OrderCanceled, OrderInitialized, OrderSubmitted
from zq_daemon.model.fill import Fill, Liquidity
from zq_daemon.model.ids import AccountId, TradeId, VenueOrderId, client_order_id
from zq_daemon.model.market import MarkPrice, Side
from zq_daemon.model.order import Order, OrderType, TimeInForce
from zq_daemon.model.position import Position

ORDER = client_order_id(7, 9)
INTENT = Intent(
    kind="submit",
    run_id=7,
    account_id=ACCOUNTS[1],
    strategy_id=STRATEGIES[0],
    instrument_id=INSTRUMENTS[0],
    client_order_id=ORDER,
    venue_order_id=None,
    side=Side.SELL,
    order_type=OrderType.LIMIT,
    time_in_force=TimeInForce.IOC,
    post_only=False,
    reduce_only=True,
    price=Decimal("1E+3"),
    quantity=Decimal("0.10"),
    nonce=1_700_000_000_123,
    expires_ns=None,
    action_hash="ab",
    ts_event_ns=5,
)
STARTED = RunStarted(
    run_id=7, version="1", venue="test", accounts=ACCOUNTS, embedded=False, ts_event_ns=1
)


def a_life(seed: int = 1, steps: int = 200) -> Life:
    life = Life(random.Random(seed).randrange, digests=False)
    for _ in range(steps):
        life.step()
    return life


def one_batch(payloads: list[bytes], first: int = 1) -> list[Batch]:
    return [Batch(first_sequence=first, payloads=payloads)]


def test_every_kind_of_record_survives_its_bytes() -> None:
    names = set()
    for payload in a_life(steps=1_500).log.payloads:
        record = codec.decode(payload)
        names.add(codec.name_of(payload))
        assert type(record).__name__ == codec.name_of(payload)
        about = getattr(record, "client_order_id", None)
        if payload[0] == codec.INTENT:
            again = codec.encode_intent(record, payload[1])
        elif payload[0] <= codec.LAST_ORDER_KIND:
            again = codec.encode_order(record, closed=bool(payload[1] & codec.CLOSED))
        else:
            again = codec.encode(record)
        assert codec.decode(again) == record
        if about is not None:
            assert codec.is_about(payload, about)
            assert not codec.is_about(payload, client_order_id(99, 99))
    assert names == set(codec.record_names())


def test_an_intent_begins_with_what_replay_needs() -> None:
    payload = codec.encode_intent(INTENT, 1)
    assert payload[:2] == bytes((codec.INTENT, 1))
    assert payload[2 : codec.KEY_END].hex() == ORDER[2:]
    assert int.from_bytes(payload[codec.KEY_END : codec.NONCE_END], "big") == INTENT.nonce
    decoded = codec.decode(payload)
    assert decoded == INTENT
    assert str(decoded.price) == "1E+3"
    assert str(decoded.quantity) == "0.10"


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"", "cannot be read"),
        (b"\xfe\x00{}", "kind 254, which this version does not know"),
        (bytes((codec.FILLED, 0)), "cannot be read"),
        (bytes((codec.FILLED, 0)) + bytes(16) + b"{}", "missing required field"),
        (bytes((codec.FILLED, 0)) + bytes(16) + b"[" * 100_000, "cannot be read"),
        (codec.encode(STARTED)[:-1], "truncated"),
        (codec.encode(STARTED) + b"}", "trailing"),
    ],
)
def test_what_is_no_record_is_refused(payload: bytes, said: str) -> None:
    with pytest.raises(JournalDamagedError, match=said):
        codec.decode(payload)
    assert codec.name_of(payload) in ("", "OrderFilled", "RunStarted")


def test_replay_names_the_record_it_cannot_read() -> None:
    payloads = [codec.encode(STARTED), *a_life(steps=20).log.payloads]
    for number in range(2, len(payloads)):
        broken = [*payloads[:number], payloads[number][:-2], *payloads[number + 1 :]]
        if payloads[number][0] == codec.DECLINED:
            continue
        with pytest.raises(JournalDamagedError, match=rf"record {number + 1_001}: .*cannot be"):
            replay(one_batch(broken, first=1_001), closed_orders=1_000)


def test_what_belongs_into_a_checkpoint_is_refused_in_the_journal() -> None:
    flat = Position(account_id=ACCOUNTS[0], instrument_id=INSTRUMENTS[0])
    payload = codec.encode(PositionKept(position=flat, strategy_id=None))
    with pytest.raises(JournalDamagedError, match="record 1: PositionKept belongs into a checkp"):
        replay(one_batch([payload]), closed_orders=1)
    checkpoint = Checkpoint(sequence=5, payloads=[payload, b"\xff\x00"])
    with pytest.raises(JournalDamagedError, match=r"checkpoint of record 5: item 1: .*kind 255"):
        replay([], closed_orders=1, checkpoint=checkpoint)


def test_an_intent_without_its_run_tells_its_account_itself() -> None:
    """Where damage was accepted; or the number is none of the run's."""
    lost = replay(one_batch([codec.encode_intent(INTENT, 0)], first=17), closed_orders=1)
    assert lost.nonces == {INTENT.account_id: INTENT.nonce}
    records = [codec.encode(STARTED), codec.encode_intent(INTENT, 9)]
    assert replay(one_batch(records), closed_orders=1).nonces == lost.nonces
    gap = [*one_batch([codec.encode(STARTED)]), *one_batch([codec.encode_intent(INTENT, 0)], 5)]
    assert replay(gap, closed_orders=1).nonces == lost.nonces


def test_the_highest_nonce_of_each_account_is_kept() -> None:
    def intent(account: int, nonce: int) -> bytes:
        return codec.encode_intent(
            evolve(INTENT, account_id=ACCOUNTS[account], nonce=nonce), account
        )

    started, swapped = STARTED, evolve(STARTED, accounts=ACCOUNTS[::-1])
    records = [
        codec.encode(started),
        *(intent(0, 7), intent(0, 300), intent(1, 65_536), intent(0, 8)),
        codec.encode(swapped),
        codec.encode_intent(evolve(INTENT, account_id=ACCOUNTS[1], nonce=70_000), 0),
        codec.encode_intent(evolve(INTENT, account_id=ACCOUNTS[0], nonce=299), 1),
    ]
    state = replay(one_batch(records), closed_orders=1)
    assert state.nonces == {ACCOUNTS[0]: 300, ACCOUNTS[1]: 70_000}


def test_an_exchange_that_ended_with_its_run_states_its_accounts_anew() -> None:
    adopted = StatementAdopted(
        whole=True, account_id=ACCOUNTS[0], positions=(), reason="first statement", ts_event_ns=5
    )
    for embedded, stated in ((False, {ACCOUNTS[0]: 5}), (True, {})):
        state = empty_state(closed_orders=1)
        for record in (evolve(STARTED, embedded=embedded), adopted):
            state.note(record)
        state.note(evolve(STARTED, ended=state.ended_accounts()))
        assert state.stated_ns == stated


def test_the_day_begins_anew_after_replay() -> None:
    """What former positions made long ago is no P&L of today."""
    fill = Fill(
        trade_id=TradeId("1"),
        client_order_id=None,
        venue_order_id=VenueOrderId("1"),
        account_id=ACCOUNTS[0],
        instrument_id=INSTRUMENTS[0],
        side=Side.BUY,
        price=Decimal(5),
        quantity=Decimal(1),
        fee=Decimal(0),
        fee_currency="USDC",
        liquidity=Liquidity.TAKER,
        ts_event_ns=1,
        ts_recv_ns=1,
    )
    state = replay(one_batch([codec.encode(ExternalFill(fill))]), closed_orders=9)
    for instrument_id in INSTRUMENTS:
        state.cache.put_mark(
            MarkPrice(
                instrument_id=instrument_id,
                mark_price=Decimal(7),
                oracle_price=None,
                funding_rate=None,
                open_interest=None,
                ts_event_ns=1,
                ts_recv_ns=1,
            )
        )
    assert state.portfolio.pnl().net == 2
    assert state.portfolio.day_pnl(ACCOUNTS[0], 10**18) == 0


def test_events_of_an_order_that_was_lost_are_left_out() -> None:
    event = OrderSubmitted(
        client_order_id=ORDER,
        strategy_id=STRATEGIES[0],
        instrument_id=INSTRUMENTS[0],
        ts_event_ns=1,
    )
    for closed in (True, False):
        payload = codec.encode_order(event, closed=closed)
        state = replay(one_batch([payload, payload]), closed_orders=1)
        assert state.cache.order(ORDER) is None
        assert digest(state) == digest(empty_state(closed_orders=1))


def test_a_venue_order_id_means_the_last_order_that_was_given_it() -> None:
    """An exchange that began anew gives out the same ids: also while the first order is kept."""
    records = [codec.encode(STARTED)]
    for counter in (1, 2):
        order = evolve(an_order(), client_order_id=client_order_id(7, counter))
        about = about_order(order)
        accepted = OrderAccepted(venue_order_id=VenueOrderId("77"), **about)
        events = (OrderInitialized(order=order, **about), accepted)
        records += [codec.encode_order(event, closed=False) for event in events]
    state = replay(one_batch(records), closed_orders=9)
    found = state.cache.order_by_venue_id(ACCOUNTS[0], VenueOrderId("77"))
    assert found is not None
    assert found.client_order_id == client_order_id(7, 2)
    image = encode_checkpoint(state, sequence=5, closed_orders=9)
    kept = decode_checkpoint(checkpoint_name(5), image).checkpoint
    again = replay([], closed_orders=9, checkpoint=kept)
    assert again.cache.order_by_venue_id(ACCOUNTS[0], VenueOrderId("77")) == found
    # What becomes of the first one later takes the id back, as it does in the cache.
    canceled = OrderCanceled(venue_order_id=None, reason="", **about_order(an_order()))
    records.append(codec.encode_order(canceled, closed=True))
    state = replay(one_batch(records), closed_orders=9)
    found = state.cache.order_by_venue_id(ACCOUNTS[0], VenueOrderId("77"))
    assert found is not None
    assert found.client_order_id == client_order_id(7, 1)


def an_order() -> Order:
    return Order(
        client_order_id=client_order_id(7, 1),
        strategy_id=STRATEGIES[0],
        account_id=ACCOUNTS[0],
        instrument_id=INSTRUMENTS[0],
        side=Side.BUY,
        order_type=OrderType.LIMIT,
        quantity=Decimal(1),
    )


def about_order(order: Order) -> dict[str, Any]:
    return {
        "client_order_id": order.client_order_id,
        "strategy_id": order.strategy_id,
        "instrument_id": order.instrument_id,
        "ts_event_ns": 1,
    }


def test_differences_are_told_in_words() -> None:
    one, other = a_life().state, a_life().state
    assert differences(one, other) == []
    assert digest(one) == digest(other)
    held = one.cache.positions()[0]
    one.cache.put_position(evolve(held, quantity=Decimal("12345.6")))
    one.nonces[AccountId("0xcc")] = 5
    assert digest(one) != digest(other)
    place = f"{held.account_id} {held.instrument_id}"
    assert differences(one, other) == [
        "nonces 0xcc: 5, not None",
        f"positions {place} quantity: '12345.6', not '{held.quantity}'",
    ]
    assert len(differences(one, empty_state(closed_orders=1))) == 21  # and how many more


def test_the_digest_leaves_out_what_the_journal_does_not_say() -> None:
    one, other = a_life().state, a_life().state
    one.sequence += 1
    one.instruments.clear()
    one.portfolio.day_pnl(ACCOUNTS[0], 10**18)
    assert digest(one) == digest(other)


def test_the_terms_of_an_instrument_are_written_once_and_when_they_change() -> None:
    log = ListLog()
    life = a_life(steps=1)
    journal = Journal(log, empty_state(closed_orders=1))
    terms = life.state.cache.instrument(INSTRUMENTS[0])
    assert terms is not None
    journal.know(INSTRUMENTS[0])
    assert log.payloads == []
    for leverage in (1, 1, 2, 2):
        journal.state.cache.add_instrument(evolve(terms, max_leverage=leverage))
        journal.know(INSTRUMENTS[0])
    assert [codec.name_of(each) for each in log.payloads] == ["InstrumentKnown"] * 2


def test_recent_records_are_bounded_and_consecutive() -> None:
    recent = Recent(limit_bytes=30)
    for sequence in range(1, 11):
        recent.add(sequence, bytes(10))
    assert recent.take(0, 10, 5) is None  # dropped long ago
    taken = recent.take(7, 9, 5)
    assert taken is not None
    assert (taken.first_sequence, len(taken.payloads)) == (8, 2)
    assert recent.take(9, 9, 5) is None  # the next one is not durable yet
    recent.add(20, b"behind a gap")
    assert recent.take(9, 20, 5) is None
    taken = recent.take(19, 20, 5)
    assert taken == Batch(first_sequence=20, payloads=[b"behind a gap"])
    assert recent.take(20, 30, 5) is None
