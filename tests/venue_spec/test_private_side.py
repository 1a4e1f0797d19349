"""TC-096 to TC-099: who signs, whose clock is right, and the venue's candles."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest
import trio

from tests.venue_spec.line import open_line
from tests.venue_spec.venue import OpenVenue
from zq_daemon.errors import CredentialError
from zq_daemon.model.bar import Candle
from zq_daemon.model.market import Side
from zq_daemon.ports.clock import NS_PER_MS, NS_PER_S

pytestmark = pytest.mark.virtual


async def test_tc096_who_signs_is_confirmed_by_the_venue(open_venue: OpenVenue) -> None:
    async with open_venue() as venue:
        found = await venue.adapter.check_credentials()
        assert found is not None
        assert found.account in str(venue.adapter.account_id)
        assert found.signer is not None
        assert found.relation
        assert found.valid_until_ns is None or found.valid_until_ns > venue.clock.now_ns()
        anonymous = venue.anonymous()
        assert await anonymous.check_credentials() is None
        await anonymous.aclose()


async def test_tc097_a_key_the_venue_does_not_know_is_told_with_what_to_change(
    open_venue: OpenVenue,
) -> None:
    async with open_venue() as venue:
        stranger = venue.stranger()
        with pytest.raises(CredentialError) as caught:
            await stranger.check_credentials()
        told = str(caught.value)
        account = str(stranger.account_id).partition(".")[2]
        assert account in told
        assert len(told) > 2 * len(account)
        assert venue.secret.hex() not in told
        await stranger.aclose()


async def test_tc098_our_clock_is_compared_with_the_venues(open_venue: OpenVenue) -> None:
    async with open_venue() as venue:
        skew = await venue.adapter.measure_clock()
        assert abs(skew.ahead_ns) <= skew.error_ns <= NS_PER_S
        venue.set_clock_back(3)
        skew = await venue.adapter.measure_clock()
        assert abs(skew.ahead_ns - 3 * NS_PER_S) <= skew.error_ns + NS_PER_MS


async def test_tc099_a_candle_is_told_while_it_changes_and_once_when_it_is_closed(
    open_venue: OpenVenue,
) -> None:
    async with open_venue() as venue, open_line(venue, venue.candles) as line:
        step_ns = venue.candle_s * NS_PER_S
        await _at_the_beginning_of_one(venue.clock.now_ns(), step_ns)
        await line.settled()
        small = venue.quantity / 10
        prices = (venue.ask.price, venue.bid.price)
        for side, price in zip((Side.BUY, Side.SELL), prices, strict=True):
            venue.take(side, price, small)
            await trio.sleep(1)
        for _ in range(4):
            await trio.sleep(venue.candle_s / 4)
            await line.settled()  # which keeps the connection alive
        venue.take(Side.BUY, venue.ask.price, small)
        closed = await line.until(lambda: _traded(line.market(Candle), closed=True) or None)
        candle = closed[0]
        assert (candle.open, candle.close) == prices
        assert (candle.high, candle.low) == prices
        assert (candle.volume, candle.trades) == (2 * small, 2)
        assert candle.ts_close_ns - candle.ts_open_ns == step_ns
        assert candle.ts_open_ns % step_ns == 0
        assert candle.ts_event_ns == candle.ts_close_ns
        assert len(closed) == 1
        opened = _traded(line.market(Candle), closed=False)
        assert [each.volume for each in opened][:2] == [small, 2 * small]
        assert opened[-1].ts_open_ns == candle.ts_close_ns
        assert line.problems() == []


def _traded(candles: Sequence[Candle], *, closed: bool) -> list[Candle]:
    return [each for each in candles if each.is_closed is closed and each.volume > Decimal(0)]


async def _at_the_beginning_of_one(now_ns: int, step_ns: int) -> None:
    """Wait until a candle has just begun."""
    await trio.sleep((step_ns - now_ns % step_ns) / NS_PER_S + 0.5)
