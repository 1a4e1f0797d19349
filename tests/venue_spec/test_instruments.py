"""TC-001 to TC-005: what a venue lists, and which streams it has."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.venue_spec.desk import open_desk
from tests.venue_spec.line import open_line
from tests.venue_spec.venue import OpenVenue
from zq_daemon.model.ids import venue_of
from zq_daemon.model.instrument import PriceRounding
from zq_daemon.model.market import BookSnapshot, Side
from zq_daemon.model.order import OrderStatus
from zq_daemon.venue.interface import Acknowledged

pytestmark = pytest.mark.virtual


async def test_tc001_every_instrument_is_listed_once_also_the_delisted(
    open_venue: OpenVenue,
) -> None:
    async with open_venue() as venue:
        instruments = await venue.adapter.load_instruments()
        again = await venue.adapter.load_instruments()
    by_id = {each.id: each for each in instruments}
    assert len(by_id) == len(instruments)
    assert list(again) == list(instruments)
    assert {each.id for each in instruments if each.delisted} == {venue.delisted}
    assert set(by_id) == {venue.delisted, *venue.awkward_prices}
    for each in instruments:
        assert each.venue == venue_of(each.id) == venue.adapter.venue
        assert each.id == f"{each.venue}.{each.symbol}"
        assert each.min_notional >= 0
        assert each.max_leverage >= 1


async def test_tc002_what_an_instrument_rounds_to_is_taken_as_it_is(open_venue: OpenVenue) -> None:
    async with open_venue() as venue, open_desk(venue) as desk:
        for instrument_id, awkward in venue.awkward_prices.items():
            instrument = desk.instruments[instrument_id]
            assert not instrument.is_valid_price(awkward)
            price = instrument.round_price(awkward, PriceRounding.DOWN)
            assert 0 < awkward - price < instrument.price_step(price)
            enough = instrument.min_notional * Decimal("1.5") / price
            quantity = instrument.round_quantity(enough + instrument.quantity_step)
            order = desk.order(Side.BUY, price, instrument_id=instrument_id, quantity=quantity)
            (outcome,) = await desk.submit(order)
            assert isinstance(outcome, Acknowledged), (instrument_id, outcome)
            truth = desk.truth(order)
            assert truth is not None
            assert truth.instrument_id == instrument_id
            assert (truth.price, truth.quantity) == (price, quantity)
            report = await desk.report(order, OrderStatus.ACCEPTED)
            assert (report.price, report.quantity) == (price, quantity)


async def test_tc003_an_unknown_stream_is_named(open_venue: OpenVenue) -> None:
    async with open_venue() as venue:
        await venue.adapter.load_instruments()
        assert venue.unknown_streams
        for stream in venue.unknown_streams:
            with pytest.raises(ValueError) as caught:
                venue.adapter.session((*venue.market.streams, stream))
            assert repr(stream) in str(caught.value)


async def test_tc004_streams_tell_what_they_carry_and_whether_they_are_private(
    open_venue: OpenVenue,
) -> None:
    async with open_venue() as venue:
        market, private = venue.market.streams, venue.private.streams
        kinds = ("book", "quote", "trade", "mark")
        covered = venue.adapter.coverage(market)
        assert sorted(covered) == sorted((kind, venue.instrument_id) for kind in kinds)
        assert len(venue.adapter.coverage(market[:1])) == 1
        assert list(venue.adapter.coverage(private)) == []
        assert venue.adapter.is_private(private)
        assert not venue.adapter.is_private(market)
        assert venue.adapter.is_private((*market, *private))


async def test_tc005_without_credentials_there_is_market_data_only(open_venue: OpenVenue) -> None:
    async with open_venue() as venue:
        adapter = venue.anonymous()
        assert adapter.account_id is None
        assert adapter.order_entry is None
        assert len(await adapter.load_instruments()) > 1
        with pytest.raises(ValueError, match="account"):
            adapter.session(venue.private.streams)
        async with open_line(venue, venue.market, adapter) as line:
            await line.until(lambda: line.market(BookSnapshot) or None)
        await adapter.aclose()
