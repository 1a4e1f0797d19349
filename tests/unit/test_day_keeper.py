"""The day's P&L over restarts, by examples: what counts, from where, how often it is written."""

from __future__ import annotations

from decimal import Decimal

import pytest
from attrs import evolve

from tests.harness.day_lives import MINUTE_NS, DayLives
from tests.unit.test_portfolio import ACCOUNT, ETH
from zq_daemon.core.portfolio import NS_PER_DAY
from zq_daemon.journal.record import RunStarted
from zq_daemon.model.event import TradingState

HALF_DAY_NS = NS_PER_DAY // 2
BOTH = pytest.mark.parametrize("compact", [False, True])


def held(quantity: str = "10", mark: str = "100", *, limit: str | None = None) -> DayLives:
    """A life with a position, bought at its mark."""
    life = DayLives(max_daily_loss=limit)
    life.mark(mark)
    life.fill(quantity, mark)
    life.house()
    return life


@BOTH
def test_a_fill_that_recovery_finds_counts(compact: bool) -> None:
    life = held(limit="400")
    life.crash(away_ns=MINUTE_NS, compact=compact)
    life.fill("-10", "50", fee="1")
    assert life.house()
    assert life.day_pnl == -501


@BOTH
def test_what_marks_moved_while_down_counts(compact: bool) -> None:
    life = held(limit="400")
    life.crash(away_ns=MINUTE_NS, compact=compact)
    assert life.day_pnl == 0
    life.mark("60")
    assert life.house()
    assert life.day_pnl == -400


def test_until_there_is_a_mark_the_last_one_counts() -> None:
    life = held()
    life.mark("90")
    life.house(MINUTE_NS)
    life.crash()
    assert life.day_pnl == -100
    life.fill("-4", "80")  # 100 until the crash, then 40 of the 4 sold
    assert life.day_pnl == -140


def test_a_position_opened_after_the_last_record_counts_whole() -> None:
    life = held()
    life.mark("10", ETH)
    life.fill("5", "11", iid=ETH)
    life.crash(compact=True)
    life.mark("9", ETH)
    assert life.day_pnl == -10


def test_a_position_closed_and_opened_again_goes_on() -> None:
    life = held()
    life.fill("-10", "99")
    life.house(MINUTE_NS)
    life.crash()
    life.fill("1", "98")
    life.mark("97")
    assert life.day_pnl == -11


def test_a_day_before_the_first_record_is_all_of_it() -> None:
    life = DayLives()
    life.fill("10", "100")
    life.crash()
    life.mark("99")
    assert life.day_pnl == -10


def test_midnight_begins_a_new_day_while_down() -> None:
    life = held(limit="400")
    life.mark("70")
    life.house(MINUTE_NS)
    life.crash(away_ns=HALF_DAY_NS)
    assert life.day_pnl == 0
    assert not life.house()
    life.mark("65")  # what moved since the end of the last life is of the new day, 300 is not
    assert life.day_pnl == -50
    life.fill("-10", "61")
    assert not life.house()
    assert life.day_pnl == -90
    life.crash()
    assert life.day_pnl == -90


def test_midnight_begins_a_new_day_in_a_life_and_it_is_written_at_once() -> None:
    life = held()
    life.mark("70")
    life.house(MINUTE_NS)
    life.now_ns = (life.now_ns // NS_PER_DAY + 1) * NS_PER_DAY
    life.house(0)
    life.mark("69")
    life.house()
    assert life.day_pnl == -10
    life.crash()
    life.mark("69")
    assert life.day_pnl == -10


def test_a_clock_set_back_over_midnight_forgets_nothing() -> None:
    life = held(limit="400")
    life.now_ns = (life.now_ns // NS_PER_DAY + 1) * NS_PER_DAY
    life.house(0)
    life.mark("60")
    assert life.house()
    life.activate()
    life.crash(away_ns=-MINUTE_NS)
    assert life.day_pnl == -400
    assert not life.house()


def test_a_day_far_in_the_future_was_a_wrong_clock() -> None:
    life = held()
    life.now_ns += 300 * NS_PER_DAY
    life.mark("60")
    life.house()
    life.crash(away_ns=-300 * NS_PER_DAY)
    life.mark("59")
    assert life.day_pnl == -10
    life.house(HALF_DAY_NS)
    assert life.day_pnl == 0


def test_a_position_taken_over_is_no_pnl_after_a_restart_either() -> None:
    life = held()
    life.mark("90")
    life.adopt("30", "500")
    life.house()
    life.mark("80")
    life.crash(compact=True)
    life.mark("80")
    assert life.day_pnl == -400


def test_a_crash_with_the_taking_over_costs_what_the_mark_moved_since_the_record() -> None:
    life = held()
    life.mark("90")  # not journalled yet
    life.adopt("30", "500")
    life.crash()
    life.mark("90")
    assert life.day_pnl == -100 - 20 * 10
    life = held()
    life.adopt("30", "500")
    life.crash()
    life.mark("90")
    assert life.day_pnl == -300


def test_a_position_taken_over_without_a_mark_counts_from_its_first() -> None:
    life = DayLives()
    life.adopt("2", "500")
    life.crash()
    life.mark("100")
    life.house()
    life.crash()
    life.mark("99")
    assert life.day_pnl == -2


@BOTH
def test_an_accepted_loss_stays_accepted(compact: bool) -> None:
    life = held(limit="400")
    life.mark("60")
    assert life.house()
    life.crash(compact=compact)
    life.risk.restore(TradingState.HALTED, "as before")
    life.activate()
    life.crash(compact=compact)
    assert not life.house()
    life.mark("60")
    assert not life.house()
    life.mark("20")
    assert life.house()


def test_an_accepted_loss_is_of_its_day_only() -> None:
    life = held(limit="400")
    life.mark("60")
    assert life.house()
    life.activate()
    life.crash(away_ns=NS_PER_DAY)
    life.mark("60")
    assert not life.house()
    assert life.risk.accepted_pnl(ACCOUNT) is None
    life.mark("20")
    assert life.house()


def test_it_is_written_when_a_restart_would_go_on_from_elsewhere_and_each_minute() -> None:
    life = DayLives()
    written = len(life.log.payloads)
    life.house()
    assert len(life.log.payloads) == written
    life.mark("100")
    life.fill("10", "100")
    written = len(life.log.payloads)
    life.house()  # the first mark of what is open
    assert len(life.log.payloads) == written + 1
    for price in range(100):
        life.mark(str(price))
        life.fill("1", "100")
        life.house()
    assert len(life.log.payloads) == written + 101
    life.house(MINUTE_NS)
    assert len(life.log.payloads) == written + 102
    life.house(MINUTE_NS)  # nothing is new
    assert len(life.log.payloads) == written + 102


def test_what_made_nothing_today_is_not_in_the_record() -> None:
    life = held()
    life.fill("-10", "90")
    life.house(MINUTE_NS)
    life.house(NS_PER_DAY)
    day = life.portfolio.kept_day(ACCOUNT)
    assert day is not None
    assert (day.since, day.marks) == ({}, {})
    life.crash()
    assert life.day_pnl == Decimal(0)


def test_what_was_open_on_an_embedded_exchange_ended_with_it() -> None:
    life = held()
    life.mark("90")
    life.house(MINUTE_NS)
    started = RunStarted(
        run_id=1, version="1", venue="embedded", accounts=(ACCOUNT,), embedded=True, ts_event_ns=1
    )
    life.journal.write(started)
    life.crash()
    life.journal.write(evolve(started, ended=(ACCOUNT,)))
    life.mark("10")  # of another market
    assert life.day_pnl == -100
    assert not any(each.quantity for each in life.portfolio.positions())
    life.crash(compact=True)
    assert life.day_pnl == -100
