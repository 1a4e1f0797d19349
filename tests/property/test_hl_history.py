"""Paging through fills: whatever the pages hold, none is lost, and the verdict is right."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest
import trio
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from zq_daemon.errors import LinkError
from zq_daemon.model.fill import Fill, Liquidity
from zq_daemon.model.ids import AccountId, InstrumentId, TradeId, VenueOrderId
from zq_daemon.model.market import Side
from zq_daemon.model.report import FillHistory
from zq_daemon.ports.clock import NS_PER_MS
from zq_daemon.venue.hyperliquid.history import (
    MAX_PAGES,
    RETAINED,
    SURELY_SHORT,
    load_history,
)

TEMPLATE = Fill(
    trade_id=TradeId("0"),
    client_order_id=None,
    venue_order_id=VenueOrderId("1"),
    account_id=AccountId("hyperliquid.0x1"),
    instrument_id=InstrumentId("hyperliquid.BTC"),
    side=Side.BUY,
    price=Decimal(1),
    quantity=Decimal(1),
    fee=Decimal(0),
    fee_currency="USDC",
    liquidity=Liquidity.MAKER,
    ts_event_ns=0,
    ts_recv_ns=0,
)


def fill(number: int, ms: int, side: Side = Side.BUY) -> Fill:
    return evolve(TEMPLATE, trade_id=TradeId(str(number)), side=side, ts_event_ns=ms * NS_PER_MS)


class Venue:
    """Has *fills* (oldest first) and tells at most *page* of its last *retained* at once."""

    def __init__(self, fills: Sequence[Fill], *, page: int = 2_000, retained: int = RETAINED):
        self.fills = list(fills)
        self.asked: list[int] = []
        self.arrivals: list[list[Fill]] = []
        self._page = page
        self._retained = retained

    async def __call__(self, start_ms: int) -> Sequence[Fill]:
        await trio.lowlevel.checkpoint()
        self.asked.append(start_ms)
        kept = self.fills[-self._retained :]
        told = [each for each in kept if each.ts_event_ns >= start_ms * NS_PER_MS]
        if self.arrivals:
            self.fills += self.arrivals.pop(0)
        return told[: self._page]

    def load(self, since_ms: int = 0) -> FillHistory:
        return trio.run(load_history, self, since_ms)


# The fills of each millisecond fit into a page, but pages end inside of milliseconds.
_milliseconds = st.lists(st.sampled_from([0, 1, 7, 250, 333, SURELY_SHORT - 1]), max_size=18)


@given(counts=_milliseconds, since=st.integers(0, 18))
def test_every_fill_is_told_once_in_order(counts: list[int], since: int) -> None:
    fills: list[Fill] = []
    for ms, count in enumerate(counts):
        numbers = range(len(fills), len(fills) + count)
        fills += [fill(each // 2, ms, Side.BUY if each % 2 else Side.SELL) for each in numbers]
    told = Venue(fills, page=SURELY_SHORT).load(since)
    assert list(told.fills) == [each for each in fills if each.ts_event_ns >= since * NS_PER_MS]
    assert told.complete


@pytest.mark.parametrize("count", [0, 1, SURELY_SHORT - 1])
def test_a_short_history_costs_one_query(count: int) -> None:
    venue = Venue([fill(number, number) for number in range(count)])
    assert len(venue.load().fills) == count
    assert len(venue.asked) == 1


@pytest.mark.parametrize("page", [SURELY_SHORT, 501, 1_999, 2_000])
def test_the_size_of_the_venues_pages_does_not_matter(page: int) -> None:
    fills = [fill(number, number // 7) for number in range(4_321)]
    told = Venue(fills, page=page).load()
    assert told == FillHistory(fills=tuple(fills), complete=True)


def test_fills_in_one_millisecond_keep_the_venues_order() -> None:
    fills = [fill(number, 5) for number in (3, 1, 2)]
    assert list(Venue(fills).load().fills) == fills


@pytest.mark.parametrize(
    ("count", "complete"), [(RETAINED - 1, True), (RETAINED, False), (RETAINED + 1, False)]
)
def test_what_the_venue_may_have_forgotten_is_not_complete(count: int, complete: bool) -> None:
    fills = [fill(number, number) for number in range(count)]
    told = Venue(fills).load()
    assert told.complete is complete
    assert told.fills == tuple(fills[-RETAINED:])


def test_fills_forgotten_while_paging_are_noticed() -> None:
    venue = Venue([fill(number, number) for number in range(9_000)])
    venue.arrivals = [[], [fill(number, number) for number in range(9_000, 14_500)]]
    told = venue.load()
    assert len(told.fills) < 14_500
    assert not told.complete


def test_more_fills_in_a_millisecond_than_a_page_holds_are_not_complete() -> None:
    before, after = fill(0, 1), fill(9_000, 3)
    crowd = [fill(number, 2) for number in range(1, 2_500)]
    told = Venue([before, *crowd, after]).load()
    assert not told.complete
    assert {before, after} <= set(told.fills)
    assert len(told.fills) == 2_002


def test_a_venue_that_never_ends_is_left_after_a_bounded_number_of_pages() -> None:
    asked = 0

    async def endless(start_ms: int) -> Sequence[Fill]:
        nonlocal asked
        asked += 1
        await trio.lowlevel.checkpoint()
        return [fill(0, 0)] * SURELY_SHORT

    told = trio.run(load_history, endless, 0)
    assert (told.fills, told.complete) == ((fill(0, 0),), False)
    assert asked == MAX_PAGES


def test_fills_that_arrive_meanwhile_do_no_harm() -> None:
    fills = [fill(number, number) for number in range(2_100)]
    venue = Venue(fills, page=SURELY_SHORT)
    venue.arrivals = [[fill(5_000 + number, 2_100 + number)] for number in range(3)]
    told = venue.load()
    assert told.complete
    assert set(fills) <= set(told.fills)
    assert len(set(told.fills)) == len(told.fills)


def test_an_error_ends_it() -> None:
    async def broken(start_ms: int) -> Sequence[Fill]:
        raise LinkError("gone")

    with pytest.raises(LinkError, match="gone"):
        trio.run(load_history, broken, 0)
