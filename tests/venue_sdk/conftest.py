"""An exchange whose books hold users' orders only, and two wallets on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.exchange_rig import StillMarket
from tests.venue_sdk.sdk import Served, Trader, serving


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(StillMarket) as served:
        yield served


@pytest.fixture
def alice(served: Served) -> Trader:
    return served.trader(1)


@pytest.fixture
def bob(served: Served) -> Trader:
    return served.trader(2)
