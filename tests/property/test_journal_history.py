"""The history against a naive ledger in fractions, and built in pieces against built at once."""

from __future__ import annotations

import random
import sqlite3
from collections import defaultdict
from contextlib import closing
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.journal_life import Life
from tests.property.test_journal_replay import batches
from zq_daemon.errors import JournalDamagedError
from zq_daemon.journal import codec
from zq_daemon.journal.history import History
from zq_daemon.journal.history_schema import TABLES, day_text
from zq_daemon.journal.record import ExternalFill, RunStarted, StatementAdopted
from zq_daemon.journal.replay import replay
from zq_daemon.model.event import FundingPaid, OrderFilled
from zq_daemon.model.fill import Fill

SEEDS = st.integers(0, 2**32)
STEPS = st.integers(1, 120)


def payloads_of(seed: int, steps: int) -> list[bytes]:
    life = Life(random.Random(seed).randrange, digests=False)
    for _ in range(steps):
        life.step()
    return life.log.payloads


def connect() -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(":memory:", isolation_level=None))


def tables(connection: sqlite3.Connection) -> dict[str, list[Any]]:
    found = {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in TABLES}
    return found | {"meta": list(connection.execute("SELECT * FROM meta ORDER BY key"))}


class NaiveDays:
    """Cash and averages by hand, with all digits."""

    def __init__(self) -> None:
        self.held: dict[Any, tuple[Fraction, Fraction]] = defaultdict(lambda: (Fraction(0),) * 2)
        self.days: dict[Any, dict[str, Fraction]] = defaultdict(lambda: defaultdict(Fraction))

    def fill(self, fill: Fill) -> None:
        place = fill.account_id, fill.instrument_id
        quantity, cost = self.held[place]
        change = Fraction(fill.signed_quantity)
        after = quantity + change
        if quantity * change >= 0:
            new_cost = cost + change * Fraction(fill.price)
        elif quantity * after >= 0:
            new_cost = cost * after / quantity
        else:
            new_cost = after * Fraction(fill.price)
        self.held[place] = after, new_cost
        day = self.days[fill.account_id, day_text(fill.ts_event_ns), fill.instrument_id]
        day["realised"] += new_cost - cost - change * Fraction(fill.price)
        day["fees"] += Fraction(fill.fee) if fill.fee_currency == "USDC" else 0
        day["volume"] += Fraction(fill.price) * Fraction(fill.quantity)
        day["fills"] += 1

    def take(self, record: Any) -> None:
        match record:
            case OrderFilled() | ExternalFill():
                self.fill(record.fill)
            case FundingPaid():
                day = day_text(record.ts_event_ns)
                key = record.account_id, day, record.instrument_id
                self.days[key]["funding"] += Fraction(record.amount)
            case RunStarted():
                for place in self.held:
                    if place[0] in record.ended:
                        self.held[place] = Fraction(0), Fraction(0)
            case StatementAdopted():
                for report in record.positions:
                    entry = Fraction(report.average_entry_price or 0)
                    quantity = Fraction(report.quantity)
                    place = report.account_id, report.instrument_id
                    self.held[place] = quantity, entry * quantity


@settings(max_examples=50)
@given(seed=SEEDS, steps=STEPS)
def test_the_days_add_up_to_the_last_digit(seed: int, steps: int) -> None:
    payloads, naive = payloads_of(seed, steps), NaiveDays()
    for payload in payloads:
        naive.take(codec.decode(payload))
    with connect() as connection:
        History(connection).apply(1, payloads)
        rows = connection.execute(
            "SELECT account, day, instrument, realised, fees, funding, net, volume, fills "
            "FROM pnl_by_day"
        ).fetchall()
    assert len(rows) == len(naive.days)
    for *key, realised, fees, funding, net, volume, fills in rows:
        wanted = naive.days[tuple(key)]
        assert abs(Fraction(realised) - wanted["realised"]) < Fraction(1, 10**12)
        assert Fraction(fees) == wanted["fees"]
        assert Fraction(funding) == wanted["funding"]
        assert Fraction(net) == Fraction(realised) - Fraction(fees) + Fraction(funding)
        assert Fraction(volume) == wanted["volume"]
        assert fills == wanted["fills"]


@settings(max_examples=50)
@given(seed=SEEDS, steps=STEPS)
def test_the_orders_and_positions_are_those_of_replay(seed: int, steps: int) -> None:
    payloads = payloads_of(seed, steps)
    state = replay(batches(payloads, 50), closed_orders=1_000_000)
    orders = [*state.cache.orders_closed(), *state.cache.orders_live()]
    with connect() as connection:
        History(connection).apply(1, payloads)
        found = dict(connection.execute("SELECT client_order_id, status || filled FROM orders"))
        triggers = dict(connection.execute("SELECT client_order_id, trigger_price FROM orders"))
        closed = dict(connection.execute("SELECT client_order_id, closed_ns FROM orders"))
        held = connection.execute("SELECT account, instrument, quantity FROM positions").fetchall()
        booked = connection.execute("SELECT count(*) FROM fills").fetchone()[0]
    assert found == {
        each.client_order_id: f"{each.status.value}{each.filled_quantity:f}" for each in orders
    }
    assert triggers == {
        each.client_order_id: None if each.trigger_price is None else f"{each.trigger_price:f}"
        for each in orders
    }
    assert all((closed[each.client_order_id] is not None) is each.is_closed for each in orders)
    assert sorted(held) == sorted(
        (each.account_id, each.instrument_id, f"{each.quantity:f}")
        for each in state.portfolio.positions()
    )
    assert booked == sum(
        isinstance(codec.decode(each), OrderFilled | ExternalFill) for each in payloads
    )


@settings(max_examples=50)
@given(data=st.data(), seed=SEEDS, steps=STEPS)
def test_pieces_repeated_and_interrupted_give_what_one_piece_gives(
    data: st.DataObject, seed: int, steps: int
) -> None:
    payloads = payloads_of(seed, steps)
    choose = random.Random(data.draw(SEEDS))
    with connect() as whole, connect() as pieces:
        History(whole).apply(1, payloads)
        history = History(pieces)
        while history.sequence < len(payloads):
            first = choose.randint(1, history.sequence + 1)
            history.apply(first, payloads[first - 1 : first + choose.randint(0, 30)])
            if choose.random() < 0.3:  # a restart
                history = History(pieces)
            if choose.random() < 0.2:  # a failure in the middle of a transaction
                history = _interrupted(pieces, history, payloads, choose.randint(1, 10))
        assert tables(pieces) == tables(whole)


def _interrupted(
    connection: sqlite3.Connection, history: History, payloads: list[bytes], length: int
) -> History:
    first = history.sequence + 1
    broken = [*payloads[first - 1 :][:length], b"\xff\x00{}"]
    with pytest.raises(JournalDamagedError, match=f"record {first + len(broken) - 1}:"):
        history.apply(first, broken)
    return History(connection)
