"""Replay of any prefix of a journal is the state the daemon had when it had written that much."""

from __future__ import annotations

import random
from collections.abc import Sequence

from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.journal_life import ACCOUNTS, Choose, Life
from zq_daemon.core.terms import Terms
from zq_daemon.journal.checkpoint import decode_checkpoint, encode_checkpoint
from zq_daemon.journal.digest import differences, digest
from zq_daemon.journal.files import checkpoint_name
from zq_daemon.journal.replay import replay
from zq_daemon.journal.state import JournalState
from zq_daemon.model.ids import ClientOrderId

CLOSED = st.sampled_from([0, 1, 3, 100])
STEPS = st.integers(1, 60)


@frozen
class Batch:
    first_sequence: int
    payloads: Sequence[bytes]


def chosen_by(data: st.DataObject) -> Choose:
    """Mostly by a seed, which makes long lives cheap; hypothesis shrinks the number of steps."""
    return random.Random(data.draw(st.integers(0, 2**32))).randrange


def batches(payloads: Sequence[bytes], size: int, first: int = 1) -> list[Batch]:
    return [
        Batch(first + start, payloads[start : start + size])
        for start in range(0, len(payloads), size)
    ]


def terms_of(state: JournalState) -> dict[ClientOrderId, Terms | None]:
    """Those that were signed: what was only asked for is in no journal."""
    found = {
        order.client_order_id: state.terms.get(order.client_order_id)
        for order in state.cache.orders_live()
    }
    return {key: terms for key, terms in found.items() if terms and terms.unknown is not None}


def venue_ids(state: JournalState) -> dict[str, str | None]:
    """The order that each venue order id means, for both accounts."""
    known = [*state.cache.orders_live(), *state.cache.orders_closed()]
    ids = {id_ for order in known for id_ in (*order.venue_order_ids, order.venue_order_id) if id_}
    return {
        f"{account} {id_}": found.client_order_id if found else None
        for account in ACCOUNTS
        for id_ in ids
        for found in [state.cache.order_by_venue_id(account, id_)]
    }


@settings(max_examples=60)
@given(data=st.data(), steps=STEPS, closed=CLOSED, size=st.integers(1, 40))
def test_every_prefix_replays_to_the_state_of_then(
    data: st.DataObject, steps: int, closed: int, size: int
) -> None:
    life = Life(chosen_by(data), closed_orders=closed)
    for _ in range(steps):
        life.step()
    for sequence, wanted in life.points.items():
        prefix = batches(life.log.payloads[:sequence], size)
        assert digest(replay(prefix, closed_orders=closed)) == wanted
    whole = replay(batches(life.log.payloads, size), closed_orders=closed)
    assert differences(whole, life.state) == []
    assert whole.sequence == life.state.sequence
    assert terms_of(whole) == terms_of(life.state)
    assert venue_ids(whole) == venue_ids(life.state)
    assert whole.instruments == life.state.instruments


@settings(max_examples=60)
@given(data=st.data(), steps=STEPS, closed=CLOSED)
def test_a_checkpoint_and_what_came_later_is_the_whole(
    data: st.DataObject, steps: int, closed: int
) -> None:
    life = Life(chosen_by(data), closed_orders=closed, digests=False)
    for _ in range(steps):
        life.step()
    payloads = life.log.payloads
    cut = data.draw(st.integers(1, len(payloads)))
    before = replay(batches(payloads[:cut], 7), closed_orders=closed)
    name, image = (
        checkpoint_name(cut),
        encode_checkpoint(before, sequence=cut, closed_orders=closed),
    )
    checkpoint = decode_checkpoint(name, image).checkpoint
    restored = replay([], closed_orders=closed, checkpoint=checkpoint)
    assert differences(restored, before) == []
    # The records before it may be read again: they are passed over.
    start = data.draw(st.integers(0, cut))
    later = batches(payloads[start:], 5, first=start + 1)
    whole = replay(later, closed_orders=closed, checkpoint=checkpoint)
    assert differences(whole, life.state) == []
    assert terms_of(whole) == terms_of(life.state)
    assert venue_ids(whole) == venue_ids(life.state)


@settings(max_examples=60)
@given(data=st.data(), steps=STEPS)
def test_whatever_accepted_damage_took_the_rest_replays(data: st.DataObject, steps: int) -> None:
    """Losing records loses what they said, and no position that another record moved."""
    life = Life(chosen_by(data), closed_orders=3, digests=False)
    for _ in range(steps):
        life.step()
    payloads = life.log.payloads
    first = data.draw(st.integers(1, len(payloads)))
    last = data.draw(st.integers(first, min(len(payloads), first + 9)))
    rest = [*batches(payloads[: first - 1], 6), *batches(payloads[last:], 6, first=last + 1)]
    found = replay(rest, closed_orders=3)
    assert found.sequence == (len(payloads) if last < len(payloads) else first - 1)
    known = {each.client_order_id for each in life.state.cache.orders_live()}
    known |= {each.client_order_id for each in life.state.cache.orders_closed()}
    for order in found.cache.orders_live():
        assert not order.is_closed
    assert len(found.cache.orders_closed()) <= 3
