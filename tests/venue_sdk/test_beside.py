"""A real daemon trades beside clients of the official SDK, and both sides keep the same books.

Real processes, real sockets, real time: `zq-daemon run` on two perpetuals and a spot pair, random
clients maker and taker, fundings, and one liquidation that sweeps the book. ZQ_BESIDE_S is for how
many seconds (20), ZQ_BESIDE_SEED which market and clients (1). Then all come to rest, and orders,
fills, positions, balances and fees of the daemon are what `/info` says, to the last digit.
"""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve

from tests.harness.agreement import Venue, Written, audit, read_written, wait_agreement
from tests.harness.floor import SPOT, Floor, Terms, open_floor
from tests.venue_sdk.crowd import CLIENTS, give, open_crowd, ruin
from zq_daemon.model.fill import Liquidity

SECONDS = float(os.environ.get("ZQ_BESIDE_S", "20"))
SEED = int(os.environ.get("ZQ_BESIDE_SEED", "1"))
LONG_S = 100
"""From here on everything that may happen has to."""
FUNDING_MS = 5_000
_PATIENCE_S = 30
_EVERY_WORD = {
    *("Gtc resting", "Gtc filled", "Ioc filled", "Ioc error", "Alo resting", "Alo error"),
    *("market filled", "close filled", "cancel success", "modify resting"),
}
TRADING = Terms(
    orders=4,
    offset_bps="0.3",
    churn=7,
    take=11,
    spot=True,
    private=("orderUpdates", "userFills", "userEvents", "userFundings"),
    extra="reconcile_interval_ms = 1000",
    risk='max_daily_loss = "off"',
)


@pytest.mark.patience(SECONDS + 100)
async def test_daemon_and_exchange_agree_after_a_day_among_others(tmp_path: Path) -> None:
    options = ("--funding-interval-ms", str(FUNDING_MS))
    async with open_floor(tmp_path, *options, seed=SEED) as floor:
        url = f"http://127.0.0.1:{floor.wire.upstream}"
        floor.configure(TRADING)
        async with floor.daemon() as daemon, open_crowd(url, SEED) as crowd:
            await daemon.wait_event("running")
            await trio.sleep(SECONDS / 2)
            ruined = await trio.to_thread.run_sync(ruin, url)
            await trio.sleep(SECONDS / 2)
            await floor.reload(evolve(TRADING, still=True))
            said = await crowd.leave()
            venue = await wait_agreement(floor, money=True)
            await audit(floor)
            _check_the_day(venue, await read_written(floor.state), said, ruined)
            status = await daemon.status()
            assert status["bad_messages"]["count"] == 0
            assert status["execution"]["position_differences"] == {}
            await trio.to_thread.run_sync(partial(give, url, CLIENTS[0], 1.5, floor.account))
            await _wait_disagreement(floor, "cash of contracts: ")
            assert await daemon.stop() == 0
        assert await floor.exchange.stop() == 0


async def _wait_disagreement(floor: Floor, about: str) -> None:
    """Return when they disagree *about* that; other things may still differ, as orders fill."""
    with trio.fail_after(_PATIENCE_S):
        while True:
            with pytest.raises(AssertionError) as found:
                await wait_agreement(floor, money=True, within_s=1)
            if about in str(found.value):
                return


def _check_the_day(
    venue: Venue, written: Written, said: Counter[str], ruined: list[dict[str, Any]]
) -> None:
    """There was something to agree on."""
    assert any("liquidation" in fill for fill in ruined)
    assert {"USDC", "HYPE"} <= venue.fees.keys()
    kinds = Counter(
        (each.instrument_id.partition(".")[2], each.liquidity, each.side) for each in written.fills
    )
    assert {coin for coin, _, _ in kinds} == {"BTC", "ETH", SPOT}
    assert {liquidity for _, liquidity, _ in kinds} == set(Liquidity)
    assert venue.funding
    assert said["market filled"]
    if SECONDS >= LONG_S:
        assert not _EVERY_WORD - said.keys()
        assert len({(coin, liquidity) for coin, liquidity, _ in kinds}) == 6
        assert len({(coin, side) for coin, _, side in kinds}) == 6
        assert min(len(venue.fills), len(venue.statuses)) > 200
