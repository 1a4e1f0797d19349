"""Which venues must keep the specification."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.venue_spec.hyperliquid import open_hyperliquid, open_hyperliquid_by_http
from tests.venue_spec.venue import OpenVenue

VENUES: Mapping[str, OpenVenue] = {
    "hyperliquid": open_hyperliquid,
    "hyperliquid-http": open_hyperliquid_by_http,
}


@pytest.fixture(params=VENUES)
def open_venue(request: pytest.FixtureRequest) -> OpenVenue:
    """Opens one venue under test; every test is run with each."""
    return VENUES[request.param]
